//! What a function says about itself in its header (PCI 3.0, 6.1 and 6.2).

use core::fmt;

use pci_types::PciAddress;
use pci_types::device_type::DeviceType;

use crate::{ConfigurationSpace, read_u8};

const IDENTITY: u16 = 0x00;
const COMMAND: u16 = 0x04;
const CLASS: u16 = 0x08;
const HEADER_TYPE: u16 = 0x0e;
const SUBSYSTEM: u16 = 0x2c;
const INTERRUPT_LINE: u16 = 0x3c;
const INTERRUPT_PIN: u16 = 0x3d;

/// No function has this vendor: it is what a read without a function gives.
const NO_VENDOR: u16 = 0xffff;
const MULTIPLE_FUNCTIONS: u8 = 0x80;

/// Bits of the command register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command(u16);

impl Command {
    /// No bits.
    pub const NONE: Self = Self(0);
    /// Answers at its I/O port addresses.
    pub const PORTS: Self = Self(1);
    /// Answers at its memory addresses.
    pub const MEMORY: Self = Self(1 << 1);
    /// May read and write memory by itself.
    pub const BUS_MASTER: Self = Self(1 << 2);
    /// Keeps its interrupt line quiet.
    pub const NO_LINE_INTERRUPT: Self = Self(1 << 10);
}

impl Command {
    /// A command register without these bits.
    pub(crate) const fn clear_in(self, register: u16) -> u16 {
        register & !self.0
    }
}

impl core::ops::BitOr for Command {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The layout of a function's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// A device.
    Device,
    /// A bridge to another PCI bus.
    Bridge,
    /// Something older, of this type.
    Other(u8),
}

/// A function, as found on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Where it is.
    pub address: PciAddress,
    /// Who made it.
    pub vendor: u16,
    /// What its maker calls it.
    pub device: u16,
    /// Its revision.
    pub revision: u8,
    /// Base class.
    pub class: u8,
    /// Subclass.
    pub subclass: u8,
    /// Programming interface.
    pub interface: u8,
    /// Subsystem vendor and subsystem; zeroes for bridges.
    pub subsystem: (u16, u16),
    /// The layout of the rest of its header.
    pub header: Header,
    /// The device has further functions.
    pub has_siblings: bool,
    /// The interrupt pin that it uses: 1 to 4 for INTA to INTD.
    pub interrupt_pin: Option<u8>,
    /// What the firmware noted as the line of that pin.
    pub interrupt_line: Option<u8>,
}

impl Function {
    /// Reads the header at an address; `None` when there is no function.
    pub fn read(space: &impl ConfigurationSpace, address: PciAddress) -> Option<Self> {
        let identity = space.read(address, IDENTITY);
        let vendor = identity as u16;
        // Zero: a bridge that was never told its numbers, or a device that is still resetting.
        if vendor == NO_VENDOR || vendor == 0 {
            return None;
        }
        let [revision, interface, subclass, class] = space.read(address, CLASS).to_le_bytes();
        let header_type = read_u8(space, address, HEADER_TYPE);
        let header = match header_type & !MULTIPLE_FUNCTIONS {
            0 => Header::Device,
            1 => Header::Bridge,
            other => Header::Other(other),
        };
        let subsystem = if header == Header::Device { space.read(address, SUBSYSTEM) } else { 0 };
        let line = read_u8(space, address, INTERRUPT_LINE);
        Some(Self {
            address,
            vendor,
            device: (identity >> 16) as u16,
            revision,
            class,
            subclass,
            interface,
            subsystem: (subsystem as u16, (subsystem >> 16) as u16),
            header,
            has_siblings: header_type & MULTIPLE_FUNCTIONS != 0,
            interrupt_pin: Some(read_u8(space, address, INTERRUPT_PIN)).filter(|pin| (1..=4).contains(pin)),
            interrupt_line: Some(line).filter(|line| *line != 0 && *line != u8::MAX),
        })
    }

    /// The kind of device, in words.
    #[must_use]
    pub fn device_type(&self) -> DeviceType {
        DeviceType::from((self.class, self.subclass))
    }

    /// Sets the bits of `on` in the command register, and clears those of `off`.
    pub fn set_command(&self, space: &impl ConfigurationSpace, on: Command, off: Command) {
        let old = command(space, self.address);
        set_command(space, self.address, old & !off.0 | on.0);
    }
}

impl fmt::Display for Function {
    /// Address, ids and class, as `lspci -n` has them.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        write!(
            formatter,
            "{:02x}:{:02x}.{} {:04x}:{:04x} class {:02x}{:02x}{:02x}",
            address.bus(),
            address.device(),
            address.function(),
            self.vendor,
            self.device,
            self.class,
            self.subclass,
            self.interface
        )
    }
}

pub(crate) fn command(space: &impl ConfigurationSpace, address: PciAddress) -> u16 {
    space.read(address, COMMAND) as u16
}

pub(crate) fn set_command(space: &impl ConfigurationSpace, address: PciAddress, command: u16) {
    // The upper half is the status register, whose bits are cleared by writing ones: zeroes leave it alone.
    space.write(address, COMMAND, u32::from(command));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, FakeFunction, at};

    #[test]
    fn a_header_is_read_field_by_field() {
        let fake = Fake::new([(
            at(0, 3, 0),
            FakeFunction::device(0x1af4, 0x1041)
                .with(0x08, 0x0200_0001)
                .with(0x2c, 0x1100_1af4)
                .with(0x3c, 0x010b),
        )]);
        let function = Function::read(&fake, at(0, 3, 0)).unwrap();
        assert_eq!((function.vendor, function.device, function.revision), (0x1af4, 0x1041, 1));
        assert_eq!((function.class, function.subclass, function.interface), (2, 0, 0));
        assert_eq!(function.subsystem, (0x1af4, 0x1100));
        assert_eq!((function.interrupt_pin, function.interrupt_line), (Some(1), Some(11)));
        assert_eq!(function.device_type(), DeviceType::EthernetController);
        assert_eq!(function.to_string(), "00:03.0 1af4:1041 class 020000");
        assert_eq!(Function::read(&fake, at(0, 4, 0)), None);
    }

    #[test]
    fn command_bits_change_alone_and_leave_the_status() {
        let fake = Fake::new([(at(0, 3, 0), FakeFunction::device(1, 2).with(0x04, 0xffff_0103))]);
        let function = Function::read(&fake, at(0, 3, 0)).unwrap();
        function.set_command(&fake, Command::BUS_MASTER | Command::NO_LINE_INTERRUPT, Command::PORTS);
        assert_eq!(fake.get(at(0, 3, 0), 0x04), 0xffff_0506);
    }
}
