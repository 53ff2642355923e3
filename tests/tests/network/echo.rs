//! Echo requests and their replies.

use hal::time::Duration;
use kernel::net::Configuration;
use kernel::net::counters::DropReason;
use proptest::prelude::*;

use crate::harness::{Bench, GUEST, GUEST_MAC, PEER, PEER_MAC, Reply, Request, fixed, ipv4_frame, seal};

/// Row 1: every valid echo request is answered.
#[test]
fn every_valid_request_is_answered() {
    let bench = Bench::ready();
    for size in [0, 1, 17, 56, 1471, 1472] {
        let request = Request { payload: vec![0xa5; size], ..Request::default() };
        let reply = Reply::only(&bench.exchange(request.frame()));
        assert_eq!((reply.kind(), reply.payload()), (0, &request.payload[..]), "{size} bytes");
    }
    assert_eq!(bench.counters().echo_replies.get(), 6);
    assert_eq!(bench.counters().dropped_total(), 0);
}

/// Row 2: the reply comes from the address that was asked, and goes back the way the request came.
#[test]
fn reply_source_is_the_requests_destination() {
    let reply = Reply::only(&Bench::ready().exchange(Request::default().frame()));
    assert_eq!((reply.header.source, reply.header.destination), (GUEST.octets(), PEER.octets()));
    assert_eq!((reply.source_mac, reply.destination_mac), (GUEST_MAC, PEER_MAC));
}

/// Row 4: identifier and sequence number are copied.
#[test]
fn identifier_and_sequence_are_copied() {
    let request = Request { identifier: 0x1122, sequence: 0x3344, ..Request::default() };
    let reply = Reply::only(&Bench::ready().exchange(request.frame()));
    assert_eq!((reply.identifier(), reply.sequence()), (0x1122, 0x3344));
}

/// Row 5: requests to broadcast and multicast addresses are not answered.
#[test]
fn request_to_a_broadcast_address_is_not_answered() {
    let bench = Bench::ready();
    for destination in [[10, 0, 0, 255], [255; 4], [224, 0, 0, 1]] {
        for mac in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1], GUEST_MAC] {
            let mut request = Request { destination_mac: mac, ..Request::default() };
            request.header.destination = destination;
            bench.assert_dropped(request.frame(), DropReason::EchoBroadcast);
        }
    }
}

/// Row 5: answering them can be switched on; the reply then comes from the interface's own address.
#[test]
fn request_to_a_broadcast_address_is_answered_when_switched_on() {
    let mut configuration = fixed();
    assert_eq!(configuration.set("echo-broadcast", "on"), Ok(true));
    let bench = Bench::ready_with(configuration);
    let mut request = Request { destination_mac: [0xff; 6], ..Request::default() };
    request.header.destination = [10, 0, 0, 255];
    let reply = Reply::only(&bench.exchange(request.frame()));
    assert_eq!((reply.header.source, reply.destination_mac), (GUEST.octets(), PEER_MAC));
}

/// Row 6: a unicast packet in a link-layer broadcast or multicast frame is not answered.
#[test]
fn reply_to_link_layer_broadcast_is_suppressed() {
    let bench = Bench::ready();
    for mac in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
        let request = Request { destination_mac: mac, ..Request::default() };
        bench.assert_dropped(request.frame(), DropReason::LinkBroadcast);
    }
}

#[test]
fn frames_of_other_stations_are_not_looked_at() {
    let request = Request { destination_mac: [2, 0, 0, 0, 0, 0x55], ..Request::default() };
    Bench::ready().assert_dropped(request.frame(), DropReason::OtherStation);
}

#[test]
fn packets_for_other_addresses_are_dropped() {
    let mut request = Request::default();
    request.header.destination = [10, 0, 0, 3];
    Bench::ready().assert_dropped(request.frame(), DropReason::Ipv4Destination);
}

/// Row 7: sources that are not one host are never answered.
#[test]
fn sources_that_are_no_host_are_not_answered() {
    let bench = Bench::ready();
    let sources = [
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [239, 255, 255, 250],
        [240, 0, 0, 1],
        [255, 255, 255, 255],
        [10, 0, 0, 255],
        GUEST.octets(),
    ];
    for source in sources {
        let mut request = Request::default();
        request.header.source = source;
        bench.assert_dropped(request.frame(), DropReason::Ipv4Source);
    }
    let request = Request { source_mac: [3, 0, 0, 0, 0, 1], ..Request::default() };
    bench.assert_dropped(request.frame(), DropReason::EthernetSource);
}

/// Row 7: no ICMP error is sent about an ICMP error.
#[test]
fn errors_are_not_answered_with_errors() {
    let bench = Bench::ready();
    for kind in [3, 4, 5, 11, 12] {
        let mut message = vec![kind, 3, 0, 0, 0, 0, 0, 0];
        message.extend(&Request::default().frame()[14..42]);
        seal(&mut message);
        let frame = ipv4_frame(GUEST_MAC, PEER_MAC, Request::default().header, &message);
        bench.assert_dropped(frame, DropReason::IcmpType);
    }
}

/// Row 7: what asks for an error gets one only when it was for us alone.
#[test]
fn no_error_is_sent_about_a_broadcast() {
    let bench = Bench::ready();
    let mut header = Request::default().header;
    header.protocol = etherparse::IpNumber::UDP;
    let datagram = [0x12, 0x34, 0x00, 0x09, 0, 8, 0, 0];
    let answers = bench.exchange(ipv4_frame(GUEST_MAC, PEER_MAC, header.clone(), &datagram));
    // Nobody listens on the port: to us alone that is worth an ARP request for the sender at least.
    assert!(!answers.is_empty(), "the stack behind the echo path got the datagram");
    header.destination = [10, 0, 0, 255];
    bench.assert_dropped(
        ipv4_frame([0xff; 6], PEER_MAC, header.clone(), &datagram),
        DropReason::Ipv4Destination,
    );
    header.destination = GUEST.octets();
    bench.assert_dropped(ipv4_frame([0xff; 6], PEER_MAC, header, &datagram), DropReason::LinkBroadcast);
}

/// Row 8: a wrong IPv4 header checksum is dropped silently and counted.
#[test]
fn wrong_header_checksum_is_dropped() {
    let mut frame = Request::default().frame();
    frame[24] ^= 1;
    Bench::ready().assert_dropped(frame, DropReason::Ipv4Checksum);
}

/// Row 8: a wrong ICMP checksum is dropped silently and counted, wherever the damage is.
#[test]
fn wrong_icmp_checksum_is_dropped() {
    let bench = Bench::ready();
    let request = Request { payload: vec![1; 200], ..Request::default() };
    for at in [36, 38, 42, 100, 241] {
        let mut frame = request.frame();
        frame[at] ^= 0x10;
        bench.assert_dropped(frame, DropReason::IcmpChecksum);
    }
}

/// Row 9: Record Route comes back with our address in it.
#[test]
fn record_route_is_updated_and_returned() {
    let mut request = Request::default();
    request.header.options = [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0].into();
    let reply = Reply::only(&Bench::ready().exchange(request.frame()));
    assert_eq!(reply.header.options.as_slice(), [7, 11, 8, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    assert_eq!(reply.payload(), request.payload);
}

/// Row 9: a source route is refused and counted.
#[test]
fn source_route_is_refused() {
    let mut request = Request::default();
    request.header.options = [131, 7, 4, 10, 0, 0, 9, 0].into();
    Bench::ready().assert_dropped(request.frame(), DropReason::SourceRoute);
}

/// Row 10: the reply carries the request's type of service.
#[test]
fn type_of_service_is_kept() {
    let bench = Bench::ready();
    for dscp in [0, 10, 46, 63] {
        let mut request = Request::default();
        request.header.dscp = dscp.try_into().unwrap();
        let reply = Reply::only(&bench.exchange(request.frame()));
        assert_eq!(reply.header.dscp.value(), dscp);
    }
}

/// Row 11: unknown ICMP types are silently discarded.
#[test]
fn unknown_icmp_types_are_discarded() {
    let bench = Bench::ready();
    for kind in (0..=255).filter(|kind| *kind != 8) {
        let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        seal(&mut message);
        let frame = ipv4_frame(GUEST_MAC, PEER_MAC, Request::default().header, &message);
        bench.assert_dropped(frame, DropReason::IcmpType);
    }
}

/// Row 12: a request with another code is answered, the code copied.
#[test]
fn code_is_copied() {
    let bench = Bench::ready();
    for code in [1, 9, 255] {
        let reply = Reply::only(&bench.exchange(Request { code, ..Request::default() }.frame()));
        assert_eq!((reply.kind(), reply.code()), (0, code));
    }
}

/// Row 13: time to live 64; an atomic datagram (DF, not a fragment) needs no identification (RFC 6864).
#[test]
fn reply_header_is_legal_under_rfc_6864() {
    let bench = Bench::ready();
    for dont_fragment in [false, true] {
        let mut request = Request::default();
        request.header.dont_fragment = dont_fragment;
        let reply = Reply::only(&bench.exchange(request.frame()));
        assert_eq!((reply.header.time_to_live, reply.header.identification), (64, 0));
        assert!(reply.header.dont_fragment && !reply.header.is_fragmenting_payload());
    }
}

/// Row 14: the checksum is updated rightly where RFC 1141's form and a naive sum go wrong: request checksums around
/// the two forms of zero and the carry.
#[test]
fn checksum_update_holds_at_the_edges() {
    let bench = Bench::ready();
    for wanted in [0x0000_u16, 0x0001, 0xf7fe, 0xf7ff, 0xf800, 0xfffe] {
        let mut request = Request { payload: vec![0; 8], ..Request::default() };
        let plain = request.message();
        // Choose the first payload word so that the request's checksum becomes the wanted one.
        let now = u16::from_be_bytes([plain[2], plain[3]]);
        let word = etherparse::checksum::Sum16BitWords::new()
            .add_2bytes(now.to_be_bytes())
            .add_2bytes((!wanted).to_be_bytes());
        request.payload[..2].copy_from_slice(&(!word.ones_complement()).to_ne_bytes());
        let checksum = request.message()[2..4].to_vec();
        assert_eq!(checksum, wanted.to_be_bytes(), "the test's own sum");
        Reply::only(&bench.exchange(request.frame()));
    }
}

/// Row 16 (version 4 part): no address, no reply.
#[test]
fn without_an_address_nothing_is_answered() {
    let bench = Bench::new(Configuration::default());
    bench.pass(Duration::from_secs(1));
    bench.assert_dropped_quietly(Request::default().frame());
}

impl Bench {
    /// DHCP discoveries may go out meanwhile; an answer to the frame must not.
    #[track_caller]
    fn assert_dropped_quietly(&self, frame: Vec<u8>) {
        let before = self.counters().dropped(DropReason::Ipv4Destination);
        for sent in self.exchange(frame) {
            assert_eq!(sent[..6], [0xff; 6], "{sent:02x?}");
        }
        assert_eq!(self.counters().dropped(DropReason::Ipv4Destination), before + 1);
    }
}

/// Row 18: Timestamp, Information and Address Mask requests are not answered (RFC 6918).
#[test]
fn deprecated_requests_are_not_answered() {
    let bench = Bench::ready();
    for kind in [13, 15, 17] {
        let mut message = vec![kind, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        seal(&mut message);
        let frame = ipv4_frame(GUEST_MAC, PEER_MAC, Request::default().header, &message);
        bench.assert_dropped(frame, DropReason::IcmpType);
    }
}

/// Row 19: a configured rate is kept, what is over it is counted.
#[test]
fn a_configured_rate_is_kept() {
    let mut configuration = fixed();
    assert_eq!(configuration.set("echo-rate", "10"), Ok(true));
    let bench = Bench::ready_with(configuration);
    let answers = bench.exchange_all(vec![Request::default().frame(); 100]);
    assert_eq!(answers.len(), 10);
    assert_eq!(bench.counters().dropped(DropReason::EchoRate), 90);
    bench.pass(Duration::from_millis(500));
    assert_eq!(bench.exchange_all(vec![Request::default().frame(); 100]).len(), 5);
}

#[test]
fn inspected_requests_are_answered_like_others() {
    let mut configuration = fixed();
    configuration.inspect = kernel::net::configuration::Inspect { icmp: true, memory: true };
    let bench = Bench::ready_with(configuration);
    let reply = Reply::only(&bench.exchange(Request::default().frame()));
    assert_eq!(reply.payload(), Request::default().payload);
    // The copy that is shown beside the request, and nothing else.
    assert_eq!(bench.counters().payload_bytes_copied.get(), 98);
    assert_eq!(bench.memory.statistics().live_slab_objects, 0);
}

#[test]
fn padding_of_short_frames_is_not_sent_back() {
    let request = Request { payload: vec![7; 4], ..Request::default() };
    let mut frame = request.frame();
    frame.resize(60, 0x55);
    let answers = Bench::ready().exchange(frame);
    assert_eq!(answers[0].len(), 14 + 20 + 8 + 4);
}

#[test]
fn payload_in_a_frag_is_answered_without_copying_it() {
    let bench = Bench::ready();
    let request = Request { payload: (0..1400).map(|n| n as u8).collect(), ..Request::default() };
    bench.cable.linear.set(Some(128));
    let reply = Reply::only(&bench.exchange(request.frame()));
    assert_eq!(reply.payload(), request.payload);
    assert_eq!(bench.counters().payload_bytes_copied.get(), 0);
}

#[test]
fn headers_in_a_frag_are_pulled_in() {
    let bench = Bench::ready();
    for linear in 1..50 {
        bench.cable.linear.set(Some(linear));
        let reply = Reply::only(&bench.exchange(Request::default().frame()));
        assert_eq!(reply.payload(), Request::default().payload);
    }
}

#[test]
fn steady_state_copies_and_allocates_nothing() {
    let bench = Bench::ready();
    let frame = Request { payload: vec![3; 1400], ..Request::default() }.frame();
    for _ in 0..100 {
        assert_eq!(bench.exchange(frame.clone()).len(), 1);
    }
    let counters = bench.counters();
    let (allocations, live) = (counters.allocations.get(), bench.memory.statistics().live_descriptors);
    for _ in 0..1000 {
        assert_eq!(bench.exchange(frame.clone()).len(), 1);
    }
    assert_eq!(counters.allocations.get(), allocations);
    assert_eq!(counters.payload_bytes_copied.get(), 0);
    assert_eq!(bench.memory.statistics().live_descriptors, live);
}

#[test]
fn a_full_transmit_ring_delays_replies_but_loses_none() {
    let bench = Bench::ready();
    bench.cable.room.set(Some(3));
    let requests = (0..100).map(|sequence| Request { sequence, ..Request::default() }.frame());
    let mut answers = bench.exchange_all(requests);
    for _ in 0..200 {
        if answers.len() == 100 {
            break;
        }
        // The device reports progress when it has made room.
        bench.cable.event(hal::network::Event::Progress);
        bench.pass(Duration::from_micros(1));
        answers.extend(bench.cable.sent());
    }
    let sequences: Vec<u16> = answers.iter().map(|frame| Reply::parse(frame).sequence()).collect();
    assert_eq!(sequences, (0..100).collect::<Vec<u16>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Differential: any echo request, answered here, against what an independent parser says the answer must be.
    #[test]
    fn any_request_gets_the_reply_that_etherparse_expects(
        payload in proptest::collection::vec(any::<u8>(), 0..1473),
        code: u8, identifier: u16, sequence: u16, identification: u16, dscp in 0u8..64, ttl in 1u8..=255,
        dont_fragment: bool, linear in proptest::option::of(42usize..200),
    ) {
        let bench = Bench::ready();
        bench.cable.linear.set(linear);
        let mut request = Request { code, identifier, sequence, payload, ..Request::default() };
        request.header.identification = identification;
        request.header.dscp = dscp.try_into().unwrap();
        request.header.time_to_live = ttl;
        request.header.dont_fragment = dont_fragment;
        let reply = Reply::only(&bench.exchange(request.frame()));
        let mut expected = request.message();
        expected[0] = 0;
        seal(&mut expected);
        prop_assert_eq!(reply.message, expected);
        prop_assert_eq!(reply.header.dscp.value(), dscp);
        prop_assert_eq!(bench.counters().payload_bytes_copied.get(), 0);
    }
}
