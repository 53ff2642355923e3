//! Transfer rings (xHCI 4.9.2, 4.10, 4.11): descriptors are carried out one after the other.

use crate::context::EndpointState;
use crate::device::{Answer, Plugged};
use crate::model::Model;
use crate::trb::{SIZE, Trb, code, flag, kind};

/// A descriptor may have no more TRBs than this model is ready to follow.
const LONGEST: usize = 600;

/// A TRB and where it stands.
type Placed = (u64, Trb);

/// A descriptor at the head of an endpoint's ring.
struct Descriptor {
    slot: usize,
    index: usize,
    trbs: Vec<Placed>,
    /// Where the ring goes on behind it, and the cycle state there.
    after: (u64, bool),
}

impl Model {
    /// A doorbell was rung for an endpoint.
    pub(crate) fn activate(&mut self, slot: usize, index: usize) {
        let Some(endpoint) = self.slots.get_mut(slot).map(|slot| &mut slot.endpoints[index]) else { return };
        match endpoint.state {
            EndpointState::Disabled => {
                self.violation(format!("doorbell of slot {slot}, context {index}: disabled"))
            }
            // Nothing happens until the driver has dealt with the error (4.8.3).
            EndpointState::Halted | EndpointState::Error => {}
            EndpointState::Stopped => {
                endpoint.state = EndpointState::Running;
                endpoint.active = true;
                self.show_endpoint(slot, index);
            }
            EndpointState::Running => endpoint.active = true,
        }
    }

    /// Gives every active endpoint one descriptor's worth of attention. True when something ended.
    pub(crate) fn run_transfers(&mut self) -> bool {
        let mut progress = false;
        for slot in 1..self.slots.len() {
            for index in 1..32 {
                let endpoint = &self.slots[slot].endpoints[index];
                if endpoint.state == EndpointState::Running && endpoint.active && self.is_running() {
                    progress |= self.run_descriptor(slot, index);
                }
            }
        }
        progress
    }

    pub(crate) fn send_transfer_event(
        &mut self,
        slot: usize,
        index: usize,
        pointer: u64,
        code: u8,
        residue: usize,
    ) {
        self.send_event(Trb {
            parameter: pointer,
            status: u32::from(code) << 24 | residue as u32 & 0xff_ffff,
            control: kind::TRANSFER_EVENT << 10 | (slot as u32) << 24 | (index as u32) << 16,
        });
    }

    /// The descriptor at the dequeue pointer: its TRBs, and where the ring goes on. `None` when the ring is empty.
    fn fetch(&mut self, slot: usize, index: usize) -> Option<Descriptor> {
        let endpoint = &self.slots[slot].endpoints[index];
        let (mut pointer, mut cycle) = (endpoint.dequeue, endpoint.cycle);
        let mut trbs: Vec<Placed> = Vec::new();
        for _ in 0..LONGEST {
            let trb = self.read_trb(pointer);
            if trb.cycle() != cycle {
                if !trbs.is_empty() {
                    self.violation(format!(
                        "slot {slot}, context {index}: a descriptor ends without its last TRB"
                    ));
                }
                return None;
            }
            if trb.kind() == kind::LINK {
                if trb.flag(flag::CHAIN) == trbs.is_empty() {
                    self.violation("a link's chain bit differs from its descriptor's");
                }
                pointer = trb.parameter & !0xf;
                cycle ^= trb.flag(flag::TOGGLE_CYCLE);
                if trbs.is_empty() {
                    let endpoint = &mut self.slots[slot].endpoints[index];
                    (endpoint.dequeue, endpoint.cycle) = (pointer, cycle);
                }
                continue;
            }
            trbs.push((pointer, trb));
            pointer += SIZE;
            if !trb.flag(flag::CHAIN) {
                return Some(Descriptor { slot, index, trbs, after: (pointer, cycle) });
            }
        }
        self.violation("a descriptor without an end");
        None
    }

    fn run_descriptor(&mut self, slot: usize, index: usize) -> bool {
        let Some(descriptor) = self.fetch(slot, index) else {
            self.slots[slot].endpoints[index].active = false;
            return false;
        };
        let number = match self.slots[slot].endpoints[index].begun {
            Some(number) => number,
            None => {
                let number = self.transfers_begun;
                self.transfers_begun += 1;
                self.slots[slot].endpoints[index].begun = Some(number);
                self.check_descriptor(&descriptor);
                number
            }
        };
        if self.faults.swallowed_transfer == Some(number) {
            return false;
        }
        if let Some((faulty, code)) = self.faults.transfer
            && faulty == number
        {
            self.faults.transfer = None;
            return self.end_with_error(&descriptor, descriptor.trbs.len() - 1, code);
        }
        let route = &self.slots[slot];
        let device = self.find_device(route.root_port(), route.route());
        let Some(device) = device else {
            let behind_translator = self.slots[slot].translator().0 != 0;
            let code = if behind_translator { code::SPLIT_TRANSACTION } else { code::TRANSACTION };
            return self.end_with_error(&descriptor, 0, code);
        };
        match descriptor.trbs[0].1.kind() {
            kind::SETUP => self.run_setup(&descriptor),
            kind::DATA => self.run_data(&descriptor, &device),
            kind::STATUS => self.run_status(&descriptor, &device),
            kind::NO_OP => self.end_well(&descriptor, descriptor.trbs.len() - 1, code::SUCCESS, 0),
            kind::NORMAL if index == 1 => {
                self.violation("a Normal TRB where a control transfer begins");
                self.end_with_error(&descriptor, 0, code::TRB_ERROR)
            }
            kind::NORMAL if index % 2 == 1 => self.run_in(&descriptor, &device),
            kind::NORMAL => self.run_out(&descriptor, &device),
            other => {
                self.violation(format!("TRB type {other} in a transfer ring"));
                self.end_with_error(&descriptor, 0, code::TRB_ERROR)
            }
        }
    }

    /// What holds for every descriptor (4.11, 6.4.1).
    fn check_descriptor(&mut self, descriptor: &Descriptor) {
        let Descriptor { slot, index, ref trbs, .. } = *descriptor;
        let packet = self.slots[slot].endpoints[index].packet_size().max(1);
        let data =
            |trb: &Trb| matches!(trb.kind(), kind::NORMAL | kind::DATA) && !trb.flag(flag::IMMEDIATE_DATA);
        let total: usize = trbs.iter().map(|(_, trb)| trb.length()).sum();
        let mut done = 0;
        for (position, (_, trb)) in trbs.iter().enumerate() {
            if data(trb) && trb.length() > 0 && trb.parameter % 0x1_0000 + trb.length() as u64 > 0x1_0000 {
                self.violation(format!(
                    "a buffer of {} bytes at {:#x} spans 64 KiB",
                    trb.length(),
                    trb.parameter
                ));
            }
            done += trb.length();
            let last = position + 1 == trbs.len();
            let expected = if last { 0 } else { (total.div_ceil(packet) - done / packet).min(31) };
            if data(trb) && trb.td_size() as usize != expected {
                self.violation(format!("TD size {} where {expected} packets remain", trb.td_size()));
            }
        }
    }

    /// Moves the endpoint past the descriptor.
    fn advance(&mut self, descriptor: &Descriptor) {
        let Descriptor { slot, index, after: (next, cycle), .. } = *descriptor;
        let endpoint = &mut self.slots[slot].endpoints[index];
        (endpoint.dequeue, endpoint.cycle) = (next, cycle);
        endpoint.begun = None;
        endpoint.moved = true;
    }

    fn end_well(&mut self, descriptor: &Descriptor, position: usize, code: u8, residue: usize) -> bool {
        let Descriptor { slot, index, ref trbs, .. } = *descriptor;
        let (pointer, trb) = trbs[position];
        let short = code == code::SHORT_PACKET;
        if trb.flag(flag::INTERRUPT_ON_COMPLETION) || short && trb.flag(flag::INTERRUPT_ON_SHORT) {
            self.send_transfer_event(slot, index, pointer, code, residue);
        }
        if let Some((last, trb)) = trbs.last().filter(|_| short && self.config.reports_short_twice)
            && position + 1 < trbs.len()
            && trb.flag(flag::INTERRUPT_ON_COMPLETION)
        {
            self.send_transfer_event(slot, index, *last, code, trb.length());
        }
        self.advance(descriptor);
        true
    }

    /// Ends a descriptor in an error; what becomes of the endpoint depends on the code (4.10.2).
    fn end_with_error(&mut self, descriptor: &Descriptor, position: usize, code: u8) -> bool {
        let Descriptor { slot, index, ref trbs, .. } = *descriptor;
        let (pointer, trb) = trbs[position];
        self.send_transfer_event(slot, index, pointer, code, trb.length());
        let state = match code {
            code::BABBLE | code::TRANSACTION | code::STALL | code::SPLIT_TRANSACTION => EndpointState::Halted,
            code::TRB_ERROR => EndpointState::Error,
            26..=28 => EndpointState::Stopped,
            _ => {
                // The endpoint goes on: a control transfer with its next stage.
                if trb.kind() == kind::SETUP {
                    self.slots[slot].endpoints[index].setup = Some(trb.parameter.to_le_bytes());
                }
                self.advance(descriptor);
                return true;
            }
        };
        let endpoint = &mut self.slots[slot].endpoints[index];
        endpoint.state = state;
        endpoint.active = false;
        (endpoint.begun, endpoint.setup, endpoint.control_answer) = (None, None, None);
        self.show_endpoint(slot, index);
        true
    }

    fn gather(&mut self, trbs: &[Placed]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (_, trb) in trbs {
            let start = bytes.len();
            bytes.resize(start + trb.length(), 0);
            if trb.flag(flag::IMMEDIATE_DATA) {
                let immediate = trb.parameter.to_le_bytes();
                let count = trb.length().min(8);
                bytes[start..start + count].copy_from_slice(&immediate[..count]);
            } else {
                self.read_memory(trb.parameter, &mut bytes[start..]);
            }
        }
        bytes
    }

    /// Puts received bytes into the descriptor's buffers and ends it: well, short, or as a babble.
    fn scatter(&mut self, descriptor: &Descriptor, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        for (position, (_, trb)) in descriptor.trbs.iter().enumerate() {
            let (part, further) = rest.split_at(rest.len().min(trb.length()));
            self.write(trb.parameter, part);
            rest = further;
            if part.len() < trb.length() {
                let residue = trb.length() - part.len();
                return self.end_well(descriptor, position, code::SHORT_PACKET, residue);
            }
        }
        if rest.is_empty() {
            self.end_well(descriptor, descriptor.trbs.len() - 1, code::SUCCESS, 0)
        } else {
            self.end_with_error(descriptor, descriptor.trbs.len() - 1, code::BABBLE)
        }
    }

    fn refuse(&mut self, descriptor: &Descriptor, answer: Answer) -> bool {
        let code = match answer {
            Answer::Data(_) | Answer::NotReady => return false,
            Answer::Stall => code::STALL,
            Answer::Babble => code::BABBLE,
            Answer::Broken => code::TRANSACTION,
        };
        self.end_with_error(descriptor, 0, code)
    }

    fn run_in(&mut self, descriptor: &Descriptor, device: &Plugged) -> bool {
        let Descriptor { index, ref trbs, .. } = *descriptor;
        let total = trbs.iter().map(|(_, trb)| trb.length()).sum();
        let answer = device.borrow_mut().transfer_in(0x80 | (index / 2) as u8, total);
        match answer {
            Answer::Data(bytes) => self.scatter(descriptor, &bytes),
            other => self.refuse(descriptor, other),
        }
    }

    fn run_out(&mut self, descriptor: &Descriptor, device: &Plugged) -> bool {
        let Descriptor { index, ref trbs, .. } = *descriptor;
        let bytes = self.gather(trbs);
        let answer = device.borrow_mut().transfer_out((index / 2) as u8, &bytes);
        match answer {
            Answer::Data(_) => self.end_well(descriptor, descriptor.trbs.len() - 1, code::SUCCESS, 0),
            other => self.refuse(descriptor, other),
        }
    }

    fn run_setup(&mut self, descriptor: &Descriptor) -> bool {
        let Descriptor { slot, index, ref trbs, .. } = *descriptor;
        let (_, trb) = trbs[0];
        if !trb.flag(flag::IMMEDIATE_DATA) || trb.length() != 8 || index != 1 {
            self.violation("a Setup TRB that is not eight bytes of immediate data on endpoint 0");
        }
        let setup = trb.parameter.to_le_bytes();
        let length = u16::from_le_bytes([setup[6], setup[7]]);
        let expected = match (length, setup[0] & 0x80) {
            (0, _) => 0,
            (_, 0) => 2,
            _ => 3,
        };
        if trb.control >> 16 & 3 != expected {
            self.violation(format!("transfer type {} where {expected} is right", trb.control >> 16 & 3));
        }
        let endpoint = &mut self.slots[slot].endpoints[index];
        endpoint.setup = Some(setup);
        endpoint.control_answer = None;
        self.end_well(descriptor, 0, code::SUCCESS, 0)
    }

    /// CLEAR_FEATURE(ENDPOINT_HALT) lets the device's data toggle begin anew (USB 2.0, 9.4.5): the controller's must have
    /// done so, or the next packet is taken for the last one again (4.6.8).
    fn check_halt_cleared(&mut self, slot: usize, setup: [u8; 8]) {
        let index = usize::from(setup[4] & 0xf) * 2 + usize::from(setup[4] >> 7);
        if setup[..4] == [0x02, 1, 0, 0] && self.slots[slot].endpoints[index].moved {
            self.violation(format!(
                "slot {slot}, context {index}: the device's data toggle begins anew alone"
            ));
        }
    }

    fn run_data(&mut self, descriptor: &Descriptor, device: &Plugged) -> bool {
        let Descriptor { slot, index, ref trbs, .. } = *descriptor;
        let Some(setup) = self.slots[slot].endpoints[index].setup else {
            self.violation("a Data TRB without a Setup TRB");
            return self.end_with_error(descriptor, 0, code::TRB_ERROR);
        };
        let inward = setup[0] & 0x80 != 0;
        if trbs[0].1.flag(flag::DIRECTION_IN) != inward {
            self.violation("the Data TRB's direction is not the request's");
        }
        if !inward {
            let bytes = self.gather(trbs);
            self.slots[slot].endpoints[index].control_answer = Some(bytes);
            return self.end_well(descriptor, descriptor.trbs.len() - 1, code::SUCCESS, 0);
        }
        let answer = device.borrow_mut().control(setup, &[]);
        match answer {
            Answer::Data(bytes) => self.scatter(descriptor, &bytes),
            other => self.refuse(descriptor, other),
        }
    }

    fn run_status(&mut self, descriptor: &Descriptor, device: &Plugged) -> bool {
        let Descriptor { slot, index, ref trbs, .. } = *descriptor;
        let Some(setup) = self.slots[slot].endpoints[index].setup else {
            self.violation("a Status TRB without a Setup TRB");
            return self.end_with_error(descriptor, 0, code::TRB_ERROR);
        };
        let length = u16::from_le_bytes([setup[6], setup[7]]);
        let data_in = length > 0 && setup[0] & 0x80 != 0;
        if trbs[0].1.flag(flag::DIRECTION_IN) == data_in {
            self.violation("the Status TRB goes in the direction of the data");
        }
        if !data_in {
            let bytes = self.slots[slot].endpoints[index].control_answer.clone().unwrap_or_default();
            let answer = device.borrow_mut().control(setup, &bytes);
            if !matches!(answer, Answer::Data(_)) {
                return self.refuse(descriptor, answer);
            }
            self.check_halt_cleared(slot, setup);
        }
        let endpoint = &mut self.slots[slot].endpoints[index];
        (endpoint.setup, endpoint.control_answer) = (None, None);
        self.end_well(descriptor, 0, code::SUCCESS, 0)
    }
}
