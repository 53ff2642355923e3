//! A USB device as its driver sees it: the seam between class drivers and whatever carries their transfers.
//!
//! The USB core implements [`UsbDevice`] over a host controller; tests implement it directly over a model.
//!
//! # Who owns a buffer
//!
//! A buffer is consumed into a transfer and comes back with its [`Completion`]. Between the two it belongs to the
//! transfer ring: dropping a future, or the pipe itself, never frees or reuses it before the controller is done.

use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::task::{Context, Poll};

use hal::time::Duration;
use netbuf::{Block, NetBuf, Queue};

/// `bmRequestType`, `bRequest`, `wValue`, `wIndex` of a control request (USB 2.0, 9.3). `wLength` comes from the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Type and recipient without the direction bit, which the call supplies.
    pub kind: u8,
    /// `bRequest`.
    pub request: u8,
    /// `wValue`.
    pub value: u16,
    /// `wIndex`.
    pub index: u16,
}

/// Why a transfer ended without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferError {
    /// The endpoint is halted: it answered STALL. [`Pipe::recover`] clears it.
    Stall,
    /// No valid answer after the retries (bad CRC, no response); the endpoint is halted.
    Transaction,
    /// The device sent more than was asked for; the endpoint is halted.
    Babble,
    /// Nothing happened before the deadline; the transfer was stopped.
    TimedOut,
    /// The transfer was stopped by its owner.
    Cancelled,
    /// The device was unplugged, or its controller died.
    Gone,
    /// The host controller reported this completion code, which no case above covers (xHCI 6.4.5).
    Controller(u8),
    /// The request does not fit: too long for the pipe, or the pipe's ring is full.
    TooLarge,
}

/// An endpoint address as in `bEndpointAddress`: number in bits 0-3, bit 7 set for IN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointAddress(pub u8);

/// What is handed to a pipe.
#[derive(Debug)]
pub enum Transfer {
    /// Receive up to `length` bytes to the start of `block`.
    In {
        /// Where the bytes go.
        block: Block,
        /// At most this many; no more than the block holds.
        length: usize,
    },
    /// Send the bytes of `gather` as one transfer.
    Out(Gather),
}

/// A finished transfer: its buffer back, and how it went.
#[derive(Debug)]
pub struct Completion {
    /// What was submitted.
    pub transfer: Transfer,
    /// Bytes moved. For an IN transfer the bytes are at the start of the block also when this is an error with
    /// [`Completion::moved`] non-zero.
    pub result: Result<usize, TransferError>,
}

/// Pieces of memory sent as one transfer: frames (not copied) with padding between them.
#[derive(Debug, Default)]
pub struct Gather {
    // owned frames, and the scatter list in order; see its methods
    frames: Queue,
    pieces: Vec<()>,
}

/// A device with an address. Cheap to share by reference among the futures of one driver.
pub trait UsbDevice {
    /// How this implementation moves data.
    type Pipe: Pipe;

    /// Device to host. Returns the number of bytes that came.
    fn control_in(&self, request: Request, data: &mut [u8], deadline: Duration)
    -> impl Future<Output = Result<usize, TransferError>>;

    /// Host to device; `data` may be empty.
    fn control_out(&self, request: Request, data: &[u8], deadline: Duration)
    -> impl Future<Output = Result<(), TransferError>>;

    /// SET_CONFIGURATION, and the endpoints of its first alternate settings made ready.
    fn set_configuration(&self, value: u8) -> impl Future<Output = Result<(), TransferError>>;

    /// SET_INTERFACE, and the endpoints of that alternate setting made ready.
    fn set_interface(&self, interface: u8, alternate: u8) -> impl Future<Output = Result<(), TransferError>>;

    /// A pipe to a bulk or interrupt endpoint of the current configuration.
    fn open(&self, endpoint: EndpointAddress) -> Result<Self::Pipe, TransferError>;

    /// Port reset and address again. All pipes are dead afterwards; the configuration has to be set anew.
    fn reset(&self) -> impl Future<Output = Result<(), TransferError>>;
}

/// One bulk or interrupt endpoint.
pub trait Pipe {
    /// Queues a transfer. The hardware hears of it with the next [`Pipe::start`].
    ///
    /// # Errors
    ///
    /// Gives the transfer back when the ring is full or the pipe is dead.
    fn submit(&mut self, transfer: Transfer) -> Result<(), (TransferError, Transfer)>;

    /// Rings the doorbell once for all that was submitted.
    fn start(&mut self);

    /// The next finished transfer, in the order of submission. Pending when none is finished.
    fn poll_completion(&mut self, context: &mut Context<'_>) -> Poll<Completion>;

    /// Transfers submitted and not yet returned.
    fn in_flight(&self) -> usize;

    /// Brings a halted endpoint back: reset endpoint, dequeue pointer past the failed transfer, CLEAR_FEATURE(HALT).
    /// Transfers still queued come back as completions with [`TransferError::Cancelled`].
    fn recover(&mut self) -> impl Future<Output = Result<(), TransferError>>;

    /// Stops the endpoint; all its transfers come back as completions with [`TransferError::Cancelled`].
    fn cancel(&mut self) -> impl Future<Output = Result<(), TransferError>>;
}
