//! The transmit side of a class driver: a bound on the transfers of a bulk OUT pipe, their lists kept for the next ones,
//! and a watch over those that do not end.

use alloc::vec::Vec;
use core::task::{Context, Poll};

use hal::time::{Clock, Duration, Instant};

use crate::device::{Pipe, Transfer, TransferError};
use crate::gather::Gather;

/// What is under way on a bulk OUT pipe. The pipe itself is its owner's, who may take it away for a while.
#[derive(Debug)]
pub struct Transmitter {
    /// Transfers in flight at most.
    transfers: usize,
    /// A transfer that takes longer is stuck.
    watchdog: Duration,
    /// Empty gathers that keep their memory for the next transfer.
    spare: Vec<Gather>,
    /// Frames in transfers under way.
    frames: u64,
    /// Since when the oldest transfer is under way, or the last one finished.
    since: Instant,
    /// The pipe took no more transfers; until one finishes.
    full: bool,
    /// Frames were left for want of room.
    wants_room: bool,
    /// The pipe was not told of all transfers yet.
    unannounced: bool,
}

/// A transfer that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Frames in it.
    pub frames: u64,
    /// Bytes sent, or why they were not.
    pub result: Result<usize, TransferError>,
}

/// Why a transfer was not taken; with what was to be sent.
#[derive(Debug)]
pub enum Refused {
    /// There is no room until another transfer finishes.
    Full(Gather),
    /// The pipe is empty and refuses this transfer all the same.
    Failed(TransferError, Gather),
}

impl Transmitter {
    /// For at most `transfers` transfers in flight, at least one, of which none may take longer than `watchdog`.
    #[must_use]
    pub fn new(transfers: usize, watchdog: Duration) -> Self {
        Self {
            transfers: transfers.max(1),
            watchdog,
            spare: Vec::new(),
            frames: 0,
            since: Instant::default(),
            full: false,
            wants_room: false,
            unannounced: false,
        }
    }

    /// Whether the pipe takes another transfer.
    #[inline]
    pub fn has_room<P: Pipe>(&self, pipe: &P) -> bool {
        let in_flight = pipe.in_flight();
        in_flight == 0 || in_flight < self.transfers && !self.full
    }

    /// An empty gather for the next transfer.
    #[inline]
    pub fn gather(&mut self) -> Gather {
        self.spare.pop().unwrap_or_default()
    }

    /// Drops the frames of a gather and keeps it.
    pub fn keep(&mut self, mut gather: Gather) {
        gather.clear();
        if self.spare.len() < self.transfers {
            self.spare.push(gather);
        }
    }

    /// Queues a transfer of so many frames. The pipe hears of it with [`Transmitter::announce`].
    ///
    /// # Errors
    ///
    /// [`Refused`], with the gather.
    #[inline]
    pub fn submit<P: Pipe, C: Clock>(
        &mut self,
        pipe: &mut P,
        clock: &C,
        gather: Gather,
        frames: u64,
    ) -> Result<(), Refused> {
        let idle = pipe.in_flight() == 0;
        match pipe.submit(Transfer::Out(gather)) {
            Ok(()) => {
                if idle {
                    self.since = clock.now();
                    self.full = false;
                }
                self.frames += frames;
                self.unannounced = true;
                Ok(())
            }
            Err((TransferError::TooLarge, Transfer::Out(gather))) if !idle => {
                self.full = true;
                Err(Refused::Full(gather))
            }
            Err((error, Transfer::Out(gather))) => Err(Refused::Failed(error, gather)),
            Err((error, Transfer::In { .. })) => Err(Refused::Failed(error, Gather::new())),
        }
    }

    /// Tells the pipe once of all that was submitted; true when there was something. `left`: frames were left for want
    /// of room.
    #[inline]
    pub fn announce<P: Pipe>(&mut self, pipe: Option<&mut P>, left: bool) -> bool {
        self.wants_room = left;
        let Some(pipe) = pipe else { return false };
        // What was sent is of interest only when its room is.
        pipe.announce_after(if left { 1 } else { self.transfers });
        let submitted = core::mem::take(&mut self.unannounced);
        if submitted {
            pipe.start();
        }
        submitted
    }

    /// The next transfer that came back.
    #[inline(always)]
    pub fn poll_sent<P: Pipe, C: Clock>(
        &mut self,
        pipe: &mut P,
        clock: &C,
        context: &mut Context<'_>,
    ) -> Poll<Sent> {
        if pipe.in_flight() == 0 {
            return Poll::Pending;
        }
        let Poll::Ready(completion) = pipe.poll_completion(context) else { return Poll::Pending };
        self.since = clock.now();
        self.full = false;
        let mut frames = 0;
        if let Transfer::Out(gather) = completion.transfer {
            frames = gather.frame_count() as u64;
            self.keep(gather);
        }
        self.frames = self.frames.saturating_sub(frames);
        Poll::Ready(Sent { frames, result: completion.result })
    }

    /// Whether frames were left for want of room; says so once.
    #[inline]
    pub fn take_wish(&mut self) -> bool {
        core::mem::take(&mut self.wants_room)
    }

    /// When the pipe is stuck unless a transfer finishes before; `None` when none is in flight.
    #[inline]
    pub fn deadline<P: Pipe>(&self, pipe: &P) -> Option<Instant> {
        (pipe.in_flight() > 0).then(|| self.since + self.watchdog)
    }

    /// Frames that were under way on a pipe that was emptied meanwhile, or is gone: they are lost. Says so once.
    pub fn take_lost<P: Pipe>(&mut self, pipe: Option<&P>) -> u64 {
        if pipe.is_some_and(|pipe| pipe.in_flight() > 0) { 0 } else { core::mem::take(&mut self.frames) }
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use std::task::Waker;

    use netbuf::host::HostPages;
    use netbuf::{Memory, NetBuf};

    use super::*;
    use crate::fake::FakePipe;

    const WATCHDOG: Duration = Duration::from_secs(5);

    /// Stands until the test moves it.
    #[derive(Default)]
    struct Stopped(Cell<Instant>);

    impl Clock for Stopped {
        fn now(&self) -> Instant {
            self.0.get()
        }
        fn wake_at(&self, _: Instant, _: &Waker) {}
    }

    impl Stopped {
        fn pass(&self, seconds: u64) {
            self.0.set(self.0.get() + Duration::from_secs(seconds));
        }
    }

    fn gather(transmitter: &mut Transmitter, memory: &Memory, frames: usize) -> Gather {
        let mut gather = transmitter.gather();
        assert_eq!(gather.frame_count(), 0);
        (0..frames).for_each(|_| gather.push_frame(NetBuf::alloc(memory, 64).unwrap()));
        gather
    }

    fn sent(transmitter: &mut Transmitter, pipe: &mut FakePipe, clock: &Stopped) -> Poll<Sent> {
        transmitter.poll_sent(pipe, clock, &mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn transfers_are_bounded_and_announced_once() {
        let memory = Memory::new(HostPages::new()).unwrap();
        let (mut transmitter, mut pipe) = (Transmitter::new(2, WATCHDOG), FakePipe::with_room(255));
        let clock = Stopped::default();
        for frames in [3, 1] {
            assert!(transmitter.has_room(&pipe));
            let gather = gather(&mut transmitter, &memory, frames);
            transmitter.submit(&mut pipe, &clock, gather, frames as u64).unwrap();
        }
        assert!(!transmitter.has_room(&pipe));
        assert!(transmitter.announce(Some(&mut pipe), true));
        assert!(!transmitter.announce(Some(&mut pipe), true));
        assert_eq!(pipe.starts, 1);
        assert_eq!(sent(&mut transmitter, &mut pipe, &clock), Poll::Pending);
        pipe.end(Ok(192));
        let first = Sent { frames: 3, result: Ok(192) };
        assert_eq!(sent(&mut transmitter, &mut pipe, &clock), Poll::Ready(first));
        assert!(transmitter.has_room(&pipe));
        assert_eq!((transmitter.take_wish(), transmitter.take_wish()), (true, false));
        assert_eq!(memory.statistics().live_descriptors, 1);
    }

    #[test]
    fn a_full_pipe_has_no_room_until_a_transfer_finishes_and_an_empty_one_that_refuses_fails() {
        let memory = Memory::new(HostPages::new()).unwrap();
        let (mut transmitter, mut pipe) = (Transmitter::new(8, WATCHDOG), FakePipe::with_room(1));
        let clock = Stopped::default();
        for _ in 0..2 {
            assert!(transmitter.has_room(&pipe));
            let first = gather(&mut transmitter, &memory, 1);
            transmitter.submit(&mut pipe, &clock, first, 1).unwrap();
            let second = gather(&mut transmitter, &memory, 2);
            match transmitter.submit(&mut pipe, &clock, second, 2) {
                Err(Refused::Full(gather)) => assert_eq!(gather.frame_count(), 2),
                other => panic!("{other:?}"),
            }
            assert!(!transmitter.has_room(&pipe));
            pipe.end(Ok(64));
            assert!(sent(&mut transmitter, &mut pipe, &clock).is_ready());
        }
        pipe.room = 0;
        let refused = gather(&mut transmitter, &memory, 1);
        match transmitter.submit(&mut pipe, &clock, refused, 1) {
            Err(Refused::Failed(TransferError::TooLarge, gather)) => assert_eq!(gather.frame_count(), 1),
            other => panic!("{other:?}"),
        }
        assert!(transmitter.has_room(&pipe));
    }

    #[test]
    fn each_transfer_has_its_time_and_what_a_pipe_lost_is_counted() {
        let memory = Memory::new(HostPages::new()).unwrap();
        let (mut transmitter, mut pipe) = (Transmitter::new(8, WATCHDOG), FakePipe::with_room(255));
        let clock = Stopped::default();
        clock.pass(100);
        assert_eq!(transmitter.deadline(&pipe), None);
        let deadline = clock.now() + WATCHDOG;
        for frames in [1, 2] {
            let gather = gather(&mut transmitter, &memory, frames);
            transmitter.submit(&mut pipe, &clock, gather, frames as u64).unwrap();
            clock.pass(3);
            assert_eq!(transmitter.deadline(&pipe), Some(deadline), "that of the first");
        }
        pipe.end(Err(TransferError::Stall));
        let failed = Sent { frames: 1, result: Err(TransferError::Stall) };
        assert_eq!(sent(&mut transmitter, &mut pipe, &clock), Poll::Ready(failed));
        assert_eq!(transmitter.deadline(&pipe), Some(clock.now() + WATCHDOG), "the next has its own time");
        assert_eq!(transmitter.take_lost(Some(&pipe)), 0);
        drop(pipe);
        assert_eq!(transmitter.take_lost::<FakePipe>(None), 2);
        assert_eq!(transmitter.take_lost::<FakePipe>(None), 0);
    }
}
