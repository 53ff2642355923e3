//! The adapter as a USB device: plug and unplug, configurations, endpoints, and what goes wrong with them.

use std::collections::VecDeque;
use std::time::Duration;

use lab_usbredir::{Answer, Attachment, Device, Endpoint, Interface, Setup, Speed};

use crate::chip::{Chip, Framing, PowerOn};
use crate::descriptors::{Descriptors, UnknownField, bulk_size};
use crate::faults::{Action, Counted, Disconnect, FaultPlan, Trigger};
use crate::phy::LinkSpeed;
use crate::register_file::Space;
use crate::storage::Storage;
use crate::tally::Tally;
use crate::trace::Access;
use crate::transmit::TransmitError;
use crate::version::Version;

const BULK_IN: u8 = 0x81;
const BULK_OUT: u8 = 0x02;
const INTERRUPT_IN: u8 = 0x83;
const VENDOR_REQUEST: u8 = 0x05;
/// How long the drive stays after an eject, so that the host gets its answer, and how long nothing is there then.
const EJECT_DELAY: Duration = Duration::from_millis(50);
const EJECT_AWAY: Duration = Duration::from_millis(300);

/// What kind of adapter, and what is done to it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which chip.
    pub version: Version,
    /// Bus speed; the chip's fastest by default.
    pub speed: Speed,
    /// Station address.
    pub address: [u8; 6],
    /// The fastest that the other end of the cable can do; none: no cable.
    pub partner: Option<LinkSpeed>,
    /// How long a negotiation of the link takes. Silicon takes seconds.
    pub negotiation: Duration,
    /// Shows itself as the virtual CD-ROM `0bda:8151` until it is ejected.
    pub storage_first: bool,
    /// What goes wrong.
    pub faults: FaultPlan,
}

impl Config {
    /// A healthy adapter with a cable plugged in, at its fastest.
    pub fn new(version: Version) -> Self {
        Self {
            version,
            speed: version.fastest_bus(),
            address: [0x00, 0xe0, 0x4c, 0x68, 0x00, 0x01],
            partner: Some(LinkSpeed::M2500),
            negotiation: Duration::from_millis(20),
            storage_first: false,
            faults: FaultPlan::default(),
        }
    }
}

/// Where the device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Plugged { as_storage: bool },
    Away { back_at: Option<Duration>, as_storage: bool },
}

/// How many transfers there have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Transfers {
    pub control: u64,
    pub bulk_in: u64,
    pub bulk_out: u64,
    pub interrupt: u64,
    pub reset: u64,
}

/// The virtual adapter.
#[derive(Clone, Debug)]
pub struct Adapter {
    config: Config,
    presence: Presence,
    plugged: u32,
    descriptors: Descriptors,
    chip: Chip,
    storage: Storage,
    configuration: u8,
    alternates: [u8; 2],
    halted: Vec<u8>,
    notifications: VecDeque<Vec<u8>>,
    transfers: Transfers,
    /// The time of the last call.
    now: Duration,
    /// Index into the faults that come by time, sorted.
    by_time: VecDeque<(Duration, Action)>,
    link_back_at: Option<Duration>,
    eject_at: Option<Duration>,
    log: Option<Vec<Access>>,
}

impl Adapter {
    /// Makes the adapter and plugs it in at time zero.
    ///
    /// # Errors
    ///
    /// The fault plan names a descriptor field that does not exist.
    pub fn new(config: Config) -> Result<Self, UnknownField> {
        let zero = Duration::ZERO;
        let chip = Chip::new(&power_on(&config), zero);
        let descriptors = Descriptors::adapter(&config.version, config.speed, config.address);
        let mut by_time: Vec<_> = config
            .faults
            .faults
            .iter()
            .filter_map(|fault| match fault.trigger {
                Trigger::Time(at) => Some((at, fault.action.clone())),
                _ => None,
            })
            .collect();
        by_time.sort_by_key(|(at, _)| *at);
        check_fields(&config.faults, &descriptors)?;
        let mut adapter = Self {
            presence: Presence::Away { back_at: None, as_storage: false },
            plugged: 0,
            descriptors,
            chip,
            storage: Storage::default(),
            configuration: 0,
            alternates: [0; 2],
            halted: Vec::new(),
            notifications: VecDeque::new(),
            transfers: Transfers::default(),
            now: zero,
            by_time: by_time.into(),
            link_back_at: None,
            eject_at: None,
            log: None,
            config,
        };
        let as_storage = adapter.config.storage_first;
        adapter.power_on(as_storage, zero);
        Ok(adapter)
    }

    // What a person does to the adapter.

    /// Pulls the adapter out.
    pub fn unplug(&mut self, how: Disconnect, now: Duration) {
        self.advance(now);
        self.presence =
            Presence::Away { back_at: how.away.map(|away| now + away), as_storage: how.as_storage };
        self.configuration = 0;
        self.chip.set_framing(Framing::None);
    }

    /// Plugs it in again, freshly powered.
    pub fn plug(&mut self, now: Duration) {
        self.advance(now);
        if let Presence::Away { as_storage, .. } = self.presence {
            self.power_on(as_storage, now);
        }
    }

    /// Pulls the adapter out if it is in, and plugs another in at once. The fault plan stays the first one's, and so do
    /// the counts.
    pub fn replace(&mut self, config: Config, now: Duration) {
        self.advance(now);
        let faults = std::mem::take(&mut self.config.faults);
        self.config = Config { faults, ..config };
        self.link_back_at = None;
        self.eject_at = None;
        self.power_on(self.config.storage_first, now);
    }

    /// Plugs the network cable in (to a partner of at most this speed) or out.
    pub fn set_cable(&mut self, partner: Option<LinkSpeed>, now: Duration) {
        self.advance(now);
        self.config.partner = partner;
        self.link_back_at = None;
        self.chip.phy().set_partner(partner, now);
    }

    /// A frame arrives on the cable, without frame check sequence.
    pub fn receive_frame(&mut self, frame: &[u8], now: Duration) {
        self.advance(now);
        self.chip.receive_frame(frame, now);
    }

    /// The next frame that the adapter puts on the cable, without frame check sequence.
    pub fn take_sent_frame(&mut self) -> Option<Vec<u8>> {
        self.chip.take_sent()
    }

    // What a person sees of it.

    /// Whether the link lamp is on.
    pub fn link_is_up(&mut self, now: Duration) -> bool {
        self.advance(now);
        self.chip.phy().link().is_some()
    }

    /// The hardware's counters.
    pub fn tally(&self) -> Tally {
        self.chip.tally()
    }

    /// How many transfers there have been.
    pub fn transfers(&self) -> Transfers {
        self.transfers
    }

    /// Why the last packet that was not sent was not sent; given once.
    pub fn take_transmit_error(&mut self) -> Option<TransmitError> {
        self.chip.take_transmit_error()
    }

    /// Starts to log register accesses.
    pub fn log_accesses(&mut self) {
        self.log.get_or_insert_default();
    }

    /// The accesses since the last call.
    pub fn take_accesses(&mut self) -> Vec<Access> {
        self.log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    // Inner workings.

    fn power_on(&mut self, as_storage: bool, now: Duration) {
        self.presence = Presence::Plugged { as_storage };
        self.plugged += 1;
        self.configuration = 0;
        self.alternates = [0; 2];
        self.halted.clear();
        self.notifications.clear();
        self.storage.clear();
        self.chip = Chip::new(&power_on(&self.config), now);
        self.descriptors = if as_storage {
            Descriptors::storage(self.config.speed)
        } else {
            Descriptors::adapter(&self.config.version, self.config.speed, self.config.address)
        };
        for fault in self.config.faults.faults.clone() {
            if fault.trigger == Trigger::Start {
                self.lasting_fault(&fault.action, now);
            }
        }
    }

    /// Lets time pass.
    fn advance(&mut self, now: Duration) {
        let now = now.max(self.now);
        self.now = now;
        while let Some((at, action)) = self.by_time.pop_front() {
            if at > now {
                self.by_time.push_front((at, action));
                break;
            }
            self.lasting_fault(&action, at);
        }
        // Each happens at its own time, however late somebody looks.
        if let Some(at) = self.link_back_at.take_if(|at| *at <= now) {
            let partner = self.config.partner;
            self.chip.phy().set_partner(partner, at);
        }
        if let Some(at) = self.eject_at.take_if(|at| *at <= now) {
            self.lasting_fault(
                &Action::Disconnect(Disconnect { away: Some(EJECT_AWAY), as_storage: false }),
                at,
            );
        }
        if let Presence::Away { back_at: Some(at), as_storage } = self.presence
            && at <= now
        {
            self.power_on(as_storage, at);
        }
        self.chip.phy().advance(now);
    }

    fn as_storage(&self) -> bool {
        self.presence == Presence::Plugged { as_storage: true }
    }

    /// A fault that is no answer to a transfer.
    fn lasting_fault(&mut self, action: &Action, now: Duration) {
        match action {
            Action::Disconnect(how) => {
                self.presence =
                    Presence::Away { back_at: how.away.map(|away| now + away), as_storage: how.as_storage };
                self.configuration = 0;
                self.chip.set_framing(Framing::None);
            }
            Action::LinkDown(time) => {
                self.link_back_at = time.map(|time| now + time);
                self.chip.phy().set_partner(None, now);
            }
            // Of the drive's descriptors, which have fewer fields, only those that exist.
            Action::Corrupt { field, value } => {
                let _ = self.descriptors.corrupt(field, *value as u16);
            }
            Action::Stick(stuck) => self.chip.stick(*stuck),
            Action::Stall | Action::TimeOut | Action::Error | Action::Babble | Action::Short(_) => {}
        }
    }

    /// Counts a transfer and gives what goes wrong with it.
    fn count(&mut self, kind: Counted, now: Duration) -> Option<Action> {
        let counter = match kind {
            Counted::Control => &mut self.transfers.control,
            Counted::BulkIn => &mut self.transfers.bulk_in,
            Counted::BulkOut => &mut self.transfers.bulk_out,
            Counted::Interrupt => &mut self.transfers.interrupt,
        };
        *counter += 1;
        let action = self.config.faults.at(kind, *counter).cloned()?;
        self.lasting_fault(&action, now);
        Some(action)
    }

    /// The answer to a transfer that has this fault, if the fault is one of the transfer itself.
    fn faulty_answer(&mut self, action: Option<&Action>, endpoint: u8) -> Option<Answer> {
        Some(match action? {
            Action::Stall => {
                if endpoint & 0x0f != 0 {
                    self.halted.push(endpoint);
                }
                Answer::Stall
            }
            Action::TimeOut => Answer::Never,
            Action::Error | Action::Disconnect(_) => Answer::Error,
            Action::Babble => Answer::Babble,
            Action::Short(_) | Action::LinkDown(_) | Action::Corrupt { .. } | Action::Stick(_) => {
                return None;
            }
        })
    }

    fn framing_of(&self, configuration: u8) -> Framing {
        let (interfaces, _) = self.descriptors.tables(configuration, &self.alternates);
        match interfaces.first().map(|interface| interface.class) {
            Some([0xff, ..]) => Framing::Vendor,
            Some([0x02, 0x06, _]) if self.alternates[1] == 1 => Framing::Ecm,
            _ => Framing::None,
        }
    }

    fn apply_settings(&mut self) {
        let framing = if self.as_storage() { Framing::None } else { self.framing_of(self.configuration) };
        self.halted.clear();
        self.notifications.clear();
        self.chip.set_framing(framing);
        if framing != Framing::None {
            self.chip.phy().tell_again();
        }
    }

    fn standard_request(&mut self, setup: Setup) -> Answer {
        let Setup { request_type, request, value, index, .. } = setup;
        let configured = self.configuration != 0;
        match (request_type, request) {
            (0x80..=0x82, 0x00) => {
                let halted = request_type == 0x82 && self.halted.contains(&(index as u8));
                Answer::Data(vec![u8::from(halted), 0])
            }
            (0x00..=0x02, 0x01 | 0x03) => {
                if (request_type, request, value) == (0x02, 0x01, 0) {
                    self.halted.retain(|endpoint| u16::from(*endpoint) != index);
                }
                Answer::Accepted(0)
            }
            // The address, exit latencies and isochronous delay are the bus's business.
            (0x00, 0x05 | 0x30 | 0x31) => Answer::Accepted(setup.length.into()),
            (0x80, 0x06) => {
                let [kind, at] = value.to_be_bytes();
                self.descriptors.get(kind, at, self.config.speed).map_or(Answer::Stall, Answer::Data)
            }
            (0x80, 0x08) => Answer::Data(vec![self.configuration]),
            (0x00, 0x09) => {
                let value = value as u8;
                if value != 0 && self.descriptors.configuration(value).is_none() {
                    return Answer::Stall;
                }
                self.configuration = value;
                self.alternates = [0; 2];
                self.apply_settings();
                Answer::Accepted(0)
            }
            (0x81, 0x0a) if configured => match self.alternates.get(usize::from(index)) {
                Some(alternate) => Answer::Data(vec![*alternate]),
                None => Answer::Stall,
            },
            (0x01, 0x0b) if configured => {
                let (number, alternate) = (index as u8, value as u8);
                let mut wanted = self.alternates;
                let Some(slot) = wanted.get_mut(usize::from(number)) else { return Answer::Stall };
                *slot = alternate;
                let (interfaces, _) = self.descriptors.tables(self.configuration, &wanted);
                if interfaces.iter().all(|interface| interface.number != number) {
                    return Answer::Stall;
                }
                self.alternates = wanted;
                self.apply_settings();
                Answer::Accepted(0)
            }
            _ => Answer::Stall,
        }
    }

    /// The vendor's one request: registers. Answered in the address state too.
    fn register_request(&mut self, setup: Setup, data: &[u8], now: Duration) -> Answer {
        let Setup { request_type, value: address, index, length, .. } = setup;
        let write = request_type & 0x80 == 0;
        let longest = if write { 512 } else { 64 };
        let Some(space) = Space::of_index(index) else { return Answer::Stall };
        if address & 3 != 0 || length == 0 || length & 3 != 0 || length > longest {
            return Answer::Stall;
        }
        let enables = index as u8;
        let (data, answer) = if write {
            self.chip.write(space, address, enables, data, now);
            (data.to_vec(), Answer::Accepted(data.len()))
        } else {
            let data = self.chip.read(space, address, length.into());
            (data.clone(), Answer::Data(data))
        };
        if let Some(log) = &mut self.log {
            log.push(Access { write, space, address, enables, data });
        }
        answer
    }

    fn request(&mut self, setup: Setup, data: &[u8], now: Duration) -> Answer {
        let to_host = setup.request_type & 0x80 != 0;
        if !to_host && data.len() != usize::from(setup.length) {
            return Answer::Stall;
        }
        match (setup.request_type, setup.request) {
            (0x40 | 0xc0, VENDOR_REQUEST) if !self.as_storage() => self.register_request(setup, data, now),
            // Mass storage: reset, number of the last unit.
            (0x21, 0xff) if self.as_storage() => {
                self.storage.clear();
                Answer::Accepted(0)
            }
            (0xa1, 0xfe) if self.as_storage() => Answer::Data(vec![0]),
            // CDC: SET_ETHERNET_MULTICAST_FILTERS, SET_ETHERNET_PACKET_FILTER. The CDC modes let everything through.
            (0x21, 0x40 | 0x43) if self.configuration > 1 => Answer::Accepted(data.len()),
            (kind, _) if kind & 0x60 == 0 => self.standard_request(setup),
            _ => Answer::Stall,
        }
    }

    /// What the interrupt endpoint has to say, in the form of the current configuration.
    fn next_notification(&mut self) -> Option<Vec<u8>> {
        if self.notifications.is_empty()
            && let Some(up) = self.chip.phy().take_change()
        {
            match self.framing_of(self.configuration) {
                Framing::Vendor => self.notifications.push_back(vec![if up { 4 } else { 0 }, 0]),
                Framing::Ecm => {
                    self.notifications.push_back(vec![0xa1, 0x00, u8::from(up), 0, 0, 0, 0, 0]);
                    if let Some(link) = self.chip.phy().link() {
                        let rate: u32 = match link.speed {
                            LinkSpeed::M10 => 10_000_000,
                            LinkSpeed::M100 => 100_000_000,
                            LinkSpeed::M1000 => 1_000_000_000,
                            LinkSpeed::M2500 => 2_500_000_000,
                        };
                        let mut speed = vec![0xa1, 0x2a, 0, 0, 0, 0, 8, 0];
                        speed.extend([rate.to_le_bytes(), rate.to_le_bytes()].concat());
                        self.notifications.push_back(speed);
                    }
                }
                Framing::None => {}
            }
        }
        self.notifications.pop_front()
    }

    /// Whether a data transfer can take place at all; else its answer.
    fn endpoint_ready(&self, endpoint: u8, expected: u8) -> Result<(), Answer> {
        if !matches!(self.presence, Presence::Plugged { .. }) {
            Err(Answer::Error)
        } else if endpoint != expected || self.configuration == 0 || self.halted.contains(&endpoint) {
            Err(Answer::Stall)
        } else {
            Ok(())
        }
    }
}

impl Device for Adapter {
    fn attachment(&mut self, now: Duration) -> Option<Attachment> {
        self.advance(now);
        if !matches!(self.presence, Presence::Plugged { .. }) {
            return None;
        }
        let word =
            |at: usize| u16::from_le_bytes([self.descriptors.device[at], self.descriptors.device[at + 1]]);
        Some(Attachment {
            plugged: self.plugged,
            speed: self.config.speed,
            vendor: word(8),
            product: word(10),
            version: word(12),
        })
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        self.descriptors.tables(self.configuration, &self.alternates).1
    }

    fn interfaces(&self) -> Vec<Interface> {
        self.descriptors.tables(self.configuration, &self.alternates).0
    }

    fn reset(&mut self, now: Duration) {
        self.advance(now);
        self.transfers.reset += 1;
        self.configuration = 0;
        self.alternates = [0; 2];
        self.storage.clear();
        // The registers survive: a host that was up before may go on with its link-up sequence alone.
        self.apply_settings();
    }

    fn control(&mut self, setup: Setup, data: &[u8], now: Duration) -> Answer {
        self.advance(now);
        if !matches!(self.presence, Presence::Plugged { .. }) {
            return Answer::Error;
        }
        let fault = self.count(Counted::Control, now);
        if let Some(answer) = self.faulty_answer(fault.as_ref(), 0) {
            return answer;
        }
        let mut answer = self.request(setup, data, now);
        if let Answer::Data(data) = &mut answer {
            data.truncate(setup.length.into());
            if let Some(Action::Short(to)) = fault {
                data.truncate(to.unwrap_or(data.len() / 2));
            }
        }
        answer
    }

    fn bulk_out(&mut self, endpoint: u8, data: &[u8], now: Duration) -> Answer {
        self.advance(now);
        if let Err(answer) = self.endpoint_ready(endpoint, BULK_OUT) {
            return answer;
        }
        let fault = self.count(Counted::BulkOut, now);
        if let Some(answer) = self.faulty_answer(fault.as_ref(), endpoint) {
            return answer;
        }
        let taken = match fault {
            Some(Action::Short(to)) => to.unwrap_or(data.len() / 2).min(data.len()),
            _ => data.len(),
        };
        let data = &data[..taken];
        if self.as_storage() {
            if self.storage.bulk_out(data) {
                self.eject_at = Some(now + EJECT_DELAY);
            }
        } else {
            self.chip.transmit(data, bulk_size(self.config.speed).into());
        }
        Answer::Accepted(taken)
    }

    fn bulk_in(&mut self, endpoint: u8, limit: usize, now: Duration) -> Answer {
        self.advance(now);
        if let Err(answer) = self.endpoint_ready(endpoint, BULK_IN) {
            return answer;
        }
        let packet = usize::from(bulk_size(self.config.speed));
        let overrun =
            !self.as_storage() && !limit.is_multiple_of(packet) && self.chip.would_overrun(limit, now);
        let data =
            if self.as_storage() { self.storage.bulk_in() } else { self.chip.take_transfer(limit, now) };
        let Some(mut data) = data else { return Answer::NotYet };
        let fault = self.count(Counted::BulkIn, now);
        if let Some(answer) = self.faulty_answer(fault.as_ref(), endpoint) {
            return answer;
        }
        if overrun || data.len() > limit {
            return Answer::Babble;
        }
        match fault {
            Some(Action::Short(to)) => data.truncate(to.unwrap_or(data.len() / 2)),
            Some(Action::Corrupt { field, value }) => corrupt_received(&mut data, &field, value),
            _ => {}
        }
        Answer::Data(data)
    }

    fn interrupt_in(&mut self, endpoint: u8, limit: usize, now: Duration) -> Answer {
        self.advance(now);
        if let Err(answer) = self.endpoint_ready(endpoint, INTERRUPT_IN) {
            return answer;
        }
        let Some(mut data) = self.next_notification() else { return Answer::NotYet };
        let fault = self.count(Counted::Interrupt, now);
        if let Some(answer) = self.faulty_answer(fault.as_ref(), endpoint) {
            return answer;
        }
        if data.len() > limit {
            return Answer::Babble;
        }
        if let Some(Action::Short(to)) = fault {
            data.truncate(to.unwrap_or(data.len() / 2));
        }
        Answer::Data(data)
    }

    fn next_timer(&self) -> Option<Duration> {
        let (back, chip) = match self.presence {
            Presence::Away { back_at, .. } => (back_at, None),
            Presence::Plugged { .. } => (None, self.chip.next_timer()),
        };
        let fault = self.by_time.front().map(|(at, _)| *at);
        // What is due already waits for the host, not for the clock.
        let times = [back, fault, self.link_back_at, self.eject_at, chip];
        times.into_iter().flatten().filter(|at| *at > self.now).min()
    }
}

fn power_on(config: &Config) -> PowerOn {
    PowerOn {
        version: config.version,
        address: config.address,
        bus: config.speed,
        partner: config.partner,
        negotiation: config.negotiation,
    }
}

/// The `rx.` fields: words of the first descriptor of a received transfer.
fn received_field(name: &str) -> Option<(usize, u32)> {
    let word: usize = match name.strip_prefix("rx.")? {
        "length" => return Some((0, 0x7fff)),
        word => word.strip_prefix("opts")?.parse().ok()?,
    };
    (1..=6).contains(&word).then_some((4 * (word - 1), u32::MAX))
}

fn corrupt_received(data: &mut [u8], field: &str, value: u32) {
    if let Some((at, mask)) = received_field(field)
        && let Some(bytes) = data.get_mut(at..at + 4)
    {
        let old = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        bytes.copy_from_slice(&(old & !mask | value & mask).to_le_bytes());
    }
}

/// Refuses a plan with a field that no descriptor has.
fn check_fields(plan: &FaultPlan, descriptors: &Descriptors) -> Result<(), UnknownField> {
    for fault in &plan.faults {
        if let Action::Corrupt { field, value } = &fault.action
            && received_field(field).is_none()
        {
            descriptors.clone().corrupt(field, *value as u16)?;
        }
    }
    Ok(())
}
