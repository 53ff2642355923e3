//! The recovery ladder of class drivers: what to try, in which order, when a device stops working
//! (docs/hardware/field-failures.md), and how to empty a pipe on the way.
//!
//! A fault starts at the first step. If what failed has not worked again before the next fault, the next step is
//! taken; after the last one the device is given up.

use core::future::poll_fn;

use hal::network::DeviceError;
use hal::time::{Clock, Duration, timeout};

use crate::device::{OperationError, Path, Pipe, TransferError, UsbDevice};

/// What stopped working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Receive transfers fail, or bring nothing although frames arrive.
    Receive,
    /// Transmit transfers fail or do not end.
    Transmit,
    /// Control requests fail.
    Control,
}

/// One step of recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reset the data endpoints and start the data path afresh.
    Endpoints,
    /// Reset the port and bring the device up anew.
    Device,
    /// Switch the port's power off and on, and bring the device up anew.
    PortPower,
}

impl Step {
    /// For messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoint reset",
            Self::Device => "device reset",
            Self::PortPower => "port power cycle",
        }
    }

    const fn next(self) -> Option<Self> {
        match self {
            Self::Endpoints => Some(Self::Device),
            Self::Device => Some(Self::PortPower),
            Self::PortPower => None,
        }
    }
}

/// Where on the ladder a device stands.
#[derive(Debug)]
pub struct Ladder {
    /// Whose it is, for messages.
    device: Path,
    /// What failed and is not being recovered yet.
    fault: Option<Fault>,
    /// The last step taken, while what failed has not worked again.
    taken: Option<(Fault, Step)>,
}

impl Ladder {
    /// That of a device that works.
    #[must_use]
    pub const fn new(device: Path) -> Self {
        Self { device, fault: None, taken: None }
    }

    /// This failed. Of several faults the first one is recovered.
    pub fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// Sorts a failed transfer in.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Gone`]: there is nothing to recover.
    pub fn transfer_failed(&mut self, fault: Fault, error: TransferError) -> Result<(), DeviceError> {
        if error == TransferError::Gone {
            return Err(DeviceError::Gone);
        }
        log::debug!("{}: a transfer failed ({fault:?}): {error}", self.device);
        self.fail(fault);
        Ok(())
    }

    /// Whether something failed that is not being recovered yet.
    #[must_use]
    pub const fn is_faulty(&self) -> bool {
        self.fault.is_some()
    }

    /// The step to take for what failed, after a pause: `pause`, doubled with each step taken without progress. `None`
    /// when nothing failed.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Failed`] when all steps were taken.
    pub fn next_step(&mut self, pause: Duration) -> Result<Option<(Step, Duration)>, DeviceError> {
        let Some(fault) = self.fault.take() else { return Ok(None) };
        let pause = pause * (1 << self.height());
        let Some(step) = self.climb(fault) else {
            log::error!("{}: {fault:?} failed again after every step of recovery; giving up", self.device);
            return Err(DeviceError::Failed);
        };
        log::warn!("{}: {fault:?} failed; recovering by {}", self.device, step.name());
        Ok(Some((step, pause)))
    }

    fn climb(&mut self, fault: Fault) -> Option<Step> {
        let step = match self.taken {
            None => Step::Endpoints,
            Some((_, taken)) => taken.next()?,
        };
        self.taken = Some((fault, step));
        Some(step)
    }

    /// Steps taken for the fault that is not overcome yet.
    const fn height(&self) -> u32 {
        match self.taken {
            None => 0,
            Some((_, Step::Endpoints)) => 1,
            Some((_, Step::Device)) => 2,
            Some((_, Step::PortPower)) => 3,
        }
    }

    /// The step that was taken failed itself: the next one is for the same fault.
    pub fn step_failed(&mut self) {
        self.fail(self.taken.map_or(Fault::Control, |(fault, _)| fault));
    }

    /// This works: if it is what failed last, the fault is overcome.
    pub fn works(&mut self, what: Fault) {
        if self.taken.is_some_and(|(fault, _)| fault == what) {
            self.taken = None;
        }
    }
}

/// Takes the second or third step: resets the device, or cycles the power of its port. It has to be brought up anew.
///
/// # Errors
///
/// What [`UsbDevice::reset`] or [`UsbDevice::power_cycle`] gives.
pub async fn reset<D: UsbDevice>(device: &D, step: Step) -> Result<(), OperationError> {
    match step {
        Step::PortPower => {
            device.power_cycle().await.map_err(OperationError::of("switching the port's power"))
        }
        Step::Endpoints | Step::Device => {
            device.reset().await.map_err(OperationError::of("resetting the device"))
        }
    }
}

/// How long the transfers of a stopped pipe may take to come back.
const EMPTYING: Duration = Duration::from_secs(1);

/// Stops a pipe and drops what was queued.
///
/// # Errors
///
/// What [`Pipe::cancel`] gives; [`TransferError::TimedOut`] when transfers do not come back.
pub async fn empty<P: Pipe, C: Clock>(pipe: &mut P, clock: &C) -> Result<(), TransferError> {
    if pipe.in_flight() == 0 {
        return Ok(());
    }
    pipe.cancel().await?;
    collect(pipe, clock).await
}

/// Takes a pipe out of its halt and drops what was queued.
///
/// # Errors
///
/// What [`Pipe::recover`] gives; [`TransferError::TimedOut`] when transfers do not come back.
pub async fn recover<P: Pipe, C: Clock>(pipe: &mut P, clock: &C) -> Result<(), TransferError> {
    pipe.recover().await?;
    collect(pipe, clock).await
}

/// Waits for the completions of a pipe that stands still.
async fn collect<P: Pipe, C: Clock>(pipe: &mut P, clock: &C) -> Result<(), TransferError> {
    while pipe.in_flight() > 0 {
        let completion = poll_fn(|context| pipe.poll_completion(context));
        timeout(clock, EMPTYING, completion).await.map_err(|_| TransferError::TimedOut)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(10);

    fn step_for(ladder: &mut Ladder, fault: Fault) -> Result<Option<(Step, Duration)>, DeviceError> {
        ladder.fail(fault);
        ladder.next_step(PAUSE)
    }

    #[test]
    fn faults_without_progress_between_them_climb_to_the_end() {
        let mut ladder = Ladder::new(Path::root(0, 1));
        assert_eq!(step_for(&mut ladder, Fault::Transmit), Ok(Some((Step::Endpoints, PAUSE))));
        assert_eq!(step_for(&mut ladder, Fault::Transmit), Ok(Some((Step::Device, 2 * PAUSE))));
        assert_eq!(step_for(&mut ladder, Fault::Control), Ok(Some((Step::PortPower, 4 * PAUSE))));
        assert_eq!(step_for(&mut ladder, Fault::Transmit), Err(DeviceError::Failed));
    }

    #[test]
    fn of_several_faults_the_first_is_recovered_and_once() {
        let mut ladder = Ladder::new(Path::root(0, 1));
        assert_eq!(ladder.next_step(PAUSE), Ok(None));
        ladder.fail(Fault::Receive);
        assert_eq!(ladder.transfer_failed(Fault::Transmit, TransferError::Stall), Ok(()));
        assert_eq!(ladder.next_step(PAUSE), Ok(Some((Step::Endpoints, PAUSE))));
        assert!(!ladder.is_faulty());
        // What was recovered is the receive side: this shows.
        ladder.works(Fault::Receive);
        assert_eq!(step_for(&mut ladder, Fault::Transmit), Ok(Some((Step::Endpoints, PAUSE))));
    }

    #[test]
    fn a_step_that_fails_is_followed_by_the_next_and_progress_still_counts() {
        let mut ladder = Ladder::new(Path::root(0, 1));
        assert_eq!(step_for(&mut ladder, Fault::Receive), Ok(Some((Step::Endpoints, PAUSE))));
        ladder.step_failed();
        assert_eq!(ladder.next_step(PAUSE), Ok(Some((Step::Device, 2 * PAUSE))));
        // That control requests work again says nothing about what failed.
        ladder.works(Fault::Control);
        assert_eq!(step_for(&mut ladder, Fault::Receive), Ok(Some((Step::PortPower, 4 * PAUSE))));
        ladder.works(Fault::Receive);
        assert_eq!(step_for(&mut ladder, Fault::Receive), Ok(Some((Step::Endpoints, PAUSE))));
    }

    #[test]
    fn only_progress_of_what_failed_counts() {
        let mut ladder = Ladder::new(Path::root(0, 1));
        assert_eq!(step_for(&mut ladder, Fault::Transmit), Ok(Some((Step::Endpoints, PAUSE))));
        ladder.works(Fault::Receive);
        assert_eq!(step_for(&mut ladder, Fault::Transmit), Ok(Some((Step::Device, 2 * PAUSE))));
        ladder.works(Fault::Transmit);
        assert_eq!(step_for(&mut ladder, Fault::Transmit), Ok(Some((Step::Endpoints, PAUSE))));
    }
}
