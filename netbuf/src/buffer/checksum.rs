//! The Internet checksum (RFC 1071): over bytes, over any range of a packet, and updated in place (RFC 1624).

use core::ops::Range;

use super::NetBuf;
use crate::error::Error;

/// The ones' complement sum of `bytes` as big-endian 16-bit words, the last odd byte padded with zero, plus `initial`.
/// Not folded: feed it to further calls, then to [`fold`].
///
/// ```
/// let sum = netbuf::checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 0);
/// assert_eq!(netbuf::fold(sum), !0xddf2); // the example of RFC 1071
/// ```
#[inline]
#[must_use]
pub fn checksum(bytes: &[u8], initial: u32) -> u32 {
    // The sum does not depend on the byte order, except that the result's bytes are swapped (RFC 1071, 2 (B)): so sum
    // little-endian words of 32 bits in lanes of 64, which cannot overflow, and swap once at the end.
    const LANES: usize = 8;
    let mut lanes = [0_u64; LANES];
    let (blocks, rest) = bytes.as_chunks::<{ 4 * LANES }>();
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_le_bytes(*word));
        }
    }
    let mut sum: u64 = lanes.iter().sum();
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_le_bytes(*word));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum += u64::from(u32::from_le_bytes(last));
    add(initial, u32::from(fold_to_16(sum).swap_bytes()))
}

/// Folds a sum to 16 bits.
#[inline]
fn fold_to_16(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Ones' complement addition of 32 bits.
#[inline]
const fn add(left: u32, right: u32) -> u32 {
    let (sum, carry) = left.overflowing_add(right);
    sum + carry as u32
}

/// The checksum that a sum makes: folded to 16 bits and complemented, to be stored big endian. Over data that
/// includes a right checksum it is 0.
///
/// ```
/// assert_eq!(netbuf::fold(0x0001_fffe), 0);
/// ```
#[inline]
#[must_use]
pub fn fold(sum: u32) -> u16 {
    !fold_to_16(u64::from(sum))
}

/// The sum of two pieces, from the sums of both, when the second starts at byte `offset` of the whole.
///
/// ```
/// use netbuf::{checksum, combine, fold};
/// let (first, second) = (&[1, 2, 3][..], &[4, 5][..]);
/// let sum = combine(checksum(first, 0), checksum(second, 0), first.len());
/// assert_eq!(fold(sum), fold(checksum(&[1, 2, 3, 4, 5], 0)));
/// ```
#[inline]
#[must_use]
pub fn combine(first: u32, second: u32, offset: usize) -> u32 {
    // At an odd offset the second piece's bytes change places within their words.
    add(first, if offset.is_multiple_of(2) { second } else { second.rotate_left(8) })
}

/// The new checksum after one 16-bit word changed from `old` to `new` (RFC 1624, equation 3). All host byte order.
///
/// ```
/// use netbuf::{checksum, fold, update};
/// let before = fold(checksum(&[8, 0, 1, 2], 0));
/// assert_eq!(update(before, 0x0800, 0x0000), fold(checksum(&[0, 0, 1, 2], 0)));
/// ```
#[inline]
#[must_use]
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    fold(u32::from(!checksum) + u32::from(!old) + u32::from(new))
}

impl NetBuf {
    /// The sum, not folded, of a range of the packet across head, frags and frag list (`skb_checksum`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.put(4)?.copy_from_slice(&[9, 9, 1, 2]);
    /// assert_eq!(buffer.checksum(2..4)?, 0x0102);
    /// assert_eq!(netbuf::fold(buffer.checksum(2..4)?), !0x0102);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::PastEnd`].
    pub fn checksum(&self, range: Range<usize>) -> Result<u32, Error> {
        let wanted = range.len();
        self.check_range(range.start, wanted)?;
        let head_len = self.head_len();
        if range.start + wanted <= head_len {
            return Ok(checksum(&self.data()[range.start..range.start + wanted], 0));
        }
        let mut skip = range.start;
        let mut done = 0;
        let mut sum = 0;
        for segment in self.segments() {
            if done == wanted {
                break;
            }
            let bytes = &segment.bytes()[skip.min(segment.len)..];
            skip -= segment.len - bytes.len();
            let count = bytes.len().min(wanted - done);
            sum = combine(sum, checksum(&bytes[..count], 0), done);
            done += count;
        }
        Ok(sum)
    }
}
