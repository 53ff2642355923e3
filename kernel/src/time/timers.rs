//! The queue of wake-ups: which task to wake when.
//!
//! One entry for each task is enough. A task that is woken polls whatever it waits for, and every timer among that which
//! has not passed asks again; so only the earliest moment of each task is kept, and timers that were dropped before
//! they passed leave nothing behind. Tasks are few: a plain list is as quick as anything.

use alloc::vec::Vec;
use core::task::Waker;

use hal::time::Instant;

/// Wake-ups to come.
#[derive(Debug, Default)]
pub struct Timers {
    entries: Vec<(Instant, Waker)>,
}

impl Timers {
    /// No wake-ups.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds a wake-up; whether it is now the earliest of all.
    pub fn add(&mut self, at: Instant, waker: &Waker) -> bool {
        let own = self.entries.iter().position(|(_, own)| own.will_wake(waker));
        // What a busy task asks for over and over.
        if own.is_some_and(|index| self.entries[index].0 <= at) {
            return false;
        }
        let earliest = self.earliest().is_none_or(|earliest| at < earliest);
        match own {
            Some(index) => self.entries[index].0 = at,
            None => self.entries.push((at, waker.clone())),
        }
        earliest
    }

    /// The moment of the earliest wake-up.
    #[must_use]
    pub fn earliest(&self) -> Option<Instant> {
        self.entries.iter().map(|(at, _)| *at).min()
    }

    /// Takes out one wake-up whose moment has come.
    pub fn take_expired(&mut self, now: Instant) -> Option<Waker> {
        let index = self.entries.iter().position(|(at, _)| *at <= now)?;
        Some(self.entries.swap_remove(index).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn at(nanoseconds: u64) -> Instant {
        Instant::from_nanoseconds(nanoseconds)
    }

    #[test]
    fn a_task_keeps_only_its_earliest_moment() {
        let waker = Waker::from(Arc::new(Count(AtomicUsize::new(0))));
        let mut timers = Timers::new();
        assert!(timers.add(at(50), &waker));
        assert!(!timers.add(at(70), &waker));
        assert!(timers.add(at(20), &waker));
        assert_eq!(timers.earliest(), Some(at(20)));
        assert_eq!(timers.entries.len(), 1);
    }

    #[test]
    fn wake_ups_come_out_when_their_moment_has_come() {
        let counts: Vec<_> = (0..3).map(|_| Arc::new(Count(AtomicUsize::new(0)))).collect();
        let mut timers = Timers::new();
        for (index, count) in counts.iter().enumerate() {
            timers.add(at(10 * (index as u64 + 1)), &Waker::from(count.clone()));
        }
        while let Some(waker) = timers.take_expired(at(20)) {
            waker.wake();
        }
        let woken: Vec<_> = counts.iter().map(|count| count.0.load(Ordering::Relaxed)).collect();
        assert_eq!(woken, [1, 1, 0]);
        assert_eq!(timers.earliest(), Some(at(30)));
    }
}
