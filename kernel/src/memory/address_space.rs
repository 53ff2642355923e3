//! The address space of the image: all memory mapped onto itself with the rights that each part needs, and device
//! registers when a driver asks for them. What nobody asked for is not mapped.

use core::arch::x86_64::__cpuid;
use core::fmt;
use core::ops::Range;

use netbuf::{PAGE_SIZE, PageSource, Zone};
use spin::Mutex;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

use super::frames::{FRAMES, Frames};
use super::map::{MemoryMap, TooManyRanges};
use super::page_table::{Access, ENTRIES, MapError, PageTable, Table, Tables};

const PAGE: u64 = PAGE_SIZE as u64;

/// Where the image lies, by symbols of the linker script.
mod image {
    use core::ops::Range;

    unsafe extern "C" {
        static image_start: u8;
        static image_text_end: u8;
        static image_rodata_end: u8;
        static image_end: u8;
    }

    fn address(symbol: *const u8) -> u64 {
        symbol as u64
    }

    pub fn text() -> Range<u64> {
        address(&raw const image_start)..address(&raw const image_text_end)
    }
    pub fn constants() -> Range<u64> {
        address(&raw const image_text_end)..address(&raw const image_rodata_end)
    }
    pub fn all() -> Range<u64> {
        address(&raw const image_start)..address(&raw const image_end)
    }
}

/// Whether instructions of the image may stand at this address.
pub fn is_text(address: u64) -> bool {
    image::text().contains(&address)
}

/// What stands in the way of setting up memory.
#[derive(Clone, Copy, Debug)]
pub enum SetupError {
    /// The loader's memory map is unusable.
    Map(TooManyRanges),
    /// No range below the end of the early map is large enough for page tables and frame records.
    TooLittleMemory {
        /// Bytes that are needed.
        bytes: u64,
    },
    /// The page tables could not be built.
    PageTables(MapError),
}

impl fmt::Display for SetupError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(error) => error.fmt(formatter),
            Self::TooLittleMemory { bytes } => {
                write!(formatter, "no room for {bytes} bytes of memory records")
            }
            Self::PageTables(error) => error.fmt(formatter),
        }
    }
}

impl From<MapError> for SetupError {
    fn from(error: MapError) -> Self {
        Self::PageTables(error)
    }
}

impl From<TooManyRanges> for SetupError {
    fn from(error: TooManyRanges) -> Self {
        Self::Map(error)
    }
}

struct AddressSpace {
    table: PageTable,
    memory: MemoryMap,
}

static ADDRESS_SPACE: Mutex<Option<AddressSpace>> = Mutex::new(None);

/// Tables at addresses that are mapped onto themselves, allocated from a range.
struct FromRange {
    next: u64,
    end: u64,
}

/// # Safety
///
/// A table is at this address, mapped onto itself, and nothing else refers to it while the reference lives.
unsafe fn table_at<'t>(address: u64) -> &'t mut Table {
    // SAFETY: the caller's promise; tables are page aligned.
    unsafe { &mut *(address as *mut Table) }
}

impl Tables for FromRange {
    fn allocate(&mut self) -> Option<u64> {
        let address = self.next;
        if address == self.end {
            return None;
        }
        self.next += PAGE;
        // SAFETY: the range was set aside for tables and is mapped onto itself.
        unsafe { table_at(address) }.fill(0);
        Some(address)
    }
    fn table(&mut self, address: u64) -> &mut Table {
        // SAFETY: `allocate` gave the address, and only the builder that holds `self` refers to tables.
        unsafe { table_at(address) }
    }
}

/// Tables in frames.
struct FromFrames;

impl Tables for FromFrames {
    fn allocate(&mut self) -> Option<u64> {
        let block = FRAMES.allocate(0, Zone::Normal)?;
        // SAFETY: the frame is ours and mapped onto itself.
        unsafe { table_at(block.bus_address) }.fill(0);
        Some(block.bus_address)
    }
    fn table(&mut self, address: u64) -> &mut Table {
        // SAFETY: `allocate` of this or of `FromRange` gave the address; the lock around the address space keeps others
        // away.
        unsafe { table_at(address) }
    }
}

fn has_gigabyte_pages() -> bool {
    const EXTENDED: u32 = 0x8000_0001;
    __cpuid(0x8000_0000).eax >= EXTENDED && __cpuid(EXTENDED).edx & 1 << 26 != 0
}

/// Switches to the final page tables and hands all free memory to [`FRAMES`].
///
/// # Safety
///
/// Called once, early: the first `early_map_end` bytes are mapped onto themselves; `memory` is the usable memory
/// of the machine, of which nothing but the image (and what the loader left, which nobody reads any more) is in use.
///
/// # Errors
///
/// [`SetupError`]: the image cannot run.
pub unsafe fn initialise(
    memory: MemoryMap,
    early_map_end: u64,
    unmapped: impl Iterator<Item = Range<u64>>,
) -> Result<(), SetupError> {
    let mut free = memory.clone();
    free.remove(0..PAGE)?;
    free.remove(image::all())?;

    // One table for each GiB of 2 MiB pages, two for each boundary that cuts a large page, the path to the top.
    let gibibytes = free.ranges().last().map_or(0, |range| range.end).div_ceil(1 << 30);
    let ranges = free.ranges().count() as u64;
    let table_bytes = (gibibytes + gibibytes.div_ceil(ENTRIES as u64) + 4 * ranges + 16) * PAGE;
    let bytes = table_bytes + Frames::record_bytes(&free);
    let own = free
        .take(bytes, image::all().end, early_map_end)
        .or_else(|| free.take(bytes, PAGE, early_map_end))
        .ok_or(SetupError::TooLittleMemory { bytes })?;

    let mut tables = FromRange { next: own.start, end: own.start + table_bytes };
    let table = PageTable::new(&mut tables, has_gigabyte_pages())?;
    for range in memory.ranges() {
        table.set(&mut tables, range, Some(Access::Write))?;
    }
    table.set(&mut tables, 0..PAGE, None)?;
    table.set(&mut tables, image::all(), Some(Access::Write))?;
    table.set(&mut tables, image::text(), Some(Access::Execute))?;
    table.set(&mut tables, image::constants(), Some(Access::Read))?;
    for range in unmapped {
        table.set(&mut tables, range, None)?;
    }

    // SAFETY: the new tables map the image, its stacks and all free memory where the early ones did.
    unsafe { Cr3::write(PhysFrame::containing_address(PhysAddr::new(table.root())), Cr3Flags::empty()) };
    // Tables that were not needed are memory like any other.
    let records = own.start + table_bytes;
    free.insert(tables.next..records)?;
    // SAFETY: all memory of the map is mapped now and free, except what was just taken for tables and records.
    unsafe { FRAMES.initialise(&free, records, memory.bytes() as usize) };
    *ADDRESS_SPACE.lock() = Some(AddressSpace { table, memory });
    Ok(())
}

/// Why a range of physical addresses was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The range is memory, not a device.
    Memory,
    /// It could not be mapped.
    Map(MapError),
    /// Memory is not set up yet.
    TooEarly,
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => formatter.write_str("its addresses are memory"),
            Self::Map(error) => error.fmt(formatter),
            Self::TooEarly => formatter.write_str("memory is not set up yet"),
        }
    }
}

impl core::error::Error for OpenError {}

/// Maps what is not memory: device registers ([`Access::Device`]) or firmware tables ([`Access::Read`]), for good.
///
/// # Errors
///
/// [`OpenError`].
pub fn open(address: u64, bytes: u64, access: Access) -> Result<(), OpenError> {
    let bad = OpenError::Map(MapError::BadRange { start: address, end: address.saturating_add(bytes) });
    let start = address / PAGE * PAGE;
    let end = address.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(PAGE)).ok_or(bad)?;
    if bytes == 0 {
        return Err(bad);
    }
    let mut address_space = ADDRESS_SPACE.lock();
    let AddressSpace { table, memory } = address_space.as_mut().ok_or(OpenError::TooEarly)?;
    if start == 0 || memory.overlaps(&(start..end)) {
        return Err(OpenError::Memory);
    }
    table.set(&mut FromFrames, start..end, Some(access)).map_err(OpenError::Map)?;
    for page in (start..end).step_by(PAGE_SIZE).take(INVALIDATION_LIMIT) {
        x86_64::instructions::tlb::flush(x86_64::VirtAddr::new(page));
    }
    Ok(())
}

/// A range has been mapped with other rights before only if tables and registers share a page: single pages.
const INVALIDATION_LIMIT: usize = 16;

/// The memory of the machine, as far as devices must not be there.
pub fn memory_map() -> MemoryMap {
    ADDRESS_SPACE.lock().as_ref().map_or(MemoryMap::new(), |space| space.memory.clone())
}
