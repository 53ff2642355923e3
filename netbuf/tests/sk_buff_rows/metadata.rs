//! Section 2: what the layers note about a packet, and their 48 private bytes.

use netbuf::{CONTROL_BLOCK_SIZE, NetBuf, PacketType, Segmentation, Shared, host};

#[test]
fn control_block_is_48_bytes_of_zeros_at_first() {
    assert_eq!(CONTROL_BLOCK_SIZE, 48);
    let memory = host::memory();
    let mut buffer = NetBuf::alloc(&memory, 64).unwrap();
    assert_eq!(buffer.control_block::<[u8; 48]>(), &[0; 48]);
    *buffer.control_block_mut::<[u8; 48]>() = [0xa5; 48];
    drop(buffer);
    // A descriptor that is used again begins anew.
    for _ in 0..3 {
        assert_eq!(NetBuf::alloc(&memory, 64).unwrap().control_block::<[u8; 48]>(), &[0; 48]);
    }
}

#[test]
fn control_block_is_seen_as_the_type_of_whoever_owns_the_buffer() {
    let mut buffer = NetBuf::alloc(&host::memory(), 64).unwrap();
    *buffer.control_block_mut::<[u64; 6]>() = [1, 2, 3, 4, 5, 6];
    assert_eq!(buffer.control_block::<[u64; 6]>()[5], 6);
    *buffer.control_block_mut::<u32>() = 0xffff_ffff; // the next layer has its own idea of the bytes
    assert_eq!(buffer.control_block::<[u64; 6]>()[..2], [0xffff_ffff, 2]);
}

#[test]
fn a_new_buffer_knows_nothing_of_the_packet() {
    let memory = host::memory();
    let mut used = NetBuf::alloc(&memory, 64).unwrap();
    used.set_protocol(1);
    used.set_vlan(Some(2));
    used.set_hash(Some(3));
    used.set_interface(Some(4));
    used.set_peeked(true);
    used.set_payload_only(true);
    used.reset_mac_header();
    used.set_transmit_flags(5).unwrap();
    drop(used);
    let buffer = NetBuf::alloc(&memory, 64).unwrap();
    assert_eq!((buffer.protocol(), buffer.packet_type()), (0, PacketType::Host));
    assert_eq!((buffer.priority(), buffer.mark(), buffer.queue_mapping()), (0, 0, 0));
    assert_eq!(
        (buffer.vlan(), buffer.hash(), buffer.timestamp(), buffer.interface()),
        (None, None, None, None)
    );
    assert_eq!((buffer.mac_len(), buffer.header_len()), (0, 0));
    assert!(!buffer.is_peeked() && !buffer.is_payload_only() && !buffer.mac_header_was_set());
    assert_eq!((buffer.transmit_flags(), buffer.hardware_timestamp(), buffer.segmentation()), (0, 0, None));
}

#[test]
fn each_field_keeps_its_extremes_and_disturbs_no_other() {
    let mut buffer = NetBuf::alloc(&host::memory(), 64).unwrap();
    buffer.set_protocol(u16::MAX);
    buffer.set_priority(u32::MAX);
    buffer.set_mark(u32::MAX - 1);
    buffer.set_queue_mapping(u16::MAX - 1);
    buffer.set_mac_len(u16::MAX - 2);
    buffer.set_header_len(u16::MAX - 3);
    buffer.set_vlan(Some(u16::MAX));
    buffer.set_hash(Some(u32::MAX));
    buffer.set_timestamp(Some(u64::MAX - 1));
    buffer.set_interface(Some(u32::MAX));
    buffer.set_peeked(true);
    assert_eq!((buffer.protocol(), buffer.priority(), buffer.mark()), (u16::MAX, u32::MAX, u32::MAX - 1));
    assert_eq!(buffer.queue_mapping(), u16::MAX - 1);
    assert_eq!((buffer.mac_len(), buffer.header_len()), (u16::MAX - 2, u16::MAX - 3));
    assert_eq!((buffer.vlan(), buffer.hash()), (Some(u16::MAX), Some(u32::MAX)));
    assert_eq!((buffer.timestamp(), buffer.interface()), (Some(u64::MAX - 1), Some(u32::MAX)));
    assert!(buffer.is_peeked() && !buffer.is_payload_only());
    buffer.set_peeked(false);
    buffer.set_payload_only(true);
    assert!(!buffer.is_peeked() && buffer.is_payload_only());
}

#[test]
fn absent_is_not_zero() {
    let mut buffer = NetBuf::alloc(&host::memory(), 64).unwrap();
    buffer.set_vlan(Some(0));
    buffer.set_hash(Some(0));
    buffer.set_timestamp(Some(0));
    buffer.set_interface(Some(0));
    assert_eq!((buffer.vlan(), buffer.hash()), (Some(0), Some(0)));
    assert_eq!((buffer.timestamp(), buffer.interface()), (Some(0), Some(0)));
    buffer.set_vlan(None);
    buffer.set_hash(None);
    buffer.set_timestamp(None);
    buffer.set_interface(None);
    assert_eq!((buffer.vlan(), buffer.hash()), (None, None));
    assert_eq!((buffer.timestamp(), buffer.interface()), (None, None));
}

#[test]
fn a_packet_is_for_one_of_five() {
    let mut buffer = NetBuf::alloc(&host::memory(), 64).unwrap();
    for packet_type in [
        PacketType::Broadcast,
        PacketType::Multicast,
        PacketType::OtherHost,
        PacketType::Outgoing,
        PacketType::Host,
    ] {
        buffer.set_packet_type(packet_type);
        assert_eq!(buffer.packet_type(), packet_type);
    }
}

#[test]
fn what_lies_in_the_shared_info_is_shared_with_clones_and_then_read_only() {
    let mut first = NetBuf::alloc(&host::memory(), 64).unwrap();
    let segmentation = Segmentation { size: 1460, count: 3, kind: 1 };
    first.set_segmentation(Some(segmentation)).unwrap();
    first.set_hardware_timestamp(5).unwrap();
    let mut second = first.clone_buffer().unwrap();
    assert_eq!((second.segmentation(), second.hardware_timestamp()), (Some(segmentation), 5));
    assert_eq!(second.set_segmentation(None), Err(Shared));
    assert_eq!(second.set_hardware_timestamp(6), Err(Shared));
    assert_eq!(first.set_transmit_flags(1), Err(Shared));
    second.unshare().unwrap();
    second.set_segmentation(Some(Segmentation { size: 0, ..segmentation })).unwrap();
    assert_eq!((first.segmentation(), second.segmentation()), (Some(segmentation), None));
}
