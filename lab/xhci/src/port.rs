//! Root ports (xHCI 4.19, 5.4.8).

use crate::config::Protocol;
use crate::device::Plugged;
use crate::model::Model;

mod bit {
    pub const CONNECTED: u32 = 1 << 0;
    pub const ENABLED: u32 = 1 << 1;
    pub const OVER_CURRENT: u32 = 1 << 3;
    pub const RESET: u32 = 1 << 4;
    pub const POWER: u32 = 1 << 9;
    pub const LINK_WRITE: u32 = 1 << 16;
    pub const CONNECT_CHANGE: u32 = 1 << 17;
    pub const ENABLE_CHANGE: u32 = 1 << 18;
    pub const WARM_CHANGE: u32 = 1 << 19;
    pub const OVER_CURRENT_CHANGE: u32 = 1 << 20;
    pub const RESET_CHANGE: u32 = 1 << 21;
    pub const LINK_CHANGE: u32 = 1 << 22;
    pub const CHANGES: u32 = 0x7f << 17;
    pub const WARM_RESET: u32 = 1 << 31;
}

mod link {
    pub const U0: u32 = 0;
    pub const DETECT: u32 = 5;
    pub const INACTIVE: u32 = 6;
    pub const POLLING: u32 = 7;
}

/// A root port and what is plugged into it.
pub(crate) struct Port {
    pub protocol: Protocol,
    device: Option<Plugged>,
    value: u32,
    /// Reset under way: warm or not.
    resetting: Option<bool>,
    /// A change happened that no event was sent for.
    announce: bool,
    pub needs_warm_reset: bool,
}

impl Port {
    pub fn new(protocol: Protocol, powered: bool) -> Self {
        let value = (if powered { bit::POWER } else { 0 }) | link::DETECT << 5;
        Self { protocol, device: None, value, resetting: None, announce: false, needs_warm_reset: false }
    }

    fn set_link(&mut self, state: u32) {
        self.value = self.value & !(0xf << 5) | state << 5;
    }

    /// An event announces the first change after all were acknowledged, and none the changes after it (4.19.2).
    fn change(&mut self, bits: u32) {
        self.announce |= self.value & bit::CHANGES == 0;
        self.value |= bits;
    }

    pub fn plug(&mut self, device: Plugged) {
        self.device = Some(device);
        self.value &= !(bit::ENABLED | bit::CONNECTED);
        if self.value & bit::POWER != 0 {
            self.connect();
        }
    }

    fn connect(&mut self) {
        let Some(device) = &self.device else { return };
        let speed = device.borrow().speed();
        device.borrow_mut().reset();
        self.value = self.value & !(0xf << 10) | bit::CONNECTED;
        match self.protocol {
            // Its speed shows after the reset (4.19.1.1).
            Protocol::Usb2 => self.set_link(link::POLLING),
            Protocol::Usb3 if self.needs_warm_reset => self.set_link(link::INACTIVE),
            Protocol::Usb3 => {
                self.set_link(link::U0);
                self.value |= bit::ENABLED | (speed as u32) << 10;
            }
        }
        self.change(bit::CONNECT_CHANGE);
    }

    pub fn unplug(&mut self) {
        self.device = None;
        self.disconnect();
    }

    fn disconnect(&mut self) {
        let was = self.value & bit::CONNECTED != 0;
        self.value &= !(bit::CONNECTED | bit::ENABLED | bit::RESET | 0xf << 10);
        self.resetting = None;
        self.set_link(link::DETECT);
        if was {
            self.change(bit::CONNECT_CHANGE);
        }
    }

    pub fn break_link(&mut self) {
        if self.value & bit::CONNECTED != 0 {
            self.value &= !bit::ENABLED;
            self.set_link(link::INACTIVE);
            self.needs_warm_reset = true;
            self.change(bit::LINK_CHANGE);
        }
    }

    /// Too much current flows, or no longer. The port switches its power off, and leaves it off (5.4.8).
    pub fn over_current(&mut self, flows: bool) {
        if flows {
            self.value = self.value & !bit::POWER | bit::OVER_CURRENT;
            self.disconnect();
        } else {
            self.value &= !bit::OVER_CURRENT;
        }
        self.change(bit::OVER_CURRENT_CHANGE);
    }

    /// After a reset of the controller: as after power-up, and what is plugged in announces itself.
    pub fn controller_reset(&mut self, powered: bool) {
        self.value = (if powered { bit::POWER } else { 0 }) | link::DETECT << 5;
        self.resetting = None;
        if powered {
            self.connect();
        }
    }

    /// The device, when it can be talked to.
    pub fn reachable(&self) -> Option<Plugged> {
        self.device.clone().filter(|_| self.value & bit::ENABLED != 0)
    }

    fn finish_reset(&mut self, warm: bool, bounces: bool) {
        self.resetting = None;
        self.value &= !bit::RESET;
        let Some(device) = self.device.clone() else { return };
        let warm_change = if warm { bit::WARM_CHANGE } else { 0 };
        let connect_change = if bounces { bit::CONNECT_CHANGE } else { 0 };
        self.change(bit::RESET_CHANGE | warm_change | connect_change);
        if self.needs_warm_reset && !warm {
            return;
        }
        self.needs_warm_reset = false;
        device.borrow_mut().reset();
        let speed = device.borrow().speed() as u32;
        self.value = self.value & !(0xf << 10) | speed << 10 | bit::ENABLED;
        self.set_link(link::U0);
    }

    fn set_power(&mut self, on: bool) {
        match (self.value & bit::POWER != 0, on) {
            (true, false) => {
                self.value &= !bit::POWER;
                self.disconnect();
            }
            (false, true) => {
                self.value |= bit::POWER;
                self.connect();
            }
            _ => {}
        }
    }
}

impl Model {
    pub(crate) fn read_port_register(&mut self, offset: usize) -> u32 {
        match (self.ports.get(offset / 16), offset % 16) {
            (Some(port), 0) => port.value,
            _ => 0,
        }
    }

    pub(crate) fn write_port_register(&mut self, offset: usize, value: u32) {
        let switchable = self.config.port_power;
        let Some(port) = self.ports.get_mut(offset / 16).filter(|_| offset.is_multiple_of(16)) else {
            self.violation(format!("write to port register {offset:#x}"));
            return;
        };
        port.value &= !(value & bit::CHANGES);
        if switchable {
            port.set_power(value & bit::POWER != 0);
        }
        if value & bit::ENABLED != 0 && port.value & bit::ENABLED != 0 {
            port.value &= !bit::ENABLED;
            port.change(bit::ENABLE_CHANGE);
        }
        let warm = value & bit::WARM_RESET != 0;
        let wrong_warm = warm && port.protocol == Protocol::Usb2;
        let unpowered = port.value & bit::POWER == 0;
        if value & bit::RESET != 0 || warm {
            port.value |= bit::RESET;
            port.value &= !bit::ENABLED;
            port.resetting = Some(warm);
        }
        if wrong_warm {
            self.violation("warm reset of a USB 2 port");
        }
        if unpowered && value & (bit::RESET | bit::WARM_RESET) != 0 {
            self.violation("reset of a port without power");
        }
        if value & bit::LINK_WRITE != 0 {
            self.violation("link state written");
        }
    }

    /// Ends resets and announces changes.
    pub(crate) fn step_ports(&mut self) -> bool {
        let mut progress = false;
        for index in 0..self.ports.len() {
            let (endless, bounces) = (self.faults.endless_reset, self.faults.bouncing_reset);
            let port = &mut self.ports[index];
            if let Some(warm) = port.resetting.filter(|_| !endless) {
                port.finish_reset(warm, bounces);
            }
            if std::mem::take(&mut port.announce) {
                progress = true;
                self.send_port_event(index + 1);
            }
        }
        progress
    }
}
