//! Waiting until a device asks for attention.
//!
//! An interrupt handler does one thing: [`InterruptSignal::raise`]. The driver's task waits, drains its device, and
//! then lets the line fire again. While a task drains, the line stays masked, so that load costs no interrupts.

use alloc::sync::Arc;
use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};

use atomic_waker::AtomicWaker;

/// The receiving end of one interrupt: an MSI-X vector, or a level-triggered line that may be shared.
pub trait Interrupt {
    /// Ready once after each time that the interrupt fired; several firings in between count as one.
    fn poll_fired(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Lets the interrupt fire again after the device was served. A level-triggered line was masked at the interrupt
    /// controller when it fired and is unmasked here; for a message-signalled interrupt this does nothing.
    fn rearm(&self);
}

impl<I: Interrupt + ?Sized> Interrupt for Arc<I> {
    fn poll_fired(&self, context: &mut Context<'_>) -> Poll<()> {
        (**self).poll_fired(context)
    }
    fn rearm(&self) {
        (**self).rearm();
    }
}

/// Waits until the interrupt fires.
pub async fn fired(interrupt: &impl Interrupt) {
    poll_fn(|context| interrupt.poll_fired(context)).await;
}

/// A latched wake-up: what an interrupt handler raises and one task waits for.
#[derive(Debug, Default)]
pub struct InterruptSignal {
    raised: AtomicBool,
    waker: AtomicWaker,
}

impl InterruptSignal {
    /// A signal that has not been raised.
    #[must_use]
    pub const fn new() -> Self {
        Self { raised: AtomicBool::new(false), waker: AtomicWaker::new() }
    }

    /// Latches the signal and wakes its task. Callable from an interrupt handler.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Ready when raised since the last time; clears the latch.
    pub fn poll_raised(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.raised.swap(false, Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.waker.register(context.waker());
        // Raised between the look and the registration.
        if self.raised.swap(false, Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A signal alone is an interrupt without a line to rearm: message-signalled, or played by a model.
impl Interrupt for InterruptSignal {
    fn poll_fired(&self, context: &mut Context<'_>) -> Poll<()> {
        self.poll_raised(context)
    }
    fn rearm(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicUsize;
    use core::task::Waker;
    use std::task::Wake;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_signal_raised_before_the_wait_is_not_lost_and_several_count_as_one() {
        let signal = InterruptSignal::new();
        let mut context = Context::from_waker(Waker::noop());
        signal.raise();
        signal.raise();
        assert!(signal.poll_raised(&mut context).is_ready());
        assert!(signal.poll_raised(&mut context).is_pending());
    }

    #[test]
    fn raising_wakes_the_waiting_task_once() {
        let signal = InterruptSignal::new();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        assert!(signal.poll_raised(&mut Context::from_waker(&waker)).is_pending());
        signal.raise();
        signal.raise();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
