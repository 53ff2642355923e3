//! Page fragments: heads for received buffers, cut one after the other from a large block.
//!
//! Packets arrive and leave in about the same order, so a head needs no free list: the allocator walks down a block,
//! and the block's reference count says when all heads cut from it are gone. To keep atomic instructions off that path
//! the allocator takes a stock of references with the block and hands them out; a fragment that dies while its block
//! is still the current one returns its reference to the stock.
//!
//! The allocator belongs to the owner context. Others get a head from a slab cache.

use core::cell::Cell;
use core::ptr::{self, NonNull};

use super::block::{self, BlockHeader};
use super::pool::{self, PoolInner};
use super::{Inner, OutOfMemory};
use crate::page_source::{PageBlock, Zone};
use crate::sync::{AtomicPtr, Ordering};

/// Blocks of 32 KiB, as Linux takes them.
const ORDER: u8 = 3;
/// The largest fragment; beyond it a head gets a block of its own.
pub(crate) const FRAGMENT_MAXIMUM: usize = 8192;
/// References taken with a block.
const STOCK: u32 = 128;
/// Idle fragment blocks kept for reuse.
const KEEP: usize = 64;

pub(crate) struct FragmentAllocator {
    current: AtomicPtr<BlockHeader>,
    /// Bytes of the current block that are not given out: its first ones.
    room: Cell<usize>,
    /// References to the current block that the allocator holds; at least one.
    stock: Cell<u32>,
    pool: PoolInner,
}

impl FragmentAllocator {
    pub(crate) fn new(inner: NonNull<Inner>) -> Self {
        Self {
            current: AtomicPtr::new(ptr::null_mut()),
            room: Cell::new(0),
            stock: Cell::new(0),
            pool: PoolInner::new(inner, KEEP),
        }
    }

    /// Blocks that only the allocator keeps.
    pub(crate) fn internal_blocks(&self) -> usize {
        self.pool.idle() + usize::from(!self.current.load(Ordering::Acquire).is_null())
    }

    /// A fragment of `bytes` bytes (a multiple of the cache line) with one reference to its block.
    ///
    /// # Safety
    ///
    /// The caller is the owner of `inner`, whose allocator this is, and `bytes` is at most [`FRAGMENT_MAXIMUM`].
    #[inline]
    pub(crate) unsafe fn allocate(
        &self,
        inner: NonNull<Inner>,
        bytes: usize,
    ) -> Result<(NonNull<u8>, NonNull<BlockHeader>), OutOfMemory> {
        if self.room.get() < bytes || self.stock.get() < 2 {
            // SAFETY: by contract.
            unsafe { self.refill(inner, bytes)? };
        }
        let room = self.room.get() - bytes;
        self.room.set(room);
        self.stock.set(self.stock.get() - 1);
        // SAFETY: after a refill there is a current block, and `room` lies within it.
        unsafe {
            let header = NonNull::new_unchecked(self.current.load(Ordering::Relaxed));
            Ok((header.as_ref().block.pointer.add(room), header))
        }
    }

    /// Gives back the reference of a fragment that died.
    ///
    /// # Safety
    ///
    /// `header` is the block of a fragment whose reference ends here; `owner` tells whether the caller is the owner of
    /// the memory.
    #[inline]
    pub(crate) unsafe fn free(&self, header: NonNull<BlockHeader>, owner: bool) {
        if owner && self.current.load(Ordering::Relaxed) == header.as_ptr() {
            self.stock.set(self.stock.get() + 1);
        } else {
            // SAFETY: by contract.
            unsafe { block::put(header) };
        }
    }

    #[cold]
    unsafe fn refill(&self, inner: NonNull<Inner>, bytes: usize) -> Result<(), OutOfMemory> {
        if let Some(header) = NonNull::new(self.current.load(Ordering::Relaxed)) {
            // SAFETY: the stock keeps the current block alive.
            let header = unsafe { header.as_ref() };
            if self.stock.get() < 2 {
                header.get(STOCK);
                self.stock.set(self.stock.get() + STOCK);
            }
            if self.room.get() >= bytes {
                return Ok(());
            }
            if header.references() == self.stock.get() {
                // Every fragment is gone: begin again at the end.
                self.room.set(header.block.len());
                return Ok(());
            }
        }
        // SAFETY: the pool lives in `inner`, which the caller keeps alive.
        let next = unsafe { pool::take(NonNull::from(&self.pool), inner, ORDER, Zone::Normal)? };
        self.retire_current();
        // SAFETY: the header is new, with one reference that is ours.
        let header = unsafe { next.as_ref() };
        header.get(STOCK - 1);
        self.stock.set(STOCK);
        self.room.set(header.block.len());
        self.current.store(next.as_ptr(), Ordering::Release);
        Ok(())
    }

    /// Lets go of the current block; the last of its fragments brings it to the pool.
    fn retire_current(&self) {
        let current = self.current.swap(ptr::null_mut(), Ordering::Relaxed);
        if let Some(header) = NonNull::new(current) {
            let stock = self.stock.replace(0);
            self.room.set(0);
            // SAFETY: the stock was ours to give up; when nothing is left the block is nobody's.
            unsafe {
                if header.as_ref().drop_references(stock) {
                    block::retire(header);
                }
            }
        }
    }

    /// Gives the pages of all blocks to `release`, and forgets the headers.
    ///
    /// # Safety
    ///
    /// The memory is being torn down: no fragment is in use, and the headers' slabs go later.
    pub(crate) unsafe fn tear_down(&self, mut release: impl FnMut(PageBlock)) {
        let current = self.current.swap(ptr::null_mut(), Ordering::Acquire);
        if let Some(header) = NonNull::new(current) {
            // SAFETY: the stock keeps the current block's header alive.
            release(unsafe { header.as_ref() }.block);
        }
        // SAFETY: by contract.
        unsafe { self.pool.tear_down(release) };
    }

    /// Gives the idle blocks back to the page source; returns how many. Only for the owner.
    pub(crate) fn shrink(&self) -> usize {
        if let Some(header) = NonNull::new(self.current.load(Ordering::Relaxed))
            // SAFETY: the stock keeps the current block alive.
            && unsafe { header.as_ref() }.references() == self.stock.get()
        {
            self.retire_current();
        }
        self.pool.release_idle()
    }
}
