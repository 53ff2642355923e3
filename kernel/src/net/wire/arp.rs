//! ARP for IPv4 over Ethernet (RFC 826), with the probes and announcements of RFC 5227.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ethernet;
use super::ipv4::Address;

/// Bytes of a packet.
pub const LENGTH: usize = size_of::<Packet>();

/// Operation: who has the target address?
pub const REQUEST: u16 = 1;
/// Operation: the sender has it.
pub const REPLY: u16 = 2;

const HARDWARE_ETHERNET: u16 = 1;
const LENGTHS: [u8; 2] = [6, 4];

/// A packet, as it lies in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Packet {
    hardware_type: U16,
    protocol_type: U16,
    lengths: [u8; 2],
    /// `REQUEST` or `REPLY`.
    pub operation: U16,
    /// The station that sends.
    pub sender_hardware: ethernet::Address,
    /// Its IPv4 address; 0.0.0.0 in a probe.
    pub sender: Address,
    /// The station that is asked or answered; not meaningful in a request.
    pub target_hardware: ethernet::Address,
    /// The IPv4 address that is asked for, or the one of the station that is answered.
    pub target: Address,
}

impl Packet {
    /// Whether this is ARP for IPv4 over Ethernet at all.
    #[must_use]
    pub fn is_ethernet_ipv4(&self) -> bool {
        self.hardware_type.get() == HARDWARE_ETHERNET
            && self.protocol_type.get() == ethernet::TYPE_IPV4
            && self.lengths == LENGTHS
    }

    /// A request from a station for `target`. With a sender of 0.0.0.0 a probe, with `sender == target` an
    /// announcement (RFC 5227, 1.1).
    #[must_use]
    pub fn request(sender_hardware: ethernet::Address, sender: Address, target: Address) -> Self {
        Self {
            hardware_type: U16::new(HARDWARE_ETHERNET),
            protocol_type: U16::new(ethernet::TYPE_IPV4),
            lengths: LENGTHS,
            operation: U16::new(REQUEST),
            sender_hardware,
            sender,
            target_hardware: ethernet::Address([0; 6]),
            target,
        }
    }

    /// Turns a request for `target` into the answer: `own` has it.
    pub fn turn(&mut self, own: ethernet::Address) {
        self.operation = U16::new(REPLY);
        self.target_hardware = self.sender_hardware;
        core::mem::swap(&mut self.sender, &mut self.target);
        self.sender_hardware = own;
    }
}
