//! What happens to a received frame: answered in place, held for its other fragments, passed on, or dropped.
//!
//! Every frame leaves here exactly one way, and one that is dropped names one reason. The checks follow RFC 1122
//! section 3.2 and the rows of `docs/hardware/icmp-responder.md`; the order is that of the headers.

use alloc::sync::Arc;

use hal::time::Instant;
use netbuf::{NetBuf, Queue};
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

use super::configuration::Configuration;
use super::conflict::{Conflict, Detector};
use super::counters::{Counters, DropReason};
use super::echo::{self, Limiter, Part, Responder};
use super::reassembly::{self, Fragment, Reassembler};
use super::wire::ipv4::{self, Address, Header, Malformed, Subnet};
use super::wire::{arp, checksum, ethernet, icmpv4};

/// Headers that are looked at in one piece: Ethernet, IPv4 without options, ICMP. An ARP packet is as long.
const HEADERS: usize = ethernet::HEADER_LENGTH + ipv4::HEADER_LENGTH + icmpv4::HEADER_LENGTH;

/// Where a frame goes that is neither answered nor dropped here.
#[derive(Debug)]
pub enum Next {
    /// It was answered, or is held.
    Done,
    /// The protocol stack wants it.
    Stack(NetBuf),
}

/// The receiving side of one interface.
#[derive(Debug)]
pub struct Receiver {
    station: ethernet::Address,
    /// The address in use.
    address: Option<Subnet>,
    echo_broadcast: bool,
    /// Print what backs each request.
    inspect: bool,
    limiter: Limiter,
    reassembler: Reassembler,
    /// Identification of the next fragmented reply: unique for as long as a datagram may live (RFC 6864, 4.3).
    identification: u16,
    counters: Arc<Counters>,
}

/// What the receiver needs from the rest of the interface while it looks at a frame.
pub struct Surroundings<'i> {
    /// The time.
    pub now: Instant,
    /// Where replies go.
    pub transmit: &'i mut Queue,
    /// Guards our address.
    pub detector: Option<&'i mut Detector>,
    /// Whether DHCP messages are of interest.
    pub dhcp: bool,
    /// Whether the stack waits for ARP replies from an address.
    pub asked: &'i dyn Fn(Address) -> bool,
}

impl Receiver {
    /// The receiving side of an interface that has no address yet.
    #[must_use]
    pub fn new(
        station: ethernet::Address,
        configuration: &Configuration,
        counters: Arc<Counters>,
        now: Instant,
    ) -> Self {
        Self {
            station,
            address: None,
            echo_broadcast: configuration.echo.broadcast,
            inspect: configuration.inspect.icmp,
            limiter: Limiter::new(configuration.echo.rate, now),
            reassembler: Reassembler::new(configuration.reassembly),
            identification: 1,
            counters,
        }
    }

    /// Sets the address that requests are answered for; `None` while there is none.
    pub fn set_address(&mut self, address: Option<Subnet>) {
        self.address = address;
    }

    /// Deals with one frame.
    ///
    /// # Errors
    ///
    /// Why it was dropped; the caller counts it.
    pub fn receive(&mut self, mut frame: NetBuf, around: &mut Surroundings<'_>) -> Result<Next, DropReason> {
        let length = frame.len();
        pull_headers(&mut frame, HEADERS)?;
        let Ok((header, packet)) = ethernet::Header::ref_from_prefix(frame.data()) else {
            return Err(DropReason::EthernetTruncated);
        };
        let to_group = header.destination.is_group();
        if !to_group && header.destination != self.station {
            return Err(DropReason::OtherStation);
        }
        if header.source.is_group() {
            return Err(DropReason::EthernetSource);
        }
        match header.ethertype.get() {
            ethernet::TYPE_IPV4 => {
                if let Some(options) = ipv4::options_length(packet) {
                    pull_headers(&mut frame, HEADERS + options)?;
                }
                let packet = &frame.data()[ethernet::HEADER_LENGTH..];
                let ip = *Header::check(packet, length - ethernet::HEADER_LENGTH)?;
                self.receive_ipv4(frame, ip, to_group, around)
            }
            ethernet::TYPE_ARP => {
                let (packet, _) =
                    arp::Packet::ref_from_prefix(packet).map_err(|_| DropReason::ArpMalformed)?;
                let packet = *packet;
                self.receive_arp(frame, &packet, around)
            }
            _ => Err(DropReason::EtherType),
        }
    }

    fn receive_ipv4(
        &mut self,
        mut frame: NetBuf,
        ip: Header,
        to_group: bool,
        around: &mut Surroundings<'_>,
    ) -> Result<Next, DropReason> {
        let total = usize::from(ip.total_length.get());
        let Some(subnet) = self.address else {
            // Without an address only the answers of a DHCP server are of interest (RFC 2131, 4.1).
            let wanted = around.dhcp && is_dhcp_answer(&frame, &ip);
            return if wanted { Ok(Next::Stack(frame)) } else { Err(DropReason::Ipv4Destination) };
        };
        if !ip.source.is_unicast() || subnet.is_broadcast(ip.source) || ip.source == subnet.address {
            return Err(DropReason::Ipv4Source);
        }
        let to_us = ip.destination == subnet.address;
        if to_group && to_us {
            // A DHCP server may send its answer to the broadcast station address.
            let wanted = around.dhcp && is_dhcp_answer(&frame, &ip);
            return if wanted { Ok(Next::Stack(frame)) } else { Err(DropReason::LinkBroadcast) };
        }
        if !to_us && !ip.destination.is_multicast() && !subnet.is_broadcast(ip.destination) {
            return Err(DropReason::Ipv4Destination);
        }
        // The Ethernet frame may be longer than the packet: padding.
        let end = ethernet::HEADER_LENGTH + total;
        if frame.len() > end {
            frame.trim(end).map_err(|_| DropReason::Memory)?;
        }
        if ip.protocol != ipv4::PROTOCOL_ICMP {
            return match (ip.is_fragment(), to_us) {
                (true, _) => Err(DropReason::FragmentProtocol),
                (false, true) => Ok(Next::Stack(frame)),
                (false, false) if around.dhcp && is_dhcp_answer(&frame, &ip) => Ok(Next::Stack(frame)),
                (false, false) => Err(DropReason::Ipv4Destination),
            };
        }
        if !to_us && !self.echo_broadcast {
            return Err(DropReason::EchoBroadcast);
        }
        let responder = Responder { station: self.station, address: subnet.address, now: around.now };
        if ip.is_fragment() {
            return self.receive_fragment(frame, ip, &responder, around);
        }
        let message = ethernet::HEADER_LENGTH + ip.length()..end;
        if message.len() < icmpv4::HEADER_LENGTH {
            return Err(DropReason::IcmpTruncated);
        }
        if !echo::checksum_holds(&frame, message.clone()) {
            return Err(DropReason::IcmpChecksum);
        }
        if frame.data().get(message.start) != Some(&icmpv4::ECHO_REQUEST) {
            return Err(DropReason::IcmpType);
        }
        if self.inspect {
            inspect(&frame);
        }
        self.counters.echo_requests.count();
        if !self.limiter.allows(around.now) {
            return Err(DropReason::EchoRate);
        }
        echo::turn(&mut frame, ip.length(), Part::Whole, &responder)?;
        self.counters.echo_replies.count();
        self.send(frame, around.transmit);
        Ok(Next::Done)
    }

    fn receive_fragment(
        &mut self,
        frame: NetBuf,
        ip: Header,
        responder: &Responder,
        around: &mut Surroundings<'_>,
    ) -> Result<Next, DropReason> {
        let counters = &self.counters;
        let give_up = |reason, frames| counters.drop_frames(reason, frames);
        match self.reassembler.insert(frame, ip, around.now, give_up) {
            reassembly::Outcome::Held => return Ok(Next::Done),
            reassembly::Outcome::Dropped(reason, frames) => {
                // The caller counts the frame at hand.
                self.counters.drop_frames(reason, frames - 1);
                return Err(reason);
            }
            reassembly::Outcome::Whole => {}
        }
        let mut fragments = core::mem::take(self.reassembler.take_whole());
        let answer = self.answer_whole(&mut fragments, responder, around);
        // What was not answered is dropped; its frames count under the one reason.
        let left = fragments.len() as u64;
        fragments.clear();
        *self.reassembler.take_whole() = fragments;
        match answer {
            Ok(()) => Ok(Next::Done),
            Err(reason) => {
                self.counters.drop_frames(reason, left.saturating_sub(1));
                Err(reason)
            }
        }
    }

    /// Answers a datagram with its own fragments, in order.
    fn answer_whole(
        &mut self,
        fragments: &mut alloc::vec::Vec<Fragment>,
        responder: &Responder,
        around: &mut Surroundings<'_>,
    ) -> Result<(), DropReason> {
        self.counters.reassembled.count();
        // Every fragment but the last has a multiple of eight bytes, so the sums of the parts add up.
        let mut sum = 0;
        for fragment in fragments.iter() {
            let part = fragment.frame.checksum(fragment.payload()).map_err(|_| DropReason::Memory)?;
            sum = checksum::fold(u64::from(sum) + u64::from(part));
        }
        if sum != 0xffff {
            return Err(DropReason::IcmpChecksum);
        }
        let kind = fragments.first().and_then(|first| first.frame.data().get(first.payload().start));
        if kind != Some(&icmpv4::ECHO_REQUEST) {
            return Err(DropReason::IcmpType);
        }
        if self.inspect {
            fragments.iter().for_each(|fragment| inspect(&fragment.frame));
        }
        self.counters.echo_requests.count();
        if !self.limiter.allows(around.now) {
            return Err(DropReason::EchoRate);
        }
        let part = Part::Fragment { identification: self.identification };
        self.identification = self.identification.wrapping_add(1);
        for fragment in fragments.iter_mut() {
            echo::turn(&mut fragment.frame, fragment.header_length, part, responder)?;
        }
        for fragment in fragments.drain(..) {
            self.send(fragment.frame, around.transmit);
        }
        self.counters.echo_replies.count();
        Ok(())
    }

    fn receive_arp(
        &mut self,
        mut frame: NetBuf,
        packet: &arp::Packet,
        around: &mut Surroundings<'_>,
    ) -> Result<Next, DropReason> {
        if !packet.is_ethernet_ipv4() {
            return Err(DropReason::ArpMalformed);
        }
        // A probe has no sender address yet (RFC 5227, 1.1).
        let sender_is_host = packet.sender.is_unicast() || packet.sender == Address::UNSPECIFIED;
        let subnet_broadcast = self.address.is_some_and(|subnet| subnet.is_broadcast(packet.sender));
        if !packet.sender_hardware.is_unicast() || !sender_is_host || subnet_broadcast {
            return Err(DropReason::ArpSender);
        }
        if let Some(detector) = around.detector.as_deref_mut()
            && let Some(conflict) = detector.observe(packet, around.now)
        {
            self.counters.address_conflicts.count();
            let address = detector.subnet().address;
            if let Conflict::InUse { other, defended: true } = conflict {
                log::warn!("{other} uses our address {address}; it is defended");
            }
        }
        match packet.operation.get() {
            arp::REQUEST => {
                let ours = self.address.is_some_and(|subnet| subnet.address == packet.target);
                // One that claims our own address is no question.
                if !ours || packet.sender == packet.target || packet.sender_hardware == self.station {
                    return Err(DropReason::ArpOtherTarget);
                }
                frame.trim(ethernet::HEADER_LENGTH + arp::LENGTH).map_err(|_| DropReason::Memory)?;
                let head = frame.data_mut().map_err(|_| DropReason::Memory)?;
                let (header, packet) =
                    ethernet::Header::mut_from_prefix(head).map_err(|_| DropReason::EthernetTruncated)?;
                let (packet, _) =
                    arp::Packet::mut_from_prefix(packet).map_err(|_| DropReason::ArpMalformed)?;
                header.destination = packet.sender_hardware;
                header.source = self.station;
                packet.turn(self.station);
                self.counters.arp_replies.count();
                self.send(frame, around.transmit);
                Ok(Next::Done)
            }
            arp::REPLY if (around.asked)(packet.sender) => Ok(Next::Stack(frame)),
            arp::REPLY => Err(DropReason::ArpUnsolicited),
            _ => Err(DropReason::ArpMalformed),
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.reassembler.deadline()
    }

    /// Gives up datagrams that did not become whole in time, and tells their senders (RFC 1122, 3.3.2).
    pub fn expire(&mut self, now: Instant, transmit: &mut Queue) {
        while let Some((frames, first)) = self.reassembler.expire(now) {
            self.counters.drop_frames(DropReason::FragmentTimeout, frames);
            if let Some(first) = first
                && let Some(error) = time_exceeded(first, self.station, self.address)
            {
                self.counters.icmp_errors.count();
                self.send(error, transmit);
            }
        }
    }

    fn send(&self, frame: NetBuf, transmit: &mut Queue) {
        self.counters.tx_frames.count();
        self.counters.tx_bytes.add(frame.len() as u64);
        transmit.push_back(frame);
    }
}

/// Makes the first `wanted` bytes of a frame linear, or all if it has fewer.
#[inline]
fn pull_headers(frame: &mut NetBuf, wanted: usize) -> Result<(), DropReason> {
    let wanted = wanted.min(frame.len());
    if frame.head_len() < wanted {
        frame.may_pull(wanted).map_err(|_| DropReason::Memory)?;
    }
    Ok(())
}

/// Whether a UDP datagram goes from a DHCP server's port to a client's.
fn is_dhcp_answer(frame: &NetBuf, ip: &Header) -> bool {
    let ports = ethernet::HEADER_LENGTH + ip.length();
    ip.protocol == ipv4::PROTOCOL_UDP
        && !ip.is_fragment()
        && frame.data().get(ports..ports + 4) == Some(&[0, 67, 0, 68])
}

/// Prints what backs the buffer of a request and a copy of it, as `skb_test` of `docs/hardware/sk_buff.md` does.
#[cold]
fn inspect(request: &NetBuf) {
    log::info!("[skb] {}", request.inspect());
    match request.copy() {
        Ok(copy) => log::info!("[skb2] {}", copy.inspect()),
        Err(error) => log::warn!("[skb2] {error}"),
    }
}

/// Builds "fragment reassembly time exceeded" in the frame of the first fragment: its IPv4 header and the first eight
/// bytes of its payload go back behind new headers (RFC 792).
fn time_exceeded(first: Fragment, station: ethernet::Address, own: Option<Subnet>) -> Option<NetBuf> {
    let Fragment { mut frame, header_length, .. } = first;
    let (ethernet, packet) = ethernet::Header::ref_from_prefix(frame.data()).ok()?;
    let (ip, _) = Header::ref_from_prefix(packet).ok()?;
    let (peer, source, destination) = (ethernet.source, ip.source, ip.destination);
    // Never about a datagram that was not for us alone (RFC 1122, 3.2.2).
    if own.is_none_or(|subnet| subnet.address != destination) || ethernet.destination.is_group() {
        return None;
    }
    frame.pull(ethernet::HEADER_LENGTH).ok()?;
    let quoted = header_length + 8;
    if frame.len() > quoted {
        frame.trim(quoted).ok()?;
    }
    let mut icmp = icmpv4::Header {
        kind: icmpv4::TIME_EXCEEDED,
        code: icmpv4::REASSEMBLY_TIME_EXCEEDED,
        checksum: U16::ZERO,
        rest: [0; 4],
    };
    let sum = checksum::sum(frame.data(), checksum::sum(icmp.as_bytes(), 0));
    icmp.checksum = U16::new(!sum);
    frame.push(icmpv4::HEADER_LENGTH).ok()?.copy_from_slice(icmp.as_bytes());
    let total = u16::try_from(frame.len() + ipv4::HEADER_LENGTH).ok()?;
    let mut ip = Header::new(ipv4::PROTOCOL_ICMP, destination, source, total);
    // RFC 1812, 4.3.2.5: errors travel with internetwork control precedence.
    ip.type_of_service = 0xc0;
    ip.seal();
    frame.push(ipv4::HEADER_LENGTH).ok()?.copy_from_slice(ip.as_bytes());
    let header =
        ethernet::Header { destination: peer, source: station, ethertype: U16::new(ethernet::TYPE_IPV4) };
    frame.push(ethernet::HEADER_LENGTH).ok()?.copy_from_slice(header.as_bytes());
    Some(frame)
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Truncated => Self::Ipv4Truncated,
            Malformed::Version => Self::Ipv4Version,
            Malformed::Length => Self::Ipv4Length,
            Malformed::Checksum => Self::Ipv4Checksum,
        }
    }
}
