//! The pipes of a network function: bulk IN, bulk OUT, and an interrupt endpoint that tells of the link.

use hal::time::Clock;

use crate::device::{EndpointAddress, OperationError, Pipe, TransferError, UsbDevice};
use crate::recovery;

/// Open pipes.
#[derive(Debug)]
pub struct Pipes<P> {
    /// Bulk IN.
    pub receive: P,
    /// Bulk OUT.
    pub transmit: P,
    /// Interrupt IN, of a function that has one.
    pub interrupt: Option<P>,
}

impl<P: Pipe> Pipes<P> {
    /// Opens all of them.
    ///
    /// # Errors
    ///
    /// [`OperationError`] for the first that cannot be opened.
    pub fn open<D: UsbDevice<Pipe = P>>(
        device: &D,
        receive: EndpointAddress,
        transmit: EndpointAddress,
        interrupt: Option<EndpointAddress>,
    ) -> Result<Self, OperationError> {
        Ok(Self {
            receive: device.open(receive).map_err(OperationError::of("opening the bulk IN pipe"))?,
            transmit: device.open(transmit).map_err(OperationError::of("opening the bulk OUT pipe"))?,
            interrupt: interrupt
                .map(|endpoint| device.open(endpoint))
                .transpose()
                .map_err(OperationError::of("opening the interrupt IN pipe"))?,
        })
    }

    /// Takes both data pipes out of their halt and drops what was queued.
    ///
    /// # Errors
    ///
    /// [`OperationError`] for the first that stays halted.
    pub async fn recover_data<C: Clock>(&mut self, clock: &C) -> Result<(), OperationError> {
        recovery::recover(&mut self.transmit, clock)
            .await
            .map_err(OperationError::of("resetting the bulk OUT pipe"))?;
        recovery::recover(&mut self.receive, clock)
            .await
            .map_err(OperationError::of("resetting the bulk IN pipe"))
    }

    /// Takes the interrupt pipe out of its halt and drops what was queued.
    ///
    /// # Errors
    ///
    /// As [`recovery::recover`].
    pub async fn recover_interrupt<C: Clock>(&mut self, clock: &C) -> Result<(), TransferError> {
        match &mut self.interrupt {
            Some(pipe) => recovery::recover(pipe, clock).await,
            None => Ok(()),
        }
    }
}
