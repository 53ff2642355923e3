//! The general heap: `linked_list_allocator` over arenas that are page blocks.
//!
//! Nothing on the way of a packet uses it (netbuf has caches of its own), so simple beats fast. Interrupt handlers never
//! allocate: the lock is only ever taken by code on the main stack.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};

use linked_list_allocator::Heap as Arena;
use netbuf::{PAGE_SIZE, PageSource, Zone};
use spin::Mutex;

use super::frames::FRAMES;

/// Arenas double in size, so that this many are more than memory can hold.
const MAXIMUM_ARENAS: usize = 32;
/// Bytes in the first arena.
const FIRST_ARENA: usize = 64 * 1024;

/// The arenas, in order of their making.
struct Arenas {
    arenas: [Arena; MAXIMUM_ARENAS],
    count: usize,
}

/// The allocator behind `alloc`.
pub struct Heap(Mutex<Arenas>);

#[global_allocator]
static HEAP: Heap = Heap(Mutex::new(Arenas { arenas: [const { Arena::empty() }; MAXIMUM_ARENAS], count: 0 }));

impl Arenas {
    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        // The youngest arena is the largest and the emptiest.
        self.arenas[..self.count].iter_mut().rev().find_map(|arena| arena.allocate_first_fit(layout).ok())
    }

    /// Makes an arena for an allocation that no arena had room for.
    fn grow(&mut self, layout: Layout) -> Option<()> {
        let arena = self.arenas.get_mut(self.count)?;
        // The first-fit list wants a few bytes of its own, and the start may have to be aligned.
        let needed = layout.size().checked_add(layout.align())?.checked_add(PAGE_SIZE)?;
        let order = |bytes: usize| {
            Some(bytes.div_ceil(PAGE_SIZE).checked_next_power_of_two()?.trailing_zeros() as u8)
        };
        let generous = needed.max(FIRST_ARENA.checked_shl(self.count as u32)?);
        let block = FRAMES
            .allocate(order(generous)?, Zone::Normal)
            .or_else(|| FRAMES.allocate(order(needed)?, Zone::Normal))?;
        // SAFETY: the block is memory that nobody else refers to, and stays with the heap for good.
        unsafe { arena.init(block.pointer.as_ptr(), block.len()) };
        self.count += 1;
        Some(())
    }
}

// SAFETY: arenas are disjoint, `linked_list_allocator` upholds the contract within each, and memory goes back to the
// arena whose range it lies in.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut arenas = self.0.lock();
        arenas
            .allocate(layout)
            .or_else(|| arenas.grow(layout).and_then(|()| arenas.allocate(layout)))
            .map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let mut arenas = self.0.lock();
        let count = arenas.count;
        let owner =
            arenas.arenas[..count].iter_mut().find(|arena| (arena.bottom()..arena.top()).contains(&pointer));
        if let (Some(arena), Some(pointer)) = (owner, NonNull::new(pointer)) {
            // SAFETY: the caller got it from `alloc` with this layout, from this arena.
            unsafe { arena.deallocate(pointer, layout) }
        }
    }
}

/// Bytes in all arenas, and bytes of them in use.
pub fn statistics() -> (usize, usize) {
    let arenas = HEAP.0.lock();
    let arenas = &arenas.arenas[..arenas.count];
    (arenas.iter().map(Arena::size).sum(), arenas.iter().map(Arena::used).sum())
}
