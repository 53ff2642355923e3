//! A TCP host on the cable: it gives a known stream of bytes to whoever connects to one port, and takes it back on
//! another, comparing. smoltcp checks every checksum, so that segmentation and checksum offload of the adapter are
//! judged by somebody else than us.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lab_wire::Cable;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

/// Who asks here gets the stream.
pub const GIVING_PORT: u16 = 5002;
/// Who sends here is compared.
pub const TAKING_PORT: u16 = 5001;
/// Bytes of the stream.
pub const LENGTH: usize = 4 << 20;
/// Buffers of each socket, in bytes.
const BUFFER: usize = 64 << 10;
/// How long to wait for a frame at most.
const TURN: Duration = Duration::from_millis(20);

/// What has been transferred since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streamed {
    /// Bytes given.
    pub given: usize,
    /// How long that took.
    pub giving_time: Duration,
    /// Bytes taken back.
    pub taken: usize,
    /// How long that took.
    pub taking_time: Duration,
    /// Bytes taken that were not the stream's.
    pub wrong: usize,
}

/// The host; it ends with its cable.
#[derive(Clone)]
pub struct StreamHost(Arc<Mutex<Streamed>>);

impl StreamHost {
    /// A host with this address at the end of `cable`, on a thread of its own.
    #[must_use]
    pub fn start(cable: Cable, address: Ipv4Addr) -> Self {
        let streamed = Arc::new(Mutex::new(Streamed::default()));
        let host = Self(Arc::clone(&streamed));
        thread::spawn(move || serve(Port { cable, arrived: None }, address, &streamed));
        host
    }

    /// What has been transferred since the last call.
    #[must_use]
    pub fn take(&self) -> Streamed {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The `at`th byte of the stream: neither constant nor of a period that a packet size shares.
fn stream_byte(at: usize) -> u8 {
    (at.wrapping_mul(0x9e37_79b1) >> 13) as u8
}

/// Our end of the cable, as smoltcp wants it.
struct Port {
    cable: Cable,
    arrived: Option<Vec<u8>>,
}

struct Arrived(Vec<u8>);

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

struct Departing<'a>(&'a mut Cable);

impl phy::TxToken for Departing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        // A frame that a full or cut cable does not take is lost: TCP sends it again.
        let _ = self.0.send_frame(&frame);
        result
    }
}

impl phy::Device for Port {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Departing<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Arrived, Departing<'_>)> {
        let frame = self.arrived.take()?;
        Some((Arrived(frame), Departing(&mut self.cable)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Departing<'_>> {
        Some(Departing(&mut self.cable))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// One socket and where it stands in the stream.
struct Stream {
    handle: SocketHandle,
    port: u16,
    at: usize,
    since: Option<Instant>,
}

impl Stream {
    fn new(sockets: &mut SocketSet<'_>, port: u16) -> Self {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self { handle, port, at: 0, since: None }
    }

    /// Moves what can be moved.
    fn advance(&mut self, sockets: &mut SocketSet<'_>, streamed: &Mutex<Streamed>) {
        let socket = sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        if !socket.is_open() {
            self.at = 0;
            self.since = None;
            // Fails only for port zero.
            let _ = socket.listen(self.port);
            return;
        }
        let before = self.at;
        let mut wrong = 0;
        if self.port == GIVING_PORT {
            while socket.can_send() && self.at < LENGTH {
                let at = self.at;
                let sent = socket.send(|space| {
                    let count = space.len().min(LENGTH - at);
                    for (i, byte) in space[..count].iter_mut().enumerate() {
                        *byte = stream_byte(at + i);
                    }
                    (count, count)
                });
                self.at += sent.unwrap_or(0);
            }
            if self.at == LENGTH {
                socket.close();
            }
        } else {
            while socket.can_recv() {
                let at = self.at;
                let received = socket.recv(|bytes| {
                    wrong +=
                        bytes.iter().enumerate().filter(|(i, byte)| **byte != stream_byte(at + i)).count();
                    (bytes.len(), bytes.len())
                });
                self.at += received.unwrap_or(0);
            }
            if !socket.may_recv() && socket.may_send() {
                socket.close();
            }
        }
        if self.at == before {
            return;
        }
        let elapsed = self.since.get_or_insert_with(Instant::now).elapsed();
        let mut streamed = streamed.lock().unwrap_or_else(PoisonError::into_inner);
        streamed.wrong += wrong;
        if self.port == GIVING_PORT {
            (streamed.given, streamed.giving_time) = (self.at, elapsed);
        } else {
            (streamed.taken, streamed.taking_time) = (self.at, elapsed);
        }
    }
}

fn serve(mut port: Port, address: Ipv4Addr, streamed: &Mutex<Streamed>) {
    let epoch = Instant::now();
    let now = || {
        smoltcp::time::Instant::from_micros(i64::try_from(epoch.elapsed().as_micros()).unwrap_or(i64::MAX))
    };
    let station = EthernetAddress([0x52, 0x55, 10, 0, 0, 3]);
    let mut interface = Interface::new(Config::new(HardwareAddress::Ethernet(station)), &mut port, now());
    interface.update_ip_addrs(|addresses| {
        // There is room for one address.
        let _ = addresses.push(IpCidr::new(address.into(), 24));
    });
    let mut sockets = SocketSet::new(Vec::new());
    let mut streams = [GIVING_PORT, TAKING_PORT].map(|port| Stream::new(&mut sockets, port));
    loop {
        for stream in &mut streams {
            stream.advance(&mut sockets, streamed);
        }
        interface.poll(now(), &mut port, &mut sockets);
        let delay = interface
            .poll_delay(now(), &sockets)
            .map_or(TURN, |delay| Duration::from_micros(delay.total_micros()).min(TURN));
        match port.cable.recv_frame(delay) {
            Ok(frame) => port.arrived = frame,
            Err(_) => return,
        }
    }
}
