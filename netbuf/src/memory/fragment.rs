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
use super::stock::Stock;
use super::{Inner, OutOfMemory};
use crate::page_source::{PageBlock, Zone};

/// Blocks of 32 KiB, as Linux takes them.
const ORDER: u8 = 3;
/// The largest fragment; beyond it a head gets a block of its own.
pub(crate) const FRAGMENT_MAXIMUM: usize = 8192;
/// Idle fragment blocks kept for reuse.
const KEEP: usize = 64;

/// First byte and end of the room before there is a block: far enough from null for [`FRAGMENT_MAXIMUM`].
const NO_ROOM: *mut u8 = ptr::without_provenance_mut(1 << 15);

pub(crate) struct FragmentAllocator {
    /// The current block, and references to it.
    stock: Stock,
    /// The room in the current block: from its first byte to the lowest one given out.
    first: Cell<*mut u8>,
    top: Cell<*mut u8>,
    pool: PoolInner,
}

impl FragmentAllocator {
    pub(crate) fn new(inner: NonNull<Inner>) -> Self {
        Self {
            stock: Stock::new(),
            first: Cell::new(NO_ROOM),
            top: Cell::new(NO_ROOM),
            pool: PoolInner::new(inner, KEEP),
        }
    }

    pub(crate) fn stock(&self) -> &Stock {
        &self.stock
    }

    /// Blocks that only the allocator keeps.
    pub(crate) fn internal_blocks(&self) -> usize {
        self.pool.idle() + usize::from(self.stock.block().is_some())
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
        let mut place = self.room_for(bytes);
        if place.is_none() {
            // SAFETY: by contract.
            unsafe { self.refill(inner)? };
            place = self.room_for(bytes);
        }
        let place = place.ok_or(OutOfMemory { bytes })?;
        // SAFETY: there is room.
        Ok((place, unsafe { self.cut(place) }))
    }

    /// Where a fragment of `bytes` bytes, at most [`FRAGMENT_MAXIMUM`], can be [cut](Self::cut), if there is room for it.
    #[inline(always)]
    pub(crate) fn room_for(&self, bytes: usize) -> Option<NonNull<u8>> {
        // Blocks begin at their own size at least, so that nothing wraps.
        let place = self.top.get().wrapping_sub(bytes);
        // SAFETY: not below the first byte.
        (place >= self.first.get()).then(|| unsafe { NonNull::new_unchecked(place) })
    }

    /// Cuts the fragment at the end of the room, with a reference to the current block. Only for the owner.
    ///
    /// # Safety
    ///
    /// `place` is [where there is room](Self::room_for) for it.
    #[inline(always)]
    pub(crate) unsafe fn cut(&self, place: NonNull<u8>) -> NonNull<BlockHeader> {
        debug_assert!(place.as_ptr() >= self.first.get() && place.as_ptr() < self.top.get());
        self.top.set(place.as_ptr());
        self.stock.take();
        // SAFETY: there is room in a current block only.
        unsafe { self.stock.block_unchecked() }
    }

    /// Whether fragments are being cut from this block now. Only for the owner.
    #[inline(always)]
    pub(crate) fn is_current(&self, header: NonNull<BlockHeader>) -> bool {
        self.stock.is_of(header)
    }

    /// Takes back a fragment of the current block with its reference. If it was the last one cut, its bytes are room
    /// again, still warm in the cache. Only for the owner.
    ///
    /// # Safety
    ///
    /// The fragment of `bytes` bytes at `pointer` was cut from the current block, and nobody uses it.
    #[inline(always)]
    pub(crate) unsafe fn take_back(&self, pointer: NonNull<u8>, bytes: usize) {
        self.stock.put();
        if pointer.as_ptr() == self.top.get() {
            // SAFETY: the fragment ends within the block or at its end.
            self.top.set(unsafe { pointer.as_ptr().add(bytes) });
        }
    }

    /// Gives back a fragment that died.
    ///
    /// # Safety
    ///
    /// The fragment of `bytes` bytes at `pointer` was cut from `header`, its reference ends here, and nobody uses it;
    /// `owner` tells whether the caller is the owner of the memory.
    #[inline]
    pub(crate) unsafe fn free(
        &self,
        header: NonNull<BlockHeader>,
        pointer: NonNull<u8>,
        bytes: usize,
        owner: bool,
    ) {
        // SAFETY: by contract.
        unsafe {
            if owner && self.is_current(header) {
                self.take_back(pointer, bytes);
            } else {
                block::put_directly(header);
            }
        }
    }

    /// Makes the whole of a block room, with a stock of references: of the current one if nobody uses it any more, of
    /// another one otherwise.
    ///
    /// # Safety
    ///
    /// The caller is the owner of `inner`, whose allocator this is.
    #[cold]
    unsafe fn refill(&self, inner: NonNull<Inner>) -> Result<(), OutOfMemory> {
        let block = if let Some(current) = self.stock.block()
            && self.stock.has_all()
        {
            // Every fragment is gone: begin again at the end.
            current
        } else {
            // SAFETY: the pool lives in `inner`, which the caller keeps alive.
            let next = unsafe { pool::take(NonNull::from(&self.pool), inner, ORDER, Zone::Normal)? };
            // The last fragment of the block so far brings it to the pool.
            self.stock.flush();
            next
        };
        // Nobody else has references to the block.
        self.stock.fill(block, 0);
        // SAFETY: the stock keeps the header alive.
        let pages = unsafe { block.as_ref() }.block;
        self.first.set(pages.pointer.as_ptr());
        // SAFETY: the end of the block.
        self.top.set(unsafe { pages.pointer.as_ptr().add(pages.len()) });
        Ok(())
    }

    /// Gives the pages of all blocks to `release`, and forgets the headers.
    ///
    /// # Safety
    ///
    /// The memory is being torn down: no fragment is in use, and the headers' slabs go later.
    pub(crate) unsafe fn tear_down(&self, mut release: impl FnMut(PageBlock)) {
        if let Some((header, _)) = self.stock.empty() {
            // SAFETY: the stock keeps the current block's header alive.
            release(unsafe { header.as_ref() }.block);
        }
        // SAFETY: by contract.
        unsafe { self.pool.tear_down(release) };
    }

    /// Gives the idle blocks back to the page source; returns how many. Only for the owner.
    pub(crate) fn shrink(&self) -> usize {
        if self.stock.has_all() {
            self.top.set(self.first.get());
            self.stock.flush();
        }
        self.pool.release_idle()
    }
}
