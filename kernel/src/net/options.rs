//! IPv4 options in echo requests (RFC 791 3.1, RFC 1122 3.2.2.6, RFC 7126).
//!
//! Record Route and Timestamp are brought up to date and go back with the reply. A source route is refused: it lets a
//! sender steer replies through third parties. Any other option is replaced by padding, so that the length stays.

use super::counters::DropReason;
use super::wire::ipv4::Address;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Timestamp flag: timestamps only.
const ONLY_TIMESTAMPS: u8 = 0;
/// Timestamp flag: each timestamp behind the address of who wrote it.
const WITH_ADDRESSES: u8 = 1;
/// Timestamp flag: the sender wrote the addresses of those who are to add their timestamps.
const PRESPECIFIED: u8 = 3;

/// Set in a timestamp that is not milliseconds since midnight, universal time: the image has no calendar.
const NON_STANDARD_TIME: u32 = 0x8000_0000;

/// Rewrites the options of a request, the bytes between header and payload, for the reply from `own`.
///
/// # Errors
///
/// [`DropReason::SourceRoute`], or [`DropReason::Ipv4Options`] for options that run over their end.
pub fn answer(options: &mut [u8], own: Address, milliseconds: u64) -> Result<(), DropReason> {
    let mut rest = options;
    while let Some(&kind) = rest.first() {
        let length = match kind {
            END => {
                // What follows the end of the list is padding whatever it holds; it is not sent back.
                rest.fill(END);
                return Ok(());
            }
            NO_OPERATION => 1,
            _ => usize::from(*rest.get(1).ok_or(DropReason::Ipv4Options)?),
        };
        if length == 0 || length > rest.len() || (kind != NO_OPERATION && length < 2) {
            return Err(DropReason::Ipv4Options);
        }
        let (option, later) = rest.split_at_mut(length);
        match kind {
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(DropReason::SourceRoute),
            RECORD_ROUTE => record_route(option, own)?,
            TIMESTAMP => timestamp(option, own, milliseconds)?,
            _ => option.fill(NO_OPERATION),
        }
        rest = later;
    }
    Ok(())
}

/// `[type, length, pointer, addresses...]`: the pointer counts from 1 and names the next free place.
fn record_route(option: &mut [u8], own: Address) -> Result<(), DropReason> {
    let at = place(option, 2, 4)?;
    if let Some(slot) = option.get_mut(at..at + 4) {
        slot.copy_from_slice(&own.0);
        option[2] += 4;
    }
    Ok(())
}

/// `[type, length, pointer, overflow << 4 | flag, entries...]`.
fn timestamp(option: &mut [u8], own: Address, milliseconds: u64) -> Result<(), DropReason> {
    let at = place(option, 3, 5)?;
    let time = NON_STANDARD_TIME | (milliseconds as u32 & !NON_STANDARD_TIME);
    let flag = option[3] & 0xf;
    let size = match flag {
        ONLY_TIMESTAMPS => 4,
        WITH_ADDRESSES | PRESPECIFIED => 8,
        _ => return Err(DropReason::Ipv4Options),
    };
    let Some(entry) = option.get_mut(at..at + size) else {
        // Full: count those who did not fit, up to what the four bits hold (RFC 791: beyond that it is in error).
        if option[3] >> 4 == 0xf {
            return Err(DropReason::Ipv4Options);
        }
        option[3] += 0x10;
        return Ok(());
    };
    match flag {
        PRESPECIFIED if entry[..4] != own.0 => return Ok(()),
        WITH_ADDRESSES => entry[..4].copy_from_slice(&own.0),
        _ => {}
    }
    entry[size - 4..].copy_from_slice(&time.to_be_bytes());
    option[2] += size as u8;
    Ok(())
}

/// The index that an option's pointer names; it must lie behind the option's own `fixed` bytes plus one.
fn place(option: &[u8], fixed: usize, smallest: u8) -> Result<usize, DropReason> {
    match option.get(2) {
        Some(pointer) if *pointer >= smallest && option.len() > fixed => Ok(usize::from(*pointer) - 1),
        _ => Err(DropReason::Ipv4Options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: Address = Address([10, 0, 0, 2]);

    /// Row 9: Record Route is updated and returned.
    #[test]
    fn record_route_gets_our_address() {
        let mut options = [7, 11, 8, 10, 0, 0, 1, 0, 0, 0, 0, 0];
        assert_eq!(answer(&mut options, OWN, 0), Ok(()));
        assert_eq!(options, [7, 11, 12, 10, 0, 0, 1, 10, 0, 0, 2, 0]);
    }

    /// Row 9: a full Record Route is returned as it is.
    #[test]
    fn full_record_route_is_returned_unchanged() {
        let mut options = [7, 7, 8, 10, 0, 0, 1, 0];
        assert_eq!(answer(&mut options, OWN, 0), Ok(()));
        assert_eq!(options, [7, 7, 8, 10, 0, 0, 1, 0]);
    }

    /// Row 9: Timestamp is updated and returned.
    #[test]
    fn timestamp_gets_address_and_time() {
        let mut options = [68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(answer(&mut options, OWN, 0x1234), Ok(()));
        assert_eq!(options, [68, 12, 13, 1, 10, 0, 0, 2, 0x80, 0, 0x12, 0x34]);
    }

    #[test]
    fn full_timestamp_counts_us_as_overflow() {
        let mut options = [68, 8, 9, 0x20, 1, 2, 3, 4];
        assert_eq!(answer(&mut options, OWN, 0), Ok(()));
        assert_eq!(options, [68, 8, 9, 0x30, 1, 2, 3, 4]);
        let mut most = [68, 8, 9, 0xf0, 1, 2, 3, 4];
        assert_eq!(answer(&mut most, OWN, 0), Err(DropReason::Ipv4Options));
    }

    #[test]
    fn prespecified_timestamp_of_another_host_is_left_alone() {
        let mut options = [68, 12, 5, 3, 10, 0, 0, 9, 0, 0, 0, 0];
        let before = options;
        assert_eq!(answer(&mut options, OWN, 1), Ok(()));
        assert_eq!(options, before);
    }

    /// Row 9: a source route is refused.
    #[test]
    fn source_routes_are_refused() {
        for kind in [LOOSE_SOURCE_ROUTE, STRICT_SOURCE_ROUTE] {
            assert_eq!(answer(&mut [1, kind, 3, 4], OWN, 0), Err(DropReason::SourceRoute));
        }
    }

    #[test]
    fn other_options_become_padding() {
        let mut options = [0x94, 4, 0, 0, 0, 9, 9, 9];
        assert_eq!(answer(&mut options, OWN, 0), Ok(()));
        assert_eq!(options, [1, 1, 1, 1, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn any_options_are_answered_or_refused(
            mut options in proptest::collection::vec(any::<u8>(), 0..=40), now: u64,
        ) {
            let _ = answer(&mut options, OWN, now);
        }
    }
}
