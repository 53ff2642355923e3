//! The monotonic clock, sleeping, deadlines.
//!
//! Time comes only from a [`Clock`], so that tests can run drivers on a virtual one, where a deadline of a second
//! passes at once.

use alloc::rc::Rc;
use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::ops::{Add, Sub};
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
pub use core::time::Duration;

/// A moment, in nanoseconds since the clock started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The moment `nanoseconds` after the clock's start.
    #[must_use]
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the clock's start.
    #[must_use]
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// A monotonic clock that can wake tasks.
pub trait Clock {
    /// The time now.
    fn now(&self) -> Instant;

    /// Wakes `waker` once, at or soon after `at`; a moment in the past wakes at once. Wakers are not deduplicated
    /// beyond what the implementation cares to: a task may be woken early or twice, and looks at the clock. It asks
    /// again whenever it waits on: of several moments, only the earliest is sure to be kept.
    fn wake_at(&self, at: Instant, waker: &Waker);
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<C: Clock + ?Sized> Clock for $pointer {
            fn now(&self) -> Instant { (**self).now() }
            fn wake_at(&self, at: Instant, waker: &Waker) { (**self).wake_at(at, waker) }
        }
    )*};
}
forward!(&C, Rc<C>, Arc<C>);

/// Waits until `at`.
pub fn sleep_until<C: Clock>(clock: &C, at: Instant) -> Sleep<'_, C> {
    Sleep { clock, at }
}

/// Waits for `duration`.
pub fn sleep<C: Clock>(clock: &C, duration: Duration) -> Sleep<'_, C> {
    sleep_until(clock, clock.now() + duration)
}

/// The future of [`sleep`].
#[derive(Debug)]
#[must_use = "a sleep does nothing until it is awaited"]
pub struct Sleep<'c, C> {
    clock: &'c C,
    at: Instant,
}

impl<C: Clock> Future for Sleep<'_, C> {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.at {
            return Poll::Ready(());
        }
        self.clock.wake_at(self.at, context.waker());
        Poll::Pending
    }
}

/// A deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut {
    /// How long was waited.
    pub after: Duration,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "timed out after {:?}", self.after)
    }
}

impl core::error::Error for TimedOut {}

/// Runs `future` for at most `duration`. On time-out the future is dropped: it must be one that may be.
///
/// # Errors
///
/// [`TimedOut`] when the future was not ready in time.
pub async fn timeout<C: Clock, F: Future>(
    clock: &C,
    duration: Duration,
    future: F,
) -> Result<F::Output, TimedOut> {
    let mut future = pin!(future);
    let mut deadline = pin!(sleep(clock, duration));
    core::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        deadline.as_mut().poll(context).map(|()| Err(TimedOut { after: duration }))
    })
    .await
}
