//! Registers of a legacy device: one block of I/O ports (virtio 1.2, 4.1.4.8).

use hal::mmio::Mmio;

use crate::transport::{Interrupts, NO_VECTOR};

// Offsets in the block.
const DEVICE_FEATURES: usize = 0;
const DRIVER_FEATURES: usize = 4;
const QUEUE_ADDRESS: usize = 8;
const QUEUE_SIZE: usize = 12;
const QUEUE_SELECT: usize = 14;
const QUEUE_NOTIFY: usize = 16;
const DEVICE_STATUS: usize = 18;
const INTERRUPT_STATUS: usize = 19;
/// Present only while MSI-X is on.
const CONFIGURATION_VECTOR: usize = 20;
/// Present only while MSI-X is on.
const QUEUE_VECTOR: usize = 22;

/// Bytes of the block before the device-specific configuration, without the vectors.
pub(super) const HEADER_LENGTH: usize = 20;
/// The same while MSI-X is on.
const HEADER_LENGTH_WITH_VECTORS: usize = 24;

/// The queue address register holds a page number, 4096 bytes each.
const PAGE_SHIFT: u32 = 12;

#[derive(Debug)]
pub(super) struct Registers<M> {
    ports: M,
    interrupts: Interrupts,
}

impl<M: Mmio> Registers<M> {
    pub(super) fn new(ports: M) -> Self {
        Self { ports, interrupts: Interrupts::Line }
    }

    fn select(&mut self, queue: u16) {
        self.ports.write_u16(QUEUE_SELECT, queue);
    }

    fn configuration_at(&self) -> usize {
        match self.interrupts {
            Interrupts::Line => HEADER_LENGTH,
            Interrupts::MessageSignalled { .. } => HEADER_LENGTH_WITH_VECTORS,
        }
    }

    pub(super) fn device_features(&mut self) -> u64 {
        u64::from(self.ports.read_u32(DEVICE_FEATURES))
    }

    pub(super) fn set_driver_features(&mut self, features: u64) {
        self.ports.write_u32(DRIVER_FEATURES, features as u32);
    }

    pub(super) fn status(&self) -> u8 {
        self.ports.read_u8(DEVICE_STATUS)
    }

    pub(super) fn set_status(&mut self, status: u8) {
        self.ports.write_u8(DEVICE_STATUS, status);
    }

    /// The one size that the queue has: a legacy queue cannot be made smaller.
    pub(super) fn queue_size(&mut self, queue: u16) -> u32 {
        self.select(queue);
        u32::from(self.ports.read_u16(QUEUE_SIZE))
    }

    pub(super) fn queue_used(&mut self, queue: u16) -> bool {
        self.select(queue);
        self.ports.read_u32(QUEUE_ADDRESS) != 0
    }

    /// `areas`: descriptor table, available ring, used ring; the last two follow from the first here.
    pub(super) fn queue_set(&mut self, queue: u16, _size: u32, areas: [u64; 3]) {
        self.select(queue);
        if let Interrupts::MessageSignalled { .. } = self.interrupts {
            self.ports.write_u16(QUEUE_VECTOR, self.interrupts.queue_entry());
        }
        self.ports.write_u32(QUEUE_ADDRESS, (areas[0] >> PAGE_SHIFT) as u32);
    }

    pub(super) fn queue_unset(&mut self, queue: u16) {
        self.select(queue);
        self.ports.write_u32(QUEUE_ADDRESS, 0);
    }

    pub(super) fn notify(&self, queue: u16) {
        self.ports.write_u16(QUEUE_NOTIFY, queue);
    }

    pub(super) fn set_interrupts(&mut self, interrupts: Interrupts) {
        self.interrupts = interrupts;
        if let Interrupts::MessageSignalled { .. } = interrupts {
            self.ports.write_u16(CONFIGURATION_VECTOR, interrupts.configuration_entry());
        }
    }

    pub(super) fn configuration_vector(&self) -> u16 {
        match self.interrupts {
            Interrupts::Line => NO_VECTOR,
            Interrupts::MessageSignalled { .. } => self.ports.read_u16(CONFIGURATION_VECTOR),
        }
    }

    pub(super) fn queue_vector(&mut self, queue: u16) -> u16 {
        if self.interrupts == Interrupts::Line {
            return NO_VECTOR;
        }
        self.select(queue);
        self.ports.read_u16(QUEUE_VECTOR)
    }

    pub(super) fn interrupt_status(&self) -> u8 {
        self.ports.read_u8(INTERRUPT_STATUS)
    }

    /// A legacy device has no generation: fields wider than a byte may tear, and are read again when they matter.
    pub(super) fn configuration_generation(&self) -> u32 {
        0
    }

    pub(super) fn read_configuration(&self, offset: usize) -> Option<u8> {
        let at = self.configuration_at().checked_add(offset)?;
        (at < self.ports.len()).then(|| self.ports.read_u8(at))
    }

    pub(super) fn write_configuration(&mut self, offset: usize, value: u8) -> Option<()> {
        let at = self.configuration_at().checked_add(offset)?;
        (at < self.ports.len()).then(|| self.ports.write_u8(at, value))
    }
}
