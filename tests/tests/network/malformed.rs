//! Frames that are wrong: dropped, counted once, never a panic.

use kernel::net::counters::DropReason;
use lab_wire::packet;
use proptest::prelude::*;

use crate::harness::{Bench, GUEST, GUEST_MAC, PEER, PEER_MAC, Reply, Request};

fn arp_request() -> Vec<u8> {
    let arp = packet::arp(etherparse::ArpOperation::REQUEST, (PEER_MAC, PEER), ([0; 6], GUEST));
    packet::ethernet([0xff; 6], PEER_MAC, etherparse::EtherType::ARP, &arp)
}

#[test]
fn a_request_cut_at_any_byte_is_dropped_and_counted_once() {
    let bench = Bench::ready();
    let frame = Request::default().frame();
    for length in 0..frame.len() {
        let expected = match length {
            0..14 => DropReason::EthernetTruncated,
            _ => DropReason::Ipv4Truncated,
        };
        bench.assert_dropped(frame[..length].to_vec(), expected);
    }
}

#[test]
fn an_arp_request_cut_at_any_byte_is_dropped_and_counted_once() {
    let bench = Bench::ready();
    let frame = arp_request();
    for length in 0..frame.len() {
        let expected = if length < 14 { DropReason::EthernetTruncated } else { DropReason::ArpMalformed };
        bench.assert_dropped(frame[..length].to_vec(), expected);
    }
}

#[test]
fn a_message_shorter_than_an_icmp_header_is_dropped() {
    let bench = Bench::ready();
    for length in 0..8 {
        let message = &Request::default().message()[..length];
        let frame = crate::harness::ipv4_frame(GUEST_MAC, PEER_MAC, Request::default().header, message);
        bench.assert_dropped(frame, DropReason::IcmpTruncated);
    }
}

/// Changes one byte of the IPv4 header and makes its checksum right again.
fn with_header_byte(at: usize, value: u8) -> Vec<u8> {
    let mut frame = Request::default().frame();
    frame[14 + at] = value;
    frame[24..26].fill(0);
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&frame[14..34]).ones_complement();
    frame[24..26].copy_from_slice(&sum.to_ne_bytes());
    frame
}

#[test]
fn wrong_versions_are_dropped() {
    let bench = Bench::ready();
    for version in (0..16).filter(|version| *version != 4) {
        bench.assert_dropped(with_header_byte(0, version << 4 | 5), DropReason::Ipv4Version);
    }
}

#[test]
fn header_lengths_below_the_smallest_are_dropped() {
    let bench = Bench::ready();
    for length in 0..5 {
        bench.assert_dropped(with_header_byte(0, 0x40 | length), DropReason::Ipv4Length);
    }
}

#[test]
fn total_lengths_that_contradict_are_dropped() {
    let bench = Bench::ready();
    // 84 bytes are there: 85 is more than the frame has, 19 less than the header.
    bench.assert_dropped(with_header_byte(3, 85), DropReason::Ipv4Truncated);
    bench.assert_dropped(with_header_byte(2, 0xff), DropReason::Ipv4Truncated);
    bench.assert_dropped(with_header_byte(3, 19), DropReason::Ipv4Length);
}

#[test]
fn unknown_ethernet_types_are_dropped() {
    let bench = Bench::ready();
    for ether_type in [0x0000, 0x0026, 0x05dc, 0x0801, 0x8100, 0x86dd, 0xffff] {
        let frame = packet::ethernet(GUEST_MAC, PEER_MAC, etherparse::EtherType(ether_type), &[0; 46]);
        bench.assert_dropped(frame, DropReason::EtherType);
    }
}

#[test]
fn arp_for_other_hardware_or_protocols_is_dropped() {
    let bench = Bench::ready();
    for at in [14, 15, 16, 17, 18, 19, 20, 21] {
        let mut frame = arp_request();
        frame[at] ^= 0x20;
        bench.assert_dropped(frame, DropReason::ArpMalformed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn arbitrary_bytes_are_handled_and_counted_once(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bench = Bench::ready();
        let before = bench.counters().dropped_total();
        bench.exchange(bytes);
        prop_assert!(bench.counters().dropped_total() <= before + 1);
    }

    /// A sound request with any bytes overwritten: it is either answered rightly or dropped once.
    #[test]
    fn damaged_requests_are_answered_or_counted(
        changes in proptest::collection::vec((0usize..98, any::<u8>()), 1..6),
        cut in 0usize..=98,
        options in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..=10)),
        fix_checksums: bool,
    ) {
        let bench = Bench::ready();
        let mut request = Request::default();
        if let Some(options) = &options {
            let bytes: Vec<u8> = options.iter().flat_map(|byte| [*byte, 4, 5, *byte]).collect();
            request.header.options = bytes[..].try_into().unwrap();
        }
        let mut frame = request.frame();
        let sound = frame.clone();
        for (at, value) in changes {
            frame[at] = value;
        }
        frame.truncate(cut.max(20) + frame.len() - 98);
        if fix_checksums && frame.len() >= 34 {
            let length = usize::from(frame[14] & 15) * 4;
            if length >= 20 && frame.len() >= 14 + length {
                frame[24..26].fill(0);
                let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&frame[14..14 + length]);
                frame[24..26].copy_from_slice(&sum.ones_complement().to_ne_bytes());
            }
        }
        let dropped = bench.counters().dropped_total();
        let replies = bench.counters().echo_replies.get();
        let passed_on = bench.counters().stack_frames.get();
        let held = frame != sound;
        let answers = bench.exchange(frame);
        let dropped = bench.counters().dropped_total() - dropped;
        let answered = bench.counters().echo_replies.get() - replies;
        let passed_on = bench.counters().stack_frames.get() - passed_on;
        // A changed fragment field leaves the frame held for its other fragments.
        prop_assert!(dropped + answered + passed_on == 1 || (held && dropped + answered + passed_on == 0));
        if answered == 1 {
            Reply::only(&answers);
        }
    }

    #[test]
    fn arbitrary_packets_behind_sound_ethernet_headers_are_survived(
        ether_type in prop_oneof![Just(0x0800u16), Just(0x0806)],
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        broadcast: bool,
    ) {
        let bench = Bench::ready();
        let to = if broadcast { [0xff; 6] } else { GUEST_MAC };
        bench.exchange(packet::ethernet(to, PEER_MAC, etherparse::EtherType(ether_type), &bytes));
    }
}
