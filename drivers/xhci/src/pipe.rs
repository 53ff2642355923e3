//! A bulk or interrupt endpoint as its driver holds it.

use alloc::rc::Rc;
use core::task::{Context, Poll};

use hal::mmio::Mmio;
use hal::time::{Clock, Duration};
use usb::device::EndpointAddress;
use usb::host::{ControlData, HostSlot};
use usb::{Completion, Pipe, Request, Transfer, TransferError};

use crate::controller::Chore;
use crate::endpoint::{EndpointCell, Payload};
use crate::slot::Slot;

/// How long CLEAR_FEATURE may take (USB 2.0, 9.2.6.4: 50 ms without a data stage; the field is slower).
const CLEAR_HALT_DEADLINE: Duration = Duration::from_secs(1);

/// A pipe over xHCI.
pub struct XhciPipe<M: Mmio, C: Clock> {
    slot: Slot<M, C>,
    endpoint: Rc<EndpointCell>,
    address: EndpointAddress,
}

impl<M: Mmio, C: Clock> XhciPipe<M, C> {
    pub(crate) fn new(slot: Slot<M, C>, endpoint: Rc<EndpointCell>, address: EndpointAddress) -> Self {
        Self { slot, endpoint, address }
    }

    fn has_finished(&self) -> bool {
        self.endpoint.state.borrow().has_finished()
    }

    fn take(&self) -> Option<Completion> {
        match self.endpoint.state.borrow_mut().take_finished()? {
            (Payload::Pipe(transfer), result) => Some(Completion { transfer, result }),
            (Payload::Control(_), _) => None,
        }
    }

    fn check_alive(&self) -> Result<(), TransferError> {
        self.endpoint.state.borrow().dead.map_or(Ok(()), Err)
    }

    /// True when the endpoint was halted.
    async fn stop(&self) -> Result<bool, TransferError> {
        self.check_alive()?;
        let context = &self.slot.cell.context;
        Ok(self.slot.shared.quiesce(context, &self.endpoint, TransferError::Cancelled).await?)
    }
}

impl<M: Mmio, C: Clock> Pipe for XhciPipe<M, C> {
    fn submit(&mut self, transfer: Transfer) -> Result<(), (TransferError, Transfer)> {
        let inward = matches!(transfer, Transfer::In { .. });
        if inward != self.address.is_in() {
            return Err((TransferError::NotThere, transfer));
        }
        let shared = &self.slot.shared;
        let bounced = self.endpoint.state.borrow_mut().put(transfer, &shared.reach)?;
        shared.counters.bounced.add(u64::from(bounced));
        Ok(())
    }

    fn start(&mut self) {
        if core::mem::replace(&mut self.endpoint.state.borrow_mut().unannounced, false) {
            self.slot.shared.ring_doorbell(self.endpoint.slot, self.endpoint.index);
        }
    }

    fn poll_completion(&mut self, context: &mut Context<'_>) -> Poll<Completion> {
        // Under load the events are often there before the event task had its turn.
        if (self.has_finished() || self.slot.shared.process_events() > 0)
            && let Some(completion) = self.take()
        {
            return Poll::Ready(completion);
        }
        self.endpoint.waiters.register(context);
        Poll::Pending
    }

    fn announce_after(&mut self, transfers: usize) {
        self.endpoint.state.borrow_mut().announce_after = transfers.max(1);
    }

    fn in_flight(&self) -> usize {
        self.endpoint.state.borrow().outstanding()
    }

    async fn recover(&mut self) -> Result<(), TransferError> {
        if !self.stop().await? {
            // The request would let the device's data toggle begin anew, and not the controller's.
            return Ok(());
        }
        let request = Request {
            kind: Request::STANDARD | Request::ENDPOINT,
            request: Request::CLEAR_FEATURE,
            value: 0,
            index: u16::from(self.address.0),
        };
        self.slot.control(request, ControlData::Out(&[]), CLEAR_HALT_DEADLINE).await.map(|_| ())
    }

    async fn cancel(&mut self) -> Result<(), TransferError> {
        self.stop().await.map(|_| ())
    }
}

impl<M: Mmio, C: Clock> Drop for XhciPipe<M, C> {
    fn drop(&mut self) {
        let mut state = self.endpoint.state.borrow_mut();
        while state.take_finished().is_some() {}
        state.open = state.busy();
        if state.open && state.dead.is_none() {
            let chore = Chore::ClosePipe(self.slot.cell.clone(), self.endpoint.clone());
            self.slot.shared.chores.borrow_mut().push_back(chore);
            self.slot.shared.summons.wake();
        }
    }
}
