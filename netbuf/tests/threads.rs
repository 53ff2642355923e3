//! Buffers that cross threads: who frees where, and what is left.
#![cfg(not(feature = "loom"))]

use std::sync::mpsc;
use std::thread;

use netbuf::host::HostPages;
use netbuf::{Block, BlockPool, LockedQueue, Memory, NetBuf, ReceivePattern, Zone};

#[test]
fn buffers_freed_by_another_thread_come_back_to_the_owner() {
    let pages = HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    let (sender, receiver) = mpsc::sync_channel::<NetBuf>(64);
    let consumer = thread::spawn(move || {
        let mut sum = 0_u64;
        for buffer in receiver {
            sum += buffer.data().iter().map(|byte| u64::from(*byte)).sum::<u64>();
        }
        sum
    });
    for round in 0..5000_u32 {
        let mut buffer = NetBuf::alloc(&memory, 200).unwrap();
        buffer.put(4).unwrap().copy_from_slice(&round.to_le_bytes());
        sender.send(buffer).unwrap();
    }
    drop(sender);
    let expected: u64 = (0..5000_u32).flat_map(u32::to_le_bytes).map(u64::from).sum();
    assert_eq!(consumer.join().unwrap(), expected);
    assert_eq!(memory.statistics().live_descriptors, 0);
    // What the other thread freed was used again: 5000 buffers did not take 5000 buffers' memory.
    assert!(pages.live_blocks() < 100, "{} blocks", pages.live_blocks());
    drop(memory);
    assert_eq!(pages.live_blocks(), 0);
}

#[test]
fn buffers_of_another_threads_memory_come_back_to_everybody() {
    let pages = HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..2000 {
                    let mut buffer = NetBuf::rx_alloc(&memory, 64 + round % 1000).unwrap();
                    buffer.put(50).unwrap().fill(round as u8);
                    let mut clone = buffer.clone_buffer().unwrap();
                    clone.unshare().unwrap();
                    clone.data_mut().unwrap().fill(1);
                    assert!(buffer.data().iter().all(|byte| *byte == round as u8));
                }
            });
        }
    });
    assert_eq!(memory.statistics().live_descriptors, 0);
    assert!(pages.live_blocks() < 100);
    drop(memory);
    assert_eq!(pages.live_blocks(), 0);
}

#[test]
fn the_halves_of_a_pair_may_die_in_any_order_and_anywhere() {
    let pages = HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    for round in 0..3000 {
        let mut original = NetBuf::alloc_fclone(&memory, 100).unwrap();
        original.put(10).unwrap().fill(7);
        let clone = original.clone_buffer().unwrap();
        let third = (round % 3 == 0).then(|| original.clone_buffer().unwrap());
        let other = thread::scope(|scope| {
            let other = scope.spawn(move || {
                let sum: u32 = clone.data().iter().map(|byte| u32::from(*byte)).sum();
                drop(clone);
                sum
            });
            if round % 2 == 0 {
                original.unshare().unwrap();
                original.data_mut().unwrap().fill(9);
            }
            drop(original);
            other.join().unwrap()
        });
        assert_eq!(other, 70);
        drop(third);
    }
    memory.free_deferred();
    assert_eq!(memory.statistics().live_descriptors, 0);
    assert_eq!(memory.statistics().live_slab_objects, 0);
    drop(memory);
    assert_eq!(pages.live_blocks(), 0);
}

#[test]
fn a_block_returns_to_its_pool_when_another_thread_drops_the_last_frag() {
    let pages = HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    let pool = BlockPool::new(&memory, 1, Zone::Normal, 4).unwrap();
    let pattern = ReceivePattern { head_len: 64, copybreak: 64, truesize: None };
    for _ in 0..500 {
        let mut block = pool.take().unwrap();
        block.bytes_mut().fill(3);
        let block = block.share();
        let buffers: Vec<_> = (0..4)
            .map(|index| NetBuf::receive(&memory, &block, index * 1500, 1500, &pattern).unwrap())
            .collect();
        drop(block);
        thread::scope(|scope| {
            for buffer in buffers {
                scope.spawn(move || assert!(buffer.pieces().flatten().all(|byte| *byte == 3)));
            }
        });
        assert_eq!((pool.idle(), pool.out()), (1, 0));
    }
    drop(pool);
    drop(memory);
    assert_eq!(pages.live_blocks(), 0);
}

#[test]
fn a_locked_queue_loses_nothing_between_threads() {
    let memory = netbuf::host::memory();
    let queue = LockedQueue::new();
    let taken = thread::scope(|scope| {
        for producer in 0..3_u32 {
            let (queue, memory) = (&queue, &memory);
            scope.spawn(move || {
                for index in 0..1000_u32 {
                    let mut buffer = NetBuf::alloc(memory, 64).unwrap();
                    buffer.set_mark(producer * 1000 + index);
                    if index % 2 == 0 { queue.push_back(buffer) } else { queue.push_front(buffer) }
                }
            });
        }
        let consumers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut marks = Vec::new();
                    while marks.len() < 1500 {
                        if let Some(buffer) = queue.pop_front() {
                            marks.push(buffer.mark());
                        } else {
                            thread::yield_now();
                        }
                    }
                    marks
                })
            })
            .collect();
        consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect::<Vec<_>>()
    });
    let mut marks = taken;
    marks.sort_unstable();
    assert_eq!(marks, (0..3000).collect::<Vec<_>>());
}

#[test]
fn everything_may_outlive_the_thread_that_made_the_memory() {
    let pages = HostPages::new();
    let source = pages.clone();
    let (memory, pool, buffers) = thread::spawn(move || {
        let memory = Memory::new(source).unwrap();
        let pool = BlockPool::new(&memory, 0, Zone::Normal, 2).unwrap();
        let block = pool.take().unwrap().share();
        let pattern = ReceivePattern { head_len: 14, copybreak: 0, truesize: None };
        let first = NetBuf::receive(&memory, &block, 0, 1000, &pattern).unwrap();
        let second = NetBuf::receive(&memory, &block, 1000, 1000, &pattern).unwrap();
        let third = NetBuf::alloc_fclone(&memory, 10).unwrap();
        (memory, pool, [first, second, third])
    })
    .join()
    .unwrap();
    drop(buffers);
    drop(pool);
    drop(memory);
    assert_eq!(pages.live_blocks(), 0);
}

#[test]
fn buffers_keep_a_memory_without_handles_alive_in_any_thread() {
    for elsewhere in [false, true] {
        let pages = HostPages::new();
        let memory = Memory::new(pages.clone()).unwrap();
        let block = Block::alloc(&memory, 1, Zone::Normal).unwrap().share();
        let mut buffer = NetBuf::alloc(&memory, 100).unwrap();
        buffer.add_rx_frag(block, 0, 100, 8192).unwrap();
        drop(memory);
        assert!(pages.live_blocks() > 0);
        let end = move || {
            assert_eq!(buffer.len(), 100);
            drop(buffer);
        };
        if elsewhere {
            thread::spawn(end).join().unwrap()
        } else {
            end()
        }
        assert_eq!(pages.live_blocks(), 0);
    }
}

#[test]
fn a_block_may_be_the_last_of_a_memory_in_any_thread() {
    for (handle_elsewhere, block_elsewhere) in [(false, false), (false, true), (true, false), (true, true)] {
        for pooled in [false, true] {
            let run = |elsewhere: bool, work: Box<dyn FnOnce() + Send>| {
                if elsewhere { thread::spawn(work).join().unwrap() } else { work() }
            };
            let pages = HostPages::new();
            let memory = Memory::new(pages.clone()).unwrap();
            let pool = BlockPool::new(&memory, 0, Zone::Normal, 2).unwrap();
            let block = if pooled { pool.take() } else { Block::alloc(&memory, 0, Zone::Normal) };
            let block = block.unwrap().share();
            let second = block.clone();
            run(handle_elsewhere, Box::new(move || drop((pool, memory))));
            assert_eq!(second.bytes(), block.bytes());
            run(block_elsewhere, Box::new(move || drop(block)));
            assert_ne!(pages.live_blocks(), 0);
            run(block_elsewhere, Box::new(move || drop(second)));
            assert_eq!(pages.live_blocks(), 0, "{handle_elsewhere} {block_elsewhere} {pooled}");
        }
    }
}

#[test]
fn fragments_freed_by_another_thread_are_all_missed_by_nobody() {
    let pages = HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    let (sender, receiver) = mpsc::sync_channel::<NetBuf>(16);
    let consumer = thread::spawn(move || receiver.into_iter().for_each(drop));
    for round in 0..5000 {
        let mut buffer = NetBuf::rx_alloc(&memory, 100 + round % 900).unwrap();
        buffer.put(100).unwrap().fill(round as u8);
        // Some die here, some there.
        if round % 3 == 0 {
            drop(NetBuf::rx_alloc(&memory, 200).unwrap());
        }
        sender.send(buffer).unwrap();
    }
    drop(sender);
    consumer.join().unwrap();
    assert_eq!(memory.statistics().live_descriptors, 0);
    memory.shrink();
    // Nothing is left but the memory itself: each reference to a fragment's block was given back once.
    assert_eq!(pages.live_blocks(), 1);
}

#[test]
fn several_threads_may_receive_from_one_block() {
    let pages = HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    let mut block = Block::alloc(&memory, 2, Zone::Normal).unwrap();
    for (index, byte) in block.bytes_mut().iter_mut().enumerate() {
        *byte = index as u8;
    }
    let block = block.share();
    let pattern = ReceivePattern { head_len: 128, copybreak: 64, truesize: None };
    let receive = |first: usize| {
        let mut held = Vec::new();
        for round in 0..3000 {
            let offset = (first + round * 61) % 15_000;
            let buffer = NetBuf::receive(&memory, &block, offset, 1000, &pattern).unwrap();
            held.push((offset, buffer));
            if held.len() > 8 {
                let (offset, buffer) = held.swap_remove(round % held.len());
                assert!(buffer.pieces().flatten().eq(&block.bytes()[offset..offset + 1000]));
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| receive(1));
        scope.spawn(|| receive(2));
        receive(3);
    });
    assert_eq!(memory.statistics().live_descriptors, 0);
    assert_eq!(block.references(), 1);
    drop((block, memory));
    assert_eq!(pages.live_blocks(), 0);
}
