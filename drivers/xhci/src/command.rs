//! The command ring (xHCI 1.2, 4.6): commands as futures.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::Cell;

use hal::mmio::Mmio;
use hal::time::{Clock, Duration, sleep, timeout};
use usb::TransferError;
use usb::host::HostError;
use usb::waiting::Waiters;

use crate::controller::Shared;
use crate::endpoint::EndpointCell;
use crate::regs::crcr;
use crate::ring::{ProducerRing, Span};
use crate::trb::{Trb, code, command_name, kind};

/// What a completed command means to the driver's own state, whoever still waits for it.
#[derive(Debug)]
pub enum Effect {
    /// Nothing.
    None,
    /// The endpoint's dequeue pointer is past all transfers before a mark: they come back with this error.
    Flush(Rc<EndpointCell>, u64, TransferError),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Completed { code: u8, slot: u8 },
    Aborted,
    Died,
}

/// A command's answer, and who waits for it.
#[derive(Debug, Default)]
struct AnswerCell {
    answer: Cell<Option<Answer>>,
    waiters: Waiters,
}

impl AnswerCell {
    fn give(&self, answer: Answer) {
        self.answer.set(Some(answer));
        self.waiters.wake();
    }
}

/// A command in the ring.
#[derive(Debug)]
struct Pending {
    span: Span,
    effect: Effect,
    answer: Rc<AnswerCell>,
}

/// The ring and the commands in it.
#[derive(Debug)]
pub struct CommandRing {
    ring: ProducerRing,
    pending: VecDeque<Pending>,
}

impl CommandRing {
    /// No command yet.
    pub fn new(ring: ProducerRing) -> Self {
        Self { ring, pending: VecDeque::new() }
    }

    /// What CRCR takes.
    pub fn pointer(&self) -> u64 {
        self.ring.enqueue_pointer()
    }

    /// Handles a command completion event (6.4.2.2). False when it names no command in the ring.
    pub fn handle_event(&mut self, event: Trb) -> bool {
        if event.completion_code() == code::COMMAND_RING_STOPPED {
            // Not about a command: the ring stands still after an abort.
            return true;
        }
        let Some(index) = self.ring.index_of(event.parameter) else { return false };
        let Some(position) = self.pending.iter().position(|pending| pending.span.contains(index)) else {
            return false;
        };
        let Some(pending) = self.pending.remove(position) else { return false };
        self.ring.release(pending.span);
        let code = event.completion_code();
        if let (code::SUCCESS, Effect::Flush(endpoint, mark, reason)) = (code, &pending.effect) {
            endpoint.state.borrow_mut().flush(*mark, *reason);
            endpoint.waiters.wake();
        }
        pending.answer.give(match code {
            code::COMMAND_ABORTED => Answer::Aborted,
            code => Answer::Completed { code, slot: event.slot() },
        });
        true
    }

    /// Gives a command up that was not answered. True when others are behind it.
    fn give_up(&mut self, answer: &Rc<AnswerCell>) -> bool {
        if let Some(position) = self.pending.iter().position(|pending| Rc::ptr_eq(&pending.answer, answer))
            && let Some(pending) = self.pending.remove(position)
        {
            self.ring.release(pending.span);
            pending.answer.give(Answer::Aborted);
        }
        !self.pending.is_empty()
    }

    /// The controller died.
    pub fn fail_all(&mut self) {
        for pending in self.pending.drain(..) {
            self.ring.release(pending.span);
            pending.answer.give(Answer::Died);
        }
    }
}

impl<M: Mmio, C: Clock> Shared<M, C> {
    /// Puts a command into the ring and waits for its completion. Gives the slot of the event.
    ///
    /// Dropping the future leaves the command in the ring; its [`Effect`] takes place all the same.
    pub(crate) async fn command(&self, trb: Trb, effect: Effect) -> Result<u8, HostError> {
        let command = command_name(trb.kind());
        let answer = Rc::new(AnswerCell::default());
        {
            let mut rings = self.rings.borrow_mut();
            let rings = rings.as_mut().filter(|_| self.alive.get()).ok_or(HostError::ControllerDied)?;
            // 255 commands in flight: nobody issues so many; if it comes to that the controller is stuck.
            let span = rings.commands.ring.put(1, |_| trb).ok_or(HostError::CommandTimedOut { command })?;
            rings.commands.pending.push_back(Pending { span, effect, answer: answer.clone() });
        }
        self.registers.ring(0, 0);
        self.counters.commands.add(1);
        let wait = answer.waiters.wait(|| answer.answer.get());
        let answered = match timeout(&self.clock, self.config.command_deadline, wait).await {
            Ok(answered) => answered,
            Err(_) => self.abort(&answer).await,
        };
        match answered {
            Answer::Completed { code: code::SUCCESS, slot } => Ok(slot),
            Answer::Completed { code: code::NO_SLOTS, .. } => Err(HostError::NoSlots),
            Answer::Completed { code: code::BANDWIDTH | code::SECONDARY_BANDWIDTH, .. } => {
                Err(HostError::NoBandwidth)
            }
            Answer::Completed { code, .. } => Err(HostError::Command { command, code }),
            Answer::Aborted => Err(HostError::CommandTimedOut { command }),
            Answer::Died => Err(HostError::ControllerDied),
        }
    }

    /// A command for a slot's endpoint with a plain answer.
    pub(crate) async fn endpoint_command(&self, kind: u32, slot: u8, endpoint: u8) -> Result<u8, HostError> {
        self.command(Trb::command(kind, 0, slot, endpoint), Effect::None).await
    }

    /// The command was not answered in time: looks whether only its interrupt was lost, then aborts it (4.6.1.2). The
    /// ring stops, and goes on behind the aborted command with the next doorbell.
    async fn abort(&self, answer: &Rc<AnswerCell>) -> Answer {
        const STOP_DEADLINE_MILLISECONDS: u32 = 5000;
        const STEP_MILLISECONDS: u32 = 10;
        if self.process_events() > 0 {
            self.counters.lost_interrupts.add(1);
        }
        if let Some(answered) = answer.answer.get() {
            return answered;
        }
        self.counters.aborted_commands.add(1);
        let base = self.rings.borrow().as_ref().map_or(0, |rings| rings.commands.ring.base());
        // The pointer is ignored while the ring runs (5.4.5), but it may stop between the two halves of the write.
        self.registers.set_crcr(base | crcr::CA);
        for _ in 0..STOP_DEADLINE_MILLISECONDS / STEP_MILLISECONDS {
            if !self.registers.command_ring_runs() {
                break;
            }
            sleep(&self.clock, Duration::from_millis(STEP_MILLISECONDS.into())).await;
        }
        self.process_events();
        if self.registers.command_ring_runs() {
            self.declare_dead("the command ring does not stop");
        } else if let Some(rings) = self.rings.borrow_mut().as_mut().filter(|_| self.alive.get())
            && rings.commands.give_up(answer)
        {
            self.registers.ring(0, 0);
        }
        answer.answer.get().unwrap_or(Answer::Died)
    }

    /// Brings an endpoint to a standstill with nothing left in its ring: whatever was there comes back with `reason`. True
    /// when it was halted: then its data toggle, or sequence number, begins anew (4.6.8).
    ///
    /// The endpoint's state in the device context says what is to be done; since it may lag behind (4.8.3), a context
    /// state error only means another look. Can be dropped and called again at any step.
    pub(crate) async fn quiesce(
        &self,
        context: &crate::context::DeviceContext,
        endpoint: &Rc<EndpointCell>,
        reason: TransferError,
    ) -> Result<bool, HostError> {
        use crate::context::EndpointState;
        const LOOKS: usize = 6;
        let (slot, index) = (endpoint.slot, endpoint.index);
        let (mut outcome, mut halted) = (Ok(()), false);
        for _ in 0..LOOKS {
            let step = match context.endpoint_state(index) {
                EndpointState::Running => self.endpoint_command(kind::STOP_ENDPOINT, slot, index).await,
                EndpointState::Halted => {
                    let reset = self.endpoint_command(kind::RESET_ENDPOINT, slot, index).await;
                    halted |= reset.is_ok();
                    reset
                }
                EndpointState::Disabled => {
                    // The controller does not process this ring any more.
                    endpoint.state.borrow_mut().flush_all(reason);
                    endpoint.waiters.wake();
                    return Ok(halted);
                }
                EndpointState::Stopped | EndpointState::Error => {
                    let (pointer, mark) = {
                        let state = endpoint.state.borrow();
                        (state.enqueue_pointer(), state.mark())
                    };
                    let trb = Trb::command(kind::SET_TR_DEQUEUE, pointer, slot, index);
                    let moved = self.command(trb, Effect::Flush(endpoint.clone(), mark, reason)).await;
                    if moved.is_ok() {
                        return Ok(halted);
                    }
                    // It shows Stopped but runs: its doorbell had been rung.
                    let _ = self.endpoint_command(kind::STOP_ENDPOINT, slot, index).await;
                    moved
                }
            };
            outcome = match step {
                Ok(_) | Err(HostError::Command { code: code::CONTEXT_STATE, .. }) => step.map(|_| ()),
                Err(error) => return Err(error),
            };
        }
        outcome.and(Err(HostError::Command { command: "Stop Endpoint", code: code::CONTEXT_STATE }))
    }
}
