//! The general heap: `linked_list_allocator` over arenas that are page blocks.
//!
//! Nothing on the way of a packet uses it (netbuf has caches of its own), so simple beats fast. Interrupt handlers never
//! allocate: the lock is only ever taken by code on the main stack.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};

use linked_list_allocator::Heap as Arena;
use netbuf::PageBlock;
use spin::Mutex;

/// Arenas double in size, so that this many are more than memory can hold.
const MAXIMUM_ARENAS: usize = 32;

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
}

// SAFETY: arenas are disjoint, `linked_list_allocator` upholds the contract within each, and memory goes back to the
// arena whose range it lies in.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut arenas = self.0.lock();
        arenas.allocate(layout).map_or(null_mut(), NonNull::as_ptr)
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

/// Gives a block of pages to the heap, for good. False when there are too many arenas.
pub fn add_arena(block: PageBlock) -> bool {
    let mut arenas = HEAP.0.lock();
    let index = arenas.count;
    let Some(arena) = arenas.arenas.get_mut(index) else { return false };
    // SAFETY: the block is unused memory that nobody else refers to from now on.
    unsafe { arena.init(block.pointer.as_ptr(), block.len()) };
    arenas.count += 1;
    true
}
