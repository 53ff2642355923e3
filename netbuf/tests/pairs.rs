//! The two halves of a pair (`alloc_fclone`) in different contexts: whoever owns the memory, its interrupt handlers and
//! other threads use them and give them up, in every order.
//!
//! What must hold is what the documentation promises, whatever route a free takes: a head is never writable while
//! somebody else uses it; after [`Memory::free_deferred`] of the owner the remaining half may write; nothing is left in
//! the end.
#![cfg(not(feature = "loom"))]
#![expect(clippy::unwrap_used, reason = "a test's own set-up")]

#[path = "model/account.rs"]
mod account;
mod contexts;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use account::Account;
use contexts::{Contexts, PLACES, Place, finishes};
use netbuf::context::in_interrupt;
use netbuf::host::HostPages;
use netbuf::{Block, Memory, MemoryOwner, NetBuf, Queue, Statistics, Zone};

const BYTES: &[u8] = b"the bytes of the pair";

/// What becomes of the memory's handle and owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The owner keeps the handle.
    Kept,
    /// The handle goes before the first half does.
    DroppedBefore,
    /// The handle goes between the halves.
    DroppedBetween,
    /// The thread that made the memory and the halves has ended.
    OwnerEnded,
    /// The memory never belonged to anybody.
    Unowned,
}

const FATES: [Fate; 5] =
    [Fate::Kept, Fate::DroppedBefore, Fate::DroppedBetween, Fate::OwnerEnded, Fate::Unowned];

/// What is done with a half before it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Read,
    Unshare,
    Clone,
    CloneAndKeepTheClone,
    Handles,
    Copy,
    FragList,
    Queue,
}

const USES: [Use; 8] = [
    Use::Read,
    Use::Unshare,
    Use::Clone,
    Use::CloneAndKeepTheClone,
    Use::Handles,
    Use::Copy,
    Use::FragList,
    Use::Queue,
];

/// Uses a half in the calling context and gives it up there.
fn use_and_drop(mut half: NetBuf, what: Use, may_write: bool) {
    assert_eq!(half.data(), BYTES);
    assert_eq!(half.len(), BYTES.len() + 100);
    if !may_write {
        assert!(half.is_cloned() && half.data_mut().is_err() && half.put(1).is_err());
    }
    match what {
        Use::Read => drop(half),
        Use::Unshare => {
            half.unshare().unwrap();
            assert!(!half.is_cloned());
            half.data_mut().unwrap().fill(0xee);
            half.linearize().unwrap();
            drop(half);
        }
        Use::Clone => {
            let clone = half.clone_buffer().unwrap();
            assert!(half.is_cloned() && clone.is_cloned());
            drop(clone);
            drop(half);
        }
        Use::CloneAndKeepTheClone => {
            let clone = half.clone_buffer().unwrap();
            drop(half);
            assert_eq!(clone.data(), BYTES);
            assert!(may_write || clone.is_cloned());
            drop(clone);
        }
        Use::Handles => {
            let handle = half.share();
            let second = handle.clone();
            assert_eq!(second.data(), BYTES);
            assert_eq!(handle.users(), 2);
            let clone = second.share_check().unwrap();
            assert!(clone.is_cloned());
            drop(clone);
            drop(handle.share_check().unwrap());
        }
        Use::Copy => {
            let mut copy = half.copy().unwrap();
            copy.data_mut().unwrap().fill(0xcc);
            let mut head = half.copy_head().unwrap();
            head.data_mut().unwrap().fill(0xcd);
            assert_eq!(half.data(), BYTES);
        }
        Use::FragList => {
            // An empty buffer of the same memory to hang it on.
            let mut whole = half.copy().unwrap();
            whole.trim(0).unwrap();
            whole.append_to_frag_list(half).unwrap();
            assert_eq!(whole.len(), BYTES.len() + 100);
            let clone = whole.clone_buffer().unwrap();
            drop(whole);
            assert_eq!(clone.pieces().next(), Some(BYTES));
        }
        Use::Queue => {
            let mut queue = Queue::from_iter([half]);
            assert_eq!(queue.front().map(NetBuf::data), Some(BYTES));
            queue.clear();
        }
    }
}

/// An [`Account`] for buffers that only handlers drop: a task must give them back.
#[derive(Debug, Default)]
struct TaskAccount(Account);

impl MemoryOwner for TaskAccount {
    fn charge(&self, truesize: usize) {
        self.0.charge(truesize);
    }

    fn discharge(&self, truesize: usize) {
        assert!(!in_interrupt(), "a task frees what an interrupt handler dropped");
        self.0.discharge(truesize);
    }
}

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

struct Case {
    fate: Fate,
    /// Which half goes first: the original or the clone.
    original_first: bool,
    places: [Place; 2],
    uses: [Use; 2],
}

impl Case {
    fn run(&self, contexts: &Contexts) {
        let pages = HostPages::new();
        let source = pages.clone();
        let make = |memory: Memory| {
            let halves = pair(&memory);
            (memory, halves)
        };
        let (memory, mut halves) = match self.fate {
            Fate::Unowned => make(Memory::unowned(source).unwrap()),
            Fate::OwnerEnded => thread::spawn(move || make(Memory::new(source).unwrap())).join().unwrap(),
            _ => make(Memory::new(source).unwrap()),
        };
        if !self.original_first {
            halves.reverse();
        }
        let [first, mut second] = halves;
        let [first_use, second_use] = self.uses;
        let mut memory = Some(memory);
        if self.fate == Fate::DroppedBefore {
            memory = None;
        }
        contexts.run(self.places[0], move || use_and_drop(first, first_use, false));
        if self.fate == Fate::DroppedBetween {
            memory = None;
        }
        if let Some(memory) = &memory {
            memory.free_deferred();
            if self.fate != Fate::OwnerEnded {
                assert!(!second.is_cloned(), "nobody else is left");
                second.data_mut().unwrap().fill(0xaa);
                second.data_mut().unwrap().copy_from_slice(BYTES);
            }
            // The pair, or what is left of it, can be cloned again.
            let clone = second.clone_buffer().unwrap();
            assert!(second.is_cloned() && clone.is_cloned() && second.data_mut().is_err());
            drop(clone);
        }
        contexts.run(self.places[1], move || use_and_drop(second, second_use, true));
        if let Some(memory) = memory {
            memory.free_deferred();
            if self.fate == Fate::OwnerEnded {
                // Of references in stock only the owner knows that they are nobody's.
                assert_no_buffer_is_live(memory.statistics());
            } else {
                assert_nothing_is_live(memory.statistics());
            }
            // Nothing is left that would keep anybody busy.
            contexts.run(Place::There, {
                let memory = memory.clone();
                move || assert_eq!(memory.free_deferred(), 0)
            });
            assert_eq!(memory.free_deferred(), 0);
        }
        assert_eq!(pages.live_blocks(), 0);
    }

    /// Without a handle nobody can drain the list of what interrupt handlers freed, so they do not come last then.
    fn is_asked_for(&self) -> bool {
        let without_handle = matches!(self.fate, Fate::DroppedBefore | Fate::DroppedBetween);
        !(without_handle && self.places[1].is_interrupt())
    }
}

fn every_case(contexts: &Contexts, uses: impl IntoIterator<Item = [Use; 2]>) {
    for uses in uses {
        for fate in FATES {
            for original_first in [true, false] {
                for first in PLACES {
                    for second in PLACES {
                        let places = [first, second];
                        let case = Case { fate, original_first, places, uses };
                        if case.is_asked_for() {
                            let report = Report(&case);
                            case.run(contexts);
                            core::mem::forget(report);
                        }
                    }
                }
            }
        }
    }
}

/// Says which case failed.
struct Report<'a>(&'a Case);

impl Drop for Report<'_> {
    fn drop(&mut self) {
        let Case { fate, original_first, places, uses } = self.0;
        eprintln!("{fate:?}, original first: {original_first}, at {places:?}, {uses:?}");
    }
}

#[test]
fn halves_end_rightly_in_every_context_and_order() {
    finishes(|| every_case(&Contexts::new(), [[Use::Read, Use::Read]]));
}

#[test]
fn halves_end_rightly_in_every_context_and_order_after_every_use() {
    let uses = USES.into_iter().flat_map(|first| USES.map(|second| [first, second]));
    finishes(|| every_case(&Contexts::new(), uses));
}

#[test]
fn who_pays_for_a_half_gets_it_back_once_and_from_a_task() {
    let contexts = Contexts::new();
    for place in PLACES {
        for pays_for_clone in [false, true] {
            let pages = HostPages::new();
            let memory = Memory::new(pages.clone()).unwrap();
            let account = Arc::new(TaskAccount::default());
            let mut halves = pair(&memory);
            halves[usize::from(pays_for_clone)].set_owner(account.clone());
            let [original, clone] = halves;
            let (payer, other) = if pays_for_clone { (clone, original) } else { (original, clone) };
            let truesize = payer.truesize();
            assert_eq!(account.0.charged(), truesize);
            contexts.run(place, move || drop(payer));
            memory.free_deferred();
            assert_eq!(account.0.charged(), 0, "{place:?}, clone: {pays_for_clone}");
            contexts.run(place, move || drop(other));
            memory.free_deferred();
            assert_eq!(account.0.discharges.load(Ordering::SeqCst), 1);
            // Nobody holds on to who paid.
            assert_eq!(Arc::strong_count(&account), 1);
            drop(memory);
            assert_eq!(pages.live_blocks(), 0);
        }
    }
}

#[test]
fn a_half_on_a_frag_list_is_charged_to_the_packets_owner() {
    let contexts = Contexts::new();
    for place in PLACES {
        let memory = netbuf::host::memory();
        let account = Arc::new(TaskAccount::default());
        let [mut original, clone] = pair(&memory);
        original.set_owner(account.clone());
        let mut whole = NetBuf::alloc(&memory, 64).unwrap();
        let packet = Arc::new(TaskAccount::default());
        whole.set_owner(packet.clone());
        whole.append_to_frag_list(original).unwrap();
        assert_eq!((account.0.charged(), packet.0.charged()), (0, whole.truesize()));
        contexts.run(place, move || drop(whole));
        memory.free_deferred();
        assert_eq!((account.0.charged(), packet.0.charged()), (0, 0));
        assert!(!clone.is_cloned());
        contexts.run(place, move || drop(clone));
        memory.free_deferred();
        assert_nothing_is_live(memory.statistics());
    }
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
