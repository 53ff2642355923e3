//! Page blocks with a reference count: what `struct page` of a compound page is to Linux.
//!
//! ```text
//!   Block  ── share ──>  SharedBlock ── clone ──> SharedBlock        a frag of a NetBuf holds one, too
//!     ^                       │                       │                          │
//!     │   last reference dies └───────────────────────┴──────────────────────────┘
//!     └── BlockPool::take <── pool (or back to the page source)
//! ```
//!
//! A [`Block`] has one owner, who may write it and lend it to a device. Shared, it is read only, until the last
//! reference dies: so a block that a device may write is never one that somebody reads.

use core::fmt;
use core::ptr::{self, NonNull};

use super::pool::PoolInner;
use super::slab::BLOCK_HEADER_CACHE;
use super::stock::Offer;
use super::{Inner, Memory};
use crate::context;
use crate::error::OutOfMemory;
use crate::page_source::{PageBlock, Zone};
use crate::sync::{AtomicUsize, Ordering, look_at_references};

/// What the memory knows about a block in use. Kept beside the block, for all bytes of the block may go to a device.
#[repr(C)]
pub(crate) struct BlockHeader {
    pub(crate) block: PageBlock,
    pub(crate) inner: NonNull<Inner>,
    /// The pool that gets the block back; null: the page source does.
    pub(crate) pool: *mut PoolInner,
    /// Link of a pool's list, or of the list of deferred blocks.
    pub(crate) next: *mut BlockHeader,
    /// As wide as a pointer, so that it cannot overflow: not in memory, and not by forgetting references in a lifetime.
    references: AtomicUsize,
    /// Bytes in the block.
    len: usize,
}

impl BlockHeader {
    /// Takes `count` more references.
    #[inline]
    pub(crate) fn add_references(&self, count: usize) {
        self.references.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn references(&self) -> usize {
        self.references.load(Ordering::Acquire)
    }

    pub(crate) fn set_references(&self, count: usize) {
        self.references.store(count, Ordering::Relaxed);
    }

    /// Gives up `count` references without doing anything about a count of zero; returns whether it is zero now.
    #[inline]
    pub(crate) fn drop_references(&self, count: usize) -> bool {
        // No atomic write when nobody else is left to see it.
        if look_at_references(&self.references) == count {
            return true;
        }
        self.references.fetch_sub(count, Ordering::Release) == count && {
            // What others did with the block happened before what comes now.
            self.references.load(Ordering::Acquire);
            true
        }
    }
}

/// Takes one more reference to a block of `memory` (`get_page`).
///
/// # Safety
///
/// The header is alive; `owner` tells whether the caller is the memory's owner.
#[inline]
pub(crate) unsafe fn get(memory: &Inner, header: NonNull<BlockHeader>, owner: bool) {
    if owner && memory.shared_last.is_of(header) {
        memory.shared_last.take();
    } else {
        // SAFETY: by contract.
        unsafe { header.as_ref() }.add_references(1);
    }
}

/// Gives up one reference (`put_page`). The block is retired with the last.
///
/// # Safety
///
/// The header is alive, the caller owns one reference, which ends here, and something else keeps `memory` alive; `owner`
/// tells whether the caller is that memory's owner. The block may be of another one, which ends with it perhaps.
#[inline]
pub(crate) unsafe fn put(memory: &Inner, header: NonNull<BlockHeader>, owner: bool) {
    if owner {
        match memory.shared_last.offer(header) {
            Offer::Kept => return,
            Offer::Last => return memory.shared_last.flush(),
            Offer::Refused => {}
        }
    }
    // SAFETY: by contract.
    unsafe {
        let of = header.as_ref().inner;
        if ptr::eq(of.as_ptr(), memory) {
            put_directly(header);
        } else {
            put_of_another(of, header);
        }
    }
}

/// [`put`] of a block of `memory` that lies in a buffer of another one.
///
/// # Safety
///
/// As for [`put`], and nothing but the block need keep its memory alive.
#[cold]
unsafe fn put_of_another(memory: NonNull<Inner>, header: NonNull<BlockHeader>) {
    // SAFETY: by the contract of `put`.
    unsafe {
        if context::in_interrupt() {
            put_directly(header);
        } else {
            Inner::put_block(memory, header);
        }
    }
}

/// [`put`] past the stock.
///
/// # Safety
///
/// The header is alive and the caller owns one reference, which ends here.
#[inline]
pub(crate) unsafe fn put_directly(header: NonNull<BlockHeader>) {
    // SAFETY: by contract.
    if unsafe { header.as_ref() }.drop_references(1) {
        // SAFETY: that was the last reference.
        unsafe { retire_from_any_context(header) };
    }
}

/// [`retire`]s a block, or leaves that to a task.
///
/// # Safety
///
/// As for [`retire`].
#[cold]
unsafe fn retire_from_any_context(header: NonNull<BlockHeader>) {
    if context::in_interrupt() {
        // SAFETY: no references are left; the header keeps its memory alive.
        unsafe { header.as_ref().inner.as_ref().defer_block(header) };
    } else {
        // SAFETY: no references are left.
        unsafe { retire(header) };
    }
}

/// Gives a block without references to its pool or its page source.
///
/// # Safety
///
/// Nobody else has the block or its header.
pub(crate) unsafe fn retire(header: NonNull<BlockHeader>) {
    // SAFETY: the caller has the header to itself.
    let pool = unsafe { header.as_ref() }.pool;
    match NonNull::new(pool) {
        // SAFETY: a pool lives as long as one of its blocks is out.
        Some(pool) => unsafe { super::pool::give_back(pool, header) },
        // SAFETY: by contract.
        None => unsafe { release(header) },
    }
}

/// Gives a block without references to its page source, past any pool.
///
/// # Safety
///
/// Nobody else has the block or its header.
pub(crate) unsafe fn release(header: NonNull<BlockHeader>) {
    // SAFETY: the caller has the header to itself, and it keeps the memory alive until it is freed.
    unsafe {
        let BlockHeader { block, inner, .. } = header.read();
        inner.as_ref().give_pages(block);
        Inner::free(inner, BLOCK_HEADER_CACHE, header.cast(), inner.as_ref().is_owner());
    }
}

/// References to a block that somebody uses: those in stock do not count. The owner alone knows for sure how many they
/// are; another context counts the stock as one user, so that it never takes itself for the only one.
///
/// # Safety
///
/// The header is alive.
pub(crate) unsafe fn references(header: NonNull<BlockHeader>) -> u32 {
    // SAFETY: by contract; a header keeps its memory alive.
    let (memory, references) = unsafe { (header.as_ref().inner.as_ref(), header.as_ref().references()) };
    let users = match memory.in_stock(header) {
        Some(count) if memory.is_owner() => references - count,
        Some(count) => references.saturating_sub(count) + 1,
        None => references,
    };
    u32::try_from(users).unwrap_or(u32::MAX)
}

/// The order of the largest block: 1 GiB, so that offsets within a block fit in 32 bits with room to spare.
const MAXIMUM_ORDER: u8 = 18;

/// Whether blocks of `order` can be had at all.
pub(crate) fn check_order(order: u8) -> Result<(), OutOfMemory> {
    if order > MAXIMUM_ORDER {
        let bytes = 1_usize.checked_shl(order.into()).and_then(|pages| pages.checked_mul(crate::PAGE_SIZE));
        return Err(OutOfMemory { bytes: bytes.unwrap_or(usize::MAX) });
    }
    Ok(())
}

/// A new block with its header; the header's reference count is one.
pub(crate) fn allocate(
    inner: NonNull<Inner>,
    order: u8,
    zone: Zone,
    pool: *mut PoolInner,
) -> Result<NonNull<BlockHeader>, OutOfMemory> {
    check_order(order)?;
    // SAFETY: the caller has a handle to the memory or something that keeps it alive.
    let memory = unsafe { inner.as_ref() };
    let owner = memory.is_owner();
    let header = memory.allocate(BLOCK_HEADER_CACHE, owner)?.cast::<BlockHeader>();
    let Some(block) = memory.take_pages(order, zone) else {
        // SAFETY: the header was just allocated. The memory lives on: the caller keeps it alive.
        unsafe { Inner::free(inner, BLOCK_HEADER_CACHE, header.cast(), owner) };
        return Err(OutOfMemory { bytes: crate::PAGE_SIZE << order });
    };
    // SAFETY: an object of the header cache has room for a header and is aligned to a cache line.
    unsafe {
        header.write(BlockHeader {
            block,
            inner,
            pool,
            next: ptr::null_mut(),
            references: AtomicUsize::new(1),
            len: block.len(),
        });
    }
    Ok(header)
}

/// A page block that nobody else references: it may be written and lent to a device.
///
/// Whoever lends it to a device keeps it (in the ring entry, say) until the device is done; dropping it gives the
/// memory back.
///
/// ```
/// # let memory = netbuf::host::memory();
/// use netbuf::{Block, Zone};
///
/// let mut block = Block::alloc(&memory, 2, Zone::Dma32)?;
/// assert_eq!(block.len(), 4 * 4096);
/// assert_eq!(block.bus_address() % block.len() as u64, 0);
/// block.bytes_mut()[..5].copy_from_slice(b"hello");
/// let shared = block.share();
/// assert_eq!(&shared.bytes()[..5], b"hello");
/// # Ok::<(), netbuf::OutOfMemory>(())
/// ```
pub struct Block {
    header: NonNull<BlockHeader>,
}

// SAFETY: a block is memory with one owner; its header is reached through that owner, and its memory from anywhere.
unsafe impl Send for Block {}
// SAFETY: through a shared reference the bytes can only be read.
unsafe impl Sync for Block {}

impl Block {
    /// A block of `PAGE_SIZE << order` bytes, at most 1 GiB, that goes back to the page source when its last reference
    /// dies.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, Zone};
    /// assert_eq!(Block::alloc(&memory, 2, Zone::Dma32)?.len(), 4 * 4096);
    /// assert!(Block::alloc(&memory, 255, Zone::Normal).is_err());
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]: the source has no such block, or there is none that large.
    pub fn alloc(memory: &Memory, order: u8, zone: Zone) -> Result<Self, OutOfMemory> {
        let header = allocate(memory.inner_pointer(), order, zone, ptr::null_mut())?;
        Ok(Self { header })
    }

    /// The block of a header whose only reference the caller gives up.
    ///
    /// # Safety
    ///
    /// The header is alive, its count is one, and that one reference is the caller's.
    pub(crate) unsafe fn from_header(header: NonNull<BlockHeader>) -> Self {
        Self { header }
    }

    fn page_block(&self) -> &PageBlock {
        // SAFETY: the block keeps its header alive.
        unsafe { &self.header.as_ref().block }
    }

    /// The address of the first byte, as a device sees it.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, Zone};
    /// assert_eq!(Block::alloc(&memory, 0, Zone::Normal)?.bus_address() % 4096, 0);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[must_use]
    pub fn bus_address(&self) -> u64 {
        self.page_block().bus_address
    }

    /// Bytes in the block: a page times two to the power of the order.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, Zone};
    /// assert_eq!(Block::alloc(&memory, 3, Zone::Normal)?.len(), 32768);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub fn len(&self) -> usize {
        self.page_block().len()
    }

    /// Two to the power of this many pages.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, Zone};
    /// assert_eq!(Block::alloc(&memory, 3, Zone::Normal)?.order(), 3);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[must_use]
    pub fn order(&self) -> u8 {
        self.page_block().order
    }

    /// The zone that the block came from.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, Zone};
    /// assert_eq!(Block::alloc(&memory, 0, Zone::Dma32)?.zone(), Zone::Dma32);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[must_use]
    pub fn zone(&self) -> Zone {
        self.page_block().zone
    }

    /// The bytes of the block.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, Zone};
    /// let block = Block::alloc(&memory, 0, Zone::Normal)?;
    /// assert_eq!(block.bytes().len(), 4096);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let block = self.page_block();
        // SAFETY: the source promises `len` initialised bytes, and this is the only reference to them.
        unsafe { core::slice::from_raw_parts(block.pointer.as_ptr(), block.len()) }
    }

    /// The bytes of the block, to be written.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, Zone};
    /// let mut block = Block::alloc(&memory, 0, Zone::Normal)?;
    /// block.bytes_mut().fill(7);
    /// assert_eq!(block.bytes()[4095], 7);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let block = self.page_block();
        // SAFETY: as in `bytes`, and the block is borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(block.pointer.as_ptr(), block.len()) }
    }

    /// Makes the block read only, so that buffers can reference it. It comes back writable only through its pool or
    /// the page source, when the last reference has died, or through [`SharedBlock::try_unshare`].
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, Zone};
    /// let shared = Block::alloc(&memory, 0, Zone::Normal)?.share();
    /// assert_eq!(shared.references(), 1);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[must_use]
    pub fn share(self) -> SharedBlock {
        let header = self.header;
        core::mem::forget(self);
        // SAFETY: the block keeps header and memory alive.
        let memory = unsafe { header.as_ref().inner.as_ref() };
        if memory.is_owner() {
            memory.shared_last.flush();
            memory.shared_last.fill(header, 1);
        }
        SharedBlock { header }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the block owns the one reference.
        unsafe { put_directly(self.header) };
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.page_block(), formatter)
    }
}

/// One reference to a page block that several may read and nobody may write.
pub struct SharedBlock {
    pub(crate) header: NonNull<BlockHeader>,
}

// SAFETY: the reference count is atomic and the bytes are read only.
unsafe impl Send for SharedBlock {}
// SAFETY: as above.
unsafe impl Sync for SharedBlock {}

impl SharedBlock {
    #[inline]
    pub(crate) fn first_byte(&self) -> NonNull<u8> {
        self.page_block().pointer
    }

    #[inline]
    fn page_block(&self) -> &PageBlock {
        // SAFETY: this reference keeps the header alive.
        unsafe { &self.header.as_ref().block }
    }

    /// The address of the first byte, as a device sees it.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, Zone};
    /// let block = Block::alloc(&memory, 0, Zone::Normal)?;
    /// let address = block.bus_address();
    /// assert_eq!(block.share().bus_address(), address);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[must_use]
    pub fn bus_address(&self) -> u64 {
        self.page_block().bus_address
    }

    /// Bytes in the block.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, Zone};
    /// assert_eq!(Block::alloc(&memory, 1, Zone::Normal)?.share().len(), 8192);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[inline]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub fn len(&self) -> usize {
        // SAFETY: this reference keeps the header alive.
        unsafe { self.header.as_ref() }.len
    }

    /// The bytes of the block.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, Zone};
    /// let mut block = Block::alloc(&memory, 0, Zone::Normal)?;
    /// block.bytes_mut()[9] = 9;
    /// assert_eq!(block.share().bytes()[9], 9);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let block = self.page_block();
        // SAFETY: the source promises `len` initialised bytes, and nobody writes a shared block.
        unsafe { core::slice::from_raw_parts(block.pointer.as_ptr(), block.len()) }
    }

    /// How many references there are, this one and those of frags included.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, Zone};
    /// let shared = Block::alloc(&memory, 0, Zone::Normal)?.share();
    /// let second = shared.clone();
    /// assert_eq!(shared.references(), 2);
    /// # drop(second);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[must_use]
    pub fn references(&self) -> u32 {
        // SAFETY: this reference keeps the header alive.
        unsafe { references(self.header) }
    }

    /// The writable block, if this is the only reference; otherwise the reference comes back.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, Zone};
    /// let shared = Block::alloc(&memory, 0, Zone::Normal)?.share();
    /// let second = shared.clone();
    /// let shared = shared.try_unshare().unwrap_err();
    /// drop(second);
    /// shared.try_unshare().unwrap().bytes_mut().fill(0);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The reference itself, when there are others.
    pub fn try_unshare(self) -> Result<Block, Self> {
        if self.references() != 1 {
            return Err(self);
        }
        let header = self.header;
        core::mem::forget(self);
        // SAFETY: the reference keeps header and memory alive, and it is the only one but for those in stock.
        unsafe {
            let memory = header.as_ref().inner.as_ref();
            if header.as_ref().references() != 1 {
                memory.shared_last.empty();
                header.as_ref().set_references(1);
            }
        }
        Ok(Block { header })
    }
}

impl Clone for SharedBlock {
    fn clone(&self) -> Self {
        // SAFETY: this reference keeps header and memory alive.
        unsafe {
            let memory = self.header.as_ref().inner.as_ref();
            get(memory, self.header, memory.is_owner());
        }
        Self { header: self.header }
    }
}

impl Drop for SharedBlock {
    fn drop(&mut self) {
        // SAFETY: this handle owns one reference. Its block, alive until the memory is done with, keeps that alive.
        unsafe {
            let memory = self.header.as_ref().inner;
            let owner = memory.as_ref().is_owner();
            if owner || context::in_interrupt() {
                put(memory.as_ref(), self.header, owner);
            } else {
                Inner::put_block(memory, self.header);
            }
        }
    }
}

impl fmt::Debug for SharedBlock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SharedBlock")
            .field("block", self.page_block())
            .field("references", &self.references())
            .finish()
    }
}
