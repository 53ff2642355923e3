//! Ring memory for the virtio-drivers crate, out of the surroundings' pages.
//!
//! `virtio_drivers::Hal` is a set of functions without a receiver, so the page source of the device that is being set
//! up stands in a static while its rings are allocated, and the regions given out are kept in a list until the rings
//! drop. `Hal::share` learns only a pointer: it can name the bus address only where the two are equal. That holds in
//! Skiff's identity map, and is checked for the rings' own memory and for every buffer that is posted for receiving;
//! frames to send come out of the same packet memory.

use alloc::vec::Vec;
use core::ptr::NonNull;

use hal::dma::{DmaRegion, Pages};
use netbuf::{PAGE_SIZE, Zone};
use spin::Mutex;
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

/// The crate's view of Skiff's memory.
#[derive(Debug)]
pub(crate) struct Memory;

struct State {
    source: Option<Pages>,
    regions: Vec<DmaRegion>,
}

static STATE: Mutex<State> = Mutex::new(State { source: None, regions: Vec::new() });
/// Held while `STATE.source` belongs to one device: host tests set devices up in several threads at once.
static SETUP: Mutex<()> = Mutex::new(());

/// Runs `set_up`, in which rings are allocated, with `pages` as their source.
pub(crate) fn allocate_from<T>(pages: &Pages, set_up: impl FnOnce() -> T) -> T {
    let _alone = SETUP.lock();
    STATE.lock().source = Some(pages.clone());
    let result = set_up();
    STATE.lock().source = None;
    result
}

// SAFETY: each region is owned by `STATE` from `dma_alloc` until `dma_dealloc`, is page aligned and zeroed (both are
// properties of `DmaRegion`); `share` gives an address that the device may use because `dma_alloc` and the rings only
// accept memory whose bus address is its pointer.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let mut state = STATE.lock();
        let failed = (0, NonNull::dangling());
        let Some(source) = state.source.clone() else { return failed };
        // Below 4 GiB: a legacy device is told of its rings by a 32-bit page number.
        let Ok(region) = DmaRegion::new(&source, pages * PAGE_SIZE, Zone::Dma32) else { return failed };
        let (pointer, bus_address) = (region.pointer(), region.bus_address());
        if bus_address != pointer.addr().get() as u64 {
            log::error!(
                "virtio: DMA memory at {pointer:?} has bus address {bus_address:#x}; they must be equal"
            );
            return failed;
        }
        state.regions.push(region);
        (bus_address, pointer)
    }

    unsafe fn dma_dealloc(paddr: PhysAddr, _vaddr: NonNull<u8>, _pages: usize) -> i32 {
        let mut state = STATE.lock();
        if let Some(index) = state.regions.iter().position(|region| region.bus_address() == paddr) {
            let region = state.regions.swap_remove(index);
            drop(state);
            drop(region);
        }
        0
    }

    unsafe fn mmio_phys_to_virt(_paddr: PhysAddr, _size: usize) -> NonNull<u8> {
        // Only the crate's own PCI transport asks, and it is not used.
        NonNull::dangling()
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.addr().get() as u64
    }

    unsafe fn unshare(_paddr: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}
