//! Ethernet frames read and built with etherparse, an implementation that shares nothing with the kernel's.

use std::net::Ipv4Addr;

use etherparse::{
    ArpEthIpv4Packet, ArpHardwareId, ArpOperation, ArpPacket, ArpPacketSlice, EtherType, Ethernet2Header,
    IpFragOffset, IpNumber, Ipv4Header,
};

/// A station address.
pub type MacAddress = [u8; 6];

/// The address of all stations.
pub const BROADCAST: MacAddress = [0xff; 6];

/// What a frame turned out to be.
#[derive(Debug)]
pub enum Packet<'frame> {
    /// ARP for IPv4 over Ethernet (RFC 826).
    Arp(ArpEthIpv4Packet),
    /// IPv4 with a sound header; the payload ends where the header says, padding removed.
    Ipv4(Ipv4Header, &'frame [u8]),
}

/// Reads a frame: its destination, its source and what is in it; `None` for what is neither ARP nor sound IPv4.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<(MacAddress, MacAddress, Packet<'_>)> {
    let (ethernet, rest) = Ethernet2Header::from_slice(frame).ok()?;
    let packet = match ethernet.ether_type {
        EtherType::ARP => {
            let arp = ArpPacketSlice::from_slice(rest).ok()?.to_packet();
            Packet::Arp(arp.try_eth_ipv4().ok()?)
        }
        EtherType::IPV4 => {
            let (header, rest) = Ipv4Header::from_slice(rest).ok()?;
            if header.header_checksum != header.calc_header_checksum() {
                return None;
            }
            let length = usize::from(header.total_len).checked_sub(header.header_len())?;
            Packet::Ipv4(header, rest.get(..length)?)
        }
        _ => return None,
    };
    Some((ethernet.destination, ethernet.source, packet))
}

/// A frame around any payload.
#[must_use]
pub fn ethernet(
    destination: MacAddress,
    source: MacAddress,
    ether_type: EtherType,
    payload: &[u8],
) -> Vec<u8> {
    let header = Ethernet2Header { source, destination, ether_type };
    let mut frame = header.to_bytes().to_vec();
    frame.extend_from_slice(payload);
    frame
}

/// An ARP packet for IPv4 over Ethernet.
#[must_use]
pub fn arp(
    operation: ArpOperation,
    sender: (MacAddress, Ipv4Addr),
    target: (MacAddress, Ipv4Addr),
) -> Vec<u8> {
    ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &sender.0,
        &sender.1.octets(),
        &target.0,
        &target.1.octets(),
    )
    .map(|packet| packet.to_bytes().to_vec())
    .unwrap_or_default()
}

/// Where a fragment stands in its datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentPosition {
    /// Bytes of the datagram's payload before this fragment; a multiple of 8.
    pub offset: usize,
    /// Another fragment follows.
    pub more: bool,
}

/// An IPv4 packet without options: header and payload. `None` when it would be longer than 65535 bytes or the offset
/// is not one.
#[must_use]
pub fn ipv4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: IpNumber,
    identification: u16,
    position: FragmentPosition,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let offset = u16::try_from(position.offset / 8).ok()?;
    let mut header = Ipv4Header {
        total_len: u16::try_from(Ipv4Header::MIN_LEN + payload.len()).ok()?,
        identification,
        more_fragments: position.more,
        fragment_offset: IpFragOffset::try_new(offset).ok()?,
        time_to_live: 64,
        protocol,
        source: source.octets(),
        destination: destination.octets(),
        ..Default::default()
    };
    header.header_checksum = header.calc_header_checksum();
    let mut packet = header.to_bytes().to_vec();
    packet.extend_from_slice(payload);
    Some(packet)
}
