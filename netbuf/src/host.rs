//! A page source on the host: the system allocator under bus addresses that are not pointers.
//!
//! For feature `host`. Tests and device models use it. It counts what is out, lets a model reach memory by bus address the
//! way a device would, and fails on demand.
//!
//! A device writes to memory whoever borrows it, and so does [`HostPages::write`]: it is the one safe function of this
//! crate that can break Rust's rules, for models of devices are to be written without `unsafe`. A model keeps the rule that
//! a real device keeps: it writes to memory that a driver has lent to it, and no longer than until it said that it is done.

extern crate std;

use alloc::alloc::{Layout, alloc, dealloc};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::memory::Memory;
use crate::page_source::{PAGE_SIZE, PageBlock, PageSource, Zone};

/// What is added to the low bits of a pointer to make the bus address of [`Zone::Normal`] blocks: nobody can take the
/// one for the other by mistake.
const NORMAL_BASE: u64 = 0x100_0000_0000;
/// Bus addresses of [`Zone::Dma32`] blocks start here, those of [`Zone::Dma`] at one MiB.
const DMA32_BASE: u64 = 0x1000_0000;
const DMA_BASE: u64 = 0x10_0000;
const DMA32_END: u64 = 1 << 32;
const DMA_END: u64 = 1 << 24;

/// A model touched memory by a bus address at which no live block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusError {
    /// First byte of the access.
    pub bus_address: u64,
    /// Bytes of the access.
    pub len: usize,
}

impl fmt::Display for BusError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "no live block holds the {} bytes at bus address {:#x}: the device was given a wrong address, or kept one too long",
            self.len, self.bus_address
        )
    }
}

impl core::error::Error for BusError {}

struct State {
    /// Live blocks by bus address.
    live: BTreeMap<u64, PageBlock>,
    next: [u64; 3],
    free_addresses: Vec<(u8, Zone, u64)>,
    allocations: u64,
    releases: u64,
    fail_at: Option<u64>,
    fail_from: Option<u64>,
    objects: u64,
    fail_object: Option<u64>,
}

/// Pages from the system allocator.
///
/// ```
/// use netbuf::{Memory, host::HostPages};
/// let pages = HostPages::new();
/// let memory = Memory::new(pages.clone())?;
/// assert_eq!(pages.live_blocks(), 1);
/// drop(memory);
/// assert_eq!(pages.live_blocks(), 0);
/// # Ok::<(), netbuf::OutOfMemory>(())
/// ```
pub struct HostPages {
    state: Mutex<State>,
}

/// A memory over new host pages, for examples and tests that need no more of the source.
///
/// ```
/// let buffer = netbuf::NetBuf::alloc(&netbuf::host::memory(), 64)?;
/// # Ok::<(), netbuf::OutOfMemory>(())
/// ```
///
/// # Panics
///
/// When the host is out of memory.
#[must_use]
pub fn memory() -> Memory {
    #[expect(clippy::expect_used, reason = "for tests on the host")]
    Memory::new(HostPages::new()).expect("the host has memory for one page")
}

impl HostPages {
    /// A source without limit and without faults.
    ///
    /// ```
    /// assert_eq!(netbuf::host::HostPages::new().live_blocks(), 0);
    /// ```
    #[must_use]
    pub fn new() -> Arc<Self> {
        let state = State {
            live: BTreeMap::new(),
            next: [DMA_BASE, DMA32_BASE, NORMAL_BASE],
            free_addresses: Vec::new(),
            allocations: 0,
            releases: 0,
            fail_at: None,
            fail_from: None,
            objects: 0,
            fail_object: None,
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the allocation number `index` from now on fail, 0 being the next one.
    ///
    /// ```
    /// # use netbuf::{Memory, NetBuf, host::HostPages};
    /// let pages = HostPages::new();
    /// let memory = Memory::new(pages.clone())?;
    /// pages.fail_allocation(0);
    /// assert!(NetBuf::alloc(&memory, 64).is_err());
    /// assert!(NetBuf::alloc(&memory, 64).is_ok());
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    pub fn fail_allocation(&self, index: u64) {
        let mut state = self.state();
        state.fail_at = Some(state.allocations + index);
    }

    /// Makes every allocation from number `index` from now on fail, until [`heal`](Self::heal).
    ///
    /// ```
    /// # use netbuf::{Memory, host::HostPages};
    /// let pages = HostPages::new();
    /// pages.fail_allocations_from(0);
    /// assert!(Memory::new(pages).is_err());
    /// ```
    pub fn fail_allocations_from(&self, index: u64) {
        let mut state = self.state();
        state.fail_from = Some(state.allocations + index);
    }

    /// Ends all faults.
    ///
    /// ```
    /// # use netbuf::{Memory, host::HostPages};
    /// let pages = HostPages::new();
    /// pages.fail_allocations_from(0);
    /// pages.heal();
    /// assert!(Memory::new(pages).is_ok());
    /// ```
    pub fn heal(&self) {
        let mut state = self.state();
        state.fail_at = None;
        state.fail_from = None;
        state.fail_object = None;
    }

    /// Makes the memory's allocation number `index` from now on fail although there are free objects, 0 being the
    /// next one. Only allocations that take the memory's lock are counted: all of them in a memory that belongs to no
    /// context.
    ///
    /// ```
    /// # use netbuf::{Memory, NetBuf, host::HostPages};
    /// let pages = HostPages::new();
    /// let memory = Memory::unowned(pages.clone())?;
    /// pages.fail_object(1);
    /// assert!(NetBuf::alloc(&memory, 64).is_err()); // the head came, the descriptor did not
    /// assert_eq!(memory.statistics().live_slab_objects, 0);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    pub fn fail_object(&self, index: u64) {
        let mut state = self.state();
        state.fail_object = Some(state.objects + index);
    }

    /// Objects asked for so far, where that is counted: see [`fail_object`](Self::fail_object).
    ///
    /// ```
    /// assert_eq!(netbuf::host::HostPages::new().objects(), 0);
    /// ```
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.state().objects
    }

    /// Blocks given out and not back.
    ///
    /// ```
    /// assert_eq!(netbuf::host::HostPages::new().live_blocks(), 0);
    /// ```
    #[must_use]
    pub fn live_blocks(&self) -> usize {
        self.state().live.len()
    }

    /// Allocations so far, failed ones included.
    ///
    /// ```
    /// assert_eq!(netbuf::host::HostPages::new().allocations(), 0);
    /// ```
    #[must_use]
    pub fn allocations(&self) -> u64 {
        self.state().allocations
    }

    /// Releases so far.
    ///
    /// ```
    /// assert_eq!(netbuf::host::HostPages::new().releases(), 0);
    /// ```
    #[must_use]
    pub fn releases(&self) -> u64 {
        self.state().releases
    }

    /// Where the bytes of a bus address range lie.
    fn resolve(state: &State, bus_address: u64, len: usize) -> Result<NonNull<u8>, BusError> {
        let error = BusError { bus_address, len };
        let (start, block) = state.live.range(..=bus_address).next_back().ok_or(error)?;
        let offset = (bus_address - start) as usize;
        if offset.saturating_add(len) > block.len() {
            return Err(error);
        }
        // SAFETY: the offset lies within the block.
        Ok(unsafe { block.pointer.add(offset) })
    }

    /// Reads memory as a device does, by bus address. Nobody may be writing to it at the same time: see the
    /// [module](self).
    ///
    /// ```
    /// # use netbuf::{Block, Memory, Zone, host::HostPages};
    /// let pages = HostPages::new();
    /// let memory = Memory::new(pages.clone())?;
    /// let mut block = Block::alloc(&memory, 0, Zone::Normal)?;
    /// block.bytes_mut()[8] = 42;
    /// let mut byte = [0];
    /// pages.read(block.bus_address() + 8, &mut byte)?;
    /// assert_eq!(byte, [42]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BusError`]: no live block holds all of the range.
    pub fn read(&self, bus_address: u64, target: &mut [u8]) -> Result<(), BusError> {
        let state = self.state();
        let source = Self::resolve(&state, bus_address, target.len())?;
        // SAFETY: the range lies within a live block, whose bytes are initialised, and which is not released while the
        // state is locked. That the processor does not write it at the same time is left to the model and the driver under
        // test, as the module says.
        unsafe { source.as_ptr().copy_to_nonoverlapping(target.as_mut_ptr(), target.len()) };
        Ok(())
    }

    /// Writes memory as a device does, by bus address. Nobody may be using it at the same time: see the [module](self).
    ///
    /// ```
    /// # use netbuf::{Block, Memory, Zone, host::HostPages};
    /// let pages = HostPages::new();
    /// let memory = Memory::new(pages.clone())?;
    /// let block = Block::alloc(&memory, 0, Zone::Normal)?;
    /// pages.write(block.bus_address(), &[1, 2, 3])?;
    /// assert_eq!(block.bytes()[..3], [1, 2, 3]);
    /// let address = block.bus_address();
    /// drop(block);
    /// assert!(pages.write(address, &[1]).is_err()); // a device that writes to memory it was not given
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BusError`]: no live block holds all of the range.
    pub fn write(&self, bus_address: u64, source: &[u8]) -> Result<(), BusError> {
        let state = self.state();
        let target = Self::resolve(&state, bus_address, source.len())?;
        // SAFETY: the range lies within a live block, which is not released while the state is locked. That the processor
        // does not use it at the same time is left to the model and the driver under test, as the module says.
        unsafe { target.as_ptr().copy_from_nonoverlapping(source.as_ptr(), source.len()) };
        Ok(())
    }
}

const fn zone_index(zone: Zone) -> usize {
    match zone {
        Zone::Dma => 0,
        Zone::Dma32 => 1,
        Zone::Normal => 2,
    }
}

fn layout(order: u8) -> Option<Layout> {
    let len = PAGE_SIZE.checked_shl(order.into())?;
    Layout::from_size_align(len, len).ok()
}

// SAFETY: a block is a live allocation of the system allocator of the length asked for, aligned to it and filled; its bus
// address is unique among live blocks and aligned like it. Nothing unwinds but for a release that breaks the contract.
unsafe impl PageSource for HostPages {
    fn allocate(&self, order: u8, zone: Zone) -> Option<PageBlock> {
        let mut state = self.state();
        let index = state.allocations;
        state.allocations += 1;
        if state.fail_at == Some(index) || state.fail_from.is_some_and(|from| index >= from) {
            return None;
        }
        let layout = layout(order)?;
        let found = state.free_addresses.iter().position(|free| (free.0, free.1) == (order, zone));
        let bus_address = match found {
            Some(position) => state.free_addresses.swap_remove(position).2,
            None => {
                let next = &mut state.next[zone_index(zone)];
                let start = next.next_multiple_of(layout.size() as u64);
                let end = start + layout.size() as u64;
                if (zone == Zone::Dma && end > DMA_END) || (zone == Zone::Dma32 && end > DMA32_END) {
                    return None;
                }
                *next = end;
                start
            }
        };
        // SAFETY: the layout has a size.
        let Some(pointer) = NonNull::new(unsafe { alloc(layout) }) else {
            state.free_addresses.push((order, zone, bus_address));
            return None;
        };
        // SAFETY: the block is new and has that many bytes. The pattern makes it visible when somebody takes old
        // bytes for new ones.
        unsafe { pointer.as_ptr().write_bytes(0xa5, layout.size()) };
        let block = PageBlock { pointer, bus_address, order, zone };
        state.live.insert(bus_address, block);
        Some(block)
    }

    unsafe fn release(&self, block: PageBlock) {
        let mut state = self.state();
        let live = state.live.remove(&block.bus_address);
        assert_eq!(live, Some(block), "a block is released that is not out");
        state.releases += 1;
        state.free_addresses.push((block.order, block.zone, block.bus_address));
        if let Some(layout) = layout(block.order) {
            // SAFETY: the block came from `alloc` with this layout and was live until now.
            unsafe { dealloc(block.pointer.as_ptr(), layout) };
        }
    }

    fn permits_object(&self, _bytes: usize) -> bool {
        let mut state = self.state();
        let index = state.objects;
        state.objects += 1;
        state.fail_object != Some(index)
    }

    fn free_blocks(&self, zone: Zone, order: u8) -> usize {
        self.state().free_addresses.iter().filter(|free| (free.0, free.1) == (order, zone)).count()
    }
}

impl Drop for HostPages {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for block in state.live.values() {
            if let Some(layout) = layout(block.order) {
                // SAFETY: the block came from `alloc` with this layout. Every memory holds its source, so nobody is
                // left who could use it.
                unsafe { dealloc(block.pointer.as_ptr(), layout) };
            }
        }
    }
}

impl fmt::Debug for HostPages {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HostPages").field("live_blocks", &self.live_blocks()).finish()
    }
}
