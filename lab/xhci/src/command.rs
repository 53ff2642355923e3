//! Commands (xHCI 4.6).

use crate::context::{Endpoint, EndpointState, Slot, SlotState};
use crate::device::Speed;
use crate::model::Model;
use crate::trb::{SIZE, Trb, code, flag, kind};

impl Model {
    /// Carries out commands until the ring is empty.
    pub(crate) fn run_commands(&mut self) {
        self.commands.running = true;
        for _ in 0..1000 {
            if self.commands.stuck || !self.is_running() {
                return;
            }
            let pointer = self.commands.pointer;
            let trb = self.read_trb(pointer);
            if trb.cycle() != self.commands.cycle {
                return;
            }
            if trb.kind() == kind::LINK {
                self.commands.pointer = trb.parameter & !0xf;
                self.commands.cycle ^= trb.flag(flag::TOGGLE_CYCLE);
                continue;
            }
            let number = self.commands_begun;
            self.commands_begun += 1;
            if self.faults.swallowed_command == Some(number) {
                self.faults.swallowed_command = None;
                self.commands.stuck = true;
                return;
            }
            let (code, slot) = match self.faults.command {
                Some((faulty, code)) if faulty == number => {
                    self.faults.command = None;
                    if code == code::SLOT_NOT_ENABLED
                        && let Some(slot) = self.slots.get_mut(trb.slot())
                    {
                        *slot = Slot::default();
                    }
                    (code, trb.slot())
                }
                _ => self.carry_out(trb),
            };
            self.commands.pointer += SIZE;
            self.complete_command(pointer, code, slot);
        }
    }

    fn complete_command(&mut self, pointer: u64, code: u8, slot: usize) {
        self.send_event(Trb {
            parameter: pointer,
            status: u32::from(code) << 24,
            control: kind::COMMAND_COMPLETION << 10 | (slot as u32) << 24,
        });
    }

    /// Command Abort (4.6.1.2): the command under way is given up and the ring stops.
    pub(crate) fn abort_commands(&mut self) {
        if std::mem::take(&mut self.commands.stuck) {
            let pointer = self.commands.pointer;
            self.commands.pointer += SIZE;
            self.complete_command(pointer, code::COMMAND_ABORTED, 0);
        }
        self.commands.running = false;
        let pointer = self.commands.pointer;
        self.complete_command(pointer, code::COMMAND_RING_STOPPED, 0);
        self.deliver_events();
    }

    fn carry_out(&mut self, trb: Trb) -> (u8, usize) {
        let slot = trb.slot();
        if trb.kind() == kind::ENABLE_SLOT {
            return self.enable_slot();
        }
        if trb.kind() == kind::NO_OP_COMMAND {
            return (code::SUCCESS, 0);
        }
        if slot == 0 || !self.slots.get(slot).is_some_and(|slot| slot.enabled) {
            return (code::SLOT_NOT_ENABLED, slot);
        }
        let code = match trb.kind() {
            kind::DISABLE_SLOT => self.disable_slot(slot),
            kind::ADDRESS_DEVICE => self.address_device(slot, trb),
            kind::CONFIGURE_ENDPOINT => self.configure_endpoint(slot, trb),
            kind::EVALUATE_CONTEXT => self.evaluate_context(slot, trb),
            kind::RESET_ENDPOINT => self.reset_endpoint(slot, trb.endpoint()),
            kind::STOP_ENDPOINT => self.stop_endpoint(slot, trb.endpoint()),
            kind::SET_TR_DEQUEUE => self.set_dequeue(slot, trb),
            kind::RESET_DEVICE => self.reset_device(slot),
            other => {
                self.violation(format!("unknown command {other}"));
                code::TRB_ERROR
            }
        };
        (code, slot)
    }

    fn enable_slot(&mut self) -> (u8, usize) {
        let enabled = (self.operational.config & 0xff) as usize;
        let free = (1..self.slots.len().min(enabled + 1)).find(|slot| !self.slots[*slot].enabled);
        let Some(slot) = free else { return (code::NO_SLOTS, 0) };
        self.slots[slot] = Slot { enabled: true, ..Slot::default() };
        (code::SUCCESS, slot)
    }

    fn disable_slot(&mut self, slot: usize) -> u8 {
        let busy =
            self.slots[slot].endpoints.iter().any(|endpoint| endpoint.begun.is_some() && endpoint.active);
        if busy {
            self.violation(format!("slot {slot} disabled with transfers under way"));
        }
        self.slots[slot] = Slot::default();
        code::SUCCESS
    }

    fn stride(&self) -> u64 {
        if self.config.wide_contexts { 64 } else { 32 }
    }

    /// Reads words of a context: index 0 of an input context is the input control context.
    fn context_words<const N: usize>(&mut self, base: u64, index: usize) -> [u32; N] {
        let at = base + self.stride() * index as u64;
        std::array::from_fn(|word| self.read_u32(at + 4 * word as u64))
    }

    fn device_context(&mut self, slot: usize) -> u64 {
        let at = self.operational.dcbaap + 8 * slot as u64;
        let address = self.read_u64(at);
        if address == 0 || address & 0x3f != 0 {
            self.violation(format!("slot {slot} has its device context at {address:#x}"));
        }
        address
    }

    /// Shows a slot's state in its device context.
    fn show_slot(&mut self, slot: usize) {
        let base = self.device_context(slot);
        let [first, second, third] = self.slots[slot].words;
        let address = if self.slots[slot].state == SlotState::Default { 0 } else { slot as u32 };
        let fourth = address | self.slots[slot].state.field() << 27;
        for (index, word) in [first, second, third, fourth].into_iter().enumerate() {
            self.write(base + 4 * index as u64, &word.to_le_bytes());
        }
    }

    /// Shows an endpoint's state in its device context.
    pub(crate) fn show_endpoint(&mut self, slot: usize, index: usize) {
        let base = self.device_context(slot) + self.stride() * index as u64;
        let endpoint = &self.slots[slot].endpoints[index];
        let pointer = endpoint.dequeue | u64::from(endpoint.cycle);
        let words = [
            endpoint.words[0] & !7 | endpoint.state.field(),
            endpoint.words[1],
            pointer as u32,
            (pointer >> 32) as u32,
            endpoint.words[4],
        ];
        for (index, word) in words.into_iter().enumerate() {
            self.write(base + 4 * index as u64, &word.to_le_bytes());
        }
    }

    fn load_endpoint(&mut self, input: u64, index: usize) -> Endpoint {
        let words: [u32; 5] = self.context_words(input, index + 1);
        let pointer = u64::from(words[3]) << 32 | u64::from(words[2]);
        Endpoint {
            state: EndpointState::Running,
            words,
            dequeue: pointer & !0xf,
            cycle: pointer & 1 != 0,
            ..Endpoint::default()
        }
    }

    fn address_device(&mut self, slot: usize, trb: Trb) -> u8 {
        let input = trb.parameter;
        let [drop, add]: [u32; 2] = self.context_words(input, 0);
        let words: [u32; 3] = self.context_words(input, 1);
        if drop != 0 || add != 0b11 {
            self.violation(format!("Address Device with flags {drop:#x} {add:#x}"));
            return code::PARAMETER;
        }
        let block = trb.flag(flag::BLOCK_SET_ADDRESS);
        if !matches!(self.slots[slot].state, SlotState::Disabled | SlotState::Default) {
            return code::CONTEXT_STATE;
        }
        let control = self.load_endpoint(input, 1);
        let slot_context = Slot { enabled: true, words, ..Slot::default() };
        if let Err(problem) = self.check_slot(&slot_context, slot) {
            if let Some(problem) = problem {
                self.violation(format!("Address Device of slot {slot}: {problem}"));
                return code::PARAMETER;
            }
            // Nobody answers on that route any more.
            return code::TRANSACTION;
        }
        if control.kind() != 4 || ![8, 16, 32, 64, 512].contains(&control.packet_size()) {
            self.violation(format!(
                "control endpoint of type {} with {} bytes",
                control.kind(),
                control.packet_size()
            ));
            return code::PARAMETER;
        }
        self.slots[slot] = slot_context;
        self.slots[slot].state = if block { SlotState::Default } else { SlotState::Addressed };
        self.slots[slot].endpoints[1] = control;
        self.show_slot(slot);
        self.show_endpoint(slot, 1);
        code::SUCCESS
    }

    /// Checks a slot context against what is plugged in. `Err(None)`: nothing answers there.
    fn check_slot(&self, context: &Slot, own: usize) -> Result<(), Option<String>> {
        let (root_port, route) = (context.root_port(), context.route());
        let Some(device) = self.find_device(root_port, route) else { return Err(None) };
        let speed = device.borrow().speed();
        let id = speed as u32;
        if context.speed_id() != id {
            return Err(Some(format!("speed id {} for a device of speed id {id}", context.speed_id())));
        }
        if context.entries() != 1 {
            return Err(Some(format!("{} context entries", context.entries())));
        }
        let mut prefix = 0;
        for depth in 0..5 {
            if route >> (4 * depth) & 0xf == 0 {
                break;
            }
            if !self.hub_is_configured(root_port, prefix, own) {
                return Err(Some(format!("no slot is a hub at route {prefix:#x} of port {root_port}")));
            }
            prefix |= route & 0xf << (4 * depth);
        }
        let slow = matches!(speed, Speed::Low | Speed::Full);
        let expected =
            self.translator_on_route(root_port, route).filter(|_| slow).map(|(hub_route, port)| {
                let hub = self.slot_at(root_port, hub_route, own).unwrap_or(0);
                (hub, port)
            });
        if context.translator() != expected.unwrap_or((0, 0)) {
            return Err(Some(format!("translator {:?} instead of {expected:?}", context.translator())));
        }
        Ok(())
    }

    /// The slot of the device at a route.
    fn slot_at(&self, root_port: usize, route: u32, own: usize) -> Option<usize> {
        (1..self.slots.len()).find(|index| {
            let slot = &self.slots[*index];
            *index != own
                && matches!(slot.state, SlotState::Addressed | SlotState::Configured)
                && slot.root_port() == root_port
                && slot.route() == route
        })
    }

    fn hub_is_configured(&self, root_port: usize, route: u32, own: usize) -> bool {
        self.slot_at(root_port, route, own)
            .is_some_and(|slot| self.slots[slot].is_hub() && self.slots[slot].hub_ports() > 0)
    }

    fn configure_endpoint(&mut self, slot: usize, trb: Trb) -> u8 {
        if !matches!(self.slots[slot].state, SlotState::Addressed | SlotState::Configured) {
            return code::CONTEXT_STATE;
        }
        let input = trb.parameter;
        let deconfigure = trb.flag(flag::BLOCK_SET_ADDRESS);
        let [drop, add]: [u32; 2] = if deconfigure { [!0b11, 0] } else { self.context_words(input, 0) };
        if drop & 0b11 != 0 || add & 0b10 != 0 || (!deconfigure && add & 1 == 0) {
            self.violation(format!("Configure Endpoint with flags {drop:#x} {add:#x}"));
            return code::PARAMETER;
        }
        let mut fresh = Vec::new();
        for index in (2..32).filter(|index| add >> index & 1 != 0) {
            let endpoint = self.load_endpoint(input, index);
            if let Some(problem) = self.check_endpoint(slot, index, &endpoint, drop) {
                self.violation(format!("Configure Endpoint of slot {slot}, context {index}: {problem}"));
                return code::PARAMETER;
            }
            fresh.push((index, endpoint));
        }
        for index in (2..32).filter(|index| drop >> index & 1 != 0) {
            if self.slots[slot].endpoints[index].state == EndpointState::Running
                && self.slots[slot].endpoints[index].begun.is_some()
            {
                self.violation(format!("slot {slot}, context {index} dropped with a transfer under way"));
            }
            self.slots[slot].endpoints[index] = Endpoint::default();
            self.show_endpoint(slot, index);
        }
        for (index, endpoint) in fresh {
            self.slots[slot].endpoints[index] = endpoint;
            self.show_endpoint(slot, index);
        }
        if !deconfigure {
            let words: [u32; 3] = self.context_words(input, 1);
            self.check_same_place(slot, words);
            self.slots[slot].words = words;
        }
        let used = |endpoint: &Endpoint| endpoint.state != EndpointState::Disabled;
        let highest = (1..32).rev().find(|index| used(&self.slots[slot].endpoints[*index])).unwrap_or(1);
        if !deconfigure && self.slots[slot].entries() as usize != highest {
            let said = self.slots[slot].entries();
            self.violation(format!(
                "slot {slot} has {said} context entries, the highest endpoint is {highest}"
            ));
        }
        self.slots[slot].state = if highest > 1 { SlotState::Configured } else { SlotState::Addressed };
        self.show_slot(slot);
        code::SUCCESS
    }

    /// Configure Endpoint must not move a device.
    fn check_same_place(&mut self, slot: usize, words: [u32; 3]) {
        let new = Slot { words, ..Slot::default() };
        let old = &self.slots[slot];
        let same = new.route() == old.route()
            && new.root_port() == old.root_port()
            && new.speed_id() == old.speed_id()
            && new.translator() == old.translator();
        if !same {
            self.violation(format!("slot {slot} moved by Configure Endpoint"));
        }
    }

    fn check_endpoint(&self, slot: usize, index: usize, endpoint: &Endpoint, drop: u32) -> Option<String> {
        let current = self.slots[slot].endpoints[index].state;
        let superspeed = self.slots[slot].speed_id() >= 4;
        let burst = endpoint.words[1] >> 8 & 0xff;
        let packet = endpoint.packet_size();
        let legal = match (self.slots[slot].speed_id(), endpoint.kind() & 3) {
            (1, 2) => [8, 16, 32, 64].contains(&packet),
            (1, 3) => (1..=64).contains(&packet),
            (2, 3) => (1..=8).contains(&packet),
            (3, 2) => packet == 512,
            (3..=5, 3) => (1..=1024).contains(&packet),
            (4..=5, 2) => packet == 1024,
            _ => false,
        };
        if endpoint.is_in() != (index % 2 == 1) {
            Some(format!("type {} in the other direction", endpoint.kind()))
        } else if !legal {
            Some(format!("type {} with packets of {packet} bytes at this speed", endpoint.kind()))
        } else if current != EndpointState::Disabled && drop >> index & 1 == 0 {
            Some("added without being dropped".to_string())
        } else if endpoint.words[1] >> 1 & 3 != 3 {
            Some("an error count that is not 3".to_string())
        } else if endpoint.dequeue == 0 {
            Some("no ring".to_string())
        } else if endpoint.words[4] & 0xffff == 0 {
            Some("no average TRB length".to_string())
        } else if burst > if superspeed { 15 } else { 2 } {
            Some(format!("burst {burst}"))
        } else {
            None
        }
    }

    fn evaluate_context(&mut self, slot: usize, trb: Trb) -> u8 {
        let [drop, add]: [u32; 2] = self.context_words(trb.parameter, 0);
        if drop != 0 || add & !0b11 != 0 {
            self.violation(format!("Evaluate Context with flags {drop:#x} {add:#x}"));
            return code::PARAMETER;
        }
        if self.slots[slot].state == SlotState::Disabled {
            return code::CONTEXT_STATE;
        }
        if add & 0b10 != 0 {
            let input = self.load_endpoint(trb.parameter, 1);
            let control = &mut self.slots[slot].endpoints[1];
            control.words[1] = control.words[1] & 0xffff | (input.packet_size() as u32) << 16;
            self.show_endpoint(slot, 1);
        }
        code::SUCCESS
    }

    fn reset_endpoint(&mut self, slot: usize, index: usize) -> u8 {
        let endpoint = &mut self.slots[slot].endpoints[index];
        match endpoint.state {
            EndpointState::Halted => {
                endpoint.state = EndpointState::Stopped;
                endpoint.active = false;
                endpoint.moved = false;
                (endpoint.begun, endpoint.setup) = (None, None);
                self.show_endpoint(slot, index);
                code::SUCCESS
            }
            EndpointState::Disabled => code::ENDPOINT_NOT_ENABLED,
            _ => code::CONTEXT_STATE,
        }
    }

    fn stop_endpoint(&mut self, slot: usize, index: usize) -> u8 {
        let endpoint = &mut self.slots[slot].endpoints[index];
        match endpoint.state {
            EndpointState::Running => {
                endpoint.state = EndpointState::Stopped;
                endpoint.active = false;
                (endpoint.setup, endpoint.control_answer) = (None, None);
                let (begun, pointer) = (endpoint.begun.take(), endpoint.dequeue);
                if begun.is_some() {
                    self.send_transfer_event(slot, index, pointer, code::STOPPED, 0);
                }
                self.show_endpoint(slot, index);
                code::SUCCESS
            }
            EndpointState::Disabled => code::ENDPOINT_NOT_ENABLED,
            _ => code::CONTEXT_STATE,
        }
    }

    fn set_dequeue(&mut self, slot: usize, trb: Trb) -> u8 {
        let index = trb.endpoint();
        let endpoint = &mut self.slots[slot].endpoints[index];
        match endpoint.state {
            EndpointState::Stopped | EndpointState::Error => {
                endpoint.state = EndpointState::Stopped;
                endpoint.dequeue = trb.parameter & !0xf;
                endpoint.cycle = trb.parameter & 1 != 0;
                (endpoint.begun, endpoint.setup, endpoint.active) = (None, None, false);
                self.show_endpoint(slot, index);
                code::SUCCESS
            }
            EndpointState::Disabled => code::ENDPOINT_NOT_ENABLED,
            _ => code::CONTEXT_STATE,
        }
    }

    fn reset_device(&mut self, slot: usize) -> u8 {
        if !matches!(self.slots[slot].state, SlotState::Addressed | SlotState::Configured) {
            return code::CONTEXT_STATE;
        }
        for index in 2..32 {
            if self.slots[slot].endpoints[index].state != EndpointState::Disabled {
                self.slots[slot].endpoints[index] = Endpoint::default();
                self.show_endpoint(slot, index);
            }
        }
        self.slots[slot].state = SlotState::Default;
        self.slots[slot].words[0] = self.slots[slot].words[0] & 0x07ff_ffff | 1 << 27;
        self.show_slot(slot);
        code::SUCCESS
    }
}
