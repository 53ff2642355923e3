//! The ACPI tables: interrupt controllers, PCI configuration space, power management registers.

use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;
use core::slice;

use acpi::address::{AddressSpace, GenericAddress};
use acpi::fadt::Fadt;
use acpi::madt::Madt;
use acpi::mcfg::Mcfg;
use acpi::sdt::SdtHeader;
use acpi::{AcpiError, AcpiHandler, AcpiTable, AcpiTables, PhysicalMapping};
use netbuf::PAGE_SIZE;

use super::interrupt_map::InterruptMap;
use super::sleep::{self, SleepType};
use crate::memory::address_space;
use crate::memory::page_table::Access;

/// A run of PCI buses whose configuration space is mapped to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigurationWindow {
    /// Physical address of bus 0's configuration space, whether or not the window has bus 0.
    pub address: u64,
    /// First bus.
    pub first_bus: u8,
    /// Last bus.
    pub last_bus: u8,
}

/// Fixed power management registers, all I/O ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerManagement {
    /// PM1a event block: status, then enable, each half of the block.
    pub event: Option<(u16, u16)>,
    /// PM1a control register.
    pub control_a: Option<u16>,
    /// PM1b control register.
    pub control_b: Option<u16>,
    /// Sleep type of S5.
    pub soft_off: Option<SleepType>,
    /// The 3.579545 MHz timer.
    pub timer: Option<u16>,
    /// Where, and what, to write to take the registers over from the firmware.
    pub enable: Option<(u16, u8)>,
    /// The system control interrupt, as an ISA number.
    pub interrupt: u8,
    /// Where, and what, to write to reset the machine.
    pub reset: Option<(u16, u8)>,
}

/// What the tables say.
#[derive(Clone, Debug, Default)]
pub struct Platform {
    /// Interrupt controllers.
    pub interrupts: InterruptMap,
    /// Configuration space of PCI segment 0.
    pub configuration: Option<ConfigurationWindow>,
    /// Power management.
    pub power: PowerManagement,
}

/// Gives the `acpi` crate access to the tables.
#[derive(Clone, Copy, Debug)]
struct Mapper;

/// Stands for a table at an address that cannot be a table's: no signature, no checksum.
static NOTHING: [u8; 256] = [0; 256];

/// Makes the firmware's bytes readable; false when there cannot be any there.
fn readable(address: usize, bytes: usize) -> bool {
    let Some(end) = address.checked_add(bytes) else { return false };
    let memory = address_space::memory_map();
    (address / PAGE_SIZE..end.div_ceil(PAGE_SIZE)).all(|page| {
        let start = (page * PAGE_SIZE) as u64;
        // What counts as memory is mapped already; page 0 stays unmapped.
        page != 0
            && (memory.overlaps(&(start..start + PAGE_SIZE as u64))
                || address_space::open(start, PAGE_SIZE as u64, Access::Read).is_ok())
    })
}

impl AcpiHandler for Mapper {
    unsafe fn map_physical_region<T>(&self, address: usize, size: usize) -> PhysicalMapping<Self, T> {
        let place = if readable(address, size) {
            address as *mut T
        } else {
            assert!(size <= NOTHING.len(), "ACPI: {size} bytes at {address:#x} cannot be read");
            NOTHING.as_ptr().cast_mut().cast()
        };
        // SAFETY: `size` bytes are readable at either place, and neither is null.
        unsafe { PhysicalMapping::new(address, NonNull::new_unchecked(place), size, size, *self) }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}

/// The bytes of a table, its header included.
fn bytes<T: AcpiTable>(table: &PhysicalMapping<Mapper, T>) -> &[u8] {
    let length = (table.get().header().length as usize).min(table.region_length());
    // SAFETY: the mapping is readable for its region length and lives as long as the result.
    unsafe { slice::from_raw_parts(table.virtual_start().as_ptr().cast(), length) }
}

fn port(address: Result<GenericAddress, AcpiError>) -> Option<u16> {
    let address = address.ok().filter(|address| address.address_space == AddressSpace::SystemIo)?;
    u16::try_from(address.address).ok().filter(|port| *port != 0)
}

/// The tables are unusable.
#[derive(Debug)]
pub struct TablesError(AcpiError);

impl fmt::Display for TablesError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "no usable ACPI tables: {:?}", self.0)
    }
}

impl core::error::Error for TablesError {}

/// Reads the tables. `root_pointer`: where the loader says that they begin.
///
/// # Errors
///
/// [`TablesError`] when there are none.
pub fn read(root_pointer: Option<u64>) -> Result<Platform, TablesError> {
    let tables = match root_pointer {
        // SAFETY: the handler only gives out readable memory; signatures and checksums are checked by the crate.
        Some(address) => unsafe { AcpiTables::from_rsdp(Mapper, address as usize) },
        // SAFETY: as above.
        None => unsafe { AcpiTables::search_for_rsdp_bios(Mapper) },
    }
    .map_err(TablesError)?;
    let interrupts = match tables.find_table::<Madt>() {
        Ok(table) => InterruptMap::parse(bytes(&table)),
        Err(error) => {
            log::warn!("ACPI: no interrupt controllers described: {error:?}");
            InterruptMap::undescribed()
        }
    };
    let configuration = tables.find_table::<Mcfg>().ok().and_then(|table| {
        let entry = *table.entries().iter().find(|entry| entry.pci_segment_group == 0)?;
        Some(ConfigurationWindow {
            address: entry.base_address,
            first_bus: entry.bus_number_start,
            last_bus: entry.bus_number_end,
        })
    });
    let power = match tables.find_table::<Fadt>() {
        Ok(table) => power_management(&tables, &table),
        Err(error) => {
            log::warn!("ACPI: no power management described: {error:?}");
            PowerManagement::default()
        }
    };
    Ok(Platform { interrupts, configuration, power })
}

fn power_management(tables: &AcpiTables<Mapper>, table: &Fadt) -> PowerManagement {
    let optional = |address: Result<Option<GenericAddress>, AcpiError>| port(Ok(address.ok().flatten()?));
    let event = table.pm1a_event_block().ok().and_then(|block| {
        let half = u16::from(block.bit_width / 8 / 2);
        let status = port(Ok(block))?;
        (half >= 2).then_some((status, status.checked_add(half)?))
    });
    let (command, value) = ({ table.smi_cmd_port }, table.acpi_enable);
    let flags = { table.flags };
    PowerManagement {
        event,
        control_a: port(table.pm1a_control_block()),
        control_b: optional(table.pm1b_control_block()),
        soft_off: byte_code(tables).and_then(|code| sleep::soft_off(&code)),
        timer: optional(table.pm_timer_block()),
        enable: u16::try_from(command).ok().filter(|port| *port != 0 && value != 0).map(|port| (port, value)),
        interrupt: { table.sci_interrupt } as u8,
        reset: flags
            .supports_system_reset_via_fadt()
            .then(|| port(table.reset_register()))
            .flatten()
            .map(|port| (port, table.reset_value)),
    }
}

/// The byte code of the differentiated system description table.
fn byte_code(tables: &AcpiTables<Mapper>) -> Option<Vec<u8>> {
    let table = tables.dsdt().ok()?;
    let length = table.length as usize;
    if !readable(table.address, length) {
        return None;
    }
    // SAFETY: the range is readable, and the firmware's tables do not change.
    Some(unsafe { slice::from_raw_parts(table.address as *const u8, length) }.to_vec())
}

const _: () = assert!(size_of::<SdtHeader>() == 36);
