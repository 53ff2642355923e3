//! virtio over PCI (virtio 1.2, 4.1): modern devices, transitional ones, and legacy-only ones.
//!
//! | device | PCI id | registers used |
//! | --- | --- | --- |
//! | modern | 0x1040 + type | structures that vendor capabilities point to |
//! | transitional | 0x1000..0x103f | the same when the capabilities are there |
//! | legacy only (`disable-modern=on`) | 0x1000..0x103f | one block of I/O ports in base address 0 |
//!
//! The caller enumerates the bus, opens base addresses and routes interrupts; this module only knows registers.

mod capability;
mod legacy;
mod modern;

use hal::mmio::{Mmio, SubWindow};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error as CrateError, PhysAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::Error;
use crate::transport::{InterruptTransport, Interrupts};
use capability::{COMMON_CONFIGURATION, DEVICE_CONFIGURATION, INTERRUPT_STATUS, NOTIFICATION, Structures};

/// The vendor id of every virtio device.
pub const VENDOR_ID: u16 = 0x1af4;

/// The virtio device type behind a PCI device id, whether transitional or modern; `None` for what is no virtio
/// device or has no driver here.
#[must_use]
pub fn device_type(device_id: u16) -> Option<DeviceType> {
    match device_id {
        0x1000 => Some(DeviceType::Network),
        0x1005 => Some(DeviceType::EntropySource),
        0x1040..=0x107f => DeviceType::try_from(device_id - 0x1040).ok(),
        _ => None,
    }
}

const fn is_transitional(device_id: u16) -> bool {
    device_id >= 0x1000 && device_id <= 0x103f
}

/// A virtio device on PCI.
#[derive(Debug)]
pub struct PciTransport<M> {
    device_type: DeviceType,
    registers: Registers<M>,
}

#[derive(Debug)]
enum Registers<M> {
    Modern(modern::Registers<M>),
    Legacy(legacy::Registers<M>),
}

impl<M: Mmio + Clone> PciTransport<M> {
    /// Finds the registers of a function with vendor [`VENDOR_ID`].
    ///
    /// `read_configuration` reads the four bytes of the function's configuration space at an offset that is a
    /// multiple of four. `open_bar` opens the base address register with an index, memory or I/O ports; decoding and
    /// bus mastering must be on by then.
    ///
    /// # Errors
    ///
    /// [`Error::NotSupported`], [`Error::MissingCapability`] or [`Error::BadWindow`].
    pub fn new(
        device_id: u16,
        read_configuration: impl Fn(u16) -> u32,
        mut open_bar: impl FnMut(u8) -> Option<M>,
    ) -> Result<Self, Error> {
        let device_type = device_type(device_id).ok_or(Error::NotSupported { device_id })?;
        let structures = Structures::find(read_configuration);
        let mut open = |kind: u8, required: usize| -> Result<SubWindow<M>, Error> {
            let place = structures.get(kind).ok_or(Error::MissingCapability { kind })?;
            let bad = Error::BadWindow { bar: place.bar, offset: place.offset, length: place.length };
            let window =
                SubWindow::new(open_bar(place.bar).ok_or(bad)?, place.offset as usize, place.length as usize);
            if window.len() < required { Err(bad) } else { Ok(window) }
        };
        let modern = open(COMMON_CONFIGURATION, modern::COMMON_LENGTH).and_then(|common| {
            Ok(modern::Registers::new(
                common,
                open(NOTIFICATION, 2)?,
                structures.notify_multiplier,
                open(INTERRUPT_STATUS, 1)?,
                open(DEVICE_CONFIGURATION, 0).ok(),
            ))
        });
        let registers = match modern {
            Ok(registers) => Registers::Modern(registers),
            Err(error) if !is_transitional(device_id) => return Err(error),
            Err(_) => {
                let window = open_bar(0).filter(|ports| ports.len() >= legacy::HEADER_LENGTH);
                let length = legacy::HEADER_LENGTH as u32;
                Registers::Legacy(legacy::Registers::new(window.ok_or(Error::BadWindow {
                    bar: 0,
                    offset: 0,
                    length,
                })?))
            }
        };
        Ok(Self { device_type, registers })
    }

    /// Whether the device is driven through its legacy I/O ports.
    #[must_use]
    pub fn is_legacy(&self) -> bool {
        matches!(self.registers, Registers::Legacy(_))
    }
}

/// Calls the same method of whichever registers the device has.
macro_rules! registers {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match &$self.registers {
            Registers::Modern(registers) => registers.$method($($argument),*),
            Registers::Legacy(registers) => registers.$method($($argument),*),
        }
    };
    (mut $self:ident.$method:ident($($argument:expr),*)) => {
        match &mut $self.registers {
            Registers::Modern(registers) => registers.$method($($argument),*),
            Registers::Legacy(registers) => registers.$method($($argument),*),
        }
    };
}

impl<M: Mmio> InterruptTransport for PciTransport<M> {
    fn set_interrupts(&mut self, interrupts: Interrupts) {
        registers!(mut self.set_interrupts(interrupts));
    }

    fn configuration_vector_accepted(&self, entry: u16) -> bool {
        registers!(self.configuration_vector()) == entry
    }

    fn queue_vector_accepted(&mut self, queue: u16, entry: u16) -> bool {
        registers!(mut self.queue_vector(queue)) == entry
    }
}

impl<M: Mmio> Transport for PciTransport<M> {
    fn device_type(&self) -> DeviceType {
        self.device_type
    }

    fn read_device_features(&mut self) -> u64 {
        registers!(mut self.device_features())
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        registers!(mut self.set_driver_features(driver_features));
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        registers!(mut self.queue_size(queue))
    }

    fn notify(&mut self, queue: u16) {
        registers!(self.notify(queue));
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_retain(u32::from(registers!(self.status())))
    }

    fn set_status(&mut self, status: DeviceStatus) {
        registers!(mut self.set_status(status.bits() as u8));
    }

    fn set_guest_page_size(&mut self, _guest_page_size: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        matches!(self.registers, Registers::Legacy(_))
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        registers!(mut self.queue_set(queue, size, [descriptors, driver_area, device_area]));
    }

    fn queue_unset(&mut self, queue: u16) {
        registers!(mut self.queue_unset(queue));
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        registers!(mut self.queue_used(queue))
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::from_bits_truncate(u32::from(registers!(self.interrupt_status())))
    }

    fn read_config_generation(&self) -> u32 {
        registers!(self.configuration_generation())
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, CrateError> {
        let mut value = T::new_zeroed();
        for (index, byte) in value.as_mut_bytes().iter_mut().enumerate() {
            *byte =
                registers!(self.read_configuration(offset + index)).ok_or(CrateError::ConfigSpaceTooSmall)?;
        }
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> Result<(), CrateError> {
        for (index, byte) in value.as_bytes().iter().enumerate() {
            registers!(mut self.write_configuration(offset + index, *byte))
                .ok_or(CrateError::ConfigSpaceTooSmall)?;
        }
        Ok(())
    }
}
