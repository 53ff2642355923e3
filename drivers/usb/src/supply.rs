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
