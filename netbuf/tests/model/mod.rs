//! Buffers beside a plain `Vec<u8>` each: operations run on both, and after each of them everything is compared.
//!
//! The model also knows which buffers share a head, who is charged for them, where their headers
//! are and what a queue holds. Allocation may fail at any step; then everything must be as it was.
#![allow(clippy::collapsible_match, reason = "a step is one arm: what it does, then what must hold")]

pub mod account;
mod buffers;
mod change;
mod check;
mod memory;
mod place;
mod queue;
mod step;

use std::collections::VecDeque;
use std::sync::Arc;

use account::Account;
use netbuf::host::HostPages;
use netbuf::{Block, BlockPool, ChecksumStatus, LockedQueue, Memory, NetBuf, SharedBlock, Zone};
use place::Place;
pub use step::Step;
use step::{Action, Which};

/// What a buffer must be.
#[derive(Clone, Debug)]
struct State {
    bytes: Vec<u8>,
    /// The head: buffers with the same one share it.
    head: usize,
    /// Whether the model's account pays.
    charged: bool,
    /// Link-layer, network and transport header, from the start of the data.
    headers: [Option<i64>; 3],
    status: Status,
    /// All plain fields are made from this number; zero is a new buffer's.
    metadata: u8,
}

/// [`ChecksumStatus`], with a start that moves in front of the data.
#[derive(Clone, Copy, Debug)]
enum Status {
    None,
    Complete(u32),
    Partial { start: i64, offset: usize },
}

impl State {
    fn new(bytes: Vec<u8>, head: usize) -> Self {
        Self { bytes, head, charged: false, headers: [None; 3], status: Status::None, metadata: 0 }
    }

    /// The data begins `by` bytes further back, or further in front.
    fn data_moves(&mut self, by: i64) {
        for header in self.headers.iter_mut().flatten() {
            *header -= by;
        }
        if let Status::Partial { start, .. } = &mut self.status {
            *start -= by;
        }
    }

    fn status(&self) -> ChecksumStatus {
        match self.status {
            Status::None => ChecksumStatus::None,
            Status::Complete(sum) => ChecksumStatus::Complete(sum),
            Status::Partial { start, offset } => match usize::try_from(start) {
                Ok(start) if start + offset + 2 <= self.bytes.len() => {
                    ChecksumStatus::Partial { start, offset }
                }
                _ => ChecksumStatus::None,
            },
        }
    }
}

/// What must be known of a head.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    /// A buffer on a frag list may use it, which the model does not follow.
    listed: bool,
    /// How to segment the packet, and when the hardware saw it: of the packet, copies keep it.
    packet: u8,
    /// Flags for the device that gets this very buffer.
    transmit: u8,
}

struct Pair {
    buffer: NetBuf,
    state: State,
}

pub struct Model {
    pages: Arc<HostPages>,
    /// Handles, `None` once they are dropped. Frags of either lie in buffers of both.
    memories: [Option<Memory>; 2],
    /// Of the first memory.
    pool: Option<BlockPool>,
    block: Option<SharedBlock>,
    /// Where the last frag of the block ended.
    last_end: usize,
    pairs: Vec<Pair>,
    queue: LockedQueue,
    queued: VecDeque<State>,
    heads: Vec<Head>,
    account: Arc<Account>,
    next_value: u8,
    /// Whether this thread's `free_deferred` settles everything: it owns the memory, or nobody does.
    decides: bool,
    /// Nothing that other contexts left is waiting to be freed.
    settled: bool,
}

const MOST: usize = 8;

impl Model {
    /// `None` when a fault hits the set-up.
    pub fn new(pages: Arc<HostPages>, owned: bool) -> Option<Self> {
        let make = if owned { Memory::new } else { Memory::unowned };
        let memory = make(pages.clone()).ok()?;
        let second = make(pages.clone()).ok()?;
        let pool = BlockPool::new(&memory, 2, Zone::Dma32, 3).ok()?;
        let block = fill(pool.take().ok()?, 0);
        Some(Self {
            pages,
            memories: [Some(memory), Some(second)],
            pool: Some(pool),
            block: Some(block),
            last_end: 0,
            pairs: Vec::new(),
            queue: LockedQueue::new(),
            queued: VecDeque::new(),
            heads: Vec::new(),
            account: Arc::default(),
            next_value: 0,
            decides: true,
            settled: true,
        })
    }

    /// From now on the steps run on a thread that does not own the memory.
    #[allow(dead_code, reason = "not every test leaves the owner")]
    pub fn owner_is_gone(&mut self) {
        self.decides = false;
        self.settled = false;
    }

    /// One of the memories, by the highest bit.
    fn memory(&self, number: u16) -> Option<&Memory> {
        self.memories[usize::from(number >> 15)].as_ref()
    }

    fn has_all_handles(&self) -> bool {
        self.memories.iter().all(Option::is_some)
    }

    fn value(&mut self) -> u8 {
        self.next_value = self.next_value.wrapping_mul(5).wrapping_add(3);
        self.next_value
    }

    fn new_head(&mut self, head: Head) -> usize {
        self.heads.push(Head { listed: false, ..head });
        self.heads.len() - 1
    }

    fn add(&mut self, buffer: NetBuf, state: State) {
        if self.pairs.len() == MOST {
            self.pairs.remove(0);
        }
        self.pairs.push(Pair { buffer, state });
    }

    fn add_new(&mut self, buffer: NetBuf, bytes: Vec<u8>) {
        let head = self.new_head(Head::default());
        self.add(buffer, State::new(bytes, head));
    }

    /// Takes the buffer meant by `which`, if there is any.
    fn remove(&mut self, which: Which) -> Option<Pair> {
        let index = usize::from(which).checked_rem(self.pairs.len())?;
        Some(self.pairs.remove(index))
    }

    /// Runs one step on both sides. Whether it succeeds is up to the buffers; what it does then is not.
    pub fn run(&mut self, step: &Step) {
        let Step { mut place, action } = *step;
        let drops_handles = matches!(action, Action::DropHandles(_));
        // Without a handle nobody drains what handlers leave.
        if place.is_interrupt() && (!self.has_all_handles() || drops_handles) {
            place = Place::Here;
        }
        place.run(|| self.act(action, place));
        if place != Place::Here {
            self.settled = false;
        } else if matches!(action, Action::FreeDeferred) && self.has_all_handles() && self.decides {
            self.settled = true;
        }
        self.check();
    }

    fn act(&mut self, action: Action, place: Place) {
        match action {
            Action::Free(which) => self.free(which, place, NetBuf::free),
            Action::FreeAny(which) => self.free(which, place, NetBuf::free_any),
            Action::FreeIrq(which) if self.has_all_handles() => {
                self.free(which, Place::InterruptHere, NetBuf::free_irq);
                self.settled = false;
            }
            Action::FreeIrq(which) => self.free(which, place, drop),
            _ => {
                let _ = self.act_on_memory(action)
                    || self.act_on_queue(action)
                    || self.act_on_two(action)
                    || self.act_on_one(action);
            }
        }
    }

    /// In a handler nothing is released but put on a list.
    fn free(&mut self, which: Which, place: Place, end: fn(NetBuf)) {
        let live = |model: &Self| {
            model.memories.iter().flatten().map(|memory| memory.statistics().live_descriptors).sum::<usize>()
        };
        let before = live(self);
        if let Some(pair) = self.remove(which) {
            end(pair.buffer);
            if place.is_interrupt() {
                assert_eq!(live(self), before);
            }
        }
    }

    /// Drops everything and checks that nothing is left.
    pub fn finish(self) {
        let Self { pages, memories, pool, block, pairs, queue, account, decides, .. } = self;
        drop(pairs);
        queue.clear();
        drop(queue);
        for memory in memories.iter().flatten() {
            memory.free_deferred();
        }
        drop(block);
        // Of references in stock only the owner knows that they are nobody's.
        assert!(pool.as_ref().is_none_or(|pool| pool.out() == 0) || !decides);
        drop(pool);
        for memory in memories.into_iter().flatten() {
            let statistics = memory.statistics();
            assert_eq!(statistics.live_descriptors, 0);
            assert!(statistics.live_slab_objects == 0 || !decides);
            assert!(statistics.live_blocks == 0 || !decides);
        }
        assert_eq!(account.charged(), 0);
        assert_eq!(pages.live_blocks(), 0);
    }
}

fn fill(mut block: Block, value: u8) -> SharedBlock {
    for (index, byte) in block.bytes_mut().iter_mut().enumerate() {
        *byte = (index as u8).wrapping_mul(7).wrapping_add(value);
    }
    block.share()
}
