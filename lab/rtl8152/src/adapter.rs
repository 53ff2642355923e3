//! The adapter in somebody's hand: plugged in and pulled out, its cable too, and what goes wrong with it. What the USB host
//! sees of it is in `requests` and `endpoints`.

mod endpoints;
mod requests;

use std::collections::VecDeque;
use std::time::Duration;

use lab_usbredir::{Answer, Speed};

use crate::chip::{Chip, Framing, PowerOn};
use crate::descriptors::{Descriptors, UnknownField};
use crate::faults::{Action, Counted, Disconnect, FaultPlan, Trigger, received_field};
use crate::ncm;
use crate::phy::LinkSpeed;
use crate::storage::Storage;
use crate::tally::Tally;
use crate::trace::Access;
use crate::transmit::TransmitError;
use crate::version::Version;

/// How long nothing is there after the virtual drive was ejected.
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
    /// CDC-NCM: the largest block that the host takes.
    block_limit: usize,
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
            block_limit: ncm::LARGEST_BLOCK,
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
        self.block_limit = ncm::LARGEST_BLOCK;
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
