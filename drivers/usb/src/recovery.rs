//! The recovery ladder of class drivers: what to try, in which order, when a device stops working
//! (docs/hardware/field-failures.md), and how to empty a pipe on the way.
//!
//! A fault starts at the first step. If what failed has not worked again before the next fault, the next step is
//! taken; after the last one the device is given up.

use core::future::poll_fn;

use hal::time::{Clock, Duration, timeout};

use crate::device::{Pipe, TransferError};

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
#[derive(Debug, Default)]
pub struct Ladder {
    /// The last step taken, while what failed has not worked again.
    taken: Option<(Fault, Step)>,
}

impl Ladder {
    /// The step to take now that this failed; `None` when all were taken.
    pub fn climb(&mut self, fault: Fault) -> Option<Step> {
        let step = match self.taken {
            None => Step::Endpoints,
            Some((_, taken)) => taken.next()?,
        };
        self.taken = Some((fault, step));
        Some(step)
    }

    /// Steps taken for the fault that is not overcome yet.
    #[must_use]
    pub const fn height(&self) -> u32 {
        match self.taken {
            None => 0,
            Some((_, Step::Endpoints)) => 1,
            Some((_, Step::Device)) => 2,
            Some((_, Step::PortPower)) => 3,
        }
    }

    /// This works: if it is what failed last, the fault is overcome.
    pub fn works(&mut self, what: Fault) {
        if self.taken.is_some_and(|(fault, _)| fault == what) {
            self.taken = None;
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

    #[test]
    fn faults_without_progress_between_them_climb_to_the_end() {
        let mut ladder = Ladder::default();
        assert_eq!(ladder.climb(Fault::Transmit), Some(Step::Endpoints));
        assert_eq!(ladder.climb(Fault::Transmit), Some(Step::Device));
        assert_eq!(ladder.climb(Fault::Control), Some(Step::PortPower));
        assert_eq!(ladder.climb(Fault::Transmit), None);
    }

    #[test]
    fn only_progress_of_what_failed_counts() {
        let mut ladder = Ladder::default();
        ladder.climb(Fault::Transmit);
        ladder.works(Fault::Receive);
        assert_eq!(ladder.climb(Fault::Transmit), Some(Step::Device));
        ladder.works(Fault::Transmit);
        assert_eq!((ladder.height(), ladder.climb(Fault::Transmit)), (0, Some(Step::Endpoints)));
    }
}
