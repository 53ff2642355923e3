//! The controller as a whole: its state, and what it does at a step.

use std::collections::VecDeque;

use crate::config::{Config, Faults, Protocol};
use crate::context::Slot;
use crate::device::{Plugged, Speed};
use crate::event::EventRing;
use crate::memory::GuestMemory;
use crate::port::Port;
use crate::registers::{CommandRing, Operational, Runtime, usbcmd, usbsts};
use crate::trb::Trb;

/// A virtual host controller.
pub struct Model {
    pub(crate) config: Config,
    /// What goes wrong, and when.
    pub faults: Faults,
    pub(crate) memory: Box<dyn GuestMemory>,
    pub(crate) operational: Operational,
    pub(crate) runtime: Runtime,
    pub(crate) commands: CommandRing,
    pub(crate) events: EventRing,
    pub(crate) slots: Vec<Slot>,
    pub(crate) ports: Vec<Port>,
    pub(crate) legacy: u32,
    pub(crate) legacy_control: u32,
    pub(crate) bios_patience: u32,
    pub(crate) doorbells: VecDeque<(usize, usize)>,
    pub(crate) transfers_begun: usize,
    pub(crate) commands_begun: usize,
    pub(crate) events_sent: usize,
    pub(crate) doorbells_rung: u64,
    pub(crate) interrupts_sent: u64,
    pub(crate) interrupt_due: bool,
    violations: Vec<String>,
}

impl Model {
    /// A controller as it is after power-up.
    #[must_use]
    pub fn new(config: Config, memory: Box<dyn GuestMemory>) -> Self {
        let ports = config.ports.iter().map(|protocol| Port::new(*protocol, !config.port_power)).collect();
        let slots = (0..=config.slots).map(|_| Slot::default()).collect();
        let legacy = if config.bios.is_some() || config.stubborn_bios { 1 << 16 } else { 0 };
        Self {
            bios_patience: config.bios.unwrap_or(0),
            config,
            faults: Faults::default(),
            memory,
            operational: Operational::default(),
            runtime: Runtime::default(),
            commands: CommandRing::default(),
            events: EventRing::default(),
            slots,
            ports,
            legacy,
            // The BIOS has its interrupts on.
            legacy_control: if legacy == 0 { 0 } else { 1 | 1 << 4 | 0b111 << 13 },
            doorbells: VecDeque::new(),
            transfers_begun: 0,
            commands_begun: 0,
            events_sent: 0,
            doorbells_rung: 0,
            interrupts_sent: 0,
            interrupt_due: false,
            violations: Vec::new(),
        }
    }

    /// What the driver did that the specification forbids.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(crate) fn violation(&mut self, text: impl Into<String>) {
        if self.violations.len() < 100 {
            self.violations.push(text.into());
        }
    }

    /// Transfers begun since the last reset.
    #[must_use]
    pub fn transfers(&self) -> usize {
        self.transfers_begun
    }

    /// Commands begun since the last reset.
    #[must_use]
    pub fn commands(&self) -> usize {
        self.commands_begun
    }

    /// Events sent since the last reset.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events_sent
    }

    /// Doorbells rung and interrupts sent, ever.
    #[must_use]
    pub fn doorbells_and_interrupts(&self) -> (u64, u64) {
        (self.doorbells_rung, self.interrupts_sent)
    }

    /// Slots that are enabled.
    #[must_use]
    pub fn enabled_slots(&self) -> usize {
        self.slots.iter().filter(|slot| slot.enabled).count()
    }

    /// Plugs a device into a root port (from 1); whatever was there is gone.
    pub fn plug(&mut self, port: usize, device: Plugged) {
        let speed = device.borrow().speed();
        let fits = match self.ports[port - 1].protocol {
            Protocol::Usb2 => !speed.is_superspeed(),
            Protocol::Usb3 => speed.is_superspeed(),
        };
        assert!(fits, "a {speed:?} device does not fit port {port}");
        self.ports[port - 1].plug(device);
    }

    /// Unplugs the device at a root port. The next transfers to it and to everything behind it fail.
    pub fn unplug(&mut self, port: usize) {
        self.ports[port - 1].unplug();
    }

    /// The link of a USB 3 port breaks down: only a warm reset brings it back.
    pub fn break_link(&mut self, port: usize) {
        self.ports[port - 1].break_link();
    }

    /// Too much current flows at a root port, or no longer.
    pub fn over_current(&mut self, port: usize, flows: bool) {
        self.ports[port - 1].over_current(flows);
    }

    /// A USB 3 device does not get through link training without a warm reset.
    pub fn needs_warm_reset(&mut self, port: usize) {
        self.ports[port - 1].needs_warm_reset = true;
    }

    /// The controller has an internal error: it stops and can only be reset.
    pub fn fail(&mut self) {
        self.operational.usbsts |= usbsts::HCE | usbsts::HCH;
    }

    /// The interval of an isochronous or interrupt endpoint passed without service.
    pub fn miss_service(&mut self, slot: u8, endpoint: u8) {
        self.send_event(Trb {
            parameter: 0,
            status: u32::from(crate::trb::code::MISSED_SERVICE) << 24,
            control: crate::trb::kind::TRANSFER_EVENT << 10
                | u32::from(slot) << 24
                | u32::from(endpoint) << 16,
        });
    }

    /// Sends an event of the test's making: four words, the cycle bit is set right.
    pub fn send_raw_event(&mut self, words: [u32; 4]) {
        let parameter = u64::from(words[1]) << 32 | u64::from(words[0]);
        self.send_event(Trb { parameter, status: words[2], control: words[3] });
    }

    /// Whether the controller runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.operational.usbcmd & usbcmd::RUN != 0 && self.operational.usbsts & usbsts::HCH == 0
    }

    /// Does all that can be done now. True when an interrupt was sent.
    pub fn step(&mut self) -> bool {
        self.finish_reset();
        self.follow_run_bit();
        // Devices answer in turns: as long as somebody makes progress there may be more.
        for _ in 0..10_000 {
            if !self.is_running() {
                break;
            }
            let mut progress = self.step_ports();
            while let Some((slot, target)) = self.doorbells.pop_front() {
                progress = true;
                if slot == 0 {
                    self.run_commands();
                } else {
                    self.activate(slot, target);
                }
            }
            progress |= self.run_transfers();
            progress |= self.deliver_events();
            if !progress {
                break;
            }
        }
        std::mem::take(&mut self.interrupt_due)
    }

    fn finish_reset(&mut self) {
        if self.operational.usbcmd & usbcmd::HCRST == 0 || self.faults.dead {
            return;
        }
        if self.legacy & 1 << 16 != 0 && self.legacy & 1 << 24 == 0 {
            self.violation("reset while the BIOS owns the controller");
        }
        self.operational = Operational::default();
        self.runtime = Runtime::default();
        self.commands = CommandRing::default();
        self.events = EventRing::default();
        self.slots.iter_mut().for_each(|slot| *slot = Slot::default());
        self.doorbells.clear();
        (self.transfers_begun, self.commands_begun, self.events_sent) = (0, 0, 0);
        let powered = !self.config.port_power;
        self.ports.iter_mut().for_each(|port| port.controller_reset(powered));
        self.interrupt_due = false;
    }

    fn follow_run_bit(&mut self) {
        let wants = self.operational.usbcmd & usbcmd::RUN != 0;
        let halted = self.operational.usbsts & usbsts::HCH != 0;
        let failed = self.operational.usbsts & (usbsts::HCE | usbsts::HSE) != 0;
        if !wants && !halted {
            self.operational.usbsts |= usbsts::HCH;
        } else if wants && halted && !failed && !self.faults.dead {
            self.operational.usbsts &= !usbsts::HCH;
            self.check_start();
        }
    }

    /// What must be in place when the controller starts (4.2).
    fn check_start(&mut self) {
        if self.operational.dcbaap == 0 || self.operational.dcbaap & 0x3f != 0 {
            self.violation("started without a device context base address array");
        }
        if self.runtime.erstsz == 0 || self.runtime.erstba & 0x3f != 0 {
            self.violation("started without an event ring");
        }
        self.take_scratchpads();
        self.start_event_ring();
    }

    /// Reads the scratchpad array and uses every page (4.20).
    fn take_scratchpads(&mut self) {
        if self.config.scratchpads == 0 {
            return;
        }
        let array = self.read_u64(self.operational.dcbaap);
        if array == 0 || array & 0x3f != 0 {
            self.violation("started without scratchpads");
            return;
        }
        for index in 0..u64::from(self.config.scratchpads) {
            let page = self.read_u64(array + 8 * index);
            if page & 0xfff != 0 || page == 0 {
                self.violation(format!("scratchpad {index} at {page:#x}"));
            } else {
                self.write(page, &[0xa5; 4096]);
            }
        }
    }

    /// Reads guest memory; a failure is a host system error.
    pub(crate) fn read_memory(&mut self, address: u64, bytes: &mut [u8]) {
        self.check_address(address, bytes.len());
        if !bytes.is_empty() && !self.memory.read(address, bytes) {
            bytes.fill(0);
            self.host_system_error(address, bytes.len());
        }
    }

    pub(crate) fn read_u64(&mut self, address: u64) -> u64 {
        let mut bytes = [0; 8];
        self.read_memory(address, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    pub(crate) fn read_u32(&mut self, address: u64) -> u32 {
        let mut bytes = [0; 4];
        self.read_memory(address, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub(crate) fn read_trb(&mut self, address: u64) -> Trb {
        let mut bytes = [0; 16];
        self.read_memory(address, &mut bytes);
        Trb::from_bytes(bytes)
    }

    /// Writes guest memory; a failure is a host system error.
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) {
        self.check_address(address, bytes.len());
        if !bytes.is_empty() && !self.memory.write(address, bytes) {
            self.host_system_error(address, bytes.len());
        }
    }

    fn check_address(&mut self, address: u64, length: usize) {
        if !self.config.wide_addresses && address + length as u64 > 1 << 32 {
            self.violation(format!("address {address:#x} has more than 32 bits"));
        }
    }

    fn host_system_error(&mut self, address: u64, length: usize) {
        self.violation(format!("{length} bytes at {address:#x} are not memory lent to the controller"));
        self.operational.usbsts |= usbsts::HSE | usbsts::HCH;
    }

    /// The device that a route leads to, when everything on the way is plugged in and enabled.
    pub(crate) fn find_device(&self, root_port: usize, route: u32) -> Option<Plugged> {
        let mut device = self.ports.get(root_port.checked_sub(1)?)?.reachable()?;
        let mut rest = route;
        while rest & 0xf != 0 {
            let next = device.borrow_mut().as_hub()?.reachable((rest & 0xf) as usize)?;
            device = next;
            rest >>= 4;
        }
        Some(device)
    }

    /// Whether a device of this speed needs a transaction translator, and which one its route leads through: the slot
    /// route of the high-speed hub nearest to it, and the port of that hub.
    pub(crate) fn translator_on_route(&self, root_port: usize, route: u32) -> Option<(u32, u32)> {
        let mut device = self.ports.get(root_port.checked_sub(1)?)?.reachable()?;
        let (mut rest, mut depth, mut found) = (route, 0, None);
        while rest & 0xf != 0 {
            let port = rest & 0xf;
            if device.borrow().speed() == Speed::High {
                found = Some((route & ((1 << (4 * depth)) - 1), port));
            }
            let next = device.borrow_mut().as_hub()?.reachable(port as usize)?;
            device = next;
            rest >>= 4;
            depth += 1;
        }
        found
    }
}
