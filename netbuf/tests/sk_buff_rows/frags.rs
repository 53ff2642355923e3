//! Section 2: frags of pages. Adding, reading, splitting, joining, gathering.

use netbuf::{Block, Error, MAX_FRAGS, NetBuf, Zone, host};

use crate::{block, buffer, bytes, content, state};

#[test]
fn skb_add_rx_frag_takes_over_one_page_reference() {
    let memory = host::memory();
    let page = block(&memory, 1, 5000, b"across the pages");
    let mut packet = NetBuf::alloc(&memory, 64).unwrap();
    let before = packet.truesize();
    packet.add_rx_frag(page.clone(), 5000, 16, 2048).unwrap();
    assert_eq!((packet.len(), packet.data_len(), packet.truesize()), (16, 16, before + 2048));
    assert_eq!(page.references(), 2);
    drop(packet);
    assert_eq!(page.references(), 1);
}

#[test]
fn skb_add_rx_frag_outside_the_block_is_refused_and_gives_the_reference_up() {
    let memory = host::memory();
    let page = block(&memory, 0, 0, b"");
    let mut packet = buffer(&memory, b"head", &[b"frag"]);
    let before = state(&packet);
    for (offset, len) in [(0, 4097), (4096, 1), (5000, 0), (usize::MAX, 2), (1, usize::MAX)] {
        let error = packet.add_rx_frag(page.clone(), offset, len, 4096).unwrap_err();
        assert!(matches!(error, Error::OutsideBlock { block_len: 4096, .. }), "{offset} {len}: {error}");
        assert_eq!(state(&packet), before);
        assert_eq!(page.references(), 1);
    }
}

#[test]
fn a_buffer_has_17_frags_at_most() {
    let memory = host::memory();
    let mut packet = NetBuf::alloc(&memory, 64).unwrap();
    for index in 0..17 {
        packet.add_rx_frag(block(&memory, 0, 0, &bytes(10, index)), 0, 10, 4096).unwrap();
    }
    assert_eq!(packet.frag_count(), MAX_FRAGS);
    let before = state(&packet);
    let page = block(&memory, 0, 0, b"one more");
    assert_eq!(packet.add_rx_frag(page.clone(), 0, 8, 4096).unwrap_err(), Error::TooManyFrags { frags: 17 });
    assert_eq!(state(&packet), before);
    assert_eq!(page.references(), 1);

    // A range that continues the last frag needs no place of its own.
    let (last, offset) = packet.frag_block(16).unwrap();
    packet.add_rx_frag(last, offset + 10, 8, 0).unwrap();
    assert_eq!((packet.frag_count(), packet.len()), (17, 178));
}

#[test]
fn a_frag_that_continues_the_last_one_needs_no_place_of_its_own() {
    let memory = host::memory();
    let page = block(&memory, 0, 0, &bytes(4096, 1));
    let mut packet = NetBuf::alloc(&memory, 64).unwrap();
    let before = packet.truesize();
    for offset in (0..4000).step_by(100) {
        packet.add_rx_frag(page.clone(), offset, 100, 128).unwrap();
    }
    assert_eq!((packet.frag_count(), packet.len()), (1, 4000));
    assert_eq!(packet.truesize(), before + 40 * 128);
    assert_eq!(page.references(), 2, "one frag, one reference");
    assert_eq!(content(&packet), bytes(4000, 1));
}

#[test]
fn kmap_skb_frag_is_the_identity() {
    let memory = host::memory();
    let page = block(&memory, 0, 50, b"mapped");
    let mut packet = NetBuf::alloc(&memory, 64).unwrap();
    packet.add_rx_frag(page.clone(), 50, 6, 4096).unwrap();
    let (one, two) = (packet.frag(0).unwrap(), packet.frag(0).unwrap()); // not one at a time
    assert_eq!(one.as_ptr(), page.bytes()[50..].as_ptr());
    assert_eq!((one, two), (&b"mapped"[..], &b"mapped"[..]));
    assert!(packet.frag(1).is_none() && packet.frag(usize::MAX).is_none());
}

#[test]
fn skb_linearize_pulls_all_frags_into_the_head() {
    let memory = host::memory();
    let (one, two) = (bytes(700, 1), bytes(900, 2));
    let mut packet = buffer(&memory, b"head", &[&one, &two]);
    let blocks = memory.statistics().live_blocks;
    packet.linearize().unwrap();
    assert_eq!((packet.head_len(), packet.data_len(), packet.frag_count()), (1604, 0, 0));
    assert_eq!(packet.data(), [b"head", &one[..], &two].concat());
    assert!(memory.statistics().live_blocks < blocks, "the pages went back");
    let before = state(&packet);
    packet.linearize().unwrap();
    assert_eq!(state(&packet), before);
}

#[test]
fn skb_linearize_of_a_clone_leaves_the_other_one_as_it_was() {
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[&bytes(700, 1)]);
    let clone = packet.clone_buffer().unwrap();
    let before = state(&clone);
    packet.linearize().unwrap();
    assert!(!packet.is_nonlinear() && packet.data_mut().is_ok());
    assert_eq!(state(&clone), before);
    assert_eq!(content(&packet), content(&clone));
}

#[test]
fn skb_split_at_every_byte_gives_the_two_halves() {
    let memory = host::memory();
    let (one, two) = (bytes(30, 1), bytes(20, 2));
    let whole = [b"head", &one[..], &two].concat();
    for offset in 0..=whole.len() {
        let mut first = buffer(&memory, b"head", &[&one, &two]);
        let second = first.split(offset).unwrap();
        assert_eq!(content(&first), whole[..offset]);
        assert_eq!(content(&second), whole[offset..]);
        let linear = offset.min(4);
        assert_eq!((first.head_len(), second.head_len()), (linear, 4 - linear), "linear bytes stay linear");
    }
    let mut packet = buffer(&memory, b"head", &[&one, &two]);
    let before = state(&packet);
    assert_eq!(packet.split(55).unwrap_err(), Error::PastEnd { wanted: 55, available: 54 });
    assert_eq!(state(&packet), before);
}

#[test]
fn skb_split_moves_frags_by_reference() {
    let memory = host::memory();
    let page = block(&memory, 0, 0, &bytes(1000, 1));
    let mut first = NetBuf::alloc(&memory, 64).unwrap();
    first.add_rx_frag(page.clone(), 0, 1000, 4096).unwrap();
    let copied = memory.statistics().copied_bytes;
    let second = first.split(600).unwrap();
    assert_eq!(memory.statistics().copied_bytes, copied);
    assert_eq!(page.references(), 3);
    assert_eq!(second.frag(0).unwrap().as_ptr(), page.bytes()[600..].as_ptr());
}

#[test]
fn skb_split_shares_truesize_so_that_both_account_for_what_they_hold() {
    let memory = host::memory();
    let fixed = NetBuf::alloc(&memory, 0).unwrap().truesize();
    let mut first = NetBuf::alloc(&memory, 0).unwrap();
    for (first_byte, truesize) in [(1, 4096), (2, 2048), (3, 1024)] {
        first.add_rx_frag(block(&memory, 0, 0, &bytes(100, first_byte)), 0, 100, truesize).unwrap();
    }
    let before = first.truesize();
    let second = first.split(100).unwrap();
    assert!(second.truesize() > fixed, "the moved frags count there");
    assert_eq!(first.truesize() - fixed + second.truesize() - fixed, before - fixed);
}

#[test]
fn skb_try_coalesce_copies_a_linear_packet_into_the_tailroom() {
    let memory = host::memory();
    let mut first = NetBuf::alloc(&memory, 64).unwrap();
    first.put(5).unwrap().copy_from_slice(b"head ");
    let before = first.truesize();
    first.try_coalesce(buffer(&memory, b"body", &[])).unwrap();
    assert_eq!((first.data(), first.truesize()), (&b"head body"[..], before));
    assert_eq!(memory.statistics().live_descriptors, 1);
}

#[test]
fn skb_try_coalesce_moves_frags() {
    let memory = host::memory();
    let (one, two) = (bytes(300, 1), bytes(200, 2));
    let mut first = buffer(&memory, b"head", &[&one]);
    let mut second = NetBuf::alloc(&memory, 64).unwrap();
    second.add_rx_frag(block(&memory, 0, 0, &two), 0, 200, 2048).unwrap();
    let (before, copied) = (first.truesize(), memory.statistics().copied_bytes);
    first.try_coalesce(second).unwrap();
    assert_eq!(memory.statistics().copied_bytes, copied);
    assert_eq!(first.truesize(), before + 2048);
    assert_eq!(content(&first), [b"head", &one[..], &two].concat());
    assert_eq!(memory.statistics().live_descriptors, 1);
}

#[test]
fn skb_try_coalesce_gives_back_what_does_not_fit() {
    let memory = host::memory();
    // A linear packet, and no tailroom.
    let mut full = NetBuf::alloc(&memory, 64).unwrap();
    full.put(64).unwrap().fill(1);
    let before = state(&full);
    let back = full.try_coalesce(buffer(&memory, b"body", &[])).unwrap_err();
    assert_eq!(content(&back), b"body");
    assert_eq!(state(&full), before);

    // Frags, and no place for them.
    let mut full = NetBuf::alloc(&memory, 64).unwrap();
    for index in 0..17 {
        full.add_rx_frag(block(&memory, 0, 0, &bytes(10, index)), 0, 10, 4096).unwrap();
    }
    let before = state(&full);
    let back = full.try_coalesce(buffer(&memory, b"", &[b"frag"])).unwrap_err();
    assert_eq!(content(&back), b"frag");
    assert_eq!(state(&full), before);

    // A head that a clone reads.
    let mut first = NetBuf::alloc(&memory, 64).unwrap();
    let clone = first.clone_buffer().unwrap();
    let back = first.try_coalesce(buffer(&memory, b"body", &[])).unwrap_err();
    assert_eq!((content(&back), clone.len()), (b"body".to_vec(), 0));
}

#[test]
fn skb_try_coalesce_of_a_clone_leaves_the_other_clone_whole() {
    let memory = host::memory();
    let mut second = buffer(&memory, b"", &[b"frag"]);
    let other = second.clone_buffer().unwrap();
    let mut first = buffer(&memory, b"head", &[]);
    let joined = first.try_coalesce(second);
    assert_eq!(content(&other), b"frag");
    if joined.is_ok() {
        assert_eq!(content(&first), b"headfrag");
    } else {
        assert_eq!(content(&first), b"head");
    }
}

#[test]
fn scatter_list_is_head_then_frags_by_bus_address() {
    let pages = host::HostPages::new();
    let memory = netbuf::Memory::new(pages.clone()).unwrap();
    let packet = buffer(&memory, b"head", &[&bytes(300, 1), &bytes(200, 2)]);
    let list: Vec<_> = packet.scatter_list().collect();
    assert_eq!(list.iter().map(|segment| segment.bytes.len()).collect::<Vec<_>>(), [4, 300, 200]);
    let mut gathered = Vec::new();
    for segment in &list {
        let mut bytes = vec![0; segment.bytes.len()];
        pages.read(segment.bus_address, &mut bytes).unwrap(); // as a device does
        assert_eq!(bytes, segment.bytes);
        gathered.extend(bytes);
    }
    assert_eq!(gathered, content(&packet));
    assert_eq!(packet.pieces().flatten().copied().collect::<Vec<_>>(), gathered);
}

#[test]
fn an_empty_linear_part_is_no_segment_for_a_device() {
    let memory = host::memory();
    let packet = buffer(&memory, b"", &[b"frag"]);
    assert!(packet.scatter_list().all(|segment| !segment.bytes.is_empty()));
    assert!(NetBuf::alloc(&memory, 64).unwrap().scatter_list().next().is_none());
}

#[test]
fn a_block_with_readers_is_not_handed_to_a_device_again() {
    let memory = host::memory();
    let page = block(&memory, 0, 0, b"read");
    let mut packet = NetBuf::alloc(&memory, 64).unwrap();
    packet.add_rx_frag(page.clone(), 0, 4, 4096).unwrap();
    let page = page.try_unshare().unwrap_err();
    drop(packet);
    let mut page: Block = page.try_unshare().unwrap();
    page.bytes_mut()[0] = 1;
    assert_eq!(page.zone(), Zone::Normal);
}

#[test]
fn skb_frag_ref_lets_another_buffer_carry_the_same_bytes() {
    let memory = host::memory();
    let received = buffer(&memory, b"head", &[&bytes(1000, 1)]);
    let (page, offset) = received.frag_block(0).unwrap();
    assert_eq!((offset, page.references()), (100, 2));
    assert!(received.frag_block(1).is_none());
    let mut sent = buffer(&memory, b"other", &[]);
    let copied = memory.statistics().copied_bytes;
    sent.add_rx_frag(page.clone(), offset, 1000, 4096).unwrap();
    assert_eq!(memory.statistics().copied_bytes, copied);
    drop(received);
    assert_eq!(page.references(), 2);
    assert_eq!(sent.frag(0).unwrap(), bytes(1000, 1));
}

#[test]
fn a_frag_may_come_from_another_memory_and_outlive_its_handles() {
    let pages = host::HostPages::new();
    let other = netbuf::Memory::new(pages.clone()).unwrap();
    let memory = host::memory();
    let mut packet = NetBuf::alloc(&memory, 64).unwrap();
    packet.add_rx_frag(block(&other, 0, 0, b"foreign"), 0, 7, 4096).unwrap();
    let copy = packet.copy_head().unwrap();
    drop(other);
    assert_eq!((content(&packet), content(&copy)), (b"foreign".to_vec(), b"foreign".to_vec()));
    drop((packet, copy));
    assert_eq!(pages.live_blocks(), 0);
}
