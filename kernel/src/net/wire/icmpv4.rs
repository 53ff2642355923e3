//! ICMP for IPv4 (RFC 792): echo, and the one error that reassembly sends.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum;

/// Bytes of the header.
pub const HEADER_LENGTH: usize = size_of::<Header>();

/// Type: echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Type: echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Code of [`TIME_EXCEEDED`]: fragments were missing for too long.
pub const REASSEMBLY_TIME_EXCEEDED: u8 = 1;
/// Type: timestamp request.
pub const TIMESTAMP: u8 = 13;

/// The header, as it lies in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// What the message is.
    pub kind: u8,
    /// Its subtype.
    pub code: u8,
    /// Internet checksum over the whole message.
    pub checksum: U16,
    /// Of an echo: identifier and sequence number; of an error: unused.
    pub rest: [u8; 4],
}

impl Header {
    /// Turns an echo request into its reply. Only the type changes, so the checksum is adjusted by that difference
    /// (RFC 1624) and the payload is not looked at.
    pub fn turn_echo(&mut self) {
        let old = u16::from_be_bytes([self.kind, self.code]);
        self.kind = ECHO_REPLY;
        let new = u16::from_be_bytes([self.kind, self.code]);
        self.checksum = U16::new(checksum::updated(self.checksum.get(), old, new));
    }
}
