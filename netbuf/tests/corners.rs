//! Corners that random sequences meet too seldom: each is a mistake that one could make unnoticed otherwise.
#![cfg(not(feature = "loom"))]
#![expect(clippy::unwrap_used, reason = "a test's own set-up")]

use std::sync::Arc;

use netbuf::host::HostPages;
use netbuf::{Block, BlockPool, ChecksumStatus, Error, Memory, NetBuf, ReceivePattern, SharedBlock, Zone};

fn numbered_block(memory: &Memory) -> SharedBlock {
    let mut block = Block::alloc(memory, 0, Zone::Normal).unwrap();
    for (index, byte) in block.bytes_mut().iter_mut().enumerate() {
        *byte = index as u8;
    }
    block.share()
}

fn with_frag(memory: &Memory, linear: usize, block: &SharedBlock) -> NetBuf {
    let mut buffer = NetBuf::alloc(memory, 64).unwrap();
    buffer.put(linear).unwrap().fill(1);
    buffer.add_rx_frag(block.clone(), 10, 100, 4096).unwrap();
    buffer
}

fn content(buffer: &NetBuf) -> Vec<u8> {
    buffer.pieces().flatten().copied().collect()
}

/// A packet with frags whose frag list has two buffers with frags, the second of which a clone shares.
fn list_with_a_cloned_member(memory: &Memory) -> (NetBuf, NetBuf) {
    let block = numbered_block(memory);
    let mut packet = with_frag(memory, 20, &block);
    packet.append_to_frag_list(with_frag(memory, 10, &block)).unwrap();
    let mut member = with_frag(memory, 30, &block);
    let clone = member.clone_buffer().unwrap();
    packet.append_to_frag_list(member).unwrap();
    (packet, clone)
}

#[test]
fn cutting_into_a_cloned_list_buffer_is_done_whole_or_not_at_all() {
    type Cut = fn(&mut NetBuf) -> Result<(), Error>;
    let cuts: [(Cut, usize); 2] =
        [(|packet| packet.trim(310), 310), (|packet| packet.pull_anywhere(310).map(drop), 50)];
    for (cut, len_after) in cuts {
        let mut index = 0;
        loop {
            let pages = HostPages::new();
            let memory = Memory::unowned(pages.clone()).unwrap();
            let (mut packet, clone) = list_with_a_cloned_member(&memory);
            let (before, of_clone) = (content(&packet), content(&clone));
            assert_eq!(before.len(), 360);
            pages.fail_object(index);
            let result = cut(&mut packet);
            assert_eq!(content(&clone), of_clone);
            assert_eq!(packet.len(), content(&packet).len());
            if result.is_ok() {
                assert_eq!(packet.len(), len_after);
                break;
            }
            assert_eq!(content(&packet), before);
            index += 1;
        }
        assert!(index > 0, "a private copy of the shared buffer needs memory");
    }
}

#[test]
fn a_list_buffer_with_a_head_of_its_own_can_be_shared_again() {
    for cut in [|packet: &mut NetBuf| packet.trim(40), |packet: &mut NetBuf| packet.may_pull(40)] {
        let memory = netbuf::host::memory();
        let mut packet = NetBuf::alloc(&memory, 64).unwrap();
        packet.put(10).unwrap().fill(0);
        let mut member = NetBuf::alloc(&memory, 64).unwrap();
        member.put(50).unwrap().fill(1);
        let _other_user = member.clone_buffer().unwrap();
        packet.append_to_frag_list(member).unwrap();
        // What is cut gets a private head; then it is shared anew, by the list of a clone.
        cut(&mut packet).unwrap();
        packet.push(0).unwrap();
        let mut clone = packet.clone_buffer().unwrap();
        clone.unshare().unwrap();
        let before = content(&packet);
        let last = before.len() - 1;
        assert_eq!(clone.store_bits(last, b"x"), Err(Error::Shared));
        assert_eq!(packet.store_bits(last, b"x"), Err(Error::Shared));
        assert_eq!((content(&packet), content(&clone)), (before.clone(), before));
        drop(clone);
        packet.store_bits(last, b"x").unwrap();
    }
}

#[test]
fn bytes_of_a_list_buffer_are_stored_only_where_nobody_else_reads() {
    let memory = netbuf::host::memory();
    let block = numbered_block(&memory);
    let mut packet = NetBuf::alloc(&memory, 64).unwrap();
    packet.put(10).unwrap().fill(0);
    packet.append_to_frag_list(with_frag(&memory, 30, &block)).unwrap();
    // Another reference to the block in the list's frag.
    assert_eq!(packet.store_bits(60, b"x"), Err(Error::Shared));
    assert_eq!(packet.store_bits(5, &[7; 100]), Err(Error::Shared));
    assert!(content(&packet)[..10].iter().all(|byte| *byte == 0), "nothing was stored in part");
    packet.store_bits(5, b"head").unwrap();
    drop(block);
    packet.store_bits(60, b"x").unwrap();
    assert_eq!(content(&packet)[60], b'x');
}

#[test]
fn pulling_what_is_linear_already_leaves_a_shared_head_alone() {
    let memory = netbuf::host::memory();
    let mut buffer = NetBuf::alloc(&memory, 64).unwrap();
    buffer.put(20).unwrap();
    let clone = buffer.clone_buffer().unwrap();
    let copied = memory.copied_bytes();
    buffer.may_pull(20).unwrap();
    buffer.linearize().unwrap();
    assert!(buffer.is_cloned());
    assert_eq!((buffer.data().as_ptr(), memory.copied_bytes()), (clone.data().as_ptr(), copied));
}

#[test]
fn every_byte_that_is_copied_counts_once() {
    let memory = netbuf::host::memory();
    let block = numbered_block(&memory);
    let mut buffer = with_frag(&memory, 20, &block);
    let mut counted = memory.copied_bytes();
    let mut copies = |what: &str, expected: u64| {
        let now = memory.copied_bytes();
        assert_eq!(now - counted, expected, "{what}");
        counted = now;
    };
    buffer.copy_bits(10, &mut [0; 50]).unwrap();
    copies("copy_bits", 50);
    buffer.store_bits(3, &[0; 7]).unwrap();
    copies("store_bits", 7);
    drop(buffer.copy().unwrap());
    copies("copy", 120);
    drop(buffer.copy_head().unwrap());
    copies("copy_head", 20);
    let clone = buffer.clone_buffer().unwrap();
    copies("clone_buffer", 0);
    buffer.unshare().unwrap();
    copies("unshare", 20);
    drop(clone);
    let second = buffer.split(5).unwrap();
    copies("split in the head", 15);
    buffer.linearize().unwrap();
    copies("linearize of what is linear", 0);
    let mut tail = NetBuf::alloc(&memory, 64).unwrap();
    tail.put(9).unwrap();
    buffer.try_coalesce(tail).unwrap();
    copies("try_coalesce in the tailroom", 9);
    drop(second);
}

#[test]
fn a_memory_that_ran_out_for_a_block_still_balances() {
    let pages = HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    // The header's slab is there, the block is not.
    drop(Block::alloc(&memory, 0, Zone::Normal).unwrap());
    pages.fail_allocation(0);
    assert!(Block::alloc(&memory, 0, Zone::Normal).is_err());
    assert_eq!(memory.statistics().live_blocks, 0);
    drop(memory);
    assert_eq!(pages.live_blocks(), 0);
    assert_eq!(Arc::strong_count(&pages), 1);
}

#[test]
fn a_list_that_cannot_be_cloned_to_its_end_leaves_nothing_behind() {
    type Operation = fn(&mut NetBuf) -> bool;
    let operations: [Operation; 2] = [|packet| packet.unshare().is_ok(), |packet| packet.copy_head().is_ok()];
    for operation in operations {
        for index in 0.. {
            let pages = HostPages::new();
            let memory = Memory::unowned(pages.clone()).unwrap();
            let block = numbered_block(&memory);
            let mut packet = with_frag(&memory, 20, &block);
            for linear in [10, 20, 30] {
                packet.append_to_frag_list(with_frag(&memory, linear, &block)).unwrap();
            }
            let clone = packet.clone_buffer().unwrap();
            let references = block.references();
            pages.fail_object(index);
            let done = operation(&mut packet);
            assert!(done || block.references() == references);
            drop((packet, clone));
            assert_eq!((memory.statistics().live_descriptors, block.references()), (0, 1));
            drop((block, memory));
            assert_eq!(pages.live_blocks(), 0);
            if done {
                assert!(index >= 4, "a head and a descriptor for each buffer of the list");
                break;
            }
        }
    }
}

#[test]
fn a_partial_checksum_that_did_not_fit_stays_unset_when_the_packet_grows() {
    let memory = netbuf::host::memory();
    let mut buffer = NetBuf::alloc(&memory, 64).unwrap();
    buffer.put(11).unwrap();
    buffer.set_checksum_status(ChecksumStatus::Partial { start: 0, offset: 10 });
    buffer.put(1).unwrap();
    assert_eq!(buffer.checksum_status(), ChecksumStatus::None);
    buffer.set_checksum_status(ChecksumStatus::Partial { start: 0, offset: 10 });
    assert_eq!(buffer.checksum_status(), ChecksumStatus::Partial { start: 0, offset: 10 });
}

#[test]
fn a_header_is_gone_with_the_byte_before_it() {
    let memory = netbuf::host::memory();
    let mut buffer = NetBuf::alloc(&memory, 64).unwrap();
    buffer.put(20).unwrap();
    buffer.set_transport_header(20).unwrap();
    assert_eq!(buffer.transport_header(), Some(&[][..]));
    buffer.trim(19).unwrap();
    assert_eq!(buffer.transport_header(), None);
    assert!(buffer.transport_header_was_set());
}

#[test]
fn more_references_than_were_in_stock_may_die_in_another_thread() {
    let pages = HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    for count in [62, 63, 64, 65, 66, 127, 128, 129, 200] {
        let block = numbered_block(&memory);
        let others: Vec<_> = (0..count).map(|_| block.clone()).collect();
        assert_eq!(block.references(), count + 1);
        std::thread::spawn(move || drop((block, others))).join().unwrap();
        // Whatever the owner still held in stock is nobody's.
        assert_eq!(memory.statistics().live_blocks, 0, "{count}");
        let block = numbered_block(&memory);
        let others: Vec<_> = (0..count).map(|_| block.clone()).collect();
        drop((others, block));
        assert_eq!(memory.statistics().live_blocks, 0, "{count}");
    }
    drop(memory);
    assert_eq!(pages.live_blocks(), 0);
}

#[test]
fn tables_count_what_is_left_after_shrinking() {
    let pages = HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    let buffers: Vec<_> = (0..300).map(|size| NetBuf::alloc(&memory, size * 10).unwrap()).collect();
    let received: Vec<_> = (0..100).map(|_| NetBuf::rx_alloc(&memory, 1500).unwrap()).collect();
    let kept = NetBuf::alloc_fclone(&memory, 100).unwrap();
    drop((buffers, received));
    let before = pages.live_blocks();
    let released = memory.shrink();
    // Blocks of the page source that are out: the memory itself, the slabs, and nothing else.
    assert_eq!(pages.live_blocks(), before - released);
    let slabs: usize = memory.caches().iter().map(|cache| cache.slabs).sum();
    assert_eq!(pages.live_blocks(), 1 + slabs);
    for cache in memory.caches() {
        assert_eq!(cache.total_objects, cache.slabs * cache.objects_per_slab);
        assert!(cache.active_objects <= cache.total_objects);
    }
    // And it all works again.
    assert_eq!(NetBuf::rx_alloc(&memory, 100).unwrap().tailroom(), 128);
    drop(kept);
    assert_eq!(memory.statistics().live_descriptors, 0);
    drop(memory);
    assert_eq!(pages.live_blocks(), 0);
}

#[test]
fn fragments_come_back_in_whatever_order_they_are_freed() {
    let pages = HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    let mut held: Vec<NetBuf> = Vec::new();
    let mut most = 0;
    for round in 0..4000_usize {
        held.push(NetBuf::rx_alloc(&memory, 200 + round * 37 % 1400).unwrap());
        if held.len() > 30 {
            held.swap_remove(round * 7 % held.len());
        }
        if round % 500 == 499 {
            held.clear();
        }
        most = most.max(pages.live_blocks());
    }
    drop(held);
    assert!(most < 40, "{most} blocks for thirty buffers");
    assert_eq!(memory.statistics().live_blocks, 0);
    drop(memory);
    assert_eq!(pages.live_blocks(), 0);
}

#[test]
fn what_a_handler_dropped_after_the_last_handle_goes_with_the_next_buffer() {
    for first_in_handler in [true, false] {
        let pages = HostPages::new();
        let memory = Memory::new(pages.clone()).unwrap();
        let buffers = [NetBuf::alloc(&memory, 100).unwrap(), NetBuf::rx_alloc(&memory, 100).unwrap()];
        drop(memory);
        let [mut handled, mut last] = buffers;
        if first_in_handler {
            core::mem::swap(&mut handled, &mut last);
        }
        {
            let _interrupt = netbuf::context::enter_interrupt();
            drop(handled);
        }
        assert_ne!(pages.live_blocks(), 0);
        drop(last);
        assert_eq!(pages.live_blocks(), 0);
    }
}

#[test]
fn the_fragment_freed_last_is_given_out_next() {
    let memory = netbuf::host::memory();
    let place = |size: usize| NetBuf::rx_alloc(&memory, size).unwrap().data().as_ptr();
    let first = place(500);
    assert!((0..1000).all(|_| place(500) == first));
}

/// What is read beyond a block is seen by memcheck only: `netbuf/valgrind.sh`.
#[test]
fn the_last_bytes_of_a_block_can_be_received() {
    let memory = netbuf::host::memory();
    let block = numbered_block(&memory);
    for head_len in [1, 63, 64, 65, 128, 256, 300] {
        let pattern = ReceivePattern { head_len, copybreak: 0, truesize: None };
        for len in 1..=320 {
            let offset = block.len() - len;
            let buffer = NetBuf::receive(&memory, &block, offset, len, &pattern).unwrap();
            assert!(content(&buffer) == block.bytes()[offset..]);
        }
    }
}

#[test]
fn filling_a_pool_counts_the_blocks_that_come_back_meanwhile() {
    let memory = netbuf::host::memory();
    let pool = BlockPool::new(&memory, 0, Zone::Normal, 1).unwrap();
    let buffer = with_frag(&memory, 0, &pool.take().unwrap().share());
    // With no header left, to allocate one first frees what interrupt handlers dropped.
    let headers = || memory.caches().into_iter().find(|cache| cache.name == "page_block").unwrap();
    let mut others = Vec::new();
    while headers().active_objects < headers().total_objects {
        others.push(Block::alloc(&memory, 0, Zone::Normal).unwrap());
    }
    buffer.free_irq();
    assert_eq!(pool.idle(), 0);
    let live = memory.statistics().live_blocks;
    pool.fill(1).unwrap();
    assert_eq!((pool.idle(), pool.out()), (1, 0));
    assert_eq!(memory.statistics().live_blocks, live);
}

#[test]
fn a_block_in_a_buffer_of_another_memory_ends_its_own_memory() {
    for owner_drops_handles in [true, false] {
        for owner_frees_buffer in [true, false] {
            let pages = HostPages::new();
            let memory = Memory::new(pages.clone()).unwrap();
            let block = Block::alloc(&memory, 0, Zone::Normal).unwrap().share();
            let mut buffer = NetBuf::alloc(&netbuf::host::memory(), 64).unwrap();
            buffer.add_rx_frag(block, 0, 100, 4096).unwrap();
            run_here_or_there(owner_drops_handles, move || drop(memory));
            assert_ne!(pages.live_blocks(), 0);
            run_here_or_there(owner_frees_buffer, move || drop(buffer));
            assert_eq!(pages.live_blocks(), 0, "{owner_drops_handles} {owner_frees_buffer}");
        }
    }
}

fn run_here_or_there(here: bool, work: impl FnOnce() + Send + 'static) {
    if here { work() } else { std::thread::spawn(work).join().unwrap() }
}
