//! What the driver does while it serves its adapter: polls pipes and the job under way, starts the next job, watches
//! for what is stuck, and tells the network layer of the link.

use core::task::{Context, Poll, Waker};

use hal::network::{DeviceError, Event};
use hal::time::{Clock, Duration, Instant};
use netbuf::Queue;
use usb::recovery::{Fault, Step};
use usb::{Pipe, TransferError, UsbDevice};

use crate::driver::Rtl8152;
use crate::error::Error;
use crate::jobs::{self, Finished, Outcome, Running};
use crate::link::LinkStatus;
use crate::tally::Tally;

/// How the interrupt endpoint fares.
#[derive(Debug, Default)]
pub(crate) struct InterruptState {
    /// It has to be reset before it can be used again.
    pub halted: bool,
    /// Faults without an event between them.
    pub faults: u32,
}

impl InterruptState {
    /// After so many faults the endpoint is left alone: the inspections see link changes as well.
    const PATIENCE: u32 = 3;

    pub fn usable(&self) -> bool {
        !self.halted && self.faults < Self::PATIENCE
    }

    fn wants_recovery(&self) -> bool {
        self.halted && self.faults < Self::PATIENCE
    }
}

/// The periodic look at link and counters.
#[derive(Debug)]
pub(crate) struct Inspection {
    pub due: Instant,
    pub tally: Tally,
    /// Receive transfers that had come at the last inspection.
    transfers: u64,
    /// Inspections in a row that found frames taken and none arrived.
    stalls: u32,
}

/// The wake-up that was asked for, so that a busy interface does not ask for one with every poll.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    armed: Option<(Instant, Waker)>,
}

impl Inspection {
    /// Nothing counted yet, and the first look at this moment.
    pub fn new(due: Instant) -> Self {
        Self { due, tally: Tally::default(), transfers: 0, stalls: 0 }
    }
}

impl Timer {
    fn arm<C: Clock>(&mut self, clock: &C, at: Instant, waker: &Waker) {
        let now = clock.now();
        let standing = self
            .armed
            .as_ref()
            .is_some_and(|(armed, by)| *armed > now && *armed <= at && by.will_wake(waker));
        if !standing {
            self.armed = Some((at, waker.clone()));
            clock.wake_at(at, waker);
        }
    }
}

impl<D, C> Rtl8152<D, C>
where
    D: UsbDevice + 'static,
    C: Clock + 'static,
{
    fn now(&self) -> Instant {
        self.chip.registers.clock.now()
    }

    /// Everything that there is to do, until something happens that the network layer has to know.
    pub(crate) fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        received: &mut Queue,
        budget: usize,
    ) -> Poll<Result<Event, DeviceError>> {
        loop {
            if let Some(job) = &mut self.job
                && let Poll::Ready(finished) = job.as_mut().poll(context)
            {
                self.job = None;
                match self.take_result(finished) {
                    Ok(Some(event)) => return Poll::Ready(Ok(event)),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            match self.poll_pipes(context, received, budget) {
                Ok(true) => return Poll::Ready(Ok(Event::Progress)),
                Ok(false) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            if self.job.is_none() {
                match self.next_job() {
                    Ok(Some(job)) => {
                        self.job = Some(job);
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if self.job.is_none() {
                let at = self.next_deadline();
                self.timer.arm(&self.chip.registers.clock, at, context.waker());
            }
            return Poll::Pending;
        }
    }

    /// Takes what finished on the three pipes. True when the network layer has something to do.
    fn poll_pipes(
        &mut self,
        context: &mut Context<'_>,
        received: &mut Queue,
        budget: usize,
    ) -> Result<bool, DeviceError> {
        if self.pipes.is_none() {
            return Ok(false);
        }
        self.poll_events(context)?;
        let room = self.poll_transmitted(context)?;
        let frames = self.poll_received(context, received, budget)?;
        Ok(frames > 0 || room)
    }

    /// What has to be done next that is more than moving data.
    fn next_job(&mut self) -> Result<Option<Running<D::Pipe>>, DeviceError> {
        let now = self.now();
        self.watch_transmitter(now);
        let chip = self.chip.clone();
        if let Some(fault) = self.fault.take() {
            return self.recover_from(fault).map(Some);
        }
        if self.link_changed
            && let Some(pipes) = self.pipes.take()
        {
            self.link_changed = false;
            return Ok(Some(jobs::serve_link(chip, pipes, self.link)));
        }
        if self.filter_changed && self.link.is_some() {
            self.filter_changed = false;
            return Ok(Some(jobs::set_filter(chip)));
        }
        if self.interrupt.wants_recovery()
            && let Some(pipes) = self.pipes.take()
        {
            self.counters.recovery_interrupt_endpoint += 1;
            return Ok(Some(jobs::recover_interrupt(chip, pipes, self.chip.config.recovery_pause)));
        }
        if now >= self.inspection.due {
            self.inspection.due = now + self.chip.config.inspection_interval;
            return Ok(Some(jobs::inspect(chip)));
        }
        Ok(None)
    }

    /// A transmit transfer that does not end is a fault.
    fn watch_transmitter(&mut self, now: Instant) {
        let stuck = self.pipes.as_ref().is_some_and(|pipes| pipes.transmit.in_flight() > 0)
            && now >= self.transmitting_since + self.chip.config.transmit_watchdog;
        if stuck && self.fault.is_none() {
            self.counters.tx_timeouts += 1;
            self.transmitting_since = now;
            self.fault = Some(Fault::Transmit);
        }
    }

    fn recover_from(&mut self, fault: Fault) -> Result<Running<D::Pipe>, DeviceError> {
        let name = self.information.driver;
        let pause = self.chip.config.recovery_pause * (1 << self.ladder.height());
        let Some(step) = self.ladder.climb(fault) else {
            log::error!("{name}: {fault:?} failed again after every step of recovery; giving the adapter up");
            return Err(DeviceError::Failed);
        };
        log::warn!("{name}: {fault:?} failed; recovering by {}", step.name());
        match step {
            Step::Endpoints => self.counters.recovery_endpoint_resets += 1,
            Step::Device => self.counters.recovery_device_resets += 1,
            Step::PortPower => self.counters.recovery_port_power_cycles += 1,
        }
        self.aggregate = None;
        self.interrupt = InterruptState::default();
        Ok(jobs::recover(self.chip.clone(), self.pipes.take(), self.endpoints, step, pause))
    }

    /// Takes a job's result in. An event when the link changed for the network layer.
    fn take_result(&mut self, finished: Finished<D::Pipe>) -> Result<Option<Event>, DeviceError> {
        if let Some(pipes) = finished.pipes {
            self.pipes = Some(pipes);
        }
        let under_way = self.pipes.as_ref().map_or(0, |pipes| pipes.transmit.in_flight());
        if under_way == 0 {
            self.ring_full = false;
            self.counters.tx_dropped_lost += self.frames_under_way;
            self.frames_under_way = 0;
        }
        match finished.outcome {
            Outcome::Link(Ok(status)) => Ok(self.link_served(status)),
            Outcome::Recovered(_, Ok(status)) => {
                self.filter_changed = false;
                self.inspection.stalls = 0;
                // A step of recovery interrupted the traffic: the network layer hears of both edges.
                Ok(self.link_served(status))
            }
            Outcome::Recovered(step, Err(error)) if !error.is_gone() => {
                log::warn!("{}: {} failed: {error}", self.information.driver, step.name());
                self.counters.recovery_steps_failed += 1;
                self.fault = Some(Fault::Control);
                Ok(None)
            }
            Outcome::Inspected(Ok((status, tally))) => {
                self.inspected(status, tally);
                Ok(None)
            }
            Outcome::InterruptRecovered(Ok(())) => {
                self.interrupt.halted = false;
                Ok(None)
            }
            Outcome::Filtered(Ok(())) => Ok(None),
            Outcome::Link(Err(error))
            | Outcome::Recovered(_, Err(error))
            | Outcome::Inspected(Err(error))
            | Outcome::Filtered(Err(error)) => self.job_failed(error),
            Outcome::InterruptRecovered(Err(error)) => {
                if error.is_gone() {
                    return Err(DeviceError::Gone);
                }
                self.interrupt.faults += 1;
                Ok(None)
            }
        }
    }

    fn job_failed(&mut self, error: Error) -> Result<Option<Event>, DeviceError> {
        if error.is_gone() {
            return Err(DeviceError::Gone);
        }
        log::warn!("{}: {error}", self.information.driver);
        self.fault = Some(Fault::Control);
        Ok(None)
    }

    fn link_served(&mut self, status: Option<LinkStatus>) -> Option<Event> {
        let before = core::mem::replace(&mut self.link, status);
        match (before, status) {
            (None, Some(status)) => {
                self.counters.link_ups += 1;
                log::info!("{}: link up, {} Mb/s", self.information.driver, status.speed());
                Some(Event::LinkUp(status.speed()))
            }
            (Some(_), None) => {
                self.counters.link_downs += 1;
                log::info!("{}: link down", self.information.driver);
                Some(Event::LinkDown)
            }
            (Some(before), Some(status)) if before.speed() != status.speed() => {
                Some(Event::LinkUp(status.speed()))
            }
            // Room came free, if nothing else.
            (Some(_), Some(_)) => Some(Event::Progress),
            (None, None) => None,
        }
    }

    /// Compares what the hardware says with what this driver knows.
    fn inspected(&mut self, status: LinkStatus, tally: Tally) {
        self.ladder.works(Fault::Control);
        let speed = Some(status).filter(|status| status.is_up()).map(LinkStatus::speed);
        if speed != self.link.map(LinkStatus::speed) {
            self.link_changed = true;
        }
        let took = tally.took_frames_since(&self.inspection.tally);
        let arrived = self.counters.rx_transfers != self.inspection.transfers;
        let posted = self.pipes.as_ref().is_some_and(|pipes| pipes.receive.in_flight() > 0);
        self.inspection.stalls =
            if took && !arrived && posted && self.link.is_some() { self.inspection.stalls + 1 } else { 0 };
        self.inspection.tally = tally;
        self.inspection.transfers = self.counters.rx_transfers;
        if self.inspection.stalls >= self.chip.config.receive_watchdog_inspections.max(1) {
            self.inspection.stalls = 0;
            self.counters.rx_stalls += 1;
            self.fault = Some(Fault::Receive);
        }
    }

    fn next_deadline(&self) -> Instant {
        let mut at = self.inspection.due;
        if let Some(pipes) = &self.pipes {
            if pipes.transmit.in_flight() > 0 {
                at = at.min(self.transmitting_since + self.chip.config.transmit_watchdog);
            }
            if self.link.is_some() && pipes.receive.in_flight() == 0 {
                // No block was free, and nothing tells when one comes back.
                at = at.min(self.now() + BLOCK_RETRY);
            }
        }
        at
    }

    /// Sorts a failed transfer in: the device is gone, or something is to be recovered.
    pub(crate) fn transfer_failed(&mut self, fault: Fault, error: TransferError) -> Result<(), DeviceError> {
        match error {
            TransferError::Gone => Err(DeviceError::Gone),
            error => {
                if self.fault.is_none() {
                    log::debug!("{}: a transfer failed ({fault:?}): {error}", self.information.driver);
                    self.fault = Some(fault);
                }
                Ok(())
            }
        }
    }
}

/// When no receive block was free, this long until the next look.
const BLOCK_RETRY: Duration = Duration::from_millis(10);
