//! PCI configuration space: memory-mapped (PCI Express 7.2.2) where the firmware says so, else by two I/O ports
//! (PCI 3.0, 3.2.2.3.2).

use pci::{ConfigurationSpace, PciAddress};
use x86_64::instructions::port::Port;

use crate::firmware::tables::ConfigurationWindow;
use crate::memory::address_space;
use crate::memory::page_table::Access;

const ADDRESS_PORT: u16 = 0xcf8;
const DATA_PORT: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

/// Bytes of configuration space of a bus.
const BUS_SIZE: u64 = 1 << 20;
/// Bytes of configuration space of a function: memory-mapped, and by ports.
const EXPRESS_FUNCTION_SIZE: u16 = 4096;
const FUNCTION_SIZE: u16 = 256;

/// The configuration space of segment 0.
#[derive(Clone, Copy, Debug)]
pub enum SystemConfigurationSpace {
    /// Mapped to memory; every bus of the window is mapped in the address space.
    Memory(ConfigurationWindow),
    /// Reached by ports.
    Ports,
}

impl SystemConfigurationSpace {
    /// Opens the window of the firmware, or falls back to ports.
    pub fn new(window: Option<ConfigurationWindow>) -> Self {
        let Some(window) = window.filter(|window| window.first_bus <= window.last_bus) else {
            return Self::Ports;
        };
        let start = window.address.saturating_add(u64::from(window.first_bus) * BUS_SIZE);
        let length = (u64::from(window.last_bus - window.first_bus) + 1) * BUS_SIZE;
        match address_space::open(start, length, Access::Device) {
            Ok(()) => Self::Memory(window),
            Err(error) => {
                log::warn!("PCI: configuration space at {start:#x} is not used: {error}");
                Self::Ports
            }
        }
    }

    /// First and last bus.
    pub fn buses(&self) -> (u8, u8) {
        match self {
            Self::Memory(window) => (window.first_bus, window.last_bus),
            Self::Ports => (0, u8::MAX),
        }
    }

    /// A pointer to a register in the window; `None` outside.
    fn pointer(window: &ConfigurationWindow, address: PciAddress, offset: u16) -> Option<*mut u32> {
        let inside = (window.first_bus..=window.last_bus).contains(&address.bus())
            && offset < EXPRESS_FUNCTION_SIZE
            && offset.is_multiple_of(4);
        let place = u64::from(address.bus()) << 20
            | u64::from(address.device()) << 15
            | u64::from(address.function()) << 12
            | u64::from(offset);
        inside.then(|| (window.address + place) as *mut u32)
    }

    /// Puts the address of a register into the address port; false when ports do not reach it.
    fn select(address: PciAddress, offset: u16) -> bool {
        let reachable = offset < FUNCTION_SIZE && offset.is_multiple_of(4);
        if reachable {
            let value = ENABLE
                | u32::from(address.bus()) << 16
                | u32::from(address.device()) << 11
                | u32::from(address.function()) << 8
                | u32::from(offset);
            // SAFETY: the port is the host bridge's, used only here; no interrupt handler touches it.
            unsafe { Port::new(ADDRESS_PORT).write(value) };
        }
        reachable
    }
}

impl ConfigurationSpace for SystemConfigurationSpace {
    fn read(&self, address: PciAddress, offset: u16) -> u32 {
        match self {
            Self::Memory(window) => Self::pointer(window, address, offset)
                // SAFETY: the window was opened, and the pointer is in it and aligned.
                .map_or(u32::MAX, |register| unsafe { register.read_volatile() }),
            Self::Ports if Self::select(address, offset) => {
                // SAFETY: as in `select`.
                unsafe { Port::new(DATA_PORT).read() }
            }
            Self::Ports => u32::MAX,
        }
    }

    fn write(&self, address: PciAddress, offset: u16, value: u32) {
        match self {
            Self::Memory(window) => {
                if let Some(register) = Self::pointer(window, address, offset) {
                    // SAFETY: as in `read`.
                    unsafe { register.write_volatile(value) }
                }
            }
            Self::Ports => {
                if Self::select(address, offset) {
                    // SAFETY: as in `select`.
                    unsafe { Port::new(DATA_PORT).write(value) }
                }
            }
        }
    }
}
