//! A USB device as its driver sees it: the seam between class drivers and whatever carries their transfers.
//!
//! The USB core implements [`UsbDevice`] over a host controller; tests implement it directly over a model.
//!
//! # Who owns a buffer
//!
//! A buffer is consumed into a transfer and comes back with its [`Completion`]. Between the two it belongs to the
//! transfer ring: dropping a future, or the pipe itself, never frees or reuses it before the controller is done.
//!
//! # Hot-plug
//!
//! Unplugging is normal. From then on every call and every completion gives [`TransferError::Gone`]; a driver that
//! sees it drops its device and ends. The device that is plugged in next is a new one.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::task::{Context, Poll};

use hal::time::Duration;
use netbuf::Block;

use crate::configuration::Configuration;
use crate::descriptor::DeviceDescriptor;
use crate::gather::Gather;

/// How fast a device signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Speed {
    /// 1.5 Mbit/s.
    Low,
    /// 12 Mbit/s.
    Full,
    /// 480 Mbit/s.
    High,
    /// 5 Gbit/s.
    Super,
    /// 10 Gbit/s and more.
    SuperPlus,
}

impl fmt::Display for Speed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Low => "low speed",
            Self::Full => "full speed",
            Self::High => "high speed",
            Self::Super => "SuperSpeed",
            Self::SuperPlus => "SuperSpeedPlus",
        })
    }
}

/// Where a device is plugged in: controller, root port, and the ports of at most five hubs (USB 2.0 4.1.1).
/// It names the device in messages, `usb0-3.1` for port 1 of the hub at root port 3 of the first controller, and
/// stays the same over unplug and replug.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    controller: u8,
    depth: u8,
    ports: [u8; 6],
}

impl Path {
    /// The place of a device at `port` (from 1) of the root hub.
    #[must_use]
    pub fn root(controller: u8, port: u8) -> Self {
        Self { controller, depth: 1, ports: [port, 0, 0, 0, 0, 0] }
    }

    /// The place at `port` (from 1) of the hub at this place; `None` when hubs are nested too deep.
    #[must_use]
    pub fn below(&self, port: u8) -> Option<Self> {
        let mut path = *self;
        *path.ports.get_mut(usize::from(self.depth))? = port;
        path.depth += 1;
        Some(path)
    }

    /// Which host controller.
    #[must_use]
    pub fn controller(&self) -> u8 {
        self.controller
    }

    /// Port numbers from the root port down, at least one and at most six.
    #[must_use]
    pub fn ports(&self) -> &[u8] {
        &self.ports[..usize::from(self.depth)]
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "usb{}", self.controller)?;
        for (index, port) in self.ports().iter().enumerate() {
            write!(formatter, "{}{port}", if index == 0 { '-' } else { '.' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Everything that was learned about a device before any driver saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInformation {
    /// Where it is plugged in.
    pub path: Path,
    /// How fast it signals.
    pub speed: Speed,
    /// Its device descriptor.
    pub device: DeviceDescriptor,
    /// Its configurations, those that could be read.
    pub configurations: Vec<Configuration>,
    /// The manufacturer's name, empty when it has none.
    pub manufacturer: String,
    /// The product's name, empty when it has none.
    pub product: String,
    /// The serial number, empty when it has none.
    pub serial: String,
}

impl DeviceInformation {
    /// The configuration with this `bConfigurationValue`.
    #[must_use]
    pub fn configuration(&self, value: u8) -> Option<&Configuration> {
        self.configurations.iter().find(|configuration| configuration.value == value)
    }
}

/// `usb0-3: 0bda:8153 "Realtek" "USB 10/100/1000 LAN", SuperSpeed`.
impl fmt::Display for DeviceInformation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {:04x}:{:04x}", self.path, self.device.vendor, self.device.product)?;
        for name in [&self.manufacturer, &self.product] {
            if !name.is_empty() {
                write!(formatter, " \"{name}\"")?;
            }
        }
        write!(formatter, ", {}", self.speed)
    }
}

/// `bmRequestType`, `bRequest`, `wValue`, `wIndex` of a control request (USB 2.0, 9.3). `wLength` comes from the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Type and recipient without the direction bit, which the call supplies: [`Request::STANDARD`],
    /// [`Request::CLASS`] or [`Request::VENDOR`] ored with [`Request::DEVICE`], [`Request::INTERFACE`],
    /// [`Request::ENDPOINT`] or [`Request::OTHER`].
    pub kind: u8,
    /// `bRequest`.
    pub request: u8,
    /// `wValue`.
    pub value: u16,
    /// `wIndex`.
    pub index: u16,
}

impl Request {
    /// Type: standard.
    pub const STANDARD: u8 = 0x00;
    /// Type: of the class.
    pub const CLASS: u8 = 0x20;
    /// Type: of the vendor.
    pub const VENDOR: u8 = 0x40;
    /// Recipient: the device.
    pub const DEVICE: u8 = 0;
    /// Recipient: the interface whose number is in `index`.
    pub const INTERFACE: u8 = 1;
    /// Recipient: the endpoint whose address is in `index`.
    pub const ENDPOINT: u8 = 2;
    /// Recipient: something else, such as a port of a hub.
    pub const OTHER: u8 = 3;

    /// GET_STATUS.
    pub const GET_STATUS: u8 = 0;
    /// CLEAR_FEATURE.
    pub const CLEAR_FEATURE: u8 = 1;
    /// SET_FEATURE.
    pub const SET_FEATURE: u8 = 3;
    /// GET_DESCRIPTOR.
    pub const GET_DESCRIPTOR: u8 = 6;
    /// SET_CONFIGURATION.
    pub const SET_CONFIGURATION: u8 = 9;
    /// SET_INTERFACE.
    pub const SET_INTERFACE: u8 = 11;

    /// GET_DESCRIPTOR of a descriptor of the device; `language` is 0 but for strings.
    #[must_use]
    pub fn get_descriptor(kind: u8, number: u8, language: u16) -> Self {
        Self {
            kind: Self::STANDARD | Self::DEVICE,
            request: Self::GET_DESCRIPTOR,
            value: u16::from(kind) << 8 | u16::from(number),
            index: language,
        }
    }
}

/// Why a transfer ended without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferError {
    /// The endpoint is halted: it answered STALL. [`Pipe::recover`] clears it. The control pipe clears itself.
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
    /// No such configuration, interface, alternate setting, or bulk or interrupt endpoint in force; or a transfer
    /// against the direction of its endpoint.
    NotThere,
    /// The endpoint is already open as another pipe.
    Busy,
    /// No memory for the transfer or for the endpoint's ring.
    OutOfMemory,
}

impl fmt::Display for TransferError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stall => formatter.write_str("the endpoint answered STALL"),
            Self::Transaction => formatter.write_str("no valid answer from the device"),
            Self::Babble => formatter.write_str("the device sent more than was asked for"),
            Self::TimedOut => formatter.write_str("no answer before the deadline"),
            Self::Cancelled => formatter.write_str("stopped by its owner"),
            Self::Gone => formatter.write_str("the device is gone"),
            Self::Controller(code) => write!(formatter, "host controller completion code {code}"),
            Self::TooLarge => formatter.write_str("the transfer does not fit the pipe"),
            Self::NotThere => formatter.write_str("no such endpoint or setting"),
            Self::Busy => formatter.write_str("the endpoint is already open"),
            Self::OutOfMemory => formatter.write_str("out of DMA memory"),
        }
    }
}

impl core::error::Error for TransferError {}

/// An operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationError {
    /// What was tried, for messages: `opening the bulk IN pipe`.
    pub operation: &'static str,
    /// How it ended.
    pub error: TransferError,
}

impl OperationError {
    /// Names the operation that an error belongs to.
    pub(crate) fn of(operation: &'static str) -> impl Fn(TransferError) -> Self {
        move |error| Self { operation, error }
    }
}

/// An endpoint address as in `bEndpointAddress`: number in bits 0-3, bit 7 set for IN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointAddress(pub u8);

impl EndpointAddress {
    /// Whether data flows from the device to the host.
    #[must_use]
    pub const fn is_in(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// 0 to 15.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0 & 0x0f
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#04x}", self.0)
    }
}

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
    /// Send the bytes of the [`Gather`] as one transfer.
    Out(Gather),
}

/// A finished transfer: its buffer back, and how it went.
#[derive(Debug)]
pub struct Completion {
    /// What was submitted.
    pub transfer: Transfer,
    /// Bytes moved, at the start of the block for an IN transfer. Of a transfer that ended in an error the bytes are
    /// not to be used.
    pub result: Result<usize, TransferError>,
}

/// A device with an address. Cheap to share by reference among the futures of one driver.
///
/// Dropping any of the futures is safe: buffers stay with the controller until it is done with them, and a change of
/// configuration, once begun, is carried to its end by the device's own task.
pub trait UsbDevice {
    /// How this implementation moves data.
    type Pipe: Pipe;

    /// What is known of the device: place, speed, descriptors, names.
    fn information(&self) -> &DeviceInformation;

    /// Device to host. Returns the number of bytes that came, at most `data.len()`.
    fn control_in(
        &self,
        request: Request,
        data: &mut [u8],
        deadline: Duration,
    ) -> impl Future<Output = Result<usize, TransferError>>;

    /// Host to device; `data` may be empty.
    fn control_out(
        &self,
        request: Request,
        data: &[u8],
        deadline: Duration,
    ) -> impl Future<Output = Result<(), TransferError>>;

    /// SET_CONFIGURATION, and the endpoints of its first alternate settings made ready. Pipes opened before are dead.
    fn set_configuration(&self, value: u8) -> impl Future<Output = Result<(), TransferError>>;

    /// SET_INTERFACE, and the endpoints of that alternate setting made ready. Pipes of the interface are dead.
    fn set_interface(&self, interface: u8, alternate: u8) -> impl Future<Output = Result<(), TransferError>>;

    /// A pipe to a bulk or interrupt endpoint of the current configuration.
    ///
    /// # Errors
    ///
    /// [`TransferError::NotThere`], [`TransferError::Busy`], [`TransferError::OutOfMemory`] or
    /// [`TransferError::Gone`].
    fn open(&self, endpoint: EndpointAddress) -> Result<Self::Pipe, TransferError>;

    /// Port reset and address again. All pipes are dead afterwards; the configuration has to be set anew.
    fn reset(&self) -> impl Future<Output = Result<(), TransferError>>;

    /// Switches the power of the device's port off and on again, then does what [`UsbDevice::reset`] does: the last
    /// resort before a device is given up.
    ///
    /// # Errors
    ///
    /// [`TransferError::NotThere`] where the port's power cannot be switched, which is the default.
    fn power_cycle(&self) -> impl Future<Output = Result<(), TransferError>> {
        core::future::ready(Err(TransferError::NotThere))
    }

    /// Counters of what carries the transfers, each with its name: doorbells, interrupts and the like of the host
    /// controller, which all its devices share.
    fn counters(&self, visit: &mut dyn FnMut(&'static str, u64)) {
        let _ = visit;
    }
}

/// One bulk or interrupt endpoint. Dropping the pipe stops the endpoint; its buffers are freed when it stands still.
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

    /// From now on who polls need be woken only when so many transfers finished, or one failed: for a driver that looks
    /// after its pipe anyway, and for the time being has no use for what comes back. At first it is 1.
    fn announce_after(&mut self, transfers: usize) {
        let _ = transfers;
    }

    /// Transfers submitted and not yet returned.
    fn in_flight(&self) -> usize;

    /// Brings a halted endpoint back: reset endpoint, dequeue pointer past all that was queued, CLEAR_FEATURE(HALT).
    /// One that is not halted is only stopped. Transfers still queued come back as completions with
    /// [`TransferError::Cancelled`].
    fn recover(&mut self) -> impl Future<Output = Result<(), TransferError>>;

    /// Stops the endpoint; all its transfers come back as completions, those that were not finished with
    /// [`TransferError::Cancelled`].
    fn cancel(&mut self) -> impl Future<Output = Result<(), TransferError>>;
}
