//! Registers: their places and what writing them does (xHCI chapters 5 and 7).

use crate::config::Protocol;
use crate::model::Model;

/// Where the parts of this model's register window are.
mod place {
    pub const OPERATIONAL: usize = 0x40;
    pub const PORTS: usize = OPERATIONAL + 0x400;
    pub const EXTENDED: usize = 0x800;
    pub const RUNTIME: usize = 0x1000;
    pub const DOORBELLS: usize = 0x2000;
    pub const END: usize = 0x3000;
}

pub(crate) mod usbcmd {
    pub const RUN: u32 = 1 << 0;
    pub const HCRST: u32 = 1 << 1;
    pub const INTE: u32 = 1 << 2;
}

pub(crate) mod usbsts {
    pub const HCH: u32 = 1 << 0;
    pub const HSE: u32 = 1 << 2;
    pub const EINT: u32 = 1 << 3;
    pub const PCD: u32 = 1 << 4;
    pub const CNR: u32 = 1 << 11;
    pub const HCE: u32 = 1 << 12;
}

#[derive(Debug)]
pub(crate) struct Operational {
    pub usbcmd: u32,
    pub usbsts: u32,
    pub dnctrl: u32,
    pub dcbaap: u64,
    pub config: u32,
}

impl Default for Operational {
    fn default() -> Self {
        Self { usbcmd: 0, usbsts: usbsts::HCH, dnctrl: 0, dcbaap: 0, config: 0 }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Runtime {
    pub iman: u32,
    pub imod: u32,
    pub erstsz: u32,
    pub erstba: u64,
    pub erdp: u64,
}

#[derive(Debug, Default)]
pub(crate) struct CommandRing {
    pub pointer: u64,
    pub cycle: bool,
    pub running: bool,
    /// A command that is never answered stands at the pointer.
    pub stuck: bool,
}

fn set_low(register: &mut u64, value: u32) {
    *register = *register & !0xffff_ffff | u64::from(value);
}
fn set_high(register: &mut u64, value: u32) {
    *register = *register & 0xffff_ffff | u64::from(value) << 32;
}

impl Model {
    /// Bytes in the register window.
    #[must_use]
    pub fn window_size(&self) -> usize {
        place::END
    }

    /// Reads a register. The window is read in whole aligned words; other sizes are cut out of them.
    pub fn read(&mut self, offset: usize) -> u32 {
        match offset {
            0x00..place::OPERATIONAL => self.read_capability(offset),
            place::OPERATIONAL..place::PORTS => self.read_operational(offset - place::OPERATIONAL),
            place::PORTS..place::EXTENDED => self.read_port_register(offset - place::PORTS),
            place::EXTENDED..place::RUNTIME => self.read_extended(offset - place::EXTENDED),
            place::RUNTIME..place::DOORBELLS => self.read_runtime(offset - place::RUNTIME),
            _ => 0,
        }
    }

    /// Writes a register.
    pub fn write_register(&mut self, offset: usize, value: u32) {
        match offset {
            place::OPERATIONAL..place::PORTS => self.write_operational(offset - place::OPERATIONAL, value),
            place::PORTS..place::EXTENDED => self.write_port_register(offset - place::PORTS, value),
            place::EXTENDED..place::RUNTIME => self.write_extended(offset - place::EXTENDED, value),
            place::RUNTIME..place::DOORBELLS => self.write_runtime(offset - place::RUNTIME, value),
            place::DOORBELLS..place::END => self.write_doorbell((offset - place::DOORBELLS) / 4, value),
            _ => self.violation(format!("write to the read-only register {offset:#x}")),
        }
    }

    fn read_capability(&self, offset: usize) -> u32 {
        let scratchpads = u32::from(self.config.scratchpads);
        match offset {
            0x00 => 0x0120_0000 | place::OPERATIONAL as u32,
            0x04 => u32::from(self.config.slots) | 1 << 8 | (self.config.ports.len() as u32) << 24,
            0x08 => (scratchpads >> 5) << 21 | (scratchpads & 0x1f) << 27,
            0x10 => {
                u32::from(self.config.wide_addresses)
                    | u32::from(self.config.wide_contexts) << 2
                    | u32::from(self.config.port_power) << 3
                    | (place::EXTENDED as u32 / 4) << 16
            }
            0x14 => place::DOORBELLS as u32,
            0x18 => place::RUNTIME as u32,
            _ => 0,
        }
    }

    fn read_operational(&self, offset: usize) -> u32 {
        match offset {
            0x00 => self.operational.usbcmd,
            0x04 => {
                self.operational.usbsts
                    | if self.operational.usbcmd & usbcmd::HCRST != 0 { usbsts::CNR } else { 0 }
            }
            0x08 => 1,
            0x14 => self.operational.dnctrl,
            0x18 => u32::from(self.commands.running) << 3,
            0x30 => self.operational.dcbaap as u32,
            0x34 => (self.operational.dcbaap >> 32) as u32,
            0x38 => self.operational.config,
            _ => 0,
        }
    }

    fn write_operational(&mut self, offset: usize, value: u32) {
        match offset {
            0x00 => {
                if value & usbcmd::HCRST != 0 && !self.halted_or_failed() {
                    self.violation("reset while running");
                }
                self.operational.usbcmd = value;
            }
            0x04 => self.operational.usbsts &= !(value & (usbsts::HSE | usbsts::EINT | usbsts::PCD)),
            0x14 => self.operational.dnctrl = value,
            0x18 | 0x1c => self.write_command_ring_control(offset, value),
            0x30 => set_low(&mut self.operational.dcbaap, value),
            0x34 => set_high(&mut self.operational.dcbaap, value),
            0x38 => {
                if !self.halted_or_failed() {
                    self.violation("CONFIG written while running");
                }
                self.operational.config = value;
            }
            _ => self.violation(format!("write to operational register {offset:#x}")),
        }
    }

    fn halted_or_failed(&self) -> bool {
        self.operational.usbsts & (usbsts::HCH | usbsts::HCE | usbsts::HSE) != 0
    }

    /// CRCR (5.4.5): the pointer only counts while the ring is stopped; stop and abort only while it runs.
    fn write_command_ring_control(&mut self, offset: usize, value: u32) {
        if offset == 0x1c {
            if !self.commands.running {
                set_high(&mut self.commands.pointer, value);
            }
        } else if self.commands.running {
            if value & 0b110 != 0 && !self.faults.deaf_to_abort {
                self.abort_commands();
            }
        } else {
            set_low(&mut self.commands.pointer, value & !0x3f);
            self.commands.cycle = value & 1 != 0;
        }
    }

    fn read_runtime(&self, offset: usize) -> u32 {
        let runtime = &self.runtime;
        match offset {
            0x20 => runtime.iman,
            0x24 => runtime.imod,
            0x28 => runtime.erstsz,
            0x30 => runtime.erstba as u32,
            0x34 => (runtime.erstba >> 32) as u32,
            0x38 => runtime.erdp as u32,
            0x3c => (runtime.erdp >> 32) as u32,
            _ => 0,
        }
    }

    fn write_runtime(&mut self, offset: usize, value: u32) {
        const PENDING: u32 = 1;
        const HANDLER_BUSY: u64 = 1 << 3;
        match offset {
            0x20 => {
                let pending = self.runtime.iman & PENDING & !value;
                self.runtime.iman = value & 0b10 | pending;
            }
            0x24 => self.runtime.imod = value,
            0x28 => self.runtime.erstsz = value & 0xffff,
            0x30 => set_low(&mut self.runtime.erstba, value & !0x3f),
            0x34 => set_high(&mut self.runtime.erstba, value),
            0x38 => {
                let busy = self.runtime.erdp & HANDLER_BUSY & !u64::from(value);
                set_low(&mut self.runtime.erdp, value & !0b1000);
                self.runtime.erdp |= busy;
                self.dequeue_moved();
            }
            0x3c => set_high(&mut self.runtime.erdp, value),
            _ => self.violation(format!("write to runtime register {offset:#x}")),
        }
    }

    fn write_doorbell(&mut self, slot: usize, value: u32) {
        self.doorbells_rung += 1;
        let target = (value & 0xff) as usize;
        let known =
            if slot == 0 { target == 0 } else { (1..32).contains(&target) && slot < self.slots.len() };
        if !known || value >> 8 != 0 {
            self.violation(format!("doorbell of slot {slot} rung with {value:#x}"));
        } else if self.operational.usbcmd & usbcmd::RUN == 0 {
            self.violation(format!("doorbell of slot {slot} rung while stopped"));
        } else {
            self.doorbells.push_back((slot, target));
        }
    }

    /// The extended capabilities: legacy support, then a supported protocol for USB 2 and one for USB 3.
    fn read_extended(&mut self, offset: usize) -> u32 {
        match offset {
            0x00 => {
                self.bios_lets_go();
                1 | 4 << 8 | self.legacy
            }
            0x04 => self.legacy_control,
            0x10 => 2 | 4 << 8 | 0x0200 << 16,
            0x20 => 2 | 0x0310 << 16,
            0x14 | 0x24 => u32::from_le_bytes(*b"USB "),
            0x18 => self.ports_of(Protocol::Usb2),
            0x28 => self.ports_of(Protocol::Usb3),
            _ => 0,
        }
    }

    fn ports_of(&self, protocol: Protocol) -> u32 {
        let first = self.config.ports.iter().position(|port| *port == protocol);
        let count = self.config.ports.iter().filter(|port| **port == protocol).count();
        first.map_or(0, |first| (first as u32 + 1) | (count as u32) << 8)
    }

    fn bios_lets_go(&mut self) {
        let asked = self.legacy & 1 << 24 != 0;
        if asked && self.legacy & 1 << 16 != 0 && !self.config.stubborn_bios {
            self.bios_patience = self.bios_patience.saturating_sub(1);
            if self.bios_patience == 0 {
                self.legacy &= !(1 << 16);
            }
        }
    }

    fn write_extended(&mut self, offset: usize, value: u32) {
        match offset {
            0x00 => self.legacy = value & (1 << 16 | 1 << 24),
            0x04 => self.legacy_control = value & 0xe011,
            _ => self.violation(format!("write to extended capability {offset:#x}")),
        }
    }

    /// Whether a system management interrupt could still be raised for the BIOS.
    #[must_use]
    pub fn bios_interrupts_enabled(&self) -> bool {
        self.legacy_control & 0xe011 != 0
    }
}
