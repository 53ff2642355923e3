//! One task per network device: receive a batch, answer it, transmit the answers.
//!
//! ```text
//!              device.receive        Receiver            device.transmit
//!   device ───────────────▶ frames ───────────▶ replies ────────────────▶ device
//!                                │ the rest        ▲
//!                                ▼                 │
//!                              Stack (DHCP, ARP resolution, ...)
//! ```
//!
//! The echo path runs for every frame; everything else (the protocol stack, address conflict detection, reassembly
//! time-outs, the report) runs only when it said it has something to do. With nothing to do the task waits for the
//! device's interrupt and for no timer.
//!
//! An interface has an address only while it has a link: nothing is asked, probed or announced on a cable that leads
//! nowhere. So whoever is told that an address is in use can count on an answer from it.

use alloc::rc::Rc;
use alloc::sync::Arc;
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;

use hal::network::{DeviceError, Event, NetworkDevice};
use hal::time::{Clock, Instant};
use netbuf::{Memory, NetBuf, Queue};
use zerocopy::IntoBytes;
use zerocopy::byteorder::network_endian::U16;

use super::configuration::{Addressing, Configuration};
use super::conflict::{Action, Detector};
use super::counters::{DropReason, Effort};
use super::receive::{Next, Receiver, Surroundings};
use super::stack::{self, Stack};
use super::table::{Entry, Table};
use super::wire::ipv4::{Address, Subnet};
use super::wire::{arp, ethernet};

/// Frames taken from a device at a time.
const BUDGET: usize = 64;
/// Frames after which other tasks get their turn though the device has more.
const FRAMES_PER_TURN: usize = 64;
/// Frames that may wait for room in the transmit ring; beyond that the oldest go.
const WAITING_REPLIES: usize = 512;

/// What all interfaces share.
pub struct Environment<C> {
    /// The time. Its zero is taken as the moment the image was entered.
    pub clock: C,
    /// Packet memory.
    pub memory: Memory,
    /// Unpredictable, from the entropy source.
    pub seed: u64,
    /// Where interfaces are listed.
    pub table: Arc<Table>,
    /// How the network layer behaves.
    pub configuration: Configuration,
    /// Prints one line for the host tool, given without its `@skiff ` prefix and line end.
    pub report: Rc<dyn Fn(fmt::Arguments<'_>)>,
}

impl<C> Environment<C> {
    /// Prints the tables of packet memory, if that is wanted.
    pub fn inspect_memory(&self) {
        if self.configuration.inspect.memory {
            log::info!("packet memory\n{}", self.memory.tables());
        }
    }
}

impl<C> fmt::Debug for Environment<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Environment")
            .field("configuration", &self.configuration)
            .finish_non_exhaustive()
    }
}

/// Drives a device until it fails, and gives the reason; the device is dropped. The interface then waits in the table
/// for a device to take it over.
///
/// The interface is named and reported at the call, not when the future first runs: names follow the order of the devices
/// on their buses, whatever order the executor runs tasks in.
pub fn run_interface<'e, D: NetworkDevice + 'e, C: Clock>(
    mut device: D,
    environment: &'e Environment<C>,
) -> impl Future<Output = DeviceError> + use<'e, D, C> {
    let information = device.information().clone();
    let station = ethernet::Address(information.mac_address);
    let entry = station.is_unicast().then(|| environment.table.attach(station, information.driver));
    if let Some(entry) = &entry {
        let (name, driver) = (&entry.name, information.driver);
        log::info!("{name}: {driver} with address {station}");
        (environment.report)(format_args!("device interface={name} driver={driver} mac={station}"));
    }
    async move {
        let Some(entry) = entry else {
            log::error!("{}: {station} is no station address; the device is not used", information.driver);
            return DeviceError::Failed;
        };
        let mtu = information.maximum_transmission_unit;
        let mut interface = Interface::new(environment, entry.clone(), mtu, station);
        let error = loop {
            if let Err(error) = interface.step(&mut device).await {
                break error;
            }
        };
        entry.tell(&device);
        entry.set_gone();
        log::error!("{}: down, {error}", entry.name);
        (environment.report)(format_args!("{entry}"));
        error
    }
}

/// The state of one interface while it has a device.
struct Interface<'e, C> {
    environment: &'e Environment<C>,
    entry: Arc<Entry>,
    station: ethernet::Address,
    driver: &'static str,
    addressing: Addressing,
    receiver: Receiver,
    stack: Stack,
    detector: Option<Detector>,
    gateway: Option<Address>,
    received: Queue,
    transmit: Queue,
    /// The earliest moment that something other than the device needs the task; `None`: none.
    deadline: Option<Instant>,
    /// Something happened that may have changed `deadline`.
    unsettled: bool,
    /// When the counters are to be printed; `None` while they have not changed.
    report_at: Option<Instant>,
    last_report: Instant,
    /// [`Counters::stamp`](super::counters::Counters::stamp) at the last report.
    reported_stamp: u64,
    link: bool,
    /// The address that was last reported as ready.
    reported_ready: Option<(Subnet, Option<Address>)>,
    first_reply_seen: bool,
    /// The entry knows the task.
    task_known: bool,
    frames_in_turn: usize,
}

/// Why the task woke up.
enum Wake {
    Device(Result<Event, DeviceError>),
    Timer,
    Asked,
}

impl<'e, C: Clock> Interface<'e, C> {
    fn new(
        environment: &'e Environment<C>,
        entry: Arc<Entry>,
        mtu: usize,
        station: ethernet::Address,
    ) -> Self {
        let now = environment.clock.now();
        let configuration = &environment.configuration;
        // Two interfaces must not use the same identifiers.
        let seed = environment.seed
            ^ u64::from_be_bytes([
                0,
                0,
                station.0[0],
                station.0[1],
                station.0[2],
                station.0[3],
                station.0[4],
                station.0[5],
            ]);
        Self {
            environment,
            station,
            driver: entry.state().driver,
            addressing: configuration.addressing(&entry.name),
            receiver: Receiver::new(station, configuration, entry.counters.clone(), now),
            stack: Stack::new(&environment.memory, station, mtu, seed, now),
            // The counters are older than a device that was plugged in again.
            first_reply_seen: entry.counters.echo_replies.get() != 0,
            entry,
            detector: None,
            gateway: None,
            received: Queue::new(),
            transmit: Queue::new(),
            deadline: None,
            unsettled: true,
            report_at: None,
            last_report: now,
            reported_stamp: 0,
            link: false,
            reported_ready: None,
            task_known: false,
            frames_in_turn: 0,
        }
    }

    /// Begins to acquire an address on a link that came up, dropping the one in use.
    fn start_addressing(&mut self, now: Instant) {
        self.release_address();
        match self.addressing {
            Addressing::Dhcp => self.stack.start_dhcp(),
            Addressing::Static { subnet, gateway } => self.probe(subnet, gateway, now),
        }
        self.unsettled = true;
    }

    fn probe(&mut self, subnet: Subnet, gateway: Option<Address>, now: Instant) {
        self.gateway = gateway;
        self.detector =
            Some(Detector::new(self.station, subnet, self.environment.configuration.probing, now));
        self.unsettled = true;
    }

    fn use_address(&mut self, subnet: Subnet, now: Instant) {
        self.receiver.set_address(Some(subnet));
        self.stack.set_address(Some((subnet, self.gateway)));
        self.entry.set_address(Some(subnet));
        log::info!("{}: address {subnet}", self.entry.name);
        let Subnet { address, prefix } = subnet;
        let (name, driver, station) = (&self.entry.name, self.driver, self.station);
        let ready = Some((subnet, self.gateway));
        // A link that comes back with the same address is no news to whoever waits for the image.
        if core::mem::replace(&mut self.reported_ready, ready) == ready {
            (self.environment.report)(format_args!(
                "address interface={name} address={address} prefix={prefix}"
            ));
            return;
        }
        let microseconds = now.nanoseconds() / 1000;
        let gateway = Gateway(self.gateway);
        (self.environment.report)(format_args!(
            "ready interface={name} driver={driver} mac={station} address={address} prefix={prefix}{gateway} \
             since_entry_us={microseconds}"
        ));
        self.environment.inspect_memory();
    }

    fn release_address(&mut self) {
        self.detector = None;
        self.gateway = None;
        self.receiver.set_address(None);
        self.stack.set_address(None);
        self.entry.set_address(None);
    }

    /// One round: do what is due, send, wait, handle what came.
    async fn step<D: NetworkDevice>(&mut self, device: &mut D) -> Result<(), DeviceError> {
        if self.unsettled {
            // What is settled may be a report.
            self.entry.tell(device);
            self.settle(self.environment.clock.now());
        }
        if !self.transmit.is_empty() {
            self.send(device)?;
        }
        match self.wait(device).await {
            Wake::Device(event) => self.device_event(event?),
            Wake::Timer => self.unsettled = true,
            Wake::Asked => self.entry.tell(device),
        }
        if self.frames_in_turn >= FRAMES_PER_TURN {
            self.frames_in_turn = 0;
            yield_now().await;
        }
        Ok(())
    }

    fn send<D: NetworkDevice>(&mut self, device: &mut D) -> Result<(), DeviceError> {
        device.transmit(&mut self.transmit)?;
        while self.transmit.len() > WAITING_REPLIES {
            drop(self.transmit.pop_front());
            self.entry.counters.drop_frame(DropReason::TransmitFull);
        }
        if !self.first_reply_seen && self.entry.counters.echo_replies.get() != 0 {
            self.first_reply_seen = true;
            let microseconds = self.environment.clock.now().nanoseconds() / 1000;
            let name = &self.entry.name;
            (self.environment.report)(format_args!(
                "first-reply interface={name} since_entry_us={microseconds}"
            ));
        }
        Ok(())
    }

    /// Waits for the device or for the deadline.
    async fn wait<D: NetworkDevice>(&mut self, device: &mut D) -> Wake {
        let Self { received, environment, deadline, entry, task_known, .. } = self;
        let clock = &environment.clock;
        let mut receive = pin!(device.receive(received, BUDGET));
        poll_fn(|context| {
            if let Poll::Ready(event) = receive.as_mut().poll(context) {
                return Poll::Ready(Wake::Device(event));
            }
            if entry.is_asked() {
                return Poll::Ready(Wake::Asked);
            }
            // A task keeps its waker for life.
            if !core::mem::replace(task_known, true) {
                entry.set_task(context.waker());
            }
            let Some(at) = *deadline else { return Poll::Pending };
            if clock.now() >= at {
                return Poll::Ready(Wake::Timer);
            }
            clock.wake_at(at, context.waker());
            Poll::Pending
        })
        .await
    }

    fn device_event(&mut self, event: Event) {
        let now = self.environment.clock.now();
        let name = &self.entry.name;
        match event {
            Event::Progress => {}
            Event::LinkUp(speed) => {
                let speed = Speed(speed);
                log::info!("{name}: link up{speed}");
                (self.environment.report)(format_args!("link interface={name} state=up{speed:#}"));
                // A new link may be another network; one that only changed its speed is not.
                if !core::mem::replace(&mut self.link, true) {
                    self.start_addressing(now);
                }
            }
            Event::LinkDown => {
                log::warn!("{name}: link down");
                (self.environment.report)(format_args!("link interface={name} state=down"));
                self.link = false;
                self.release_address();
                self.unsettled = true;
            }
        }
        if !self.received.is_empty() {
            self.handle_frames(now);
        }
    }

    fn handle_frames(&mut self, now: Instant) {
        let counters = self.entry.counters.clone();
        let memory = &self.environment.memory;
        let before = Effort::so_far(memory);
        let mut of_stack = Effort::default();
        let held_before = self.receiver.deadline();
        let dhcp = self.stack.uses_dhcp();
        let (mut frames, mut bytes) = (0, 0);
        while let Some(frame) = self.received.pop_front() {
            frames += 1;
            bytes += frame.len() as u64;
            let stack = &self.stack;
            let mut around = Surroundings {
                now,
                transmit: &mut self.transmit,
                detector: self.detector.as_mut(),
                dhcp,
                asked: &|address| stack.has_asked(address),
            };
            let outcome = match self.receiver.receive(frame, &mut around) {
                Ok(Next::Done) => Ok(()),
                Ok(Next::Stack(frame)) => {
                    counters.stack_frames.count();
                    self.unsettled = true;
                    let before = Effort::so_far(memory);
                    let result = self.stack.receive(frame);
                    of_stack += Effort::so_far(memory) - before;
                    result
                }
                Err(reason) => {
                    // A conflict may want a defence; it shows up as a dropped ARP packet.
                    self.unsettled |= self.detector.is_some()
                        && matches!(reason, DropReason::ArpOtherTarget | DropReason::ArpUnsolicited);
                    Err(reason)
                }
            };
            if let Err(reason) = outcome {
                counters.drop_frame(reason);
            }
        }
        counters.rx_frames.add(frames);
        counters.rx_bytes.add(bytes);
        self.frames_in_turn += frames as usize;
        let own = Effort::so_far(memory) - before - of_stack;
        counters.allocations.add(own.allocations);
        counters.payload_bytes_copied.add(own.bytes_copied);
        counters.stack_allocations.add(of_stack.allocations);
        counters.stack_bytes_copied.add(of_stack.bytes_copied);
        self.unsettled |= self.receiver.deadline() != held_before || self.report_at.is_none();
    }

    /// Does everything that is due beside the device, and finds the next deadline.
    fn settle(&mut self, now: Instant) {
        self.unsettled = false;
        self.receiver.expire(now, &mut self.transmit);
        let addressing = if self.link { self.settle_addressing(now) } else { None };
        let counters = &self.entry.counters;
        if counters.stamp() != self.reported_stamp && self.report_at.is_none() {
            self.report_at = Some(self.last_report + self.environment.configuration.report_interval);
        }
        if self.report_at.is_some_and(|at| at <= now) {
            self.report_at = None;
            self.last_report = now;
            self.reported_stamp = counters.stamp();
            (self.environment.report)(format_args!("{}", self.entry));
            self.environment.inspect_memory();
        }
        self.deadline = [addressing, self.receiver.deadline(), self.report_at].into_iter().flatten().min();
    }

    /// Lets the stack and address conflict detection act; gives the moment of their next step.
    fn settle_addressing(&mut self, now: Instant) -> Option<Instant> {
        if self.stack.is_due(now) {
            let counters = self.entry.counters.clone();
            while let Some(event) = self.stack.poll(now, &mut self.transmit, &counters) {
                self.stack_event(event, now);
            }
        }
        let next_probe = self.step_detector(now);
        [next_probe, self.stack.deadline(now)].into_iter().flatten().min()
    }

    fn stack_event(&mut self, event: stack::Event, now: Instant) {
        match event {
            // The console is not filled by a network without a server.
            stack::Event::Discovered { attempt } if attempt.is_power_of_two() => {
                let name = &self.entry.name;
                log::info!("{name}: DHCP servers are asked for an address, attempt {attempt}");
                (self.environment.report)(format_args!("dhcp interface={name} attempt={attempt}"));
            }
            stack::Event::Discovered { .. } => {}
            stack::Event::Leased { subnet, gateway } => {
                let same = self.detector.as_ref().is_some_and(|detector| detector.subnet() == subnet);
                if !same || self.gateway != gateway {
                    self.release_address();
                    self.probe(subnet, gateway, now);
                }
            }
            stack::Event::LeaseLost => {
                if self.detector.is_some() {
                    log::warn!("{}: the DHCP lease is over", self.entry.name);
                }
                self.release_address();
            }
        }
    }

    /// Lets address conflict detection act; gives the moment of its next step.
    fn step_detector(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let detector = self.detector.as_mut()?;
            let subnet = detector.subnet();
            match detector.poll(now) {
                Action::Send(packet) => self.send_arp(&packet),
                Action::Use => self.use_address(subnet, now),
                Action::Taken(other) => {
                    let (name, address) = (&self.entry.name, subnet.address);
                    log::error!("{name}: {address} is not used: {other} has it");
                    (self.environment.report)(format_args!(
                        "taken interface={name} address={address} station={other}"
                    ));
                }
                Action::Wait(next) => return next,
            }
        }
    }

    fn send_arp(&mut self, packet: &arp::Packet) {
        let counters = &self.entry.counters;
        let header = ethernet::Header {
            destination: ethernet::Address::BROADCAST,
            source: self.station,
            ethertype: U16::new(ethernet::TYPE_ARP),
        };
        match frame_of(&self.environment.memory, header.as_bytes(), packet.as_bytes()) {
            Some(frame) => {
                counters.arp_announcements.count();
                counters.tx_frames.count();
                counters.tx_bytes.add(frame.len() as u64);
                self.transmit.push_back(frame);
            }
            None => counters.drop_frame(DropReason::Memory),
        }
    }
}

/// A new frame of a header and a payload.
fn frame_of(memory: &Memory, header: &[u8], payload: &[u8]) -> Option<NetBuf> {
    let mut frame = NetBuf::rx_alloc(memory, header.len() + payload.len()).ok()?;
    frame.put(header.len()).ok()?.copy_from_slice(header);
    frame.put(payload.len()).ok()?.copy_from_slice(payload);
    Some(frame)
}

/// The word of the `ready` line that is there only when there is a gateway.
struct Gateway(Option<Address>);

impl fmt::Display for Gateway {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |gateway| write!(formatter, " gateway={gateway}"))
    }
}

/// A link's speed in megabits per second, where the device tells it: for people, or with `#` as a word of a line for
/// the host tool.
struct Speed(u32);

impl fmt::Display for Speed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            speed if formatter.alternate() => write!(formatter, " speed_mbps={speed}"),
            speed => write!(formatter, ", {speed} Mbit/s"),
        }
    }
}

/// Lets other tasks run.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if core::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
