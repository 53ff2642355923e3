//! The Internet checksum of short headers, and its incremental update (RFC 1071, RFC 1624).
//!
//! Payloads are summed by `netbuf`, which knows how a buffer is put together.

/// Adds the 16-bit big-endian words of `bytes` to `sum`, without complement. An odd last byte counts as the upper half
/// of a word. Bytes are summed in the processor's order and the result swapped at the end (RFC 1071, 2 (B)).
#[must_use]
pub fn sum(bytes: &[u8], sum: u16) -> u16 {
    let mut total = u64::from(sum.to_be());
    let (quads, rest) = bytes.as_chunks::<4>();
    for quad in quads {
        total += u64::from(u32::from_ne_bytes(*quad));
    }
    let (pairs, last) = rest.as_chunks::<2>();
    for pair in pairs {
        total += u64::from(u16::from_ne_bytes(*pair));
    }
    if let [byte] = last {
        total += u64::from(u16::from_ne_bytes([*byte, 0]));
    }
    fold(total).to_be()
}

/// Folds carries back in until 16 bits are left.
#[must_use]
pub const fn fold(mut total: u64) -> u16 {
    total = (total & 0xffff_ffff) + (total >> 32);
    total = (total & 0xffff_ffff) + (total >> 32);
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    total as u16
}

/// The checksum after a 16-bit word that it covers went from `old` to `new`: HC' = ~(~HC + ~m + m'), equation 3 of
/// RFC 1624. (RFC 1141's form can produce a checksum of 0xffff that no receiver computes.)
#[must_use]
pub const fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 as written: word by word, carries folded at once.
    fn reference(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    #[test]
    fn example_of_rfc_1624_section_4() {
        // HC = 0xDD2F, m = 0x5555, m' = 0x3285: RFC 1141 would give 0xFFFF, right is 0x0000.
        assert_eq!(updated(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn sum_is_that_of_rfc_1071(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(sum(&bytes, 0), reference(&bytes));
        }

        #[test]
        fn an_updated_checksum_is_the_recomputed_one(
            mut bytes in proptest::collection::vec(any::<u8>(), 20), at in 0usize..10, new: u16,
        ) {
            // A header is never all zeros, so both forms of zero do not come up.
            bytes[0] |= 0x40;
            prop_assume!(at != 0);
            let before = !reference(&bytes);
            let old = u16::from_be_bytes([bytes[2 * at], bytes[2 * at + 1]]);
            bytes[2 * at..2 * at + 2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(updated(before, old, new), !reference(&bytes));
        }
    }
}
