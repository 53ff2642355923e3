//! Blocks for a bulk IN pipe: as many receive transfers in flight as wanted, out of a bounded pool.

use netbuf::{BlockPool, Memory, OutOfMemory, PAGE_SIZE, Zone};

use crate::device::{Pipe, Transfer, TransferError};

/// What receive transfers look like, and the blocks for them.
#[derive(Debug)]
pub struct ReceiveSupply {
    pool: BlockPool,
    length: usize,
    transfers: usize,
    blocks: usize,
}

/// What [`ReceiveSupply::replenish`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a transfer may have failed"]
pub struct Replenished {
    /// The pipe was told of new transfers.
    pub started: bool,
    /// Transfers are missing because no block was free. Nothing tells when one comes back: look again after a while.
    pub block_missing: bool,
    /// Why a transfer was refused.
    pub error: Option<TransferError>,
}

impl ReceiveSupply {
    /// For `transfers` transfers in flight, at least one, of `length` bytes each. Together with those that frames still
    /// reference there are at most `blocks` blocks.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] for the pool. Blocks are taken later.
    pub fn new(memory: &Memory, length: usize, transfers: usize, blocks: usize) -> Result<Self, OutOfMemory> {
        let order = length.div_ceil(PAGE_SIZE).next_power_of_two().trailing_zeros() as u8;
        let transfers = transfers.max(1);
        let pool = BlockPool::new(memory, order, Zone::Normal, blocks)?;
        Ok(Self { pool, length, transfers, blocks: blocks.max(transfers) })
    }

    /// Brings receive transfers up to as many as wanted when half of them are gone, and tells the pipe once: a few
    /// doorbells for many transfers.
    #[inline]
    pub fn replenish<P: Pipe>(&self, pipe: &mut P) -> Replenished {
        let mut done = Replenished { started: false, block_missing: false, error: None };
        if pipe.in_flight() > self.transfers / 2 {
            return done;
        }
        while pipe.in_flight() < self.transfers {
            let within = self.pool.out() < self.blocks;
            let Some(block) = within.then(|| self.pool.take().ok()).flatten() else {
                done.block_missing = true;
                break;
            };
            match pipe.submit(Transfer::In { block, length: self.length }) {
                Ok(()) => done.started = true,
                // The ring holds fewer than wanted.
                Err((TransferError::TooLarge, _)) if pipe.in_flight() > 0 => break,
                Err((error, _)) => {
                    done.error = Some(error);
                    break;
                }
            }
        }
        if done.started {
            pipe.start();
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use netbuf::host::HostPages;

    use super::*;
    use crate::fake::FakePipe;

    fn supply(transfers: usize, blocks: usize) -> ReceiveSupply {
        let memory = Memory::new(HostPages::new()).unwrap();
        ReceiveSupply::new(&memory, 5000, transfers, blocks).unwrap()
    }

    fn take(pipe: &mut FakePipe) -> Transfer {
        pipe.end(Ok(64));
        match pipe.poll_completion(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(completion) => completion.transfer,
            Poll::Pending => panic!("it ended"),
        }
    }

    #[test]
    fn transfers_are_posted_with_one_doorbell_and_again_when_half_are_gone() {
        let (supply, mut pipe) = (supply(8, 32), FakePipe::with_room(255));
        assert!(supply.replenish(&mut pipe).started);
        assert_eq!((pipe.submitted.as_slice(), pipe.starts), ([5000; 8].as_slice(), 1));
        for _ in 0..3 {
            drop(take(&mut pipe));
            assert!(!supply.replenish(&mut pipe).started);
        }
        drop(take(&mut pipe));
        assert!(supply.replenish(&mut pipe).started);
        assert_eq!((pipe.in_flight(), pipe.starts), (8, 2));
    }

    #[test]
    fn blocks_that_are_held_bound_the_transfers_and_are_missed() {
        let (supply, mut pipe) = (supply(2, 3), FakePipe::with_room(255));
        let all = Replenished { started: true, block_missing: false, error: None };
        assert_eq!(supply.replenish(&mut pipe), all);
        let held = [take(&mut pipe), take(&mut pipe)];
        assert_eq!(supply.replenish(&mut pipe), Replenished { block_missing: true, ..all });
        let third = take(&mut pipe);
        assert_eq!(
            supply.replenish(&mut pipe),
            Replenished { started: false, block_missing: true, error: None }
        );
        drop((held, third));
        assert_eq!(supply.replenish(&mut pipe), all);
    }

    #[test]
    fn a_ring_that_holds_fewer_is_no_fault_and_one_that_holds_none_is() {
        let supply = supply(8, 32);
        let mut pipe = FakePipe::with_room(5);
        assert_eq!(supply.replenish(&mut pipe).error, None);
        assert_eq!(pipe.in_flight(), 5);
        assert_eq!(supply.replenish(&mut FakePipe::with_room(0)).error, Some(TransferError::TooLarge));
    }
}
