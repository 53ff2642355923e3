//! Packet buffers with the semantics of Linux's `sk_buff`.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod page_source;

pub use page_source::{PAGE_SIZE, PageBlock, PageSource, Zone};

/// A first-in first-out list of buffers.
#[derive(Debug, Default)]
pub struct Queue;

/// A packet buffer.
#[derive(Debug)]
pub struct NetBuf;

/// A page block that nothing else references.
#[derive(Debug)]
pub struct Block;
