//! What the USB core needs from a host controller: root ports, and slots through which devices are reached.
//!
//! The cut follows xHCI, where the controller itself assigns addresses, keeps the toggles and schedules the bus; a
//! slot is one device as the controller knows it.

use core::fmt;
use core::future::Future;
use core::task::{Context, Poll};

use hal::time::Duration;

use crate::configuration::Endpoint;
use crate::device::{EndpointAddress, Path, Pipe, Request, Speed, TransferError};

/// Why the host controller could not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostError {
    /// The controller died, or is being reset.
    ControllerDied,
    /// A command ended with this completion code (xHCI table 6-90).
    Command {
        /// The command's name in the specification.
        command: &'static str,
        /// The completion code.
        code: u8,
    },
    /// A command was not answered and was aborted.
    CommandTimedOut {
        /// The command's name in the specification.
        command: &'static str,
    },
    /// No device slot is free.
    NoSlots,
    /// The bus has not enough bandwidth left for the endpoints asked for.
    NoBandwidth,
    /// No DMA memory for rings or contexts.
    OutOfMemory,
    /// The endpoint cannot be carried: isochronous, a second control endpoint, or an impossible size.
    Unsupported(EndpointAddress),
    /// The port stayed in reset, or did not come out of it enabled; `status` is the raw status.
    PortReset {
        /// PORTSC of a root port, `wPortStatus` of a hub's.
        status: u32,
    },
    /// The port is enabled but names no known speed.
    UnknownSpeed {
        /// The speed id.
        id: u8,
    },
    /// A transfer that belongs to the step failed.
    Transfer(TransferError),
}

impl fmt::Display for HostError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControllerDied => formatter.write_str("the host controller died"),
            Self::Command { command, code } => {
                write!(formatter, "{command} ended with completion code {code}")
            }
            Self::CommandTimedOut { command } => write!(formatter, "{command} was not answered"),
            Self::NoSlots => formatter.write_str("the host controller has no free device slot"),
            Self::NoBandwidth => formatter.write_str("not enough bandwidth on the bus"),
            Self::OutOfMemory => formatter.write_str("out of DMA memory"),
            Self::Unsupported(endpoint) => write!(formatter, "endpoint {endpoint} is of an unsupported kind"),
            Self::PortReset { status } => write!(formatter, "port reset failed, status {status:#010x}"),
            Self::UnknownSpeed { id } => write!(formatter, "unknown speed id {id}"),
            Self::Transfer(error) => error.fmt(formatter),
        }
    }
}

impl core::error::Error for HostError {}

impl From<TransferError> for HostError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::OutOfMemory => Self::OutOfMemory,
            error => Self::Transfer(error),
        }
    }
}

impl From<HostError> for TransferError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::ControllerDied => Self::Gone,
            HostError::Command { code, .. } => Self::Controller(code),
            HostError::CommandTimedOut { .. } | HostError::PortReset { .. } => Self::TimedOut,
            HostError::NoSlots | HostError::OutOfMemory => Self::OutOfMemory,
            HostError::NoBandwidth => Self::TooLarge,
            HostError::Unsupported(_) | HostError::UnknownSpeed { .. } => Self::NotThere,
            HostError::Transfer(error) => error,
        }
    }
}

/// What a port says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStatus {
    /// Something is plugged in.
    pub connected: bool,
    /// It was plugged or unplugged since the last look; looking acknowledges it.
    pub connection_changed: bool,
    /// The port passes traffic.
    pub enabled: bool,
    /// The port switched itself off because too much current flowed.
    pub over_current: bool,
    /// The link (USB 3) is in a state that only a warm reset leaves.
    pub wants_warm_reset: bool,
    /// The link (USB 3) is still training: the device announces itself when it is done.
    pub training: bool,
    /// How fast the device signals. Known when the port is enabled.
    pub speed: Option<Speed>,
    /// The raw status, for messages.
    pub raw: u32,
}

/// Through which hub a low- or full-speed device is reached (USB 2.0, 11.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translator {
    /// Slot of the high-speed hub.
    pub hub_slot: u8,
    /// Its port under which the device hangs.
    pub port: u8,
    /// The hub has a translator for each port, and they are in use.
    pub per_port: bool,
}

/// Where a new device is, for the controller to reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Root port and hub ports.
    pub path: Path,
    /// How fast the device signals.
    pub speed: Speed,
    /// The transaction translator in between, if there is one.
    pub translator: Option<Translator>,
}

/// What a controller must know of a hub to route through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubShape {
    /// Downstream ports.
    pub ports: u8,
    /// See [`crate::descriptor::HubDescriptor::think_time`]; 0 unless the hub is a high-speed one.
    pub think_time: u8,
    /// A translator for each port is in use.
    pub per_port_translators: bool,
}

/// A host controller. A cheap handle; the controller itself is run by a task of its own.
pub trait HostController: Clone {
    /// A device as this controller knows it.
    type Slot: HostSlot;

    /// The controller's number, the first part of its devices' names.
    fn number(&self) -> u8;

    /// Root ports, numbered from 1. Fixed for the controller's life.
    fn ports(&self) -> u8;

    /// The port's status; acknowledges what changed.
    fn port_status(&self, port: u8) -> PortStatus;

    /// Ready when the port changed since the last time; when the controller has started, at first and again; and when
    /// it is given up.
    fn poll_port_changed(&self, port: u8, context: &mut Context<'_>) -> Poll<()>;

    /// Resets the port and waits until it is enabled. `warm` is for USB 3 links.
    fn reset_port(&self, port: u8, warm: bool) -> impl Future<Output = Result<PortStatus, HostError>>;

    /// Switches the port off, so that nothing behind it is heard any more, until it is reset or replugged.
    fn disable_port(&self, port: u8);

    /// Switches the port's power. False when this controller cannot (xHCI 5.3.6: PPC).
    fn set_port_power(&self, port: u8, on: bool) -> bool;

    /// A slot for a device that is in the Default state: port just reset (xHCI 4.3.2, 4.3.3).
    fn enable_slot(&self, attachment: Attachment) -> impl Future<Output = Result<Self::Slot, HostError>>;
}

/// One device as its controller knows it. A cheap handle.
pub trait HostSlot: Clone {
    /// How data moves.
    type Pipe: Pipe;

    /// The controller's number for the device.
    fn id(&self) -> u8;

    /// Gives the device its address (xHCI 4.3.4).
    fn address(&self) -> impl Future<Output = Result<(), HostError>>;

    /// Sets the packet size of the default control pipe (xHCI 4.3.4: evaluate context).
    fn set_control_packet_size(&self, bytes: u16) -> impl Future<Output = Result<(), HostError>>;

    /// Drops and adds endpoints in one step (xHCI 4.6.6). Pipes of dropped endpoints are dead: their transfers come
    /// back with [`TransferError::Cancelled`]. On an error the endpoints are as before, those to be dropped stopped.
    fn configure(
        &self,
        drop: &[EndpointAddress],
        add: &[Endpoint],
    ) -> impl Future<Output = Result<(), HostError>>;

    /// Tells the controller that the device is a hub (xHCI 4.6.6).
    fn configure_hub(&self, shape: HubShape) -> impl Future<Output = Result<(), HostError>>;

    /// After a port reset: back to the Default state. All endpoints but the control pipe are gone (xHCI 4.6.11).
    fn reset(&self) -> impl Future<Output = Result<(), HostError>>;

    /// A control transfer, IN when `data` is [`ControlData::In`]. One at a time; others wait for their turn.
    fn control(
        &self,
        request: Request,
        data: ControlData<'_>,
        deadline: Duration,
    ) -> impl Future<Output = Result<usize, TransferError>>;

    /// A pipe to an endpoint that was configured.
    ///
    /// # Errors
    ///
    /// [`TransferError::NotThere`], [`TransferError::Busy`] or [`TransferError::Gone`].
    fn open(&self, endpoint: EndpointAddress) -> Result<Self::Pipe, TransferError>;

    /// The device is unplugged: from now on everything fails with [`TransferError::Gone`], also what waits. Transfers
    /// under way come back when [`HostSlot::disable`] has stopped them.
    fn mark_gone(&self);

    /// Whether [`HostSlot::mark_gone`] was called, or the controller died.
    fn is_gone(&self) -> bool;

    /// Frees the slot: stops all endpoints, then gives everything back.
    fn disable(&self) -> impl Future<Output = ()>;

    /// The controller's counters, each with its name.
    fn counters(&self, visit: &mut dyn FnMut(&'static str, u64)) {
        let _ = visit;
    }
}

/// The data stage of a control transfer.
#[derive(Debug)]
pub enum ControlData<'d> {
    /// Device to host, up to this many bytes.
    In(&'d mut [u8]),
    /// Host to device; empty for no data stage.
    Out(&'d [u8]),
}
