//! The two halves of a pair in every interleaving: see `tests/pairs` for the same one after the other.
//!
//! A half that is read right before it is dropped, against one that writes as soon as it may: loom would see a write that
//! is not ordered behind the read.

use std::sync::Arc;

use loom::thread;
use netbuf::context::enter_interrupt;
use netbuf::host::HostPages;
use netbuf::{Memory, NetBuf, Queue};

use super::{explore, explore_three, explore_up_to};

fn pair(memory: &Memory) -> [NetBuf; 2] {
    let mut original = NetBuf::alloc_fclone(memory, 64).unwrap();
    original.put(1).unwrap()[0] = 1;
    let clone = original.clone_buffer().unwrap();
    [original, clone]
}

/// Reads to the last moment.
fn read_and_drop(buffer: NetBuf) {
    assert_eq!(buffer.data(), [1]);
    drop(buffer);
}

/// Writes if nobody else is there, as far as the buffer says.
fn try_to_write(buffer: &mut NetBuf) -> bool {
    match buffer.data_mut() {
        Ok(data) => {
            data[0] = 2;
            true
        }
        Err(netbuf::Shared) => false,
    }
}

#[test]
fn both_halves_of_a_pair_may_die_at_once() {
    explore(|memory| {
        let mut buffer = NetBuf::alloc_fclone(memory, 64).unwrap();
        buffer.put(1).unwrap()[0] = 1;
        let clone = buffer.clone_buffer().unwrap();
        let other = thread::spawn(move || {
            assert_eq!(clone.data(), [1]);
            drop(clone);
        });
        if let Ok(data) = buffer.data_mut() {
            data[0] = 2;
        }
        drop(buffer);
        other.join().unwrap();
    });
}

#[test]
fn a_half_may_leave_the_head_while_the_other_dies() {
    explore(|memory| {
        let mut buffer = NetBuf::alloc_fclone(memory, 64).unwrap();
        buffer.put(1).unwrap()[0] = 1;
        let clone = buffer.clone_buffer().unwrap();
        let other = thread::spawn(move || drop(clone));
        buffer.unshare().unwrap();
        buffer.data_mut().unwrap()[0] = 2;
        other.join().unwrap();
        drop(buffer);
    });
}

#[test]
fn both_halves_may_leave_the_head_at_once() {
    explore(|memory| {
        let mut buffer = NetBuf::alloc_fclone(memory, 64).unwrap();
        buffer.put(1).unwrap()[0] = 1;
        let mut clone = buffer.clone_buffer().unwrap();
        let other = thread::spawn(move || {
            clone.unshare().unwrap();
            clone.data_mut().unwrap()[0] = 3;
        });
        buffer.unshare().unwrap();
        buffer.data_mut().unwrap()[0] = 2;
        drop(buffer);
        other.join().unwrap();
    });
}

#[test]
fn a_clone_may_be_cloned_while_the_original_dies() {
    explore(|memory| {
        let mut buffer = NetBuf::alloc_fclone(memory, 64).unwrap();
        let mut clone = buffer.clone_buffer().unwrap();
        let other = thread::spawn(move || {
            let second = clone.clone_buffer().unwrap();
            drop(clone);
            drop(second);
        });
        drop(buffer);
        other.join().unwrap();
    });
}

#[test]
fn the_owner_keeps_the_clone_while_the_original_dies_elsewhere() {
    explore(|memory| {
        let [original, mut clone] = pair(memory);
        let other = thread::spawn(move || read_and_drop(original));
        try_to_write(&mut clone);
        other.join().unwrap();
        memory.free_deferred();
        assert!(!clone.is_cloned() && try_to_write(&mut clone));
    });
}

#[test]
fn the_owner_keeps_the_original_while_the_clone_dies_elsewhere() {
    explore(|memory| {
        let [mut original, clone] = pair(memory);
        let other = thread::spawn(move || read_and_drop(clone));
        try_to_write(&mut original);
        memory.free_deferred();
        try_to_write(&mut original);
        other.join().unwrap();
        memory.free_deferred();
        assert!(!original.is_cloned() && try_to_write(&mut original));
        // And the place of the clone is free for another one.
        let clone = original.clone_buffer().unwrap();
        assert!(clone.is_cloned() && !try_to_write(&mut original));
    });
}

#[test]
fn both_halves_may_die_in_one_other_thread_beside_a_third_user() {
    for reversed in [false, true] {
        explore(move |memory| {
            let mut halves = pair(memory);
            let mut third = halves[0].clone_buffer().unwrap();
            if reversed {
                halves.reverse();
            }
            let [first, mut second] = halves;
            let other = thread::spawn(move || {
                read_and_drop(first);
                try_to_write(&mut second);
                drop(second);
            });
            memory.free_deferred();
            try_to_write(&mut third);
            drop(third);
            other.join().unwrap();
        });
    }
}

#[test]
fn both_halves_may_die_at_once_in_two_other_threads() {
    explore_three(|memory| {
        let [original, mut clone] = pair(memory);
        let first = thread::spawn(move || read_and_drop(original));
        let second = thread::spawn(move || {
            try_to_write(&mut clone);
            drop(clone);
        });
        memory.free_deferred();
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn the_owner_may_clone_again_while_the_clone_dies_elsewhere() {
    explore(|memory| {
        let [mut original, clone] = pair(memory);
        let other = thread::spawn(move || read_and_drop(clone));
        let second = original.clone_buffer().unwrap();
        assert!(!try_to_write(&mut original));
        read_and_drop(second);
        try_to_write(&mut original);
        let third = original.clone_buffer().unwrap();
        drop(original);
        other.join().unwrap();
        assert_eq!(third.len(), 1);
    });
}

#[test]
fn an_original_elsewhere_may_clone_again_while_the_clone_dies_in_the_owner() {
    explore(|memory| {
        let [mut original, clone] = pair(memory);
        let other = thread::spawn(move || {
            let second = original.clone_buffer().unwrap();
            assert!(second.is_cloned() && !try_to_write(&mut original));
            read_and_drop(original);
            read_and_drop(second);
        });
        read_and_drop(clone);
        other.join().unwrap();
    });
}

#[test]
fn three_users_of_a_pairs_head_may_die_at_once() {
    explore_three(|memory| {
        let [mut original, clone] = pair(memory);
        let third = original.clone_buffer().unwrap();
        let first = thread::spawn(move || read_and_drop(clone));
        let second = thread::spawn(move || read_and_drop(third));
        try_to_write(&mut original);
        drop(original);
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn a_half_elsewhere_may_leave_the_head_while_the_owners_half_dies() {
    for reversed in [false, true] {
        explore(move |memory| {
            let mut halves = pair(memory);
            if reversed {
                halves.reverse();
            }
            let [here, mut there] = halves;
            let other = thread::spawn(move || {
                there.unshare().unwrap();
                assert!(!there.is_cloned() && try_to_write(&mut there));
            });
            read_and_drop(here);
            other.join().unwrap();
        });
    }
}

#[test]
fn a_half_of_the_owner_may_leave_the_head_while_the_other_dies_elsewhere() {
    for reversed in [false, true] {
        explore(move |memory| {
            let mut halves = pair(memory);
            if reversed {
                halves.reverse();
            }
            let [mut here, there] = halves;
            let other = thread::spawn(move || read_and_drop(there));
            here.unshare().unwrap();
            assert!(!here.is_cloned() && try_to_write(&mut here));
            // The half is on its own now, its clone is another one.
            let clone = here.clone_buffer().unwrap();
            assert!(!try_to_write(&mut here));
            drop(here);
            drop(clone);
            other.join().unwrap();
        });
    }
}

#[test]
fn handles_to_a_half_may_be_dropped_while_the_other_half_dies() {
    for reversed in [false, true] {
        explore(move |memory| {
            let mut halves = pair(memory);
            if reversed {
                halves.reverse();
            }
            let [half, rest] = halves;
            let handle = half.share();
            let tap = handle.clone();
            let other = thread::spawn(move || {
                assert_eq!(tap.data(), [1]);
                drop(tap);
                read_and_drop(rest);
            });
            let mut buffer = handle.share_check().unwrap();
            try_to_write(&mut buffer);
            drop(buffer);
            other.join().unwrap();
        });
    }
}

#[test]
fn halves_in_a_frag_list_and_a_queue_may_die_at_once() {
    explore(|memory| {
        let [original, clone] = pair(memory);
        let mut whole = NetBuf::alloc(memory, 64).unwrap();
        whole.append_to_frag_list(original).unwrap();
        let queue = Queue::from_iter([clone]);
        let other = thread::spawn(move || drop(whole));
        drop(queue);
        other.join().unwrap();
    });
}

#[test]
fn a_handler_elsewhere_may_drop_a_half_while_the_owner_frees_what_was_deferred() {
    explore(|memory| {
        let [mut original, clone] = pair(memory);
        let other = thread::spawn(move || {
            let _interrupt = enter_interrupt();
            read_and_drop(clone);
        });
        memory.free_deferred();
        try_to_write(&mut original);
        drop(original);
        other.join().unwrap();
    });
}

#[test]
fn two_contexts_may_free_what_was_deferred_at_once() {
    explore(|memory| {
        let [original, clone] = pair(memory);
        original.free_irq();
        clone.free_irq();
        let other = thread::spawn({
            let memory = memory.clone();
            move || {
                memory.free_deferred();
            }
        });
        memory.free_deferred();
        other.join().unwrap();
    });
}

#[test]
fn the_owner_may_drop_the_last_handle_while_both_halves_die_elsewhere() {
    for (threads, preemptions) in [(1, 4), (2, 1)] {
        explore_up_to(Some(preemptions), move |_| {
            let pages = HostPages::new();
            let memory = Memory::new(pages.clone()).unwrap();
            let [original, clone] = pair(&memory);
            let others = if threads == 1 {
                vec![thread::spawn(move || {
                    read_and_drop(clone);
                    read_and_drop(original);
                })]
            } else {
                vec![
                    thread::spawn(move || read_and_drop(original)),
                    thread::spawn(move || read_and_drop(clone)),
                ]
            };
            drop(memory);
            for other in others {
                other.join().unwrap();
            }
            assert_eq!(pages.live_blocks(), 0);
        });
    }
}

#[test]
fn the_owner_may_drop_the_last_handle_and_a_half_while_the_other_dies_elsewhere() {
    for (reversed, handle_first) in [(false, false), (false, true), (true, false), (true, true)] {
        explore(move |_| {
            let pages = HostPages::new();
            let memory = Memory::new(pages.clone()).unwrap();
            let mut halves = pair(&memory);
            if reversed {
                halves.reverse();
            }
            let [here, there] = halves;
            let other = thread::spawn(move || read_and_drop(there));
            if handle_first {
                drop(memory);
                read_and_drop(here);
            } else {
                read_and_drop(here);
                drop(memory);
            }
            other.join().unwrap();
            assert_eq!(pages.live_blocks(), 0);
        });
    }
}

#[test]
fn halves_outlive_the_thread_that_made_them() {
    explore_three(|_| {
        let pages = HostPages::new();
        let source = pages.clone();
        let (memory, [original, clone]) = thread::spawn(move || {
            let memory = Memory::new(source).unwrap();
            let halves = pair(&memory);
            (memory, halves)
        })
        .join()
        .unwrap();
        let other = thread::spawn(move || read_and_drop(clone));
        read_and_drop(original);
        drop(memory);
        other.join().unwrap();
        assert_eq!(pages.live_blocks(), 0);
    });
}

#[test]
fn a_memory_without_owner_frees_halves_in_any_thread() {
    explore(|_| {
        let pages = HostPages::new();
        let memory = Memory::unowned(pages.clone()).unwrap();
        let [mut original, clone] = pair(&memory);
        let other = thread::spawn(move || read_and_drop(clone));
        try_to_write(&mut original);
        drop(original);
        drop(memory);
        other.join().unwrap();
        assert_eq!(pages.live_blocks(), 0);
    });
}

#[test]
fn a_charge_is_given_back_once_whoever_frees() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Account {
        charged: AtomicUsize,
        discharges: AtomicUsize,
    }

    impl netbuf::MemoryOwner for Account {
        fn charge(&self, truesize: usize) {
            self.charged.fetch_add(truesize, Ordering::SeqCst);
        }

        fn discharge(&self, truesize: usize) {
            self.charged.fetch_sub(truesize, Ordering::SeqCst);
            self.discharges.fetch_add(1, Ordering::SeqCst);
        }
    }

    explore(|memory| {
        let account = Arc::new(Account::default());
        let [original, mut clone] = pair(memory);
        clone.set_owner(account.clone());
        let other = thread::spawn(move || read_and_drop(clone));
        read_and_drop(original);
        other.join().unwrap();
        memory.free_deferred();
        assert_eq!(account.charged.load(Ordering::SeqCst), 0);
        assert_eq!(account.discharges.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn two_pairs_may_lose_their_halves_at_once() {
    for reversed in [false, true] {
        explore(move |memory| {
            let (mut first, mut second) = (pair(memory), pair(memory));
            if reversed {
                first.reverse();
                second.reverse();
            }
            let ([mut here, there], [also_here, also_there]) = (first, second);
            let other = thread::spawn(move || {
                read_and_drop(there);
                read_and_drop(also_there);
            });
            read_and_drop(also_here);
            try_to_write(&mut here);
            drop(here);
            other.join().unwrap();
        });
    }
}

#[test]
fn the_owner_may_end_right_after_its_half_died_at_once_with_the_other() {
    for reversed in [false, true] {
        explore(move |_| {
            let pages = HostPages::new();
            let source = pages.clone();
            let (sender, receiver) = loom::sync::mpsc::channel();
            let owner = thread::spawn(move || {
                let memory = Memory::new(source).unwrap();
                let mut halves = pair(&memory);
                if reversed {
                    halves.reverse();
                }
                let [here, there] = halves;
                sender.send((memory, there)).unwrap();
                read_and_drop(here);
            });
            let (memory, there) = receiver.recv().unwrap();
            read_and_drop(there);
            owner.join().unwrap();
            drop(memory);
            assert_eq!(pages.live_blocks(), 0);
        });
    }
}
