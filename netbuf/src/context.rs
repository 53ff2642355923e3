//! Who is executing: a task, an interrupt handler, or a thread of the host.
//!
//! Each [`Memory`](crate::Memory) belongs to the context that made it. That context allocates and frees without an
//! atomic instruction, from lists that nobody else touches; every other context goes through a lock, and an interrupt
//! handler only puts what it frees on a list that a task drains later. So every allocation and every free asks who is
//! calling, and this module answers in one load:
//!
//! - With feature `host` a context is a thread, and interrupts are played with [`enter_interrupt`].
//! - Without it nothing is known about the surroundings, and every context takes the lock, until the kernel says that
//!   it runs on one core ([`declare_single_core`]). From then on there are two contexts: the tasks, which never
//!   preempt each other, and the interrupt handlers.
//!
//! A kernel on several cores cannot say so, and its handlers are not known as such: [`enter_interrupt`] changes nothing
//! there. The lock does not turn interrupts off either, so a handler that waits for it may wait for the very task that it
//! interrupted. Such a handler gives buffers up by [`free_irq`](crate::NetBuf::free_irq), which takes no lock, and leaves
//! all else to a task: allocating, dropping buffers and blocks, and [locked queues](crate::LockedQueue).

use core::marker::PhantomData;

/// Nobody that the crate knows: goes through the lock.
pub(crate) const UNKNOWN: usize = 0;
/// An interrupt handler: frees later.
pub(crate) const INTERRUPT: usize = 1;

/// How a kernel on one core turns interrupts off and on again.
#[derive(Clone, Copy, Debug)]
pub struct InterruptControl {
    /// Turns interrupts off; tells whether they were on.
    pub disable: fn() -> bool,
    /// Turns interrupts on again if the argument, from `disable`, says that they were on.
    pub restore: fn(bool),
}

/// Marks everything up to its drop as running in an interrupt handler.
#[derive(Debug)]
#[must_use = "the interrupt ends when the guard is dropped"]
pub struct InterruptGuard {
    previous: usize,
    /// A context's mark must not move to another context.
    not_send: PhantomData<*const ()>,
}

/// To be called first in each interrupt handler that may touch a buffer, a block or a memory. Without feature `host` it
/// has no effect before [`declare_single_core`] was called.
///
/// On the host it lets a test play an interrupt:
///
/// ```
/// # let memory = netbuf::host::memory();
/// let buffer = netbuf::NetBuf::alloc(&memory, 64)?;
/// {
///     let _interrupt = netbuf::context::enter_interrupt();
///     assert!(netbuf::context::in_interrupt());
///     drop(buffer); // only put on the list
/// }
/// assert_eq!(memory.statistics().live_descriptors, 1);
/// assert_eq!(memory.free_deferred(), 1);
/// assert_eq!(memory.statistics().live_descriptors, 0);
/// # Ok::<(), netbuf::OutOfMemory>(())
/// ```
pub fn enter_interrupt() -> InterruptGuard {
    InterruptGuard { previous: platform::replace(INTERRUPT), not_send: PhantomData }
}

impl Drop for InterruptGuard {
    fn drop(&mut self) {
        platform::replace(self.previous);
    }
}

/// Whether the caller runs in an interrupt handler, as told by [`enter_interrupt`]; never, where that has no effect.
///
/// ```
/// assert!(!netbuf::context::in_interrupt());
/// ```
#[must_use]
pub fn in_interrupt() -> bool {
    platform::is(INTERRUPT)
}

pub use platform::declare_single_core;
pub(crate) use platform::{current, is};
pub(crate) use platform::{disable_interrupts, restore_interrupts};

#[cfg(feature = "host")]
mod platform {
    extern crate std;

    use core::cell::Cell;
    use core::sync::atomic::{AtomicUsize, Ordering};

    use super::{InterruptControl, UNKNOWN};

    static NEXT: AtomicUsize = AtomicUsize::new(2);

    #[cfg(not(feature = "loom"))]
    std::thread_local! {
        static CURRENT: Cell<usize> = const { Cell::new(UNKNOWN) };
    }
    #[cfg(feature = "loom")]
    loom::thread_local! {
        static CURRENT: Cell<usize> = Cell::new(UNKNOWN);
    }

    #[inline(always)]
    fn get() -> usize {
        CURRENT.with(Cell::get)
    }

    fn set(context: usize) {
        CURRENT.with(|current| current.set(context));
    }

    pub(crate) fn current() -> usize {
        let current = get();
        if current == UNKNOWN { name_this_thread() } else { current }
    }

    /// Whether this thread is the one that bears `name`. A thread without a name is none.
    #[inline(always)]
    pub(crate) fn is(name: usize) -> bool {
        get() == name
    }

    #[cold]
    #[inline(never)]
    fn name_this_thread() -> usize {
        let name = NEXT.fetch_add(1, Ordering::Relaxed);
        set(name);
        name
    }

    pub(super) fn replace(context: usize) -> usize {
        let previous = current();
        set(context);
        previous
    }

    /// Says that this program runs on one core, so that its tasks may use their memory without locks.
    /// To be called once, before the first [`Memory`](crate::Memory) is made. With feature `host`, where contexts are
    /// threads, it does nothing.
    ///
    /// ```
    /// use netbuf::context::{InterruptControl, declare_single_core};
    ///
    /// // A kernel reads and clears the interrupt flag here, and sets it again if it was set.
    /// let control = InterruptControl { disable: || false, restore: |_were_on| () };
    /// // SAFETY: one core, no preemption among tasks; handlers call `enter_interrupt`.
    /// unsafe { declare_single_core(control) };
    /// ```
    ///
    /// # Safety
    ///
    /// - Until the program ends, only one core runs code that uses this crate.
    /// - Tasks do not preempt each other; only interrupt handlers do.
    /// - Each handler that may use this crate calls [`enter_interrupt`](super::enter_interrupt) before and keeps the
    ///   guard until it returns.
    /// - `control` really turns interrupts off and on.
    pub unsafe fn declare_single_core(control: InterruptControl) {
        let _ = control;
    }

    #[inline]
    pub(crate) fn disable_interrupts() -> bool {
        false
    }

    #[inline]
    pub(crate) fn restore_interrupts(_were_on: bool) {}
}

#[cfg(not(feature = "host"))]
mod platform {
    use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

    use super::{INTERRUPT, InterruptControl, UNKNOWN};

    const TASK: usize = 2;

    static CURRENT: AtomicUsize = AtomicUsize::new(UNKNOWN);
    static DISABLE: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
    static RESTORE: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

    #[inline]
    pub(crate) fn current() -> usize {
        CURRENT.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is(name: usize) -> bool {
        current() == name
    }

    pub(super) fn replace(context: usize) -> usize {
        let previous = CURRENT.load(Ordering::Relaxed);
        // Nothing is known about the surroundings before `declare_single_core`: a handler on another core must not
        // mark this one. The mark would only make frees later, but it must not outlive the handler either.
        if previous != UNKNOWN || context != INTERRUPT {
            CURRENT.store(context, Ordering::Relaxed);
        }
        previous
    }

    /// Says that this program runs on one core, so that its tasks may use their memory without locks.
    /// To be called once, before the first [`Memory`](crate::Memory) is made.
    ///
    /// ```ignore
    /// // SAFETY: one core, no preemption among tasks; handlers call `enter_interrupt`.
    /// unsafe { netbuf::context::declare_single_core(InterruptControl { disable, restore }) };
    /// ```
    ///
    /// # Safety
    ///
    /// - Until the program ends, only one core runs code that uses this crate.
    /// - Tasks do not preempt each other; only interrupt handlers do.
    /// - Each handler that may use this crate calls [`enter_interrupt`](super::enter_interrupt) before and keeps the
    ///   guard until it returns.
    /// - `control` really turns interrupts off and on.
    pub unsafe fn declare_single_core(control: InterruptControl) {
        DISABLE.store(control.disable as *mut (), Ordering::Relaxed);
        RESTORE.store(control.restore as *mut (), Ordering::Relaxed);
        CURRENT.store(TASK, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn disable_interrupts() -> bool {
        let disable = DISABLE.load(Ordering::Relaxed);
        if disable.is_null() {
            return false;
        }
        // SAFETY: `declare_single_core` stored a `fn() -> bool` there, nothing else does.
        let disable = unsafe { core::mem::transmute::<*mut (), fn() -> bool>(disable) };
        disable()
    }

    #[inline]
    pub(crate) fn restore_interrupts(were_on: bool) {
        let restore = RESTORE.load(Ordering::Relaxed);
        if were_on && !restore.is_null() {
            // SAFETY: `declare_single_core` stored a `fn(bool)` there, nothing else does.
            let restore = unsafe { core::mem::transmute::<*mut (), fn(bool)>(restore) };
            restore(were_on);
        }
    }
}
