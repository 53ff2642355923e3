//! What can be wrong with bytes that claim to be usbredir packets.

use std::fmt;

/// A violation of the protocol by the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The packet is longer than this end accepts. The stream cannot be followed any further.
    TooLong {
        /// The packet's type.
        kind: u32,
        /// The length it declares, in bytes.
        length: usize,
        /// The longest accepted.
        limit: usize,
    },
    /// No packet type has this number.
    UnknownType {
        /// The number.
        kind: u32,
    },
    /// The packet ends before its fixed fields do.
    TooShort {
        /// The packet's type.
        kind: u32,
        /// How many bytes it has.
        length: usize,
    },
    /// Bytes are left over after the fixed fields of a packet that carries no data.
    TrailingBytes {
        /// The packet's type.
        kind: u32,
        /// How many are left.
        left: usize,
    },
    /// A field has a value outside of its range.
    BadField {
        /// The packet's type.
        kind: u32,
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// The declared and the carried amount of data differ.
    LengthMismatch {
        /// The packet's type.
        kind: u32,
        /// What the length field says, in bytes.
        declared: usize,
        /// What came.
        carried: usize,
    },
    /// The first packet was no hello, or a second one came.
    HelloOutOfPlace {
        /// The type that came.
        kind: u32,
    },
}

impl ProtocolError {
    /// Whether the bytes after this packet can still be told apart into packets.
    pub fn is_recoverable(&self) -> bool {
        !matches!(self, Self::TooLong { .. })
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { kind, length, limit } => {
                write!(f, "usbredir packet of type {kind} declares {length} bytes, more than {limit}")
            }
            Self::UnknownType { kind } => write!(f, "usbredir packet of unknown type {kind}"),
            Self::TooShort { kind, length } => {
                write!(f, "usbredir packet of type {kind} has only {length} bytes")
            }
            Self::TrailingBytes { kind, left } => {
                write!(f, "usbredir packet of type {kind} has {left} bytes too many")
            }
            Self::BadField { kind, field, value } => {
                write!(f, "usbredir packet of type {kind}: {field} cannot be {value:#x}")
            }
            Self::LengthMismatch { kind, declared, carried } => {
                write!(
                    f,
                    "usbredir packet of type {kind} declares {declared} data bytes and carries {carried}"
                )
            }
            Self::HelloOutOfPlace { kind } => write!(f, "usbredir packet of type {kind} where hello belongs"),
        }
    }
}

impl std::error::Error for ProtocolError {}
