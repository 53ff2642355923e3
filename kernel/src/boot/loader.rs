//! What the loader tells: the memory map, the command line, where the ACPI tables begin.

use core::slice;

use pvh::start_info::reader::StartInfoReader;
use pvh::start_info::{MemmapTableEntry, StartInfo};

use super::entry::EARLY_MAP_END;

/// Longest command line that is read, in bytes.
const COMMAND_LINE_LIMIT: usize = 4096;

/// The loader's information, where the loader left it: in memory that is not part of the image and stays untouched until
/// the frames are handed to the allocator.
pub struct Information {
    start_info: &'static StartInfo,
}

impl Information {
    /// Reads the PVH start info at this physical address; `None` when there is none within the first GiB.
    ///
    /// # Safety
    ///
    /// The address came from a PVH loader, and the first GiB is mapped onto itself.
    pub unsafe fn from_pvh(address: u32) -> Option<Self> {
        if u64::from(address) + size_of::<StartInfo>() as u64 > EARLY_MAP_END {
            return None;
        }
        // SAFETY: the caller got the address from a loader; the range is mapped.
        let reader = unsafe { StartInfoReader::from_paddr_identity(address) }?;
        Some(Self { start_info: reader.raw() })
    }

    /// A slice of `count` elements at a physical address; empty when it is not all mapped yet.
    fn slice<T>(&self, address: u64, count: usize) -> &[T] {
        let bytes = (count as u64).saturating_mul(size_of::<T>() as u64);
        let mapped = address.checked_add(bytes).is_some_and(|end| end <= EARLY_MAP_END);
        if address == 0 || !mapped || !address.is_multiple_of(align_of::<T>() as u64) {
            return &[];
        }
        // SAFETY: the range is mapped, aligned and not null; T is plain integers; nobody writes there.
        unsafe { slice::from_raw_parts(address as *const T, count) }
    }

    /// The memory map.
    pub fn memory_map(&self) -> &[MemmapTableEntry] {
        if self.start_info.version < 1 {
            return &[];
        }
        self.slice(self.start_info.memmap_paddr, self.start_info.memmap_entries as usize)
    }

    /// The command line, without the zero that ends it.
    pub fn command_line(&self) -> &[u8] {
        let address = self.start_info.cmdline_paddr;
        let limit = EARLY_MAP_END.saturating_sub(address).min(COMMAND_LINE_LIMIT as u64) as usize;
        let bytes = self.slice::<u8>(address, limit);
        bytes.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The physical address of the ACPI root pointer; `None` when the loader does not tell.
    pub fn root_pointer(&self) -> Option<u64> {
        (self.start_info.rsdp_paddr != 0).then_some(self.start_info.rsdp_paddr)
    }
}
