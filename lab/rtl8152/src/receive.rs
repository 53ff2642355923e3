//! The receive path: filter, VLAN tag, checksum results, FIFO, aggregates (fact sheet 4.11, 5.1, 5.2).

use std::collections::VecDeque;
use std::time::Duration;

use crate::headers::{Headers, Ip, Transport, strip_vlan_tag, vlan_tag};

/// Bytes the FIFO holds. Silicon's size is unknown; this takes a burst of the fragments of the longest IP packet
/// several times over.
pub const FIFO: usize = 256 << 10;

/// Length of a receive descriptor.
pub const DESCRIPTOR: usize = 24;
const FRAME_CHECK_SEQUENCE: usize = 4;
const SHORTEST_FRAME: usize = 60;

/// Which frames the MAC takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// All.
    pub promiscuous: bool,
    /// Those to `station`.
    pub unicast: bool,
    /// Multicast whose hash bit is set.
    pub multicast: bool,
    /// Broadcast.
    pub broadcast: bool,
    /// The station address.
    pub station: [u8; 6],
    /// The hash, as the eight bytes lie in the registers.
    pub hash: [u8; 8],
}

impl Filter {
    /// Whether a frame to `destination` passes.
    pub fn passes(&self, destination: [u8; 6]) -> bool {
        if self.promiscuous {
            true
        } else if destination == [0xff; 6] {
            self.broadcast
        } else if destination[0] & 1 != 0 {
            self.multicast && u64::from_be_bytes(self.hash) & 1 << hash_bit(destination) != 0
        } else {
            self.unicast && destination == self.station
        }
    }
}

/// The bit of the 64-bit mask that stands for a multicast address: the top six bits of the Ethernet CRC.
pub fn hash_bit(address: [u8; 6]) -> u32 {
    let mut crc = u32::MAX;
    for byte in address {
        for bit in 0..8 {
            let feedback = crc >> 31 ^ u32::from(byte >> bit & 1);
            crc = crc << 1 ^ if feedback != 0 { 0x04c1_1db7 } else { 0 };
        }
    }
    crc >> 26
}

/// How the next aggregate is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregation {
    /// One packet per transfer.
    pub disabled: bool,
    /// Closed once its fill passes this many bytes.
    pub size: usize,
    /// Closed this long after its first frame came.
    pub timeout: Duration,
}

/// A frame in the FIFO.
#[derive(Clone, Debug)]
struct Received {
    frame: Vec<u8>,
    /// `opts2` and `opts3` of the descriptor.
    options: [u32; 2],
    arrived: Duration,
}

/// The frames between the wire and the bulk IN endpoint.
#[derive(Clone, Debug, Default)]
pub struct Fifo {
    frames: VecDeque<Received>,
    bytes: usize,
    /// What an aggregate had left when the host's transfer was full: it starts the next transfer.
    rest: Vec<u8>,
}

impl Fifo {
    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes a frame (without frame check sequence) that has passed the filter. False: no room, dropped.
    pub fn push(&mut self, mut frame: Vec<u8>, strip_tag: bool, now: Duration) -> bool {
        if self.bytes + frame.len() > FIFO {
            return false;
        }
        let mut options = checksum_results(&frame);
        if strip_tag && let Some(tag) = vlan_tag(&frame) {
            strip_vlan_tag(&mut frame);
            options[0] |= 1 << 16 | u32::from(tag.swap_bytes());
        }
        if frame.len() < SHORTEST_FRAME {
            frame.resize(SHORTEST_FRAME, 0);
        }
        self.bytes += frame.len();
        self.frames.push_back(Received { frame, options, arrived: now });
        true
    }

    fn pop(&mut self) -> Option<Received> {
        let received = self.frames.pop_front()?;
        self.bytes -= received.frame.len();
        Some(received)
    }

    /// One frame without a descriptor, as in the CDC configurations.
    pub fn take_frame(&mut self) -> Option<Vec<u8>> {
        self.pop().map(|received| received.frame)
    }

    /// Length of the frame that comes next.
    pub fn next_frame_length(&self) -> Option<usize> {
        self.frames.front().map(|received| received.frame.len())
    }

    /// When the frames that wait are due for the host; none while there are none.
    pub fn due(&self, aggregation: &Aggregation) -> Option<Duration> {
        if !self.rest.is_empty() {
            return Some(Duration::ZERO);
        }
        let first = self.frames.front()?;
        if aggregation.disabled || self.bytes + self.frames.len() * 32 > aggregation.size {
            return Some(first.arrived);
        }
        Some(first.arrived + aggregation.timeout)
    }

    /// The next transfer of at most `limit` bytes, if frames are due.
    ///
    /// An aggregate that does not fit goes on in the next transfer, mis-framed, as the host deserves that posts less
    /// than what it programmed.
    pub fn take_transfer(
        &mut self,
        limit: usize,
        aggregation: &Aggregation,
        now: Duration,
    ) -> Option<Vec<u8>> {
        if self.due(aggregation)? > now {
            return None;
        }
        if self.rest.is_empty() {
            self.rest = self.build(aggregation);
        }
        let taken = self.rest.len().min(limit);
        let rest = self.rest.split_off(taken);
        Some(std::mem::replace(&mut self.rest, rest))
    }

    /// Whether the device would go on sending after a transfer of `limit` bytes.
    pub fn would_overrun(&self, limit: usize, aggregation: &Aggregation, now: Duration) -> bool {
        let first = self.frames.front().map_or(0, |f| DESCRIPTOR + f.frame.len() + FRAME_CHECK_SEQUENCE);
        self.due(aggregation).is_some_and(|due| due <= now) && self.rest.len().max(first) > limit
    }

    fn build(&mut self, aggregation: &Aggregation) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(received) = self.pop() {
            let length = received.frame.len() + FRAME_CHECK_SEQUENCE;
            out.extend((length as u32).to_le_bytes());
            out.extend(received.options.iter().flat_map(|word| word.to_le_bytes()));
            out.extend([0; 12]);
            out.extend(&received.frame);
            out.extend(frame_check_sequence(&received.frame));
            out.resize(out.len().next_multiple_of(8), 0);
            if aggregation.disabled || out.len() > aggregation.size {
                break;
            }
        }
        out
    }
}

/// The CRC-32 of IEEE 802.3, as it goes over the wire.
pub fn frame_check_sequence(frame: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in frame {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 != 0 { 0xedb8_8320 } else { 0 };
        }
    }
    (!crc).to_le_bytes()
}

/// `opts2` and `opts3`: what the chip recognised, and which checksums are wrong.
fn checksum_results(frame: &[u8]) -> [u32; 2] {
    let Some(headers) = Headers::parse(frame) else { return [0, 0] };
    let (mut recognised, mut failed) = match headers.ip {
        Ip::V4 => (1 << 19, u32::from(!headers.ip_checksum_ok(frame)) << 23),
        Ip::V6 => (1 << 20, 0),
    };
    if let Some(transport) = headers.transport {
        let ok = headers.transport_checksum_ok(frame, transport);
        let (seen, wrong) = match transport {
            Transport::Tcp => (22, 21),
            Transport::Udp => (23, 22),
        };
        recognised |= 1 << seen;
        failed |= u32::from(!ok) << wrong;
    }
    [recognised, failed]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multicast_hashes_are_those_of_the_fact_sheet() {
        for (address, bit) in [
            ([0x01, 0x00, 0x5e, 0x00, 0x00, 0x01], 31),
            ([0x33, 0x33, 0x00, 0x00, 0x00, 0x01], 62),
            ([0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb], 15),
            ([0x33, 0x33, 0xff, 0x11, 0x22, 0x33], 36),
        ] {
            assert_eq!(hash_bit(address), bit, "{address:02x?}");
        }
    }

    #[test]
    fn the_frame_check_sequence_is_the_standard_crc() {
        assert_eq!(frame_check_sequence(b"123456789"), 0xcbf4_3926u32.to_le_bytes());
    }

    #[test]
    fn an_aggregate_longer_than_the_transfer_goes_on_in_the_next() {
        let mut fifo = Fifo::default();
        let at_once = Aggregation { disabled: false, size: 8192, timeout: Duration::ZERO };
        assert!(fifo.push(vec![1; 1000], false, Duration::ZERO));
        let first = fifo.take_transfer(512, &at_once, Duration::ZERO).unwrap();
        let second = fifo.take_transfer(2048, &at_once, Duration::ZERO).unwrap();
        assert_eq!((first.len(), second.len()), (512, 1032 - 512));
        assert!(fifo.take_transfer(512, &at_once, Duration::ZERO).is_none());
    }

    #[test]
    fn a_closed_aggregate_passes_the_size_by_one_frame_at_most() {
        let mut fifo = Fifo::default();
        let settings = Aggregation { disabled: false, size: 4000, timeout: Duration::from_secs(1) };
        for _ in 0..20 {
            assert!(fifo.push(vec![1; 972], false, Duration::ZERO));
        }
        let transfer = fifo.take_transfer(16384, &settings, Duration::ZERO).unwrap();
        assert_eq!(transfer.len(), 5000, "four frames of 1000 reach 4000, the fifth passes it");
    }
}
