//! The table of interfaces: names, addresses and counters, which outlive the devices.
//!
//! A device that is plugged in again finds its interface by its station address, and with it the interface's name,
//! configuration and counters. A device with another address takes over the first interface whose device is gone.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;

use hal::network::NetworkDevice;
use spin::Mutex;

use super::counters::Counters;
use super::wire::ethernet;
use super::wire::ipv4::Subnet;

/// What is known of an interface beside its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The device's own address.
    pub station: ethernet::Address,
    /// The device's driver, for messages.
    pub driver: &'static str,
    /// Whether a device drives the interface now.
    pub present: bool,
    /// The IPv4 address in use.
    pub address: Option<Subnet>,
}

/// One interface, shared between its task and whoever prints about it.
#[derive(Debug)]
pub struct Entry {
    /// `eth0`, `eth1`, ...
    pub name: String,
    /// What it counts.
    pub counters: Arc<Counters>,
    state: Mutex<State>,
    /// What the driver counted, when its task last told.
    driver_counters: Mutex<Vec<(&'static str, u64)>>,
    /// Somebody wants to know what the driver counted.
    asked: AtomicBool,
    /// The interface's task.
    task: Mutex<Option<Waker>>,
}

impl Entry {
    /// Asks the interface's task for the counters of its driver; they are in this entry once the task has run.
    pub fn ask_driver(&self) {
        self.asked.store(true, Ordering::Relaxed);
        if let Some(task) = &*self.task.lock() {
            task.wake_by_ref();
        }
    }

    /// Whether [`ask_driver`](Self::ask_driver) was called since the driver told last.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    pub(super) fn set_task(&self, waker: &Waker) {
        *self.task.lock() = Some(waker.clone());
    }

    pub(super) fn tell(&self, device: &impl NetworkDevice) {
        self.asked.store(false, Ordering::Relaxed);
        let mut counters = self.driver_counters.lock();
        counters.clear();
        device.counters(&mut |name, value| counters.push((name, value)));
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> State {
        *self.state.lock()
    }

    pub(super) fn set_address(&self, address: Option<Subnet>) {
        self.state.lock().address = address;
    }

    pub(super) fn set_gone(&self) {
        let mut state = self.state.lock();
        state.present = false;
        state.address = None;
    }
}

/// The `@skiff counters` line of an interface, without `@skiff`: its own counters, then those of its driver. Both may
/// count under the same name, and not the same: then the driver's begins with `driver_`.
impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "counters interface={} {}", self.name, self.counters)?;
        for (name, value) in &*self.driver_counters.lock() {
            let prefix = if self.counters.has(name) { "driver_" } else { "" };
            write!(formatter, " {prefix}{name}={value}")?;
        }
        Ok(())
    }
}

/// All interfaces.
#[derive(Debug, Default)]
pub struct Table {
    entries: Mutex<Vec<Arc<Entry>>>,
}

impl Table {
    /// A table without interfaces.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Mutex::new(Vec::new()) }
    }

    /// The interface for a device that appeared: its old one, an abandoned one, or a new one.
    pub fn attach(&self, station: ethernet::Address, driver: &'static str) -> Arc<Entry> {
        let mut entries = self.entries.lock();
        let free = |entry: &&Arc<Entry>| !entry.state().present;
        let known = entries.iter().filter(free).find(|entry| entry.state().station == station);
        let state = State { station, driver, present: true, address: None };
        if let Some(entry) = known.or_else(|| entries.iter().find(free)) {
            *entry.state.lock() = state;
            return entry.clone();
        }
        let name = alloc::format!("eth{}", entries.len());
        let entry = Arc::new(Entry {
            name,
            counters: Arc::default(),
            state: Mutex::new(state),
            driver_counters: Mutex::default(),
            asked: AtomicBool::new(false),
            task: Mutex::new(None),
        });
        entries.push(entry.clone());
        entry
    }

    /// The interfaces now, in the order of their names' numbers.
    #[must_use]
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ethernet::Address = ethernet::Address([2, 0, 0, 0, 0, 0xa]);
    const B: ethernet::Address = ethernet::Address([2, 0, 0, 0, 0, 0xb]);
    const C: ethernet::Address = ethernet::Address([2, 0, 0, 0, 0, 0xc]);

    #[test]
    fn a_device_finds_its_interface_again() {
        let table = Table::new();
        let (first, second) = (table.attach(A, "x"), table.attach(B, "x"));
        assert_eq!((first.name.as_str(), second.name.as_str()), ("eth0", "eth1"));
        second.counters.rx_frames.count();
        first.set_gone();
        second.set_gone();
        let again = table.attach(B, "x");
        assert_eq!((again.name.as_str(), again.counters.rx_frames.get()), ("eth1", 1));
    }

    #[test]
    fn a_replacement_takes_over_the_abandoned_interface() {
        let table = Table::new();
        let (first, _second) = (table.attach(A, "x"), table.attach(B, "x"));
        first.set_gone();
        assert_eq!(table.attach(C, "y").name, "eth0");
        assert_eq!(table.attach(A, "x").name, "eth2");
    }

    #[test]
    fn two_devices_with_one_address_are_two_interfaces() {
        let table = Table::new();
        let (first, second) = (table.attach(A, "x"), table.attach(A, "x"));
        assert_ne!(first.name, second.name);
    }
}
