//! Every order in which the halves of a pair may end, in every context, after every use, whatever becomes of the memory.

use std::thread;

use netbuf::host::HostPages;
use netbuf::{Memory, NetBuf, Queue};

use super::contexts::{Contexts, PLACES, Place, finishes};
use super::{BYTES, assert_no_buffer_is_live, assert_nothing_is_live, pair};

/// What becomes of the memory's handle and owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
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

pub const FATES: [Fate; 5] =
    [Fate::Kept, Fate::DroppedBefore, Fate::DroppedBetween, Fate::OwnerEnded, Fate::Unowned];

/// What is done with a half before it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
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
pub fn use_and_drop(mut half: NetBuf, what: Use, may_write: bool) {
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
