//! Packet buffers with the semantics of Linux's `sk_buff`: a linear head and page frags, clones, queues, and the
//! memory that all of it is made of.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod buffer;
pub mod context;
mod cursor;
mod error;
#[cfg(feature = "host")]
pub mod host;
mod locked_queue;
mod memory;
mod page_source;
mod queue;
mod sync;

pub use buffer::{
    Backing, BufferInspection, ChecksumStatus, DmaSegment, DmaSegmentMut, FragInspection, MAX_FRAGS,
    MemoryOwner, NetBuf, PacketType, RECEIVE_HEADROOM, ReceivePattern, SharedNetBuf, checksum, combine, fold,
    update,
};
pub use cursor::Cursor;
pub use error::{Error, OutOfMemory, Shared};
pub use locked_queue::LockedQueue;
pub use memory::block::{Block, SharedBlock};
pub use memory::pool::BlockPool;
pub use memory::{CacheInformation, Memory, MemoryTables, Statistics};
pub use page_source::{PAGE_SIZE, PageBlock, PageSource, Zone};
pub use queue::{Iter, Queue};
