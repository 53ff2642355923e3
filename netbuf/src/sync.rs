//! Atomics and the one lock of this crate.
//!
//! Everything that crosses contexts goes through this module, so that loom can take the atomics' place (feature
//! `loom`) and explore the interleavings.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};

#[cfg(not(feature = "loom"))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(feature = "loom")]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::context;

/// Looks at a count before changing it: when nobody else is left to see it, no atomic write is needed.
///
/// loom remembers only the last access to an atomic. A plain load right before a write of the same context would hide
/// what other contexts did before it, so loom gets a write that changes nothing.
#[inline(always)]
pub(crate) fn look(count: &AtomicU32) -> u32 {
    #[cfg(not(feature = "loom"))]
    return count.load(Ordering::Acquire);
    #[cfg(feature = "loom")]
    return count.fetch_add(0, Ordering::Acquire);
}

/// [`look`], at a count of references.
#[inline(always)]
pub(crate) fn look_at_references(count: &AtomicUsize) -> usize {
    #[cfg(not(feature = "loom"))]
    return count.load(Ordering::Acquire);
    #[cfg(feature = "loom")]
    return count.fetch_add(0, Ordering::Acquire);
}

/// [`look`], at a pointer: whether it is null.
#[inline(always)]
pub(crate) fn is_null<T>(pointer: &AtomicPtr<T>) -> bool {
    #[cfg(not(feature = "loom"))]
    return pointer.load(Ordering::Relaxed).is_null();
    #[cfg(feature = "loom")]
    return pointer
        .compare_exchange(core::ptr::null_mut(), core::ptr::null_mut(), Ordering::Relaxed, Ordering::Relaxed)
        .is_ok();
}

/// A value behind a spin lock.
///
/// While it is held, interrupts are off if the kernel declared how to turn them off
/// ([`context::declare_single_core`]), so that a handler never spins on a lock that the interrupted task holds.
pub(crate) struct SpinLock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, and `held` admits one guard at a time.
unsafe impl<T: Send> Send for SpinLock<T> {}
// SAFETY: as above; sharing the lock hands out the value to one context at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    #[cfg(not(feature = "loom"))]
    pub(crate) const fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// loom's atomics come to be at run time only.
    #[cfg(feature = "loom")]
    pub(crate) fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    pub(crate) fn lock(&self) -> SpinGuard<'_, T> {
        let interrupts = context::disable_interrupts();
        while self.held.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            #[cfg(feature = "loom")]
            loom::thread::yield_now();
            core::hint::spin_loop();
        }
        SpinGuard { lock: self, interrupts }
    }
}

impl<T> fmt::Debug for SpinLock<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SpinLock")
    }
}

/// Proof that the lock is held; releases it when dropped.
pub(crate) struct SpinGuard<'a, T> {
    lock: &'a SpinLock<T>,
    interrupts: bool,
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while `held` is ours.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard exists only while `held` is ours, and it is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.held.store(false, Ordering::Release);
        context::restore_interrupts(self.interrupts);
    }
}
