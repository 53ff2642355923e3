//! A network device whose other end is the test.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use etherparse::{EtherType, Icmpv4Header, Icmpv4Type, IpNumber, Ipv4Header};
use hal::interrupt::{InterruptSignal, fired};
use hal::network::{DeviceError, Event, Information, NetworkDevice};
use hal::time::{Duration, sleep};
use kernel::net::counters::{Counters, DropReason};
use kernel::net::wire::ipv4::Subnet;
use kernel::net::{Configuration, Environment, Table, run_interface};
use lab_wire::packet::{self, MacAddress};
use netbuf::{Memory, NetBuf, Queue};
use skiff_tests::virtual_time::{Executor, VirtualClock};

/// The guest.
pub const GUEST_MAC: MacAddress = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The far end.
pub const PEER_MAC: MacAddress = [2, 0, 0, 0, 0, 0x99];
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Both ends of a cable.
#[derive(Default)]
pub struct Cable {
    to_guest: RefCell<VecDeque<Vec<u8>>>,
    from_guest: RefCell<Vec<Vec<u8>>>,
    events: RefCell<VecDeque<Event>>,
    unplugged: Cell<bool>,
    signal: InterruptSignal,
    /// Frames are received with this many linear bytes, the rest as a frag; `None`: all linear.
    pub linear: Cell<Option<usize>>,
    /// Frames that the device takes before it says that it has no room; it makes room when it is asked to receive.
    pub room: Cell<Option<usize>>,
}

impl Cable {
    /// A cable that leads somewhere.
    pub fn connected() -> Rc<Self> {
        let cable = Self::default();
        cable.event(Event::LinkUp(1000));
        Rc::new(cable)
    }

    pub fn send(&self, frame: Vec<u8>) {
        self.to_guest.borrow_mut().push_back(frame);
        self.signal.raise();
    }

    pub fn event(&self, event: Event) {
        self.events.borrow_mut().push_back(event);
        self.signal.raise();
    }

    pub fn unplug(&self) {
        self.unplugged.set(true);
        self.signal.raise();
    }

    pub fn replug(&self) {
        self.unplugged.set(false);
        self.event(Event::LinkUp(1000));
    }

    /// Takes what the guest has sent.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.from_guest.borrow_mut())
    }
}

struct Device {
    information: Information,
    cable: Rc<Cable>,
    memory: Memory,
    taken: usize,
    delivered: u64,
}

impl Device {
    fn netbuf(&self, frame: &[u8]) -> NetBuf {
        let linear = self.cable.linear.get().unwrap_or(frame.len()).min(frame.len());
        let mut buffer = NetBuf::rx_alloc(&self.memory, linear.max(1)).unwrap();
        buffer.put(linear).unwrap().copy_from_slice(&frame[..linear]);
        let rest = &frame[linear..];
        if !rest.is_empty() {
            let mut block = netbuf::Block::alloc(&self.memory, 1, netbuf::Zone::Normal).unwrap();
            block.bytes_mut()[..rest.len()].copy_from_slice(rest);
            buffer.add_rx_frag(block.share(), 0, rest.len(), 8192).unwrap();
        }
        buffer
    }
}

impl NetworkDevice for Device {
    fn information(&self) -> &Information {
        &self.information
    }

    async fn receive(&mut self, received: &mut Queue, budget: usize) -> Result<Event, DeviceError> {
        self.taken = 0;
        loop {
            if self.cable.unplugged.get() {
                return Err(DeviceError::Gone);
            }
            if let Some(event) = self.cable.events.borrow_mut().pop_front() {
                return Ok(event);
            }
            let mut some = false;
            while received.len() < budget {
                let Some(frame) = self.cable.to_guest.borrow_mut().pop_front() else { break };
                received.push_back(self.netbuf(&frame));
                self.delivered += 1;
                some = true;
            }
            if some {
                return Ok(Event::Progress);
            }
            fired(&self.cable.signal).await;
        }
    }

    fn counters(&self, visit: &mut dyn FnMut(&'static str, u64)) {
        visit("frames_taken", self.delivered);
        // The network layer counts under this name too, and not the same.
        visit("drop_memory", 77);
    }

    fn transmit(&mut self, frames: &mut Queue) -> Result<(), DeviceError> {
        while self.cable.room.get().is_none_or(|room| self.taken < room) {
            let Some(frame) = frames.pop_front() else { break };
            self.taken += 1;
            let mut bytes = vec![0; frame.len()];
            frame.copy_bits(0, &mut bytes).unwrap();
            self.cable.from_guest.borrow_mut().push(bytes);
        }
        Ok(())
    }
}

/// An interface under test with its cable.
pub struct Bench {
    pub executor: Executor,
    pub clock: Rc<VirtualClock>,
    pub cable: Rc<Cable>,
    pub memory: Memory,
    pub table: Arc<Table>,
    pub reports: Rc<RefCell<Vec<String>>>,
    environment: &'static Environment<Rc<VirtualClock>>,
}

/// A fixed address, used at once.
pub fn fixed() -> Configuration {
    let mut configuration = Configuration::default();
    configuration.probing = kernel::net::configuration::Probing::OFF;
    configuration
        .set_address("eth0", Subnet { address: GUEST.into(), prefix: 24 }, Some(PEER.into()))
        .unwrap();
    configuration
}

impl Bench {
    /// An interface with `configuration`, running on a link.
    pub fn new(configuration: Configuration) -> Self {
        Self::on(Cable::connected(), configuration)
    }

    /// An interface with `configuration`, running.
    pub fn on(cable: Rc<Cable>, configuration: Configuration) -> Self {
        let clock = VirtualClock::new();
        let executor = Executor::new(&clock);
        let memory = netbuf::host::memory();
        let table = Arc::new(Table::new());
        let reports: Rc<RefCell<Vec<String>>> = Rc::default();
        let lines = reports.clone();
        let environment = Box::leak(Box::new(Environment {
            clock: clock.clone(),
            memory: memory.clone(),
            seed: 1,
            table: table.clone(),
            configuration,
            report: Rc::new(move |line| lines.borrow_mut().push(line.to_string())),
        }));
        let bench = Self { executor, clock, cable, memory, table, reports, environment };
        bench.plug(&bench.cable, GUEST_MAC);
        bench
    }

    /// An interface with the guest's address, which has said all that it says by itself.
    pub fn ready() -> Self {
        Self::ready_with(fixed())
    }

    pub fn ready_with(configuration: Configuration) -> Self {
        let bench = Self::new(configuration);
        bench.pass(Duration::from_secs(10));
        bench.cable.sent();
        bench
    }

    /// Plugs in a device.
    pub fn plug(&self, cable: &Rc<Cable>, mac_address: MacAddress) {
        let information = Information {
            driver: "played",
            mac_address,
            maximum_transmission_unit: 1500,
            transmit_checksum: false,
        };
        let device =
            Device { information, cable: cable.clone(), memory: self.memory.clone(), taken: 0, delivered: 0 };
        let interface = run_interface(device, self.environment);
        self.executor.spawn(async move {
            interface.await;
        });
    }

    /// Runs a future beside the interface.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        self.executor.run_for(Duration::from_secs(3600), future).unwrap_or_else(|stuck| panic!("{stuck}"))
    }

    /// Lets time pass.
    pub fn pass(&self, duration: Duration) {
        let clock = self.clock.clone();
        self.run(sleep(&*clock, duration));
    }

    /// Puts a frame on the cable and gives what comes back.
    pub fn exchange(&self, frame: Vec<u8>) -> Vec<Vec<u8>> {
        self.exchange_all([frame])
    }

    pub fn exchange_all(&self, frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
        for frame in frames {
            self.cable.send(frame);
        }
        self.pass(Duration::from_micros(1));
        self.cable.sent()
    }

    /// Whether the host tool was told a line with this beginning, and how often.
    pub fn reported(&self, beginning: &str) -> usize {
        self.reports.borrow().iter().filter(|line| line.starts_with(beginning)).count()
    }

    /// The first line of this kind that the host tool was told.
    #[track_caller]
    pub fn first_report(&self, word: &str) -> String {
        let reports = self.reports.borrow();
        let line = reports.iter().find(|line| line.split(' ').next() == Some(word));
        line.unwrap_or_else(|| panic!("no `{word}` in {reports:#?}")).clone()
    }

    pub fn counters(&self) -> Arc<Counters> {
        self.table.entries()[0].counters.clone()
    }

    /// Sends a frame that must be dropped for exactly this reason, without an answer.
    #[track_caller]
    pub fn assert_dropped(&self, frame: Vec<u8>, reason: DropReason) {
        let before = (self.counters().dropped(reason), self.counters().dropped_total());
        let answers = self.exchange(frame);
        assert!(answers.is_empty(), "answered: {answers:02x?}");
        let after = (self.counters().dropped(reason), self.counters().dropped_total());
        assert_eq!(after, (before.0 + 1, before.1 + 1), "{}", self.counters());
    }
}

/// An echo request that a test can change before it is built.
#[derive(Clone)]
pub struct Request {
    pub destination_mac: MacAddress,
    pub source_mac: MacAddress,
    pub header: Ipv4Header,
    pub code: u8,
    pub identifier: u16,
    pub sequence: u16,
    pub payload: Vec<u8>,
}

impl Default for Request {
    fn default() -> Self {
        let header = Ipv4Header {
            time_to_live: 55,
            identification: 0x1234,
            protocol: IpNumber::ICMP,
            source: PEER.octets(),
            destination: GUEST.octets(),
            ..Ipv4Header::default()
        };
        Self {
            destination_mac: GUEST_MAC,
            source_mac: PEER_MAC,
            header,
            code: 0,
            identifier: 0xbeef,
            sequence: 7,
            payload: (0..56).collect(),
        }
    }
}

impl Request {
    pub fn message(&self) -> Vec<u8> {
        let echo = etherparse::IcmpEchoHeader { id: self.identifier, seq: self.sequence };
        let mut message = Icmpv4Header::new(Icmpv4Type::EchoRequest(echo)).to_bytes().to_vec();
        message[1] = self.code;
        message.extend_from_slice(&self.payload);
        seal(&mut message);
        message
    }

    pub fn frame(&self) -> Vec<u8> {
        ipv4_frame(self.destination_mac, self.source_mac, self.header.clone(), &self.message())
    }
}

/// Sets the checksum of an ICMP message.
pub fn seal(message: &mut [u8]) {
    message[2..4].fill(0);
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(message).ones_complement();
    message[2..4].copy_from_slice(&sum.to_ne_bytes());
}

/// A frame of an IPv4 header, whose length and checksum are filled in, and a payload.
pub fn ipv4_frame(to: MacAddress, from: MacAddress, mut header: Ipv4Header, payload: &[u8]) -> Vec<u8> {
    header.total_len = (header.header_len() + payload.len()) as u16;
    header.header_checksum = header.calc_header_checksum();
    let mut packet = header.to_bytes().to_vec();
    packet.extend_from_slice(payload);
    packet::ethernet(to, from, EtherType::IPV4, &packet)
}

/// An echo reply as etherparse reads it; panics on anything that is not sound.
pub struct Reply {
    pub destination_mac: MacAddress,
    pub source_mac: MacAddress,
    pub header: Ipv4Header,
    pub message: Vec<u8>,
}

impl Reply {
    #[track_caller]
    pub fn parse(frame: &[u8]) -> Self {
        let (destination_mac, source_mac, packet) = packet::parse(frame).expect("sound headers");
        let packet::Packet::Ipv4(header, message) = packet else { panic!("not IPv4") };
        Self { destination_mac, source_mac, header, message: message.to_vec() }
    }

    /// The one whole reply in `frames`, its ICMP checksum verified.
    #[track_caller]
    pub fn only(frames: &[Vec<u8>]) -> Self {
        assert_eq!(frames.len(), 1, "{frames:02x?}");
        let reply = Self::parse(&frames[0]);
        assert_sound(&reply.message);
        reply
    }

    pub fn kind(&self) -> u8 {
        self.message[0]
    }
    pub fn code(&self) -> u8 {
        self.message[1]
    }
    pub fn identifier(&self) -> u16 {
        u16::from_be_bytes([self.message[4], self.message[5]])
    }
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.message[6], self.message[7]])
    }
    pub fn payload(&self) -> &[u8] {
        &self.message[8..]
    }
}

#[track_caller]
pub fn assert_sound(message: &[u8]) {
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(message).ones_complement();
    assert_eq!(sum, 0, "ICMP checksum");
}
