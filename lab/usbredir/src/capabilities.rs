//! What the two ends can do, announced in their hello packets. A packet's layout depends on what *both* announced.

use std::fmt;
use std::ops::{BitAnd, BitOr};

/// A set of capability bits (the first 32-bit word of a hello packet; no later word is defined).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u32);

impl Capabilities {
    /// Bulk streams; makes the endpoint information 128 bytes longer.
    pub const BULK_STREAMS: Self = Self(1 << 0);
    /// The device's `bcdDevice` is part of the connect packet.
    pub const CONNECT_DEVICE_VERSION: Self = Self(1 << 1);
    /// Device filters may be sent.
    pub const FILTER: Self = Self(1 << 2);
    /// A disconnect is acknowledged.
    pub const DEVICE_DISCONNECT_ACKNOWLEDGE: Self = Self(1 << 3);
    /// The endpoint information carries maximum packet sizes.
    pub const ENDPOINT_MAX_PACKET_SIZE: Self = Self(1 << 4);
    /// Packet ids have 64 bits.
    pub const IDS_64_BITS: Self = Self(1 << 5);
    /// Bulk packets have 32-bit lengths.
    pub const BULK_LENGTH_32_BITS: Self = Self(1 << 6);
    /// Buffered bulk receiving.
    pub const BULK_RECEIVING: Self = Self(1 << 7);

    /// What this crate's device side announces. QEMU's xHCI needs the maximum packet sizes, the 64-bit ids and the
    /// 32-bit lengths among them, and refuses a device without.
    pub const OURS: Self = Self(0x7e);

    /// Whether all of `other` is in the set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitAnd for Capabilities {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Capabilities {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x}", self.0)
    }
}
