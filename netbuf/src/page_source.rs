//! Where page memory comes from: the one seam between this crate and its surroundings.
//!
//! The kernel implements [`PageSource`] on its physical frames, the host on the system allocator.

use core::ptr::NonNull;

/// Bytes in a page, the block of order 0.
pub const PAGE_SIZE: usize = 4096;

/// Where in physical memory a block may lie, from the most restricted to the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Zone {
    /// Below 16 MiB.
    Dma,
    /// Below 4 GiB: for devices that address 32 bits.
    Dma32,
    /// Anywhere.
    Normal,
}

impl Zone {
    /// The name that Linux prints.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Dma => "DMA",
            Self::Dma32 => "DMA32",
            Self::Normal => "Normal",
        }
    }
}

/// `PAGE_SIZE << order` contiguous bytes, aligned to their own size.
///
/// A plain description: whoever got it from [`PageSource::allocate`] answers for giving it back once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageBlock {
    /// First byte, as the processor addresses it.
    pub pointer: NonNull<u8>,
    /// First byte, as a device addresses it.
    pub bus_address: u64,
    /// The block has `PAGE_SIZE << order` bytes.
    pub order: u8,
    /// The zone that the block came from, which may be a more restricted one than was asked for.
    pub zone: Zone,
}

// SAFETY: a description of memory, which can be used only through `unsafe`.
unsafe impl Send for PageBlock {}
// SAFETY: as above.
unsafe impl Sync for PageBlock {}

impl PageBlock {
    /// Bytes in the block.
    ///
    /// ```
    /// # use netbuf::{PageSource, Zone, host::HostPages};
    /// let pages = HostPages::new();
    /// let block = pages.allocate(3, Zone::Normal).unwrap();
    /// assert_eq!(block.len(), 8 * netbuf::PAGE_SIZE);
    /// // SAFETY: the block came from this source just now, and nobody uses it.
    /// unsafe { pages.release(block) };
    /// ```
    #[must_use]
    pub const fn len(&self) -> usize {
        PAGE_SIZE << self.order
    }

    /// Always false: a block has at least one page.
    ///
    /// ```
    /// # use netbuf::{PageSource, Zone, host::HostPages};
    /// let pages = HostPages::new();
    /// let block = pages.allocate(0, Zone::Normal).unwrap();
    /// assert!(!block.is_empty());
    /// // SAFETY: the block came from this source just now, and nobody uses it.
    /// unsafe { pages.release(block) };
    /// ```
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

/// Gives out power-of-two blocks of pages.
///
/// A source that lets a part of the system have so many blocks and no more:
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// use netbuf::{Block, Memory, PageBlock, PageSource, Zone, host::HostPages};
///
/// struct Budget {
///     pages: Arc<HostPages>,
///     blocks: AtomicUsize,
/// }
///
/// // SAFETY: every block is one of `HostPages`, which keeps the promises, and goes back there.
/// unsafe impl PageSource for Budget {
///     fn allocate(&self, order: u8, zone: Zone) -> Option<PageBlock> {
///         self.blocks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok()?;
///         self.pages.allocate(order, zone)
///     }
///
///     unsafe fn release(&self, block: PageBlock) {
///         // SAFETY: by contract the block came from `allocate` above, and nobody uses it.
///         unsafe { self.pages.release(block) };
///         self.blocks.fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// let memory = Memory::new(Arc::new(Budget { pages: HostPages::new(), blocks: AtomicUsize::new(3) }))?;
/// let block = Block::alloc(&memory, 0, Zone::Normal)?;
/// assert!(Block::alloc(&memory, 0, Zone::Normal).is_err());
/// drop(block);
/// assert!(Block::alloc(&memory, 0, Zone::Normal).is_ok());
/// # Ok::<(), netbuf::OutOfMemory>(())
/// ```
///
/// # Implementation safety
///
/// A block returned by `allocate` has the order that was asked for, is valid for reads and writes of its whole length
/// until it is released, is not given out a second time before that, is aligned to its length in both address spaces,
/// and its bytes are initialised (their values are arbitrary). Neither `allocate` nor `release` unwinds.
///
/// # When it is called
///
/// By whoever allocates or frees something of a memory over this source: in any context that does, interrupt handlers
/// included where those allocate, and often under that memory's lock. So a source locks what it shares, does not wait for
/// anything long, and uses nothing of a memory over itself.
pub unsafe trait PageSource: Send + Sync {
    /// A block of `PAGE_SIZE << order` bytes from `zone` or a more restricted one; `None` when there is none left, or when
    /// the source has none of that order at all. Orders up to 18 are asked for (1 GiB), by the memory itself up to 13: a
    /// head of 16 MiB with its shared info takes that; heads up to 8 KiB and all bookkeeping do with 4.
    fn allocate(&self, order: u8, zone: Zone) -> Option<PageBlock>;

    /// Takes a block back.
    ///
    /// # Safety
    ///
    /// `block` came from `allocate` of this very source, has not been released since, and neither the processor
    /// nor a device uses it any more.
    unsafe fn release(&self, block: PageBlock);

    /// Whether the memory may give out an object of `bytes` bytes from a slab that it has already. A real source has
    /// nothing against it; one for tests refuses now and then. Only asked where the memory takes its lock.
    fn permits_object(&self, bytes: usize) -> bool {
        let _ = bytes;
        true
    }

    /// Free blocks of `order` in `zone` now, for inspection; 0 where the source does not keep count.
    fn free_blocks(&self, zone: Zone, order: u8) -> usize {
        let _ = (zone, order);
        0
    }
}
