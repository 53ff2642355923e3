//! Registers (xHCI 1.2, chapter 5). Names are the specification's; all registers are little-endian.

use hal::mmio::Mmio;

use crate::error::ControllerError;

/// Capability registers, from the start of the window (5.3).
mod capability {
    /// CAPLENGTH in the low byte, HCIVERSION in the upper half (5.3.1, 5.3.2).
    pub const CAPLENGTH: usize = 0x00;
    pub const HCSPARAMS1: usize = 0x04;
    pub const HCSPARAMS2: usize = 0x08;
    pub const HCCPARAMS1: usize = 0x10;
    pub const DBOFF: usize = 0x14;
    pub const RTSOFF: usize = 0x18;
}

/// Operational registers, from CAPLENGTH on (5.4).
mod operational {
    pub const USBCMD: usize = 0x00;
    pub const USBSTS: usize = 0x04;
    pub const PAGESIZE: usize = 0x08;
    pub const DNCTRL: usize = 0x14;
    pub const CRCR: usize = 0x18;
    pub const DCBAAP: usize = 0x30;
    pub const CONFIG: usize = 0x38;
    /// The first port's register set; each has 16 bytes (5.4.8).
    pub const PORTS: usize = 0x400;
}

/// The first interrupter's register set, from RTSOFF on (5.5.2).
mod interrupter {
    pub const IMAN: usize = 0x20;
    pub const IMOD: usize = 0x24;
    pub const ERSTSZ: usize = 0x28;
    pub const ERSTBA: usize = 0x30;
    pub const ERDP: usize = 0x38;
}

/// USBCMD (5.4.1).
pub mod usbcmd {
    /// Run/Stop.
    pub const RUN: u32 = 1 << 0;
    /// Host Controller Reset.
    pub const HCRST: u32 = 1 << 1;
    /// Interrupter Enable.
    pub const INTE: u32 = 1 << 2;
    /// Host System Error Enable.
    pub const HSEE: u32 = 1 << 3;
}

/// USBSTS (5.4.2).
pub mod usbsts {
    /// HCHalted.
    pub const HCH: u32 = 1 << 0;
    /// Host System Error. Write 1 to clear.
    pub const HSE: u32 = 1 << 2;
    /// Event Interrupt. Write 1 to clear.
    pub const EINT: u32 = 1 << 3;
    /// Port Change Detect. Write 1 to clear.
    pub const PCD: u32 = 1 << 4;
    /// Controller Not Ready.
    pub const CNR: u32 = 1 << 11;
    /// Host Controller Error.
    pub const HCE: u32 = 1 << 12;
}

/// CRCR (5.4.5).
pub mod crcr {
    /// Command Abort.
    pub const CA: u64 = 1 << 2;
    /// Command Ring Running.
    pub const CRR: u32 = 1 << 3;
}

/// IMAN (5.5.2.1).
pub mod iman {
    /// Interrupt Pending. Write 1 to clear.
    pub const IP: u32 = 1 << 0;
    /// Interrupt Enable.
    pub const IE: u32 = 1 << 1;
}

/// ERDP (5.5.2.3.3).
pub mod erdp {
    /// Event Handler Busy: set with each interrupt, and none follows until it is cleared by writing 1.
    pub const EHB: u32 = 1 << 3;
}

/// PORTSC (5.4.8).
pub mod portsc {
    /// Current Connect Status.
    pub const CCS: u32 = 1 << 0;
    /// Port Enabled. Write 1 to *disable*.
    pub const PED: u32 = 1 << 1;
    /// Over-current Active.
    pub const OCA: u32 = 1 << 3;
    /// Port Reset.
    pub const PR: u32 = 1 << 4;
    /// Port Power.
    pub const PP: u32 = 1 << 9;
    /// Connect Status Change.
    pub const CSC: u32 = 1 << 17;
    /// Warm Port Reset Change.
    pub const WRC: u32 = 1 << 19;
    /// Port Reset Change.
    pub const PRC: u32 = 1 << 21;
    /// All change bits: CSC, PEC, WRC, OCC, PRC, PLC, CEC. Write 1 to clear.
    pub const CHANGES: u32 = 0x7f << 17;
    /// Cold Attach Status: a warm reset is wanted.
    pub const CAS: u32 = 1 << 24;
    /// Warm Port Reset, USB 3 ports only.
    pub const WPR: u32 = 1 << 31;
    /// What must be written back as it was read: power, indicator, wake enables. Everything else acts when written.
    pub const PRESERVED: u32 = PP | 0b11 << 14 | 0b111 << 25;

    /// Port Link State.
    #[must_use]
    pub const fn link_state(value: u32) -> u32 {
        (value >> 5) & 0xf
    }
    /// Port Speed: a protocol speed id.
    #[must_use]
    pub const fn speed(value: u32) -> u8 {
        ((value >> 10) & 0xf) as u8
    }
    /// Link state Inactive: an error that only a warm reset leaves (4.19.1.2.4).
    pub const INACTIVE: u32 = 6;
    /// Link state Polling: the link trains.
    pub const POLLING: u32 = 7;
    /// Link state Compliance Mode: training failed.
    pub const COMPLIANCE: u32 = 10;
}

/// What the capability registers say, checked once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// HCIVERSION, binary coded decimal: 0x0110 is 1.1.
    pub version: u16,
    /// Device slots (MaxSlots).
    pub slots: u8,
    /// Root ports (MaxPorts).
    pub ports: u8,
    /// Segments that the event ring segment table may have, as the exponent of two (ERST Max).
    pub event_segments: u8,
    /// Scratchpad pages that the controller wants.
    pub scratchpads: u16,
    /// Addresses have 64 bits (AC64); otherwise everything lies below 4 GiB.
    pub addresses_64: bool,
    /// Contexts have 64 bytes (CSZ) rather than 32.
    pub contexts_64: bool,
    /// Port power can be switched (PPC).
    pub port_power: bool,
    /// The first extended capability, in bytes from the start of the window; 0 for none.
    pub extended: usize,
}

/// The register window, its parts found and checked.
#[derive(Debug)]
pub struct Registers<M> {
    window: M,
    operational: usize,
    runtime: usize,
    doorbells: usize,
    /// What the controller can do.
    pub capabilities: Capabilities,
}

impl<M: Mmio> Registers<M> {
    /// Reads the capability registers and checks that all that they point to lies in the window.
    pub fn new(window: M) -> Result<Self, ControllerError> {
        let first = window.read_u32(capability::CAPLENGTH);
        if first == u32::MAX {
            return Err(ControllerError::NotThere);
        }
        let operational = (first & 0xff) as usize;
        let hcsparams1 = window.read_u32(capability::HCSPARAMS1);
        let hcsparams2 = window.read_u32(capability::HCSPARAMS2);
        let hccparams1 = window.read_u32(capability::HCCPARAMS1);
        let capabilities = Capabilities {
            version: (first >> 16) as u16,
            slots: hcsparams1 as u8,
            ports: (hcsparams1 >> 24) as u8,
            event_segments: ((hcsparams2 >> 4) & 0xf) as u8,
            // The high five bits came later than the low five (5.3.4).
            scratchpads: (((hcsparams2 >> 21) & 0x1f) << 5 | hcsparams2 >> 27) as u16,
            addresses_64: hccparams1 & 1 != 0,
            contexts_64: hccparams1 & 1 << 2 != 0,
            port_power: hccparams1 & 1 << 3 != 0,
            extended: (hccparams1 >> 16) as usize * 4,
        };
        let registers = Self {
            operational,
            doorbells: (window.read_u32(capability::DBOFF) & !0b11) as usize,
            runtime: (window.read_u32(capability::RTSOFF) & !0b1_1111) as usize,
            window,
            capabilities,
        };
        registers.check()?;
        Ok(registers)
    }

    fn check(&self) -> Result<(), ControllerError> {
        let size = self.window.len();
        let ports_end = self.operational + operational::PORTS + usize::from(self.capabilities.ports) * 0x10;
        let doorbells_end = self.doorbells.saturating_add(4 * (usize::from(self.capabilities.slots) + 1));
        let runtime_end = self.runtime.saturating_add(0x40);
        let end = ports_end.max(doorbells_end).max(runtime_end);
        if end > size {
            return Err(ControllerError::WindowTooSmall { needed: end, size });
        }
        if self.operational < 0x20 || self.capabilities.slots == 0 || self.capabilities.ports == 0 {
            return Err(ControllerError::BadCapabilities(self.capabilities));
        }
        Ok(())
    }

    /// The whole window, for the extended capabilities.
    pub fn window(&self) -> &M {
        &self.window
    }

    fn read(&self, register: usize) -> u32 {
        self.window.read_u32(self.operational + register)
    }
    fn write(&self, register: usize, value: u32) {
        self.window.write_u32(self.operational + register, value);
    }

    /// Reads USBCMD.
    pub fn usbcmd(&self) -> u32 {
        self.read(operational::USBCMD)
    }
    /// Writes USBCMD.
    pub fn set_usbcmd(&self, value: u32) {
        self.write(operational::USBCMD, value);
    }
    /// Reads USBSTS.
    pub fn usbsts(&self) -> u32 {
        self.read(operational::USBSTS)
    }
    /// Writes USBSTS: ones clear.
    pub fn clear_usbsts(&self, bits: u32) {
        self.write(operational::USBSTS, bits);
    }
    /// The page sizes that the controller supports: bit n for 4096 << n (5.4.3).
    pub fn page_sizes(&self) -> u32 {
        self.read(operational::PAGESIZE) & 0xffff
    }
    /// No device notifications are wanted as events (5.4.4).
    pub fn disable_notifications(&self) {
        self.write(operational::DNCTRL, 0);
    }
    /// Command Ring Running, the one bit of CRCR that reads back.
    pub fn command_ring_runs(&self) -> bool {
        self.read(operational::CRCR) & crcr::CRR != 0
    }
    /// Writes CRCR: ring address and flags.
    pub fn set_crcr(&self, value: u64) {
        self.window.write_u64(self.operational + operational::CRCR, value);
    }
    /// Writes the address of the device context base address array.
    pub fn set_dcbaap(&self, address: u64) {
        self.window.write_u64(self.operational + operational::DCBAAP, address);
    }
    /// Enables this many device slots (5.4.7).
    pub fn set_enabled_slots(&self, slots: u8) {
        self.write(operational::CONFIG, u32::from(slots));
    }

    /// Reads PORTSC of a port (from 1).
    pub fn portsc(&self, port: u8) -> u32 {
        self.read(operational::PORTS + usize::from(port.saturating_sub(1)) * 0x10)
    }

    /// Writes PORTSC of a port: what must be preserved of `current`, and `bits`, which act.
    pub fn act_on_port(&self, port: u8, current: u32, bits: u32) {
        let register = operational::PORTS + usize::from(port.saturating_sub(1)) * 0x10;
        self.write(register, current & portsc::PRESERVED | bits);
    }

    /// Sets the port's power and nothing else.
    pub fn set_port_power(&self, port: u8, on: bool) {
        let register = operational::PORTS + usize::from(port.saturating_sub(1)) * 0x10;
        let kept = self.read(register) & portsc::PRESERVED & !portsc::PP;
        self.write(register, kept | if on { portsc::PP } else { 0 });
    }

    /// Reads IMAN.
    pub fn iman(&self) -> u32 {
        self.window.read_u32(self.runtime + interrupter::IMAN)
    }
    /// Writes IMAN.
    pub fn set_iman(&self, value: u32) {
        self.window.write_u32(self.runtime + interrupter::IMAN, value);
    }
    /// Sets the least time between two interrupts, in units of 250 ns (5.5.2.2).
    pub fn set_moderation(&self, interval: u16) {
        self.window.write_u32(self.runtime + interrupter::IMOD, u32::from(interval));
    }
    /// Sets the size and place of the event ring segment table. Writing the place starts the ring (4.9.4).
    pub fn set_event_ring(&self, segments: u32, table: u64, dequeue: u64) {
        self.window.write_u32(self.runtime + interrupter::ERSTSZ, segments);
        self.window.write_u64(self.runtime + interrupter::ERDP, dequeue);
        self.window.write_u64(self.runtime + interrupter::ERSTBA, table);
    }
    /// Moves the event ring's dequeue pointer within its segment: the low half is enough.
    pub fn set_event_dequeue(&self, address: u64, flags: u32) {
        self.window.write_u32(self.runtime + interrupter::ERDP, address as u32 & !0xf | flags);
    }

    /// Rings the doorbell of a slot (0: the command ring) for an endpoint (5.6).
    pub fn ring(&self, slot: u8, target: u8) {
        self.window.write_u32(self.doorbells + 4 * usize::from(slot), u32::from(target));
    }
}
