//! A pipe that a unit test plays the endpoint of.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::vec::Vec;

use crate::device::{Completion, Pipe, Transfer, TransferError};

/// Transfers end when the test says so.
#[derive(Default)]
pub(crate) struct FakePipe {
    queued: VecDeque<Transfer>,
    finished: VecDeque<Completion>,
    /// Transfers that it takes at most.
    pub room: usize,
    /// Lengths of the transfers that were submitted.
    pub submitted: Vec<usize>,
    /// Doorbells.
    pub starts: usize,
}

impl FakePipe {
    pub fn with_room(room: usize) -> Self {
        Self { room, ..Self::default() }
    }

    /// The oldest transfer ends.
    pub fn end(&mut self, result: Result<usize, TransferError>) {
        let transfer = self.queued.pop_front().expect("a transfer is under way");
        self.finished.push_back(Completion { transfer, result });
    }
}

impl Pipe for FakePipe {
    fn submit(&mut self, transfer: Transfer) -> Result<(), (TransferError, Transfer)> {
        if self.in_flight() >= self.room {
            return Err((TransferError::TooLarge, transfer));
        }
        if let Transfer::In { length, .. } = &transfer {
            self.submitted.push(*length);
        }
        self.queued.push_back(transfer);
        Ok(())
    }
    fn start(&mut self) {
        self.starts += 1;
    }
    fn poll_completion(&mut self, _: &mut Context<'_>) -> Poll<Completion> {
        self.finished.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
    fn in_flight(&self) -> usize {
        self.queued.len() + self.finished.len()
    }
    async fn recover(&mut self) -> Result<(), TransferError> {
        Ok(())
    }
    async fn cancel(&mut self) -> Result<(), TransferError> {
        Ok(())
    }
}
