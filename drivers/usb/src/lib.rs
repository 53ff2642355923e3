//! The USB core: descriptors, enumeration, hubs, transfers as futures, hot-plug.
//!
//! | module | what |
//! | --- | --- |
//! | [`device`] | a device and its pipes as a class driver sees them |
//! | [`descriptor`] | what a device says about itself, every length checked |
//! | [`configuration`] | its interfaces and endpoints |
//! | [`gather`] | frames and padding sent as one transfer |
//! | [`pipes`] | the pipes of a network function |
//! | [`supply`] | blocks for the receive transfers of a bulk IN pipe |
//! | [`transmitter`] | transfers under way on a bulk OUT pipe |
//! | [`listener`] | messages of an interrupt IN endpoint |
//! | [`recovery`] | what class drivers try when a device stops working |
//! | [`bus`] | the runner: a task for each port, from plug to unplug; hubs |
//! | [`attached`] | the device that the runner offers |
//! | [`host`] | what a host controller must offer |
//! | [`waiting`] | wake-up lists, turns, futures side by side |
//!
//! It knows no host controller, no class driver and no kernel. Isochronous transfers are not supported, and the buffer of
//! a hub's transaction translator is not cleared after a failed transfer (USB 2.0, 11.24.2.3).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod attached;
pub mod bus;
pub mod configuration;
pub mod descriptor;
pub mod device;
mod enumeration;
#[cfg(test)]
mod fake;
mod first_look;
pub mod gather;
pub mod host;
mod hub;
pub mod listener;
pub mod pipes;
mod port;
pub mod recovery;
pub mod supply;
pub mod transmitter;
pub mod waiting;

pub use attached::Device;
pub use bus::{Bus, Config};
pub use configuration::{Configuration, Endpoint, InterfaceSetting, TransferKind};
pub use descriptor::DeviceDescriptor;
pub use device::{
    Completion, DeviceInformation, EndpointAddress, OperationError, Path, Pipe, Request, Speed, Transfer,
    TransferError, UsbDevice,
};
pub use gather::Gather;
pub use listener::Listener;
pub use pipes::Pipes;
pub use supply::ReceiveSupply;
pub use transmitter::Transmitter;
