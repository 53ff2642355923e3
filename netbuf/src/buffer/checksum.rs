//! The Internet checksum (RFC 1071): over bytes, over any range of a packet, and updated in place (RFC 1624).

use core::ops::Range;

use super::{ChecksumStatus, NetBuf};
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
    // The sum does not depend on the byte order, except that the result's bytes are swapped (RFC 1071, 2 (B)).
    add(initial, u32::from(fold_to_16(sum_little_endian(bytes)).swap_bytes()))
}

/// A sum of `bytes` as little-endian words, by the widest registers that the processor has.
#[inline]
fn sum_little_endian(bytes: &[u8]) -> u64 {
    #[cfg(all(feature = "host", target_arch = "x86_64"))]
    if bytes.len() >= WIDE_FROM {
        extern crate std;
        if std::is_x86_feature_detected!("avxvnni") {
            // SAFETY: the processor has AVX-VNNI, and so AVX2.
            return unsafe { sum_avx_vnni(bytes) };
        }
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { sum_avx2(bytes) };
        }
    }
    sum_carrying(bytes)
}

/// The ones' complement sum of `bytes` as little-endian words of 64 bits, the last one padded with zeros: what is carried
/// out at the top comes in at the bottom, so that it folds to the same 16 bits as any other sum of the words.
///
/// Eight bytes cost one instruction, an addition that takes the carry of the one before. Two sums, so that a processor
/// can work at both at a time.
#[inline]
fn sum_carrying(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<64>();
    let (mut even, mut odd) = (0, 0);
    for block in blocks {
        let [a, b, c, d, e, f, g, h] = block.as_chunks::<8>().0 else { continue };
        even = add_four(even, [a, b, c, d]);
        odd = add_four(odd, [e, f, g, h]);
    }
    let mut sum = add_carrying(even, odd);
    let (words, last) = rest.as_chunks::<8>();
    for word in words {
        sum = add_carrying(sum, u64::from_le_bytes(*word));
    }
    let last = match bytes.last_chunk() {
        // The upper bytes of a whole word.
        Some(word) if !last.is_empty() => u64::from_le_bytes(*word) >> (64 - 8 * last.len()),
        _ => last.iter().rfold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    add_carrying(sum, last)
}

/// Ones' complement addition of 64 bits.
#[inline(always)]
const fn add_carrying(left: u64, right: u64) -> u64 {
    let (sum, carry) = left.overflowing_add(right);
    // With a carry the sum is at least one short of the largest.
    sum + carry as u64
}

/// Ones' complement addition of four words, the carry handed on from one to the next.
#[inline(always)]
fn add_four(sum: u64, words: [&[u8; 8]; 4]) -> u64 {
    let [a, b, c, d] = words.map(|word| u64::from_le_bytes(*word));
    let (sum, carry) = sum.overflowing_add(a);
    let (sum, carry) = sum.carrying_add(b, carry);
    let (sum, carry) = sum.carrying_add(c, carry);
    let (sum, carry) = sum.carrying_add(d, carry);
    // As above, by induction: a word and a carry on top of a sum that is short of the largest.
    sum + u64::from(carry)
}

/// Below this many bytes wider registers do not pay.
#[cfg(all(feature = "host", target_arch = "x86_64"))]
const WIDE_FROM: usize = 128;

/// [`sum_words`], compiled for registers of 32 bytes. The kernel leaves them off, so it is for the host.
///
/// # Safety
///
/// The processor has AVX2.
#[cfg(all(feature = "host", target_arch = "x86_64"))]
#[target_feature(enable = "avx2")]
fn sum_avx2(bytes: &[u8]) -> u64 {
    sum_words(bytes)
}

/// The sum of `bytes` as little-endian words of 16 bits, by the instruction that multiplies pairs of signed words and
/// adds them to a sum of 32 bits: with a factor of one it only adds. Words become signed by taking 2^15 off, which is
/// what flipping the highest bit does, and is made good at the end.
///
/// # Safety
///
/// The processor has AVX2 and AVX-VNNI.
#[cfg(all(feature = "host", target_arch = "x86_64"))]
#[target_feature(enable = "avx2,avxvnni")]
fn sum_avx_vnni(bytes: &[u8]) -> u64 {
    use core::arch::x86_64::{
        __m256i, _mm256_add_epi32, _mm256_dpwssd_avx_epi32, _mm256_loadu_si256, _mm256_set1_epi16,
        _mm256_setzero_si256, _mm256_xor_si256,
    };
    /// So few that no sum overflows: each adds 2^16 at most.
    const PIECES_AT_ONCE: usize = 1 << 14;
    const WORDS_IN_PIECE: u64 = 16;

    let (highest, one) = (_mm256_set1_epi16(i16::MIN), _mm256_set1_epi16(1));
    let (pieces, rest) = bytes.as_chunks::<32>();
    let mut sum = sum_carrying(rest);
    for pieces in pieces.chunks(PIECES_AT_ONCE) {
        // Several sums, so that none waits for the one before.
        let mut sums = [_mm256_setzero_si256(); 4];
        let add = |sum: &mut __m256i, piece: &[u8; 32]| {
            // SAFETY: a piece is 32 bytes; the load asks for no alignment.
            let words = unsafe { _mm256_loadu_si256(piece.as_ptr().cast::<__m256i>()) };
            *sum = _mm256_dpwssd_avx_epi32(*sum, _mm256_xor_si256(words, highest), one);
        };
        let (fours, last) = pieces.as_chunks::<4>();
        for four in fours {
            sums.iter_mut().zip(four).for_each(|(sum, piece)| add(sum, piece));
        }
        sums.iter_mut().zip(last).for_each(|(sum, piece)| add(sum, piece));
        let [a, b, c, d] = sums;
        let all = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
        // SAFETY: both types are 32 bytes, any values of which are valid.
        let lanes = unsafe { core::mem::transmute::<__m256i, [i32; 8]>(all) };
        let signed: i64 = lanes.iter().map(|lane| i64::from(*lane)).sum();
        let taken_off = (pieces.len() as u64 * WORDS_IN_PIECE) << 15;
        sum = add_carrying(sum, taken_off.wrapping_add_signed(signed));
    }
    sum
}

/// The sum of `bytes` as little-endian words of 32 bits, the last one padded with zeros.
///
/// Written for the compiler to vectorise: a wrapping sum of the words and an exact sum of their upper halves. As long as
/// the sum of the lower halves fits in 32 bits, it can be had from the two, so that three instructions do for a whole
/// register of words, and none of them widens it.
#[cfg(any(test, all(feature = "host", target_arch = "x86_64")))]
#[inline(always)]
fn sum_words(bytes: &[u8]) -> u64 {
    /// At most 2^16 words, so that neither sum of halves overflows.
    const AT_ONCE: usize = 4 << 16;
    let mut rest = bytes;
    let mut sum = 0;
    while let Some((part, behind)) = rest.split_at_checked(AT_ONCE) {
        sum += sum_whole_words(part);
        rest = behind;
    }
    let (whole, last) = rest.split_at(rest.len() & !3);
    let last = last.iter().rfold(0, |word, byte| word << 8 | u64::from(*byte));
    sum + sum_whole_words(whole) + last
}

/// [`sum_words`] of at most 2^16 whole words.
#[cfg(any(test, all(feature = "host", target_arch = "x86_64")))]
#[inline(always)]
fn sum_whole_words(bytes: &[u8]) -> u64 {
    let mut wrapping = 0_u32;
    let mut upper = 0_u32;
    for word in bytes.as_chunks::<4>().0 {
        let word = u32::from_le_bytes(*word);
        wrapping = wrapping.wrapping_add(word);
        upper = upper.wrapping_add(word >> 16);
    }
    let lower = wrapping.wrapping_sub(upper << 16);
    (u64::from(upper) << 16) + u64::from(lower)
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

/// Checksums: of any range, and kept right while headers come and go.
impl NetBuf {
    /// The sum, not folded, of a range of the packet across head, frags and frag list (`skb_checksum`). The words are
    /// counted from the start of the range, wherever the pieces begin and end; an empty range sums to 0.
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
    /// [`Error::PastEnd`]: the packet is shorter.
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

    /// Takes `count` bytes off the front like [`pull`](Self::pull) and keeps a complete checksum right, by subtracting
    /// theirs (`skb_pull_rcsum`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// use netbuf::{ChecksumStatus, NetBuf};
    /// let mut buffer = NetBuf::alloc(&memory, 64)?;
    /// buffer.put(4)?.copy_from_slice(&[0x12, 0x34, 0x00, 0x07]);
    /// buffer.set_checksum_status(ChecksumStatus::Complete(buffer.checksum(0..4)?));
    /// buffer.pull_checksummed(2)?;
    /// assert_eq!(buffer.checksum_status(), ChecksumStatus::Complete(7));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::PastEnd`]: the linear part is shorter.
    pub fn pull_checksummed(&mut self, count: usize) -> Result<&[u8], Error> {
        if let ChecksumStatus::Complete(sum) = self.checksum_status()
            && count <= self.head_len()
        {
            let gone = self.checksum(0..count)?;
            // Subtracting is adding the complement. What follows an odd number of bytes starts in the middle of a word
            // of the old sum.
            let rest = fold_to_16(u64::from(add(sum, !gone)));
            let rest = if count.is_multiple_of(2) { rest } else { rest.swap_bytes() };
            self.set_checksum_status(ChecksumStatus::Complete(u32::from(rest)));
        }
        self.pull(count)
    }

    /// Puts `header` in front like [`push`](Self::push) and keeps a complete checksum right, by adding its sum
    /// (`skb_push_rcsum`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// use netbuf::{ChecksumStatus, NetBuf};
    /// let mut buffer = NetBuf::rx_alloc(&memory, 64)?;
    /// buffer.put(2)?.copy_from_slice(&[0x00, 0x07]);
    /// buffer.set_checksum_status(ChecksumStatus::Complete(7));
    /// buffer.push_checksummed(&[0x12, 0x34])?;
    /// assert_eq!(buffer.checksum_status(), ChecksumStatus::Complete(0x1234 + 7));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    pub fn push_checksummed(&mut self, header: &[u8]) -> Result<(), Error> {
        self.push(header.len())?.copy_from_slice(header);
        if let ChecksumStatus::Complete(sum) = self.checksum_status() {
            self.set_checksum_status(ChecksumStatus::Complete(combine(
                checksum(header, 0),
                sum,
                header.len(),
            )));
        }
        Ok(())
    }

    /// Cuts the packet down to its first `count` bytes like [`trim`](Self::trim) and keeps a complete checksum right, by
    /// subtracting that of what is cut off (`pskb_trim_rcsum`): so is padding taken off that the link layer added.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// use netbuf::{ChecksumStatus, NetBuf};
    /// let mut buffer = NetBuf::alloc(&memory, 64)?;
    /// buffer.put(4)?.copy_from_slice(&[0x12, 0x34, 0x00, 0x07]);
    /// buffer.set_checksum_status(ChecksumStatus::Complete(0x1234 + 7));
    /// buffer.trim_checksummed(2)?;
    /// assert_eq!(buffer.checksum_status(), ChecksumStatus::Complete(0x1234));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`trim`](Self::trim).
    pub fn trim_checksummed(&mut self, count: usize) -> Result<(), Error> {
        let len = self.len();
        let ChecksumStatus::Complete(sum) = self.checksum_status() else {
            return self.trim(count);
        };
        if count < len {
            let gone = combine(0, self.checksum(count..len)?, count);
            self.trim(count)?;
            let rest = fold_to_16(u64::from(add(sum, !gone)));
            self.set_checksum_status(ChecksumStatus::Complete(u32::from(rest)));
        }
        Ok(())
    }

    /// Computes a checksum left to the device in software, for one that cannot (`skb_checksum_help`). The sum of the
    /// pseudo header stands in the checksum's place already, as for the device. A checksum of 0 is stored as `0xffff`,
    /// which is the same number in ones' complement: in UDP 0 says that there is none.
    ///
    /// In a buffer of any other [status](Self::checksum_status) there is nothing to compute, and nothing changes.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// use netbuf::{ChecksumStatus, NetBuf, fold};
    /// let mut buffer = NetBuf::alloc(&memory, 64)?;
    /// buffer.put(8)?.copy_from_slice(&[8, 0, 0, 0, 1, 2, 3, 4]);
    /// buffer.set_checksum_status(ChecksumStatus::Partial { start: 0, offset: 2 });
    /// buffer.complete_checksum()?;
    /// assert_eq!(fold(buffer.checksum(0..8)?), 0);
    /// assert_eq!(buffer.checksum_status(), ChecksumStatus::None);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Shared`]: the place of the checksum lies in a head that a clone uses, or in a block with other
    /// references. [`unshare`](Self::unshare) or [`linearize`](Self::linearize) first.
    pub fn complete_checksum(&mut self) -> Result<(), Error> {
        if let ChecksumStatus::Partial { start, offset } = self.checksum_status() {
            let sum = match fold(self.checksum(start..self.len())?) {
                // The other zero.
                0 => u16::MAX,
                sum => sum,
            };
            self.store_bits(start + offset, &sum.to_be_bytes())?;
            self.set_checksum_status(ChecksumStatus::None);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::{fold_to_16, sum_carrying, sum_words};
    use proptest::prelude::*;

    /// The folded sums of all ways that this processor can go.
    fn sums(bytes: &[u8]) -> Vec<u16> {
        let mut sums = std::vec![sum_carrying(bytes), sum_words(bytes)];
        #[cfg(all(feature = "host", target_arch = "x86_64"))]
        {
            if std::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2.
                sums.push(unsafe { super::sum_avx2(bytes) });
            }
            if std::is_x86_feature_detected!("avxvnni") {
                // SAFETY: the processor has AVX-VNNI.
                sums.push(unsafe { super::sum_avx_vnni(bytes) });
            }
        }
        sums.into_iter().map(fold_to_16).collect()
    }

    #[test]
    fn extreme_words_lose_no_carry() {
        for byte in [0x00, 0x7f, 0x80, 0xff] {
            let sums = sums(&std::vec![byte; 600_000]);
            assert!(sums.iter().all(|sum| *sum == sums[0]), "{byte:#x}: {sums:x?}");
        }
    }

    proptest! {
        #[test]
        fn all_ways_give_one_sum(bytes in proptest::collection::vec(any::<u8>(), 0..400), skip in 0usize..20) {
            let sums = sums(bytes.get(skip..).unwrap_or_default());
            prop_assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:x?}");
        }
    }
}
