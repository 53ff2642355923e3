//! What the driver counts.

use core::cell::Cell;

/// A counter.
#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    pub(crate) fn add(&self, count: u64) {
        self.0.set(self.0.get() + count);
    }
    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// What the controller has done so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Interrupts taken.
    pub interrupts: Count,
    /// Passes over the event ring that found something.
    pub event_passes: Count,
    /// Events taken.
    pub events: Count,
    /// Doorbells rung for transfers.
    pub doorbells: Count,
    /// Commands issued.
    pub commands: Count,
    /// Commands that were not answered and aborted.
    pub aborted_commands: Count,
    /// Events found only because a deadline had passed.
    pub lost_interrupts: Count,
    /// Events that name nothing known.
    pub stray_events: Count,
    /// Intervals without service.
    pub missed_services: Count,
    /// Times that the event ring was full.
    pub event_ring_full: Count,
    /// Transfers that went through memory below 4 GiB.
    pub bounced: Count,
    /// Times that the controller died and was started again.
    pub restarts: Count,
}

impl Counters {
    /// Visits all counters with their names.
    pub fn visit(&self, visit: &mut dyn FnMut(&'static str, u64)) {
        visit("xhci_interrupts", self.interrupts.get());
        visit("xhci_event_passes", self.event_passes.get());
        visit("xhci_events", self.events.get());
        visit("xhci_doorbells", self.doorbells.get());
        visit("xhci_commands", self.commands.get());
        visit("xhci_aborted_commands", self.aborted_commands.get());
        visit("xhci_lost_interrupts", self.lost_interrupts.get());
        visit("xhci_stray_events", self.stray_events.get());
        visit("xhci_missed_services", self.missed_services.get());
        visit("xhci_event_ring_full", self.event_ring_full.get());
        visit("xhci_bounced", self.bounced.get());
        visit("xhci_restarts", self.restarts.get());
    }
}
