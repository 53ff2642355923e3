//! The PCI bus as the kernel found it, and what a driver needs of a function: its windows, and its interrupts.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use hal::mmio::SubWindow;
use pci::assignment::{self, Space};
use pci::base_address::{Kind, Windows};
use pci::enumeration::{self, Found};
use pci::function::{Command, Function, Header};
use pci::message::{Message, MessageError, Msi, MsiX};
use pci::{ConfigurationSpace, line};

use super::configuration_space::SystemConfigurationSpace;
use super::routing::Chipset;
use super::window::Window;
use crate::firmware::interrupt_map::{InterruptMap, Signal};
use crate::firmware::tables::Platform;
use crate::interrupt::dispatch::{DeviceInterrupt, RouteError};
use crate::interrupt::local_apic;
use crate::memory::address_space;

/// I/O APICs, local APICs and the firmware lie from here to 4 GiB.
const MEMORY_ROOM_END: u64 = 0xfec0_0000;
/// Bus addresses below may be memory on another day.
const MEMORY_ROOM_START: u64 = 0x8000_0000;
/// Ports that QEMU's chipsets, and most others, leave to PCI.
const PORTS_ROOM: Range<u64> = 0xc000..0xff00;
/// Where the local APICs listen for interrupt messages (Intel SDM volume 3, 12.11.1).
const MESSAGE_ADDRESS: u64 = 0xfee0_0000;

/// Why a driver does not get what it needs of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// The function has no interrupt of any kind.
    NoInterrupt,
    /// Its pin leads to no interrupt that the firmware or the chipset names.
    NotWired {
        /// The pin, 1 to 4.
        pin: u8,
    },
    /// The interrupt cannot be routed.
    Route(RouteError),
    /// What the function says about its interrupts does not hold.
    Message(MessageError),
    /// The function has no such window, or it cannot be opened.
    NoWindow {
        /// Its base address register.
        register: u8,
    },
}

impl fmt::Display for DeviceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInterrupt => formatter.write_str("it has no interrupt"),
            Self::NotWired { pin } => write!(formatter, "its interrupt pin {pin} leads nowhere"),
            Self::Route(error) => error.fmt(formatter),
            Self::Message(error) => error.fmt(formatter),
            Self::NoWindow { register } => write!(formatter, "its base address {register} cannot be used"),
        }
    }
}

impl core::error::Error for DeviceError {}

impl From<RouteError> for DeviceError {
    fn from(error: RouteError) -> Self {
        Self::Route(error)
    }
}

impl From<MessageError> for DeviceError {
    fn from(error: MessageError) -> Self {
        Self::Message(error)
    }
}

/// The bus: every function, with its windows placed.
pub struct Bus {
    space: SystemConfigurationSpace,
    found: Vec<Found>,
    windows: Vec<Windows>,
    interrupts: InterruptMap,
    chipset: Option<(Chipset, Function)>,
}

/// A function on the bus.
#[derive(Clone, Copy)]
pub struct Device<'b> {
    bus: &'b Bus,
    index: usize,
}

/// A function's interrupts.
#[derive(Debug)]
pub enum Interrupts<const N: usize> {
    /// A message for each thing that the driver asked for, by the number of its MSI-X entry.
    Messages([DeviceInterrupt; N]),
    /// One for everything.
    One {
        /// It.
        interrupt: DeviceInterrupt,
        /// It is a message, not a line shared with other devices.
        message_signalled: bool,
    },
}

/// The room for windows that have no place: below 4 GiB, above all memory, beside the configuration space.
fn memory_room(platform: &Platform) -> Range<u64> {
    let memory = address_space::memory_map();
    let low_memory =
        memory.ranges().map(|range| range.end).filter(|end| *end <= MEMORY_ROOM_END).max().unwrap_or(0);
    let start = low_memory.max(MEMORY_ROOM_START);
    let Some(window) = platform.configuration else { return start..MEMORY_ROOM_END };
    let taken = window.address..window.address.saturating_add((u64::from(window.last_bus) + 1) << 20);
    // The larger of what is below and above.
    let below = start..taken.start.clamp(start, MEMORY_ROOM_END);
    let above = taken.end.clamp(start, MEMORY_ROOM_END)..MEMORY_ROOM_END;
    if below.end - below.start > above.end - above.start { below } else { above }
}

impl Bus {
    /// Finds every function, gives places to what has none, and keeps everything quiet until a driver asks for it.
    pub fn new(platform: &Platform) -> Self {
        let space = SystemConfigurationSpace::new(platform.configuration);
        let (first, last) = space.buses();
        let found = enumeration::enumerate(&space, first, last);
        let room = Space { memory: memory_room(platform), ports: PORTS_ROOM };
        let (windows, failed) = assignment::assign(&space, &found, &room);
        for failure in failed {
            let function = &found[failure.index].function;
            log::warn!(
                "PCI: {function}: no room for {:#x} bytes of its base address {}",
                failure.window.size,
                failure.window.index
            );
        }
        for Found { function, .. } in found.iter().filter(|found| found.function.header == Header::Device) {
            // Bus mastering stays as it is: the firmware's own devices may need it.
            function.set_command(&space, Command::NO_LINE_INTERRUPT, Command::NONE);
        }
        let chipset = found.iter().find_map(|found| {
            let chipset = Chipset::of_bridge(found.function.vendor, found.function.device)?;
            Some((chipset, found.function))
        });
        Self { space, found, windows, interrupts: platform.interrupts.clone(), chipset }
    }

    /// Every function that is a device, in the order of the bus.
    pub fn devices(&self) -> impl Iterator<Item = Device<'_>> {
        (0..self.found.len())
            .filter(|index| self.found[*index].function.header == Header::Device)
            .map(|index| Device { bus: self, index })
    }

    /// The global interrupt that a pin ends in, and how it signals.
    fn line(&self, index: usize) -> Result<(u32, Signal), DeviceError> {
        let function = &self.found[index].function;
        let pin = function.interrupt_pin.ok_or(DeviceError::NoInterrupt)?;
        // What the chipset does counts before what the firmware noted: qboot notes one line and routes another.
        let isa = self.chipset_line(index, pin).or(function.interrupt_line);
        Ok(self.interrupts.resolve(isa.ok_or(DeviceError::NotWired { pin })?, Signal::PCI))
    }

    /// The ISA interrupt that the chipset makes of a pin; one is chosen if it makes none yet.
    fn chipset_line(&self, index: usize, pin: u8) -> Option<u8> {
        let (chipset, bridge) = &self.chipset?;
        let (device, pin) = line::on_first_bus(&self.found, index, pin)?;
        let register = chipset.register(device, pin)?;
        let (offset, shift) = (register & !3, 8 * u32::from(register & 3));
        let value = self.space.read(bridge.address, offset);
        let routed = Chipset::interrupt((value >> shift) as u8);
        Some(routed.unwrap_or_else(|| {
            let spare = Chipset::spare(register);
            self.space.write(bridge.address, offset, value & !(0xff << shift) | u32::from(spare) << shift);
            spare
        }))
    }
}

impl Device<'_> {
    /// What the function says about itself.
    pub fn function(&self) -> &Function {
        &self.bus.found[self.index].function
    }

    /// Reads four bytes of its configuration space.
    pub fn read_configuration(&self, offset: u16) -> u32 {
        self.bus.space.read(self.function().address, offset)
    }

    /// Opens the window of a base address register.
    pub fn window(&self, register: u8) -> Option<Window> {
        let window = (*self.bus.windows.get(self.index)?.get(usize::from(register))?)?;
        if window.address == 0 {
            return None;
        }
        match window.kind {
            Kind::Ports => Window::ports(window.address, window.size),
            Kind::Memory { .. } => Window::memory(window.address, window.size)
                .inspect_err(|error| log::warn!("PCI: {}: base address {register}: {error}", self.function()))
                .ok(),
        }
    }

    /// Lets the function answer at its addresses and read and write memory.
    pub fn enable(&self) {
        self.function().set_command(
            &self.bus.space,
            Command::MEMORY | Command::PORTS | Command::BUS_MASTER,
            Command::NONE,
        );
    }

    /// Takes back what [`Device::enable`] and [`Device::interrupts`] gave: after a driver gave up.
    pub fn disable(&self) {
        let (space, address) = (&self.bus.space, self.function().address);
        self.function().set_command(space, Command::NO_LINE_INTERRUPT, Command::BUS_MASTER);
        if let Some(msi_x) = MsiX::find(space, address) {
            msi_x.disable(space);
        }
        if let Some(msi) = Msi::find(space, address) {
            msi.disable(space);
        }
    }

    /// Sets up the function's interrupts: the first `N` MSI-X entries if it has so many, else one for everything.
    ///
    /// # Errors
    ///
    /// [`DeviceError`].
    pub fn interrupts<const N: usize>(&self) -> Result<Interrupts<N>, DeviceError> {
        let (space, function) = (&self.bus.space, self.function());
        if let Some(msi_x) = MsiX::find(space, function.address) {
            match self.table(&msi_x) {
                Ok(interrupts) => return Ok(Interrupts::Messages(interrupts)),
                Err(error) => {
                    log::warn!("PCI: {function}: MSI-X is not used: {error}");
                    msi_x.disable(space);
                }
            }
        }
        if let Some(msi) = Msi::find(space, function.address) {
            let interrupt = DeviceInterrupt::message_signalled()?;
            msi.enable(space, message(&interrupt))?;
            return Ok(Interrupts::One { interrupt, message_signalled: true });
        }
        let (interrupt, signal) = self.bus.line(self.index)?;
        log::debug!(
            "PCI: {function}: interrupt line {:?}, global interrupt {interrupt}",
            function.interrupt_line
        );
        let interrupt = DeviceInterrupt::line(interrupt, signal)?;
        function.set_command(space, Command::NONE, Command::NO_LINE_INTERRUPT);
        Ok(Interrupts::One { interrupt, message_signalled: false })
    }

    /// Sets up the first entries of an MSI-X table.
    fn table<const N: usize>(&self, msi_x: &MsiX) -> Result<[DeviceInterrupt; N], DeviceError> {
        let register = msi_x.table_register;
        let window = self.window(register).ok_or(DeviceError::NoWindow { register })?;
        let table = SubWindow::new(window, msi_x.table_offset as usize, msi_x.table_length());
        msi_x.enable(&self.bus.space, &table);
        let mut interrupts = Vec::new();
        for entry in 0..N {
            let interrupt = DeviceInterrupt::message_signalled()?;
            msi_x.set(&table, entry as u16, message(&interrupt))?;
            interrupts.push(interrupt);
        }
        interrupts.try_into().map_err(|_| DeviceError::NoInterrupt)
    }
}

/// The message that raises an interrupt on this processor.
fn message(interrupt: &DeviceInterrupt) -> Message {
    Message {
        address: MESSAGE_ADDRESS | u64::from(local_apic::id()) << 12,
        data: u32::from(interrupt.vector()),
    }
}
