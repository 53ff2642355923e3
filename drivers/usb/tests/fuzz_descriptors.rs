//! Fuzz target of the descriptor parser. `cargo test` runs it for a moment on random bytes; `tests/fuzz.sh` runs it
//! under a fuzzer that follows the branches taken.

use usb::descriptor::{DeviceDescriptor, HubDescriptor, descriptors, string_text};
use usb::{Configuration, Speed, TransferKind};

#[test]
fn descriptors_never_panic_and_endpoints_are_always_usable() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let (&selector, bytes) = bytes.split_first().unwrap_or((&0, &[]));
        let speed =
            [Speed::Low, Speed::Full, Speed::High, Speed::Super, Speed::SuperPlus][usize::from(selector % 5)];
        let _ = (
            DeviceDescriptor::parse(bytes),
            HubDescriptor::parse(bytes, selector & 1 != 0),
            string_text(bytes),
        );
        // As most random bytes are no configuration, they follow a right header.
        let mut whole = vec![9, 2, 0xff, 0xff, 1, 1, 0, 0x80, 50];
        whole.extend_from_slice(bytes);
        let Ok(configuration) = Configuration::parse(&whole, speed) else {
            panic!("the header is right");
        };
        for endpoint in configuration.settings.iter().flat_map(|setting| &setting.endpoints) {
            assert!((1..16).contains(&endpoint.address.number()));
            assert!(endpoint.maximum_packet_size > 0 || endpoint.kind == TransferKind::Isochronous);
            assert_eq!(
                descriptors(&endpoint.extras).map(|raw| raw.bytes.len()).sum::<usize>(),
                endpoint.extras.len()
            );
        }
    });
}
