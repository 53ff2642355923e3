//! Physical frames, page tables, the heap.

#[cfg(feature = "boot")]
pub mod heap;
