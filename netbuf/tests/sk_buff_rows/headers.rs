//! Section 2: where the headers are.

use netbuf::{Error, NetBuf, host};

use crate::{block, buffer, bytes, content};

/// An operation that may move the head.
type Work = fn(&mut NetBuf);

#[test]
fn unset_is_a_state_of_its_own() {
    let mut buffer = NetBuf::alloc(&host::memory(), 64).unwrap();
    assert!(!buffer.mac_header_was_set() && buffer.mac_header().is_none());
    assert!(!buffer.network_header_was_set() && buffer.network_header().is_none());
    assert!(!buffer.transport_header_was_set() && buffer.transport_header().is_none());
    assert!(buffer.destination().is_none());

    // Set at offset 0 of an empty packet is not unset.
    buffer.reset_mac_header();
    assert!(buffer.mac_header_was_set());
    assert_eq!(buffer.mac_header(), Some(&[][..]));
    assert!(!buffer.network_header_was_set() && !buffer.transport_header_was_set());
}

#[test]
fn reset_is_the_start_of_the_data_and_set_an_offset_from_it() {
    let mut buffer = NetBuf::alloc(&host::memory(), 64).unwrap();
    buffer.put(40).unwrap().copy_from_slice(&bytes(40, 1));
    buffer.reset_mac_header();
    buffer.set_network_header(14).unwrap();
    buffer.set_transport_header(34).unwrap();
    assert_eq!(buffer.mac_header().unwrap(), bytes(40, 1));
    assert_eq!(buffer.network_header().unwrap(), &bytes(40, 1)[14..]);
    assert_eq!(buffer.transport_header().unwrap(), &bytes(40, 1)[34..]);
}

#[test]
fn a_header_past_the_linear_part_is_refused_and_the_old_one_stays() {
    let memory = host::memory();
    let mut packet = buffer(&memory, &bytes(20, 1), &[&bytes(20, 2)]);
    packet.set_transport_header(20).unwrap(); // right behind: where the payload begins
    assert_eq!(packet.set_transport_header(21).unwrap_err(), Error::PastEnd { wanted: 21, available: 20 });
    assert!(packet.set_mac_header(usize::MAX).is_err() && packet.set_network_header(usize::MAX).is_err());
    assert_eq!(packet.transport_header(), Some(&[][..]));
    assert!(!packet.mac_header_was_set() && !packet.network_header_was_set());
}

#[test]
fn headers_stay_where_they_are_while_layers_pull_and_push() {
    let memory = host::memory();
    let mut packet = buffer(&memory, &bytes(54, 1), &[]);
    packet.reset_mac_header();
    packet.pull(14).unwrap();
    packet.reset_network_header();
    packet.pull(20).unwrap();
    packet.reset_transport_header();
    let all = bytes(54, 1);
    for _ in 0..2 {
        assert_eq!(packet.mac_header().unwrap(), all);
        assert_eq!(packet.network_header().unwrap(), &all[14..]);
        assert_eq!(packet.transport_header().unwrap(), &all[34..]);
        packet.push(34).unwrap(); // the bytes that come back are those that went
    }
}

#[test]
fn headers_survive_every_operation_that_replaces_the_head() {
    let memory = host::memory();
    let works: [(&str, Work); 7] = [
        ("expand_head", |packet| packet.expand_head(300, 40).unwrap()),
        ("cow", |packet| packet.cow(500).unwrap()),
        ("linearize", |packet| packet.linearize().unwrap()),
        ("may_pull", |packet| packet.may_pull(1000).unwrap()),
        ("unshare", |packet| {
            let _clone = packet.clone_buffer().unwrap();
            packet.unshare().unwrap();
        }),
        ("copy", |packet| *packet = packet.copy().unwrap()),
        ("copy_head", |packet| *packet = packet.copy_head().unwrap()),
    ];
    for (name, work) in works {
        let mut packet = buffer(&memory, &bytes(54, 1), &[&bytes(2000, 2)]);
        packet.reset_mac_header();
        packet.pull(14).unwrap();
        packet.reset_network_header();
        packet.set_transport_header(20).unwrap();
        work(&mut packet);
        let all = bytes(54, 1);
        assert_eq!(packet.mac_header().unwrap()[..54], all, "{name}");
        assert_eq!(packet.network_header().unwrap()[..40], all[14..], "{name}");
        assert_eq!(packet.transport_header().unwrap()[..20], all[34..], "{name}");
        assert_eq!(packet.destination().unwrap(), all[..6], "{name}");
        assert_eq!(content(&packet), [&all[14..], &bytes(2000, 2)].concat(), "{name}");
    }
}

#[test]
fn unset_stays_unset_through_every_operation_that_replaces_the_head() {
    let memory = host::memory();
    let mut packet = buffer(&memory, &bytes(54, 1), &[&bytes(2000, 2)]);
    packet.expand_head(300, 0).unwrap();
    packet.linearize().unwrap();
    let copy = packet.copy().unwrap();
    let clone = packet.clone_buffer().unwrap();
    for packet in [packet, copy, clone] {
        assert!(!packet.mac_header_was_set() && packet.mac_header().is_none());
        assert!(!packet.network_header_was_set() && !packet.transport_header_was_set());
    }
}

#[test]
fn a_header_that_was_trimmed_off_is_set_but_not_there() {
    let memory = host::memory();
    let mut packet = buffer(&memory, &bytes(54, 1), &[]);
    packet.set_transport_header(34).unwrap();
    packet.trim(20).unwrap();
    assert!(packet.transport_header_was_set());
    assert_eq!(packet.transport_header(), None);
}

#[test]
fn destination_is_the_first_six_bytes_at_the_mac_header() {
    let memory = host::memory();
    let mut packet = buffer(&memory, &bytes(60, 1), &[]);
    packet.reset_mac_header();
    packet.pull(14).unwrap();
    assert_eq!(packet.destination().unwrap(), bytes(60, 1)[..6]);

    let mut short = buffer(&memory, &bytes(5, 1), &[]);
    short.reset_mac_header();
    assert_eq!(short.destination(), None);

    let mut in_frag = NetBuf::alloc(&memory, 64).unwrap();
    in_frag.add_rx_frag(block(&memory, 0, 0, &bytes(60, 1)), 0, 60, 4096).unwrap();
    in_frag.reset_mac_header();
    assert_eq!(in_frag.destination(), None, "headers are read from the linear part");
}

#[test]
fn offsets_are_from_the_data_and_negative_in_the_headroom() {
    let memory = host::memory();
    let mut packet = buffer(&memory, &bytes(54, 1), &[]);
    assert_eq!((packet.mac_offset(), packet.network_offset(), packet.transport_offset()), (None, None, None));
    packet.reset_mac_header();
    packet.set_network_header(14).unwrap();
    packet.set_transport_header(34).unwrap();
    packet.pull(34).unwrap();
    let offsets = |packet: &NetBuf| [packet.mac_offset(), packet.network_offset(), packet.transport_offset()];
    assert_eq!(offsets(&packet), [Some(-34), Some(-20), Some(0)]);
    packet.expand_head(100, 0).unwrap();
    assert_eq!(offsets(&packet), [Some(-34), Some(-20), Some(0)]);
    assert_eq!(offsets(&packet.copy().unwrap()), [Some(-34), Some(-20), Some(0)]);
    packet.unset_mac_header();
    assert_eq!(offsets(&packet), [None, Some(-20), Some(0)]);
    assert!(!packet.mac_header_was_set() && packet.mac_header().is_none());
}
