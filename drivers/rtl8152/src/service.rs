//! What the driver does while it serves its adapter: polls pipes and the job under way, starts the next job, watches
//! for what is stuck, and tells the network layer of the link.

use core::task::{Context, Poll};

use hal::network::{DeviceError, Event};
use hal::time::{Clock, Duration, Instant};
use netbuf::Queue;
use usb::recovery::{Fault, Step};
use usb::{Pipe, UsbDevice};

use crate::driver::Rtl8152;
use crate::error::Error;
use crate::jobs::{self, Finished, Outcome, Running};
use crate::link::LinkStatus;
use crate::tally::Tally;

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

impl Inspection {
    /// Nothing counted yet, and the first look at this moment.
    pub fn new(due: Instant) -> Self {
        Self { due, tally: Tally::default(), transfers: 0, stalls: 0 }
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
                if let Some(event) = self.take_result(finished)? {
                    return Poll::Ready(Ok(event));
                }
            }
            if self.poll_pipes(context, received, budget)? {
                return Poll::Ready(Ok(Event::Progress));
            }
            if self.job.is_none() {
                self.job = self.next_job()?;
                if self.job.is_some() {
                    continue;
                }
                self.chip.registers.clock.wake_at(self.next_deadline(), context.waker());
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
        let room = self.poll_transmitted(context)?;
        let frames = self.poll_received(context, received, budget)?;
        if frames > 0 || room {
            return Ok(true);
        }
        // Frames first: while they come, the link is up.
        self.poll_events(context)?;
        Ok(false)
    }

    /// What has to be done next that is more than moving data.
    fn next_job(&mut self) -> Result<Option<Running<D::Pipe>>, DeviceError> {
        let now = self.now();
        self.watch_transmitter(now);
        if let Some((step, pause)) = self.ladder.next_step(self.chip.config.recovery_pause)? {
            return Ok(Some(self.recover(step, pause)));
        }
        if self.link_changed
            && let Some(pipes) = self.pipes.take()
        {
            self.link_changed = false;
            return Ok(Some(jobs::serve_link(self.chip.clone(), pipes, self.link)));
        }
        if self.filter_changed && self.link.is_some() {
            self.filter_changed = false;
            return Ok(Some(jobs::set_filter(self.chip.clone())));
        }
        if self.events.wants_recovery()
            && let Some(pipes) = self.pipes.take()
        {
            self.counters.recovery_interrupt_endpoint += 1;
            let pause = self.chip.config.recovery_pause;
            return Ok(Some(jobs::recover_interrupt(self.chip.clone(), pipes, pause)));
        }
        if now >= self.inspection.due {
            self.inspection.due = now + self.chip.config.inspection_interval;
            return Ok(Some(jobs::inspect(self.chip.clone())));
        }
        Ok(None)
    }

    /// A transmit transfer that does not end is a fault.
    fn watch_transmitter(&mut self, now: Instant) {
        let Some(pipes) = &self.pipes else { return };
        let deadline = self.transmitter.deadline(&pipes.transmit);
        if deadline.is_some_and(|deadline| now >= deadline) && !self.ladder.is_faulty() {
            self.counters.tx_timeouts += 1;
            self.ladder.fail(Fault::Transmit);
        }
    }

    fn recover(&mut self, step: Step, pause: Duration) -> Running<D::Pipe> {
        match step {
            Step::Endpoints => self.counters.recovery_endpoint_resets += 1,
            Step::Device => self.counters.recovery_device_resets += 1,
            Step::PortPower => self.counters.recovery_port_power_cycles += 1,
        }
        self.aggregate = None;
        // A step that succeeds sets the filter.
        self.filter_changed = false;
        if step != Step::Endpoints {
            self.events.forget();
        }
        jobs::recover(self.chip.clone(), self.pipes.take(), self.endpoints, step, pause)
    }

    /// Takes a job's result in. An event when the link changed for the network layer.
    fn take_result(&mut self, finished: Finished<D::Pipe>) -> Result<Option<Event>, DeviceError> {
        if let Some(pipes) = finished.pipes {
            self.pipes = Some(pipes);
        }
        let transmit = self.pipes.as_ref().map(|pipes| &pipes.transmit);
        self.counters.tx_dropped_lost += self.transmitter.take_lost(transmit);
        match finished.outcome {
            Outcome::Link(Ok(status)) => Ok(self.link_served(status)),
            Outcome::Recovered(_, Ok(status)) => {
                self.inspection.stalls = 0;
                Ok(self.link_served(status))
            }
            Outcome::Recovered(step, Err(error)) if !error.is_gone() => {
                log::warn!("{}: {} failed: {error}", self.information.driver, step.name());
                self.counters.recovery_steps_failed += 1;
                self.ladder.step_failed();
                Ok(None)
            }
            Outcome::Inspected(Ok((status, tally))) => {
                self.inspected(status, tally);
                Ok(None)
            }
            // Room came free: the job had the other pipes, too.
            Outcome::InterruptRecovered(outcome) => {
                self.events.recovered(outcome).map(|()| Some(Event::Progress))
            }
            Outcome::Filtered(Ok(())) => Ok(None),
            Outcome::Link(Err(error))
            | Outcome::Recovered(_, Err(error))
            | Outcome::Inspected(Err(error))
            | Outcome::Filtered(Err(error)) => self.job_failed(error),
        }
    }

    fn job_failed(&mut self, error: Error) -> Result<Option<Event>, DeviceError> {
        if error.is_gone() {
            return Err(DeviceError::Gone);
        }
        log::warn!("{}: {error}", self.information.driver);
        self.ladder.fail(Fault::Control);
        Ok(None)
    }

    fn link_served(&mut self, status: Option<LinkStatus>) -> Option<Event> {
        let before = core::mem::replace(&mut self.link, status);
        match (before, status) {
            (None, Some(status)) => {
                self.counters.link_ups += 1;
                log::debug!("{}: link up, {} Mb/s", self.information.driver, status.speed());
                Some(Event::LinkUp(status.speed()))
            }
            (Some(_), None) => {
                self.counters.link_downs += 1;
                log::debug!("{}: link down", self.information.driver);
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
            self.ladder.fail(Fault::Receive);
        }
    }

    fn next_deadline(&self) -> Instant {
        let mut at = self.inspection.due;
        if let Some(pipes) = &self.pipes {
            if let Some(deadline) = self.transmitter.deadline(&pipes.transmit) {
                at = at.min(deadline);
            }
            if self.link.is_some() && pipes.receive.in_flight() == 0 {
                // No block was free, and nothing tells when one comes back.
                at = at.min(self.now() + BLOCK_RETRY);
            }
        }
        at
    }
}

/// When no receive block was free, this long until the next look.
const BLOCK_RETRY: Duration = Duration::from_millis(10);
