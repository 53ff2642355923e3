//! All interleavings of a few operations, with loom's atomics in place of the processor's:
//!
//! ```text
//! cargo test -p skiff-netbuf --features loom --release --test loom
//! ```
//!
//! loom checks every order of the atomic operations that the memory model allows, and that the bytes of a head are
//! never read while they are written: a cell beside the shared info stands for them.
#![expect(clippy::unwrap_used, reason = "a test's own set-up")]

mod pairs;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread;
use netbuf::host::HostPages;
use netbuf::{Block, BlockPool, LockedQueue, Memory, NetBuf, Zone};

/// Runs `test` in every interleaving with up to four preemptions, and checks that nothing leaks. (Contexts that wait for a
/// lock make the number of all interleavings infinite for practical purposes.)
fn explore(test: impl Fn(&Memory) + Sync + Send + 'static) {
    explore_up_to(Some(4), test);
}

/// [`explore`] for three threads: up to two preemptions, for time's sake.
fn explore_three(test: impl Fn(&Memory) + Sync + Send + 'static) {
    explore_up_to(Some(2), test);
}

fn explore_up_to(preemptions: Option<usize>, test: impl Fn(&Memory) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 100_000;
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        let pages = HostPages::new();
        let memory = Memory::new(pages.clone()).unwrap();
        test(&memory);
        memory.free_deferred();
        let statistics = memory.statistics();
        assert_eq!((statistics.live_descriptors, statistics.live_slab_objects), (0, 0));
        assert_eq!(statistics.live_blocks, 0);
        drop(memory);
        assert_eq!(pages.live_blocks(), 0);
    });
    let count = count.load(Ordering::Relaxed);
    println!("{count} interleavings");
    assert!(count > 1, "there was nothing to explore");
}

/// Sees to it that references to blocks shared before are counted by the blocks, in all contexts: the owner keeps others
/// in stock of the block that was shared last only.
fn past_the_stock(memory: &Memory) {
    drop(Block::alloc(memory, 0, Zone::Normal).unwrap().share());
}

#[test]
fn a_clone_freed_elsewhere_lets_the_original_write() {
    explore(|memory| {
        let mut buffer = NetBuf::alloc(memory, 64).unwrap();
        buffer.put(1).unwrap()[0] = 1;
        let clone = buffer.clone_buffer().unwrap();
        let reader = thread::spawn(move || assert_eq!(clone.data(), [1]));
        if let Ok(data) = buffer.data_mut() {
            data[0] = 2;
        }
        drop(buffer);
        reader.join().unwrap();
    });
}

#[test]
fn both_users_of_a_head_may_free_it_at_once() {
    explore(|memory| {
        let mut buffer = NetBuf::alloc(memory, 64).unwrap();
        let clone = buffer.clone_buffer().unwrap();
        let other = thread::spawn(move || drop(clone));
        drop(buffer);
        other.join().unwrap();
    });
}

#[test]
fn the_last_of_two_frags_retires_the_block() {
    explore(|memory| {
        let pool = BlockPool::new(memory, 0, Zone::Normal, 2).unwrap();
        let block = pool.take().unwrap().share();
        past_the_stock(memory);
        let mut first = NetBuf::alloc(memory, 64).unwrap();
        first.add_rx_frag(block.clone(), 0, 100, 4096).unwrap();
        let mut second = NetBuf::alloc(memory, 64).unwrap();
        second.add_rx_frag(block, 100, 100, 4096).unwrap();
        let other = thread::spawn(move || drop(second));
        drop(first);
        other.join().unwrap();
        assert_eq!((pool.idle(), pool.out()), (1, 0));
    });
}

#[test]
fn handles_to_one_descriptor_may_be_dropped_at_once() {
    explore(|memory| {
        let shared = NetBuf::alloc(memory, 64).unwrap().share();
        let second = shared.clone();
        let other = thread::spawn(move || drop(second.share_check().unwrap()));
        drop(shared);
        other.join().unwrap();
    });
}

#[test]
fn references_to_a_block_may_be_taken_and_dropped_at_once() {
    explore(|memory| {
        let block = Block::alloc(memory, 0, Zone::Normal).unwrap().share();
        past_the_stock(memory);
        let second = block.clone();
        let other = thread::spawn(move || {
            let third = second.clone();
            drop(second);
            drop(third);
        });
        drop(block.clone());
        drop(block);
        other.join().unwrap();
    });
}

#[test]
fn buffers_deferred_by_two_contexts_are_all_freed() {
    explore(|memory| {
        let first = NetBuf::alloc(memory, 64).unwrap();
        let second = NetBuf::alloc(memory, 64).unwrap();
        let other = thread::spawn(move || first.free_irq());
        second.free_irq();
        let freed = memory.free_deferred();
        other.join().unwrap();
        assert_eq!(freed + memory.free_deferred(), 2);
    });
}

#[test]
fn a_locked_queue_hands_each_buffer_to_one_taker() {
    explore(|memory| {
        let queue = loom::sync::Arc::new(LockedQueue::new());
        queue.push_back(NetBuf::alloc(memory, 64).unwrap());
        let other = thread::spawn({
            let queue = queue.clone();
            let memory = memory.clone();
            move || {
                queue.push_back(NetBuf::alloc(&memory, 64).unwrap());
                usize::from(queue.pop_front().is_some())
            }
        });
        let mine = usize::from(queue.pop_front().is_some());
        let taken = mine + other.join().unwrap();
        assert_eq!(taken + queue.take().len(), 2);
    });
}

#[test]
fn the_last_buffer_and_the_last_handle_may_go_in_different_contexts() {
    explore(|_| {
        let pages = HostPages::new();
        let memory = Memory::unowned(pages.clone()).unwrap();
        let buffer = NetBuf::alloc(&memory, 64).unwrap();
        let other = thread::spawn(move || drop(buffer));
        drop(memory);
        other.join().unwrap();
        assert_eq!(pages.live_blocks(), 0);
    });
}

#[test]
fn the_last_block_and_the_last_handle_may_go_in_different_contexts() {
    explore(|_| {
        let pages = HostPages::new();
        let memory = Memory::new(pages.clone()).unwrap();
        let block = Block::alloc(&memory, 0, Zone::Normal).unwrap().share();
        let second = block.clone();
        let other = thread::spawn(move || drop(second));
        drop(memory);
        other.join().unwrap();
        let last = thread::spawn(move || drop(block));
        last.join().unwrap();
        assert_eq!(pages.live_blocks(), 0);
    });
}

#[test]
fn fragments_may_be_freed_elsewhere_while_the_owner_cuts_another() {
    explore_three(|_| {
        let pages = HostPages::new();
        let memory = Memory::new(pages.clone()).unwrap();
        let first = NetBuf::rx_alloc(&memory, 64).unwrap();
        let second = NetBuf::rx_alloc(&memory, 64).unwrap();
        let one = thread::spawn(move || drop(first));
        let other = thread::spawn(move || drop(second));
        drop(NetBuf::rx_alloc(&memory, 64).unwrap());
        one.join().unwrap();
        other.join().unwrap();
        // Nothing is left but the memory: each reference to the block was given back once.
        memory.shrink();
        assert_eq!(pages.live_blocks(), 1);
    });
}
