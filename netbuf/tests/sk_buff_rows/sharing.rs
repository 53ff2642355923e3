//! Section 2: clones, and ways to a private, writable head.

use netbuf::{Error, NetBuf, Shared, host};

use crate::{block, buffer, bytes, content, state};

#[test]
fn skb_clone_marks_both_and_makes_the_data_read_only() {
    let memory = host::memory();
    let mut first = buffer(&memory, b"head", &[]);
    let mut second = first.clone_buffer().unwrap();
    assert!(first.is_cloned() && second.is_cloned());
    for buffer in [&mut first, &mut second] {
        let before = state(buffer);
        assert_eq!(buffer.data_mut(), Err(Shared));
        assert_eq!(buffer.put(1).unwrap_err(), Error::Shared);
        assert_eq!(buffer.push(1).unwrap_err(), Error::Shared);
        assert_eq!(buffer.store_bits(0, b"x").unwrap_err(), Error::Shared);
        assert_eq!(buffer.put_received(1).unwrap_err(), Error::Shared);
        assert_eq!(buffer.complete_checksum(), Ok(()), "there is none to complete");
        assert_eq!(state(buffer), before);
    }
    drop(first);
    assert!(!second.is_cloned());
    second.data_mut().unwrap()[0] = b'H';
    assert_eq!(second.data(), b"Head");
}

#[test]
fn the_last_of_several_clones_may_write_again() {
    let memory = host::memory();
    for alloc in [NetBuf::alloc, NetBuf::alloc_fclone] {
        let mut first = alloc(&memory, 64).unwrap();
        first.put(4).unwrap().copy_from_slice(b"data");
        let mut second = first.clone_buffer().unwrap();
        let mut third = second.clone_buffer().unwrap();
        drop(first);
        assert_eq!(second.data_mut(), Err(Shared));
        drop(second);
        third.data_mut().unwrap()[0] = b'D';
        assert_eq!(third.data(), b"Data");
    }
}

#[test]
fn skb_clone_of_a_head_with_frags_refuses_frags_too() {
    let memory = host::memory();
    let mut first = buffer(&memory, b"head", &[b"frag"]);
    let second = first.clone_buffer().unwrap();
    let page = block(&memory, 0, 0, b"more");
    assert_eq!(first.add_rx_frag(page.clone(), 0, 4, 4096).unwrap_err(), Error::Shared);
    assert_eq!(first.append_to_frag_list(buffer(&memory, b"more", &[])).unwrap_err(), Error::Shared);
    assert_eq!((page.references(), content(&second)), (1, b"headfrag".to_vec()));
}

#[test]
fn skb_clone_has_lengths_and_offsets_of_its_own() {
    let memory = host::memory();
    let mut first = buffer(&memory, b"head", &[b"frag"]);
    first.reset_mac_header();
    let mut second = first.clone_buffer().unwrap();
    assert_eq!(state(&first), state(&second));
    second.pull(2).unwrap();
    second.reset_mac_header();
    assert_eq!((first.len(), second.len()), (8, 6));
    assert_eq!((first.mac_header(), second.mac_header()), (Some(&b"head"[..]), Some(&b"ad"[..])));
}

#[test]
fn skb_clone_begins_with_the_same_control_block_and_then_has_its_own() {
    let memory = host::memory();
    let mut first = NetBuf::alloc(&memory, 64).unwrap();
    *first.control_block_mut::<u64>() = 7;
    let mut second = first.clone_buffer().unwrap();
    assert_eq!(second.control_block::<u64>(), &7);
    *second.control_block_mut::<u64>() = 8;
    assert_eq!((first.control_block::<u64>(), second.control_block::<u64>()), (&7, &8));
}

#[test]
fn skb_clone_without_memory_is_refused_and_the_buffer_stays_writable() {
    let pages = host::HostPages::new();
    let memory = netbuf::Memory::unowned(pages.clone()).unwrap();
    let mut buffer = buffer(&memory, b"head", &[b"frag"]);
    let before = state(&buffer);
    pages.fail_object(0);
    assert!(buffer.clone_buffer().is_err());
    assert_eq!(state(&buffer), before);
    assert!(!buffer.is_cloned() && buffer.data_mut().is_ok());
}

#[test]
fn pskb_expand_head_adds_room_at_both_ends_and_moves_nothing_else() {
    let memory = host::memory();
    let page = block(&memory, 0, 0, b"frag");
    let mut packet = NetBuf::alloc(&memory, 64).unwrap();
    packet.reserve(10).unwrap();
    packet.put(4).unwrap().copy_from_slice(b"head");
    let tailroom = packet.tailroom();
    packet.expand_head(100, 200).unwrap();
    assert_eq!(packet.headroom(), 110);
    assert!(packet.tailroom() >= tailroom + 200);
    assert_eq!(packet.data(), b"head");

    packet.add_rx_frag(page.clone(), 0, 4, 4096).unwrap();
    let before = packet.truesize();
    packet.expand_head(64, 0).unwrap();
    assert_eq!(packet.truesize(), before + 64);
    assert_eq!(content(&packet), b"headfrag");
    assert_eq!(page.references(), 2);
}

#[test]
fn pskb_expand_head_of_a_clone_makes_a_private_head_on_shared_frags() {
    let memory = host::memory();
    let page = block(&memory, 0, 0, b"frag");
    let mut first = NetBuf::alloc(&memory, 64).unwrap();
    first.put(4).unwrap().copy_from_slice(b"head");
    first.add_rx_frag(page.clone(), 0, 4, 4096).unwrap();
    let mut second = first.clone_buffer().unwrap();
    second.expand_head(0, 0).unwrap();
    assert!(!first.is_cloned() && !second.is_cloned());
    assert_eq!(page.references(), 3);
    second.data_mut().unwrap().copy_from_slice(b"HEAD");
    assert_eq!((content(&first), content(&second)), (b"headfrag".to_vec(), b"HEADfrag".to_vec()));
}

#[test]
fn pskb_expand_head_by_too_much_is_out_of_memory() {
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[b"frag"]);
    let before = state(&packet);
    for (headroom, tailroom) in [(usize::MAX, 0), (0, usize::MAX), (usize::MAX / 2, usize::MAX / 2 + 2)] {
        assert!(packet.expand_head(headroom, tailroom).is_err());
        assert!(packet.cow(headroom.max(1 << 40)).is_err());
    }
    assert_eq!(state(&packet), before);
}

#[test]
fn skb_cow_copies_only_for_want_of_room_or_privacy() {
    let memory = host::memory();
    let mut first = buffer(&memory, b"head", &[b"frag"]);
    let copied = memory.statistics().copied_bytes;
    first.cow(64).unwrap();
    assert_eq!(memory.statistics().copied_bytes, copied, "it has 64 bytes of headroom, all its own");
    first.cow(65).unwrap();
    assert!(first.headroom() >= 65);
    assert!(memory.statistics().copied_bytes > copied);

    let second = first.clone_buffer().unwrap();
    first.cow(0).unwrap();
    first.data_mut().unwrap()[0] = b'H';
    assert_eq!((content(&first), content(&second)), (b"Headfrag".to_vec(), b"headfrag".to_vec()));
}

#[test]
fn skb_cow_for_more_than_there_can_be_is_out_of_memory() {
    // Without any headroom, so that all of what is asked for is missing.
    let mut first = NetBuf::alloc(&host::memory(), 64).unwrap();
    let second = first.clone_buffer().unwrap();
    for headroom in [(1 << 24) + 1, usize::MAX - 63, usize::MAX] {
        let before = state(&first);
        assert!(first.cow(headroom).is_err(), "{headroom}");
        assert_eq!((state(&first), first.is_cloned()), (before, true));
    }
    drop(second);
}

#[test]
fn skb_unshare_copies_the_head_of_a_clone_only() {
    let memory = host::memory();
    let mut first = buffer(&memory, b"head", &[&bytes(1000, 1)]);
    let (before, copied) = (state(&first), memory.statistics().copied_bytes);
    first.unshare().unwrap();
    assert_eq!(memory.statistics().copied_bytes, copied);
    let second = first.clone_buffer().unwrap();
    first.unshare().unwrap();
    assert_eq!(memory.statistics().copied_bytes - copied, 4, "the linear part, not the payload");
    assert_eq!(state(&first), before);
    assert!(!first.is_cloned() && !second.is_cloned());
}

#[test]
fn skb_share_check_gives_the_only_user_the_buffer_and_others_a_clone() {
    let memory = host::memory();
    let shared = buffer(&memory, b"head", &[]).share();
    let tap = shared.clone();
    assert_eq!((shared.users(), tap.data()), (2, &b"head"[..]));
    let mut clone = shared.share_check().unwrap();
    assert!(clone.is_cloned());
    assert_eq!((tap.users(), memory.statistics().live_descriptors), (1, 2));
    clone.pull(2).unwrap();
    assert_eq!(tap.len(), 4);
    drop(clone);
    let own = tap.share_check().unwrap();
    assert!(!own.is_cloned());
    assert_eq!(memory.statistics().live_descriptors, 1);
}

#[test]
fn skb_share_check_without_memory_drops_the_handle_and_leaves_the_others() {
    let pages = host::HostPages::new();
    let memory = netbuf::Memory::unowned(pages.clone()).unwrap();
    let tap = buffer(&memory, b"head", &[]).share();
    pages.fail_object(0);
    assert!(tap.clone().share_check().is_err());
    assert_eq!((tap.users(), tap.is_cloned(), tap.data()), (1, false, &b"head"[..]));
}

#[test]
fn skb_ensure_writable_makes_the_first_bytes_linear_and_private() {
    let memory = host::memory();
    let mut first = buffer(&memory, b"head", &[b"frag"]);
    let second = first.clone_buffer().unwrap();
    first.make_writable(6).unwrap();
    first.data_mut().unwrap()[..6].copy_from_slice(b"HEADFR");
    assert_eq!((content(&first), content(&second)), (b"HEADFRag".to_vec(), b"headfrag".to_vec()));
    assert_eq!(first.make_writable(9).unwrap_err(), Error::PastEnd { wanted: 9, available: 8 });

    let mut alone = buffer(&memory, b"head", &[b"frag"]);
    let copied = memory.statistics().copied_bytes;
    alone.make_writable(4).unwrap();
    assert_eq!(memory.statistics().copied_bytes, copied);
}
