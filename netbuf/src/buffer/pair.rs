//! Pairs: two descriptors allocated together, so that the first clone of a buffer needs no allocator.
//!
//! ```text
//!   FclonePair ┌──────────────┬──────────────┬───────────────────────────┐
//!              │ original     │ clone        │ bond: state, notes, head  │
//!              └──────┬───────┴──────┬───────┴───────────────────────┬───┘
//!                     └──────────────┴────────────> joint head <─────┘
//! ```
//!
//! Original and clone use the same head and hold *one* count of its `dataref` together. The state says of each half
//! whether it is alive and whether it is joined, that is, uses the joint head: it does not any more when it was given a
//! private one. When neither half is joined the joint head goes; when neither is alive the pair goes.
//!
//! The context that owns the memory changes the state by plain loads and stores: a clone that is made and freed there
//! costs no atomic instruction. That is sound because nobody else changes it meanwhile:
//!
//! - Other contexts leave a *note* of what a half is no more, under the memory's lock. The owner carries the notes out
//!   when it comes by: before it touches any pair, when its lists run dry, when it frees what was deferred.
//! - Whoever sees, by state and notes under the lock, that the other half is dead has the pair to itself: it carries the
//!   notes out and goes on like the owner.
//! - A pair that was not allocated by the owner is *guarded*: everybody takes the lock to change its state.

use core::cell::Cell;
use core::ptr::{self, NonNull};

use super::descriptor::{Contents, Descriptor, DescriptorKind};
use super::head::{self, Head};
use crate::error::OutOfMemory;
use crate::memory::Inner;
use crate::memory::slab::FCLONE_CACHE;
use crate::sync::{AtomicPtr, AtomicU32, Ordering, look};

/// Two descriptors allocated together.
#[repr(C)]
pub(crate) struct FclonePair {
    original: Descriptor,
    clone: Descriptor,
    bond: Bond,
}

/// What the halves of a pair know of each other. Each half may be borrowed alone, so it is this part only that both look
/// at.
struct Bond {
    /// What the halves are: [`ALIVE`], [`JOINED`], [`GUARDED`]. Written by whoever has the pair to itself.
    state: AtomicU32,
    /// Bits of the state that halves have no more. Only under the memory's lock, as the links.
    notes: Cell<u32>,
    /// The head that joined halves use. Written while the clone is dead.
    head: Cell<Head>,
    /// Links of the memory's list of pairs with notes.
    next: Cell<*mut FclonePair>,
    previous: Cell<*mut FclonePair>,
}

/// The first of a memory's pairs with notes. Changed under the memory's lock.
pub(crate) type NotedPairs = AtomicPtr<FclonePair>;

const ORIGINAL_ALIVE: u32 = 1;
const CLONE_ALIVE: u32 = 2;
const ALIVE: u32 = ORIGINAL_ALIVE | CLONE_ALIVE;
const ORIGINAL_JOINED: u32 = 4;
const CLONE_JOINED: u32 = 8;
const JOINED: u32 = ORIGINAL_JOINED | CLONE_JOINED;
/// The state is changed under the memory's lock by everybody, the owner included.
const GUARDED: u32 = 16;

/// A note only: the joint head was given up, for neither half was joined any more by state and notes.
const HEAD_GIVEN_UP: u32 = 32;

/// The states of an original without a clone and of both halves after cloning.
const ALONE: u32 = ORIGINAL_ALIVE | ORIGINAL_JOINED;
const TWO: u32 = ALIVE | JOINED;

/// The bits of one half: alive, joined.
const fn bits_of(kind: DescriptorKind) -> (u32, u32) {
    match kind {
        DescriptorKind::Clone => (CLONE_ALIVE, CLONE_JOINED),
        _ => (ORIGINAL_ALIVE, ORIGINAL_JOINED),
    }
}

/// What a change of the state leaves to be given up. Once the state is changed the pair may go at any time, but not what
/// is named here.
#[derive(Clone, Copy)]
struct Remains {
    /// The joint head, when no half is joined any more.
    head: Option<Head>,
    /// The pair, when no half is alive any more.
    pair: bool,
}

impl Remains {
    /// # Safety
    ///
    /// They came from this pair of this memory, and are given up once; `owner` tells whether the caller is the memory's
    /// owner.
    #[cold]
    #[inline(never)]
    unsafe fn give_up(self, memory: NonNull<Inner>, pair: NonNull<FclonePair>, owner: bool) {
        // SAFETY: by contract; first the head and then the pair keep the memory alive.
        unsafe {
            if let Some(head) = self.head {
                head::put(memory, head, owner);
            }
            if self.pair {
                Inner::free(memory, FCLONE_CACHE, pair.cast(), owner);
            }
        }
    }
}

impl Bond {
    /// The state with the notes, under the lock.
    fn seen(&self) -> u32 {
        self.state.load(Ordering::Acquire) & !self.notes.get()
    }

    /// What a note leaves to be given up, under the lock: the joint head, when by state and notes neither half is joined any
    /// more. It does not wait for the owner, for the other half may lie in its frag list.
    fn part(&self) -> Remains {
        let (state, notes) = (self.state.load(Ordering::Acquire), self.notes.get());
        let parted = state & JOINED != 0 && state & !notes & JOINED == 0 && notes & HEAD_GIVEN_UP == 0;
        if parted {
            self.notes.set(notes | HEAD_GIVEN_UP);
        }
        Remains { head: parted.then(|| self.head.get()), pair: false }
    }

    /// Changes the state, for who has the pair to itself, and may have no more afterwards.
    fn change(&self, before: u32, after: u32) -> Remains {
        let parted = before & JOINED != 0 && after & JOINED == 0;
        let head = parted.then(|| self.head.get());
        // Release: whoever finds this half dead may free what it used.
        self.state.store(after, Ordering::Release);
        Remains { head, pair: after & ALIVE == 0 }
    }
}

/// The bond of a pair.
///
/// # Safety
///
/// The pair is alive as long as the bond is used.
#[inline(always)]
unsafe fn bond<'a>(pair: NonNull<FclonePair>) -> &'a Bond {
    // SAFETY: by contract; no reference to the halves is made.
    unsafe { &(*pair.as_ptr()).bond }
}

/// The pair that a descriptor is half of.
///
/// # Safety
///
/// `half` points to a live descriptor whose kind is not `Single`.
#[inline(always)]
unsafe fn of(half: NonNull<Descriptor>) -> NonNull<FclonePair> {
    // SAFETY: by contract; the kind says which half it is.
    unsafe {
        match (*half.as_ptr()).kind {
            DescriptorKind::Clone => half.sub(1).cast(),
            _ => half.cast(),
        }
    }
}

/// Puts a note on a pair, and the pair on the list.
///
/// # Safety
///
/// Under the lock of the pair's memory, `list` being its list; the state has all `bits`, and there are some.
unsafe fn note(list: &NotedPairs, pair: NonNull<FclonePair>, bits: u32) {
    // SAFETY: by contract; pairs on the list are alive.
    unsafe {
        let this = bond(pair);
        let before = this.notes.replace(this.notes.get() | bits);
        if before == 0 {
            let first = list.swap(pair.as_ptr(), Ordering::Relaxed);
            this.next.set(first);
            this.previous.set(ptr::null_mut());
            if let Some(first) = NonNull::new(first) {
                bond(first).previous.set(pair.as_ptr());
            }
        }
    }
}

/// Takes the notes off a pair, and the pair off the list; returns the state before and what it is to be.
///
/// # Safety
///
/// Under the lock of the pair's memory, `list` being its list; the caller has the pair to itself.
unsafe fn take_notes(list: &NotedPairs, pair: NonNull<FclonePair>) -> (u32, u32) {
    // SAFETY: by contract; pairs on the list are alive.
    unsafe {
        let this = bond(pair);
        let notes = this.notes.replace(0);
        if notes != 0 {
            let (next, previous) = (this.next.get(), this.previous.get());
            match NonNull::new(previous) {
                Some(previous) => bond(previous).next.set(next),
                None => list.store(next, Ordering::Relaxed),
            }
            if let Some(next) = NonNull::new(next) {
                bond(next).previous.set(previous);
            }
        }
        let state = this.state.load(Ordering::Acquire);
        let before = if notes & HEAD_GIVEN_UP == 0 { state } else { state & !JOINED };
        (before, state & !notes)
    }
}

/// An original with this head; the clone's place is free.
///
/// # Errors
///
/// [`OutOfMemory`]: the head is still the caller's.
pub(super) fn allocate(
    memory: NonNull<Inner>,
    head: Head,
    owner: bool,
) -> Result<NonNull<Descriptor>, OutOfMemory> {
    // SAFETY: whoever allocates keeps the memory alive.
    let pair = unsafe { memory.as_ref() }.allocate(FCLONE_CACHE, owner)?.cast::<FclonePair>();
    // SAFETY: the object has room for a pair. The clone is written when its place is taken.
    unsafe {
        let place = pair.as_ptr();
        let original = Descriptor::new(memory, DescriptorKind::Original, &head, Contents::EMPTY);
        (&raw mut (*place).original).write(original);
        (&raw mut (*place).bond).write(Bond {
            state: AtomicU32::new(if owner { ALONE } else { ALONE | GUARDED }),
            notes: Cell::new(0),
            head: Cell::new(head),
            next: Cell::new(ptr::null_mut()),
            previous: Cell::new(ptr::null_mut()),
        });
    }
    Ok(pair.cast())
}

/// Takes the clone's place beside an original, if it is free: both halves are alive and joined then, and the caller
/// writes the clone.
///
/// # Safety
///
/// The caller owns the descriptor, whose kind is `Original`, and nobody else has a handle to it; `owner` tells whether
/// the caller is the memory's owner.
#[inline(always)]
pub(super) unsafe fn take_clone(original: NonNull<Descriptor>, owner: bool) -> Option<NonNull<Descriptor>> {
    // SAFETY: by contract; an owned half keeps pair and memory alive.
    unsafe {
        let pair = of(original);
        let state = &bond(pair).state;
        if owner && original.as_ref().memory.as_ref().has_no_notes() && look(state) == ALONE {
            state.store(TWO, Ordering::Relaxed);
        } else if !take_clone_slowly(original, owner) {
            return None;
        }
        Some(NonNull::new_unchecked(&raw mut (*pair.as_ptr()).clone))
    }
}

/// # Safety
///
/// As for [`take_clone`].
#[cold]
#[inline(never)]
unsafe fn take_clone_slowly(original: NonNull<Descriptor>, owner: bool) -> bool {
    // SAFETY: as in `take_clone`.
    unsafe {
        let pair = of(original);
        let memory = original.as_ref().memory;
        memory.as_ref().settle_pairs(owner);
        let shared = memory.as_ref().lock_shared();
        if bond(pair).seen() & CLONE_ALIVE != 0 {
            return false;
        }
        // The other half is dead, so the pair is the caller's.
        let (before, after) = take_notes(&memory.as_ref().noted_pairs, pair);
        let remains = bond(pair).change(before, after);
        // The original may have been given a head of its own since.
        bond(pair).head.set(Head::of(original.as_ref()));
        bond(pair).state.store(after & GUARDED | TWO, Ordering::Relaxed);
        drop(shared);
        remains.give_up(memory, pair, owner);
    }
    true
}

/// Whether the other half uses the same head. When in doubt it does.
///
/// # Safety
///
/// The caller has the descriptor, whose kind is not `Single`.
#[inline(never)]
pub(super) unsafe fn is_shared(half: NonNull<Descriptor>) -> bool {
    // SAFETY: by contract; a half keeps pair and memory alive.
    unsafe {
        let this = bond(of(half));
        if this.state.load(Ordering::Acquire) & JOINED != JOINED {
            return false;
        }
        let memory = half.as_ref().memory.as_ref();
        if memory.is_owner() && memory.has_no_notes() {
            return true;
        }
        // The lock also orders what the other half did before its note and what the caller does now.
        let _shared = memory.lock_shared();
        this.seen() & JOINED == JOINED
    }
}

/// Gives up the head that a half uses, because it gets another one.
///
/// # Safety
///
/// The caller owns the descriptor, whose kind is not `Single`, nobody else has a handle to it, and it gets another head
/// before anybody looks at it; `owner` tells whether the caller is the memory's owner.
pub(super) unsafe fn leave(half: NonNull<Descriptor>, owner: bool) {
    // SAFETY: by contract.
    unsafe {
        let (_, joined) = bits_of(half.as_ref().kind);
        end_slowly(half, joined, owner);
    }
}

/// Frees a half, and with it the head, the other half's place or both when nobody uses them any more.
///
/// # Safety
///
/// The caller owns the descriptor, whose kind is not `Single`, nobody else has a handle to it, and it is not touched
/// again; `owner` tells whether the caller is the memory's owner.
#[inline(always)]
pub(super) unsafe fn free(half: NonNull<Descriptor>, owner: bool) {
    // SAFETY: by contract; an owned half keeps pair and memory alive until the state is changed.
    unsafe {
        let (alive, joined) = bits_of(half.as_ref().kind);
        let state = &bond(of(half)).state;
        // Nearly always the other half lives and is joined: head and pair are left to it.
        if owner && half.as_ref().memory.as_ref().has_no_notes() && look(state) == TWO {
            state.store(TWO & !(alive | joined), Ordering::Release);
        } else {
            end_slowly(half, alive | joined, owner);
        }
    }
}

/// Ends some of what a half is.
///
/// # Safety
///
/// As for [`leave`] and [`free`].
#[inline(never)]
unsafe fn end_slowly(half: NonNull<Descriptor>, bits: u32, owner: bool) {
    // SAFETY: by contract, an owned half keeps pair and memory alive until the lock is released at least.
    unsafe {
        let pair = of(half);
        let this = half.as_ref();
        let (memory, own_head) = (this.memory, Head::of(this));
        let (alive, joined) = bits_of(this.kind);
        let inner = memory.as_ref();
        if inner.is_orphaned() {
            // The other half may wait on the list of what interrupt handlers freed, where nobody looks any more.
            inner.free_deferred();
        }
        inner.settle_pairs(owner);
        let shared = inner.lock_shared();
        let (state, seen) = (bond(pair).state.load(Ordering::Acquire), bond(pair).seen());
        let is_mine = owner || state & GUARDED != 0 || seen & ALIVE == alive;
        let remains = if is_mine {
            let (before, after) = take_notes(&inner.noted_pairs, pair);
            bond(pair).change(before, after & !bits)
        } else {
            if bits & seen != 0 {
                note(&inner.noted_pairs, pair, bits & seen);
            }
            bond(pair).part()
        };
        drop(shared);
        // From here on only what is given up keeps the memory alive.
        if seen & joined == 0 {
            head::put(memory, own_head, owner);
        }
        remains.give_up(memory, pair, owner);
    }
}

/// Carries notes out: the owner all, others those of pairs neither half of which is alive any more. The caller keeps the
/// memory alive.
pub(crate) fn settle_pairs(memory: &Inner, owner: bool) {
    loop {
        let shared = memory.lock_shared();
        let mut next = NonNull::new(memory.noted_pairs.load(Ordering::Relaxed));
        // SAFETY: pairs on the list are alive while the lock is held; without notes they leave the list.
        unsafe {
            while let Some(pair) = next
                && !(owner || bond(pair).seen() & ALIVE == 0)
            {
                next = NonNull::new(bond(pair).next.get());
            }
            let Some(pair) = next else { return };
            // Nobody but the owner changes a pair with a living half, and nobody else knows one without.
            let (before, after) = take_notes(&memory.noted_pairs, pair);
            let remains = bond(pair).change(before, after);
            drop(shared);
            remains.give_up(NonNull::from(memory), pair, owner);
        }
    }
}
