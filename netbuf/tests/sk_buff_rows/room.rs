//! Section 2: room at both ends. Each refusal changes nothing.

use netbuf::{Error, IP_ALIGN, NetBuf, host};

use crate::{buffer, bytes, content, state};

#[test]
fn skb_put_moves_the_tail_and_returns_the_new_bytes() {
    let mut buffer = NetBuf::alloc(&host::memory(), 128).unwrap();
    assert_eq!(buffer.put(100).unwrap().len(), 100);
    let new = buffer.put(28).unwrap();
    assert_eq!(new.len(), 28);
    new.fill(7);
    assert_eq!((buffer.len(), buffer.tailroom()), (128, 0));
    assert_eq!(buffer.data()[100..], [7; 28]);
}

#[test]
fn skb_put_beyond_the_tailroom_is_refused() {
    let mut buffer = NetBuf::alloc(&host::memory(), 128).unwrap();
    buffer.put(100).unwrap().copy_from_slice(&bytes(100, 1));
    let before = state(&buffer);
    assert_eq!(buffer.put(29).unwrap_err(), Error::Tailroom { wanted: 29, available: 28 });
    assert_eq!(buffer.put(usize::MAX).unwrap_err(), Error::Tailroom { wanted: usize::MAX, available: 28 });
    assert_eq!(state(&buffer), before);
}

#[test]
fn skb_put_is_for_linear_buffers_only() {
    let memory = host::memory();
    let mut nonlinear = buffer(&memory, b"head", &[b"frag"]);
    let before = state(&nonlinear);
    assert_eq!(nonlinear.put(1).unwrap_err(), Error::NonLinear { data_len: 4 });
    assert_eq!(state(&nonlinear), before);
}

#[test]
fn skb_push_uses_headroom_and_returns_the_new_front() {
    let mut buffer = NetBuf::alloc(&host::memory(), 128).unwrap();
    buffer.reserve(20).unwrap();
    buffer.put(4).unwrap().copy_from_slice(b"body");
    let new = buffer.push(20).unwrap();
    assert_eq!(new.len(), 20);
    new.fill(b'h');
    assert_eq!((buffer.len(), buffer.headroom()), (24, 0));
    assert_eq!(buffer.data(), b"hhhhhhhhhhhhhhhhhhhhbody");
}

#[test]
fn skb_push_beyond_the_headroom_is_refused() {
    let mut buffer = NetBuf::alloc(&host::memory(), 128).unwrap();
    buffer.reserve(20).unwrap();
    buffer.put(4).unwrap();
    let before = state(&buffer);
    assert_eq!(buffer.push(21).unwrap_err(), Error::Headroom { wanted: 21, available: 20 });
    assert_eq!(buffer.push(usize::MAX).unwrap_err(), Error::Headroom { wanted: usize::MAX, available: 20 });
    assert_eq!(state(&buffer), before);
}

#[test]
fn skb_push_works_in_front_of_frags() {
    let memory = host::memory();
    let mut nonlinear = buffer(&memory, b"head", &[b"frag"]);
    nonlinear.push(2).unwrap().copy_from_slice(b"a ");
    assert_eq!(content(&nonlinear), b"a headfrag");
}

#[test]
fn skb_pull_turns_data_into_headroom() {
    let mut buffer = NetBuf::alloc(&host::memory(), 64).unwrap();
    buffer.put(9).unwrap().copy_from_slice(b"head body");
    assert_eq!(buffer.pull(5).unwrap(), b"body");
    assert_eq!((buffer.len(), buffer.headroom()), (4, 5));
    assert_eq!(buffer.pull(4).unwrap(), b"");
    assert!(buffer.is_empty());
}

#[test]
fn skb_pull_of_more_than_there_is_is_refused() {
    let mut buffer = NetBuf::alloc(&host::memory(), 64).unwrap();
    buffer.put(9).unwrap().copy_from_slice(b"head body");
    let before = state(&buffer);
    assert_eq!(buffer.pull(10).unwrap_err(), Error::PastEnd { wanted: 10, available: 9 });
    assert_eq!(buffer.pull(usize::MAX).unwrap_err(), Error::PastEnd { wanted: usize::MAX, available: 9 });
    assert_eq!(state(&buffer), before);
}

#[test]
fn skb_pull_of_bytes_in_frags_is_refused_until_pskb_may_pull_made_them_linear() {
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[b"frag"]);
    let before = state(&packet);
    assert_eq!(packet.pull(6).unwrap_err(), Error::PastEnd { wanted: 6, available: 4 });
    assert_eq!(state(&packet), before);
    packet.may_pull(6).unwrap();
    assert_eq!((packet.data(), packet.data_len()), (&b"headfr"[..], 2));
    packet.pull(6).unwrap();
    assert_eq!(content(&packet), b"ag");
}

#[test]
fn pskb_may_pull_of_what_is_linear_already_moves_nothing() {
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[b"frag"]);
    let (before, copied) = (state(&packet), memory.statistics().copied_bytes);
    packet.may_pull(0).unwrap();
    packet.may_pull(4).unwrap();
    assert_eq!(memory.statistics().copied_bytes, copied);
    assert_eq!(state(&packet), before);
}

#[test]
fn pskb_may_pull_past_the_end_of_the_packet_is_refused() {
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[b"frag"]);
    let before = state(&packet);
    assert_eq!(packet.may_pull(9).unwrap_err(), Error::PastEnd { wanted: 9, available: 8 });
    assert_eq!(packet.pull_anywhere(9).unwrap_err(), Error::PastEnd { wanted: 9, available: 8 });
    assert!(packet.may_pull(usize::MAX).is_err() && packet.pull_anywhere(usize::MAX).is_err());
    assert_eq!(state(&packet), before);
}

#[test]
fn pskb_may_pull_takes_bytes_across_several_frags_and_drops_the_empty_ones() {
    let memory = host::memory();
    let (one, two, three) = (bytes(300, 1), bytes(300, 2), bytes(300, 3));
    let mut packet = buffer(&memory, b"head", &[&one, &two, &three]);
    let whole = content(&packet);
    packet.may_pull(4 + 300 + 300 + 1).unwrap();
    assert_eq!((packet.head_len(), packet.frag_count(), packet.data_len()), (605, 1, 299));
    assert_eq!(packet.frag(0).unwrap(), &three[1..]);
    assert_eq!(content(&packet), whole);
}

#[test]
fn pskb_pull_takes_off_bytes_wherever_they_are() {
    let memory = host::memory();
    let (one, two) = (bytes(300, 1), bytes(300, 2));
    let mut packet = buffer(&memory, b"head", &[&one, &two]);
    packet.pull_anywhere(404).unwrap();
    assert_eq!(content(&packet), &two[100..]);
}

#[test]
fn skb_trim_cuts_the_linear_part() {
    let mut buffer = NetBuf::alloc(&host::memory(), 64).unwrap();
    buffer.put(9).unwrap().copy_from_slice(b"head body");
    buffer.trim(4).unwrap();
    assert_eq!((buffer.data(), buffer.tailroom()), (&b"head"[..], 60));
}

#[test]
fn skb_trim_to_more_than_there_is_does_nothing() {
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[b"frag"]);
    let before = state(&packet);
    for count in [8, 9, usize::MAX] {
        packet.trim(count).unwrap();
    }
    assert_eq!(state(&packet), before);
}

#[test]
fn pskb_trim_shortens_the_frag_it_cuts_and_drops_those_behind() {
    let memory = host::memory();
    let (one, two, three) = (bytes(100, 1), bytes(100, 2), bytes(100, 3));
    let whole = [b"head", &one[..], &two, &three].concat();
    for count in [304, 303, 204, 203, 154, 105, 104, 103, 5, 4, 3, 0] {
        let blocks = memory.statistics().live_blocks;
        let mut packet = buffer(&memory, b"head", &[&one, &two, &three]);
        let pages = memory.statistics().live_blocks - blocks;
        packet.trim(count).unwrap();
        let kept = count.saturating_sub(4).div_ceil(100);
        assert_eq!((packet.len(), packet.head_len(), packet.frag_count()), (count, count.min(4), kept));
        assert_eq!(content(&packet), whole[..count]);
        let now = memory.statistics().live_blocks - blocks;
        assert_eq!(pages - now, 3 - kept, "trim to {count}: a dropped frag gives its page back");
    }
}

#[test]
fn pskb_trim_of_a_clone_leaves_the_other_one_whole() {
    let memory = host::memory();
    let (one, two) = (bytes(100, 1), bytes(100, 2));
    let mut packet = buffer(&memory, b"head", &[&one, &two]);
    let before = state(&packet);
    for count in [203, 150, 104, 50, 4, 2] {
        let mut clone = packet.clone_buffer().unwrap();
        clone.trim(count).unwrap();
        assert_eq!(content(&clone), [b"head", &one[..], &two].concat()[..count]);
        assert_eq!(state(&packet), before);
    }
}

#[test]
fn skb_reserve_opens_headroom() {
    let mut buffer = NetBuf::alloc(&host::memory(), 128).unwrap();
    buffer.reserve(100).unwrap();
    buffer.reserve(28).unwrap();
    assert_eq!((buffer.headroom(), buffer.tailroom(), buffer.len()), (128, 0, 0));
}

#[test]
fn skb_reserve_is_for_empty_buffers_and_within_the_tailroom() {
    let memory = host::memory();
    let mut linear = NetBuf::alloc(&memory, 128).unwrap();
    let before = state(&linear);
    assert_eq!(linear.reserve(129).unwrap_err(), Error::Tailroom { wanted: 129, available: 128 });
    assert_eq!(
        linear.reserve(usize::MAX).unwrap_err(),
        Error::Tailroom { wanted: usize::MAX, available: 128 }
    );
    assert_eq!(state(&linear), before);
    linear.put(1).unwrap();
    let before = state(&linear);
    assert_eq!(linear.reserve(1).unwrap_err(), Error::NotEmpty { len: 1 });
    assert_eq!(state(&linear), before);

    let mut nonlinear = buffer(&memory, b"", &[b"frag"]);
    assert_eq!(nonlinear.reserve(1).unwrap_err(), Error::NotEmpty { len: 4 });
}

#[test]
fn two_bytes_of_headroom_align_the_ip_header_behind_an_ethernet_header() {
    assert_eq!(IP_ALIGN, 2);
    let mut buffer = NetBuf::rx_alloc(&host::memory(), 1536).unwrap();
    buffer.reserve(IP_ALIGN).unwrap();
    buffer.put(34).unwrap();
    buffer.pull(14).unwrap();
    assert_eq!(buffer.data().as_ptr() as usize % 16, 0);
}

#[test]
fn skb_tailroom_of_a_nonlinear_buffer_is_zero() {
    let memory = host::memory();
    let mut packet = NetBuf::alloc(&memory, 128).unwrap();
    packet.put(8).unwrap();
    assert_eq!(packet.tailroom(), 120);
    packet.add_rx_frag(crate::block(&memory, 0, 0, b"frag"), 0, 4, 4096).unwrap();
    assert_eq!(packet.tailroom(), 0);
    packet.trim(8).unwrap();
    assert_eq!(packet.tailroom(), 120);
}

#[test]
fn unchecked_twins_do_what_the_checked_ones_do() {
    let memory = host::memory();
    let mut checked = NetBuf::alloc(&memory, 128).unwrap();
    let mut unchecked = NetBuf::alloc(&memory, 128).unwrap();
    checked.reserve(20).unwrap();
    // SAFETY: the buffer is new and has 128 bytes.
    unsafe { unchecked.reserve_unchecked(20) };
    checked.put(50).unwrap().copy_from_slice(&bytes(50, 1));
    // SAFETY: 108 bytes of tailroom, linear, not cloned.
    unsafe { unchecked.put_unchecked(50) }.copy_from_slice(&bytes(50, 1));
    checked.push(10).unwrap().copy_from_slice(&bytes(10, 2));
    // SAFETY: 20 bytes of headroom, not cloned.
    unsafe { unchecked.push_unchecked(10) }.copy_from_slice(&bytes(10, 2));
    checked.pull(7).unwrap();
    // SAFETY: 60 linear bytes.
    unsafe { unchecked.pull_unchecked(7) };
    checked.trim(33).unwrap();
    // SAFETY: 53 bytes, linear.
    unsafe { unchecked.trim_unchecked(33) };
    assert_eq!(state(&checked), state(&unchecked));
}

#[test]
fn a_device_fills_the_tailroom_and_its_length_is_checked() {
    let pages = host::HostPages::new();
    let memory = netbuf::Memory::new(pages.clone()).unwrap();
    let mut buffer = NetBuf::rx_alloc(&memory, 128).unwrap();
    let address = buffer.receive_space().unwrap().bus_address;
    pages.write(address, b"from the device").unwrap();
    assert!(buffer.put_received(129).is_err());
    buffer.put_received(15).unwrap();
    assert_eq!(buffer.data(), b"from the device");
    assert_eq!(buffer.receive_space().unwrap().bus_address, address + 15);
    let _clone = buffer.clone_buffer().unwrap();
    assert!(buffer.receive_space().is_none());
}

#[test]
fn a_device_gets_no_room_that_is_not_there_or_not_ours() {
    let memory = host::memory();
    let mut full = NetBuf::alloc(&memory, 64).unwrap();
    full.put(64).unwrap();
    assert!(full.receive_space().is_none());
    let mut nonlinear = buffer(&memory, b"head", &[b"frag"]);
    assert!(nonlinear.receive_space().is_none());
    assert_eq!(nonlinear.put_received(1).unwrap_err(), Error::NonLinear { data_len: 4 });
}
