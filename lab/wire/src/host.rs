//! The host at the far end: resolves addresses, leases one, answers pings, and puts any bytes on the wire.
//!
//! It lives when it is called: [`Host::serve`] answers what has arrived, and so does everything that waits.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use etherparse::{ArpOperation, EtherType, Icmpv4Header, Icmpv4Type, IpNumber, Ipv4Header, UdpHeader};

use crate::cable::Cable;
use crate::dhcp::{self, Lease};
use crate::fragments::{Reassembly, cut};
use crate::packet::{self, BROADCAST, FragmentPosition, MacAddress, Packet};

/// How the host is set up.
#[derive(Clone, Debug)]
pub struct HostConfiguration {
    /// Its station address.
    pub mac: MacAddress,
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// The lease its DHCP server gives; `None`: no DHCP server.
    pub lease: Option<Lease>,
    /// Largest IPv4 packet it sends whole, in bytes.
    pub maximum_transmission_unit: usize,
}

impl HostConfiguration {
    /// The host of the network 10.0.`network`.0/24: it is `.1` there, and leases `.2`.
    #[must_use]
    pub fn of_network(network: u8) -> Self {
        let address = Ipv4Addr::new(10, 0, network, 1);
        let leased = Ipv4Addr::new(10, 0, network, 2);
        Self {
            mac: [0x52, 0x55, 10, 0, network, 1],
            address,
            lease: Some(Lease { address: leased, prefix: 24, router: Some(address), seconds: 86_400 }),
            maximum_transmission_unit: 1500,
        }
    }
}

/// An echo reply with a sound checksum, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedEcho {
    /// Who answered.
    pub source: Ipv4Addr,
    /// ICMP identifier.
    pub identifier: u16,
    /// ICMP sequence number.
    pub sequence: u16,
    /// IPv4 time to live, as it arrived.
    pub time_to_live: u8,
    /// The echoed data.
    pub payload: Vec<u8>,
}

/// A frame that arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// All of it.
    pub frame: Vec<u8>,
    /// Set when the frame is an echo reply to this host, or the last missing fragment of one.
    pub echo_reply: Option<ReceivedEcho>,
}

/// The host. See the module's description.
pub struct Host {
    cable: Cable,
    configuration: HostConfiguration,
    neighbours: HashMap<Ipv4Addr, MacAddress>,
    reassembly: Reassembly,
    identification: u16,
    ping_identifier: u16,
    leases_acknowledged: u64,
}

impl Host {
    /// A host at the end of `cable`.
    #[must_use]
    pub fn new(cable: Cable, configuration: HostConfiguration) -> Self {
        Self {
            cable,
            configuration,
            neighbours: HashMap::new(),
            reassembly: Reassembly::default(),
            identification: 1,
            ping_identifier: 0,
            leases_acknowledged: 0,
        }
    }

    /// How the host is set up.
    #[must_use]
    pub fn configuration(&self) -> &HostConfiguration {
        &self.configuration
    }

    /// How many times the DHCP server acknowledged its lease to a client.
    #[must_use]
    pub fn leases_acknowledged(&self) -> u64 {
        self.leases_acknowledged
    }

    /// Puts these bytes on the wire as they are.
    ///
    /// # Errors
    ///
    /// Those of [`Cable::send_frame`].
    pub fn inject(&mut self, frame: &[u8]) -> io::Result<()> {
        self.cable.send_frame(frame)
    }

    /// Answers what arrives during `duration`.
    ///
    /// # Errors
    ///
    /// Those of the cable.
    pub fn serve(&mut self, duration: Duration) -> io::Result<()> {
        let end = Instant::now() + duration;
        while self.receive(end.saturating_duration_since(Instant::now()))?.is_some() {}
        Ok(())
    }

    /// Waits up to `timeout` for the next frame; what a host answers by itself (ARP, DHCP, pings) is answered first.
    ///
    /// # Errors
    ///
    /// Those of the cable.
    pub fn receive(&mut self, timeout: Duration) -> io::Result<Option<Arrival>> {
        let Some(frame) = self.cable.recv_frame(timeout)? else { return Ok(None) };
        let at = Instant::now();
        let echo_reply = match packet::parse(&frame) {
            Some((destination, source, packet))
                if destination == self.configuration.mac || destination == BROADCAST =>
            {
                match packet {
                    Packet::Arp(arp) => {
                        self.handle_arp(&arp)?;
                        None
                    }
                    Packet::Ipv4(header, payload) => self.handle_ipv4(source, &header, payload, at)?,
                }
            }
            _ => None,
        };
        Ok(Some(Arrival { at, frame, echo_reply }))
    }

    /// The station address of `address`, asked by ARP once a second until `timeout`.
    ///
    /// # Errors
    ///
    /// Those of the cable.
    pub fn resolve(&mut self, address: Ipv4Addr, timeout: Duration) -> io::Result<Option<MacAddress>> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(mac) = self.neighbours.get(&address) {
                return Ok(Some(*mac));
            }
            let now = Instant::now();
            if now >= end {
                return Ok(None);
            }
            let us = (self.configuration.mac, self.configuration.address);
            let question = packet::arp(ArpOperation::REQUEST, us, ([0; 6], address));
            self.send_to(BROADCAST, EtherType::ARP, &question)?;
            let retry = end.min(now + Duration::from_secs(1));
            while !self.neighbours.contains_key(&address) && Instant::now() < retry {
                self.receive(retry.saturating_duration_since(Instant::now()))?;
            }
        }
    }

    /// Sends an IPv4 datagram to a station, in fragments when it must be.
    ///
    /// # Errors
    ///
    /// Those of the cable; [`io::ErrorKind::InvalidInput`] for a payload that no IPv4 packet holds.
    pub fn send_ipv4(
        &mut self,
        station: MacAddress,
        destination: Ipv4Addr,
        protocol: IpNumber,
        payload: &[u8],
    ) -> io::Result<()> {
        if payload.len() > usize::from(u16::MAX) - Ipv4Header::MIN_LEN {
            let message = format!("{} bytes do not fit an IPv4 packet", payload.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let identification = self.identification;
        self.identification = self.identification.wrapping_add(1);
        let room = self.configuration.maximum_transmission_unit.saturating_sub(Ipv4Header::MIN_LEN);
        for (position, fragment) in cut(payload, room) {
            let source = self.configuration.address;
            let packet = packet::ipv4(source, destination, protocol, identification, position, fragment)
                .ok_or(io::ErrorKind::InvalidInput)?;
            self.send_to(station, EtherType::IPV4, &packet)?;
        }
        Ok(())
    }

    /// Sends an echo request to a station.
    ///
    /// # Errors
    ///
    /// Those of [`Host::send_ipv4`].
    pub fn send_echo_request(
        &mut self,
        station: MacAddress,
        destination: Ipv4Addr,
        identifier: u16,
        sequence: u16,
        payload: &[u8],
    ) -> io::Result<()> {
        let echo = Icmpv4Type::EchoRequest(etherparse::IcmpEchoHeader { id: identifier, seq: sequence });
        self.send_ipv4(station, destination, IpNumber::ICMP, &icmp(echo, payload))
    }

    /// Each run of pings has its own ICMP identifier, so that late replies to the one before are not mistaken.
    pub(crate) fn next_ping_identifier(&mut self) -> u16 {
        self.ping_identifier = self.ping_identifier.wrapping_add(1);
        self.ping_identifier
    }

    fn send_to(&mut self, destination: MacAddress, ether_type: EtherType, payload: &[u8]) -> io::Result<()> {
        let frame = packet::ethernet(destination, self.configuration.mac, ether_type, payload);
        self.cable.send_frame(&frame)
    }

    fn handle_arp(&mut self, arp: &etherparse::ArpEthIpv4Packet) -> io::Result<()> {
        let us = (self.configuration.mac, self.configuration.address);
        let sender = Ipv4Addr::from(arp.sender_ipv4);
        if Ipv4Addr::from(arp.target_ipv4) != us.1 {
            return Ok(());
        }
        if !sender.is_unspecified() {
            self.neighbours.insert(sender, arp.sender_mac);
        }
        if arp.operation == ArpOperation::REQUEST {
            let reply = packet::arp(ArpOperation::REPLY, us, (arp.sender_mac, sender));
            self.send_to(arp.sender_mac, EtherType::ARP, &reply)?;
        }
        Ok(())
    }

    fn handle_ipv4(
        &mut self,
        station: MacAddress,
        header: &Ipv4Header,
        payload: &[u8],
        now: Instant,
    ) -> io::Result<Option<ReceivedEcho>> {
        let whole;
        let payload = if header.is_fragmenting_payload() {
            match self.reassembly.add(header, payload, now) {
                Some(datagram) => {
                    whole = datagram;
                    &whole[..]
                }
                None => return Ok(None),
            }
        } else {
            payload
        };
        let destination = Ipv4Addr::from(header.destination);
        match header.protocol {
            IpNumber::ICMP if destination == self.configuration.address => {
                self.handle_icmp(station, header, payload)
            }
            IpNumber::UDP => self.handle_udp(station, payload).map(|()| None),
            _ => Ok(None),
        }
    }

    fn handle_icmp(
        &mut self,
        station: MacAddress,
        header: &Ipv4Header,
        message: &[u8],
    ) -> io::Result<Option<ReceivedEcho>> {
        let Ok((icmp_header, payload)) = Icmpv4Header::from_slice(message) else { return Ok(None) };
        if icmp_header.icmp_type.calc_checksum(payload) != icmp_header.checksum {
            return Ok(None);
        }
        let source = Ipv4Addr::from(header.source);
        match icmp_header.icmp_type {
            Icmpv4Type::EchoReply(echo) => Ok(Some(ReceivedEcho {
                source,
                identifier: echo.id,
                sequence: echo.seq,
                time_to_live: header.time_to_live,
                payload: payload.to_vec(),
            })),
            Icmpv4Type::EchoRequest(echo) => {
                let reply = icmp(Icmpv4Type::EchoReply(echo), payload);
                self.send_ipv4(station, source, IpNumber::ICMP, &reply)?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn handle_udp(&mut self, station: MacAddress, datagram: &[u8]) -> io::Result<()> {
        let Some(lease) = self.configuration.lease else { return Ok(()) };
        let Ok((udp, payload)) = UdpHeader::from_slice(datagram) else { return Ok(()) };
        if udp.destination_port != dhcp::SERVER_PORT {
            return Ok(());
        }
        let server = self.configuration.address;
        let Some(message) = dhcp::Message::parse(payload) else { return Ok(()) };
        let Some(answer) = dhcp::answer(server, &lease, &message) else { return Ok(()) };
        let header = UdpHeader::with_ipv4_checksum(
            dhcp::SERVER_PORT,
            dhcp::CLIENT_PORT,
            &etherparse::Ipv4Header {
                source: server.octets(),
                destination: answer.destination.octets(),
                protocol: IpNumber::UDP,
                ..Default::default()
            },
            &answer.payload,
        );
        let Ok(header) = header else { return Ok(()) };
        let mut reply = header.to_bytes().to_vec();
        reply.extend_from_slice(&answer.payload);
        if answer.kind == dhcp::MessageType::Acknowledge {
            self.leases_acknowledged += 1;
        }
        let station = if answer.destination.is_broadcast() { BROADCAST } else { station };
        self.send_ipv4(station, answer.destination, IpNumber::UDP, &reply)
    }
}

/// An ICMP message with its checksum.
fn icmp(kind: Icmpv4Type, payload: &[u8]) -> Vec<u8> {
    let mut message = Icmpv4Header::with_checksum(kind, payload).to_bytes().to_vec();
    message.extend_from_slice(payload);
    message
}

/// A whole frame with an echo request in it, for whoever wants to spoil it before it is injected.
///
/// `None` when the payload does not fit one IPv4 packet.
#[must_use]
pub fn echo_request_frame(
    stations: (MacAddress, MacAddress),
    addresses: (Ipv4Addr, Ipv4Addr),
    identifier: u16,
    sequence: u16,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let echo = Icmpv4Type::EchoRequest(etherparse::IcmpEchoHeader { id: identifier, seq: sequence });
    let (source, destination) = addresses;
    let message = icmp(echo, payload);
    let whole = FragmentPosition::default();
    let packet = packet::ipv4(source, destination, IpNumber::ICMP, 0, whole, &message)?;
    Some(packet::ethernet(stations.1, stations.0, EtherType::IPV4, &packet))
}
