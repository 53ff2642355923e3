//! Just enough of Ethernet, IPv4, IPv6, TCP and UDP to check and fill in checksums as the chip does.
//!
//! All offsets are from the start of the frame; every one returned lies within the frame.

/// Length of an Ethernet header without a tag.
pub const ETHERNET: usize = 14;
const VLAN_TYPE: [u8; 2] = [0x81, 0x00];

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Transport protocol with a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// Where the checksum lies in the transport header.
    pub fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    fn minimum(self) -> usize {
        match self {
            Self::Tcp => 20,
            Self::Udp => 8,
        }
    }
}

/// What was found in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// IP version.
    pub ip: Ip,
    /// Where the IP header starts.
    pub ip_at: usize,
    /// Where the IP packet ends, by its own length field (by the frame's end where that is zero, as drivers leave it
    /// for segmentation).
    pub end: usize,
    /// Where the transport header starts.
    pub transport_at: usize,
    /// The transport protocol, if the packet is whole (no fragment) and has TCP or UDP directly behind the IP header.
    pub transport: Option<Transport>,
}

/// The 16-bit big-endian field at `at`; the caller has checked that it is there.
fn field(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// The tag's control information, if the frame has a VLAN tag.
pub fn vlan_tag(frame: &[u8]) -> Option<u16> {
    (frame.get(12..14)? == VLAN_TYPE).then_some(())?;
    let tag = frame.get(14..16)?;
    Some(u16::from_be_bytes([tag[0], tag[1]]))
}

/// Takes the VLAN tag out of the frame.
pub fn strip_vlan_tag(frame: &mut Vec<u8>) {
    frame.drain(12..16);
}

/// Puts a VLAN tag into the frame.
pub fn insert_vlan_tag(frame: &mut Vec<u8>, tag: u16) {
    let [high, low] = tag.to_be_bytes();
    frame.splice(12..12, [VLAN_TYPE[0], VLAN_TYPE[1], high, low]);
}

impl Headers {
    /// Looks into a frame, behind a VLAN tag if there is one. `None`: no IP, or cut short.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let type_at = if vlan_tag(frame).is_some() { 16 } else { 12 };
        let ip_at = type_at + 2;
        match frame.get(type_at..ip_at)? {
            [0x08, 0x00] => Self::parse_v4(frame, ip_at),
            [0x86, 0xdd] => Self::parse_v6(frame, ip_at),
            _ => None,
        }
    }

    fn parse_v4(frame: &[u8], ip_at: usize) -> Option<Self> {
        let header = frame.get(ip_at..ip_at + 20)?;
        let length = usize::from(header[0] & 0xf) * 4;
        if header[0] >> 4 != 4 || length < 20 {
            return None;
        }
        let total = match field(header, 2) {
            0 => frame.len() - ip_at,
            total => total,
        };
        let (transport_at, end) = (ip_at + length, ip_at + total);
        if total < length || end > frame.len() {
            return None;
        }
        let fragment = field(header, 6) & 0x3fff != 0;
        let transport = if fragment { None } else { Self::transport(header[9], end - transport_at) };
        Some(Self { ip: Ip::V4, ip_at, end, transport_at, transport })
    }

    fn parse_v6(frame: &[u8], ip_at: usize) -> Option<Self> {
        let header = frame.get(ip_at..ip_at + 40)?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let transport_at = ip_at + 40;
        let end = match field(header, 4) {
            0 => frame.len(),
            payload => transport_at + payload,
        };
        if end > frame.len() {
            return None;
        }
        let transport = Self::transport(header[6], end - transport_at);
        Some(Self { ip: Ip::V6, ip_at, end, transport_at, transport })
    }

    fn transport(protocol: u8, length: usize) -> Option<Transport> {
        let transport = match protocol {
            6 => Transport::Tcp,
            17 => Transport::Udp,
            _ => return None,
        };
        (length >= transport.minimum()).then_some(transport)
    }

    /// Whether the IPv4 header's checksum is right. IPv6 has none: always.
    pub fn ip_checksum_ok(&self, frame: &[u8]) -> bool {
        self.ip == Ip::V6 || fold(sum(&frame[self.ip_at..self.transport_at])) == 0xffff
    }

    /// Whether the transport checksum is right; a UDP datagram over IPv4 may go without.
    pub fn transport_checksum_ok(&self, frame: &[u8], transport: Transport) -> bool {
        let segment = &frame[self.transport_at..self.end];
        if transport == Transport::Udp && self.ip == Ip::V4 && field(segment, 6) == 0 {
            return true;
        }
        fold(self.pseudo_header(frame, transport) + sum(segment)) == 0xffff
    }

    fn pseudo_header(&self, frame: &[u8], transport: Transport) -> u64 {
        let addresses = match self.ip {
            Ip::V4 => &frame[self.ip_at + 12..self.ip_at + 20],
            Ip::V6 => &frame[self.ip_at + 8..self.ip_at + 40],
        };
        sum(addresses) + u64::from(transport.number()) + (self.end - self.transport_at) as u64
    }

    /// Computes the IPv4 header's checksum, ignoring what is there.
    pub fn fill_ip_checksum(&self, frame: &mut [u8]) {
        if self.ip == Ip::V4 {
            frame[self.ip_at + 10..self.ip_at + 12].fill(0);
            let checksum = !fold(sum(&frame[self.ip_at..self.transport_at]));
            frame[self.ip_at + 10..self.ip_at + 12].copy_from_slice(&checksum.to_be_bytes());
        }
    }

    /// Computes the transport checksum, ignoring what is there.
    pub fn fill_transport_checksum(&self, frame: &mut [u8], transport: Transport) {
        let at = self.transport_at + transport.checksum_offset();
        frame[at..at + 2].fill(0);
        let mut checksum =
            !fold(self.pseudo_header(frame, transport) + sum(&frame[self.transport_at..self.end]));
        if checksum == 0 && transport == Transport::Udp {
            checksum = 0xffff;
        }
        frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Writes the IP packet's length field so that the packet ends at `end` (an offset into the frame).
    pub fn set_end(&mut self, frame: &mut [u8], end: usize) {
        let (at, length) = match self.ip {
            Ip::V4 => (self.ip_at + 2, end - self.ip_at),
            Ip::V6 => (self.ip_at + 4, end - self.transport_at),
        };
        frame[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
        self.end = end;
    }
}

/// Sum of big-endian words, the last byte padded with zero.
fn sum(bytes: &[u8]) -> u64 {
    let (words, last) = bytes.as_chunks::<2>();
    let whole: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    whole + last.first().map_or(0, |byte| u64::from(*byte) << 8)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
