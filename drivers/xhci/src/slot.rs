//! A device slot (xHCI 1.2, 4.5): contexts, endpoints, control transfers.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use hal::dma::{DmaRegion, OutOfDmaMemory};
use hal::mmio::Mmio;
use hal::time::{Clock, Duration, timeout};
use netbuf::PAGE_SIZE;
use usb::device::EndpointAddress;
use usb::host::{Attachment, ControlData, HostError, HostSlot, HubShape};
use usb::waiting::{Turn, Waiters};
use usb::{Endpoint as EndpointDescriptor, Request, Speed, TransferError};

use crate::command::Effect;
use crate::context::{
    CONTROL_ENDPOINT, DeviceContext, EndpointFields, InputContext, SlotFields, context_index,
};
use crate::controller::Shared;
use crate::endpoint::{Endpoint, EndpointCell, Finished, Payload, Reach};
use crate::pipe::XhciPipe;
use crate::trb::{Trb, kind};

/// A slot, shared by its handles and the event handling.
#[derive(Debug)]
pub struct SlotCell {
    id: u8,
    attachment: Attachment,
    /// What the controller says about the device.
    pub context: DeviceContext,
    input: InputContext,
    fields: RefCell<SlotFields>,
    endpoints: RefCell<[Option<Rc<EndpointCell>>; 32]>,
    control_turn: Turn,
    /// The buffer of most control transfers, when none is under way.
    control_buffer: RefCell<Option<DmaRegion>>,
    gone: Cell<bool>,
    gone_waiters: Waiters,
}

impl SlotCell {
    /// A slot that the controller has just enabled, with a control endpoint.
    pub fn new(
        id: u8,
        attachment: Attachment,
        speed_id: u8,
        reach: &Reach,
        wide: bool,
    ) -> Result<Self, OutOfDmaMemory> {
        let ports = attachment.path.ports();
        let route = ports[1..].iter().enumerate().fold(0, |route, (tier, port)| {
            // A hub with more than 15 ports is addressed as if it had 15 (8.9 of USB 3.2).
            route | u32::from(*port.min(&15)) << (4 * tier)
        });
        let fields = SlotFields {
            route,
            speed: speed_id,
            entries: CONTROL_ENDPOINT,
            root_port: ports[0],
            translator_slot: attachment.translator.map_or(0, |translator| translator.hub_slot),
            translator_port: attachment.translator.map_or(0, |translator| translator.port),
            per_port_translators: attachment.translator.is_some_and(|translator| translator.per_port),
            ..SlotFields::default()
        };
        let cell = Self {
            id,
            attachment,
            context: DeviceContext::new(&reach.pages, reach.zone, wide)?,
            input: InputContext::new(&reach.pages, reach.zone, wide)?,
            fields: RefCell::new(fields),
            endpoints: RefCell::default(),
            control_turn: Turn::default(),
            control_buffer: RefCell::new(None),
            gone: Cell::new(false),
            gone_waiters: Waiters::default(),
        };
        let control = cell.new_endpoint(CONTROL_ENDPOINT, reach, initial_packet_size(attachment.speed))?;
        cell.endpoints.borrow_mut()[usize::from(CONTROL_ENDPOINT)] = Some(control);
        Ok(cell)
    }

    fn new_endpoint(
        &self,
        index: u8,
        reach: &Reach,
        packet: u16,
    ) -> Result<Rc<EndpointCell>, OutOfDmaMemory> {
        Ok(Rc::new(EndpointCell {
            slot: self.id,
            index,
            waiters: Waiters::default(),
            state: RefCell::new(Endpoint::new(reach, packet)?),
        }))
    }

    /// The endpoint with this device context index.
    pub fn endpoint(&self, index: u8) -> Option<Rc<EndpointCell>> {
        self.endpoints.borrow().get(usize::from(index)).cloned().flatten()
    }

    fn all_endpoints(&self) -> Vec<Rc<EndpointCell>> {
        self.endpoints.borrow().iter().flatten().cloned().collect()
    }

    /// See [`HostSlot::mark_gone`].
    pub fn mark_gone(&self) {
        if self.gone.replace(true) {
            return;
        }
        for endpoint in self.all_endpoints() {
            endpoint.state.borrow_mut().dead = Some(TransferError::Gone);
            endpoint.waiters.wake();
        }
        self.gone_waiters.wake();
    }

    /// The controller touches nothing of this slot any more: all transfers come back.
    pub fn flush_all(&self) {
        self.mark_gone();
        for endpoint in self.all_endpoints() {
            endpoint.state.borrow_mut().flush_all(TransferError::Gone);
            endpoint.waiters.wake();
        }
    }

    fn check_alive(&self) -> Result<(), HostError> {
        if self.gone.get() { Err(HostError::Transfer(TransferError::Gone)) } else { Ok(()) }
    }
}

/// What the control endpoint's packet size is before the device told (4.3.4; USB 2.0 5.5.3).
fn initial_packet_size(speed: Speed) -> u16 {
    match speed {
        Speed::Low | Speed::Full => 8,
        Speed::High => 64,
        Speed::Super | Speed::SuperPlus => 512,
    }
}

/// A handle to a slot.
pub struct Slot<M, C> {
    pub(crate) shared: Rc<Shared<M, C>>,
    pub(crate) cell: Rc<SlotCell>,
}

impl<M, C> Clone for Slot<M, C> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), cell: self.cell.clone() }
    }
}

impl<M: Mmio, C: Clock> Slot<M, C> {
    /// Runs a command that takes the slot's input context.
    async fn input_command(&self, kind: u32) -> Result<(), HostError> {
        let trb = Trb::command(kind, self.cell.input.bus_address(), self.cell.id, 0);
        self.shared.command(trb, Effect::None).await.map(|_| ())
    }

    fn control_endpoint(&self) -> Result<Rc<EndpointCell>, TransferError> {
        self.cell.endpoint(CONTROL_ENDPOINT).ok_or(TransferError::Gone)
    }

    /// A buffer for a control transfer of this many bytes.
    fn control_buffer(&self, length: usize) -> Result<DmaRegion, TransferError> {
        let kept = self.cell.control_buffer.borrow_mut().take().filter(|buffer| buffer.len() >= length);
        match kept {
            Some(buffer) => Ok(buffer),
            None => DmaRegion::new(&self.shared.reach.pages, length.max(PAGE_SIZE), self.shared.reach.zone)
                .map_err(|_| TransferError::OutOfMemory),
        }
    }

    /// Takes the result of the control transfer under way, keeping its buffer.
    fn take_control(&self, endpoint: &EndpointCell) -> Option<(DmaRegion, Result<usize, TransferError>)> {
        let finished: Finished = endpoint.state.borrow_mut().take_finished()?;
        match finished {
            (Payload::Control(buffer), result) => Some((buffer, result)),
            (Payload::Pipe(_), _) => None,
        }
    }

    fn keep_control_buffer(&self, buffer: DmaRegion) {
        if buffer.len() == PAGE_SIZE {
            *self.cell.control_buffer.borrow_mut() = Some(buffer);
        }
    }

    /// What an earlier control transfer left behind whose future was dropped: stops it.
    async fn clear_control(&self, endpoint: &Rc<EndpointCell>) -> Result<(), TransferError> {
        if endpoint.state.borrow().busy() {
            self.shared.quiesce(&self.cell.context, endpoint, TransferError::Cancelled).await?;
        }
        while let Some((buffer, _)) = self.take_control(endpoint) {
            self.keep_control_buffer(buffer);
        }
        Ok(())
    }

    /// Waits for the control transfer under way, until the deadline or until the device is gone.
    async fn await_control(
        &self,
        endpoint: &Rc<EndpointCell>,
        deadline: Duration,
    ) -> Result<(DmaRegion, Result<usize, TransferError>), TransferError> {
        let wait = endpoint.waiters.wait(|| match self.take_control(endpoint) {
            Some(finished) => Some(Ok(finished)),
            None if self.cell.gone.get() => Some(Err(TransferError::Gone)),
            None => None,
        });
        if let Ok(finished) = timeout(&self.shared.clock, deadline, wait).await {
            return finished;
        }
        if self.shared.process_events() > 0 {
            self.shared.counters.lost_interrupts.add(1);
            if let Some(finished) = self.take_control(endpoint) {
                return Ok(finished);
            }
        }
        self.shared.quiesce(&self.cell.context, endpoint, TransferError::TimedOut).await?;
        self.take_control(endpoint).ok_or(TransferError::TimedOut)
    }
}

impl<M: Mmio, C: Clock> HostSlot for Slot<M, C> {
    type Pipe = XhciPipe<M, C>;

    fn id(&self) -> u8 {
        self.cell.id
    }

    async fn address(&self) -> Result<(), HostError> {
        self.cell.check_alive()?;
        let endpoint = self.control_endpoint()?;
        let (pointer, packet) = {
            let state = endpoint.state.borrow();
            (state.enqueue_pointer(), state.packet_size())
        };
        let input = &self.cell.input;
        input.begin(0, 0b11);
        input.set_slot(&self.cell.fields.borrow());
        input.set_endpoint(CONTROL_ENDPOINT, &EndpointFields::control(packet), pointer);
        self.input_command(kind::ADDRESS_DEVICE).await
    }

    async fn set_control_packet_size(&self, bytes: u16) -> Result<(), HostError> {
        self.cell.check_alive()?;
        let endpoint = self.control_endpoint()?;
        if endpoint.state.borrow().packet_size() == bytes {
            return Ok(());
        }
        let input = &self.cell.input;
        input.begin(0, 1 << CONTROL_ENDPOINT);
        // Only the packet size is evaluated (4.6.7).
        input.set_endpoint(CONTROL_ENDPOINT, &EndpointFields::control(bytes), 0);
        self.input_command(kind::EVALUATE_CONTEXT).await?;
        endpoint.state.borrow_mut().set_packet_size(bytes);
        Ok(())
    }

    async fn configure(&self, drop: &[EndpointAddress], add: &[EndpointDescriptor]) -> Result<(), HostError> {
        self.cell.check_alive()?;
        let mut fresh = Vec::with_capacity(add.len());
        for descriptor in add {
            let index = context_index(descriptor.address);
            let unsupported = HostError::Unsupported(descriptor.address);
            let fields = EndpointFields::new(descriptor, self.cell.attachment.speed).ok_or(unsupported)?;
            let taken = fresh.iter().any(|(endpoint, _): &(Rc<EndpointCell>, _)| endpoint.index == index);
            if taken || index <= CONTROL_ENDPOINT {
                return Err(unsupported);
            }
            let endpoint = self
                .cell
                .new_endpoint(index, &self.shared.reach, descriptor.maximum_packet_size)
                .map_err(|_| HostError::OutOfMemory)?;
            fresh.push((endpoint, fields));
        }
        let mut dropped = Vec::with_capacity(drop.len());
        for address in drop {
            let Some(endpoint) = self.cell.endpoint(context_index(*address)) else { continue };
            endpoint.state.borrow_mut().dead = Some(TransferError::Cancelled);
            if endpoint.state.borrow().busy() {
                self.shared.quiesce(&self.cell.context, &endpoint, TransferError::Cancelled).await?;
            }
            dropped.push(endpoint);
        }
        if fresh.is_empty() && dropped.is_empty() {
            return Ok(());
        }
        let bits = |set: &mut dyn Iterator<Item = u8>| set.fold(0_u32, |bits, index| bits | 1 << index);
        let drop_bits = bits(&mut dropped.iter().map(|endpoint| endpoint.index));
        let add_bits = bits(&mut fresh.iter().map(|(endpoint, _)| endpoint.index));
        let staying = bits(&mut self.cell.all_endpoints().iter().map(|endpoint| endpoint.index)) & !drop_bits;
        let entries = (staying | add_bits).checked_ilog2().unwrap_or(1) as u8;
        let input = &self.cell.input;
        input.begin(drop_bits, add_bits | 1);
        let fields = SlotFields { entries, ..*self.cell.fields.borrow() };
        input.set_slot(&fields);
        for (endpoint, fields) in &fresh {
            input.set_endpoint(endpoint.index, fields, endpoint.state.borrow().enqueue_pointer());
        }
        self.input_command(kind::CONFIGURE_ENDPOINT).await?;
        *self.cell.fields.borrow_mut() = fields;
        let mut endpoints = self.cell.endpoints.borrow_mut();
        for endpoint in dropped {
            endpoints[usize::from(endpoint.index)] = None;
            endpoint.waiters.wake();
        }
        for (endpoint, _) in fresh {
            if self.cell.gone.get() {
                endpoint.state.borrow_mut().dead = Some(TransferError::Gone);
            }
            let place = usize::from(endpoint.index);
            endpoints[place] = Some(endpoint);
        }
        Ok(())
    }

    async fn configure_hub(&self, shape: HubShape) -> Result<(), HostError> {
        self.cell.check_alive()?;
        let fields = SlotFields {
            hub: true,
            ports: shape.ports,
            think_time: shape.think_time,
            // Below a high-speed hub the bit says how the hub works; otherwise it stays what it was (6.2.2).
            per_port_translators: if self.cell.attachment.speed == Speed::High {
                shape.per_port_translators
            } else {
                self.cell.fields.borrow().per_port_translators
            },
            ..*self.cell.fields.borrow()
        };
        self.cell.input.begin(0, 1);
        self.cell.input.set_slot(&fields);
        self.input_command(kind::CONFIGURE_ENDPOINT).await?;
        *self.cell.fields.borrow_mut() = fields;
        Ok(())
    }

    async fn reset(&self) -> Result<(), HostError> {
        self.cell.check_alive()?;
        let endpoints = self.cell.all_endpoints();
        for endpoint in &endpoints {
            if endpoint.index != CONTROL_ENDPOINT {
                endpoint.state.borrow_mut().dead = Some(TransferError::Cancelled);
            }
            if endpoint.state.borrow().busy() {
                self.shared.quiesce(&self.cell.context, endpoint, TransferError::Cancelled).await?;
            }
        }
        let command = Trb::command(kind::RESET_DEVICE, 0, self.cell.id, 0);
        match self.shared.command(command, Effect::None).await {
            // Context state error: it is in the Default state already (4.6.11).
            Ok(_) | Err(HostError::Command { code: crate::trb::code::CONTEXT_STATE, .. }) => {}
            Err(error) => return Err(error),
        }
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.index != CONTROL_ENDPOINT) {
            self.cell.endpoints.borrow_mut()[usize::from(endpoint.index)] = None;
            endpoint.waiters.wake();
        }
        self.cell.fields.borrow_mut().entries = CONTROL_ENDPOINT;
        Ok(())
    }

    async fn control(
        &self,
        request: Request,
        mut data: ControlData<'_>,
        deadline: Duration,
    ) -> Result<usize, TransferError> {
        let _turn = self.cell.control_turn.take().await;
        self.cell.check_alive()?;
        let endpoint = self.control_endpoint()?;
        self.clear_control(&endpoint).await?;
        let (inward, length) = match &data {
            ControlData::In(bytes) => (true, bytes.len()),
            ControlData::Out(bytes) => (false, bytes.len()),
        };
        let wire_length = u16::try_from(length).map_err(|_| TransferError::TooLarge)?;
        let buffer = self.control_buffer(length)?;
        match &data {
            ControlData::Out(bytes) => buffer.write_bytes(0, bytes),
            // A controller that says it wrote and did not must not show an earlier answer.
            ControlData::In(_) => buffer.fill(0, length, 0),
        }
        let [value, index, count] = [request.value, request.index, wire_length].map(u16::to_le_bytes);
        let kind = request.kind & 0x7f | u8::from(inward) << 7;
        let setup = [kind, request.request, value[0], value[1], index[0], index[1], count[0], count[1]];
        endpoint.state.borrow_mut().put_control(setup, buffer, length, inward)?;
        self.shared.ring_doorbell(self.cell.id, CONTROL_ENDPOINT);
        let (buffer, result) = self.await_control(&endpoint, deadline).await?;
        if let (ControlData::In(bytes), Ok(moved)) = (&mut data, result) {
            buffer.read_bytes(0, &mut bytes[..moved.min(length)]);
        }
        self.keep_control_buffer(buffer);
        if result.is_err() && !self.cell.gone.get() {
            // A stalled or failed control pipe halts in the controller only; the device clears itself with the next
            // setup packet (USB 2.0 8.5.3.4).
            self.shared.quiesce(&self.cell.context, &endpoint, TransferError::Cancelled).await?;
        }
        result
    }

    fn open(&self, address: EndpointAddress) -> Result<Self::Pipe, TransferError> {
        self.cell.check_alive()?;
        let index = context_index(address);
        if index <= CONTROL_ENDPOINT {
            return Err(TransferError::NotThere);
        }
        let endpoint = self.cell.endpoint(index).ok_or(TransferError::NotThere)?;
        {
            let mut state = endpoint.state.borrow_mut();
            if let Some(error) = state.dead {
                return Err(error);
            }
            if core::mem::replace(&mut state.open, true) {
                return Err(TransferError::Busy);
            }
            state.announce_after = 1;
        }
        Ok(XhciPipe::new(self.clone(), endpoint, address))
    }

    fn mark_gone(&self) {
        self.cell.mark_gone();
    }

    fn is_gone(&self) -> bool {
        self.cell.gone.get()
    }

    async fn disable(&self) {
        self.cell.mark_gone();
        if !self.shared.knows_slot(&self.cell) {
            // It went with a controller that was reset; its number may be another device's by now.
            return;
        }
        for endpoint in self.cell.all_endpoints() {
            if endpoint.state.borrow().busy() {
                // If even that fails, Disable Slot ends all of it.
                let _ = self.shared.quiesce(&self.cell.context, &endpoint, TransferError::Gone).await;
            }
        }
        let command = Trb::command(kind::DISABLE_SLOT, 0, self.cell.id, 0);
        let disabled = self.shared.command(command, Effect::None).await;
        match disabled {
            Ok(_) | Err(HostError::Command { code: crate::trb::code::SLOT_NOT_ENABLED, .. }) => {
                self.shared.forget_slot(&self.cell);
                self.cell.flush_all();
            }
            // The reset of the controller gives the memory back.
            Err(HostError::ControllerDied) => {}
            Err(error) => {
                // The controller holds on to the slot and may still write to its contexts. Only a reset frees them.
                self.shared.declare_dead("it does not free a device slot");
                log::error!("usb{}: Disable Slot {}: {error}", self.shared.number, self.cell.id);
            }
        }
    }

    fn counters(&self, visit: &mut dyn FnMut(&'static str, u64)) {
        self.shared.counters.visit(visit);
    }
}

impl<M: Mmio, C: Clock> Shared<M, C> {
    /// Rings a slot's doorbell.
    pub(crate) fn ring_doorbell(&self, slot: u8, index: u8) {
        if self.alive.get() {
            self.counters.doorbells.add(1);
            self.registers.ring(slot, index);
        }
    }

    /// Enables a slot and gives it a device context (4.3.2, 4.3.3).
    pub(crate) async fn new_slot(
        &self,
        attachment: Attachment,
        speed_id: u8,
    ) -> Result<Rc<SlotCell>, HostError> {
        let id = self.command(Trb::command(kind::ENABLE_SLOT, 0, 0, 0), Effect::None).await?;
        let wide = self.registers.capabilities.contexts_64;
        let made = SlotCell::new(id, attachment, speed_id, &self.reach, wide);
        let placed = made.map_err(|_| HostError::OutOfMemory).and_then(|cell| {
            let cell = Rc::new(cell);
            let mut rings = self.rings.borrow_mut();
            let rings = rings.as_mut().ok_or(HostError::ControllerDied)?;
            let place = rings.slots.get_mut(usize::from(id)).filter(|place| place.is_none() && id != 0);
            let place = place.ok_or(HostError::Command { command: "Enable Slot", code: id })?;
            *place = Some(cell.clone());
            rings.contexts.write_u64(8 * usize::from(id), cell.context.bus_address());
            Ok(cell)
        });
        if matches!(placed, Err(HostError::OutOfMemory)) {
            let _ = self.command(Trb::command(kind::DISABLE_SLOT, 0, id, 0), Effect::None).await;
        }
        placed
    }

    fn knows_slot(&self, cell: &Rc<SlotCell>) -> bool {
        let rings = self.rings.borrow();
        let place = rings.as_ref().and_then(|rings| rings.slots.get(usize::from(cell.id)));
        place.is_some_and(|place| place.as_ref().is_some_and(|held| Rc::ptr_eq(held, cell)))
    }

    /// The slot was disabled: its contexts are the driver's again.
    fn forget_slot(&self, cell: &Rc<SlotCell>) {
        if !self.knows_slot(cell) {
            return;
        }
        if let Some(rings) = self.rings.borrow_mut().as_mut() {
            rings.slots[usize::from(cell.id)] = None;
            rings.contexts.write_u64(8 * usize::from(cell.id), 0);
        }
    }
}
