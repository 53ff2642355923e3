//! Page fragments: heads for received buffers, cut one after the other from a large block.
//!
//! Packets arrive and leave in about the same order, so a head needs no free list: the allocator walks down a block,
//! and the block's reference count says when all heads cut from it are gone. To keep atomic instructions off that path
//! the allocator takes a stock of references with the block and hands them out; a fragment that dies while its block
//! is still the current one returns its reference to the stock.
//!
//! The allocator belongs to the owner context. Others get a head from a slab cache.

use core::cell::Cell;
use core::ptr::NonNull;

use super::block::{self, BlockHeader};
use super::pool::{self, PoolInner};
use super::stock::Stock;
use super::{Inner, OutOfMemory};
use crate::page_source::{PageBlock, Zone};

/// Blocks of 32 KiB, as Linux takes them.
const ORDER: u8 = 3;
/// The largest fragment; beyond it a head gets a block of its own.
pub(crate) const FRAGMENT_MAXIMUM: usize = 8192;
/// References taken with a block.
const STOCK: u32 = 128;
/// Idle fragment blocks kept for reuse.
const KEEP: usize = 64;

pub(crate) struct FragmentAllocator {
    /// The current block, and references to it.
    stock: Stock,
    /// Bytes of the current block that are not given out: its first ones.
    room: Cell<usize>,
    pool: PoolInner,
}

impl FragmentAllocator {
    pub(crate) fn new(inner: NonNull<Inner>) -> Self {
        Self { stock: Stock::new(), room: Cell::new(0), pool: PoolInner::new(inner, KEEP) }
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
        if self.room.get() >= bytes
            && let Some(header) = self.stock.block()
            && self.stock.take(header)
        {
            // SAFETY: the reference just taken keeps the block alive.
            return Ok((unsafe { self.cut(header, bytes) }, header));
        }
        // SAFETY: by contract.
        let header = unsafe { self.refill(inner, bytes)? };
        // A refilled stock has references to spare.
        self.stock.take(header);
        // SAFETY: as above.
        Ok((unsafe { self.cut(header, bytes) }, header))
    }

    /// The last `bytes` bytes of the room.
    #[inline]
    unsafe fn cut(&self, header: NonNull<BlockHeader>, bytes: usize) -> NonNull<u8> {
        let room = self.room.get() - bytes;
        self.room.set(room);
        // SAFETY: the room lies within the current block, which the caller keeps alive.
        unsafe { header.as_ref().block.pointer.add(room) }
    }

    /// Whether fragments are being cut from this block now. Only for the owner.
    #[inline(always)]
    pub(crate) fn is_current(&self, header: NonNull<BlockHeader>) -> bool {
        self.stock.block() == Some(header)
    }

    /// Takes back a fragment of the current block with its reference. If it was the last one cut, its bytes are room
    /// again, still warm in the cache. Only for the owner.
    ///
    /// # Safety
    ///
    /// The fragment of `bytes` bytes at `pointer` was cut from `header`, the current block, and nobody uses it.
    #[inline(always)]
    pub(crate) unsafe fn take_back(&self, header: NonNull<BlockHeader>, pointer: NonNull<u8>, bytes: usize) {
        self.stock.add(1);
        let room = self.room.get();
        // SAFETY: the stock keeps the current block alive.
        if pointer.addr().get() - unsafe { header.as_ref() }.block.pointer.addr().get() == room {
            self.room.set(room + bytes);
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
                self.take_back(header, pointer, bytes);
            } else {
                block::put_directly(header);
            }
        }
    }

    /// Makes room for `bytes` bytes and a stock of references; returns the current block.
    #[cold]
    unsafe fn refill(
        &self,
        inner: NonNull<Inner>,
        bytes: usize,
    ) -> Result<NonNull<BlockHeader>, OutOfMemory> {
        if let Some(current) = self.stock.block() {
            // SAFETY: the stock keeps the current block alive.
            let header = unsafe { current.as_ref() };
            if self.room.get() < bytes && self.stock.has_all() {
                // Every fragment is gone: begin again at the end.
                self.room.set(header.block.len());
            }
            if self.room.get() >= bytes {
                if self.stock.count() < 2 {
                    header.add_references(STOCK);
                    self.stock.add(STOCK);
                }
                return Ok(current);
            }
        }
        // SAFETY: the pool lives in `inner`, which the caller keeps alive.
        let next = unsafe { pool::take(NonNull::from(&self.pool), inner, ORDER, Zone::Normal)? };
        // The last fragment of the block so far brings it to the pool.
        self.stock.flush();
        // SAFETY: the header is new, with one reference that is ours; nobody else knows it.
        let header = unsafe { next.as_ref() };
        header.set_references(STOCK);
        self.stock.fill(next, STOCK);
        self.room.set(header.block.len());
        Ok(next)
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
            self.room.set(0);
            self.stock.flush();
        }
        self.pool.release_idle()
    }
}
