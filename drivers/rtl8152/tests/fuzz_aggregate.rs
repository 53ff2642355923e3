//! Fuzz target of the receive aggregates. `cargo test` runs it for a moment on random bytes; `tests/fuzz.sh` runs it
//! under a fuzzer that follows the branches taken.

use rtl8152::aggregate::{Cursor, DESCRIPTOR_LENGTH};

#[test]
fn an_aggregate_never_leads_outside_of_its_transfer() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let (largest, transfer) = match bytes {
            [low, high, rest @ ..] => (usize::from(u16::from_le_bytes([*low, *high])), rest),
            _ => return,
        };
        let mut cursor = Cursor::new(largest);
        let mut end_of_last = 0;
        let mut steps = 0;
        while let Some(packet) = cursor.next(transfer) {
            steps += 1;
            assert!(steps <= transfer.len() / DESCRIPTOR_LENGTH, "the cursor does not advance");
            let Ok(packet) = packet else {
                assert!(
                    cursor.next(transfer).is_none(),
                    "nothing is looked at behind an impossible descriptor"
                );
                return;
            };
            assert!(packet.frame.start >= end_of_last + DESCRIPTOR_LENGTH);
            assert!(packet.frame.end + 4 <= transfer.len() && packet.frame.len() + 4 <= largest);
            let _ = (packet.descriptor.vlan_tag(), packet.descriptor.checksum_verified());
            end_of_last = packet.frame.end;
        }
    });
}
