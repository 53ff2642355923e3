//! Contexts as bytes, against the layouts of xHCI 6.2.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use netbuf::Zone;
use netbuf::host::HostPages;
use usb::configuration::Companion;
use usb::{Endpoint, EndpointAddress, Speed, TransferKind};
use xhci::context::{EndpointFields, InputContext, SlotFields, context_index};

fn endpoint(kind: TransferKind, packet: u16, interval: u8, companion: Option<Companion>) -> Endpoint {
    Endpoint {
        address: EndpointAddress(0x83),
        kind,
        maximum_packet_size: packet,
        additional_transactions: 0,
        interval,
        companion,
        extras: Vec::new(),
    }
}

#[test]
fn context_indices_count_out_before_in() {
    let indices = [0x01, 0x81, 0x02, 0x8f].map(|address| context_index(EndpointAddress(address)));
    assert_eq!(indices, [2, 3, 4, 31]);
}

#[test]
fn intervals_become_exponents_of_125_microseconds() {
    let interval = |speed, interval| {
        EndpointFields::new(&endpoint(TransferKind::Interrupt, 8, interval, None), speed).unwrap().interval
    };
    // Milliseconds at full speed, rounded down to a power of two: 1 ms is 8 units, 255 ms are taken as 128.
    assert_eq!([1, 2, 10, 255, 0].map(|ms| interval(Speed::Full, ms)), [3, 4, 6, 10, 3]);
    // An exponent plus one from high speed on.
    assert_eq!([1, 4, 16, 0, 255].map(|field| interval(Speed::High, field)), [0, 3, 15, 0, 15]);
}

#[test]
fn bursts_come_from_the_companion_only() {
    let companion = Some(Companion { maximum_burst: 3, attributes: 0, bytes_per_interval: 0 });
    let burst = |speed| {
        EndpointFields::new(&endpoint(TransferKind::Bulk, 512, 0, companion), speed).unwrap().maximum_burst
    };
    assert_eq!((burst(Speed::Super), burst(Speed::High)), (3, 0));
}

#[test]
fn isochronous_and_further_control_endpoints_are_refused() {
    for kind in [TransferKind::Isochronous, TransferKind::Control] {
        assert!(EndpointFields::new(&endpoint(kind, 64, 1, None), Speed::High).is_none());
    }
}

#[test]
fn an_input_context_has_the_words_of_the_specification() {
    for (wide, stride) in [(false, 32), (true, 64)] {
        let pages = HostPages::new();
        let input = InputContext::new(&(pages.clone() as hal::dma::Pages), Zone::Normal, wide).unwrap();
        let word = |at: u64| {
            let mut bytes = [0; 4];
            pages.read(input.bus_address() + at, &mut bytes).unwrap();
            u32::from_le_bytes(bytes)
        };
        input.begin(1 << 5, 1 << 7 | 1);
        assert_eq!((word(0), word(4)), (1 << 5, 1 << 7 | 1));
        input.set_slot(&SlotFields {
            route: 0x32,
            speed: 3,
            per_port_translators: true,
            hub: true,
            entries: 7,
            root_port: 5,
            ports: 4,
            translator_slot: 9,
            translator_port: 2,
            think_time: 1,
        });
        assert_eq!(word(stride), 0x32 | 3 << 20 | 1 << 25 | 1 << 26 | 7 << 27);
        assert_eq!((word(stride + 4), word(stride + 8)), (5 << 16 | 4 << 24, 9 | 2 << 8 | 1 << 16));
        let fields =
            EndpointFields::new(&endpoint(TransferKind::Interrupt, 16, 4, None), Speed::High).unwrap();
        input.set_endpoint(7, &fields, 0x1_2345_6781);
        let at = stride * 8;
        assert_eq!((word(at), word(at + 4)), (3 << 16, 3 << 1 | 7 << 3 | 16 << 16));
        assert_eq!((word(at + 8), word(at + 12), word(at + 16)), (0x2345_6781, 1, 16 | 16 << 16));
    }
}
