//! Frames through the adapter: aggregates, filter, VLAN tags, checksums, segmentation. What the model computes is judged
//! by etherparse.

#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod host;

use std::time::Duration;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use host::{Host, MAC, PEER};
use lab_rtl8152::{LinkSpeed, VERSIONS};
use lab_usbredir::Answer;
use proptest::prelude::*;

fn udp_v4(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(PEER, MAC)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(7, 9)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

fn tcp(v6: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(MAC, PEER);
    let builder =
        if v6 { builder.ipv6([1; 16], [2; 16], 64) } else { builder.ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64) };
    builder.tcp(80, 4000, 0xffff_fff0, 1000).psh().fin().write(&mut frame, payload).unwrap();
    frame
}

/// Panics unless all checksums of the frame are right.
fn check_checksums(frame: &[u8]) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let computed = match (packet.net.unwrap(), packet.transport.as_ref().unwrap()) {
        (NetSlice::Ipv4(ip), transport) => {
            let ip = ip.header();
            assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
            match transport {
                TransportSlice::Tcp(tcp) => tcp.calc_checksum_ipv4(ip.source(), ip.destination()).unwrap(),
                TransportSlice::Udp(udp) => {
                    udp.to_header().calc_checksum_ipv4(&ip.to_header(), udp.payload()).unwrap()
                }
                other => panic!("{other:?}"),
            }
        }
        (NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
            let ip = ip.header();
            tcp.calc_checksum_ipv6(ip.source(), ip.destination()).unwrap()
        }
        other => panic!("{other:?}"),
    };
    let carried = match packet.transport.unwrap() {
        TransportSlice::Tcp(tcp) => tcp.checksum(),
        TransportSlice::Udp(udp) => udp.checksum(),
        other => panic!("{other:?}"),
    };
    assert_eq!(carried, computed);
}

/// One packet as a driver sends it.
fn descriptor(first: u32, second: u32, frame: &[u8]) -> Vec<u8> {
    let mut bytes = (0xc000_0000 | first | frame.len() as u32).to_le_bytes().to_vec();
    bytes.extend(second.to_le_bytes());
    bytes.extend(frame);
    bytes
}

#[test]
fn frames_of_every_chip_arrive_whole_and_in_order() {
    for version in &VERSIONS {
        let mut host = Host::up(*version);
        let frames: Vec<Vec<u8>> = (0..40).map(|i| udp_v4(&vec![i as u8; 18 + 36 * i])).collect();
        for frame in &frames {
            host.adapter.receive_frame(frame, host.now);
        }
        let received = host.receive_all(16 << 10);
        let bytes: Vec<&[u8]> = received.iter().map(|packet| &packet.frame[..]).collect();
        assert_eq!(bytes, frames, "{version}");
        // Recognised as IPv4 and UDP with nothing wrong.
        assert!(received.iter().all(|p| (p.options[1], p.options[2]) == (1 << 19 | 1 << 23, 0)));
    }
}

#[test]
fn the_link_word_names_the_speed_that_both_ends_can_do() {
    for (name, partner, bits) in [
        ("8152b", LinkSpeed::M2500, 1 << 3),
        ("8153a", LinkSpeed::M2500, 1 << 4),
        ("8156b", LinkSpeed::M2500, 1 << 10),
        ("8156b", LinkSpeed::M1000, 1 << 4),
        ("8153a", LinkSpeed::M10, 1 << 2),
    ] {
        let mut host = Host::up(lab_rtl8152::Version::find(name).unwrap());
        host.adapter.set_cable(Some(partner), host.now);
        host.wait(Duration::from_millis(100));
        let status = host.read(0x0100, 0xe908);
        assert_eq!(status & 0x071c, bits, "{name} to {partner:?}: {status:#x}");
        assert_eq!(status & 3, 3);
        host.adapter.set_cable(None, host.now);
        assert_eq!(host.read(0x0100, 0xe908) & 2, 0);
    }
}

#[test]
fn a_change_of_the_link_is_told_down_then_up() {
    let mut host = Host::up(VERSIONS[6]);
    let told: Vec<Vec<u8>> = std::iter::from_fn(|| host.interrupt()).collect();
    assert_eq!(told.last(), Some(&vec![4, 0]));
    host.adapter.set_cable(None, host.now);
    host.adapter.set_cable(Some(LinkSpeed::M1000), host.now);
    host.wait(Duration::from_secs(1));
    assert_eq!(host.interrupt(), Some(vec![0, 0]));
    assert_eq!(host.interrupt(), Some(vec![4, 0]));
    assert_eq!(host.interrupt(), None);
}

#[test]
fn whoever_opens_the_mac_is_told_of_the_link_again() {
    // By a software reset, or where a generation has none by leaving out-of-band mode.
    for name in ["8153a", "8156a"] {
        let mut host = Host::up(lab_rtl8152::Version::find(name).unwrap());
        while host.interrupt().is_some() {}
        if name == "8153a" {
            host.write_lanes(0x0188, 0xe810, 0x1000_0000);
        } else {
            host.write_lanes(0x0188, 0xe84c, 0x8000_0000);
            assert_eq!(host.interrupt(), None);
            host.write_lanes(0x0188, 0xe84c, 0);
        }
        assert_eq!(host.interrupt(), Some(vec![4, 0]), "{name}");
    }
}

#[test]
fn the_filter_lets_through_what_it_is_told() {
    let mut host = Host::up(VERSIONS[6]);
    let to = |destination: [u8; 6]| {
        let mut frame = udp_v4(&[0; 100]);
        frame[..6].copy_from_slice(&destination);
        frame
    };
    let group = [0x01, 0x00, 0x5e, 0x00, 0x00, 0x01];
    let passes = |host: &mut Host, frame: Vec<u8>| {
        host.adapter.receive_frame(&frame, host.now);
        !host.receive_all(16 << 10).is_empty()
    };
    host.write(0x0100, 0xc010, 0x0000_000a);
    assert!(passes(&mut host, to(MAC)) && passes(&mut host, to([0xff; 6])));
    assert!(!passes(&mut host, to(PEER)) && !passes(&mut host, to(group)));
    host.write(0x0100, 0xc010, 0x0000_000e);
    assert!(!passes(&mut host, to(group)), "no hash bit is set");
    host.write(0x0100, 0xcd04, 0x0000_0080);
    assert!(passes(&mut host, to(group)));
    host.write(0x0100, 0xc010, 0x0000_000f);
    assert!(passes(&mut host, to(PEER)));
    host.write(0x0100, 0xc010, 0);
    assert!(!passes(&mut host, to(MAC)));
}

#[test]
fn frames_beyond_the_programmed_size_are_dropped_and_counted() {
    let mut host = Host::up(VERSIONS[6]);
    host.write(0x0100, 0xc014, 1522 << 16);
    let mut frame = udp_v4(&[0; 1476]);
    assert_eq!(frame.len(), 1518);
    host.adapter.receive_frame(&frame, host.now);
    frame.push(0);
    host.adapter.receive_frame(&frame, host.now);
    assert_eq!(host.receive_all(16 << 10).len(), 1);
    assert_eq!((host.adapter.tally().rx_packets, host.adapter.tally().rx_errors), (1, 1));
}

#[test]
fn a_wrong_checksum_is_flagged_and_the_frame_delivered() {
    let mut host = Host::up(VERSIONS[6]);
    for (at, flag) in [(24, 1 << 23), (40, 1 << 22)] {
        let mut frame = udp_v4(b"some payload to sum up over");
        frame[at] ^= 0x40;
        host.adapter.receive_frame(&frame, host.now);
        let packet = host.receive_all(16 << 10).remove(0);
        assert_eq!(packet.options[2], flag);
    }
}

#[test]
fn a_tag_is_stripped_into_the_descriptor_only_when_asked() {
    for name in ["8153a", "8156b"] {
        let mut host = Host::up(lab_rtl8152::Version::find(name).unwrap());
        let mut frame = udp_v4(&[7; 64]);
        frame.splice(12..12, [0x81, 0x00, 0x61, 0x23]);
        host.adapter.receive_frame(&frame, host.now);
        let packet = host.receive_all(16 << 10).remove(0);
        assert_eq!((packet.frame, packet.options[1] & 0x1_ffff), (frame.clone(), 0));
        if name == "8156b" {
            host.write(0x0100, 0xc010, 0x00c0_000f);
        } else {
            host.write(0x0100, 0xe854, 0x0000_0040);
        }
        host.adapter.receive_frame(&frame, host.now);
        let packet = host.receive_all(16 << 10).remove(0);
        assert_eq!((packet.frame, packet.options[1] & 0x1_ffff), (udp_v4(&[7; 64]), 1 << 16 | 0x2361));
    }
}

#[test]
fn an_aggregate_waits_for_its_timer_or_its_size() {
    let mut host = Host::up(lab_rtl8152::Version::find("8153a").unwrap());
    // 0x2981 ticks of 8 ns are 85 us; 1000 units of 4 bytes are 4000 bytes.
    host.write(0, 0xd42c, 1000 << 16 | 0x2981);
    let frame = udp_v4(&[1; 930]);
    host.adapter.receive_frame(&frame, host.now);
    assert_eq!(host.bulk_in(16 << 10), Answer::NotYet);
    host.wait(Duration::from_micros(84));
    assert_eq!(host.bulk_in(16 << 10), Answer::NotYet);
    host.wait(Duration::from_micros(1));
    assert!(matches!(host.bulk_in(16 << 10), Answer::Data(_)));
    for _ in 0..8 {
        host.adapter.receive_frame(&frame, host.now);
    }
    let Answer::Data(full) = host.bulk_in(16 << 10) else { panic!("closed by its size") };
    assert_eq!(full.len(), 5 * 1000);
}

#[test]
fn new_aggregation_settings_of_a_8153b_count_once_they_are_latched() {
    let mut host = Host::up(lab_rtl8152::Version::find("8153b").unwrap());
    host.write(0, 0xd430, 0xffff << 16);
    host.adapter.receive_frame(&udp_v4(&[0; 100]), host.now);
    assert!(matches!(host.bulk_in(16 << 10), Answer::Data(_)));
    host.write(0, 0xd434, 3 << 24);
    host.adapter.receive_frame(&udp_v4(&[0; 100]), host.now);
    assert_eq!(host.bulk_in(16 << 10), Answer::NotYet);
    host.wait(Duration::from_nanos(0xffff * 8));
    assert!(matches!(host.bulk_in(16 << 10), Answer::Data(_)));
}

#[test]
fn gated_and_reset_receivers_give_nothing() {
    let mut host = Host::up(VERSIONS[6]);
    host.write(0x0100, 0xe858, 8 << 16);
    host.adapter.receive_frame(&udp_v4(&[0; 100]), host.now);
    assert_eq!(host.bulk_in(16 << 10), Answer::NotYet);
    host.write(0x0100, 0xe858, 0);
    assert!(matches!(host.bulk_in(16 << 10), Answer::Data(_)));
    host.adapter.receive_frame(&udp_v4(&[0; 100]), host.now);
    host.write(0x0100, 0xe810, 0x1000_0000);
    assert_eq!(host.read(0x0100, 0xe810) >> 24, 0, "reset clears itself and both engines");
    assert_eq!(host.bulk_in(16 << 10), Answer::NotYet);
}

#[test]
fn a_buffer_that_is_no_multiple_of_the_packet_size_babbles() {
    let mut host = Host::up(VERSIONS[6]);
    host.adapter.receive_frame(&udp_v4(&[0; 1000]), host.now);
    assert_eq!(host.bulk_in(1000), Answer::Babble);
}

#[test]
fn frames_are_sent_with_and_without_an_empty_packet_at_the_end() {
    let mut host = Host::up(VERSIONS[6]);
    let frame = |size: usize| {
        let mut frame = vec![0x5a; size];
        frame[..6].copy_from_slice(&PEER);
        frame
    };
    // Two packets that fill 1024 bytes exactly, and a short one in a transfer of its own.
    let mut transfer = descriptor(0, 0, &frame(500));
    transfer.extend(descriptor(0, 0, &frame(508)));
    assert_eq!(transfer.len(), 1024);
    host.bulk_out(&transfer);
    host.bulk_out(&[]);
    host.bulk_out(&transfer);
    host.bulk_out(&descriptor(0, 0, &frame(14)));
    let sizes: Vec<usize> = host.sent().iter().map(Vec::len).collect();
    assert_eq!(sizes, [500, 508, 500, 508, 60]);
    assert_eq!(host.adapter.tally().tx_packets, 5);
}

#[test]
fn broken_transfers_send_nothing_and_are_counted() {
    let mut host = Host::up(VERSIONS[6]);
    let good = descriptor(0, 0, &[1; 100]);
    for broken in [&good[..7], &good[..50], &[0; 64], &descriptor(0, 0, &[1; 13])[..]] {
        host.bulk_out(broken);
        assert!(host.adapter.take_transmit_error().is_some(), "{broken:02x?}");
    }
    assert!(host.sent().is_empty());
    assert_eq!(host.adapter.tally().tx_errors, 4);
    host.bulk_out(&good);
    assert_eq!(host.sent().len(), 1);
}

#[test]
fn checksums_are_computed_from_scratch() {
    let mut host = Host::up(VERSIONS[6]);
    let mut v4 = tcp(false, b"payload");
    v4[24] ^= 0xff;
    v4[50] = 0x12;
    host.bulk_out(&descriptor(0, 1 << 30 | 1 << 29 | 34 << 17, &v4));
    let mut v6 = tcp(true, b"odd");
    v6[70] = 0x12;
    host.bulk_out(&descriptor(0, 1 << 30 | 1 << 28 | 54 << 17, &v6));
    let mut udp = udp_v4(b"datagram");
    udp[40] = 0x99;
    host.bulk_out(&descriptor(0, 1 << 31 | 1 << 29, &udp));
    let sent = host.sent();
    assert_eq!(sent.len(), 3);
    sent.iter().for_each(|frame| check_checksums(frame));
    // Asked for what the packet is not.
    host.bulk_out(&descriptor(0, 1 << 31 | 1 << 29, &v4));
    assert!(host.sent().is_empty());
}

#[test]
fn segments_carry_the_payload_with_sound_headers() {
    let payload: Vec<u8> = (0..5000u32).map(|i| (i * 7) as u8).collect();
    for v6 in [false, true] {
        let mut host = Host::up(VERSIONS[6]);
        let mut frame = tcp(v6, &payload);
        let (kind, offset) = if v6 { (1 << 27, 54) } else { (1 << 28, 34) };
        if v6 {
            // As Linux leaves it.
            frame[18..20].fill(0);
        }
        host.bulk_out(&descriptor(kind | offset << 18, 1400 << 17, &frame));
        let sent = host.sent();
        assert_eq!(sent.len(), 4);
        let mut joined = Vec::<u8>::new();
        for (i, segment) in sent.iter().enumerate() {
            check_checksums(segment);
            let packet = SlicedPacket::from_ethernet(segment).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("no TCP") };
            assert_eq!(tcp.sequence_number(), 0xffff_fff0_u32.wrapping_add(1400 * i as u32));
            assert_eq!((tcp.psh(), tcp.fin()), (i == 3, i == 3));
            joined.extend(tcp.payload());
        }
        assert_eq!(joined, payload);
    }
}

#[test]
fn tags_are_inserted_into_every_segment() {
    let mut host = Host::up(VERSIONS[6]);
    let second = 1000 << 17 | 1 << 16 | u32::from(0x6123_u16.swap_bytes());
    host.bulk_out(&descriptor(1 << 28 | 34 << 18, second, &tcp(false, &[3; 2000])));
    let sent = host.sent();
    assert_eq!(sent.len(), 2);
    for frame in sent {
        assert_eq!(frame[12..16], [0x81, 0x00, 0x61, 0x23]);
    }
}

proptest! {
    #[test]
    fn no_transfer_however_odd_is_a_panic(
        version in 0..VERSIONS.len(),
        transfers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8))
    {
        let mut host = Host::up(VERSIONS[version]);
        for transfer in &transfers {
            host.bulk_out(transfer);
        }
    }

    #[test]
    fn no_packet_with_offloads_however_odd_is_a_panic(
        flags in any::<(u32, u32)>(), v6: bool, cut in 0..200usize, flips in proptest::collection::vec(any::<(u8, u8)>(), 0..6))
    {
        let mut host = Host::up(VERSIONS[6]);
        let mut frame = tcp(v6, &[1; 100]);
        frame.truncate(frame.len() - cut.min(frame.len()));
        for (at, value) in flips {
            if let Some(byte) = frame.get_mut(usize::from(at)) {
                *byte = value;
            }
        }
        host.bulk_out(&descriptor(flags.0 & 0x3ffc_0000, flags.1, &frame));
    }

    #[test]
    fn no_frame_from_the_wire_is_a_panic(frame in proptest::collection::vec(any::<u8>(), 0..200), ip in 0..3usize) {
        let mut host = Host::up(VERSIONS[6]);
        let mut frame = frame;
        if frame.len() > 15 {
            let kinds = [[0x08, 0x00, 0x45], [0x86, 0xdd, 0x60], [0x81, 0x00, 0x00]];
            frame[12..15].copy_from_slice(&kinds[ip]);
            frame[..6].copy_from_slice(&MAC);
        }
        host.adapter.receive_frame(&frame, host.now);
        for packet in host.receive_all(4096) {
            prop_assert!(packet.frame.len() >= 60);
        }
    }

    #[test]
    fn any_sequence_of_frames_comes_out_as_it_went_in(
        sizes in proptest::collection::vec(60..1500usize, 1..60), limit in 1..4000u32, buffer in 2..16usize)
    {
        let mut host = Host::up(VERSIONS[6]);
        host.write(0, 0xd42c, limit << 16);
        let frames: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(i, size)| {
            let mut frame = vec![i as u8; *size];
            frame[..6].copy_from_slice(&MAC);
            frame
        }).collect();
        for frame in &frames {
            host.adapter.receive_frame(frame, host.now);
        }
        // Transfers of any multiple of the packet size, joined: what is cut by one goes on in the next.
        let stream = host.receive_stream(buffer * 1024);
        let mut at = 0;
        for frame in &frames {
            let length = u32::from_le_bytes(stream[at..at + 4].try_into().unwrap()) as usize & 0x7fff;
            prop_assert_eq!(length, frame.len() + 4);
            prop_assert_eq!(&stream[at + 24..at + 20 + length], &frame[..]);
            at = (at + 24 + length).next_multiple_of(8);
        }
        prop_assert_eq!(at, stream.len());
    }
}
