//! Memory that processor and device share for as long as a driver lives: rings, contexts, descriptor tables.
//!
//! Packet memory is not here: it is `netbuf`'s, and moves between processor and device by ownership.

use alloc::sync::Arc;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use netbuf::{PAGE_SIZE, PageBlock, PageSource, Zone};

/// Where DMA memory comes from.
pub type Pages = Arc<dyn PageSource>;

/// No block of this size was left in the zone or a more restricted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfDmaMemory {
    /// Bytes that were asked for.
    pub bytes: usize,
    /// The zone that was asked for.
    pub zone: Zone,
}

impl fmt::Display for OutOfDmaMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "no {} bytes of DMA memory left in zone {:?}", self.bytes, self.zone)
    }
}

impl core::error::Error for OutOfDmaMemory {}

/// A zeroed, physically contiguous region that a device may read and write at any time.
///
/// The region is a power-of-two block of pages, aligned to its own size, so a structure that fits never crosses a
/// boundary of its size (xHCI table 6-1 asks this of rings and contexts). Because the device may change the bytes at
/// any moment, there are no references into it: every access is one volatile load or store of a copy.
/// An access past the end is a bug of the caller that must not take the image down: reads give 0, writes are dropped,
/// both fail a debug assertion.
///
/// Dropping the region gives the memory back: stop the device first.
pub struct DmaRegion {
    block: PageBlock,
    pages: Pages,
}

// SAFETY: the region is owned memory without thread affinity, and its source is Send + Sync.
unsafe impl Send for DmaRegion {}
// SAFETY: shared access is by volatile loads and stores of plain integers; the other party is a device anyway, so
// callers already treat every value read as arbitrary.
unsafe impl Sync for DmaRegion {}

impl DmaRegion {
    /// A zeroed region of at least `bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`OutOfDmaMemory`] when the source has no such block.
    pub fn new(pages: &Pages, bytes: usize, zone: Zone) -> Result<Self, OutOfDmaMemory> {
        let order = bytes.div_ceil(PAGE_SIZE).max(1).next_power_of_two().trailing_zeros() as u8;
        let block = pages.allocate(order, zone).ok_or(OutOfDmaMemory { bytes, zone })?;
        let region = Self { block, pages: pages.clone() };
        region.fill(0, region.len(), 0);
        Ok(region)
    }

    /// Bytes in the region: what was asked for, rounded up to a power of two of pages.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.block.len()
    }

    /// Always false.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The first byte, as the device addresses it.
    #[must_use]
    #[inline]
    pub fn bus_address(&self) -> u64 {
        self.block.bus_address
    }

    /// The first byte, as the processor addresses it, for a ring library that keeps its structures in the region by
    /// itself. Whoever dereferences it sees to the type's rules: no references while the device may write, nothing
    /// after the drop.
    #[must_use]
    pub fn pointer(&self) -> NonNull<u8> {
        self.block.pointer
    }

    #[inline]
    fn place<T>(&self, offset: usize) -> Option<NonNull<T>> {
        // A page at least, so the difference is one.
        let inside = offset <= self.len() - size_of::<T>();
        let aligned = offset.is_multiple_of(align_of::<T>());
        debug_assert!(inside && aligned, "DMA access of {} bytes at {offset:#x}", size_of::<T>());
        // SAFETY: the offset was just checked to lie inside the block.
        (inside && aligned).then(|| unsafe { self.block.pointer.add(offset) }.cast())
    }

    #[inline]
    fn load<T: Default>(&self, offset: usize) -> T {
        // SAFETY: `place` checked bounds and alignment; the block is initialised and ours until drop; T is a plain
        // integer for every caller in this module, so any bit pattern is valid.
        self.place::<T>(offset).map_or_else(T::default, |at| unsafe { at.read_volatile() })
    }

    #[inline]
    fn store<T>(&self, offset: usize, value: T) {
        if let Some(at) = self.place::<T>(offset) {
            // SAFETY: as in `load`.
            unsafe { at.write_volatile(value) }
        }
    }

    /// Loads one byte.
    #[must_use]
    #[inline]
    pub fn read_u8(&self, offset: usize) -> u8 {
        self.load(offset)
    }
    /// Loads a little-endian u16.
    #[must_use]
    #[inline]
    pub fn read_u16(&self, offset: usize) -> u16 {
        u16::from_le(self.load(offset))
    }
    /// Loads a little-endian u32.
    #[must_use]
    #[inline]
    pub fn read_u32(&self, offset: usize) -> u32 {
        u32::from_le(self.load(offset))
    }
    /// Loads a little-endian u64.
    #[must_use]
    #[inline]
    pub fn read_u64(&self, offset: usize) -> u64 {
        u64::from_le(self.load(offset))
    }
    /// Stores one byte.
    #[inline]
    pub fn write_u8(&self, offset: usize, value: u8) {
        self.store(offset, value);
    }
    /// Stores a little-endian u16.
    #[inline]
    pub fn write_u16(&self, offset: usize, value: u16) {
        self.store(offset, value.to_le());
    }
    /// Stores a little-endian u32.
    #[inline]
    pub fn write_u32(&self, offset: usize, value: u32) {
        self.store(offset, value.to_le());
    }
    /// Stores a little-endian u64.
    #[inline]
    pub fn write_u64(&self, offset: usize, value: u64) {
        self.store(offset, value.to_le());
    }

    /// Copies bytes in.
    pub fn write_bytes(&self, offset: usize, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            self.write_u8(offset + index, *byte);
        }
    }

    /// Copies bytes out.
    pub fn read_bytes(&self, offset: usize, bytes: &mut [u8]) {
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = self.read_u8(offset + index);
        }
    }

    /// Sets `len` bytes at `offset` to `value`.
    pub fn fill(&self, offset: usize, len: usize, value: u8) {
        let mut index = 0;
        while index < len {
            // Whole words where they fit: regions are zeroed at boot, a page and more at a time.
            if (offset + index).is_multiple_of(8) && len - index >= 8 {
                self.write_u64(offset + index, u64::from_ne_bytes([value; 8]));
                index += 8;
            } else {
                self.write_u8(offset + index, value);
                index += 1;
            }
        }
    }
}

impl Drop for DmaRegion {
    fn drop(&mut self) {
        // SAFETY: the block came from this source in `new`, is released only here, and the documentation of the type
        // asks its owner to stop the device first.
        unsafe { self.pages.release(self.block) }
    }
}

impl fmt::Debug for DmaRegion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DmaRegion({:#x}, {} bytes)", self.bus_address(), self.len())
    }
}

/// Everything stored to DMA memory before this call is visible to a device that sees a store made after it: call it
/// between filling a descriptor and handing it over.
pub fn write_barrier() {
    fence(Ordering::Release);
}

/// Everything loaded from DMA memory after this call is at least as new as what was loaded before it: call it between
/// seeing a descriptor's owner bit change and reading the rest.
pub fn read_barrier() {
    fence(Ordering::Acquire);
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicUsize;
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    /// Pages from the system allocator, filled with a pattern, counted while they live.
    struct Heap(AtomicUsize);

    // SAFETY: blocks are fresh allocations, aligned to their size, initialised by zeroing and the pattern.
    unsafe impl PageSource for Heap {
        fn allocate(&self, order: u8, zone: Zone) -> Option<PageBlock> {
            let bytes = PAGE_SIZE.checked_shl(order.into()).filter(|bytes| *bytes <= 1 << 20)?;
            // SAFETY: the layout is not empty.
            let pointer = NonNull::new(unsafe { alloc_zeroed(Layout::from_size_align(bytes, bytes).ok()?) })?;
            // SAFETY: the block has `bytes` bytes.
            unsafe { pointer.write_bytes(0xa5, bytes) };
            self.0.fetch_add(1, Ordering::Relaxed);
            Some(PageBlock { pointer, bus_address: pointer.as_ptr() as u64 + 0x1000_0000, order, zone })
        }
        unsafe fn release(&self, block: PageBlock) {
            self.0.fetch_sub(1, Ordering::Relaxed);
            // SAFETY: the caller hands back what `allocate` made with this layout.
            unsafe {
                dealloc(block.pointer.as_ptr(), Layout::from_size_align(block.len(), block.len()).unwrap());
            }
        }
    }

    #[test]
    fn a_region_is_zeroed_rounded_up_and_given_back() {
        let heap = Arc::new(Heap(AtomicUsize::new(0)));
        let pages: Pages = heap.clone();
        let region = DmaRegion::new(&pages, 5000, Zone::Dma32).unwrap();
        assert_eq!((region.len(), region.bus_address() % 8192), (8192, 0));
        assert!((0..8192).step_by(8).all(|offset| region.read_u64(offset) == 0));
        drop(region);
        assert_eq!(heap.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn integers_are_little_endian_in_memory() {
        let pages: Pages = Arc::new(Heap(AtomicUsize::new(0)));
        let region = DmaRegion::new(&pages, 16, Zone::Normal).unwrap();
        region.write_u32(4, 0x0403_0201);
        let mut bytes = [0; 6];
        region.read_bytes(3, &mut bytes);
        assert_eq!(bytes, [0, 1, 2, 3, 4, 0]);
        region.write_bytes(8, &[0xff; 8]);
        assert_eq!((region.read_u64(8), region.read_u16(4)), (u64::MAX, 0x0201));
    }

    #[test]
    fn filling_touches_exactly_the_bytes_named() {
        let pages: Pages = Arc::new(Heap(AtomicUsize::new(0)));
        let region = DmaRegion::new(&pages, 64, Zone::Normal).unwrap();
        region.fill(3, 23, 7);
        assert!(
            (0..64).all(|offset| region.read_u8(offset) == if (3..26).contains(&offset) { 7 } else { 0 })
        );
    }

    #[test]
    fn exhaustion_is_an_error_that_names_the_size() {
        let pages: Pages = Arc::new(Heap(AtomicUsize::new(0)));
        let error = DmaRegion::new(&pages, 2 << 20, Zone::Dma).unwrap_err();
        assert_eq!(error.to_string(), "no 2097152 bytes of DMA memory left in zone Dma");
    }

    #[test]
    #[should_panic(expected = "DMA access of 8 bytes at 0xffc")]
    #[cfg(debug_assertions)]
    fn an_access_past_the_end_fails_a_debug_assertion() {
        let pages: Pages = Arc::new(Heap(AtomicUsize::new(0)));
        let _ = DmaRegion::new(&pages, 4096, Zone::Dma).unwrap().read_u64(4092);
    }
}
