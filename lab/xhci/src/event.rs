//! The event ring as its producer sees it (xHCI 4.9.4), and interrupts (4.17).

use std::collections::VecDeque;

use crate::model::Model;
use crate::registers::{usbcmd, usbsts};
use crate::trb::{SIZE, Trb, code, kind};

const HANDLER_BUSY: u64 = 1 << 3;

#[derive(Debug, Default)]
pub(crate) struct EventRing {
    base: u64,
    size: u64,
    enqueue: u64,
    cycle: bool,
    /// Events that found no room.
    waiting: VecDeque<Trb>,
    full: bool,
}

impl Model {
    pub(crate) fn start_event_ring(&mut self) {
        let table = self.runtime.erstba;
        let base = self.read_u64(table);
        let size = u64::from(self.read_u32(table + 8) & 0xffff);
        if base & 0x3f != 0 || !(16..=4096).contains(&size) || self.runtime.erstsz != 1 {
            self.violation(format!("event ring segment at {base:#x} with {size} entries"));
        }
        if self.runtime.erdp & !0xf != base {
            self.violation("the event ring's dequeue pointer is not at its start");
        }
        self.events = EventRing { base, size, cycle: true, ..EventRing::default() };
    }

    /// Queues an event; it is written at the next step.
    pub(crate) fn send_event(&mut self, event: Trb) {
        self.events.waiting.push_back(event);
    }

    pub(crate) fn send_port_event(&mut self, port: usize) {
        self.operational.usbsts |= usbsts::PCD;
        self.send_event(Trb {
            parameter: (port as u64) << 24,
            status: u32::from(code::SUCCESS) << 24,
            control: kind::PORT_STATUS_CHANGE << 10,
        });
    }

    /// Writes waiting events as long as there is room, and interrupts. True when something was written.
    pub(crate) fn deliver_events(&mut self) -> bool {
        let mut written = false;
        while !self.events.waiting.is_empty() {
            let room = self.room();
            if room <= 1 || (room == 2 && self.events.full) {
                break;
            }
            if room == 2 && self.events.waiting.len() > 1 {
                // The last place is for the news that there is none (4.9.4.1).
                self.events.full = true;
                self.put(Trb {
                    parameter: 0,
                    status: u32::from(code::EVENT_RING_FULL) << 24,
                    control: kind::HOST_CONTROLLER << 10,
                });
                written = true;
                break;
            }
            if let Some(event) = self.events.waiting.pop_front() {
                self.put(event);
                written = true;
            }
            if self.faults.controller_error_after == Some(self.events_sent) {
                self.faults.controller_error_after = None;
                self.fail();
                break;
            }
        }
        if let Some((events, port)) = self.faults.unplug_after
            && self.events_sent >= events
        {
            self.faults.unplug_after = None;
            self.unplug(port);
        }
        if written {
            self.interrupt();
        }
        written
    }

    /// Free places, of which one always stays free.
    fn room(&self) -> u64 {
        let dequeue = (self.runtime.erdp & !0xf).wrapping_sub(self.events.base) / SIZE;
        let size = self.events.size.max(1);
        (dequeue + size - self.events.enqueue - 1) % size + 1
    }

    fn put(&mut self, mut event: Trb) {
        event.control = event.control & !1 | u32::from(self.events.cycle);
        let address = self.events.base + self.events.enqueue * SIZE;
        self.write(address, &event.to_bytes());
        self.events.enqueue += 1;
        if self.events.enqueue == self.events.size {
            self.events.enqueue = 0;
            self.events.cycle = !self.events.cycle;
        }
        self.events_sent += 1;
    }

    /// The driver moved its dequeue pointer.
    pub(crate) fn dequeue_moved(&mut self) {
        if self.events.size == 0 {
            return;
        }
        let offset = (self.runtime.erdp & !0xf).wrapping_sub(self.events.base);
        if offset / SIZE >= self.events.size {
            self.violation("event ring dequeue pointer outside of its segment");
            return;
        }
        self.events.full = false;
        let empty = offset / SIZE == self.events.enqueue;
        if !empty {
            self.interrupt();
        }
    }

    /// Interrupts unless the handler is still busy with the last one.
    fn interrupt(&mut self) {
        self.operational.usbsts |= usbsts::EINT;
        let enabled = self.runtime.iman & 0b10 != 0 && self.operational.usbcmd & usbcmd::INTE != 0;
        if enabled && self.runtime.erdp & HANDLER_BUSY == 0 {
            self.runtime.erdp |= HANDLER_BUSY;
            if !self.faults.mute {
                self.interrupts_sent += 1;
                self.interrupt_due = true;
            }
        }
    }
}
