//! Waiting for one another on a single executor thread: wake-up lists, turns, and a set of futures run as one.
//!
//! Everything here is for one thread (`Rc`, `Cell`); what an interrupt handler raises is `hal::interrupt`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

/// Everybody who waits for a change of something.
#[derive(Debug, Default)]
pub struct Waiters {
    wakers: RefCell<Vec<Waker>>,
}

impl Waiters {
    /// Adds the task of `context`, once.
    #[inline]
    pub fn register(&self, context: &Context<'_>) {
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            wakers.push(context.waker().clone());
        }
    }

    /// Wakes all who registered since the last time.
    pub fn wake(&self) {
        if self.wakers.borrow().is_empty() {
            return;
        }
        // The list is taken out first: a waker may run anything, also something that registers.
        let mut woken = core::mem::take(&mut *self.wakers.borrow_mut());
        woken.drain(..).for_each(Waker::wake);
        let mut wakers = self.wakers.borrow_mut();
        if wakers.is_empty() && wakers.capacity() == 0 {
            // Its memory is kept, so that waiting again does not allocate.
            *wakers = woken;
        }
    }

    /// Waits until `look` finds what it looks for. Whoever changes what it looks at calls [`Waiters::wake`].
    pub async fn wait<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        poll_fn(|context| match look() {
            Some(found) => Poll::Ready(found),
            None => {
                self.register(context);
                Poll::Pending
            }
        })
        .await
    }
}

/// Something that one task at a time may do.
#[derive(Debug, Default)]
pub struct Turn {
    taken: Cell<bool>,
    waiters: Waiters,
}

impl Turn {
    /// Waits until nobody else has the turn, and takes it until the guard is dropped.
    pub async fn take(&self) -> TurnGuard<'_> {
        self.waiters.wait(|| (!self.taken.replace(true)).then_some(())).await;
        TurnGuard(self)
    }
}

/// Gives the turn back when dropped.
#[derive(Debug)]
pub struct TurnGuard<'t>(&'t Turn);

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        self.0.taken.set(false);
        self.0.waiters.wake();
    }
}

/// Lets every other runnable task run once.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if core::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Which of two futures was ready first.
#[derive(Debug)]
pub enum Either<A, B> {
    /// The first one (also when both were).
    First(A),
    /// The second one.
    Second(B),
}

/// Waits for the first of two futures and drops the other.
pub async fn either<A: Future, B: Future>(first: A, second: B) -> Either<A::Output, B::Output> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|context| {
        if let Poll::Ready(output) = first.as_mut().poll(context) {
            return Poll::Ready(Either::First(output));
        }
        second.as_mut().poll(context).map(Either::Second)
    })
    .await
}

/// Futures that run side by side within one task. Each is polled only when it was woken itself.
#[derive(Default)]
pub struct FutureSet<'f> {
    futures: Vec<Member<'f>>,
}

struct Member<'f> {
    woken: Arc<Woken>,
    future: Pin<Box<dyn Future<Output = ()> + 'f>>,
}

impl<'f> FutureSet<'f> {
    /// A set with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a future.
    pub fn push(&mut self, future: impl Future<Output = ()> + 'f) {
        self.futures.push(Member { woken: Arc::new(Woken::default()), future: Box::pin(future) });
    }

    /// Runs all of them to their end.
    pub async fn run(mut self) {
        poll_fn(|context| {
            self.futures.retain_mut(|Member { woken, future }| {
                woken.parent.register(context.waker());
                if !woken.flag.swap(false, Ordering::AcqRel) {
                    return true;
                }
                let waker = Waker::from(woken.clone());
                future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
            });
            if self.futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Wakes the task that runs the set, and remembers for which future.
struct Woken {
    flag: AtomicBool,
    parent: atomic_waker::AtomicWaker,
}

impl Default for Woken {
    fn default() -> Self {
        Self { flag: AtomicBool::new(true), parent: atomic_waker::AtomicWaker::new() }
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.flag.store(true, Ordering::Release);
        self.parent.wake();
    }
}

/// Waits for both of two futures.
pub async fn both<A: Future<Output = ()>, B: Future<Output = ()>>(first: A, second: B) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut first_done, mut second_done) = (false, false);
    poll_fn(|context| {
        first_done = first_done || first.as_mut().poll(context).is_ready();
        second_done = second_done || second.as_mut().poll(context).is_ready();
        if first_done && second_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
