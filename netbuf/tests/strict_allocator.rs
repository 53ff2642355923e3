//! The model's sequences under a global allocator that checks each `dealloc` against its `alloc`, fills freed memory
//! with a pattern, and knows in the end whether anything is missing.
//!
//! Without the test harness, whose own thread allocates when it likes.

mod model;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use model::{Model, Step};
use netbuf::host::HostPages;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

struct Strict;

/// What lies in front of each allocation.
#[repr(C)]
struct Tag {
    size: usize,
    align: usize,
    live: u64,
}

const LIVE: u64 = 0x5AFE_B10C_5AFE_B10C;
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

fn outer(layout: Layout) -> (Layout, usize) {
    let front = size_of::<Tag>().next_multiple_of(layout.align().max(align_of::<Tag>()));
    let align = layout.align().max(align_of::<Tag>());
    let outer = Layout::from_size_align(front + layout.size(), align).expect("a sane layout");
    (outer, front)
}

// SAFETY: memory comes from the system allocator, behind a tag; alignment and size are as asked.
unsafe impl GlobalAlloc for Strict {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (outer, front) = outer(layout);
        // SAFETY: the outer layout is not empty; the tag lies in front of the returned pointer.
        unsafe {
            let base = System.alloc(outer);
            if base.is_null() {
                return base;
            }
            let pointer = base.add(front);
            let tag = Tag { size: layout.size(), align: layout.align(), live: LIVE };
            pointer.cast::<Tag>().sub(1).write(tag);
            LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
            pointer
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc`, so a tag lies in front of it.
        unsafe {
            let tag = pointer.cast::<Tag>().sub(1);
            if (*tag).live != LIVE || (*tag).size != layout.size() || (*tag).align != layout.align() {
                eprintln!("dealloc of {layout:?} at {pointer:p}, which was not allocated so");
                std::process::abort();
            }
            (*tag).live = 0;
            pointer.write_bytes(0xde, layout.size());
            LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
            let (outer, front) = outer(layout);
            System.dealloc(pointer.sub(front), outer);
        }
    }
}

#[global_allocator]
static ALLOCATOR: Strict = Strict;

/// Every `dealloc` has the layout of its `alloc`, and nothing stays.
fn main() {
    if cfg!(feature = "loom") {
        return; // loom's atomics work in loom's models only
    }
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    for round in 0..60 {
        let numbers = vec(any::<[u16; 4]>(), 1..150).new_tree(&mut runner).expect("a sequence").current();
        let steps: Vec<_> = numbers.into_iter().map(Step::from).collect();
        let before = LIVE_BYTES.load(Ordering::Relaxed);
        let pages = HostPages::new();
        if round % 3 == 2 {
            pages.fail_allocation(round / 3 % 12);
        }
        if let Some(mut model) = Model::new(pages.clone(), round % 2 == 0) {
            for step in &steps {
                model.run(step);
            }
            model.finish();
        }
        drop(pages);
        assert_eq!(LIVE_BYTES.load(Ordering::Relaxed), before);
    }
    println!("60 sequences: each dealloc as its alloc, nothing stays");
}
