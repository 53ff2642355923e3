//! The seam to the protocol stack behind the echo path: smoltcp for DHCP, ARP resolution and what comes later.
//!
//! Frames that the echo path does not answer are queued here; [`Stack::poll`] lets smoltcp work through them and puts
//! what it sends into a transmit queue. Nothing of smoltcp is visible outside this module. It is polled only when a
//! frame came or one of its timers is due, and its own echo replies are compiled out.

use alloc::boxed::Box;
use alloc::vec::Vec;

use hal::time::{Duration, Instant};
use netbuf::{Memory, NetBuf, Queue};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::dhcpv4;
use smoltcp::wire::{
    DHCP_SERVER_PORT, DhcpMessageType, DhcpPacket, EthernetAddress, HardwareAddress, IpCidr, Ipv4Address,
    Ipv4Cidr, UdpPacket,
};
use zerocopy::FromBytes;

use super::counters::{Counters, DropReason};
use super::wire::arp;
use super::wire::ethernet;
use super::wire::ipv4::{self, Address, Subnet};

/// The option that says which DHCP message it is (RFC 2132, 9.6).
const DHCP_MESSAGE_TYPE: u8 = 53;
/// Frames that wait for the next poll; more are refused.
const WAITING_FRAMES: usize = 64;
/// Every IPv4 host takes packets of this many bytes (RFC 791, 3.1), and smoltcp counts on it.
const SMALLEST_MTU: usize = 576;
/// ARP requests of ours whose replies are let in.
const ASKED: usize = 4;
/// A lost discovery is repeated after this time: the first one often leaves before the switch port forwards.
const DISCOVER_TIMEOUT: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(3);

/// What a poll found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// DHCP servers were asked who has an address to lease.
    Discovered {
        /// 1 for the first time since DHCP was started or a lease was held.
        attempt: u32,
    },
    /// A DHCP server leased an address.
    Leased {
        /// Address and prefix.
        subnet: Subnet,
        /// The router it named.
        gateway: Option<Address>,
    },
    /// The lease is over.
    LeaseLost,
}

/// The protocol stack of one interface.
pub struct Stack {
    interface: Box<Interface>,
    sockets: SocketSet<'static>,
    port: Port,
    dhcp: Option<SocketHandle>,
    /// Of the port's discoveries, those that are known outside.
    discoveries_told: u32,
}

impl Stack {
    /// A stack without an address. `station` must be a unicast address; an `mtu` below 576, which no IPv4 link may have,
    /// counts as 576; `seed` makes its identifiers unpredictable.
    #[must_use]
    pub fn new(memory: &Memory, station: ethernet::Address, mtu: usize, seed: u64, now: Instant) -> Self {
        let mut port = Port {
            memory: memory.clone(),
            received: Queue::new(),
            transmit: Queue::new(),
            transmit_bytes: 0,
            frame_length: mtu.max(SMALLEST_MTU) + ethernet::HEADER_LENGTH,
            asked: [None; ASKED],
            next_asked: 0,
            discoveries: 0,
        };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(station.0)));
        config.random_seed = seed;
        let interface = Box::new(Interface::new(config, &mut port, time(now)));
        Self { interface, sockets: SocketSet::new(Vec::new()), port, dhcp: None, discoveries_told: 0 }
    }

    /// Asks for an address from now on, from the beginning if a lease was held.
    pub fn start_dhcp(&mut self) {
        self.count_discoveries_anew();
        match self.dhcp {
            Some(handle) => self.sockets.get_mut::<dhcpv4::Socket>(handle).reset(),
            None => {
                let mut socket = dhcpv4::Socket::new();
                let mut retry = socket.get_retry_config();
                retry.discover_timeout = DISCOVER_TIMEOUT;
                socket.set_retry_config(retry);
                self.dhcp = Some(self.sockets.add(socket));
            }
        }
    }

    /// Whether DHCP messages are of interest.
    #[must_use]
    pub fn uses_dhcp(&self) -> bool {
        self.dhcp.is_some()
    }

    /// Sets or removes the address that the stack uses.
    pub fn set_address(&mut self, address: Option<(Subnet, Option<Address>)>) {
        // smoltcp panics on addresses that no host may have; none gets here, but what comes from a lease is checked
        // where it is used.
        let address = address.filter(|(subnet, _)| subnet.is_host());
        self.interface.update_ip_addrs(|list| {
            list.clear();
            if let Some((subnet, _)) = address {
                let cidr = Ipv4Cidr::new(Ipv4Address::from(subnet.address.0), subnet.prefix);
                // One entry always fits.
                let _ = list.push(IpCidr::Ipv4(cidr));
            }
        });
        let routes = self.interface.routes_mut();
        routes.remove_default_ipv4_route();
        if let Some((_, Some(gateway))) = address {
            // One entry always fits.
            let _ = routes.add_default_ipv4_route(Ipv4Address::from(gateway.0));
        }
    }

    /// Whether an ARP reply from this address answers a recent request of ours.
    #[must_use]
    pub fn has_asked(&self, address: Address) -> bool {
        self.port.asked.contains(&Some(address))
    }

    /// Queues a frame for the next poll.
    ///
    /// # Errors
    ///
    /// [`DropReason::StackFull`] when too many wait already, [`DropReason::Memory`] when the frame cannot be made one
    /// piece, which smoltcp needs.
    pub fn receive(&mut self, mut frame: NetBuf) -> Result<(), DropReason> {
        if self.port.received.len() >= WAITING_FRAMES {
            return Err(DropReason::StackFull);
        }
        frame.linearize().map_err(|_| DropReason::Memory)?;
        self.port.received.push_back(frame);
        Ok(())
    }

    /// Lets the stack work; what it sends goes to the end of `transmit` and is counted. At most one event per call: the
    /// caller asks again until there is none.
    pub fn poll(&mut self, now: Instant, transmit: &mut Queue, counters: &Counters) -> Option<Event> {
        self.interface.poll(time(now), &mut self.port, &mut self.sockets);
        counters.tx_frames.add(self.port.transmit.len() as u64);
        counters.tx_bytes.add(core::mem::take(&mut self.port.transmit_bytes));
        transmit.append(&mut self.port.transmit);
        let dhcp = self.dhcp?;
        if self.port.discoveries != self.discoveries_told {
            self.discoveries_told = self.port.discoveries;
            return Some(Event::Discovered { attempt: self.discoveries_told });
        }
        let socket = self.sockets.get_mut::<dhcpv4::Socket>(dhcp);
        match socket.poll()? {
            dhcpv4::Event::Deconfigured => Some(Event::LeaseLost),
            dhcpv4::Event::Configured(config) => {
                let subnet = Subnet {
                    address: Address(config.address.address().octets()),
                    prefix: config.address.prefix_len(),
                };
                let gateway =
                    config.router.map(|router| Address(router.octets())).filter(|router| router.is_unicast());
                if subnet.is_host() {
                    self.count_discoveries_anew();
                    Some(Event::Leased { subnet, gateway })
                } else {
                    log::error!("DHCP server offered {subnet}, which no host may have; asking again");
                    socket.reset();
                    None
                }
            }
        }
    }

    fn count_discoveries_anew(&mut self) {
        self.port.discoveries = 0;
        self.discoveries_told = 0;
    }

    /// Whether frames wait, or a timer is due at `now`.
    #[must_use]
    pub fn is_due(&mut self, now: Instant) -> bool {
        !self.port.received.is_empty() || self.deadline(now).is_some_and(|at| at <= now)
    }

    /// When a timer of the stack is due; `None` when none runs.
    #[must_use]
    pub fn deadline(&mut self, now: Instant) -> Option<Instant> {
        // Without sockets nothing is repeated.
        self.sockets.iter().next()?;
        let delay = self.interface.poll_delay(time(now), &self.sockets)?;
        Some(now + Duration::from_micros(delay.total_micros()))
    }
}

impl core::fmt::Debug for Stack {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("Stack").field("dhcp", &self.uses_dhcp()).finish_non_exhaustive()
    }
}

fn time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(now.nanoseconds() / 1000).unwrap_or(i64::MAX))
}

/// The interface's two queues, as smoltcp sees them.
struct Port {
    memory: Memory,
    received: Queue,
    transmit: Queue,
    frame_length: usize,
    /// Bytes in `transmit`.
    transmit_bytes: u64,
    /// Addresses that were asked for by ARP, newest overwriting oldest.
    asked: [Option<Address>; ASKED],
    next_asked: usize,
    /// DHCP discoveries sent.
    discoveries: u32,
}

impl Port {
    /// Room for one frame to send.
    fn frame(&self) -> Option<NetBuf> {
        NetBuf::rx_alloc(&self.memory, self.frame_length).ok()
    }

    /// Remembers what a frame of ours asks for, if anything.
    fn remember_request(&mut self, frame: &[u8]) {
        let Ok((header, packet)) = ethernet::Header::ref_from_prefix(frame) else { return };
        match header.ethertype.get() {
            ethernet::TYPE_ARP => {
                let Ok((packet, _)) = arp::Packet::ref_from_prefix(packet) else { return };
                if packet.operation.get() == arp::REQUEST {
                    let slot = self.next_asked % ASKED;
                    self.asked[slot] = Some(packet.target);
                    self.next_asked = slot + 1;
                }
            }
            ethernet::TYPE_IPV4 if is_discovery(packet) == Some(true) => self.discoveries += 1,
            _ => {}
        }
    }
}

/// Whether an IPv4 packet of ours is a DHCPDISCOVER (RFC 2131, 3.1); `None` when it is not even DHCP.
fn is_discovery(packet: &[u8]) -> Option<bool> {
    let (header, _) = ipv4::Header::ref_from_prefix(packet).ok()?;
    let datagram = UdpPacket::new_checked(packet.get(header.length()..)?).ok()?;
    if header.protocol != ipv4::PROTOCOL_UDP || datagram.dst_port() != DHCP_SERVER_PORT {
        return None;
    }
    let message = DhcpPacket::new_checked(datagram.payload()).ok()?;
    let mut options = message.options();
    let kind = options.find(|option| option.kind == DHCP_MESSAGE_TYPE)?;
    Some(kind.data == [u8::from(DhcpMessageType::Discover)])
}

impl Device for Port {
    type RxToken<'p> = Received;
    type TxToken<'p> = Sending<'p>;

    fn receive(&mut self, _now: smoltcp::time::Instant) -> Option<(Received, Sending<'_>)> {
        // Without room to answer, the frame waits.
        let room = self.frame()?;
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sending { port: self, frame: room }))
    }

    fn transmit(&mut self, _now: smoltcp::time::Instant) -> Option<Sending<'_>> {
        let frame = self.frame()?;
        Some(Sending { port: self, frame })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.frame_length;
        capabilities
    }
}

struct Received(NetBuf);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0.data())
    }
}

struct Sending<'p> {
    port: &'p mut Port,
    frame: NetBuf,
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, length: usize, write: F) -> R {
        match self.frame.put(length) {
            Ok(bytes) => {
                let result = write(bytes);
                self.port.remember_request(self.frame.data());
                self.port.transmit_bytes += length as u64;
                self.port.transmit.push_back(self.frame);
                result
            }
            Err(_) => {
                // Longer than the interface's MTU, which smoltcp knows: let it write somewhere, send nothing.
                log::error!("the protocol stack wanted to send {length} bytes, more than a frame holds");
                write(&mut alloc::vec![0; length])
            }
        }
    }
}
