//! Why a virtio device could not be brought up.

use core::fmt;

/// Why a virtio device could not be brought up. Each variant names what was found and, where there is one, the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The PCI function is no virtio device, or of a type that this crate has no driver for.
    NotSupported {
        /// PCI device id, or the virtio device id that a transport reported.
        device_id: u16,
    },
    /// A modern device without one of its required capabilities, and no legacy interface to fall back on
    /// (virtio 1.2, 4.1.4).
    MissingCapability {
        /// `cfg_type` of the capability.
        kind: u8,
    },
    /// A capability points into a base address register that is absent or smaller than the capability says.
    BadWindow {
        /// Index of the base address register.
        bar: u8,
        /// Start of the structure in it, in bytes.
        offset: u32,
        /// Bytes that the structure needs.
        length: u32,
    },
    /// The device did not finish its reset.
    ResetTimedOut {
        /// Device status that was read last.
        status: u32,
    },
    /// The device did not accept the features the driver chose (virtio 1.2, 3.1.1).
    FeaturesRejected {
        /// The features that were asked for.
        features: u64,
    },
    /// The device refused the interrupt vector (virtio 1.2, 4.1.5.1.2).
    VectorRejected {
        /// Index in the MSI-X table.
        entry: u16,
    },
    /// The device does not tell its MAC address.
    NoMacAddress,
    /// A ring has another size than the driver's, and cannot be told to take the driver's.
    QueueSize {
        /// The queue.
        queue: u16,
        /// Entries that the device has.
        offered: u32,
        /// Entries that the driver needs.
        needed: u16,
    },
    /// A ring is in use already: the device was not reset.
    QueueInUse {
        /// The queue.
        queue: u16,
    },
    /// No memory for a ring or for the buffers to receive into.
    OutOfMemory,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotSupported { device_id } => {
                write!(formatter, "no driver for virtio device id {device_id:#06x}")
            }
            Self::MissingCapability { kind } => {
                write!(formatter, "virtio capability {kind} is missing and there is no legacy interface")
            }
            Self::BadWindow { bar, offset, length } => {
                write!(
                    formatter,
                    "virtio structure of {length} bytes at {offset:#x} does not fit base address {bar}"
                )
            }
            Self::ResetTimedOut { status } => {
                write!(formatter, "virtio device did not reset, its status stays {status:#x}")
            }
            Self::FeaturesRejected { features } => {
                write!(formatter, "virtio device rejected the features {features:#x}")
            }
            Self::VectorRejected { entry } => {
                write!(formatter, "virtio device rejected MSI-X entry {entry}")
            }
            Self::NoMacAddress => {
                formatter.write_str("virtio network device without a MAC address; give it one")
            }
            Self::QueueSize { queue, offered, needed } => write!(
                formatter,
                "virtio queue {queue} has {offered} entries, {needed} are needed; set the queue size on the host"
            ),
            Self::QueueInUse { queue } => write!(formatter, "virtio queue {queue} is already in use"),
            Self::OutOfMemory => formatter.write_str("no memory left for virtio rings and buffers"),
        }
    }
}

impl core::error::Error for Error {}
