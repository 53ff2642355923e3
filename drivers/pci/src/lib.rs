//! PCI: finding functions, their base addresses and capabilities, and setting up their interrupts.
//!
//! Everything goes through the trait [`ConfigurationSpace`]; this crate knows neither how configuration space is reached
//! (memory-mapped or by I/O ports) nor what the functions are for. Whatever a device says in its configuration space is
//! a claim: lists end, sizes are checked, and nothing here panics.
//!
//! | module | what |
//! | --- | --- |
//! | [`function`] | what a function says about itself; its command register |
//! | [`enumeration`] | walking the buses, numbering those behind bridges |
//! | [`base_address`] | base address registers: where, how large |
//! | [`assignment`] | places for what the firmware left without one |
//! | [`capability`] | the capability list |
//! | [`message`] | MSI and MSI-X |
//! | [`mod@line`] | INTx: which line a pin is wired to |
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod assignment;
pub mod base_address;
pub mod capability;
pub mod enumeration;
#[cfg(test)]
mod fake;
pub mod function;
pub mod line;
pub mod message;

pub use pci_types::PciAddress;

/// Access to the configuration space of every function.
///
/// Offsets are in bytes and multiples of four; values are in the processor's byte order. Where there is no function,
/// reads give all ones and writes are lost.
pub trait ConfigurationSpace {
    /// Reads four bytes.
    fn read(&self, address: PciAddress, offset: u16) -> u32;
    /// Writes four bytes.
    fn write(&self, address: PciAddress, offset: u16, value: u32);
}

impl<S: ConfigurationSpace + ?Sized> ConfigurationSpace for &S {
    fn read(&self, address: PciAddress, offset: u16) -> u32 {
        (**self).read(address, offset)
    }
    fn write(&self, address: PciAddress, offset: u16, value: u32) {
        (**self).write(address, offset, value);
    }
}

/// Reads the byte at any offset.
fn read_u8(space: &impl ConfigurationSpace, address: PciAddress, offset: u16) -> u8 {
    space.read(address, offset & !3).to_le_bytes()[usize::from(offset & 3)]
}

/// Reads the two bytes at an even offset.
fn read_u16(space: &impl ConfigurationSpace, address: PciAddress, offset: u16) -> u16 {
    (space.read(address, offset & !3) >> (8 * u32::from(offset & 2))) as u16
}

/// Changes the bytes of a register that `mask` covers. Bits that are cleared by writing ones must be in `mask`, as zero.
fn update(space: &impl ConfigurationSpace, address: PciAddress, offset: u16, mask: u32, value: u32) {
    let old = space.read(address, offset);
    space.write(address, offset, old & !mask | value & mask);
}
