//! What every device does with its transport: interrupt vectors, reset, feature negotiation, rings.

use hal::dma::Pages;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceStatus, Transport};

use crate::Error;
use crate::dma::{Memory, allocate_from};

/// The vector that means "none" (virtio 1.2, 4.1.5.1.2).
pub(crate) const NO_VECTOR: u16 = 0xffff;

/// How the device's interrupts arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupts {
    /// Over a level-triggered line; the interrupt status register tells why and is cleared by reading it.
    Line,
    /// As messages, through these entries of the function's MSI-X table.
    MessageSignalled {
        /// For used buffers of every queue.
        queues: u16,
        /// For changes of the device's configuration.
        configuration: u16,
    },
}

impl Interrupts {
    pub(crate) const fn queue_entry(self) -> u16 {
        match self {
            Self::Line => NO_VECTOR,
            Self::MessageSignalled { queues, .. } => queues,
        }
    }

    pub(crate) const fn configuration_entry(self) -> u16 {
        match self {
            Self::Line => NO_VECTOR,
            Self::MessageSignalled { configuration, .. } => configuration,
        }
    }
}

/// A transport whose interrupts can be message-signalled.
pub trait InterruptTransport: Transport {
    /// Sets the configuration vector, and the vector that every queue set up from now on gets.
    fn set_interrupts(&mut self, interrupts: Interrupts);

    /// Whether the device took `entry` for configuration changes.
    fn configuration_vector_accepted(&self, entry: u16) -> bool;

    /// Whether the device took `entry` for this queue.
    fn queue_vector_accepted(&mut self, queue: u16, entry: u16) -> bool;
}

/// How often the status register is read before a reset counts as failed. A device answers within a few reads; the
/// figure only bounds the wait for one that is broken.
const RESET_READS: u32 = 100_000;

/// Resets the device and waits until it says so (virtio 1.2, 2.1.2 and 4.1.4.3.1).
pub(crate) fn reset(transport: &mut impl Transport) -> Result<(), Error> {
    transport.set_status(DeviceStatus::empty());
    for _ in 0..RESET_READS {
        if transport.get_status().is_empty() {
            return Ok(());
        }
        core::hint::spin_loop();
    }
    Err(Error::ResetTimedOut { status: transport.get_status().bits() })
}

/// Resets the device and negotiates those of `wanted` that it offers (virtio 1.2, 3.1.1, steps 1 to 6).
pub(crate) fn negotiate(transport: &mut impl Transport, wanted: u64) -> Result<u64, Error> {
    reset(transport)?;
    let mut status = DeviceStatus::ACKNOWLEDGE;
    transport.set_status(status);
    status |= DeviceStatus::DRIVER;
    transport.set_status(status);
    let features = transport.read_device_features() & wanted;
    transport.write_driver_features(features);
    // A legacy interface has neither the bit nor a way to refuse (3.1.2).
    if !transport.requires_legacy_layout() {
        status |= DeviceStatus::FEATURES_OK;
        transport.set_status(status);
        if !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
            transport.set_status(status | DeviceStatus::FAILED);
            return Err(Error::FeaturesRejected { features });
        }
    }
    Ok(features)
}

/// Tells the device that its queues are ready (virtio 1.2, 3.1.1, step 8).
pub(crate) fn start(transport: &mut impl Transport) {
    let status = transport.get_status();
    transport.set_status(status | DeviceStatus::DRIVER_OK);
}

/// Allocates a ring from `pages` and tells the device of it.
pub(crate) fn set_up_queue<const SIZE: usize>(
    transport: &mut impl Transport,
    pages: &Pages,
    queue: u16,
) -> Result<VirtQueue<Memory, SIZE>, Error> {
    let offered = transport.max_queue_size(queue);
    let wrong_size = Error::QueueSize { queue, offered, needed: SIZE as u16 };
    // A legacy ring cannot be made smaller; the crate does not look.
    if transport.requires_legacy_layout() && offered != SIZE as u32 {
        return Err(wrong_size);
    }
    allocate_from(pages, || VirtQueue::new(transport, queue, false, false)).map_err(|error| match error {
        virtio_drivers::Error::AlreadyUsed => Error::QueueInUse { queue },
        virtio_drivers::Error::InvalidParam => wrong_size,
        _ => Error::OutOfMemory,
    })
}
