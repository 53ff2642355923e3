//! Section 2: copies, and bytes in and out at any offset.

use netbuf::{ChecksumStatus, Error, NetBuf, PacketType, Segmentation, host};

use crate::{block, buffer, bytes, content, state};

#[test]
fn pskb_copy_copies_the_head_and_shares_the_frags() {
    let memory = host::memory();
    let page = block(&memory, 0, 0, b"frag");
    let mut first = NetBuf::alloc(&memory, 128).unwrap();
    first.reserve(33).unwrap();
    first.put(4).unwrap().copy_from_slice(b"head");
    first.add_rx_frag(page.clone(), 0, 4, 4096).unwrap();
    let mut second = first.copy_head().unwrap();
    assert_eq!(second.headroom(), 33);
    assert_eq!((second.head_len(), second.data_len(), page.references()), (4, 4, 3));
    assert!(!first.is_cloned() && !second.is_cloned());
    second.data_mut().unwrap()[0] = b'H';
    assert_eq!((content(&first), content(&second)), (b"headfrag".to_vec(), b"Headfrag".to_vec()));
}

#[test]
fn skb_copy_copies_everything_into_one_linear_area() {
    let memory = host::memory();
    let (one, two) = (bytes(3000, 1), bytes(2000, 2));
    let mut first = buffer(&memory, b"head", &[&one, &two]);
    first.append_to_frag_list(buffer(&memory, b"list", &[b"frag"])).unwrap();
    let second = first.copy().unwrap();
    assert!(!second.is_nonlinear() && second.frag_count() == 0 && !second.has_frag_list());
    assert_eq!(second.headroom(), first.headroom());
    assert_eq!(second.data(), content(&first));
    assert_eq!(second.truesize(), 192 + 312 + second.headroom() + second.len() + second.tailroom());
}

#[test]
fn copies_and_clones_keep_metadata_offsets_and_checksum_status() {
    let memory = host::memory();
    let mut first = buffer(&memory, &bytes(34, 1), &[&bytes(100, 2)]);
    first.reset_mac_header();
    first.pull(14).unwrap();
    first.reset_network_header();
    first.set_protocol(0x0800);
    first.set_packet_type(PacketType::Multicast);
    first.set_priority(3);
    first.set_mark(4);
    first.set_vlan(Some(5));
    first.set_hash(Some(6));
    first.set_timestamp(Some(7));
    first.set_interface(Some(8));
    first.set_queue_mapping(9);
    first.set_mac_len(14);
    first.set_segmentation(Some(Segmentation { size: 50, count: 3, kind: 1 })).unwrap();
    first.set_hardware_timestamp(11).unwrap();
    first.set_transmit_flags(12).unwrap();
    *first.control_block_mut::<u32>() = 10;
    first.set_checksum_status(ChecksumStatus::Partial { start: 20, offset: 2 });
    let destination = first.destination();
    assert_eq!(destination.unwrap(), bytes(34, 1)[..6]);

    for other in [first.copy().unwrap(), first.copy_head().unwrap(), first.clone_buffer().unwrap()] {
        assert_eq!(content(&other), content(&first));
        assert_eq!(
            other.destination(),
            destination,
            "the header lies in the headroom, and that is copied too"
        );
        assert_eq!(other.network_header().unwrap()[..20], bytes(34, 1)[14..]);
        assert!(!other.transport_header_was_set());
        assert_eq!((other.protocol(), other.packet_type()), (0x0800, PacketType::Multicast));
        assert_eq!((other.priority(), other.mark(), other.vlan()), (3, 4, Some(5)));
        assert_eq!((other.hash(), other.timestamp(), other.interface()), (Some(6), Some(7), Some(8)));
        assert_eq!((other.queue_mapping(), other.mac_len(), other.control_block::<u32>()), (9, 14, &10));
        assert_eq!(other.checksum_status(), ChecksumStatus::Partial { start: 20, offset: 2 });
        assert_eq!(other.segmentation(), first.segmentation());
        assert_eq!(other.hardware_timestamp(), 11);
    }
}

#[test]
fn what_is_asked_of_a_device_holds_for_the_packet_and_its_clones_not_for_copies() {
    let mut first = NetBuf::alloc(&host::memory(), 64).unwrap();
    first.set_transmit_flags(12).unwrap();
    assert_eq!(first.copy().unwrap().transmit_flags(), 0);
    assert_eq!(first.copy_head().unwrap().transmit_flags(), 0);
    assert_eq!(first.clone_buffer().unwrap().transmit_flags(), 12);
}

#[test]
fn skb_copy_bits_reads_any_range_across_head_frags_and_frag_list() {
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[&bytes(7, 1), &bytes(5, 2)]);
    packet.append_to_frag_list(buffer(&memory, b"list", &[b"frag"])).unwrap();
    let whole = [b"head", &bytes(7, 1)[..], &bytes(5, 2), b"list", b"frag"].concat();
    for offset in 0..=whole.len() {
        for end in offset..=whole.len() {
            let mut target = vec![0; end - offset];
            packet.copy_bits(offset, &mut target).unwrap();
            assert_eq!(target, whole[offset..end]);
        }
    }
}

#[test]
fn skb_copy_bits_past_the_end_is_refused_and_copies_nothing() {
    let memory = host::memory();
    let packet = buffer(&memory, b"head", &[b"frag"]);
    let mut target = [9; 5];
    assert_eq!(packet.copy_bits(4, &mut target).unwrap_err(), Error::PastEnd { wanted: 9, available: 8 });
    assert!(packet.copy_bits(9, &mut []).is_err());
    assert!(packet.copy_bits(usize::MAX, &mut target).is_err());
    assert_eq!(target, [9; 5]);
}

#[test]
fn skb_store_bits_writes_any_range_across_head_and_frags() {
    let memory = host::memory();
    for offset in 0..=16 {
        for end in offset..=16 {
            let mut packet = buffer(&memory, b"head", &[&[1; 7], &[2; 5]]);
            let mut whole = content(&packet);
            packet.store_bits(offset, &bytes(end - offset, 77)).unwrap();
            whole[offset..end].copy_from_slice(&bytes(end - offset, 77));
            assert_eq!(content(&packet), whole);
        }
    }
}

#[test]
fn skb_store_bits_past_the_end_is_refused_and_writes_nothing() {
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[b"frag"]);
    let before = state(&packet);
    assert_eq!(packet.store_bits(4, b"12345").unwrap_err(), Error::PastEnd { wanted: 9, available: 8 });
    assert!(packet.store_bits(usize::MAX, b"12").is_err());
    assert_eq!(state(&packet), before);
}

#[test]
fn skb_store_bits_into_a_page_with_other_readers_is_refused_whole() {
    let memory = host::memory();
    let page = block(&memory, 0, 0, b"frag");
    let mut packet = NetBuf::alloc(&memory, 64).unwrap();
    packet.put(4).unwrap().copy_from_slice(b"head");
    packet.add_rx_frag(page.clone(), 0, 4, 4096).unwrap();
    assert_eq!(packet.store_bits(2, b"1234").unwrap_err(), Error::Shared);
    assert_eq!(content(&packet), b"headfrag", "not even the linear part was written");
    packet.store_bits(0, b"HEAD").unwrap(); // the head alone may be
    drop(page);
    packet.store_bits(2, b"1234").unwrap();
    assert_eq!(content(&packet), b"HE1234ag");
}

#[test]
fn copies_without_memory_are_refused_and_leak_nothing() {
    let pages = host::HostPages::new();
    let memory = netbuf::Memory::unowned(pages.clone()).unwrap();
    let page = block(&memory, 0, 0, &bytes(1000, 1));
    let mut packet = NetBuf::alloc(&memory, 64).unwrap();
    packet.put(4).unwrap().copy_from_slice(b"head");
    packet.add_rx_frag(page.clone(), 0, 1000, 4096).unwrap();
    let (before, statistics) = (state(&packet), memory.statistics());
    for object in 0..2 {
        pages.fail_object(object);
        assert!(packet.copy().is_err());
        pages.heal();
        pages.fail_object(object);
        assert!(packet.copy_head().is_err());
        pages.heal();
    }
    for work in [NetBuf::linearize as fn(&mut NetBuf) -> _, |packet| packet.may_pull(500)] {
        pages.fail_object(0);
        assert!(matches!(work(&mut packet), Err(Error::OutOfMemory(_))));
        pages.heal();
    }
    assert_eq!(state(&packet), before);
    assert_eq!(page.references(), 2);
    assert_eq!(memory.statistics().live_descriptors, statistics.live_descriptors);
    assert_eq!(memory.statistics().live_slab_objects, statistics.live_slab_objects);
}

#[test]
fn skb_header_pointer_is_in_place_where_it_can_be_and_copies_where_it_must() {
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[b"frag"]);
    packet.append_to_frag_list(buffer(&memory, b"list", &[])).unwrap();
    let copied = memory.statistics().copied_bytes;
    assert_eq!(packet.header_pointer(1, &mut [0; 3]).unwrap().as_ptr(), packet.data()[1..].as_ptr());
    assert_eq!(memory.statistics().copied_bytes, copied);
    assert_eq!(packet.header_pointer(2, &mut [0; 8]).unwrap(), b"adfragli");
    assert_eq!(packet.header_pointer(12, &mut []).unwrap(), b"");
    assert_eq!(
        packet.header_pointer(9, &mut [0; 4]).unwrap_err(),
        Error::PastEnd { wanted: 13, available: 12 }
    );
    assert!(packet.header_pointer(usize::MAX, &mut [0; 4]).is_err());
}
