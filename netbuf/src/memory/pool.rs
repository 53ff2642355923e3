//! Pools that give the same page blocks out again and again.
//!
//! A driver takes blocks for its device from a pool, shares them when they are filled, and forgets them. The last
//! buffer that references a block brings it back to the pool, so that in steady state nothing is asked of the page
//! source.

use core::fmt;
use core::ptr::{self, NonNull};

use super::block::{self, Block, BlockHeader};
use super::slab::{CacheIndex, kmalloc_index};
use super::{Inner, Memory};
use crate::error::OutOfMemory;
use crate::page_source::{PageBlock, Zone};
use crate::sync::SpinLock;

/// What the pool's handle and its blocks point to; an object of a general slab cache.
pub(crate) struct PoolInner {
    inner: NonNull<Inner>,
    /// Idle blocks that are kept at most.
    keep: usize,
    state: SpinLock<PoolState>,
}

struct PoolState {
    idle: *mut BlockHeader,
    idle_count: usize,
    /// Blocks taken and not back yet.
    out: usize,
    /// The handle is gone: the last block that comes back takes the pool with it.
    closed: bool,
}

// SAFETY: the list of idle blocks belongs to the pool alone; the lock orders access to it.
unsafe impl Send for PoolState {}

impl PoolInner {
    pub(crate) fn new(inner: NonNull<Inner>, keep: usize) -> Self {
        let state = PoolState { idle: ptr::null_mut(), idle_count: 0, out: 0, closed: false };
        Self { inner, keep, state: SpinLock::new(state) }
    }

    pub(crate) fn idle(&self) -> usize {
        self.state.lock().idle_count
    }

    /// Gives the idle blocks back to the page source; returns how many there were.
    pub(crate) fn release_idle(&self) -> usize {
        let (idle, count) = self.state.lock().take_idle();
        release_list(idle);
        count
    }

    /// Gives the pages of the idle blocks to `release`, and forgets the headers.
    ///
    /// # Safety
    ///
    /// The memory is being torn down: nobody uses the headers any more.
    pub(crate) unsafe fn tear_down(&self, mut release: impl FnMut(PageBlock)) {
        let (mut idle, _) = self.state.lock().take_idle();
        while let Some(header) = NonNull::new(idle) {
            // SAFETY: the header was on the idle list, so it is alive; its slab goes later.
            let header = unsafe { header.as_ref() };
            idle = header.next;
            release(header.block);
        }
    }
}

impl PoolState {
    /// Puts a block that nobody references with the idle ones.
    fn add_idle(&mut self, header: NonNull<BlockHeader>) {
        // SAFETY: the caller has the header to itself, and gives it to the pool.
        unsafe { (*header.as_ptr()).next = self.idle };
        self.idle = header.as_ptr();
        self.idle_count += 1;
    }

    fn take_idle(&mut self) -> (*mut BlockHeader, usize) {
        (core::mem::replace(&mut self.idle, ptr::null_mut()), core::mem::replace(&mut self.idle_count, 0))
    }
}

/// Gives blocks that were idle, chained, back to the page source.
fn release_list(mut idle: *mut BlockHeader) {
    while let Some(header) = NonNull::new(idle) {
        // SAFETY: the idle blocks were the pool's, and nobody references them.
        unsafe {
            idle = header.as_ref().next;
            block::release(header);
        }
    }
}

const POOL_BYTES: usize = size_of::<PoolInner>();

/// The cache that the bookkeeping of pools comes from.
pub(super) const CACHE: CacheIndex = match kmalloc_index(POOL_BYTES) {
    Some(index) => index,
    None => panic!("a pool's bookkeeping fits in a slab object"),
};

/// A block with one reference: an idle one, or a new one from the page source.
///
/// # Safety
///
/// The pool is alive and belongs to `inner`, as does every block of it, of this order and zone.
pub(crate) unsafe fn take(
    pool: NonNull<PoolInner>,
    inner: NonNull<Inner>,
    order: u8,
    zone: Zone,
) -> Result<NonNull<BlockHeader>, OutOfMemory> {
    // SAFETY: by contract.
    let shared = unsafe { pool.as_ref() };
    {
        let mut state = shared.state.lock();
        if let Some(header) = NonNull::new(state.idle) {
            // SAFETY: an idle header belongs to the pool, which hands it over.
            let header_ref = unsafe { header.as_ref() };
            state.idle = header_ref.next;
            state.idle_count -= 1;
            state.out += 1;
            header_ref.set_references(1);
            return Ok(header);
        }
    }
    let header = block::allocate(inner, order, zone, pool.as_ptr())?;
    shared.state.lock().out += 1;
    Ok(header)
}

/// Takes a block without references back into the pool.
///
/// # Safety
///
/// The block belongs to this pool, has no references, and nobody else has its header. Not in an interrupt handler.
pub(crate) unsafe fn give_back(pool: NonNull<PoolInner>, header: NonNull<BlockHeader>) {
    // SAFETY: the pool lives while one of its blocks is out, and this one is until the lock is released below.
    let inner = unsafe { pool.as_ref() };
    let mut state = inner.state.lock();
    state.out -= 1;
    if !state.closed && state.idle_count < inner.keep {
        state.add_idle(header);
        return;
    }
    let last = state.closed && state.out == 0;
    let memory = inner.inner;
    drop(state);
    // SAFETY: the header keeps the memory alive, so the pool's object goes first. With the handle gone and no block
    // out, nobody else can reach the pool.
    unsafe {
        if last {
            Inner::free(memory, CACHE, pool.cast(), memory.as_ref().is_owner());
        }
        block::release(header);
    }
}

/// A pool of page blocks of one order in one zone.
///
/// ```
/// # let memory = netbuf::host::memory();
/// use netbuf::{BlockPool, Zone};
///
/// let pool = BlockPool::new(&memory, 2, Zone::Dma32, 8)?;
/// let block = pool.take()?;
/// let address = block.bus_address();
/// drop(block.share());
/// assert_eq!(pool.idle(), 1);
/// assert_eq!(pool.take()?.bus_address(), address);
/// # Ok::<(), netbuf::OutOfMemory>(())
/// ```
pub struct BlockPool {
    pool: NonNull<PoolInner>,
    memory: Memory,
    order: u8,
    zone: Zone,
}

// SAFETY: the pool's state is behind a lock.
unsafe impl Send for BlockPool {}
// SAFETY: as above.
unsafe impl Sync for BlockPool {}

impl BlockPool {
    /// An empty pool for blocks of `PAGE_SIZE << order` bytes that keeps at most `keep` idle ones. Blocks that come back
    /// to a full pool, or after it was dropped, go on to the page source.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{BlockPool, Zone};
    /// let pool = BlockPool::new(&memory, 0, Zone::Normal, 1)?;
    /// drop((pool.take()?, pool.take()?));
    /// assert_eq!(pool.idle(), 1);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]: no room for the pool's bookkeeping, or there are no blocks that large.
    pub fn new(memory: &Memory, order: u8, zone: Zone, keep: usize) -> Result<Self, OutOfMemory> {
        block::check_order(order)?;
        let inner = memory.inner();
        let pool = inner.allocate(CACHE, inner.is_owner())?.cast::<PoolInner>();
        // SAFETY: the object is new and large enough.
        unsafe { pool.write(PoolInner::new(memory.inner_pointer(), keep)) };
        Ok(Self { pool, memory: memory.clone(), order, zone })
    }

    fn pool(&self) -> &PoolInner {
        self.memory.inner().catch_up();
        // SAFETY: the handle keeps the pool alive.
        unsafe { self.pool.as_ref() }
    }

    /// A block that nobody references: a recycled one if there is one, else a new one from the page source.
    /// The bytes are whatever they were.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{BlockPool, Zone};
    /// let pool = BlockPool::new(&memory, 0, Zone::Normal, 8)?;
    /// assert_eq!(pool.take()?.len(), 4096);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]: none is idle and the source has none.
    pub fn take(&self) -> Result<Block, OutOfMemory> {
        // SAFETY: the handle keeps the pool alive, `memory` the memory; the header comes with the one reference.
        unsafe {
            let header =
                take(NonNull::from(self.pool()), self.memory.inner_pointer(), self.order, self.zone)?;
            Ok(Block::from_header(header))
        }
    }

    /// Makes sure that `count` blocks (at most as many as the pool keeps) are idle, so that taking them cannot fail.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{BlockPool, Zone};
    /// let pool = BlockPool::new(&memory, 0, Zone::Normal, 4)?;
    /// pool.fill(3)?;
    /// assert_eq!(pool.idle(), 3);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]: the source ran out; the blocks so far stay in the pool.
    pub fn fill(&self, count: usize) -> Result<(), OutOfMemory> {
        let count = count.min(self.pool().keep);
        while self.idle() < count {
            let header =
                block::allocate(self.memory.inner_pointer(), self.order, self.zone, self.pool.as_ptr())?;
            let mut state = self.pool().state.lock();
            // To allocate may free what was deferred, blocks of this pool among it, and others may bring some back.
            if state.idle_count < count {
                state.add_idle(header);
            } else {
                drop(state);
                // SAFETY: the header is new and ours, and its block was never taken.
                unsafe { block::release(header) };
            }
        }
        Ok(())
    }

    /// Blocks waiting to be taken.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{BlockPool, Zone};
    /// assert_eq!(BlockPool::new(&memory, 0, Zone::Normal, 4)?.idle(), 0);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[must_use]
    pub fn idle(&self) -> usize {
        self.pool().state.lock().idle_count
    }

    /// Blocks taken whose last reference has not died yet.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{BlockPool, Zone};
    /// let pool = BlockPool::new(&memory, 0, Zone::Normal, 4)?;
    /// let block = pool.take()?;
    /// assert_eq!(pool.out(), 1);
    /// # drop(block);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[must_use]
    pub fn out(&self) -> usize {
        self.pool().state.lock().out
    }

    /// Bytes in each block.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{BlockPool, Zone};
    /// assert_eq!(BlockPool::new(&memory, 3, Zone::Normal, 4)?.block_len(), 32768);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[must_use]
    pub fn block_len(&self) -> usize {
        crate::PAGE_SIZE << self.order
    }
}

impl Drop for BlockPool {
    fn drop(&mut self) {
        let (idle, last) = {
            let mut state = self.pool().state.lock();
            state.closed = true;
            (state.take_idle().0, state.out == 0)
        };
        // Whoever is last frees the pool's object: here when no block is out, else the last block that comes back,
        // which may be happening right now: from here on the object may be gone unless `last`.
        release_list(idle);
        if last {
            let owner = self.memory.inner().is_owner();
            // SAFETY: no block is out and the handle is going; `memory` keeps the memory alive.
            unsafe { Inner::free(self.memory.inner_pointer(), CACHE, self.pool.cast(), owner) };
        }
    }
}

impl fmt::Debug for BlockPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BlockPool")
            .field("order", &self.order)
            .field("zone", &self.zone)
            .field("idle", &self.idle())
            .field("out", &self.out())
            .finish()
    }
}
