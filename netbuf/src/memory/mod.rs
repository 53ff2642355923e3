//! The memory behind the buffers: slab caches, page fragments, page blocks and their pools, over one page source.

pub(crate) mod block;
pub(crate) mod fragment;
pub(crate) mod pool;
pub(crate) mod slab;
mod statistics;
pub(crate) mod stock;

use alloc::sync::Arc;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use crate::buffer::{Descriptor, NotedPairs, settle_pairs};
use crate::context;
use crate::error::OutOfMemory;
use crate::page_source::{PAGE_SIZE, PageBlock, PageSource, Zone};
use crate::sync::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, SpinLock, is_null};

use block::BlockHeader;
use fragment::FragmentAllocator;
use slab::{BLOCK_HEADER_CACHE, CACHE_COUNT, CACHES, CacheIndex, Magazine, SharedCache};
use statistics::Counter;
use stock::Stock;

pub use statistics::{CacheInformation, MemoryTables, Statistics};

/// The owner of a memory that belongs to no context.
const NOBODY: usize = usize::MAX;

/// Objects that the owner's list takes from the shared one at a time.
const REFILL: usize = 64;

/// What all handles of a memory, and every buffer made from it, point to. It lies in a block of its own source.
pub(crate) struct Inner {
    /// The context that may use `local` and `fragments` now: `home` while there are handles, nobody afterwards.
    owner: AtomicUsize,
    /// The context that made the memory.
    home: usize,
    local: [Magazine; CACHE_COUNT],
    pub(crate) fragments: FragmentAllocator,
    /// References to the block that was shared last.
    pub(crate) shared_last: Stock,
    handles: AtomicUsize,
    /// The last handle is gone: whoever frees the last object tears everything down.
    orphaned: AtomicBool,
    shared: SpinLock<[SharedCache; CACHE_COUNT]>,
    /// Buffers freed in an interrupt handler, chained through their links.
    deferred: AtomicPtr<Descriptor>,
    /// Pairs of which other contexts noted something for the owner.
    pub(crate) noted_pairs: NotedPairs,
    /// Blocks whose last reference died in an interrupt handler.
    deferred_blocks: AtomicPtr<BlockHeader>,
    source: ManuallyDrop<Arc<dyn PageSource>>,
    page: PageBlock,
    pub(crate) allocator_calls: Counter,
    pub(crate) copied_bytes: Counter,
    total_objects: [AtomicUsize; CACHE_COUNT],
}

impl Inner {
    /// Whether the caller is the context that this memory belongs to. Once the last handle is gone it belongs to nobody:
    /// then every object comes back under the lock, so that the last one is noticed.
    #[inline(always)]
    pub(crate) fn is_owner(&self) -> bool {
        context::is(self.owner.load(Ordering::Relaxed))
    }

    /// Whether the caller is the context that made this memory, and so the only one that knows its stocks.
    fn is_home(&self) -> bool {
        context::is(self.home)
    }

    /// An object of `cache`. Its bytes are initialised, their values are arbitrary.
    #[inline]
    pub(crate) fn allocate(&self, cache: CacheIndex, owner: bool) -> Result<NonNull<u8>, OutOfMemory> {
        if owner && let Some(object) = self.local[cache].pop() {
            return Ok(object);
        }
        self.allocate_slowly(cache, owner)
    }

    #[cold]
    fn allocate_slowly(&self, cache: CacheIndex, owner: bool) -> Result<NonNull<u8>, OutOfMemory> {
        if owner {
            self.free_deferred();
            if let Some(object) = self.local[cache].pop() {
                return Ok(object);
            }
        }
        let kind = &CACHES[cache];
        if !self.source.permits_object(kind.object_size) {
            return Err(OutOfMemory { bytes: kind.object_size });
        }
        let mut shared = self.shared.lock();
        if shared[cache].len() == 0 {
            let block = self
                .take_pages(kind.slab_order, Zone::Normal)
                .ok_or(OutOfMemory { bytes: kind.object_size })?;
            // SAFETY: the block is new and of this cache's order.
            unsafe { shared[cache].add_slab(cache, block) };
            self.total_objects[cache].fetch_add(kind.objects_per_slab(), Ordering::Relaxed);
        }
        let object = shared[cache].pop().ok_or(OutOfMemory { bytes: kind.object_size })?;
        if owner {
            shared[cache].give_to(&self.local[cache], REFILL);
        }
        Ok(object)
    }

    /// Takes an object of `cache` back. The memory may be gone afterwards, unless a handle is known to live: hence the
    /// pointer in place of a reference.
    ///
    /// # Safety
    ///
    /// `object` came from `allocate(cache, ..)` of this living memory, nobody uses it any more, and `owner` tells
    /// whether the caller is the memory's owner.
    #[inline]
    pub(crate) unsafe fn free(this: NonNull<Self>, cache: CacheIndex, object: NonNull<u8>, owner: bool) {
        // SAFETY: the memory lives as long as the object is not on a free list.
        let inner = unsafe { this.as_ref() };
        if owner {
            let local = &inner.local[cache];
            if local.is_full() {
                inner.spill(cache);
            }
            // SAFETY: by contract the object is free now and belongs to this cache. This is the last touch.
            unsafe { local.push(object) };
        } else {
            // SAFETY: by contract.
            unsafe { Self::free_shared(this, cache, object) };
        }
    }

    /// The owner's magazine of a cache.
    #[inline(always)]
    pub(crate) fn magazine(&self, cache: CacheIndex) -> &Magazine {
        &self.local[cache]
    }

    /// [`free`](Self::free) by anybody but the owner.
    ///
    /// # Safety
    ///
    /// As there.
    #[cold]
    unsafe fn free_shared(this: NonNull<Self>, cache: CacheIndex, object: NonNull<u8>) {
        // SAFETY: the memory lives as long as the object is not on a free list.
        let inner = unsafe { this.as_ref() };
        if inner.orphaned.load(Ordering::Relaxed) {
            inner.settle();
        }
        let mut shared = inner.shared.lock();
        // SAFETY: by contract the object is free now and belongs to this cache.
        unsafe { shared[cache].push(object) };
        if inner.orphaned.load(Ordering::Relaxed) {
            // SAFETY: the lock has been held since the object went on the list.
            unsafe { Self::tear_down_if_unused(this, shared) };
        }
    }

    /// Gives up a reference to a block past the stock, from a task, when nothing else keeps the memory alive. Of an
    /// orphaned memory nothing but references in stock may be left then: hence under the lock, as in
    /// [`free_shared`](Self::free_shared).
    ///
    /// # Safety
    ///
    /// The header is alive and of this memory, and the caller owns one reference, which ends here.
    pub(crate) unsafe fn put_block(this: NonNull<Self>, header: NonNull<BlockHeader>) {
        // SAFETY: by contract the block is alive, which keeps the memory alive.
        unsafe {
            let inner = this.as_ref();
            let shared = inner.shared.lock();
            if header.as_ref().drop_references(1) {
                drop(shared);
                block::retire(header);
            } else if inner.orphaned.load(Ordering::Relaxed) {
                Self::tear_down_if_unused(this, shared);
            }
        }
    }

    /// Moves half of the owner's list of `cache` to the shared one.
    #[cold]
    fn spill(&self, cache: CacheIndex) {
        let half = self.local[cache].len() / 2;
        self.shared.lock()[cache].take_from(&self.local[cache], half);
    }

    /// Pages from the source, counted.
    pub(crate) fn take_pages(&self, order: u8, zone: Zone) -> Option<PageBlock> {
        self.allocator_calls.add(false, 1);
        self.source.allocate(order, zone)
    }

    /// Pages back to the source, counted.
    ///
    /// # Safety
    ///
    /// As for [`PageSource::release`].
    pub(crate) unsafe fn give_pages(&self, block: PageBlock) {
        self.allocator_calls.add(false, 1);
        // SAFETY: by contract.
        unsafe { self.source.release(block) };
    }

    /// Puts a buffer on the list of those to be freed by a task.
    ///
    /// # Safety
    ///
    /// The descriptor is alive, of this memory, and owned by the caller, who forgets it.
    pub(crate) unsafe fn defer(&self, descriptor: NonNull<Descriptor>) {
        let mut first = self.deferred.load(Ordering::Relaxed);
        loop {
            // SAFETY: the descriptor is ours until the exchange below succeeds.
            unsafe { (*descriptor.as_ptr()).next = first };
            match self.deferred.compare_exchange_weak(
                first,
                descriptor.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }

    /// Puts a block without references on the list of those to be retired by a task.
    ///
    /// # Safety
    ///
    /// The header is alive, of this memory, and without references.
    pub(crate) unsafe fn defer_block(&self, header: NonNull<BlockHeader>) {
        let mut first = self.deferred_blocks.load(Ordering::Relaxed);
        loop {
            // SAFETY: the header is ours until the exchange below succeeds.
            unsafe { (*header.as_ptr()).next = first };
            match self.deferred_blocks.compare_exchange_weak(
                first,
                header.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }

    /// Whether no other context noted anything of a pair. For the owner, who looks before it touches a pair.
    #[inline(always)]
    pub(crate) fn has_no_notes(&self) -> bool {
        is_null(&self.noted_pairs)
    }

    /// Carries out the notes of pairs that the caller may, if any are seen.
    pub(crate) fn settle_pairs(&self, owner: bool) {
        if !self.has_no_notes() {
            settle_pairs(self, owner);
        }
    }

    /// Whether no handle is left, so that freeing the last object ends the memory.
    pub(crate) fn is_orphaned(&self) -> bool {
        self.orphaned.load(Ordering::Relaxed)
    }

    /// Frees what interrupt handlers left; returns how many buffers and blocks that were.
    pub(crate) fn free_deferred(&self) -> usize {
        if context::in_interrupt() {
            return 0;
        }
        let mut count = 0;
        let mut descriptor = self.deferred.swap(core::ptr::null_mut(), Ordering::Acquire);
        while let Some(current) = NonNull::new(descriptor) {
            // SAFETY: a buffer on the list is alive and owned by the list, which gives it to us.
            unsafe {
                descriptor = (*current.as_ptr()).next;
                (*current.as_ptr()).next = core::ptr::null_mut();
                drop(crate::NetBuf::from_descriptor(current));
            }
            count += 1;
        }
        let mut header = self.deferred_blocks.swap(core::ptr::null_mut(), Ordering::Acquire);
        while let Some(current) = NonNull::new(header) {
            // SAFETY: a block on the list has no references and is owned by the list.
            unsafe {
                header = (*current.as_ptr()).next;
                block::retire(current);
            }
            count += 1;
        }
        self.settle_pairs(self.is_owner());
        count
    }

    pub(crate) fn lock_shared(&self) -> SharedCaches<'_> {
        self.shared.lock()
    }

    /// Free blocks of the page source, where it keeps count.
    pub(crate) fn free_blocks(&self, zone: Zone, order: u8) -> usize {
        self.source.free_blocks(zone, order)
    }

    /// Objects of `cache` that are in use.
    pub(crate) fn in_use(&self, cache: CacheIndex, shared: &[SharedCache; CACHE_COUNT]) -> usize {
        let free = self.local[cache].len() + shared[cache].len();
        self.total_objects[cache].load(Ordering::Relaxed).saturating_sub(free)
    }

    /// Frees what interrupt handlers left, and, for the owner, the block in stock if nobody else has references to it.
    fn settle(&self) {
        self.free_deferred();
        // Under the lock: a note on a pair half of which was freed here just before may not be seen without.
        settle_pairs(self, self.is_owner());
        if self.is_home() {
            self.retire_stock();
        }
    }

    /// Does what other contexts left to the owner, if this is the owner: then what is in use is what somebody uses.
    pub(crate) fn catch_up(&self) {
        if self.is_owner() {
            self.settle_pairs(true);
            self.retire_stock();
        }
    }

    /// How many references to a block are in stock, if some are.
    pub(crate) fn in_stock(&self, header: NonNull<BlockHeader>) -> Option<usize> {
        let stocks = [&self.shared_last, self.fragments.stock()];
        stocks.into_iter().find(|stock| stock.is_of(header)).map(Stock::count)
    }

    /// Retires the block in stock if nobody else has references to it: the last of them died in another context, which
    /// could not know. Only for the owner.
    pub(crate) fn retire_stock(&self) {
        if self.shared_last.has_all() {
            self.shared_last.flush();
        }
    }

    /// The block in stock, if nothing else of this memory is left: no buffer, no other block, no other reference. The
    /// last reference died in another context then, which had to leave it. The owner cannot be using its stock, for it
    /// would need one of those.
    fn abandoned_stock(&self, shared: &[SharedCache; CACHE_COUNT]) -> Option<NonNull<BlockHeader>> {
        let header = self.shared_last.block()?;
        let alone = self.in_use(slab::DESCRIPTOR_CACHE, shared) == 0
            && self.in_use(slab::FCLONE_CACHE, shared) == 0
            && self.in_use(BLOCK_HEADER_CACHE, shared) == self.fragments.internal_blocks() + 1;
        (alone && self.shared_last.has_all()).then_some(header)
    }

    /// Releases everything if no object is in use, once the last handle is gone.
    ///
    /// Whoever puts an object on a list looks for this under the same hold of the lock, so exactly one context sees the
    /// last object come back. The owner's own list is the exception: if it frees the last object in the very instant in
    /// which another context drops the last handle, neither may see the other's step, and the memory stays allocated.
    ///
    /// # Safety
    ///
    /// `shared` is the held lock of the living memory `this`, and no handle is left.
    #[cold]
    unsafe fn tear_down_if_unused(this: NonNull<Self>, mut shared: SharedCaches<'_>) {
        // SAFETY: alive until the last line, by contract.
        let inner = unsafe { this.as_ref() };
        let in_stock = inner.abandoned_stock(&shared);
        let expected = |cache: CacheIndex| match in_stock {
            // SAFETY: the stock's references keep the header alive.
            Some(header) if cache == pool::CACHE => usize::from(!unsafe { header.as_ref() }.pool.is_null()),
            _ if cache == BLOCK_HEADER_CACHE => {
                inner.fragments.internal_blocks() + usize::from(in_stock.is_some())
            }
            _ => 0,
        };
        if (0..CACHE_COUNT).any(|cache| inner.in_use(cache, &shared) != expected(cache)) {
            return;
        }
        if let Some(header) = in_stock {
            // SAFETY: only the stock has references to the block, and the memory with its stock ends here.
            unsafe { inner.give_pages(header.as_ref().block) };
        }
        // SAFETY: no object is in use, so neither is a fragment; the block headers' cache goes below.
        unsafe { inner.fragments.tear_down(|block| inner.give_pages(block)) };
        for cache in shared.iter_mut() {
            // SAFETY: no object of any cache is in use, as was just counted.
            unsafe { cache.release_all(|block| inner.give_pages(block)) };
        }
        drop(shared);
        let page = inner.page;
        // SAFETY: nobody can reach this memory any more: no handle and no object is left. The source is taken out
        // once, here, and the page it lies in goes back to it last.
        unsafe {
            let source = core::ptr::read(&raw const (*this.as_ptr()).source);
            source.release(page);
            drop(ManuallyDrop::into_inner(source));
        }
    }
}

type SharedCaches<'a> = crate::sync::SpinGuard<'a, [SharedCache; CACHE_COUNT]>;

/// A handle to the memory that buffers are made of. Cloning it is cheap: all clones are the same memory.
///
/// The memory lives until the last handle *and* the last buffer and block are gone, and gives everything back to its
/// source then.
///
/// It belongs to the context that made it, which allocates and frees without atomic instructions. All other contexts
/// may use it too, at the price of a lock.
///
/// ```
/// use std::sync::Arc;
/// use netbuf::{Memory, NetBuf, host::HostPages};
///
/// let pages = HostPages::new();
/// let memory = Memory::new(pages.clone())?;
/// let buffer = NetBuf::alloc(&memory, 128)?;
/// assert_eq!(memory.statistics().live_descriptors, 1);
/// drop(memory);
/// drop(buffer);
/// assert_eq!(pages.live_blocks(), 0);
/// # Ok::<(), netbuf::OutOfMemory>(())
/// ```
pub struct Memory {
    inner: NonNull<Inner>,
}

// SAFETY: `Inner` may be reached from all contexts: the owner's parts are touched by the owner alone (`is_owner`),
// everything else is atomic or behind the lock.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// A memory over `source`, belonging to the calling context. A kernel that did not say what its contexts are
    /// ([`context::declare_single_core`]) gets one that belongs to nobody, as with [`unowned`](Self::unowned).
    ///
    /// ```
    /// use netbuf::{Memory, NetBuf, host::HostPages};
    /// let memory = Memory::new(HostPages::new())?;
    /// let buffer = NetBuf::alloc(&memory, 64)?;
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]: the source has not even room for the bookkeeping.
    pub fn new(source: Arc<dyn PageSource>) -> Result<Self, OutOfMemory> {
        Self::owned_by(source, context::current())
    }

    /// A memory over `source` that belongs to no context: all of them take the lock. For memory that several threads
    /// use alike, and for tests, whose source can so refuse each single allocation.
    ///
    /// ```
    /// # use netbuf::{Memory, NetBuf, host::HostPages};
    /// let memory = Memory::unowned(HostPages::new())?;
    /// let buffer = NetBuf::alloc(&memory, 64)?;
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]: the source has not even room for the bookkeeping.
    pub fn unowned(source: Arc<dyn PageSource>) -> Result<Self, OutOfMemory> {
        Self::owned_by(source, context::UNKNOWN)
    }

    fn owned_by(source: Arc<dyn PageSource>, owner: usize) -> Result<Self, OutOfMemory> {
        const BYTES: usize = size_of::<Inner>();
        let order = BYTES.div_ceil(PAGE_SIZE).next_power_of_two().trailing_zeros() as u8;
        let page = source.allocate(order, Zone::Normal).ok_or(OutOfMemory { bytes: BYTES })?;
        let inner = page.pointer.cast::<Inner>();
        let owner = match owner {
            context::UNKNOWN | context::INTERRUPT => NOBODY,
            owner => owner,
        };
        // SAFETY: the block is new, large enough and aligned to its size.
        unsafe {
            inner.write(Inner {
                owner: AtomicUsize::new(owner),
                home: owner,
                local: core::array::from_fn(|_| Magazine::new()),
                fragments: FragmentAllocator::new(inner),
                shared_last: Stock::new(),
                handles: AtomicUsize::new(1),
                orphaned: AtomicBool::new(false),
                shared: SpinLock::new([const { SharedCache::new() }; CACHE_COUNT]),
                deferred: AtomicPtr::new(core::ptr::null_mut()),
                noted_pairs: NotedPairs::new(core::ptr::null_mut()),
                deferred_blocks: AtomicPtr::new(core::ptr::null_mut()),
                source: ManuallyDrop::new(source),
                page,
                allocator_calls: Counter::new(),
                copied_bytes: Counter::new(),
                total_objects: core::array::from_fn(|_| AtomicUsize::new(0)),
            });
        }
        Ok(Self { inner })
    }

    #[inline]
    pub(crate) fn inner(&self) -> &Inner {
        // SAFETY: a handle keeps the memory alive.
        unsafe { self.inner.as_ref() }
    }

    #[inline]
    pub(crate) fn inner_pointer(&self) -> NonNull<Inner> {
        self.inner
    }

    /// Frees the buffers and blocks that were dropped in interrupt handlers since the last call, and returns how many
    /// there were. To be called from a task, now and then; allocating does it too when a list runs dry. Without a handle
    /// nobody can call it: keep one for as long as interrupt handlers may drop something.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// assert_eq!(memory.free_deferred(), 0);
    /// ```
    pub fn free_deferred(&self) -> usize {
        self.inner().free_deferred()
    }

    /// Gives slabs and fragment blocks that nobody uses back to the page source; returns how many blocks that were. What a
    /// [`BlockPool`](crate::BlockPool) keeps stays there.
    ///
    /// Only the owner's call reaches the owner's lists; from another context it takes what the shared lists have.
    ///
    /// ```
    /// # use netbuf::{Memory, NetBuf, host::HostPages};
    /// let pages = HostPages::new();
    /// let memory = Memory::new(pages.clone())?;
    /// drop(NetBuf::alloc(&memory, 128)?);
    /// assert!(pages.live_blocks() > 1);
    /// memory.shrink();
    /// assert_eq!(pages.live_blocks(), 1); // the memory itself
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    pub fn shrink(&self) -> usize {
        let inner = self.inner();
        inner.free_deferred();
        let owner = inner.is_owner();
        let mut released = if owner { inner.fragments.shrink() } else { 0 };
        let mut shared = inner.shared.lock();
        for cache in 0..CACHE_COUNT {
            if owner {
                shared[cache].take_from(&inner.local[cache], usize::MAX);
            }
            let slabs = shared[cache].shrink(cache, |block| {
                // SAFETY: the slab is whole on the free list, so nobody uses it, and it is off the list now.
                unsafe { inner.give_pages(block) }
            });
            inner.total_objects[cache].fetch_sub(slabs * CACHES[cache].objects_per_slab(), Ordering::Relaxed);
            released += slabs;
        }
        released
    }
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        self.inner().handles.fetch_add(1, Ordering::Relaxed);
        Self { inner: self.inner }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let inner = self.inner();
        if inner.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            inner.settle();
            if inner.is_owner() {
                // From now on each reference counts for itself: whoever gives up the last one, through another memory
                // even, ends the block.
                inner.shared_last.flush();
            }
            let shared = inner.shared.lock();
            inner.owner.store(NOBODY, Ordering::Relaxed);
            inner.orphaned.store(true, Ordering::SeqCst);
            // SAFETY: the lock is held, and this was the last handle.
            unsafe { Inner::tear_down_if_unused(self.inner, shared) };
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Memory").field("statistics", &self.statistics()).finish()
    }
}
