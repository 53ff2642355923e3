//! IPv4 (RFC 791).

use core::fmt;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum;

/// Bytes of a header without options.
pub const HEADER_LENGTH: usize = size_of::<Header>();

/// Protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;

/// In `flags_and_offset`: routers must not fragment.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// In `flags_and_offset`: more fragments follow.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// In `flags_and_offset`: where the fragment belongs, in units of eight bytes.
pub const FRAGMENT_OFFSET: u16 = 0x1fff;

/// An IPv4 address.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct Address(pub [u8; 4]);

impl Address {
    /// No address: 0.0.0.0.
    pub const UNSPECIFIED: Self = Self([0; 4]);
    /// Every host on this network: 255.255.255.255.
    pub const BROADCAST: Self = Self([255; 4]);

    /// The address as a number, most significant byte first.
    #[must_use]
    pub const fn to_u32(self) -> u32 {
        u32::from_be_bytes(self.0)
    }

    /// Neither of "this network" (0/8), loopback (127/8), multicast (224/4), reserved or broadcast (240/4): an address
    /// that one host may have and that an answer may go to. A broadcast address of a subnet needs the subnet's prefix,
    /// see [`Subnet::is_broadcast`].
    #[must_use]
    pub const fn is_unicast(self) -> bool {
        !matches!(self.0[0], 0 | 127 | 224..)
    }

    /// A group of hosts (224/4).
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] >> 4 == 0xe
    }
}

impl From<core::net::Ipv4Addr> for Address {
    fn from(address: core::net::Ipv4Addr) -> Self {
        Self(address.octets())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0;
        write!(formatter, "{a}.{b}.{c}.{d}")
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// An address and the length of its subnet's prefix in bits, 0 to 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The address of the host itself.
    pub address: Address,
    /// Leading bits that all hosts of the subnet share.
    pub prefix: u8,
}

impl Subnet {
    const fn host_mask(self) -> u32 {
        if self.prefix >= 32 { 0 } else { u32::MAX >> self.prefix }
    }

    /// The highest address of the subnet (RFC 919), or of the whole network. A subnet of two or one addresses has no
    /// broadcast address (RFC 3021).
    #[must_use]
    pub const fn is_broadcast(self, address: Address) -> bool {
        let mask = self.host_mask();
        address.to_u32() == u32::MAX
            || (mask > 1
                && address.to_u32() & mask == mask
                && address.to_u32() & !mask == self.address.to_u32() & !mask)
    }

    /// Whether a host may have this address in this subnet.
    #[must_use]
    pub const fn is_host(self) -> bool {
        self.prefix <= 32 && self.address.is_unicast() && !self.is_broadcast(self.address)
    }

    /// Whether `address` is reached without a gateway.
    #[must_use]
    pub const fn contains(self, address: Address) -> bool {
        (address.to_u32() ^ self.address.to_u32()) & !self.host_mask() == 0
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

/// The header without options, as it lies in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    version_and_length: u8,
    /// Differentiated services and congestion notification; RFC 1349's type of service.
    pub type_of_service: u8,
    /// Bytes of header and payload.
    pub total_length: U16,
    /// Which datagram a fragment belongs to.
    pub identification: U16,
    /// `DONT_FRAGMENT`, `MORE_FRAGMENTS`, `FRAGMENT_OFFSET`.
    pub flags_and_offset: U16,
    /// Routers left to cross.
    pub time_to_live: u8,
    /// What the payload is.
    pub protocol: u8,
    /// Internet checksum over header and options.
    pub checksum: U16,
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
}

/// Bytes of options that a packet's first byte announces; `None` for a header without options.
#[must_use]
pub fn options_length(packet: &[u8]) -> Option<usize> {
    let length = usize::from(packet.first()? & 0xf) * 4;
    length.checked_sub(HEADER_LENGTH).filter(|options| *options > 0)
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Fewer bytes than a header, or than its length fields say.
    Truncated,
    /// Not version 4.
    Version,
    /// A header length below 20 bytes, or a total length below the header length.
    Length,
    /// The checksum does not hold.
    Checksum,
}

impl Header {
    /// A header without options, its checksum still to be [sealed](Self::seal).
    #[must_use]
    pub fn new(protocol: u8, source: Address, destination: Address, total_length: u16) -> Self {
        Self {
            version_and_length: 0x45,
            type_of_service: 0,
            total_length: U16::new(total_length),
            identification: U16::ZERO,
            flags_and_offset: U16::new(DONT_FRAGMENT),
            time_to_live: 64,
            protocol,
            checksum: U16::ZERO,
            source,
            destination,
        }
    }

    /// Bytes of header and options, as the header says; below 20 only in a malformed one.
    #[must_use]
    pub const fn length(&self) -> usize {
        (self.version_and_length & 0xf) as usize * 4
    }

    /// Whether this is part of a datagram, not the whole.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.flags_and_offset.get() & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }

    /// Checks a packet that starts `bytes` and lies in a frame with `available` bytes from the start of the header on
    /// (`bytes` may hold less of them, but must hold the header with its options).
    ///
    /// # Errors
    ///
    /// [`Malformed`], the first thing that is wrong.
    pub fn check(bytes: &[u8], available: usize) -> Result<&Self, Malformed> {
        let Ok((header, _)) = Self::ref_from_prefix(bytes) else { return Err(Malformed::Truncated) };
        if header.version_and_length == 0x45 {
            // By far the most frequent form: a constant length sums without a loop.
            let words = bytes.first_chunk::<HEADER_LENGTH>().ok_or(Malformed::Truncated)?;
            header.check_total_length(HEADER_LENGTH, available)?;
            return if checksum::sum(words, 0) == 0xffff { Ok(header) } else { Err(Malformed::Checksum) };
        }
        if header.version_and_length >> 4 != 4 {
            return Err(Malformed::Version);
        }
        let length = header.length();
        if length < HEADER_LENGTH {
            return Err(Malformed::Length);
        }
        header.check_total_length(length, available)?;
        let words = bytes.get(..length).ok_or(Malformed::Truncated)?;
        if checksum::sum(words, 0) == 0xffff { Ok(header) } else { Err(Malformed::Checksum) }
    }

    fn check_total_length(&self, length: usize, available: usize) -> Result<(), Malformed> {
        let total = usize::from(self.total_length.get());
        if total < length {
            return Err(Malformed::Length);
        }
        if total > available {
            return Err(Malformed::Truncated);
        }
        Ok(())
    }

    /// Computes the checksum of a header without options.
    pub fn seal(&mut self) {
        self.checksum = U16::ZERO;
        self.checksum = U16::new(!checksum::sum(self.as_bytes(), 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed() -> Header {
        let mut header = Header::new(PROTOCOL_ICMP, Address([10, 0, 0, 1]), Address([10, 0, 0, 2]), 28);
        header.seal();
        header
    }

    #[test]
    fn a_sealed_header_is_sound() {
        assert!(Header::check(sealed().as_bytes(), 28).is_ok());
    }

    #[test]
    fn each_cut_is_truncated() {
        for length in 0..HEADER_LENGTH {
            assert_eq!(
                Header::check(&sealed().as_bytes()[..length], length),
                Err(Malformed::Truncated),
                "{length}"
            );
        }
        assert_eq!(Header::check(sealed().as_bytes(), 27), Err(Malformed::Truncated));
    }

    #[test]
    fn each_flipped_bit_is_noticed() {
        for bit in 0..HEADER_LENGTH * 8 {
            let mut header = sealed();
            header.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::check(header.as_bytes(), 28).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn broadcast_follows_the_prefix() {
        let subnet = Subnet { address: Address([10, 1, 2, 3]), prefix: 24 };
        assert!(subnet.is_broadcast(Address([10, 1, 2, 255])));
        assert!(!subnet.is_broadcast(Address([10, 1, 3, 255])));
        assert!(subnet.is_broadcast(Address::BROADCAST));
        let point_to_point = Subnet { address: Address([10, 1, 2, 2]), prefix: 31 };
        assert!(!point_to_point.is_broadcast(Address([10, 1, 2, 3])));
        let whole = Subnet { address: Address([10, 1, 2, 2]), prefix: 0 };
        assert!(whole.contains(Address([8, 8, 8, 8])));
    }

    proptest! {
        #[test]
        fn any_bytes_are_checked_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..80), available in 0usize..100,
        ) {
            if let Ok(header) = Header::check(&bytes, available) {
                prop_assert!(header.length() >= HEADER_LENGTH && header.length() <= bytes.len());
                prop_assert!(usize::from(header.total_length.get()) <= available);
            }
        }
    }
}
