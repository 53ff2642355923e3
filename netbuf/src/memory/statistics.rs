//! Counts of what a memory gave out and did, and the tables of `/proc/slabinfo` and `/proc/buddyinfo`.

use core::fmt;

use super::slab::{BLOCK_HEADER_CACHE, CACHE_COUNT, CACHES, DESCRIPTOR_CACHE, FCLONE_CACHE, KMALLOC_CACHES};
use super::{Inner, Memory};
use crate::page_source::Zone;
use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// A count that the owner context adds to without an atomic instruction and others with one.
pub(crate) struct Counter {
    local: AtomicU64,
    shared: AtomicUsize,
}

impl Counter {
    pub(crate) fn new() -> Self {
        Self { local: AtomicU64::new(0), shared: AtomicUsize::new(0) }
    }

    #[inline]
    pub(crate) fn add(&self, owner: bool, count: usize) {
        if owner {
            self.local
                .store(self.local.load(Ordering::Relaxed).wrapping_add(count as u64), Ordering::Relaxed);
        } else {
            self.shared.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.local.load(Ordering::Relaxed).wrapping_add(self.shared.load(Ordering::Relaxed) as u64)
    }
}

/// What a memory has given out and what it did so far.
///
/// The counts of live things are exact when no other context is allocating or freeing at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Descriptors in use; a pair counts once, until both its buffers are gone. Deferred buffers are still in use.
    pub live_descriptors: usize,
    /// Objects of the general caches in use: slab heads and the bookkeeping of pools.
    pub live_slab_objects: usize,
    /// Page blocks in use outside the memory: with drivers, in pools, under frags and fragment heads.
    pub live_blocks: usize,
    /// Calls to the page source so far, in either direction. In steady state this number stands still: taking an
    /// object off a free list, a fragment off its block or a block out of a pool is not such a call.
    pub allocator_calls: u64,
    /// Payload bytes that buffer operations copied so far.
    pub copied_bytes: u64,
}

/// One line of the table of caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheInformation {
    /// Linux's name for the cache; `page_block`, which has the headers of blocks, is this crate's own.
    pub name: &'static str,
    /// Objects in use.
    pub active_objects: usize,
    /// Objects there are.
    pub total_objects: usize,
    /// Bytes of an object.
    pub object_size: usize,
    /// Objects in a slab.
    pub objects_per_slab: usize,
    /// Pages in a slab.
    pub pages_per_slab: usize,
    /// Slabs there are.
    pub slabs: usize,
}

impl Inner {
    fn statistics(&self) -> Statistics {
        self.catch_up();
        let shared = self.lock_shared();
        let in_use = |cache| self.in_use(cache, &shared);
        let mut statistics = Statistics {
            live_descriptors: in_use(DESCRIPTOR_CACHE) + in_use(FCLONE_CACHE),
            live_slab_objects: (0..KMALLOC_CACHES).map(in_use).sum(),
            live_blocks: in_use(BLOCK_HEADER_CACHE),
            allocator_calls: self.allocator_calls.get(),
            copied_bytes: self.copied_bytes.get(),
        };
        drop(shared);
        statistics.live_blocks = statistics.live_blocks.saturating_sub(self.fragments.internal_blocks());
        statistics
    }
}

impl Memory {
    /// [`Statistics::allocator_calls`] alone: one load, for whoever looks around every batch of packets.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::NetBuf;
    /// drop(NetBuf::alloc(&memory, 64)?);
    /// let before = memory.allocator_calls();
    /// drop(NetBuf::alloc(&memory, 64)?);
    /// assert_eq!(memory.allocator_calls(), before);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn allocator_calls(&self) -> u64 {
        self.inner().allocator_calls.get()
    }

    /// [`Statistics::copied_bytes`] alone: one load, for whoever looks around every batch of packets.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::NetBuf;
    /// let mut buffer = NetBuf::alloc(&memory, 64)?;
    /// buffer.put(40)?;
    /// let copy = buffer.copy()?;
    /// assert_eq!(memory.copied_bytes(), 40);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.inner().copied_bytes.get()
    }

    /// What is in use and what was done so far.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let buffer = netbuf::NetBuf::alloc(&memory, 200)?;
    /// let statistics = memory.statistics();
    /// assert_eq!(statistics.live_descriptors, 1);
    /// assert_eq!(statistics.live_slab_objects, 1);
    /// # drop(buffer);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.inner().statistics()
    }

    /// The slab caches: `kmalloc-64` to `kmalloc-8192`, `skbuff_head_cache` and `skbuff_fclone_cache` for descriptors,
    /// `page_block` for the headers of blocks.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let buffer = netbuf::NetBuf::alloc(&memory, 200)?;
    /// let cache = memory.caches().into_iter().find(|cache| cache.name == "skbuff_head_cache").unwrap();
    /// assert_eq!(cache.active_objects, 1);
    /// # drop(buffer);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    #[must_use]
    pub fn caches(&self) -> [CacheInformation; CACHE_COUNT] {
        let inner = self.inner();
        let shared = inner.lock_shared();
        core::array::from_fn(|cache| {
            let kind = &CACHES[cache];
            let slabs = shared[cache].slab_count();
            CacheInformation {
                name: kind.name,
                active_objects: inner.in_use(cache, &shared),
                total_objects: slabs * kind.objects_per_slab(),
                object_size: kind.object_size,
                objects_per_slab: kind.objects_per_slab(),
                pages_per_slab: 1 << kind.slab_order,
                slabs,
            }
        })
    }

    /// The tables of caches and zones as `/proc/slabinfo` and `/proc/buddyinfo` show them, to be printed.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let tables = memory.tables().to_string();
    /// assert!(tables.contains("skbuff_fclone_cache"));
    /// assert!(tables.contains("Node 0, zone    DMA32"));
    /// ```
    #[must_use]
    pub fn tables(&self) -> MemoryTables<'_> {
        MemoryTables { memory: self }
    }
}

/// Prints the tables of caches and zones; from [`Memory::tables`].
#[derive(Debug)]
pub struct MemoryTables<'a> {
    memory: &'a Memory,
}

/// Orders in the table of zones: 4 KiB to 4 MiB.
const ORDERS: u8 = 11;

impl fmt::Display for MemoryTables<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "# name                 <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> <num_slabs>"
        )?;
        for cache in self.memory.caches() {
            writeln!(
                formatter,
                "{:<22} {:>13} {:>10} {:>9} {:>12} {:>14} {:>11}",
                cache.name,
                cache.active_objects,
                cache.total_objects,
                cache.object_size,
                cache.objects_per_slab,
                cache.pages_per_slab,
                cache.slabs,
            )?;
        }
        for zone in [Zone::Dma, Zone::Dma32, Zone::Normal] {
            write!(formatter, "Node 0, zone {:>8}", zone.name())?;
            for order in 0..ORDERS {
                write!(formatter, " {:>6}", self.memory.inner().free_blocks(zone, order))?;
            }
            writeln!(formatter)?;
        }
        Ok(())
    }
}
