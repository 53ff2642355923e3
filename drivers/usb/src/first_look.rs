//! Whether all that was plugged in when the bus started has been looked at: only then can somebody say that a device is
//! not there.
//!
//! A [`Look`] is held for each port until it turns out to be empty, its device was offered to the drivers, or its device
//! does not work. The look at a hub is over when those at its ports have begun.

use core::cell::Cell;

use crate::waiting::Waiters;

/// The looks that are not over yet.
#[derive(Debug, Default)]
pub(crate) struct FirstLook {
    begun: Cell<bool>,
    under_way: Cell<usize>,
    waiters: Waiters,
}

/// The look at one port. It is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Look<'l>(&'l FirstLook);

impl FirstLook {
    /// Begins to look at one port.
    pub(crate) fn begin(&self) -> Look<'_> {
        self.begun.set(true);
        self.under_way.set(self.under_way.get() + 1);
        Look(self)
    }

    /// Waits until all looks that have begun are over.
    pub(crate) async fn over(&self) {
        self.waiters.wait(|| (self.begun.get() && self.under_way.get() == 0).then_some(())).await;
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
        self.0.waiters.wake();
    }
}
