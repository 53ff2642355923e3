//! The driver: what it holds, and how it brings an adapter up.
//!
//! One call of [`receive`](NetworkDevice::receive) looks after everything: finished transfers both ways, link events,
//! watchdogs, and the job under way, if there is one (see `service`).

use alloc::rc::Rc;
use core::future::poll_fn;

use hal::network::{DeviceError, Event, Information, NetworkDevice};
use hal::time::{Clock, sleep};
use netbuf::{Memory, Queue, SharedBlock};
use usb::recovery::Ladder;
use usb::{Listener, Pipes, ReceiveSupply, TransferError, Transmitter, UsbDevice};

use crate::aggregate::Cursor;
use crate::bring_up::read_version;
use crate::chip::Chip;
use crate::config::{Config, Filter};
use crate::counters::Counters;
use crate::endpoints::{Endpoints, choose};
use crate::error::Error;
use crate::jobs::{self, Running};
use crate::link::LinkStatus;
use crate::registers::Registers;
use crate::service::Inspection;
use crate::tally::Tally;
use crate::version::Version;

/// An adapter in service.
pub struct Rtl8152<D: UsbDevice, C> {
    pub(crate) chip: Rc<Chip<D, C>>,
    pub(crate) endpoints: Endpoints,
    pub(crate) information: Information,
    pub(crate) memory: Memory,
    pub(crate) supply: ReceiveSupply,
    /// Link events.
    pub(crate) events: Listener,
    /// Away while a job has them, gone when a recovery failed.
    pub(crate) pipes: Option<Pipes<D::Pipe>>,
    pub(crate) job: Option<Running<D::Pipe>>,
    /// The state of the link that was served last.
    pub(crate) link: Option<LinkStatus>,
    /// An event says that the link may have changed, or nothing is known yet.
    pub(crate) link_changed: bool,
    pub(crate) filter_changed: bool,
    pub(crate) ladder: Ladder,
    /// The received transfer that is being taken apart.
    pub(crate) aggregate: Option<Aggregate>,
    /// Bad aggregates without a good one between them.
    pub(crate) bad_aggregates: u32,
    pub(crate) transmitter: Transmitter,
    /// So many frames share a transmit transfer.
    pub(crate) frames_per_transfer: u64,
    pub(crate) inspection: Inspection,
    pub(crate) counters: Counters,
}

/// A received transfer, partly taken apart.
pub(crate) struct Aggregate {
    pub block: SharedBlock,
    pub length: usize,
    pub cursor: Cursor,
}

impl<D, C> Rtl8152<D, C>
where
    D: UsbDevice + 'static,
    C: Clock + 'static,
{
    /// Brings an adapter up, trying again as often as `config` says.
    ///
    /// # Errors
    ///
    /// [`Error`]: what the last try failed of.
    pub async fn start(device: D, clock: C, memory: Memory, config: Config) -> Result<Self, Error> {
        let endpoints = choose(device.information())?;
        let registers = Registers::new(device, clock, config.register_deadline);
        let mut attempts_left = config.bring_up_attempts.max(1);
        let version = loop {
            match read_version(&registers).await {
                Ok(version) => break version,
                Err(error) => prepare_another(&registers, &config, &mut attempts_left, error).await?,
            }
        };
        let chip = Rc::new(Chip::new(registers, version, config));
        let length = version.receive_buffer(chip.speed);
        let supply =
            ReceiveSupply::new(&memory, length, chip.config.receive_transfers, chip.config.receive_blocks)
                .map_err(|_| Error::OutOfMemory)?;
        let events = Listener::new(&memory, endpoints.interrupt_size).map_err(|_| Error::OutOfMemory)?;
        let (address, pipes) = loop {
            match jobs::begin(&chip, &endpoints).await {
                Ok(begun) => break begun,
                Err(error) => {
                    prepare_another(&chip.registers, &chip.config, &mut attempts_left, error).await?;
                }
            }
        };
        let now = chip.registers.clock.now();
        let information = Information {
            driver: version.name(),
            mac_address: address,
            maximum_transmission_unit: chip.config.maximum_transmission_unit,
            transmit_checksum: true,
        };
        log::info!(
            "{}: {} (version {:#06x})",
            chip.registers.device.information(),
            version.name(),
            version.number()
        );
        Ok(Self {
            endpoints,
            information,
            memory,
            supply,
            events,
            pipes: Some(pipes),
            job: None,
            link: None,
            link_changed: true,
            filter_changed: false,
            ladder: Ladder::new(chip.registers.device.information().path),
            aggregate: None,
            bad_aggregates: 0,
            transmitter: Transmitter::new(chip.config.transmit_transfers, chip.config.transmit_watchdog),
            frames_per_transfer: chip.config.transmit_aggregate_frames.max(1) as u64,
            inspection: Inspection::new(now + chip.config.inspection_interval),
            counters: Counters::default(),
            chip,
        })
    }

    /// The chip.
    #[must_use]
    pub fn version(&self) -> Version {
        self.chip.version
    }

    /// What the driver counted.
    #[must_use]
    pub fn driver_counters(&self) -> &Counters {
        &self.counters
    }

    /// What the hardware counted, as of the last inspection.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.inspection.tally
    }

    /// Chooses which frames are received from now on. Takes effect while [`receive`](NetworkDevice::receive) runs.
    pub fn set_filter(&mut self, filter: Filter) {
        self.chip.filter.replace(filter);
        self.filter_changed = true;
    }
}

/// After a failed try: gives the error back when it is final, else resets the device for the next one.
async fn prepare_another<D: UsbDevice, C: Clock>(
    registers: &Registers<D, C>,
    config: &Config,
    attempts_left: &mut u32,
    error: Error,
) -> Result<(), Error> {
    *attempts_left = attempts_left.saturating_sub(1);
    if *attempts_left == 0 || !error.is_transient() {
        return Err(error);
    }
    log::warn!("{}: bring-up failed: {error}; trying again", registers.device.information());
    sleep(&registers.clock, config.recovery_pause).await;
    registers.forget_page();
    match registers.device.reset().await {
        Err(error @ TransferError::Gone) => Err(Error::Usb { operation: "resetting the device", error }),
        _ => Ok(()),
    }
}

impl<D, C> NetworkDevice for Rtl8152<D, C>
where
    D: UsbDevice + 'static,
    C: Clock + 'static,
{
    fn information(&self) -> &Information {
        &self.information
    }

    async fn receive(&mut self, received: &mut Queue, budget: usize) -> Result<Event, DeviceError> {
        poll_fn(|context| self.poll_receive(context, received, budget)).await
    }

    fn transmit(&mut self, frames: &mut Queue) -> Result<(), DeviceError> {
        self.send(frames)
    }

    fn counters(&self, visit: &mut dyn FnMut(&'static str, u64)) {
        self.counters.visit(visit);
        self.inspection.tally.visit(visit);
        self.chip.registers.device.counters(visit);
    }
}
