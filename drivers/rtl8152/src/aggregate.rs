//! Received aggregates: several frames in one bulk IN transfer (fact sheet rtl8152.md, section 5.1).
//!
//! ```text
//! transfer = [descriptor 24][frame L-4][check sequence 4][pad to 8] [descriptor 24][frame] ...
//! ```
//!
//! Descriptors are data from outside: a length comes off the wire. [`Cursor`] compares before it subtracts, and gives
//! ranges that lie inside the transfer, or an error after which the rest of the transfer is not looked at, because
//! nothing tells where the next descriptor would be.

use core::fmt;
use core::ops::Range;

/// Bytes of a receive descriptor: six little-endian dwords.
pub const DESCRIPTOR_LENGTH: usize = 24;

/// Descriptors start at multiples of this, counted from the start of the transfer.
const ALIGNMENT: usize = 8;

/// Frame check sequence, counted by the descriptor's length.
const FCS_LENGTH: usize = 4;

/// Smallest length in a descriptor that is believed: what other drivers take; a legal frame has 64.
const LEAST_LENGTH: usize = 60;

/// A descriptor, not interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Length in bits 14:0 (frame with check sequence), check sequence error in bit 15.
    pub opts1: u32,
    /// VLAN tag and recognised protocols.
    pub opts2: u32,
    /// Failed checksums.
    pub opts3: u32,
}

impl Descriptor {
    const LENGTH: u32 = 0x7fff;
    const CRC_ERROR: u32 = 1 << 15;
    const VLAN_TAG: u32 = 1 << 16;
    const IPV4: u32 = 1 << 19;
    const IPV6: u32 = 1 << 20;
    const TCP: u32 = 1 << 22;
    const UDP: u32 = 1 << 23;
    const TCP_FAILED: u32 = 1 << 21;
    const UDP_FAILED: u32 = 1 << 22;
    const IPV4_FAILED: u32 = 1 << 23;

    fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self { opts1: word(0)?, opts2: word(4)?, opts3: word(8)? })
    }

    /// Frame and check sequence, in bytes.
    #[must_use]
    pub const fn length(self) -> usize {
        (self.opts1 & Self::LENGTH) as usize
    }

    /// The MAC found a wrong check sequence.
    #[must_use]
    pub const fn has_crc_error(self) -> bool {
        self.opts1 & Self::CRC_ERROR != 0
    }

    /// The tag control information that was taken out of the frame.
    #[must_use]
    pub const fn vlan_tag(self) -> Option<u16> {
        if self.opts2 & Self::VLAN_TAG != 0 { Some((self.opts2 as u16).swap_bytes()) } else { None }
    }

    /// Whether the hardware found the TCP or UDP checksum, and the header's where it is IPv4, right. False says
    /// nothing: not "wrong".
    #[must_use]
    pub const fn checksum_verified(self) -> bool {
        let transport = self.opts2 & Self::UDP != 0 && self.opts3 & Self::UDP_FAILED == 0
            || self.opts2 & Self::TCP != 0 && self.opts3 & Self::TCP_FAILED == 0;
        let network = self.opts2 & Self::IPV4 != 0 && self.opts3 & Self::IPV4_FAILED == 0
            || self.opts2 & Self::IPV6 != 0;
        transport && network
    }
}

/// A frame in a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What the hardware says about it.
    pub descriptor: Descriptor,
    /// Where it lies in the transfer, without its check sequence.
    pub frame: Range<usize>,
}

/// A descriptor that cannot be true. Nothing after it can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateError {
    /// The length is less than that of any frame.
    Runt {
        /// Length in the descriptor.
        length: usize,
        /// Offset of the descriptor.
        offset: usize,
    },
    /// The length is more than the MAC was told to accept.
    Oversize {
        /// Length in the descriptor.
        length: usize,
        /// Offset of the descriptor.
        offset: usize,
    },
    /// The frame would end behind the transfer.
    Overrun {
        /// Length in the descriptor.
        length: usize,
        /// Bytes that are left behind the descriptor.
        remaining: usize,
    },
}

impl fmt::Display for AggregateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runt { length, offset } => write!(formatter, "a runt of {length} bytes at offset {offset}"),
            Self::Oversize { length, offset } => {
                write!(formatter, "a frame of {length} bytes at offset {offset}, more than is accepted")
            }
            Self::Overrun { length, remaining } => {
                write!(formatter, "a frame of {length} bytes where the transfer has {remaining} left")
            }
        }
    }
}

impl core::error::Error for AggregateError {}

/// A place in a transfer.
#[derive(Clone, Debug)]
pub struct Cursor {
    offset: usize,
    largest_frame: usize,
}

impl Cursor {
    /// At the start of a transfer whose frames have at most `largest_frame` bytes with their check sequence.
    #[must_use]
    pub const fn new(largest_frame: usize) -> Self {
        Self { offset: 0, largest_frame }
    }

    /// The next packet of `transfer`, which holds exactly the bytes that arrived. `None` at the end.
    ///
    /// # Errors
    ///
    /// [`AggregateError`]; the cursor is at the end then.
    pub fn next(&mut self, transfer: &[u8]) -> Option<Result<Packet, AggregateError>> {
        let offset = self.offset;
        let rest = transfer.get(offset..)?;
        let (header, body) = rest.split_at_checked(DESCRIPTOR_LENGTH)?;
        let descriptor = Descriptor::read(header)?;
        let length = descriptor.length();
        let fault = if length < LEAST_LENGTH {
            Some(AggregateError::Runt { length, offset })
        } else if length > self.largest_frame {
            Some(AggregateError::Oversize { length, offset })
        } else if length > body.len() {
            Some(AggregateError::Overrun { length, remaining: body.len() })
        } else {
            None
        };
        if let Some(fault) = fault {
            self.offset = transfer.len();
            return Some(Err(fault));
        }
        let start = offset + DESCRIPTOR_LENGTH;
        let end = start + length;
        self.offset = end.next_multiple_of(ALIGNMENT);
        Some(Ok(Packet { descriptor, frame: start..end - FCS_LENGTH }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LARGEST: usize = 1522;

    fn packets(transfer: &[u8]) -> Vec<Result<Packet, AggregateError>> {
        let mut cursor = Cursor::new(LARGEST);
        core::iter::from_fn(|| cursor.next(transfer)).collect()
    }

    fn append(transfer: &mut Vec<u8>, opts: [u32; 3], body: usize) {
        transfer.resize(transfer.len().next_multiple_of(ALIGNMENT), 0);
        opts.iter().for_each(|word| transfer.extend(word.to_le_bytes()));
        transfer.extend([0; 12]);
        transfer.resize(transfer.len() + body, 0xa5);
    }

    #[test]
    fn frames_come_without_their_check_sequence() {
        let mut transfer = Vec::new();
        append(&mut transfer, [64, 0, 0], 64);
        append(&mut transfer, [1518, 0, 0], 1518);
        let frames: Vec<_> = packets(&transfer).into_iter().map(|packet| packet.unwrap().frame).collect();
        assert_eq!(frames, [24..84, 112..1626]);
    }

    #[test]
    fn padding_of_the_last_frame_may_be_there_or_not() {
        let mut transfer = Vec::new();
        append(&mut transfer, [65, 0, 0], 65);
        assert_eq!(packets(&transfer).len(), 1);
        transfer.extend([0; 7]);
        assert_eq!(packets(&transfer).len(), 1);
    }

    #[test]
    fn an_impossible_length_ends_the_transfer() {
        for (length, fault) in [
            (59, AggregateError::Runt { length: 59, offset: 0 }),
            (0, AggregateError::Runt { length: 0, offset: 0 }),
            (1523, AggregateError::Oversize { length: 1523, offset: 0 }),
            (0x7fff, AggregateError::Oversize { length: 0x7fff, offset: 0 }),
            (1522, AggregateError::Overrun { length: 1522, remaining: 200 }),
        ] {
            let mut transfer = Vec::new();
            append(&mut transfer, [length, 0, 0], 200);
            assert_eq!(packets(&transfer), [Err(fault)]);
        }
    }

    #[test]
    fn a_vlan_tag_is_in_network_order() {
        let descriptor = Descriptor { opts1: 64, opts2: 1 << 16 | 0x6400, opts3: 0 };
        assert_eq!(descriptor.vlan_tag(), Some(100));
        assert_eq!(Descriptor { opts2: 0x6400, ..descriptor }.vlan_tag(), None);
    }

    #[test]
    fn checksums_count_only_when_both_layers_were_checked() {
        let verified = |opts2, opts3| Descriptor { opts1: 64, opts2, opts3 }.checksum_verified();
        let (ipv4, ipv6, tcp, udp) = (1 << 19, 1 << 20, 1 << 22, 1 << 23);
        assert!(verified(ipv4 | udp, 0));
        assert!(verified(ipv4 | tcp, 0));
        assert!(verified(ipv6 | tcp, 0));
        assert!(!verified(ipv4, 0), "neither TCP nor UDP");
        assert!(!verified(tcp, 0), "neither IPv4 nor IPv6");
        assert!(!verified(ipv4 | udp, 1 << 22));
        assert!(!verified(ipv4 | tcp, 1 << 21));
        assert!(!verified(ipv4 | tcp, 1 << 23), "IPv4 header wrong");
        assert!(verified(ipv6 | udp, 1 << 23), "IPv6 has no header checksum");
    }

    proptest! {
        #[test]
        fn nothing_outside_of_the_transfer_is_pointed_at(
            transfer in proptest::collection::vec(any::<u8>(), 0..4096),
            largest in 0usize..40_000,
        ) {
            let mut cursor = Cursor::new(largest);
            let mut end_of_last = 0;
            for packet in core::iter::from_fn(|| cursor.next(&transfer)).flatten() {
                prop_assert!(packet.frame.start >= end_of_last + DESCRIPTOR_LENGTH);
                prop_assert!(packet.frame.end + FCS_LENGTH <= transfer.len());
                prop_assert!(packet.frame.len() + FCS_LENGTH <= largest);
                end_of_last = packet.frame.end;
            }
        }

        #[test]
        fn every_frame_of_a_sound_aggregate_is_found(
            lengths in proptest::collection::vec(64usize..=LARGEST, 0..12),
        ) {
            let mut transfer = Vec::new();
            for &length in &lengths {
                append(&mut transfer, [length as u32, 0, 0], length);
            }
            let found: Vec<_> = packets(&transfer).into_iter().map(|packet| packet.unwrap().frame.len() + 4).collect();
            prop_assert_eq!(found, lengths);
        }

        #[test]
        fn damage_to_one_length_never_reaches_outside(
            lengths in proptest::collection::vec(64usize..=LARGEST, 1..8),
            damage in any::<u32>(),
            cut in 0usize..64,
        ) {
            let mut transfer = Vec::new();
            for (index, &length) in lengths.iter().enumerate() {
                let claimed = if index == 0 { damage } else { length as u32 };
                append(&mut transfer, [claimed, damage, damage], length);
            }
            transfer.truncate(transfer.len().saturating_sub(cut));
            for packet in packets(&transfer).into_iter().flatten() {
                prop_assert!(transfer.get(packet.frame).is_some());
            }
        }
    }
}
