//! Section 2: making and freeing buffers.

use netbuf::{Block, Error, Memory, NetBuf, OutOfMemory, Queue, RECEIVE_HEADROOM, Zone, context, host};

use crate::{block, bytes, content};

#[test]
fn alloc_skb_without_memory_is_a_typed_error_and_leaks_nothing() {
    let pages = host::HostPages::new();
    let memory = Memory::unowned(pages.clone()).unwrap();
    // The first object is the head, the second the descriptor.
    for object in 0..2 {
        pages.fail_object(object);
        let OutOfMemory { bytes } = NetBuf::alloc(&memory, 1000).unwrap_err();
        assert!(bytes > 0);
        assert_eq!(memory.statistics().live_slab_objects, 0);
        assert_eq!(memory.statistics().live_descriptors, 0);
    }
}

#[test]
fn an_impossible_size_is_out_of_memory() {
    let memory = host::memory();
    for size in [usize::MAX, usize::MAX - 63, usize::MAX / 2, 1 << 40] {
        assert!(matches!(NetBuf::alloc(&memory, size), Err(OutOfMemory { .. })), "size {size}");
        assert!(matches!(NetBuf::rx_alloc(&memory, size), Err(OutOfMemory { .. })), "size {size}");
        assert!(matches!(NetBuf::alloc_fclone(&memory, size), Err(OutOfMemory { .. })), "size {size}");
    }
    assert_eq!(memory.statistics().live_descriptors, 0);
}

#[test]
fn memory_that_ran_out_works_again_when_there_is_some() {
    let pages = host::HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    pages.fail_allocations_from(0);
    // 128 bytes of linear area and the shared info: an object of kmalloc-512.
    assert_eq!(NetBuf::alloc(&memory, 100).unwrap_err(), OutOfMemory { bytes: 512 });
    assert!(NetBuf::rx_alloc(&memory, 100).is_err());
    assert!(NetBuf::alloc_fclone(&memory, 100).is_err());
    assert!(Block::alloc(&memory, 0, Zone::Normal).is_err());
    assert!(netbuf::BlockPool::new(&memory, 0, Zone::Normal, 1).is_err());
    pages.heal();
    assert!(NetBuf::alloc(&memory, 100).is_ok());
    assert_eq!(memory.statistics().live_descriptors, 0);
}

#[test]
fn a_buffer_is_one_pointer() {
    assert_eq!(size_of::<NetBuf>(), size_of::<usize>());
    assert_eq!(size_of::<Option<NetBuf>>(), size_of::<usize>());
}

#[test]
fn dev_alloc_skb_keeps_64_bytes_in_front() {
    assert_eq!(RECEIVE_HEADROOM, 64);
    let memory = host::memory();
    for size in [64, 128, 1536, 4096] {
        let buffer = NetBuf::rx_alloc(&memory, size).unwrap();
        assert_eq!((buffer.len(), buffer.headroom(), buffer.tailroom()), (0, 64, size));
    }
}

#[test]
fn dev_alloc_skb_without_memory_is_a_typed_error_and_leaks_nothing() {
    let pages = host::HostPages::new();
    let memory = Memory::unowned(pages.clone()).unwrap();
    pages.fail_allocations_from(0);
    assert!(matches!(NetBuf::rx_alloc(&memory, 1536), Err(OutOfMemory { .. })));
    pages.heal();
    drop(NetBuf::rx_alloc(&memory, 1536).unwrap());
    let statistics = memory.statistics();
    assert_eq!(
        (statistics.live_descriptors, statistics.live_slab_objects, statistics.live_blocks),
        (0, 0, 0)
    );
}

#[test]
fn alloc_skb_fclone_hands_out_its_second_descriptor_without_the_allocator() {
    let pages = host::HostPages::new();
    let memory = Memory::unowned(pages.clone()).unwrap();
    let mut buffer = NetBuf::alloc_fclone(&memory, 128).unwrap();
    pages.fail_allocations_from(0);
    pages.fail_object(0);
    let clone = buffer.clone_buffer().unwrap();
    pages.heal();
    assert!(buffer.is_cloned() && clone.is_cloned());
}

#[test]
fn fclone_pair_is_freed_when_both_are_gone_in_either_order() {
    let memory = host::memory();
    for first_dies_first in [true, false] {
        let mut first = NetBuf::alloc_fclone(&memory, 128).unwrap();
        first.put(4).unwrap().copy_from_slice(b"pair");
        let second = first.clone_buffer().unwrap();
        assert_eq!(memory.statistics().live_descriptors, 1, "a pair counts once");
        let survivor = if first_dies_first {
            drop(first);
            second
        } else {
            drop(second);
            first
        };
        assert_eq!(memory.statistics().live_descriptors, 1);
        assert_eq!(survivor.data(), b"pair");
        assert!(!survivor.is_cloned());
        drop(survivor);
        assert_eq!(memory.statistics().live_descriptors, 0);
        assert_eq!(memory.statistics().live_slab_objects, 0);
    }
}

#[test]
fn fclone_hands_its_second_descriptor_out_again_after_the_clone_died() {
    let memory = host::memory();
    let mut buffer = NetBuf::alloc_fclone(&memory, 128).unwrap();
    for _ in 0..3 {
        let first = buffer.clone_buffer().unwrap();
        assert_eq!(memory.statistics().live_descriptors, 1);
        let second = buffer.clone_buffer().unwrap(); // the place beside is taken
        assert_eq!(memory.statistics().live_descriptors, 2);
        drop((first, second));
        assert_eq!(memory.statistics().live_descriptors, 1);
    }
}

#[test]
fn clone_of_an_fclone_clone_is_a_buffer_like_any_other() {
    let memory = host::memory();
    let mut first = NetBuf::alloc_fclone(&memory, 128).unwrap();
    first.put(3).unwrap().copy_from_slice(b"abc");
    let mut second = first.clone_buffer().unwrap();
    let third = second.clone_buffer().unwrap();
    drop(first);
    drop(second);
    assert_eq!(third.data(), b"abc");
    drop(third);
    assert_eq!(memory.statistics().live_descriptors, 0);
}

#[test]
fn kfree_skb_drops_one_handle_and_the_last_one_frees() {
    let memory = host::memory();
    let first = NetBuf::alloc(&memory, 64).unwrap().share();
    let second = first.clone();
    assert_eq!((first.users(), memory.statistics().live_descriptors), (2, 1));
    drop(first);
    assert_eq!((second.users(), memory.statistics().live_descriptors), (1, 1));
    drop(second);
    assert_eq!(memory.statistics().live_descriptors, 0);
}

#[test]
fn freeing_releases_frags_and_with_the_last_clone_the_data() {
    let memory = host::memory();
    let page = block(&memory, 0, 0, b"frag");
    let mut first = NetBuf::alloc(&memory, 64).unwrap();
    first.add_rx_frag(page.clone(), 0, 4, 4096).unwrap();
    let second = first.clone_buffer().unwrap();
    first.free();
    assert_eq!((page.references(), memory.statistics().live_slab_objects), (2, 1));
    second.free();
    assert_eq!((page.references(), memory.statistics().live_slab_objects), (1, 0));
}

#[test]
fn dev_kfree_skb_irq_only_puts_the_buffer_on_a_list_that_a_task_drains() {
    let memory = host::memory();
    let page = block(&memory, 0, 0, b"frag");
    let mut buffer = NetBuf::alloc(&memory, 64).unwrap();
    buffer.add_rx_frag(page.clone(), 0, 4, 4096).unwrap();
    let calls = memory.statistics().allocator_calls;
    buffer.free_irq();
    assert_eq!((page.references(), memory.statistics().live_descriptors), (2, 1));
    assert_eq!(memory.statistics().allocator_calls, calls);
    assert_eq!(memory.free_deferred(), 1);
    assert_eq!((page.references(), memory.statistics().live_descriptors), (1, 0));
    assert_eq!(memory.free_deferred(), 0);
}

#[test]
fn dev_kfree_skb_any_frees_at_once_in_a_task_and_later_in_an_interrupt() {
    let memory = host::memory();
    NetBuf::alloc(&memory, 64).unwrap().free_any();
    assert_eq!(memory.statistics().live_descriptors, 0);

    let buffers: Vec<_> = (0..3).map(|_| NetBuf::rx_alloc(&memory, 64).unwrap()).collect();
    {
        let _interrupt = context::enter_interrupt();
        buffers.into_iter().for_each(NetBuf::free_any);
        assert_eq!(memory.statistics().live_descriptors, 3);
    }
    assert_eq!(memory.statistics().live_descriptors, 3);
    assert_eq!(memory.free_deferred(), 3);
    assert_eq!(memory.statistics().live_descriptors, 0);
}

#[test]
fn dropping_whatever_holds_buffers_is_deferred_in_an_interrupt_too() {
    let memory = host::memory();
    let mut pair = NetBuf::alloc_fclone(&memory, 64).unwrap();
    let clone = pair.clone_buffer().unwrap();
    let shared = NetBuf::alloc(&memory, 64).unwrap().share();
    let queue: Queue = (0..2).map(|_| NetBuf::alloc(&memory, 64).unwrap()).collect();
    let mut joined = NetBuf::alloc(&memory, 64).unwrap();
    joined.append_to_frag_list(NetBuf::alloc(&memory, 64).unwrap()).unwrap();
    let page = Block::alloc(&memory, 0, Zone::Normal).unwrap();
    let before = memory.statistics();
    {
        let _interrupt = context::enter_interrupt();
        drop((pair, clone, shared, queue, joined, page));
        assert_eq!(memory.statistics().live_descriptors, before.live_descriptors);
        assert_eq!(memory.statistics().live_blocks, before.live_blocks);
    }
    assert!(memory.free_deferred() > 0);
    let after = memory.statistics();
    assert_eq!((after.live_descriptors, after.live_slab_objects, after.live_blocks), (0, 0, 0));
}

#[test]
fn blocks_dropped_in_an_interrupt_come_back_later() {
    let memory = host::memory();
    let pool = netbuf::BlockPool::new(&memory, 0, Zone::Normal, 4).unwrap();
    let first = pool.take().unwrap();
    let second = pool.take().unwrap().share();
    let third = second.clone();
    {
        let _interrupt = context::enter_interrupt();
        drop((first, second));
        assert_eq!(pool.idle(), 0);
    }
    drop(third);
    memory.free_deferred();
    assert_eq!((pool.idle(), pool.out()), (2, 0));
}

#[test]
fn buffers_move_between_threads() {
    fn moves<T: Send + Sync>() {}
    moves::<NetBuf>();
    moves::<netbuf::SharedNetBuf>();
    moves::<Queue>();
    moves::<netbuf::LockedQueue>();
    moves::<Memory>();
    moves::<Block>();
    moves::<netbuf::SharedBlock>();
    moves::<netbuf::BlockPool>();

    let memory = host::memory();
    let mut buffer = crate::buffer(&memory, b"head ", &[&bytes(2000, 1)]);
    let clone = buffer.clone_buffer().unwrap();
    let there = std::thread::spawn(move || content(&clone)).join().unwrap();
    assert_eq!(there, content(&buffer));
    assert!(!buffer.is_cloned());
}

#[test]
fn an_error_tells_the_numbers_and_converts_to_the_one_enum_of_the_crate() {
    let error: Error = OutOfMemory { bytes: 4096 }.into();
    assert_eq!(error, Error::OutOfMemory(OutOfMemory { bytes: 4096 }));
    assert!(error.to_string().contains("4096"));
    assert_eq!(Error::from(netbuf::Shared), Error::Shared);
}

#[test]
fn allocation_frees_what_interrupts_left_before_it_asks_for_more() {
    let memory = host::memory();
    let total = || memory.caches().iter().map(|cache| cache.total_objects).sum::<usize>();
    let buffers: Vec<_> = (0..300).map(|_| NetBuf::alloc(&memory, 64).unwrap()).collect();
    let before = total();
    buffers.into_iter().for_each(NetBuf::free_irq);
    assert_eq!(memory.statistics().live_descriptors, 300);
    let again: Vec<_> = (0..300).map(|_| NetBuf::alloc(&memory, 64).unwrap()).collect();
    assert_eq!((total(), again.len()), (before, 300));
}

#[test]
fn a_memory_whose_handles_are_gone_frees_what_interrupts_left() {
    let pages = host::HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    NetBuf::rx_alloc(&memory, 64).unwrap().free_irq();
    NetBuf::alloc_fclone(&memory, 64).unwrap().free_irq();
    drop(memory);
    assert_eq!(pages.live_blocks(), 0);
}
