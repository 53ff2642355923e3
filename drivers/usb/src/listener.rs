//! Listening at an interrupt IN endpoint: one transfer in flight, in a block of its own.

use core::task::{Context, Poll};

use hal::network::DeviceError;
use netbuf::{Block, BlockPool, Memory, OutOfMemory, PAGE_SIZE, Zone};

use crate::device::{Pipe, Transfer, TransferError};

/// After so many faults without a message between them the endpoint is left alone.
const PATIENCE: u32 = 3;

/// How an interrupt endpoint fares.
#[derive(Debug)]
pub struct Listener {
    pool: BlockPool,
    length: usize,
    /// The endpoint has to be reset before it can be used again.
    halted: bool,
    /// Faults without a message between them.
    faults: u32,
}

/// What an endpoint said.
#[derive(Debug)]
pub struct Message {
    block: Block,
    length: usize,
}

impl Message {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.block.bytes().get(..self.length).unwrap_or_default()
    }
}

impl Listener {
    /// For messages of at most `length` bytes, and of a page.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] for the block.
    pub fn new(memory: &Memory, length: usize) -> Result<Self, OutOfMemory> {
        let pool = BlockPool::new(memory, 0, Zone::Normal, 1)?;
        Ok(Self { pool, length: length.min(PAGE_SIZE), halted: false, faults: 0 })
    }

    /// The next message. Pending, too, while the endpoint waits for its recovery or is left alone.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Gone`]. Other faults are noted: see [`Listener::wants_recovery`].
    pub fn poll_message<P: Pipe>(
        &mut self,
        pipe: &mut P,
        context: &mut Context<'_>,
    ) -> Poll<Result<Message, DeviceError>> {
        loop {
            if pipe.in_flight() == 0 {
                if self.halted || self.faults >= PATIENCE {
                    return Poll::Pending;
                }
                let Ok(block) = self.pool.take() else { return Poll::Pending };
                match pipe.submit(Transfer::In { block, length: self.length }) {
                    Ok(()) => pipe.start(),
                    Err((error, _)) => {
                        self.failed(error)?;
                        continue;
                    }
                }
            }
            let Poll::Ready(completion) = pipe.poll_completion(context) else { return Poll::Pending };
            let Transfer::In { block, .. } = completion.transfer else { continue };
            match completion.result {
                Ok(length) => {
                    self.faults = 0;
                    return Poll::Ready(Ok(Message { block, length }));
                }
                Err(TransferError::Cancelled) => {}
                Err(error) => self.failed(error)?,
            }
        }
    }

    fn failed(&mut self, error: TransferError) -> Result<(), DeviceError> {
        if error == TransferError::Gone {
            return Err(DeviceError::Gone);
        }
        self.faults += 1;
        self.halted = true;
        Ok(())
    }

    /// Whether the endpoint is to be reset ([`recovery::recover`](crate::recovery::recover)).
    #[must_use]
    pub const fn wants_recovery(&self) -> bool {
        self.halted && self.faults < PATIENCE
    }

    /// The endpoint was reset, or could not be.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Gone`].
    pub fn recovered(&mut self, outcome: Result<(), TransferError>) -> Result<(), DeviceError> {
        self.halted = false;
        outcome.or_else(|error| self.failed(error))
    }

    /// The device starts anew: nothing is held against it.
    pub const fn forget(&mut self) {
        self.halted = false;
        self.faults = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use netbuf::host::HostPages;

    use super::*;
    use crate::fake::FakePipe;

    fn poll(listener: &mut Listener, pipe: &mut FakePipe) -> Poll<Result<usize, DeviceError>> {
        let message = listener.poll_message(pipe, &mut Context::from_waker(Waker::noop()));
        message.map_ok(|message| message.bytes().len())
    }

    #[test]
    fn one_transfer_is_in_flight_and_brings_what_came() {
        let memory = Memory::new(HostPages::new()).unwrap();
        let (mut listener, mut pipe) = (Listener::new(&memory, 8).unwrap(), FakePipe::with_room(255));
        assert_eq!(poll(&mut listener, &mut pipe), Poll::Pending);
        assert_eq!(poll(&mut listener, &mut pipe), Poll::Pending);
        assert_eq!((pipe.submitted.as_slice(), pipe.starts), ([8].as_slice(), 1));
        pipe.end(Ok(2));
        assert_eq!(poll(&mut listener, &mut pipe), Poll::Ready(Ok(2)));
        assert_eq!(poll(&mut listener, &mut pipe), Poll::Pending);
        assert_eq!(pipe.starts, 2);
    }

    #[test]
    fn after_a_fault_it_waits_for_recovery_and_after_three_it_is_left_alone() {
        let memory = Memory::new(HostPages::new()).unwrap();
        let (mut listener, mut pipe) = (Listener::new(&memory, 8).unwrap(), FakePipe::with_room(255));
        for fault in 1..=3 {
            assert_eq!(poll(&mut listener, &mut pipe), Poll::Pending);
            pipe.end(Err(TransferError::Stall));
            assert_eq!(poll(&mut listener, &mut pipe), Poll::Pending);
            assert_eq!((pipe.in_flight(), listener.wants_recovery()), (0, fault < 3));
            assert_eq!(listener.recovered(Ok(())), Ok(()));
        }
        assert_eq!(poll(&mut listener, &mut pipe), Poll::Pending);
        assert_eq!(pipe.starts, 3);
        listener.forget();
        assert_eq!(poll(&mut listener, &mut pipe), Poll::Pending);
        assert_eq!(pipe.starts, 4);
        pipe.end(Err(TransferError::Gone));
        assert_eq!(poll(&mut listener, &mut pipe), Poll::Ready(Err(DeviceError::Gone)));
    }
}
