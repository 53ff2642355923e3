//! The page frames of the machine, in zones, as a [`PageSource`].

use core::ptr::NonNull;
use core::slice;

use netbuf::{PAGE_SIZE, PageBlock, PageSource, Zone};
use spin::Mutex;

use super::buddy::{Buddy, Links, Storage};
use super::map::MemoryMap;

const PAGE: u64 = PAGE_SIZE as u64;

/// The zones from the most restricted one on, each with the addresses that it covers.
const ZONES: [(Zone, u64, u64); 3] = [
    (Zone::Dma, 0, 16 << 20),
    (Zone::Dma32, 16 << 20, 4 << 30),
    (Zone::Normal, 4 << 30, super::page_table::ADDRESS_LIMIT),
];

/// All free frames.
///
/// Only code on the main stack allocates and releases, never an interrupt handler, so the lock is never waited for.
pub struct Frames(Mutex<Option<State>>);

struct State {
    zones: [Buddy<'static>; 3],
    /// All memory there is, whoever uses it.
    total_bytes: usize,
}

/// The frames of this machine; empty until [`Frames::initialise`].
pub static FRAMES: Frames = Frames(Mutex::new(None));

/// Free frames keep their list links in themselves.
struct IdentityMapped;

impl Storage for IdentityMapped {
    fn read(&self, page: u64) -> Links {
        // SAFETY: the allocator only names free frames, which are mapped onto themselves, used by nobody else, and
        // hold what `write` put there.
        unsafe { ((page * PAGE) as *const Links).read() }
    }
    fn write(&mut self, page: u64, links: Links) {
        // SAFETY: as above; a page is aligned for anything.
        unsafe { ((page * PAGE) as *mut Links).write(links) }
    }
}

/// Pages that a zone spans, given the memory there is.
fn span(map: &MemoryMap, start: u64, end: u64) -> (u64, u64) {
    let inside = || map.ranges().filter(|range| range.start < end && start < range.end);
    let first = inside().next().map_or(start, |range| range.start.max(start));
    let last = inside().last().map_or(first, |range| range.end.min(end));
    (first / PAGE, last / PAGE)
}

impl Frames {
    /// Bytes that [`Frames::initialise`] wants for its own records, for this memory.
    pub fn record_bytes(map: &MemoryMap) -> u64 {
        ZONES.iter().map(|(_, start, end)| span(map, *start, *end)).map(|(first, last)| last - first).sum()
    }

    /// Takes over all memory of the map, out of `total_bytes` that the machine has.
    ///
    /// # Safety
    ///
    /// Called once. The memory in `map` is mapped onto itself, writable, and used by nobody; so is the memory at
    /// `records`, [`Frames::record_bytes`] of an earlier or the same map, which is not part of `map`.
    pub unsafe fn initialise(&self, map: &MemoryMap, records: u64, total_bytes: usize) {
        let mut record = records;
        let zones = ZONES.map(|(_, start, end)| {
            let (first, last) = span(map, start, end);
            // SAFETY: the caller gave this memory; each zone takes its part once.
            let bytes = unsafe { slice::from_raw_parts_mut(record as *mut u8, (last - first) as usize) };
            record += last - first;
            let mut buddy = Buddy::new(first, bytes);
            for range in map.ranges() {
                buddy.insert(&mut IdentityMapped, range.start / PAGE, range.end / PAGE);
            }
            buddy
        });
        *self.0.lock() = Some(State { zones, total_bytes });
    }

    /// Bytes of memory that the machine has, and bytes of them in use: by the image, its records, and all who allocated.
    pub fn statistics(&self) -> (usize, usize) {
        self.0.lock().as_ref().map_or((0, 0), |state| {
            let free: usize = state.zones.iter().map(Buddy::free_pages).sum();
            (state.total_bytes, state.total_bytes.saturating_sub(free * PAGE_SIZE))
        })
    }
}

fn index(zone: Zone) -> usize {
    match zone {
        Zone::Dma => 0,
        Zone::Dma32 => 1,
        Zone::Normal => 2,
    }
}

// SAFETY: the buddy allocators give out disjoint, aligned blocks of memory that is mapped onto itself (so both
// address spaces agree) and initialised as far as a machine's memory ever is.
unsafe impl PageSource for Frames {
    fn allocate(&self, order: u8, zone: Zone) -> Option<PageBlock> {
        let mut frames = self.0.lock();
        let state = frames.as_mut()?;
        // The zone asked for first, then the more restricted ones.
        (0..=index(zone)).rev().find_map(|index| {
            let page = state.zones[index].allocate(&mut IdentityMapped, order)?;
            let address = page * PAGE;
            Some(PageBlock {
                pointer: NonNull::new(address as *mut u8)?,
                bus_address: address,
                order,
                zone: ZONES[index].0,
            })
        })
    }

    unsafe fn release(&self, block: PageBlock) {
        let mut frames = self.0.lock();
        let Some(state) = frames.as_mut() else { return };
        let zone = &mut state.zones[index(block.zone)];
        if let Err(error) = zone.release(&mut IdentityMapped, block.bus_address / PAGE, block.order) {
            drop(frames);
            log::error!("memory: {block:?} was released but is not taken: {error:?}");
        }
    }

    fn free_blocks(&self, zone: Zone, order: u8) -> usize {
        self.0.lock().as_ref().map_or(0, |state| state.zones[index(zone)].free_blocks(order))
    }
}

/// [`FRAMES`] as others hold it.
pub struct SystemFrames;

// SAFETY: forwards to the one `Frames`, which upholds the contract.
unsafe impl PageSource for SystemFrames {
    fn allocate(&self, order: u8, zone: Zone) -> Option<PageBlock> {
        FRAMES.allocate(order, zone)
    }
    unsafe fn release(&self, block: PageBlock) {
        // SAFETY: the caller's promise, handed on.
        unsafe { FRAMES.release(block) }
    }
    fn free_blocks(&self, zone: Zone, order: u8) -> usize {
        FRAMES.free_blocks(zone, order)
    }
}
