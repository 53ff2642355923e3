//! What can go wrong while an adapter is brought up or serviced.

use core::fmt;

use hal::time::Duration;
use usb::{OperationError, TransferError};

use crate::regs::Space;

/// Why an adapter could not be brought up or a step of its service failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No configuration has a vendor-specific first interface (class 0xff).
    NoVendorConfiguration,
    /// The vendor interface lacks this endpoint, or has it with a type or size that cannot work.
    BadEndpoint(&'static str),
    /// The version register holds a chip that this driver does not know.
    UnknownVersion(u16),
    /// A register could not be read or written.
    Register {
        /// Which of the two spaces.
        space: Space,
        /// Address of the register.
        address: u16,
        /// It was a write.
        write: bool,
        /// How the transfer ended.
        error: TransferError,
    },
    /// A register read brought fewer bytes than asked for; nothing of it was used.
    ShortRead {
        /// Which of the two spaces.
        space: Space,
        /// Address of the register.
        address: u16,
        /// Bytes that came.
        length: usize,
    },
    /// The chip did not reach a state in time.
    NotReached {
        /// The state.
        state: &'static str,
        /// What the register held at last.
        value: u32,
        /// How long it was waited for.
        after: Duration,
    },
    /// A USB operation other than a register access failed.
    Usb {
        /// The operation.
        operation: &'static str,
        /// How it ended.
        error: TransferError,
    },
    /// The adapter has no valid station address (this is what it holds), and none was configured.
    NoStationAddress([u8; 6]),
    /// The configured station address is a group address or zero.
    BadStationAddress([u8; 6]),
    /// The configured MTU is not one that this chip can do.
    BadMtu {
        /// What was configured.
        mtu: usize,
        /// Least and greatest that the chip can do.
        range: (usize, usize),
    },
    /// No memory was left for receive blocks.
    OutOfMemory,
}

impl Error {
    /// Whether the device is not there any more, so that trying again makes no sense.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(
            self,
            Self::Register { error: TransferError::Gone, .. } | Self::Usb { error: TransferError::Gone, .. }
        )
    }

    /// Whether another try on the same device could end otherwise.
    pub(crate) const fn is_transient(&self) -> bool {
        match self {
            Self::Register { .. } | Self::ShortRead { .. } | Self::NotReached { .. } | Self::Usb { .. } => {
                !self.is_gone()
            }
            _ => false,
        }
    }
}

impl From<OperationError> for Error {
    fn from(OperationError { operation, error }: OperationError) -> Self {
        Self::Usb { operation, error }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVendorConfiguration => {
                formatter.write_str("no configuration with a vendor-specific first interface")
            }
            Self::BadEndpoint(which) => {
                write!(formatter, "the vendor interface has no usable {which} endpoint")
            }
            Self::UnknownVersion(number) => {
                write!(formatter, "chip version {number:#06x} is not one this driver knows")
            }
            Self::Register { space, address, write, error } => {
                let operation = if *write { "write" } else { "read" };
                write!(formatter, "{operation} of register {space} {address:#06x} failed: {error}")
            }
            Self::ShortRead { space, address, length } => {
                write!(formatter, "read of register {space} {address:#06x} brought only {length} bytes")
            }
            Self::NotReached { state, value, after } => {
                write!(formatter, "the chip did not reach \"{state}\" within {after:?} (register {value:#x})")
            }
            Self::Usb { operation, error } => write!(formatter, "{operation} failed: {error}"),
            Self::NoStationAddress(address) => write!(
                formatter,
                "the adapter holds no valid station address ({address:02x?}); configure one for it"
            ),
            Self::BadStationAddress(address) => {
                write!(formatter, "the configured station address {address:02x?} is zero or a group address")
            }
            Self::BadMtu { mtu, range: (least, greatest) } => {
                write!(formatter, "MTU {mtu} is outside of {least} to {greatest}, which this chip can do")
            }
            Self::OutOfMemory => formatter.write_str("no memory left for receive blocks"),
        }
    }
}

impl core::error::Error for Error {}
