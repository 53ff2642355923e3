//! The device side of one connection: a state machine from the guest's bytes to a [`Device`] and back.

use std::collections::VecDeque;
use std::time::Duration;

use crate::capabilities::Capabilities;
use crate::decoder::Decoder;
use crate::device::{Answer, Attachment, Device, Setup, Speed};
use crate::error::ProtocolError;
use crate::packet::{Body, EndpointTable, InterfaceTable, Packet, SLOTS, Status, slot};

/// The most bulk IN requests kept waiting; a guest that asks for more is told so. Linux's r8152 keeps ten.
const MOST_WAITING: usize = 4096;

/// What a connection has seen, for logs and tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Control transfers, configuration and alternate setting requests included.
    pub control: u64,
    /// Bulk transfers to the device.
    pub bulk_out: u64,
    /// Bulk transfers to the host that have been answered with data.
    pub bulk_in: u64,
    /// Interrupt packets sent.
    pub interrupt: u64,
    /// Port resets.
    pub reset: u64,
    /// Transfers the guest gave up.
    pub cancelled: u64,
    /// Packets that broke the protocol.
    pub protocol_error: u64,
}

#[derive(Debug)]
struct WaitingIn {
    id: u64,
    endpoint: u8,
    length: usize,
    stream: u32,
}

/// What the guest knows of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// No hello yet.
    Silent,
    /// Told that there is none, or nothing told.
    Absent,
    /// A disconnect was sent whose acknowledgement has not come.
    Leaving,
    /// Told of this plug-in.
    Present(Attachment),
}

/// One connection to a guest.
#[derive(Debug)]
pub struct Connection {
    decoder: Decoder,
    output: Vec<u8>,
    presence: Presence,
    /// Bulk IN requests without an answer, in order of arrival.
    waiting: VecDeque<WaitingIn>,
    /// Requests that the device never answers, kept to be cancelled.
    hanging: Vec<Packet>,
    /// Interrupt endpoints that the guest listens to.
    listening: Vec<u8>,
    last_error: Option<ProtocolError>,
    /// What has happened so far.
    pub counters: Counters,
}

impl Connection {
    /// A fresh connection; its hello is ready to be sent. `version` names this program to the guest.
    pub fn new(version: &str) -> Self {
        let mut output = Vec::new();
        let body = Body::Hello { version: version.to_owned(), capabilities: Capabilities::OURS };
        Packet { id: 0, body }.build(&mut output, Capabilities::default());
        Self {
            decoder: Decoder::new(Capabilities::OURS),
            output,
            presence: Presence::Silent,
            waiting: VecDeque::new(),
            hanging: Vec::new(),
            listening: Vec::new(),
            last_error: None,
            counters: Counters::default(),
        }
    }

    /// The bytes to send to the guest since the last call.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// The last violation of the protocol by the guest, given once.
    pub fn take_error(&mut self) -> Option<ProtocolError> {
        self.last_error.take()
    }

    /// Takes bytes from the guest and lets the device work on them.
    ///
    /// # Errors
    ///
    /// The stream cannot be followed any further. Other violations are counted and skipped, see [`Self::take_error`].
    pub fn receive(
        &mut self,
        bytes: &[u8],
        device: &mut impl Device,
        now: Duration,
    ) -> Result<(), ProtocolError> {
        self.decoder.push(bytes);
        while let Some(packet) = self.decoder.next_packet() {
            match packet {
                Ok(packet) => self.dispatch(packet, device, now),
                Err(error) => {
                    self.counters.protocol_error += 1;
                    if !error.is_recoverable() {
                        return Err(error);
                    }
                    self.last_error = Some(error);
                }
            }
        }
        self.run(device, now);
        Ok(())
    }

    /// Lets the device do what time and its surroundings allow: plug-ins, answers to waiting IN transfers.
    pub fn run(&mut self, device: &mut impl Device, now: Duration) {
        self.follow_presence(device, now);
        if !matches!(self.presence, Presence::Present(_)) {
            return;
        }
        self.answer_bulk_in(device, now);
        self.push_interrupts(device, now);
        // A transfer may have been the device's last.
        self.follow_presence(device, now);
    }

    fn send(&mut self, id: u64, body: Body) {
        Packet { id, body }.build(&mut self.output, self.decoder.common());
    }

    /// Tells the guest of plug-ins and unplugs. The tables come before the connect, or QEMU refuses the device.
    fn follow_presence(&mut self, device: &mut impl Device, now: Duration) {
        let attachment = device.attachment(now);
        match (self.presence, attachment) {
            (Presence::Present(told), Some(is)) if told == is => {}
            (Presence::Present(_), _) => {
                self.waiting.clear();
                self.hanging.clear();
                self.listening.clear();
                self.send(0, Body::DeviceDisconnect);
                let acknowledges =
                    self.decoder.common().contains(Capabilities::DEVICE_DISCONNECT_ACKNOWLEDGE);
                self.presence = if acknowledges { Presence::Leaving } else { Presence::Absent };
            }
            (Presence::Absent, Some(is)) => {
                self.send_tables(device);
                let body = Body::DeviceConnect {
                    speed: match is.speed {
                        Speed::Full => 1,
                        Speed::High => 2,
                        Speed::Super => 3,
                    },
                    class: 0,
                    subclass: 0,
                    protocol: 0,
                    vendor: is.vendor,
                    product: is.product,
                    version: is.version,
                };
                self.send(0, body);
                self.presence = Presence::Present(is);
            }
            (Presence::Absent, None) | (Presence::Leaving | Presence::Silent, _) => {}
        }
    }

    /// Endpoint and interface tables of the device as it is configured now.
    fn send_tables(&mut self, device: &impl Device) {
        let mut table = EndpointTable::default();
        for address in [0x00, 0x80] {
            table.kind[slot(address)] = 0;
            table.max_packet_size[slot(address)] = 64;
        }
        for endpoint in device.endpoints() {
            let at = slot(endpoint.address);
            table.kind[at] = endpoint.kind as u8;
            // The guest side requires a period of periodic endpoints.
            table.interval[at] = endpoint.interval.max(1);
            table.interface[at] = endpoint.interface;
            table.max_packet_size[at] = endpoint.max_packet_size;
        }
        self.send(0, Body::EndpointInfo(Box::new(table)));
        let mut table = InterfaceTable::default();
        for (at, interface) in device.interfaces().iter().take(SLOTS).enumerate() {
            table.number[at] = interface.number;
            [table.class[at], table.subclass[at], table.protocol[at]] = interface.class;
            table.count += 1;
        }
        self.send(0, Body::InterfaceInfo(Box::new(table)));
    }

    fn dispatch(&mut self, packet: Packet, device: &mut impl Device, now: Duration) {
        let id = packet.id;
        match packet.body {
            Body::Hello { .. } => self.presence = Presence::Absent,
            Body::DeviceDisconnectAcknowledge if self.presence == Presence::Leaving => {
                self.presence = Presence::Absent;
            }
            // A request that crossed our disconnect: its device is gone, and so is whoever waits for it.
            _ if !matches!(self.presence, Presence::Present(_)) => {}
            Body::Reset => {
                self.counters.reset += 1;
                self.listening.clear();
                device.reset(now);
            }
            Body::SetConfiguration { configuration } => {
                let setup = setup(0x00, 9, configuration.into(), 0, 0);
                let status = self.standard_request(device, setup, now).map(|_| Status::Success);
                self.listening.clear();
                self.send_tables(device);
                if let Some(status) = status.or_hang(&mut self.hanging, &packet) {
                    self.send(id, Body::ConfigurationStatus { status, configuration });
                }
            }
            Body::GetConfiguration => {
                let answer = self.standard_request(device, setup(0x80, 8, 0, 0, 1), now);
                let (status, configuration) = first_byte(answer);
                self.send(id, Body::ConfigurationStatus { status, configuration });
            }
            Body::SetAlternateSetting { interface, alternate } => {
                let setup = setup(0x01, 11, alternate.into(), interface.into(), 0);
                let status = self.standard_request(device, setup, now).map(|_| Status::Success);
                self.send_tables(device);
                if let Some(status) = status.or_hang(&mut self.hanging, &packet) {
                    self.send(id, Body::AlternateSettingStatus { status, interface, alternate });
                }
            }
            Body::GetAlternateSetting { interface } => {
                let answer = self.standard_request(device, setup(0x81, 10, 0, interface.into(), 1), now);
                let (status, alternate) = first_byte(answer);
                self.send(id, Body::AlternateSettingStatus { status, interface, alternate });
            }
            Body::StartInterruptReceiving { endpoint } => {
                let known = device.endpoints().iter().any(|e| e.address == endpoint);
                if known && !self.listening.contains(&endpoint) {
                    self.listening.push(endpoint);
                }
                let status = if known { Status::Success } else { Status::Invalid };
                self.send(id, Body::InterruptReceivingStatus { status, endpoint });
            }
            Body::StopInterruptReceiving { endpoint } => {
                self.listening.retain(|e| *e != endpoint);
                self.send(id, Body::InterruptReceivingStatus { status: Status::Success, endpoint });
            }
            Body::StartIsochronousStream { endpoint, .. } | Body::StopIsochronousStream { endpoint } => {
                self.send(id, Body::IsochronousStreamStatus { status: Status::Invalid, endpoint });
            }
            Body::AllocateBulkStreams { endpoints, .. } | Body::FreeBulkStreams { endpoints } => {
                let body = Body::BulkStreamsStatus { endpoints, streams: 0, status: Status::Invalid };
                self.send(id, body);
            }
            Body::StartBulkReceiving { stream, endpoint, .. }
            | Body::StopBulkReceiving { stream, endpoint } => {
                let body = Body::BulkReceivingStatus { stream, endpoint, status: Status::Invalid };
                self.send(id, body);
            }
            Body::CancelDataPacket => self.cancel(id),
            Body::Control { .. } => self.control(packet, device, now),
            Body::Bulk { endpoint, length, stream, .. } if endpoint & 0x80 != 0 => {
                if self.waiting.len() < MOST_WAITING {
                    self.waiting.push_back(WaitingIn { id, endpoint, length: length as usize, stream });
                } else {
                    let status = Status::Invalid;
                    self.send(id, Body::Bulk { endpoint, status, length: 0, stream, data: Vec::new() });
                }
            }
            Body::Bulk { .. } => self.bulk_out(packet, device, now),
            // Interrupt OUT and isochronous data: no device here has such endpoints. Filters do not concern a device
            // that is the only one. The rest goes the other way.
            _ => {}
        }
        // Unplugged by this very packet: whoever asks next must not reach the device's next life.
        self.follow_presence(device, now);
    }

    fn standard_request(&mut self, device: &mut impl Device, setup: Setup, now: Duration) -> Reply {
        self.counters.control += 1;
        Reply::of(device.control(setup, &[], now))
    }

    fn control(&mut self, packet: Packet, device: &mut impl Device, now: Duration) {
        let Body::Control { endpoint, request, request_type, value, index, length, ref data, .. } =
            packet.body
        else {
            return;
        };
        self.counters.control += 1;
        let to_host = request_type & 0x80 != 0;
        let carried_wrong = !to_host && data.len() != usize::from(length) || to_host && !data.is_empty();
        let answer = if carried_wrong || endpoint & 0x0f != 0 {
            self.counters.protocol_error += 1;
            let declared = if to_host { 0 } else { length.into() };
            self.last_error =
                Some(ProtocolError::LengthMismatch { kind: 100, declared, carried: data.len() });
            Reply::Failed(Status::Invalid)
        } else {
            Reply::of(device.control(Setup { request_type, request, value, index, length }, data, now))
        };
        let (status, data, length) = match answer {
            Reply::Hangs => return self.hanging.push(packet),
            Reply::Failed(status) => (status, Vec::new(), 0),
            Reply::Ok(mut data) => {
                data.truncate(if to_host { length.into() } else { 0 });
                let moved = if to_host { data.len() as u16 } else { length };
                (Status::Success, data, moved)
            }
        };
        let id = packet.id;
        self.send(id, Body::Control { endpoint, request, request_type, status, value, index, length, data });
    }

    fn bulk_out(&mut self, packet: Packet, device: &mut impl Device, now: Duration) {
        let Body::Bulk { endpoint, length, stream, ref data, .. } = packet.body else { return };
        self.counters.bulk_out += 1;
        let (status, taken) = if data.len() != length as usize {
            self.counters.protocol_error += 1;
            let (declared, carried) = (length as usize, data.len());
            self.last_error = Some(ProtocolError::LengthMismatch { kind: 101, declared, carried });
            (Status::Invalid, 0)
        } else {
            let answer = device.bulk_out(endpoint, data, now);
            let taken = if let Answer::Accepted(taken) = answer { taken } else { 0 };
            match Reply::of(answer) {
                Reply::Hangs => return self.hanging.push(packet),
                Reply::Failed(status) => (status, 0),
                Reply::Ok(_) => (Status::Success, taken.min(data.len()) as u32),
            }
        };
        self.send(packet.id, Body::Bulk { endpoint, status, length: taken, stream, data: Vec::new() });
    }

    /// Offers the waiting IN requests to the device, per endpoint in order of arrival.
    fn answer_bulk_in(&mut self, device: &mut impl Device, now: Duration) {
        let mut silent = [false; SLOTS];
        let mut at = 0;
        while let Some(request) = self.waiting.get(at) {
            let (endpoint, stream, id) = (request.endpoint, request.stream, request.id);
            if silent[slot(endpoint)] {
                at += 1;
                continue;
            }
            let limit = request.length;
            let answer = device.bulk_in(endpoint, limit, now);
            if answer == Answer::NotYet {
                silent[slot(endpoint)] = true;
                at += 1;
                continue;
            }
            self.waiting.remove(at);
            let (status, mut data) = match Reply::of(answer) {
                Reply::Ok(data) => (Status::Success, data),
                Reply::Failed(status) => (status, Vec::new()),
                Reply::Hangs => {
                    let body = Body::Bulk {
                        endpoint,
                        status: Status::Success,
                        length: limit as u32,
                        stream,
                        data: Vec::new(),
                    };
                    self.hanging.push(Packet { id, body });
                    continue;
                }
            };
            data.truncate(limit);
            self.counters.bulk_in += 1;
            self.send(id, Body::Bulk { endpoint, status, length: data.len() as u32, stream, data });
        }
    }

    fn push_interrupts(&mut self, device: &mut impl Device, now: Duration) {
        for endpoint in self.listening.clone() {
            let limit = device.endpoints().iter().find(|e| e.address == endpoint).map(|e| e.max_packet_size);
            let limit = usize::from(limit.unwrap_or(0));
            // An endpoint that keeps talking must not keep this thread: one table's worth per turn is plenty.
            for _ in 0..SLOTS {
                match device.interrupt_in(endpoint, limit, now) {
                    Answer::NotYet | Answer::Never | Answer::Accepted(_) => break,
                    answer => {
                        let (status, data) = match Reply::of(answer) {
                            Reply::Ok(data) => (Status::Success, data),
                            Reply::Failed(status) => (status, Vec::new()),
                            Reply::Hangs => break,
                        };
                        self.counters.interrupt += 1;
                        let length = data.len() as u16;
                        self.send(0, Body::Interrupt { endpoint, status, length, data });
                    }
                }
            }
        }
    }

    /// The guest gives up a transfer. It may have been answered just before; then there is nothing to say.
    fn cancel(&mut self, id: u64) {
        let hanging = if let Some(at) = self.waiting.iter().position(|request| request.id == id) {
            self.waiting.remove(at).map(|request| {
                let WaitingIn { endpoint, stream, .. } = request;
                Body::Bulk { endpoint, status: Status::Cancelled, length: 0, stream, data: Vec::new() }
            })
        } else if let Some(at) = self.hanging.iter().position(|packet| packet.id == id) {
            cancelled(self.hanging.swap_remove(at).body)
        } else {
            None
        };
        if let Some(body) = hanging {
            self.counters.cancelled += 1;
            self.send(id, body);
        }
    }
}

/// The answer that ends a cancelled request.
fn cancelled(body: Body) -> Option<Body> {
    let (status, length, data) = (Status::Cancelled, 0, Vec::new());
    match body {
        Body::Control { endpoint, request, request_type, value, index, .. } => {
            Some(Body::Control { endpoint, request, request_type, status, value, index, length, data })
        }
        Body::Bulk { endpoint, stream, .. } => Some(Body::Bulk { endpoint, status, length: 0, stream, data }),
        Body::SetConfiguration { configuration } => Some(Body::ConfigurationStatus { status, configuration }),
        Body::SetAlternateSetting { interface, alternate } => {
            Some(Body::AlternateSettingStatus { status, interface, alternate })
        }
        _ => None,
    }
}

fn setup(request_type: u8, request: u8, value: u16, index: u16, length: u16) -> Setup {
    Setup { request_type, request, value, index, length }
}

/// A device's answer in the protocol's terms.
enum Reply {
    Ok(Vec<u8>),
    Failed(Status),
    Hangs,
}

impl Reply {
    fn of(answer: Answer) -> Self {
        match answer {
            Answer::Data(data) => Self::Ok(data),
            Answer::Accepted(_) => Self::Ok(Vec::new()),
            Answer::Stall => Self::Failed(Status::Stall),
            Answer::Babble => Self::Failed(Status::Babble),
            Answer::Error => Self::Failed(Status::InputOutputError),
            Answer::NotYet | Answer::Never => Self::Hangs,
        }
    }

    fn map(self, ok: impl FnOnce(Vec<u8>) -> Status) -> Outcome {
        match self {
            Self::Ok(data) => Outcome(Some(ok(data))),
            Self::Failed(status) => Outcome(Some(status)),
            Self::Hangs => Outcome(None),
        }
    }
}

/// The status of a request, or none while it hangs.
struct Outcome(Option<Status>);

impl Outcome {
    /// Keeps a hanging request, so that it can be cancelled.
    fn or_hang(self, hanging: &mut Vec<Packet>, packet: &Packet) -> Option<Status> {
        if self.0.is_none() {
            hanging.push(packet.clone());
        }
        self.0
    }
}

fn first_byte(reply: Reply) -> (Status, u8) {
    match reply {
        Reply::Ok(data) => (Status::Success, data.first().copied().unwrap_or(0)),
        Reply::Failed(status) => (status, 0),
        Reply::Hangs => (Status::TimedOut, 0),
    }
}
