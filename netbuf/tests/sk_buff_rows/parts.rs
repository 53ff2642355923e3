//! Section 1: the three parts of a buffer, and what holds at all times.

use netbuf::{MAX_FRAGS, NetBuf, host};

use crate::{block, buffer, bytes, content};

/// What `truesize` says beyond the linear area: descriptor and shared info.
const FIXED: usize = 192 + 312;

#[test]
fn descriptor_and_shared_info_are_no_larger_than_linux_has_them() {
    let buffer = NetBuf::alloc(&host::memory(), 64).unwrap();
    let fixed = buffer.truesize() - buffer.tailroom();
    assert_eq!(fixed, FIXED);
    assert!(fixed <= 232 + 320);
}

#[test]
fn alloc_rounds_the_linear_area_up_to_the_cache_line_and_leaves_it_all_as_tailroom() {
    let memory = host::memory();
    for size in [1, 63, 64, 65, 100, 1500, 1536, 9000, 65_536] {
        let buffer = NetBuf::alloc(&memory, size).unwrap();
        assert_eq!((buffer.len(), buffer.headroom()), (0, 0));
        assert_eq!(buffer.tailroom(), size.next_multiple_of(64), "size {size}");
        assert!(buffer.is_empty() && buffer.data().is_empty());
    }
}

#[test]
fn an_empty_linear_area_has_no_room_at_all() {
    let mut buffer = NetBuf::alloc(&host::memory(), 0).unwrap();
    assert_eq!((buffer.headroom(), buffer.tailroom()), (0, 0));
    assert!(buffer.put(1).is_err() && buffer.push(1).is_err() && buffer.pull(1).is_err());
}

#[test]
fn linear_area_is_headroom_data_and_tailroom() {
    let mut buffer = NetBuf::alloc(&host::memory(), 1536).unwrap();
    buffer.reserve(100).unwrap();
    buffer.put(700).unwrap();
    buffer.push(30).unwrap();
    buffer.pull(14).unwrap();
    buffer.trim(600).unwrap();
    assert_eq!((buffer.headroom(), buffer.head_len(), buffer.tailroom()), (84, 600, 852));
    assert_eq!(buffer.headroom() + buffer.head_len() + buffer.tailroom(), 1536);
}

#[test]
fn len_is_linear_part_plus_frags_plus_frag_list() {
    let memory = host::memory();
    let mut whole = buffer(&memory, &bytes(14, 1), &[&bytes(100, 2), &bytes(200, 3)]);
    whole.append_to_frag_list(buffer(&memory, &bytes(8, 4), &[&bytes(50, 5)])).unwrap();
    assert_eq!(whole.head_len(), 14);
    assert_eq!(whole.data_len(), 100 + 200 + 8 + 50);
    assert_eq!(whole.len(), whole.head_len() + whole.data_len());
}

#[test]
fn nonlinear_is_having_bytes_outside_the_head() {
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[b"frag"]);
    assert!(packet.is_nonlinear());
    packet.trim(4).unwrap();
    assert!(!packet.is_nonlinear());
    packet.append_to_frag_list(buffer(&memory, b"list", &[])).unwrap();
    assert!(packet.is_nonlinear());
}

#[test]
fn truesize_counts_what_each_kind_of_piece_holds() {
    let memory = host::memory();
    let mut buffer = NetBuf::alloc(&memory, 1000).unwrap();
    assert_eq!(buffer.truesize(), FIXED + 1024);
    buffer.put(1000).unwrap();
    assert_eq!(buffer.truesize(), FIXED + 1024, "bytes in use make no difference");

    // A frag counts as what it is said to pin: a page, a whole aggregate, or a rounded length.
    buffer.add_rx_frag(block(&memory, 0, 0, b"page"), 0, 4, 4096).unwrap();
    assert_eq!(buffer.truesize(), FIXED + 1024 + 4096);
    buffer.add_rx_frag(block(&memory, 2, 0, b"aggregate"), 0, 9, 16_384).unwrap();
    assert_eq!(buffer.truesize(), FIXED + 1024 + 4096 + 16_384);
    buffer.add_rx_frag(block(&memory, 0, 0, &[0; 100]), 0, 100, 128).unwrap();
    assert_eq!(buffer.truesize(), FIXED + 1024 + 4096 + 16_384 + 128);

    // A buffer on the frag list counts as itself.
    let mut next = NetBuf::alloc(&memory, 64).unwrap();
    next.put(4).unwrap();
    let (before, more) = (buffer.truesize(), next.truesize());
    buffer.append_to_frag_list(next).unwrap();
    assert_eq!(buffer.truesize(), before + more);
}

#[test]
fn truesize_of_a_received_buffer_includes_its_headroom() {
    let buffer = NetBuf::rx_alloc(&host::memory(), 128).unwrap();
    assert_eq!(buffer.truesize(), FIXED + 64 + 128);
}

#[test]
fn one_page_serves_any_number_of_frags_each_holding_one_reference() {
    let memory = host::memory();
    let page = block(&memory, 0, 0, &bytes(1000, 9));
    let packets: Vec<_> = (0..40)
        .map(|index| {
            let mut buffer = NetBuf::alloc(&memory, 64).unwrap();
            buffer.add_rx_frag(page.clone(), index, 20, 64).unwrap();
            buffer
        })
        .collect();
    assert_eq!(page.references(), 41);
    assert_eq!(content(&packets[3]), &bytes(1000, 9)[3..23]);
    drop(packets);
    assert_eq!(page.references(), 1);
}

#[test]
fn clones_share_linear_data_and_frags_together() {
    let memory = host::memory();
    let page = block(&memory, 0, 0, b"shared");
    let mut first = NetBuf::alloc(&memory, 64).unwrap();
    first.put(4).unwrap().copy_from_slice(b"head");
    first.add_rx_frag(page.clone(), 0, 6, 4096).unwrap();
    let second = first.clone_buffer().unwrap();
    assert_eq!(first.data().as_ptr(), second.data().as_ptr());
    assert_eq!(first.frag(0).unwrap().as_ptr(), second.frag(0).unwrap().as_ptr());
    assert_eq!(page.references(), 2, "the list of frags is shared: no reference more");
    assert_eq!(second.inspect().data_references, 2);
}

#[test]
fn seventeen_frags_hold_a_packet_of_64_kib_at_any_offset() {
    assert_eq!(MAX_FRAGS, 65_536 / 4096 + 1);
}
