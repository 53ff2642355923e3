//! The transmit path: descriptors, VLAN tag, checksums, segmentation (fact sheet 5.3).

use crate::headers::{ETHERNET, Headers, Ip, Transport, insert_vlan_tag};

/// Length of a transmit descriptor.
pub const DESCRIPTOR: usize = 8;
const FIRST_AND_LAST: u32 = 0b11 << 30;
const SEGMENT_V4: u32 = 1 << 28;
const SEGMENT_V6: u32 = 1 << 27;
const UDP_CHECKSUM: u32 = 1 << 31;
const TCP_CHECKSUM: u32 = 1 << 30;
const IPV4_CHECKSUM: u32 = 1 << 29;
const IPV6_CHECKSUM: u32 = 1 << 28;
const INSERT_TAG: u32 = 1 << 16;
const LONGEST: usize = 0x3ffff;
const SHORTEST_FRAME: usize = 60;

/// Why a packet was not sent. After any but the last two the rest of the transfer is lost as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransmitError {
    /// A descriptor without first- and last-segment bits.
    NotWhole {
        /// `opts1`.
        options: u32,
    },
    /// The transfer ends within the packet.
    Truncated {
        /// The descriptor's length.
        length: usize,
        /// What is there.
        available: usize,
    },
    /// No Ethernet header fits into this length.
    TooShort {
        /// The descriptor's length.
        length: usize,
    },
    /// Checksum or segmentation was asked for, and the packet is not of that kind.
    WrongKind {
        /// `opts2`.
        options: u32,
    },
}

/// Collects bulk OUT data and cuts it into frames.
///
/// A transfer whose length is a multiple of the packet size may or may not be followed by an empty packet, so that a
/// packet cut off at such a place goes on in the next transfer.
#[derive(Clone, Debug, Default)]
pub struct Transmitter {
    pending: Vec<u8>,
}

impl Transmitter {
    /// Drops what is incomplete.
    pub fn clear(&mut self) {
        self.pending.clear();
    }

    /// Takes one transfer and gives the frames it completes, as they go over the wire (without frame check sequence).
    pub fn transfer(&mut self, data: &[u8], max_packet: usize) -> (Vec<Vec<u8>>, Vec<TransmitError>) {
        let mut frames = Vec::new();
        let mut errors = Vec::new();
        let goes_on = !data.is_empty() && data.len().is_multiple_of(max_packet);
        let mut bytes = std::mem::take(&mut self.pending);
        bytes.extend_from_slice(data);
        let mut at = 0;
        while at < bytes.len() {
            match next_packet(&bytes[at..]) {
                Ok((packet, used)) => {
                    match expand(packet) {
                        Ok(expanded) => frames.extend(expanded),
                        Err(error) => errors.push(error),
                    }
                    at += used;
                }
                Err(TransmitError::Truncated { .. }) if goes_on => {
                    self.pending = bytes.split_off(at);
                    break;
                }
                Err(error) => {
                    errors.push(error);
                    break;
                }
            }
        }
        (frames, errors)
    }
}

/// A packet with its two descriptor words.
struct Descriptor<'a> {
    options: [u32; 2],
    frame: &'a [u8],
}

/// The packet at the start of `bytes`, and how far the next one is.
fn next_packet(bytes: &[u8]) -> Result<(Descriptor<'_>, usize), TransmitError> {
    let available = bytes.len().saturating_sub(DESCRIPTOR);
    let Some((head, rest)) = bytes.split_first_chunk::<DESCRIPTOR>() else {
        return Err(TransmitError::Truncated { length: 0, available });
    };
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let options = [word(0), word(4)];
    if options[0] & FIRST_AND_LAST != FIRST_AND_LAST {
        return Err(TransmitError::NotWhole { options: options[0] });
    }
    let length = options[0] as usize & LONGEST;
    let frame = rest.get(..length).ok_or(TransmitError::Truncated { length, available })?;
    Ok((Descriptor { options, frame }, (DESCRIPTOR + length).next_multiple_of(4)))
}

/// One packet as the frames it becomes on the wire.
fn expand(packet: Descriptor<'_>) -> Result<Vec<Vec<u8>>, TransmitError> {
    let [first, second] = packet.options;
    let length = packet.frame.len();
    if length < ETHERNET {
        return Err(TransmitError::TooShort { length });
    }
    let mut frame = packet.frame.to_vec();
    let mut frames = if first & (SEGMENT_V4 | SEGMENT_V6) != 0 {
        let mss = (second >> 17 & 0x7ff) as usize;
        segment(&frame, mss).ok_or(TransmitError::WrongKind { options: second })?
    } else {
        if second & (IPV4_CHECKSUM | IPV6_CHECKSUM) != 0 {
            fill_checksums(&mut frame, second).ok_or(TransmitError::WrongKind { options: second })?;
        }
        vec![frame]
    };
    for frame in &mut frames {
        if second & INSERT_TAG != 0 {
            insert_vlan_tag(frame, (second as u16).swap_bytes());
        }
        if frame.len() < SHORTEST_FRAME {
            frame.resize(SHORTEST_FRAME, 0);
        }
    }
    Ok(frames)
}

/// Fills in the checksums that `options` asks for, from the packet's own headers.
///
/// The offset field is only checked where one is given: whether silicon needs it is unknown (fact sheet 7.4).
fn fill_checksums(frame: &mut [u8], options: u32) -> Option<()> {
    let headers = Headers::parse(frame)?;
    let kind = match headers.ip {
        Ip::V4 => IPV4_CHECKSUM,
        Ip::V6 => IPV6_CHECKSUM,
    };
    if options & kind == 0 {
        return None;
    }
    let wanted = match options & (UDP_CHECKSUM | TCP_CHECKSUM) {
        0 => None,
        UDP_CHECKSUM => Some(Transport::Udp),
        TCP_CHECKSUM => Some(Transport::Tcp),
        _ => return None,
    };
    if let Some(transport) = wanted {
        let offset = (options >> 17 & 0x7ff) as usize;
        if headers.transport != Some(transport) || offset != 0 && offset != headers.transport_at {
            return None;
        }
        headers.fill_transport_checksum(frame, transport);
    }
    headers.fill_ip_checksum(frame);
    Some(())
}

/// TCP segmentation: the headers repeated before each piece of at most `mss` bytes of payload.
fn segment(frame: &[u8], mss: usize) -> Option<Vec<Vec<u8>>> {
    const FIN_AND_PUSH: u8 = 0x09;
    let headers = Headers::parse(frame)?;
    if headers.transport != Some(Transport::Tcp) || mss == 0 {
        return None;
    }
    let tcp = headers.transport_at;
    let header_length = usize::from(frame[tcp + 12] >> 4) * 4;
    if header_length < 20 {
        return None;
    }
    let payload_at = tcp + header_length;
    let (header, payload) = (frame.get(..payload_at)?, frame.get(payload_at..)?);
    let sequence = u32::from_be_bytes([frame[tcp + 4], frame[tcp + 5], frame[tcp + 6], frame[tcp + 7]]);
    let identification = u16::from_be_bytes([frame[headers.ip_at + 4], frame[headers.ip_at + 5]]);
    let pieces: Vec<&[u8]> = if payload.is_empty() { vec![&[]] } else { payload.chunks(mss).collect() };
    let last = pieces.len() - 1;
    let segments = pieces.into_iter().enumerate().map(|(i, piece)| {
        let mut segment = [header, piece].concat();
        let mut headers = headers;
        let end = segment.len();
        headers.set_end(&mut segment, end);
        let sequence = sequence.wrapping_add((i * mss) as u32);
        segment[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
        if i != last {
            segment[tcp + 13] &= !FIN_AND_PUSH;
        }
        if headers.ip == Ip::V4 {
            let identification = identification.wrapping_add(i as u16);
            segment[headers.ip_at + 4..headers.ip_at + 6].copy_from_slice(&identification.to_be_bytes());
        }
        headers.fill_transport_checksum(&mut segment, Transport::Tcp);
        headers.fill_ip_checksum(&mut segment);
        segment
    });
    Some(segments.collect())
}
