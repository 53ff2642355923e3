//! What can go wrong while a device is brought up or serviced.

use core::fmt;

use usb::{OperationError, TransferError};

/// Why a device could not be brought up or a step of its service failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No configuration has an Ethernet control interface with the descriptors that go with it.
    NotEcm,
    /// The interface lacks this endpoint, or has it with a type or size that cannot work.
    BadEndpoint(&'static str),
    /// The string that holds the station address is not twelve hexadecimal digits of a station address.
    NoStationAddress,
    /// `wMaxSegmentSize` is too small for the smallest packet that IPv4 asks a link to carry.
    SegmentSize(u16),
    /// A USB operation failed.
    Usb {
        /// The operation.
        operation: &'static str,
        /// How it ended.
        error: TransferError,
    },
    /// No memory was left for receive blocks.
    OutOfMemory,
}

impl Error {
    /// Whether the device is not there any more, so that trying again makes no sense.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::Usb { error: TransferError::Gone, .. })
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
            Self::NotEcm => formatter.write_str("no configuration with a CDC Ethernet control interface"),
            Self::BadEndpoint(which) => write!(formatter, "no usable {which} endpoint"),
            Self::NoStationAddress => {
                formatter.write_str("the device tells no valid station address; configure one for it")
            }
            Self::SegmentSize(size) => {
                write!(formatter, "a maximum segment size of {size} bytes is too small")
            }
            Self::Usb { operation, error } => write!(formatter, "{operation} failed: {error}"),
            Self::OutOfMemory => formatter.write_str("no memory left for receive blocks"),
        }
    }
}

impl core::error::Error for Error {}
