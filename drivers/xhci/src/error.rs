//! What can be wrong with a controller as a whole.

use core::fmt;

use hal::dma::OutOfDmaMemory;

use crate::regs::Capabilities;

/// Why a controller cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControllerError {
    /// Registers read as all ones: there is nothing at this address, or it was unplugged.
    NotThere,
    /// The capability registers point outside of the window.
    WindowTooSmall {
        /// Bytes that the registers need.
        needed: usize,
        /// Bytes in the window.
        size: usize,
    },
    /// The capability registers make no sense.
    BadCapabilities(Capabilities),
    /// The controller supports no page of 4096 bytes (PAGESIZE is given).
    PageSize(u32),
    /// The controller did not halt within 16 ms as it must (xHCI 5.4.1.1).
    DoesNotHalt,
    /// The reset did not end, or the controller stayed not ready.
    DoesNotReset,
    /// The controller did not start.
    DoesNotStart,
    /// Not enough DMA memory for rings, contexts and scratchpads.
    OutOfMemory(OutOfDmaMemory),
    /// It died again and again; see [`crate::Config::restarts`].
    GaveUp {
        /// How often it was restarted.
        restarts: u32,
    },
}

impl fmt::Display for ControllerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThere => formatter.write_str("no controller answers (registers read as all ones)"),
            Self::WindowTooSmall { needed, size } => {
                write!(formatter, "registers need {needed:#x} bytes, the window has {size:#x}")
            }
            Self::BadCapabilities(found) => write!(formatter, "impossible capabilities: {found:?}"),
            Self::PageSize(found) => write!(formatter, "no 4 KiB pages supported (PAGESIZE {found:#x})"),
            Self::DoesNotHalt => formatter.write_str("the controller does not halt"),
            Self::DoesNotReset => formatter.write_str("the controller does not come out of reset"),
            Self::DoesNotStart => formatter.write_str("the controller does not start"),
            Self::OutOfMemory(error) => error.fmt(formatter),
            Self::GaveUp { restarts } => write!(formatter, "died again after {restarts} restarts, given up"),
        }
    }
}

impl core::error::Error for ControllerError {}

impl From<OutOfDmaMemory> for ControllerError {
    fn from(error: OutOfDmaMemory) -> Self {
        Self::OutOfMemory(error)
    }
}
