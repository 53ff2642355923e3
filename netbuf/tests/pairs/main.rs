//! The two halves of a pair (`alloc_fclone`) in different contexts: whoever owns the memory, its interrupt handlers and
//! other threads use them and give them up, in every order.
//!
//! What must hold is what the documentation promises, whatever route a free takes: a head is never writable while
//! somebody else uses it; after [`Memory::free_deferred`] of the owner the remaining half may write; nothing is left in
//! the end.
#![cfg(not(feature = "loom"))]
#![expect(clippy::unwrap_used, reason = "a test's own set-up")]

#[path = "../model/account.rs"]
mod account;
mod charges;
mod contexts;
mod every_case;

use std::thread;

use contexts::{Contexts, PLACES, Place, finishes};
use every_case::{FATES, Fate, Use, use_and_drop};
use netbuf::host::HostPages;
use netbuf::{Block, Memory, NetBuf, Statistics, Zone};

const BYTES: &[u8] = b"the bytes of the pair";

/// Two halves that share a head with a frag.
fn pair(memory: &Memory) -> [NetBuf; 2] {
    let mut original = NetBuf::alloc_fclone(memory, 64).unwrap();
    original.put(BYTES.len()).unwrap().copy_from_slice(BYTES);
    let block = Block::alloc(memory, 0, Zone::Normal).unwrap().share();
    original.add_rx_frag(block, 0, 100, 4096).unwrap();
    let clone = original.clone_buffer().unwrap();
    assert!(original.is_cloned() && clone.is_cloned());
    [original, clone]
}

fn assert_nothing_is_live(statistics: Statistics) {
    assert_no_buffer_is_live(statistics);
    assert_eq!(statistics.live_blocks, 0);
}

fn assert_no_buffer_is_live(statistics: Statistics) {
    assert_eq!((statistics.live_descriptors, statistics.live_slab_objects), (0, 0));
}

#[test]
fn a_half_may_be_used_and_cloned_and_freed_in_a_handler() {
    let memory = netbuf::host::memory();
    for handler_gets_original in [true, false] {
        let [original, clone] = pair(&memory);
        let (gone, mut stays) = if handler_gets_original { (original, clone) } else { (clone, original) };
        let contexts = Contexts::new();
        contexts.run(Place::InterruptHere, move || drop(gone));
        assert_eq!(memory.free_deferred(), 1);
        assert!(!stays.is_cloned());
        // In the handler the owner's own buffer can be looked at, and written when it is nobody else's.
        let mut stays = contexts.run(Place::InterruptHere, move || {
            assert!(!stays.is_cloned());
            stays.data_mut().unwrap()[0] = b'T';
            stays
        });
        let clone = contexts.run(Place::InterruptHere, {
            let clone = stays.clone_buffer().unwrap();
            move || {
                assert!(clone.is_cloned());
                clone
            }
        });
        assert!(stays.is_cloned() && stays.data_mut().is_err());
        assert_eq!(clone.data(), stays.data());
    }
}

#[test]
fn memory_does_not_grow_while_another_thread_frees_what_the_owner_clones() {
    let pages = HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    let contexts = Contexts::new();
    let mut kept = NetBuf::alloc_fclone(&memory, 64).unwrap();
    kept.put(BYTES.len()).unwrap().copy_from_slice(BYTES);
    for round in 0..3000 {
        // A clone of the kept original, as TCP sends; and a new pair, of which one half or the other goes elsewhere.
        let clone = kept.clone_buffer().unwrap();
        let [original, second] = pair(&memory);
        let (there, here) = if round % 2 == 0 { (original, second) } else { (second, original) };
        contexts.run(Place::There, move || {
            assert_eq!(clone.data(), BYTES);
            drop(clone);
            drop(there);
        });
        drop(here);
    }
    assert!(pages.live_blocks() < 60, "{} blocks", pages.live_blocks());
    memory.free_deferred();
    kept.data_mut().unwrap()[0] = b'T';
    drop(kept);
    assert_nothing_is_live(memory.statistics());
    drop(memory);
    assert_eq!(pages.live_blocks(), 0);
}

#[test]
fn halves_that_die_at_once_in_two_threads_leave_nothing() {
    finishes(|| {
        for fate in FATES {
            for _ in 0..200 {
                let pages = HostPages::new();
                let source = pages.clone();
                let make = |memory: Memory| {
                    let halves = pair(&memory);
                    (memory, halves)
                };
                let (memory, [mut original, mut clone]) = match fate {
                    Fate::Unowned => make(Memory::unowned(source).unwrap()),
                    Fate::OwnerEnded => {
                        thread::spawn(move || make(Memory::new(source).unwrap())).join().unwrap()
                    }
                    _ => make(Memory::new(source).unwrap()),
                };
                let memory = (fate != Fate::DroppedBefore).then_some(memory);
                thread::scope(|scope| {
                    scope.spawn(move || {
                        // Whoever may write is alone, and nobody reads what he writes.
                        if let Ok(data) = original.data_mut() {
                            data.fill(1);
                        }
                        drop(original);
                    });
                    scope.spawn(move || {
                        let second = clone.clone_buffer().unwrap();
                        assert_eq!(second.data(), BYTES);
                        drop(second);
                        drop(clone);
                    });
                    if fate == Fate::DroppedBetween {
                        drop(memory);
                    } else if let Some(memory) = memory {
                        memory.free_deferred();
                    }
                });
                assert_eq!(pages.live_blocks(), 0, "{fate:?}");
            }
        }
    });
}

#[test]
fn what_others_left_may_be_freed_by_anybody_at_any_time() {
    finishes(|| {
        let pages = HostPages::new();
        let memory = Memory::new(pages.clone()).unwrap();
        for _ in 0..300 {
            let [original, clone] = pair(&memory);
            let [other, rest] = pair(&memory);
            thread::scope(|scope| {
                scope.spawn(|| {
                    drop(original);
                    memory.free_deferred();
                });
                scope.spawn(|| {
                    let _interrupt = netbuf::context::enter_interrupt();
                    drop(clone);
                    drop(other);
                    assert_eq!(memory.free_deferred(), 0, "a handler frees nothing");
                });
                scope.spawn(|| memory.free_deferred());
                drop(rest);
                memory.free_deferred();
            });
        }
        memory.free_deferred();
        assert_nothing_is_live(memory.statistics());
        drop(memory);
        assert_eq!(pages.live_blocks(), 0);
    });
}

#[test]
fn many_pairs_may_be_half_dead_elsewhere_and_end_in_any_order() {
    const PAIRS: usize = 6;
    let contexts = Contexts::new();
    for round in 0..120_usize {
        let pages = HostPages::new();
        let memory = Memory::new(pages.clone()).unwrap();
        let (mut kept, mut given) = (Vec::new(), Vec::new());
        for index in 0..PAIRS {
            let [original, clone] = pair(&memory);
            let (here, there) = if (round + index) % 2 == 0 { (original, clone) } else { (clone, original) };
            kept.push(here);
            given.push(there);
        }
        // All of one half each die there, then some of the others, in an order that changes with the round.
        contexts.run(Place::There, move || drop(given));
        let mut order = round;
        for _ in 0..PAIRS / 2 {
            let half = kept.swap_remove(order % kept.len());
            order /= 3;
            let place = [Place::There, Place::Elsewhere, Place::Here][order % 3];
            contexts.run(place, move || use_and_drop(half, Use::Read, true));
        }
        if round % 4 == 0 {
            memory.free_deferred();
            assert!(kept.iter().all(|half| !half.is_cloned()));
        }
        for half in &mut kept {
            // Whoever was noted to be alone may write, and be cloned again.
            half.unshare().unwrap();
            half.data_mut().unwrap()[0] = b't';
            drop(half.clone_buffer().unwrap());
        }
        if round % 2 == 0 {
            contexts.run(Place::There, move || drop(kept));
        } else {
            drop(kept);
        }
        memory.free_deferred();
        assert_nothing_is_live(memory.statistics());
        drop(memory);
        assert_eq!(pages.live_blocks(), 0);
    }
}

#[test]
fn an_original_that_left_the_head_elsewhere_may_be_cloned_again_there() {
    let contexts = Contexts::new();
    for clone_dies in PLACES {
        for goes_on in PLACES {
            let pages = HostPages::new();
            let memory = Memory::new(pages.clone()).unwrap();
            let [mut original, clone] = pair(&memory);
            // The joint head is the clone's alone, then nobody's; the pair's place for a clone is free again.
            let original = contexts.run(goes_on, move || {
                original.unshare().unwrap();
                original.data_mut().unwrap()[0] = b'T';
                original
            });
            assert_eq!(clone.data(), BYTES);
            contexts.run(clone_dies, move || drop(clone));
            contexts.run(goes_on, move || {
                let mut original = original;
                let mut again = original.clone_buffer().unwrap();
                assert_eq!((again.data()[0], again.data().as_ptr()), (b'T', original.data().as_ptr()));
                assert!(original.data_mut().is_err() && again.data_mut().is_err());
                drop(original);
                drop(again);
            });
            memory.free_deferred();
            assert_nothing_is_live(memory.statistics());
            drop(memory);
            assert_eq!(pages.live_blocks(), 0, "{clone_dies:?} {goes_on:?}");
        }
    }
}

#[test]
fn a_half_may_lie_in_the_frag_list_of_the_head_that_the_other_gives_up() {
    for first in [0, 1] {
        for owner_is_gone in [false, true] {
            let pages = HostPages::new();
            let source = pages.clone();
            // One half leaves the joint head elsewhere, and goes on its frag list then.
            let make = move || {
                let memory = Memory::new(source).unwrap();
                let mut halves = Vec::from(pair(&memory));
                let mut leaves = halves.remove(first);
                let leaves = thread::spawn(move || {
                    leaves.unshare().unwrap();
                    leaves
                });
                let mut stays = halves.remove(0);
                stays.append_to_frag_list(leaves.join().unwrap()).unwrap();
                (memory, stays)
            };
            let (memory, stays) = if owner_is_gone { thread::spawn(make).join().unwrap() } else { make() };
            thread::spawn(move || drop(stays)).join().unwrap();
            assert_eq!(memory.statistics().live_descriptors, 0);
            drop(memory);
            assert_eq!(pages.live_blocks(), 0);
        }
    }
}
