//! What the tables of sk_buff promise, row by row, where an example alone would not show it.
#![cfg(not(feature = "loom"))]
#![expect(clippy::unwrap_used, reason = "a test's own set-up")]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use netbuf::host::HostPages;
use netbuf::{
    Backing, Block, BlockPool, ChecksumStatus, Error, Memory, MemoryOwner, NetBuf, OutOfMemory, PacketType,
    Queue, ReceivePattern, Shared, SharedBlock, Zone, checksum, fold,
};

fn memory() -> (Arc<HostPages>, Memory) {
    let pages = HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    (pages, memory)
}

fn numbered_block(memory: &Memory, order: u8) -> SharedBlock {
    let mut block = Block::alloc(memory, order, Zone::Normal).unwrap();
    for (index, byte) in block.bytes_mut().iter_mut().enumerate() {
        *byte = index as u8;
    }
    block.share()
}

#[test]
fn buffers_blocks_and_memory_move_between_threads() {
    fn moves<T: Send + Sync>() {}
    moves::<NetBuf>();
    moves::<Memory>();
    moves::<Block>();
    moves::<SharedBlock>();
    moves::<BlockPool>();
    moves::<Queue>();
    moves::<netbuf::LockedQueue>();
    moves::<netbuf::SharedNetBuf>();
    assert_eq!(size_of::<NetBuf>(), size_of::<usize>());
    assert_eq!(size_of::<Option<NetBuf>>(), size_of::<usize>());
}

#[test]
fn a_refused_step_changes_nothing_and_says_by_how_much_it_missed() {
    let (_pages, memory) = memory();
    let mut buffer = NetBuf::alloc(&memory, 64).unwrap();
    assert_eq!(buffer.put(65).unwrap_err(), Error::Tailroom { wanted: 65, available: 64 });
    assert_eq!(buffer.push(1).unwrap_err(), Error::Headroom { wanted: 1, available: 0 });
    buffer.put(10).unwrap().fill(1);
    assert_eq!(buffer.reserve(1).unwrap_err(), Error::NotEmpty { len: 10 });
    assert_eq!(buffer.pull(11).unwrap_err(), Error::PastEnd { wanted: 11, available: 10 });
    assert_eq!(buffer.may_pull(11).unwrap_err(), Error::PastEnd { wanted: 11, available: 10 });
    assert_eq!(buffer.put(usize::MAX).unwrap_err(), Error::Tailroom { wanted: usize::MAX, available: 54 });
    assert_eq!(buffer.copy_bits(usize::MAX, &mut [0; 2]).unwrap_err().to_string(), {
        format!("the first {} bytes wanted, 10 available", usize::MAX)
    });
    buffer.trim(11).unwrap();
    assert_eq!(buffer.data(), [1; 10]);
    assert!(matches!(NetBuf::alloc(&memory, usize::MAX), Err(OutOfMemory { .. })));
    assert!(matches!(NetBuf::rx_alloc(&memory, usize::MAX), Err(OutOfMemory { .. })));
    assert!(buffer.expand_head(usize::MAX, usize::MAX).is_err());
}

#[test]
fn put_is_refused_where_linux_would_panic_on_a_nonlinear_buffer() {
    let (_pages, memory) = memory();
    let mut buffer = NetBuf::alloc(&memory, 64).unwrap();
    buffer.add_rx_frag(numbered_block(&memory, 0), 0, 100, 4096).unwrap();
    assert_eq!(buffer.tailroom(), 0);
    assert_eq!(buffer.put(1).unwrap_err(), Error::NonLinear { data_len: 100 });
}

#[test]
fn heads_larger_than_any_cache_get_a_block_of_their_own() {
    let (pages, memory) = memory();
    let mut buffer = NetBuf::alloc(&memory, 70_000).unwrap();
    buffer.put(70_000).unwrap().fill(9);
    assert!(matches!(buffer.inspect().backing, Backing::PageFragment { references: 1 }));
    assert!(buffer.copy().unwrap().data().iter().all(|byte| *byte == 9));
    drop(buffer);
    drop(memory);
    assert_eq!(pages.live_blocks(), 0);
}

#[test]
fn no_more_than_seventeen_frags_fit_and_a_refused_one_gives_its_reference_up() {
    let (_pages, memory) = memory();
    let block = numbered_block(&memory, 2);
    let mut buffer = NetBuf::alloc(&memory, 64).unwrap();
    for index in 0..netbuf::MAX_FRAGS {
        buffer.add_rx_frag(block.clone(), index * 200, 100, 200).unwrap();
    }
    assert_eq!(block.references(), 18);
    let refused = buffer.add_rx_frag(block.clone(), 8000, 100, 200);
    assert_eq!(refused, Err(Error::TooManyFrags { frags: 17 }));
    assert_eq!(block.references(), 18);
    // A range that continues the last frag needs no place of its own.
    buffer.add_rx_frag(block.clone(), 16 * 200 + 100, 50, 50).unwrap();
    assert_eq!((buffer.frag_count(), buffer.len()), (17, 1750));
}

#[test]
fn the_receive_pattern_fits_all_three_drivers() {
    let (_pages, memory) = memory();
    let block = numbered_block(&memory, 2);
    // MT7663S: every frag pins the whole aggregate. RTL8152: its own length, and short packets are copied.
    // RTL8152 of Linux 4.14: everything is copied.
    for (pattern, len, head, frags, pinned) in [
        (ReceivePattern { head_len: 128, copybreak: 0, truesize: Some(16384) }, 1500, 128, 1, 16384),
        (ReceivePattern { head_len: 128, copybreak: 256, truesize: None }, 1500, 128, 1, 1408),
        (ReceivePattern { head_len: 128, copybreak: 256, truesize: None }, 256, 256, 0, 0),
        (ReceivePattern { head_len: 0, copybreak: usize::MAX, truesize: None }, 1500, 1500, 0, 0),
        (ReceivePattern { head_len: 128, copybreak: 0, truesize: None }, 60, 60, 0, 0),
        (ReceivePattern { head_len: 128, copybreak: 0, truesize: None }, 0, 0, 0, 0),
    ] {
        let copied = memory.statistics().copied_bytes;
        let buffer = NetBuf::receive(&memory, &block, 100, len, &pattern).unwrap();
        assert_eq!((buffer.len(), buffer.head_len(), buffer.frag_count()), (len, head, frags));
        let head_only = NetBuf::rx_alloc(&memory, head).unwrap().truesize();
        assert_eq!(buffer.truesize(), head_only + pinned);
        assert_eq!(memory.statistics().copied_bytes - copied, head as u64);
        assert_eq!(block.references(), 1 + frags as u32);
        assert!(buffer.pieces().flatten().zip(100_usize..).all(|(byte, index)| *byte == index as u8));
    }
    let pattern = ReceivePattern { head_len: 64, copybreak: 0, truesize: None };
    let outside = NetBuf::receive(&memory, &block, 16000, 1500, &pattern);
    assert_eq!(outside.unwrap_err(), Error::OutsideBlock { end: 17500, block_len: 16384 });
    assert!(NetBuf::receive(&memory, &block, usize::MAX, 2, &pattern).is_err());
}

#[test]
fn a_block_is_not_given_out_while_a_frag_reads_it() {
    let (_pages, memory) = memory();
    let pool = BlockPool::new(&memory, 0, Zone::Dma32, 8).unwrap();
    let pattern = ReceivePattern { head_len: 14, copybreak: 0, truesize: None };
    let mut held = Queue::new();
    let mut addresses = HashSet::new();
    for _ in 0..20 {
        let block = pool.take().unwrap();
        assert!(addresses.insert(block.bus_address()), "a block that is read was given out");
        held.push_back(NetBuf::receive(&memory, &block.share(), 0, 1000, &pattern).unwrap());
    }
    assert_eq!((pool.idle(), pool.out()), (0, 20));
    held.clear();
    // Beyond what it keeps, the pool gives blocks back to the source.
    assert_eq!((pool.idle(), pool.out()), (8, 0));
}

#[test]
fn the_echo_path_asks_nothing_of_the_page_source() {
    let (pages, memory) = memory();
    let pool = BlockPool::new(&memory, 2, Zone::Dma32, 8).unwrap();
    let pattern = ReceivePattern { head_len: 128, copybreak: 128, truesize: None };
    let mut ring: Vec<NetBuf> = Vec::new();
    let mut echo = |packets: usize| {
        let mut received = Queue::new();
        let block = pool.take().unwrap().share();
        for packet in 0..packets {
            received.push_back(NetBuf::receive(&memory, &block, packet * 1536, 1442, &pattern).unwrap());
            // A linear device's way: a buffer of its own for each packet.
            let mut linear = NetBuf::rx_alloc(&memory, 1536).unwrap();
            linear.put_received(98).unwrap();
            received.push_back(linear);
        }
        drop(block);
        while let Some(mut buffer) = received.pop_front() {
            buffer.pull(34).unwrap();
            buffer.push(34).unwrap().fill(0);
            ring.push(buffer);
        }
        // The device is done with what was sent a while ago.
        let done = ring.len().saturating_sub(40);
        ring.drain(..done);
    };
    for _ in 0..50 {
        echo(10);
    }
    let (before, calls) = (memory.statistics(), pages.allocations() + pages.releases());
    for _ in 0..1000 {
        echo(10);
    }
    let after = memory.statistics();
    assert_eq!(after.allocator_calls, before.allocator_calls);
    assert_eq!(pages.allocations() + pages.releases(), calls);
    // Of each frame in the block the head was copied, of the others nothing.
    assert_eq!(after.copied_bytes - before.copied_bytes, 1000 * 10 * 128);
}

#[test]
fn the_first_clone_of_a_pair_needs_no_memory_at_all() {
    let (pages, memory) = memory();
    let mut buffer = NetBuf::alloc_fclone(&memory, 100).unwrap();
    let mut singles: Vec<NetBuf> = Vec::new();
    pages.fail_allocations_from(0);
    while let Ok(buffer) = NetBuf::alloc(&memory, 100) {
        singles.push(buffer);
    }
    let first = buffer.clone_buffer().expect("the pair's other half");
    assert!(buffer.clone_buffer().is_err());
    drop(first);
    let again = buffer.clone_buffer().expect("the half is free again");
    drop(buffer);
    assert_eq!(again.len(), 0);
}

#[test]
fn a_clone_that_outlives_the_original_may_write_again() {
    let (_pages, memory) = memory();
    for alloc in [NetBuf::alloc, NetBuf::alloc_fclone] {
        let mut original = alloc(&memory, 64).unwrap();
        original.put(4).unwrap().copy_from_slice(b"data");
        let mut clone = original.clone_buffer().unwrap();
        let mut second = clone.clone_buffer().unwrap();
        assert_eq!(clone.data_mut(), Err(Shared));
        drop(original);
        assert_eq!(clone.data_mut(), Err(Shared));
        drop(clone);
        second.data_mut().unwrap()[0] = b'D';
        assert_eq!(second.data(), b"Data");
    }
}

#[test]
fn clones_pull_and_trim_on_their_own() {
    let (_pages, memory) = memory();
    let mut buffer = NetBuf::rx_alloc(&memory, 100).unwrap();
    buffer.put(14).unwrap().fill(1);
    buffer.add_rx_frag(numbered_block(&memory, 0), 0, 1000, 4096).unwrap();
    let mut clone = buffer.clone_buffer().unwrap();
    clone.trim(500).unwrap();
    clone.pull(14).unwrap();
    assert_eq!((buffer.len(), clone.len()), (1014, 486));
    assert_eq!(clone.pieces().flatten().copied().collect::<Vec<_>>(), {
        (0..486).map(|index| index as u8).collect::<Vec<_>>()
    });
    // Cutting frags that a clone lists as well took a list of its own.
    assert!(!clone.is_cloned() && !buffer.is_cloned());
}

#[test]
fn frags_are_written_only_while_nobody_else_reads_them() {
    let (_pages, memory) = memory();
    let block = numbered_block(&memory, 0);
    let mut buffer = NetBuf::alloc(&memory, 64).unwrap();
    buffer.add_rx_frag(block.clone(), 0, 100, 4096).unwrap();
    assert_eq!(buffer.store_bits(10, b"x"), Err(Error::Shared));
    drop(block);
    buffer.store_bits(10, b"x").unwrap();
    assert_eq!(buffer.frag(0).unwrap()[9..12], [9, b'x', 11]);
    let copy = buffer.copy_head().unwrap();
    assert_eq!(buffer.store_bits(10, b"y"), Err(Error::Shared));
    drop(copy);
    buffer.store_bits(10, b"y").unwrap();
}

#[test]
fn header_offsets_survive_a_new_head_and_copies() {
    let (_pages, memory) = memory();
    let mut buffer = NetBuf::rx_alloc(&memory, 100).unwrap();
    buffer.put(42).unwrap().copy_from_slice(&core::array::from_fn::<u8, 42, _>(|index| index as u8));
    assert!(!buffer.mac_header_was_set());
    buffer.reset_mac_header();
    buffer.set_network_header(14).unwrap();
    buffer.set_transport_header(34).unwrap();
    assert!(buffer.set_transport_header(43).is_err());
    buffer.set_checksum_status(ChecksumStatus::Partial { start: 34, offset: 6 });
    buffer.set_protocol(0x0800);
    buffer.set_packet_type(PacketType::Broadcast);
    buffer.set_vlan(Some(7));
    buffer.control_block_mut::<[u8; 48]>()[47] = 5;
    buffer.pull(34).unwrap();
    buffer.expand_head(100, 0).unwrap();
    for buffer in [&buffer, &buffer.copy().unwrap(), &buffer.copy_head().unwrap()] {
        assert_eq!(buffer.mac_header().unwrap()[..2], [0, 1]);
        assert_eq!(buffer.destination(), Some([0, 1, 2, 3, 4, 5]));
        assert_eq!(buffer.network_header().unwrap()[0], 14);
        assert_eq!(buffer.transport_header().unwrap()[0], 34);
        assert_eq!(buffer.checksum_status(), ChecksumStatus::Partial { start: 0, offset: 6 });
        assert_eq!((buffer.protocol(), buffer.vlan()), (0x0800, Some(7)));
        assert_eq!(buffer.packet_type(), PacketType::Broadcast);
        assert_eq!(buffer.control_block::<[u8; 48]>()[47], 5);
    }
    // A new buffer in the same memory starts without any of it.
    drop(buffer);
    let buffer = NetBuf::rx_alloc(&memory, 100).unwrap();
    assert!(!buffer.mac_header_was_set() && buffer.vlan().is_none());
    assert_eq!(buffer.control_block::<[u8; 48]>(), &[0; 48]);
}

#[derive(Default)]
struct Account(AtomicUsize);

impl MemoryOwner for Account {
    fn charge(&self, truesize: usize) {
        self.0.fetch_add(truesize, Ordering::Relaxed);
    }

    fn discharge(&self, truesize: usize) {
        self.0.fetch_sub(truesize, Ordering::Relaxed);
    }
}

#[test]
fn the_owner_is_charged_what_the_buffer_holds_until_it_dies() {
    let (_pages, memory) = memory();
    let account = Arc::new(Account::default());
    let charged = || account.0.load(Ordering::Relaxed);
    let mut buffer = NetBuf::alloc(&memory, 100).unwrap();
    buffer.set_owner(account.clone());
    assert_eq!(charged(), buffer.truesize());
    buffer.add_rx_frag(numbered_block(&memory, 0), 0, 100, 4096).unwrap();
    assert_eq!(charged(), buffer.truesize());
    buffer.expand_head(100, 100).unwrap();
    assert_eq!(charged(), buffer.truesize());
    // A clone is nobody's; the owner stays with the original.
    drop(buffer.clone_buffer().unwrap());
    assert_eq!(charged(), buffer.truesize());
    // Freed in an interrupt handler it is charged until a task really frees it.
    buffer.free_irq();
    assert_ne!(charged(), 0);
    memory.free_deferred();
    assert_eq!(charged(), 0);
}

#[test]
fn a_partial_checksum_is_completed_across_pieces_of_odd_length() {
    let (_pages, memory) = memory();
    let block = numbered_block(&memory, 0);
    for head in 20..24 {
        let mut buffer = NetBuf::alloc(&memory, 64).unwrap();
        buffer.put(head).unwrap().fill(3);
        for (offset, len) in [(1, 7), (100, 333), (1000, 64)] {
            buffer.add_rx_frag(block.clone(), offset, len, 4096).unwrap();
        }
        buffer.store_bits(16, &[0, 0]).unwrap();
        buffer.set_checksum_status(ChecksumStatus::Partial { start: 6, offset: 10 });
        buffer.complete_checksum().unwrap();
        let whole: Vec<u8> = buffer.pieces().flatten().copied().collect();
        assert_eq!(fold(checksum(&whole[6..], 0)), 0);
        assert_eq!(fold(buffer.checksum(6..buffer.len()).unwrap()), 0);
    }
}

#[test]
fn inspection_tells_cache_fragment_zone_and_references() {
    let (_pages, memory) = memory();
    let mut received = NetBuf::rx_alloc(&memory, 576).unwrap();
    received.put(98).unwrap();
    let block = Block::alloc(&memory, 1, Zone::Dma32).unwrap().share();
    received.add_rx_frag(block.clone(), 0, 10, 8192).unwrap();
    let lines = received.inspect().to_string();
    assert!(lines.starts_with("head: page fragment, order: 3, references:"), "{lines}");
    assert!(
        lines.contains("frag 0: page block, order: 1, references: 2, zone: DMA32, offset: 0, len: 10"),
        "{lines}"
    );
    let copy = received.copy().unwrap().inspect().to_string();
    assert!(copy.starts_with("head: kmem_cache name: kmalloc-1024, size: 400, zone: Normal"), "{copy}");
    let tables = memory.tables().to_string();
    assert!(tables.contains("kmalloc-8192") && tables.contains("skbuff_head_cache"), "{tables}");
    assert_eq!(tables.lines().filter(|line| line.starts_with("Node 0, zone")).count(), 3);
}

#[test]
fn memory_that_ran_out_works_again_when_there_is_some() {
    let (pages, memory) = memory();
    pages.fail_allocations_from(0);
    assert_eq!(NetBuf::alloc(&memory, 100).unwrap_err(), OutOfMemory { bytes: 512 });
    assert!(NetBuf::rx_alloc(&memory, 100).is_err());
    assert!(NetBuf::alloc_fclone(&memory, 100).is_err());
    assert!(BlockPool::new(&memory, 0, Zone::Normal, 1).is_err());
    assert!(Block::alloc(&memory, 0, Zone::Normal).is_err());
    pages.heal();
    assert!(NetBuf::alloc(&memory, 100).is_ok());
    assert_eq!(memory.statistics().live_descriptors, 0);
}

#[test]
fn blocks_dropped_in_an_interrupt_handler_come_back_later() {
    let (_pages, memory) = memory();
    let pool = BlockPool::new(&memory, 0, Zone::Normal, 4).unwrap();
    let first = pool.take().unwrap();
    let second = pool.take().unwrap().share();
    let third = second.clone();
    {
        let _interrupt = netbuf::context::enter_interrupt();
        drop(first);
        drop(second);
    }
    drop(third);
    memory.free_deferred();
    assert_eq!((pool.idle(), pool.out()), (2, 0));
}

#[test]
fn a_queue_keeps_order_through_all_its_operations() {
    let (_pages, memory) = memory();
    let numbered = |mark: u32| {
        let mut buffer = NetBuf::alloc(&memory, 1).unwrap();
        buffer.set_mark(mark);
        buffer
    };
    let marks = |queue: &Queue| queue.iter().map(NetBuf::mark).collect::<Vec<_>>();
    let mut queue: Queue = (3..6).map(numbered).collect();
    queue.push_front(numbered(2));
    let mut front: Queue = (0..2).map(numbered).collect();
    let mut back: Queue = (6..8).map(numbered).collect();
    queue.prepend(&mut front);
    queue.append(&mut back);
    assert!(front.is_empty() && back.is_empty());
    assert_eq!(marks(&queue), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!((queue.front().unwrap().mark(), queue.back().unwrap().mark()), (0, 7));
    // Walk and unlink the odd ones; insert around what stays.
    let mut cursor = queue.cursor();
    while let Some(buffer) = cursor.current() {
        if buffer.mark() % 2 == 1 {
            cursor.remove();
        } else {
            cursor.advance();
        }
    }
    cursor.insert_before(numbered(8));
    cursor.insert_after(numbered(100));
    assert_eq!(marks(&queue), [100, 0, 2, 4, 6, 8]);
    assert_eq!(queue.pop_back().unwrap().mark(), 8);
    assert_eq!(queue.len(), 5);
    queue.clear();
    assert_eq!(memory.statistics().live_descriptors, 0);
}
