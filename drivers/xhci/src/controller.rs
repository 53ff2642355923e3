//! The controller as a whole: start, the event task, death and restart (xHCI 1.2, 4.2).

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::Poll;

use hal::dma::{DmaRegion, Pages};
use hal::interrupt::Interrupt;
use hal::mmio::Mmio;
use hal::time::{Clock, Duration, sleep};
use netbuf::{PAGE_SIZE, Zone};
use usb::TransferError;
use usb::waiting::{Waiters, either, yield_now};

use crate::command::CommandRing;
use crate::counters::Counters;
use crate::endpoint::{Outcome, Reach};
use crate::error::ControllerError;
use crate::extended::{PortProtocol, port_protocols, take_over};
use crate::regs::{Registers, erdp, iman, usbcmd, usbsts};
use crate::ring::{EventRing, ProducerRing};
use crate::slot::SlotCell;
use crate::trb::{Trb, code, kind};

/// What may be chosen.
#[derive(Clone, Debug)]
pub struct Config {
    /// Least time between two interrupts, in units of 250 ns (IMODI, 5.5.2.2). Longer costs latency and saves
    /// interrupts; 0 switches moderation off.
    pub interrupt_moderation: u16,
    /// The interrupt is message-signalled (MSI, MSI-X), so that the pending bit clears itself. A level-triggered
    /// line has to be acknowledged by register writes.
    pub message_signalled: bool,
    /// How long a command may take before it is aborted. The specification asks for 5 seconds (4.6.1.2).
    pub command_deadline: Duration,
    /// How long a port reset may take.
    pub port_reset_deadline: Duration,
    /// How often the controller is looked after when no interrupt comes: a dead one cannot tell.
    pub watchdog_period: Duration,
    /// How often a controller that died is restarted before it is given up.
    pub restarts: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interrupt_moderation: 40,
            message_signalled: true,
            command_deadline: Duration::from_secs(5),
            port_reset_deadline: Duration::from_millis(800),
            watchdog_period: Duration::from_secs(2),
            restarts: 5,
        }
    }
}

/// Memory that the controller uses between start and reset.
pub(crate) struct Rings {
    pub(crate) commands: CommandRing,
    pub(crate) events: EventRing,
    /// Device context base address array (6.1).
    pub(crate) contexts: DmaRegion,
    pub(crate) slots: Vec<Option<Rc<SlotCell>>>,
    /// Owned for the controller until its reset (4.20).
    _scratchpads: Vec<DmaRegion>,
}

/// A root port: whether something changed, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct PortLatch {
    pub(crate) changed: Cell<bool>,
    pub(crate) waiters: Waiters,
}

impl PortLatch {
    fn raise(&self) {
        self.changed.set(true);
        self.waiters.wake();
    }
}

/// Something to be done by the controller's own task, because whoever it was for has gone.
pub(crate) enum Chore {
    /// A pipe was dropped: stop its endpoint.
    ClosePipe(Rc<SlotCell>, Rc<crate::endpoint::EndpointCell>),
}

/// What all handles share.
pub(crate) struct Shared<M, C> {
    pub(crate) number: u8,
    pub(crate) registers: Registers<M>,
    pub(crate) clock: C,
    pub(crate) config: Config,
    pub(crate) reach: Reach,
    pub(crate) protocols: Vec<PortProtocol>,
    pub(crate) ports: Vec<PortLatch>,
    pub(crate) rings: RefCell<Option<Rings>>,
    pub(crate) alive: Cell<bool>,
    /// Wakes the event task: the controller died, or there is a chore.
    pub(crate) summons: Waiters,
    pub(crate) chores: RefCell<VecDeque<Chore>>,
    pub(crate) counters: Counters,
    /// Padding for gathers: a page of zeros.
    _zeros: DmaRegion,
}

/// A handle to a controller. Cheap to clone; [`Controller::run`] is what makes it live.
pub struct Controller<M, C> {
    pub(crate) shared: Rc<Shared<M, C>>,
}

impl<M, C> Clone for Controller<M, C> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<M: Mmio, C: Clock> Controller<M, C> {
    /// Looks at the registers of a controller and prepares to run it. `number` is the first part of its devices'
    /// names. Nothing is written yet.
    ///
    /// # Errors
    ///
    /// [`ControllerError`] when the registers make no sense or there is no memory.
    pub fn new(
        number: u8,
        window: M,
        pages: Pages,
        clock: C,
        config: Config,
    ) -> Result<Self, ControllerError> {
        let registers = Registers::new(window)?;
        let capabilities = registers.capabilities;
        let zone = if capabilities.addresses_64 { Zone::Normal } else { Zone::Dma32 };
        let zeros = DmaRegion::new(&pages, PAGE_SIZE, zone)?;
        let protocols = port_protocols(registers.window(), capabilities.extended, capabilities.ports);
        let ports = (0..capabilities.ports).map(|_| PortLatch::default()).collect();
        let shared = Shared {
            number,
            registers,
            clock,
            config,
            reach: Reach { pages, zone, zeros: zeros.bus_address() },
            protocols,
            ports,
            rings: RefCell::new(None),
            alive: Cell::new(false),
            summons: Waiters::default(),
            chores: RefCell::new(VecDeque::new()),
            counters: Counters::default(),
            _zeros: zeros,
        };
        Ok(Self { shared: Rc::new(shared) })
    }

    /// What the controller has done so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// What the controller can do.
    #[must_use]
    pub fn capabilities(&self) -> crate::regs::Capabilities {
        self.shared.registers.capabilities
    }

    /// Runs the controller: takes it over, starts it, handles its interrupts, and starts it again when it dies.
    /// Ends only when it cannot be used. Run it as a task of its own.
    ///
    /// # Errors
    ///
    /// [`ControllerError`]: why it cannot be used. All devices are gone by then.
    pub async fn run<I: Interrupt>(&self, interrupt: I) -> Result<(), ControllerError> {
        let shared = &self.shared;
        let capabilities = shared.registers.capabilities;
        if take_over(shared.registers.window(), capabilities.extended, &shared.clock).await {
            log::info!("usb{}: taken over from the BIOS", shared.number);
        }
        loop {
            if let Err(error) = shared.start().await {
                shared.release(shared.halt_and_reset().await.is_ok());
                shared.ports.iter().for_each(PortLatch::raise);
                return Err(error);
            }
            shared.serve(&interrupt).await;
            let stopped = shared.halt_and_reset().await;
            shared.release(stopped.is_ok());
            stopped?;
            shared.counters.restarts.add(1);
            if shared.counters.restarts.get() > u64::from(shared.config.restarts) {
                return Err(ControllerError::GaveUp { restarts: shared.config.restarts });
            }
            log::warn!("usb{}: controller reset, devices are enumerated again", shared.number);
        }
    }
}

impl<M: Mmio, C: Clock> Shared<M, C> {
    /// Waits until `done` says so, looking each millisecond.
    async fn wait_until(&self, milliseconds: u32, done: impl Fn(&Registers<M>) -> bool) -> bool {
        for _ in 0..milliseconds {
            if done(&self.registers) {
                return true;
            }
            sleep(&self.clock, Duration::from_millis(1)).await;
        }
        done(&self.registers)
    }

    /// Halts (5.4.1.1: within 16 ms) and resets the controller (4.2). Afterwards it touches no memory any more.
    async fn halt_and_reset(&self) -> Result<(), ControllerError> {
        if self.registers.usbsts() == u32::MAX {
            return Err(ControllerError::NotThere);
        }
        if !self.wait_until(1000, |registers| registers.usbsts() & usbsts::CNR == 0).await {
            return Err(ControllerError::DoesNotReset);
        }
        if self.registers.usbsts() & usbsts::HCH == 0 {
            self.registers.set_usbcmd(self.registers.usbcmd() & !(usbcmd::RUN | usbcmd::INTE));
            // A controller with an internal error need not halt any more, but resets.
            let halted = self.wait_until(100, |registers| registers.usbsts() & usbsts::HCH != 0).await;
            if !halted && self.registers.usbsts() & (usbsts::HCE | usbsts::HSE) == 0 {
                return Err(ControllerError::DoesNotHalt);
            }
        }
        self.registers.set_usbcmd(usbcmd::HCRST);
        // Some controllers must be left alone for a moment after the reset bit was set.
        sleep(&self.clock, Duration::from_millis(1)).await;
        let ready = self
            .wait_until(1000, |registers| {
                registers.usbcmd() & usbcmd::HCRST == 0 && registers.usbsts() & usbsts::CNR == 0
            })
            .await;
        if ready { Ok(()) } else { Err(ControllerError::DoesNotReset) }
    }

    /// Resets the controller and sets it going (4.2).
    async fn start(&self) -> Result<(), ControllerError> {
        self.halt_and_reset().await?;
        let capabilities = self.registers.capabilities;
        let sizes = self.registers.page_sizes();
        if sizes & 1 == 0 {
            return Err(ControllerError::PageSize(sizes));
        }
        let (pages, zone) = (&self.reach.pages, self.reach.zone);
        let contexts = DmaRegion::new(pages, 8 * (usize::from(capabilities.slots) + 1), zone)?;
        let scratchpads = self.lend_scratchpads(&contexts)?;
        let commands = CommandRing::new(ProducerRing::new(pages, zone)?);
        let events = EventRing::new(pages, zone)?;
        self.registers.set_enabled_slots(capabilities.slots);
        self.registers.set_dcbaap(contexts.bus_address());
        self.registers.set_crcr(commands.pointer());
        self.registers.disable_notifications();
        self.registers.set_event_ring(1, events.table(), events.dequeue_pointer());
        self.registers.set_moderation(self.config.interrupt_moderation);
        self.registers.set_iman(iman::IE | iman::IP);
        let slots = (0..=capabilities.slots).map(|_| None).collect();
        *self.rings.borrow_mut() =
            Some(Rings { commands, events, contexts, slots, _scratchpads: scratchpads });
        self.registers.set_usbcmd(usbcmd::RUN | usbcmd::INTE | usbcmd::HSEE);
        if !self.wait_until(100, |registers| registers.usbsts() & usbsts::HCH == 0).await {
            return Err(ControllerError::DoesNotStart);
        }
        if capabilities.port_power {
            (1..=capabilities.ports).for_each(|port| self.registers.set_port_power(port, true));
            // 5.4.8: 20 ms until the power is good.
            sleep(&self.clock, Duration::from_millis(20)).await;
        }
        self.alive.set(true);
        log::info!(
            "usb{}: xHCI {:x}.{:02x}, {} ports, {} slots, {} scratchpads, {}-byte contexts",
            self.number,
            capabilities.version >> 8,
            capabilities.version & 0xff,
            capabilities.ports,
            capabilities.slots,
            capabilities.scratchpads,
            if capabilities.contexts_64 { 64 } else { 32 },
        );
        self.ports.iter().for_each(PortLatch::raise);
        Ok(())
    }

    /// The pages that the controller wants for itself (4.20): an array of their addresses in entry 0.
    fn lend_scratchpads(&self, contexts: &DmaRegion) -> Result<Vec<DmaRegion>, ControllerError> {
        let count = usize::from(self.registers.capabilities.scratchpads);
        if count == 0 {
            return Ok(Vec::new());
        }
        let (pages, zone) = (&self.reach.pages, self.reach.zone);
        let array = DmaRegion::new(pages, 8 * count, zone)?;
        let mut lent = Vec::with_capacity(count + 1);
        for index in 0..count {
            let page = DmaRegion::new(pages, PAGE_SIZE, zone)?;
            array.write_u64(8 * index, page.bus_address());
            lent.push(page);
        }
        contexts.write_u64(0, array.bus_address());
        lent.push(array);
        Ok(lent)
    }

    /// The event task: until the controller dies.
    async fn serve<I: Interrupt>(&self, interrupt: &I) {
        let events = async {
            while self.alive.get() {
                let fired = self.attention(interrupt).await;
                let lost = !fired && self.alive.get() && self.has_event();
                self.counters.interrupts.add(fired.into());
                self.counters.lost_interrupts.add(lost.into());
                if !self.config.message_signalled {
                    self.acknowledge();
                }
                let mut events = self.process_events();
                // A controller that brings events lives; reading a register costs more than all else here.
                if events == 0 {
                    self.look_at_status();
                }
                loop {
                    // Under load the handler-busy bit stays set, and holds interrupts back, while the tasks that the
                    // events were for have their turn. A single event is no load.
                    while events > 1 {
                        yield_now().await;
                        events = self.process_events();
                    }
                    self.release_interrupt();
                    events = self.process_events();
                    if events == 0 {
                        break;
                    }
                }
                interrupt.rearm();
            }
        };
        either(events, self.do_chores()).await;
    }

    /// Waits for the interrupt (then it is true), for the time to look after the controller without one, or for a summons.
    async fn attention<I: Interrupt>(&self, interrupt: &I) -> bool {
        let mut due = None;
        poll_fn(|context| {
            if interrupt.poll_fired(context).is_ready() {
                return Poll::Ready(true);
            }
            let now = self.clock.now();
            let due = *due.get_or_insert(now + self.config.watchdog_period);
            if now >= due || !self.alive.get() {
                return Poll::Ready(false);
            }
            self.summons.register(context);
            self.clock.wake_at(due, context.waker());
            Poll::Pending
        })
        .await
    }

    async fn do_chores(&self) {
        loop {
            // The event task, of which this is a part, waits for the summons.
            let next = || self.chores.borrow_mut().pop_front();
            match poll_fn(|_| next().map_or(Poll::Pending, Poll::Ready)).await {
                Chore::ClosePipe(slot, endpoint) => {
                    let _ = self.quiesce(&slot.context, &endpoint, TransferError::Cancelled).await;
                    let mut state = endpoint.state.borrow_mut();
                    while state.take_finished().is_some() {}
                    state.open = false;
                }
            }
        }
    }

    fn look_at_status(&self) {
        let status = self.registers.usbsts();
        if status == u32::MAX {
            self.declare_dead("its registers read as all ones");
        } else if status & usbsts::HCE != 0 {
            self.declare_dead("host controller error");
        } else if status & usbsts::HSE != 0 {
            self.declare_dead("host system error");
        } else if status & usbsts::HCH != 0 {
            self.declare_dead("it halted by itself");
        }
    }

    /// A level-triggered line falls only when both are acknowledged, in this order (4.17.2).
    fn acknowledge(&self) {
        self.registers.clear_usbsts(usbsts::EINT | usbsts::PCD);
        self.registers.set_iman(iman::IE | iman::IP);
    }

    /// From here on everything fails; the event task resets the controller.
    pub(crate) fn declare_dead(&self, reason: &str) {
        if !self.alive.replace(false) {
            return;
        }
        log::error!("usb{}: controller died: {reason}", self.number);
        if let Some(rings) = self.rings.borrow_mut().as_mut() {
            rings.commands.fail_all();
            rings.slots.iter().flatten().for_each(|slot| slot.mark_gone());
        }
        self.summons.wake();
        self.ports.iter().for_each(PortLatch::raise);
    }

    /// Gives all memory back after the controller was reset. If it was not (`safe` is false), it may still write to
    /// it: then the memory is given up instead.
    fn release(&self, safe: bool) {
        self.chores.borrow_mut().clear();
        let Some(mut rings) = self.rings.borrow_mut().take() else { return };
        if safe {
            rings.slots.drain(..).flatten().for_each(|slot| slot.flush_all());
        } else {
            log::error!("usb{}: the controller cannot be stopped; its memory is given up", self.number);
            core::mem::forget(rings);
        }
    }

    #[inline]
    fn has_event(&self) -> bool {
        self.rings.borrow().as_ref().is_some_and(|rings| rings.events.has_event())
    }

    /// Tells the controller how far the event ring was read, and lets it interrupt again (5.5.2.3.3).
    fn release_interrupt(&self) {
        if let Some(rings) = self.rings.borrow_mut().as_mut() {
            self.registers.set_event_dequeue(rings.events.tell(), erdp::EHB);
        }
    }

    /// Handles the events that wait. Returns how many there were.
    #[inline]
    pub(crate) fn process_events(&self) -> usize {
        if self.has_event() { self.drain_events() } else { 0 }
    }

    fn drain_events(&self) -> usize {
        /// Of a ring of 256: the controller never sees it full while it is being read, at once or a little at a time.
        const UPDATE_INTERVAL: usize = 64;
        /// A controller that produces events faster than they can be read must not hold the processor.
        const BUDGET: usize = 1024;
        let mut count = 0;
        while count < BUDGET {
            let event = self.rings.borrow_mut().as_mut().and_then(|rings| {
                let event = rings.events.take()?;
                if rings.events.untold() == UPDATE_INTERVAL {
                    self.registers.set_event_dequeue(rings.events.tell(), 0);
                }
                Some(event)
            });
            let Some(event) = event else { break };
            count += 1;
            self.dispatch(event);
        }
        self.counters.events.add(count as u64);
        self.counters.event_passes.add(1);
        count
    }

    fn dispatch(&self, event: Trb) {
        let known = match event.kind() {
            kind::TRANSFER_EVENT => self.dispatch_transfer(event),
            kind::COMMAND_COMPLETION_EVENT => {
                self.rings.borrow_mut().as_mut().is_some_and(|rings| rings.commands.handle_event(event))
            }
            kind::PORT_STATUS_EVENT => {
                let latch = self.ports.get(usize::from(event.port()).wrapping_sub(1));
                latch.map(PortLatch::raise).is_some()
            }
            kind::HOST_CONTROLLER_EVENT if event.completion_code() == code::EVENT_RING_FULL => {
                self.counters.event_ring_full.add(1);
                true
            }
            _ => false,
        };
        if !known {
            self.counters.stray_events.add(1);
        }
    }

    fn dispatch_transfer(&self, event: Trb) -> bool {
        let endpoint = self.rings.borrow().as_ref().and_then(|rings| {
            let slot = rings.slots.get(usize::from(event.slot()))?.as_ref()?;
            slot.endpoint(event.endpoint())
        });
        let Some(endpoint) = endpoint else { return false };
        let (outcome, announced) = {
            let mut state = endpoint.state.borrow_mut();
            (state.handle_event(event), state.is_announced())
        };
        if announced {
            endpoint.waiters.wake();
        }
        if outcome == Outcome::Missed {
            self.counters.missed_services.add(1);
        }
        outcome != Outcome::Stray
    }
}
