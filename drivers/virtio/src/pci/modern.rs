//! Registers of a modern device (virtio 1.2, 4.1.4.3 to 4.1.4.6).

use hal::mmio::{Mmio, SubWindow};

use crate::transport::{Interrupts, NO_VECTOR};

/// Bytes of `struct virtio_pci_common_cfg` that this driver uses.
pub(super) const COMMON_LENGTH: usize = 56;

// Offsets in the common configuration structure.
const DEVICE_FEATURE_SELECT: usize = 0;
const DEVICE_FEATURE: usize = 4;
const DRIVER_FEATURE_SELECT: usize = 8;
const DRIVER_FEATURE: usize = 12;
const CONFIGURATION_VECTOR: usize = 16;
const DEVICE_STATUS: usize = 20;
const CONFIGURATION_GENERATION: usize = 21;
const QUEUE_SELECT: usize = 22;
const QUEUE_SIZE: usize = 24;
const QUEUE_VECTOR: usize = 26;
const QUEUE_ENABLE: usize = 28;
const QUEUE_NOTIFY_OFFSET: usize = 30;
const QUEUE_DESCRIPTORS: usize = 32;
const QUEUE_DRIVER_AREA: usize = 40;
const QUEUE_DEVICE_AREA: usize = 48;

/// Queues whose notification address is remembered; others would read it at each notification.
const REMEMBERED_QUEUES: usize = 4;

#[derive(Debug)]
pub(super) struct Registers<M> {
    common: SubWindow<M>,
    notification: SubWindow<M>,
    notify_multiplier: u32,
    interrupt_status: SubWindow<M>,
    configuration: Option<SubWindow<M>>,
    interrupts: Interrupts,
    notify_at: [usize; REMEMBERED_QUEUES],
}

impl<M: Mmio> Registers<M> {
    pub(super) fn new(
        common: SubWindow<M>,
        notification: SubWindow<M>,
        notify_multiplier: u32,
        interrupt_status: SubWindow<M>,
        configuration: Option<SubWindow<M>>,
    ) -> Self {
        Self {
            common,
            notification,
            notify_multiplier,
            interrupt_status,
            configuration,
            interrupts: Interrupts::Line,
            notify_at: [0; REMEMBERED_QUEUES],
        }
    }

    fn select(&mut self, queue: u16) {
        self.common.write_u16(QUEUE_SELECT, queue);
    }

    pub(super) fn device_features(&mut self) -> u64 {
        let half = |select: u32| {
            self.common.write_u32(DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read_u32(DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    pub(super) fn set_driver_features(&mut self, features: u64) {
        for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.common.write_u32(DRIVER_FEATURE_SELECT, select);
            self.common.write_u32(DRIVER_FEATURE, half);
        }
    }

    pub(super) fn status(&self) -> u8 {
        self.common.read_u8(DEVICE_STATUS)
    }

    pub(super) fn set_status(&mut self, status: u8) {
        self.common.write_u8(DEVICE_STATUS, status);
    }

    pub(super) fn queue_size(&mut self, queue: u16) -> u32 {
        self.select(queue);
        u32::from(self.common.read_u16(QUEUE_SIZE))
    }

    pub(super) fn queue_used(&mut self, queue: u16) -> bool {
        self.select(queue);
        self.common.read_u16(QUEUE_ENABLE) != 0
    }

    /// `areas`: descriptor table, available ring, used ring.
    pub(super) fn queue_set(&mut self, queue: u16, size: u32, areas: [u64; 3]) {
        self.select(queue);
        self.common.write_u16(QUEUE_SIZE, size as u16);
        self.common.write_u64(QUEUE_DESCRIPTORS, areas[0]);
        self.common.write_u64(QUEUE_DRIVER_AREA, areas[1]);
        self.common.write_u64(QUEUE_DEVICE_AREA, areas[2]);
        self.common.write_u16(QUEUE_VECTOR, self.interrupts.queue_entry());
        let notify_at = self.selected_notify_at();
        if let Some(slot) = self.notify_at.get_mut(usize::from(queue)) {
            *slot = notify_at;
        }
        self.common.write_u16(QUEUE_ENABLE, 1);
    }

    pub(super) fn queue_unset(&mut self, _queue: u16) {
        // A modern queue is only stopped by a reset of the device (2.1.2); the drivers reset before they let go.
    }

    fn selected_notify_at(&self) -> usize {
        let offset = u64::from(self.common.read_u16(QUEUE_NOTIFY_OFFSET)) * u64::from(self.notify_multiplier);
        // Outside the window the write is dropped by the window.
        usize::try_from(offset).unwrap_or(usize::MAX)
    }

    pub(super) fn notify(&self, queue: u16) {
        let at = match self.notify_at.get(usize::from(queue)) {
            Some(at) => *at,
            None => {
                self.common.write_u16(QUEUE_SELECT, queue);
                self.selected_notify_at()
            }
        };
        self.notification.write_u16(at, queue);
    }

    pub(super) fn set_interrupts(&mut self, interrupts: Interrupts) {
        self.interrupts = interrupts;
        self.common.write_u16(CONFIGURATION_VECTOR, interrupts.configuration_entry());
    }

    pub(super) fn configuration_vector(&self) -> u16 {
        self.common.read_u16(CONFIGURATION_VECTOR)
    }

    pub(super) fn queue_vector(&mut self, queue: u16) -> u16 {
        if self.interrupts == Interrupts::Line {
            return NO_VECTOR;
        }
        self.select(queue);
        self.common.read_u16(QUEUE_VECTOR)
    }

    pub(super) fn interrupt_status(&self) -> u8 {
        self.interrupt_status.read_u8(0)
    }

    pub(super) fn configuration_generation(&self) -> u32 {
        u32::from(self.common.read_u8(CONFIGURATION_GENERATION))
    }

    pub(super) fn read_configuration(&self, offset: usize) -> Option<u8> {
        let window = self.configuration.as_ref()?;
        (offset < window.len()).then(|| window.read_u8(offset))
    }

    pub(super) fn write_configuration(&mut self, offset: usize, value: u8) -> Option<()> {
        let window = self.configuration.as_ref()?;
        (offset < window.len()).then(|| window.write_u8(offset, value))
    }
}
