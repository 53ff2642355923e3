//! The transmit descriptor, and how frames share a bulk OUT transfer (fact sheet rtl8152.md, section 5.3).
//!
//! ```text
//! transfer = [descriptor 8][frame][pad to 4] [descriptor 8][frame][pad to 4] ... [descriptor 8][frame]
//! ```
//!
//! Segmentation offload (TSO) is not used: the network layer hands over frames that fit.

/// Bytes of a transmit descriptor: two little-endian dwords.
pub(crate) const DESCRIPTOR_LENGTH: usize = 8;

/// Descriptors start at multiples of this, counted from the start of the transfer.
pub(crate) const ALIGNMENT: usize = 4;

const FIRST_SEGMENT: u32 = 1 << 31;
const LAST_SEGMENT: u32 = 1 << 30;
const LENGTH_LIMIT: usize = 0x3ffff;

const UDP_CHECKSUM: u32 = 1 << 31;
const TCP_CHECKSUM: u32 = 1 << 30;
const IPV4: u32 = 1 << 29;
const IPV6: u32 = 1 << 28;
/// Transport header offset.
const OFFSET_SHIFT: u32 = 17;
const OFFSET_LIMIT: usize = 0x7ff;
const VLAN_TAG: u32 = 1 << 16;

/// Network layer of a frame whose checksum the chip completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Ipv4,
    Ipv6,
}

/// Transport layer of a frame whose checksum the chip completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// What the chip is to do with a frame beyond sending it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offload {
    None,
    /// Fill in the transport checksum; the transport header begins at this offset of the frame.
    Checksum {
        network: Network,
        transport: Transport,
        offset: usize,
    },
}

/// The descriptor of a frame of `length` bytes without check sequence. `None` when a field does not fit.
pub(crate) fn descriptor(
    length: usize,
    vlan: Option<u16>,
    offload: Offload,
) -> Option<[u8; DESCRIPTOR_LENGTH]> {
    if length > LENGTH_LIMIT {
        return None;
    }
    let opts1 = FIRST_SEGMENT | LAST_SEGMENT | length as u32;
    let mut opts2 = vlan.map_or(0, |tag| VLAN_TAG | u32::from(tag.swap_bytes()));
    match offload {
        Offload::None => {}
        Offload::Checksum { network, transport, offset } => {
            if offset > OFFSET_LIMIT {
                return None;
            }
            opts2 |= match network {
                Network::Ipv4 => IPV4,
                Network::Ipv6 => IPV6,
            };
            opts2 |= match transport {
                Transport::Tcp => TCP_CHECKSUM,
                Transport::Udp => UDP_CHECKSUM,
            };
            opts2 |= (offset as u32) << OFFSET_SHIFT;
        }
    }
    let [a, b, c, d] = opts1.to_le_bytes();
    let [e, f, g, h] = opts2.to_le_bytes();
    Some([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(length: usize, vlan: Option<u16>, offload: Offload) -> (u32, u32) {
        let bytes = descriptor(length, vlan, offload).unwrap();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        (word(0), word(4))
    }

    #[test]
    fn a_plain_frame_is_first_and_last_segment() {
        assert_eq!(words(60, None, Offload::None), (0xc000_003c, 0));
    }

    #[test]
    fn a_vlan_tag_is_in_network_order() {
        assert_eq!(words(60, Some(100), Offload::None), (0xc000_003c, 0x0001_6400));
    }

    #[test]
    fn checksum_flags_name_both_layers_and_the_offset() {
        let udp = Offload::Checksum { network: Network::Ipv4, transport: Transport::Udp, offset: 34 };
        assert_eq!(words(1514, None, udp), (0xc000_05ea, 0xa000_0000 | 34 << 17));
        let tcp = Offload::Checksum { network: Network::Ipv6, transport: Transport::Tcp, offset: 54 };
        assert_eq!(words(1514, None, tcp).1, 0x5000_0000 | 54 << 17);
    }

    #[test]
    fn fields_that_do_not_fit_are_refused() {
        assert_eq!(descriptor(0x40000, None, Offload::None), None);
        let far = Offload::Checksum { network: Network::Ipv4, transport: Transport::Udp, offset: 0x800 };
        assert_eq!(descriptor(60, None, far), None);
    }
}
