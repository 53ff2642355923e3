//! Virtual hubs (USB 2.0 chapter 11, USB 3.2 chapter 10).

use std::collections::VecDeque;

use crate::device::{Answer, Plugged, Speed, VirtualDevice};
use crate::gadget::{Gadget, GadgetEndpoint, Transport};

/// What kind of hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubKind {
    /// A full-speed hub.
    Full,
    /// A high-speed hub with one transaction translator.
    HighSingle,
    /// A high-speed hub that can use a translator for each port.
    HighMultiple,
    /// The USB 3 half of a hub.
    Super,
}

mod status {
    pub const CONNECTED: u16 = 1 << 0;
    pub const ENABLED: u16 = 1 << 1;
    pub const LOW_SPEED: u16 = 1 << 9;
    pub const HIGH_SPEED: u16 = 1 << 10;
    pub const POWER_USB2: u16 = 1 << 8;
    pub const POWER_USB3: u16 = 1 << 9;
}

#[derive(Default)]
struct HubPort {
    device: Option<Plugged>,
    status: u16,
    change: u16,
    powered: bool,
}

/// A hub.
pub struct VirtualHub {
    kind: HubKind,
    gadget: Gadget,
    ports: Vec<HubPort>,
    alternate: u8,
    depth: Option<u16>,
    /// Port resets never end.
    pub endless_reset: bool,
    /// The status pipe answers so next.
    pub next_report: Option<Answer>,
    /// The next requests for the status of a port are answered so.
    pub port_answers: VecDeque<Answer>,
    /// What was reported last, unless a request came since. There is no time here: an interval of the status pipe lasts
    /// until the host does something.
    reported: Option<Vec<u8>>,
}

impl VirtualHub {
    /// A hub with this many ports.
    #[must_use]
    pub fn new(kind: HubKind, ports: usize) -> Self {
        let (speed, protocol) = match kind {
            HubKind::Full => (Speed::Full, 0),
            HubKind::HighSingle => (Speed::High, 1),
            HubKind::HighMultiple => (Speed::High, 2),
            HubKind::Super => (Speed::Super, 3),
        };
        let endpoint = GadgetEndpoint { address: 0x81, transport: Transport::Interrupt };
        let mut gadget = Gadget::new(speed, (0x1d6b, 0x0002), 9, &[endpoint]);
        let mut device = gadget.device_descriptor().to_vec();
        (device[4], device[6]) = (9, protocol);
        gadget.set_device_descriptor(device);
        if kind == HubKind::HighMultiple {
            gadget.set_configuration_descriptor(multiple_translator_configuration());
        }
        gadget.set_string(2, "Hub");
        let ports = (0..ports).map(|_| HubPort::default()).collect();
        Self {
            kind,
            gadget,
            ports,
            alternate: 0,
            depth: None,
            endless_reset: false,
            next_report: None,
            port_answers: VecDeque::new(),
            reported: None,
        }
    }

    /// The alternate setting in force: 1 is several translators.
    #[must_use]
    pub fn alternate(&self) -> u8 {
        self.alternate
    }

    /// The depth that the host set on a USB 3 hub.
    #[must_use]
    pub fn depth(&self) -> Option<u16> {
        self.depth
    }

    /// Plugs a device into a port (from 1).
    pub fn plug(&mut self, port: usize, device: Plugged) {
        let powered = self.ports[port - 1].powered;
        self.ports[port - 1].device = Some(device);
        if powered {
            self.connect(port - 1);
        }
    }

    /// Unplugs what is at a port.
    pub fn unplug(&mut self, port: usize) {
        let port = &mut self.ports[port - 1];
        port.device = None;
        port.status &= !(status::CONNECTED | status::ENABLED | status::LOW_SPEED | status::HIGH_SPEED);
        if self.kind == HubKind::Super {
            port.status |= status::POWER_USB3;
        }
        port.change |= status::CONNECTED;
    }

    fn connect(&mut self, index: usize) {
        let superspeed = self.kind == HubKind::Super;
        let port = &mut self.ports[index];
        let Some(device) = &port.device else { return };
        device.borrow_mut().reset();
        port.status |= status::CONNECTED;
        port.change |= status::CONNECTED;
        if superspeed {
            port.status |= status::ENABLED;
        } else if device.borrow().speed() == Speed::Low {
            port.status |= status::LOW_SPEED;
        }
    }

    /// The device at a port, when it can be talked to.
    pub(crate) fn reachable(&self, port: usize) -> Option<Plugged> {
        let port = self.ports.get(port.checked_sub(1)?)?;
        port.device.clone().filter(|_| port.status & status::ENABLED != 0)
    }

    fn descriptor(&self) -> Vec<u8> {
        let ports = self.ports.len() as u8;
        match self.kind {
            // wHubCharacteristics: think time 8 bit times more than the least (bits 6:5 = 1).
            HubKind::HighSingle | HubKind::HighMultiple => vec![9, 0x29, ports, 0x20, 0, 10, 0, 0, 0xff],
            HubKind::Full => vec![9, 0x29, ports, 0, 0, 10, 0, 0, 0xff],
            HubKind::Super => vec![12, 0x2a, ports, 0, 0, 10, 0, 0, 0, 0, 0, 0],
        }
    }

    fn port_feature(&mut self, port: u16, feature: u16, set: bool) -> Answer {
        let superspeed = self.kind == HubKind::Super;
        let power = if superspeed { status::POWER_USB3 } else { status::POWER_USB2 };
        let index = usize::from(port).wrapping_sub(1);
        if index >= self.ports.len() {
            return Answer::Stall;
        }
        match (feature, set) {
            (8, true) => {
                let was = std::mem::replace(&mut self.ports[index].powered, true);
                self.ports[index].status |= power;
                if !was {
                    self.connect(index);
                }
            }
            (8, false) => {
                let port = &mut self.ports[index];
                port.powered = false;
                port.status = 0;
                port.change = 0;
            }
            (4 | 28, true) => self.reset_port(index, feature == 28),
            (1, false) => self.ports[index].status &= !status::ENABLED,
            (16..=20, false) => self.ports[index].change &= !(1 << (feature - 16)),
            (25, false) if superspeed => self.ports[index].change &= !(1 << 6),
            (26, false) if superspeed => self.ports[index].change &= !(1 << 7),
            (29, false) if superspeed => self.ports[index].change &= !(1 << 5),
            _ => return Answer::Stall,
        }
        Answer::done()
    }

    fn reset_port(&mut self, index: usize, warm: bool) {
        if self.endless_reset {
            return;
        }
        let superspeed = self.kind == HubKind::Super;
        let port = &mut self.ports[index];
        let Some(device) = port.device.clone() else { return };
        device.borrow_mut().reset();
        port.status |= status::ENABLED;
        if !superspeed && device.borrow().speed() == Speed::High && self.kind != HubKind::Full {
            port.status |= status::HIGH_SPEED;
        }
        port.change |= 1 << 4 | if warm { 1 << 5 } else { 0 };
    }
}

fn multiple_translator_configuration() -> Vec<u8> {
    let mut bytes = vec![9, 2, 41, 0, 1, 1, 0, 0xe0, 0];
    for (alternate, protocol) in [(0, 1), (1, 2)] {
        bytes.extend([9, 4, 0, alternate, 1, 9, 0, protocol, 0]);
        bytes.extend([7, 5, 0x81, 3, 1, 0, 12]);
    }
    bytes
}

impl VirtualDevice for VirtualHub {
    fn speed(&self) -> Speed {
        self.gadget.speed()
    }

    fn reset(&mut self) {
        self.gadget.reset();
        self.alternate = 0;
        self.ports.iter_mut().for_each(|port| (port.status, port.change, port.powered) = (0, 0, false));
    }

    fn control(&mut self, setup: [u8; 8], data: &[u8]) -> Answer {
        self.reported = None;
        let value = u16::from_le_bytes([setup[2], setup[3]]);
        let index = u16::from_le_bytes([setup[4], setup[5]]);
        match (setup[0], setup[1]) {
            (0xa0, 6) => Answer::Data(self.descriptor()),
            (0xa0, 0) => Answer::Data(vec![0; 4]),
            (0xa3, 0) if !self.port_answers.is_empty() => {
                self.port_answers.pop_front().unwrap_or(Answer::Stall)
            }
            (0xa3, 0) => match self.ports.get(usize::from(index).wrapping_sub(1)) {
                Some(port) => {
                    let [status, change] = [port.status, port.change].map(u16::to_le_bytes);
                    Answer::Data(vec![status[0], status[1], change[0], change[1]])
                }
                None => Answer::Stall,
            },
            (0x23, 3) => self.port_feature(index & 0xff, value, true),
            (0x23, 1) => self.port_feature(index & 0xff, value, false),
            (0x20, 1) => Answer::done(),
            (0x20, 12) if self.kind == HubKind::Super => {
                self.depth = Some(value);
                Answer::done()
            }
            (0x01, 11) if value < 2 && self.kind == HubKind::HighMultiple => {
                self.alternate = value as u8;
                Answer::done()
            }
            _ => self.gadget.control(setup, data),
        }
    }

    fn transfer_in(&mut self, _endpoint: u8, length: usize) -> Answer {
        if let Some(answer) = self.next_report.take() {
            return answer;
        }
        let mut report = vec![0_u8; (self.ports.len() / 8 + 1).min(length)];
        for (index, _) in self.ports.iter().enumerate().filter(|(_, port)| port.change != 0) {
            report[(index + 1) / 8] |= 1 << ((index + 1) % 8);
        }
        if report.iter().all(|byte| *byte == 0) || self.reported.as_ref() == Some(&report) {
            return Answer::NotReady;
        }
        self.reported = Some(report.clone());
        Answer::Data(report)
    }

    fn as_hub(&mut self) -> Option<&mut VirtualHub> {
        Some(self)
    }
}
