//! Section 1 and 2: a packet that continues in other buffers.

use netbuf::{Error, NetBuf, host};

use crate::{block, buffer, bytes, content, state};

/// A packet in three buffers.
fn joined(memory: &netbuf::Memory) -> NetBuf {
    let mut first = buffer(memory, &bytes(21, 1), &[&bytes(33, 2)]);
    first.append_to_frag_list(buffer(memory, &bytes(11, 3), &[&bytes(100, 4)])).unwrap();
    first.append_to_frag_list(buffer(memory, &bytes(7, 5), &[])).unwrap();
    first
}

/// Its bytes.
fn whole() -> Vec<u8> {
    [bytes(21, 1), bytes(33, 2), bytes(11, 3), bytes(100, 4), bytes(7, 5)].concat()
}

#[test]
fn frag_list_counts_in_len_and_is_read_in_order() {
    let packet = joined(&host::memory());
    assert!(packet.has_frag_list());
    assert_eq!((packet.len(), packet.data_len(), packet.frag_count()), (172, 151, 1));
    assert_eq!(content(&packet), whole());
    assert_eq!(packet.pieces().flatten().copied().collect::<Vec<_>>(), whole());
    assert_eq!(packet.scatter_list().map(|segment| segment.bytes.len()).sum::<usize>(), 172);
}

#[test]
fn frag_list_is_linearized_and_its_buffers_freed() {
    let memory = host::memory();
    let mut packet = joined(&memory);
    assert_eq!(memory.statistics().live_descriptors, 3);
    packet.linearize().unwrap();
    assert_eq!((packet.data(), packet.has_frag_list()), (&whole()[..], false));
    assert_eq!(memory.statistics().live_descriptors, 1);
}

#[test]
fn frag_list_is_pulled_into_the_head_byte_by_byte() {
    let memory = host::memory();
    for count in 0..=172 {
        let mut packet = joined(&memory);
        packet.may_pull(count).unwrap();
        assert!(packet.head_len() >= count);
        assert_eq!(content(&packet), whole(), "may_pull {count}");
        packet.pull_anywhere(count).unwrap();
        assert_eq!(content(&packet), whole()[count..], "pull {count}");
    }
}

#[test]
fn frag_list_is_trimmed_at_any_byte_and_what_is_cut_off_freed() {
    let memory = host::memory();
    for count in (0..=172).rev() {
        let mut packet = joined(&memory);
        packet.trim(count).unwrap();
        assert_eq!(content(&packet), whole()[..count], "trim {count}");
        let buffers = if count > 165 {
            3
        } else if count > 54 {
            2
        } else {
            1
        };
        assert_eq!(memory.statistics().live_descriptors, buffers, "trim {count}");
        assert_eq!(packet.has_frag_list(), buffers > 1);
    }
}

#[test]
fn frag_list_is_written_where_it_lies() {
    let memory = host::memory();
    let mut packet = joined(&memory);
    packet.store_bits(50, &[0xee; 120]).unwrap();
    assert_eq!(content(&packet), [&whole()[..50], &[0xee; 120], &whole()[170..]].concat());
}

#[test]
fn frag_list_is_shared_by_clones_and_freed_with_the_last() {
    let memory = host::memory();
    let mut first = joined(&memory);
    let mut second = first.clone_buffer().unwrap();
    assert_eq!(memory.statistics().live_descriptors, 4);
    assert_eq!(content(&second), whole());
    assert_eq!(second.store_bits(60, b"x").unwrap_err(), Error::Shared);
    second.trim(100).unwrap();
    assert_eq!((content(&first), content(&second)), (whole(), whole()[..100].to_vec()));
    drop(first);
    assert_eq!(content(&second), whole()[..100]);
    drop(second);
    let statistics = memory.statistics();
    assert_eq!((statistics.live_descriptors, statistics.live_slab_objects), (0, 0));
}

#[test]
fn frag_list_of_a_private_head_is_shared_by_reference() {
    let memory = host::memory();
    let mut first = joined(&memory);
    let mut second = first.clone_buffer().unwrap();
    second.unshare().unwrap();
    second.push(2).unwrap().copy_from_slice(b"xy");
    let third = first.copy_head().unwrap();
    assert_eq!(content(&first), whole());
    assert_eq!(content(&second), [b"xy", &whole()[..]].concat());
    drop(first);
    drop(second);
    assert_eq!(content(&third), whole());
    drop(third);
    assert_eq!(memory.statistics().live_descriptors, 0);
}

#[test]
fn frag_list_on_a_frag_list_is_refused() {
    let memory = host::memory();
    let mut packet = joined(&memory);
    let before = state(&packet);
    assert_eq!(packet.append_to_frag_list(joined(&memory)).unwrap_err(), Error::NestedFragList);
    assert_eq!(state(&packet), before);
    assert_eq!(memory.statistics().live_descriptors, 3, "what was refused is freed");
}

#[test]
fn skb_split_of_a_frag_list_is_refused() {
    let memory = host::memory();
    let mut packet = joined(&memory);
    let before = state(&packet);
    assert_eq!(packet.split(10).unwrap_err(), Error::NestedFragList);
    assert_eq!(state(&packet), before);
}

#[test]
fn frags_cannot_be_added_in_the_middle_of_the_packet() {
    // A frag lies before the frag list: adding one behind it would change the order of the bytes.
    let memory = host::memory();
    let mut packet = joined(&memory);
    let page = block(&memory, 0, 0, b"more");
    if packet.add_rx_frag(page, 0, 4, 4096).is_ok() {
        assert_eq!(content(&packet), [&whole()[..], b"more"].concat());
    } else {
        assert_eq!(content(&packet), whole());
    }
}
