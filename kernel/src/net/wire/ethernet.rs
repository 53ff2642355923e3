//! Ethernet II frames (IEEE 802.3, 3.2): destination, source, type, payload. No frame check sequence: hardware's.

use core::fmt;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the header.
pub const HEADER_LENGTH: usize = size_of::<Header>();

/// The type of an IPv4 payload.
pub const TYPE_IPV4: u16 = 0x0800;
/// The type of an ARP payload.
pub const TYPE_ARP: u16 = 0x0806;

/// A station address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
pub struct Address(pub [u8; 6]);

impl Address {
    /// Every station.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// A group address: broadcast or multicast (bit 0 of the first byte).
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// An address that one station may have: no group, and not all zeros.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        !self.is_group() && self.0 != [0; 6]
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The header, as it lies in a frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Receiver.
    pub destination: Address,
    /// Sender.
    pub source: Address,
    /// What the payload is: `TYPE_IPV4`, `TYPE_ARP`, ...
    pub ethertype: U16,
}

impl Header {
    /// Turns a received header into that of the answer: back to the sender, from `own`.
    pub fn turn(&mut self, own: Address) {
        self.destination = self.source;
        self.source = own;
    }
}
