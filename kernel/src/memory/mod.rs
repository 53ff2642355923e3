//! Physical frames, page tables, the heap.
//!
//! | module | what |
//! | --- | --- |
//! | [`map`] | which physical addresses are memory |
//! | [`buddy`] | power-of-two blocks of pages |
//! | [`page_table`] | building address spaces |
//! | `frames` | the machine's frames in zones: the `PageSource` of drivers and netbuf |
//! | `address_space` | what is mapped, with which rights |
//! | `heap` | the general heap |

#[cfg(feature = "boot")]
pub mod address_space;
pub mod buddy;
#[cfg(feature = "boot")]
pub mod frames;
#[cfg(feature = "boot")]
pub mod heap;
pub mod map;
pub mod page_table;
