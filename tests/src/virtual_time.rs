//! Virtual time: drivers and models run as tasks of one thread, and when none can run, the clock jumps to the next
//! moment that anybody waits for. A deadline of a minute passes in microseconds, and every run is the same.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use hal::time::{Clock, Duration, Instant};

/// A clock that stands still while tasks run and jumps when they all wait.
#[derive(Debug, Default)]
pub struct VirtualClock {
    now: Cell<u64>,
    sequence: Cell<u64>,
    timers: RefCell<BinaryHeap<Reverse<Timer>>>,
}

/// One wake-up to come. The sequence number keeps timers of one moment in the order in which they were set.
#[derive(Debug)]
struct Timer {
    at: Instant,
    sequence: u64,
    waker: Waker,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Timer {}
impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl VirtualClock {
    /// A clock at zero, ready to be shared between driver, model and test.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Moves the clock on by `duration` without running anything; timers that became due fire at the next run.
    pub fn advance(&self, duration: Duration) {
        self.now.set((self.now() + duration).nanoseconds());
    }

    /// Jumps to the next timer and fires all that are due. False when nobody waits for time.
    fn jump(&self) -> bool {
        let Some(Reverse(next)) = self.timers.borrow_mut().pop() else { return false };
        self.now.set(self.now.get().max(next.at.nanoseconds()));
        next.waker.wake();
        loop {
            let due = matches!(self.timers.borrow().peek(), Some(Reverse(timer)) if timer.at <= self.now());
            if !due {
                return true;
            }
            if let Some(Reverse(timer)) = self.timers.borrow_mut().pop() {
                timer.waker.wake();
            }
        }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Instant {
        Instant::from_nanoseconds(self.now.get())
    }

    fn wake_at(&self, at: Instant, waker: &Waker) {
        let sequence = self.sequence.replace(self.sequence.get() + 1);
        self.timers.borrow_mut().push(Reverse(Timer { at, sequence, waker: waker.clone() }));
    }
}

/// Why a run ended before its main task did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// Every task waits for something that nothing left can bring about.
    Deadlock {
        /// When it was noticed.
        at: Instant,
        /// Background tasks that had not finished.
        tasks: usize,
    },
    /// The main task was still not ready at the end of the virtual time that it was given.
    OutOfTime {
        /// The time that it was given.
        limit: Duration,
    },
}

impl fmt::Display for Stuck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadlock { at, tasks } => {
                write!(
                    formatter,
                    "deadlock at {} ns: the main task and {tasks} others wait for nothing",
                    at.nanoseconds()
                )
            }
            Self::OutOfTime { limit } => write!(formatter, "not ready after {limit:?} of virtual time"),
        }
    }
}

impl std::error::Error for Stuck {}

type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// A background task.
struct Task {
    future: LocalFuture,
    runnable: Arc<Flag>,
}

/// A single-threaded executor on virtual time.
#[derive(Default, Clone)]
pub struct Executor {
    clock: Rc<VirtualClock>,
    spawned: Rc<RefCell<Vec<LocalFuture>>>,
    tasks: Rc<RefCell<Vec<Task>>>,
}

impl Executor {
    /// An executor on `clock`.
    #[must_use]
    pub fn new(clock: &Rc<VirtualClock>) -> Self {
        Self { clock: clock.clone(), ..Self::default() }
    }

    /// The executor's clock.
    #[must_use]
    pub fn clock(&self) -> Rc<VirtualClock> {
        self.clock.clone()
    }

    /// Adds a background task, also from inside a task. It is dropped with the executor if it never ends.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.spawned.borrow_mut().push(Box::pin(future));
    }

    /// Polls background tasks that were woken; true when at least one was.
    fn run_tasks(&self) -> bool {
        for future in self.spawned.borrow_mut().drain(..) {
            let runnable = Arc::new(Flag(AtomicBool::new(true)));
            self.tasks.borrow_mut().push(Task { future, runnable });
        }
        let mut progressed = false;
        // A task may spawn while it runs, which goes to `spawned`, so `tasks` may stay borrowed.
        self.tasks.borrow_mut().retain_mut(|task| {
            if !task.runnable.0.swap(false, Ordering::AcqRel) {
                return true;
            }
            progressed = true;
            let waker = Waker::from(task.runnable.clone());
            task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
        });
        progressed || !self.spawned.borrow().is_empty()
    }

    /// Runs `main` and the background tasks until `main` is done.
    ///
    /// # Errors
    ///
    /// [`Stuck`] on a deadlock, or when `limit` of virtual time passed.
    pub fn run_for<F: Future>(&self, limit: Duration, main: F) -> Result<F::Output, Stuck> {
        let end = self.clock.now() + limit;
        let mut main = std::pin::pin!(main);
        let runnable = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(runnable.clone());
        loop {
            if runnable.0.swap(false, Ordering::AcqRel)
                && let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return Ok(output);
            }
            if self.run_tasks() || runnable.0.load(Ordering::Acquire) {
                continue;
            }
            if self.clock.now() >= end {
                return Err(Stuck::OutOfTime { limit });
            }
            if !self.clock.jump() {
                return Err(Stuck::Deadlock { at: self.clock.now(), tasks: self.tasks.borrow().len() });
            }
        }
    }
}

/// Runs one future on `clock` for at most an hour of virtual time.
///
/// # Panics
///
/// With a report when the future is [`Stuck`]: in a test that is a failure.
pub fn run<F: Future>(clock: &Rc<VirtualClock>, future: F) -> F::Output {
    match Executor::new(clock).run_for(Duration::from_secs(3600), future) {
        Ok(output) => output,
        Err(stuck) => panic!("{stuck}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hal::interrupt::{InterruptSignal, fired};
    use hal::time::{sleep, timeout};

    #[test]
    fn sleeping_moves_the_clock_and_nothing_else() {
        let clock = VirtualClock::new();
        run(&clock, sleep(&*clock, Duration::from_secs(3000)));
        assert_eq!(clock.now().nanoseconds(), 3_000_000_000_000);
    }

    #[test]
    fn tasks_wake_each_other() {
        let clock = VirtualClock::new();
        let executor = Executor::new(&clock);
        let signal = Rc::new(InterruptSignal::new());
        let (raiser, ticking) = (signal.clone(), clock.clone());
        executor.spawn(async move {
            sleep(&*ticking, Duration::from_millis(5)).await;
            raiser.raise();
        });
        executor.run_for(Duration::from_secs(1), fired(&*signal)).unwrap();
        assert_eq!(clock.now().nanoseconds(), 5_000_000);
    }

    #[test]
    fn waiting_for_nothing_is_reported_as_a_deadlock() {
        let clock = VirtualClock::new();
        let stuck = Executor::new(&clock).run_for(Duration::from_secs(1), std::future::pending::<()>());
        assert_eq!(stuck, Err(Stuck::Deadlock { at: Instant::from_nanoseconds(0), tasks: 0 }));
    }

    #[test]
    fn a_deadline_passes_at_once() {
        let clock = VirtualClock::new();
        let outcome = run(&clock, timeout(&*clock, Duration::from_secs(60), std::future::pending::<()>()));
        assert_eq!(outcome.unwrap_err().after, Duration::from_secs(60));
    }

    #[test]
    fn running_out_of_virtual_time_is_reported() {
        let clock = VirtualClock::new();
        let limit = Duration::from_millis(10);
        let busy = async {
            loop {
                sleep(&*clock, Duration::from_millis(1)).await;
            }
        };
        assert_eq!(Executor::new(&clock).run_for::<_>(limit, busy), Err::<(), _>(Stuck::OutOfTime { limit }));
    }
}
