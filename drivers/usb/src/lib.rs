//! The USB core: descriptors, enumeration, hubs, transfers as futures, hot-plug.
//!
//! | module | what |
//! | --- | --- |
//! | [`device`] | a device and its pipes as a class driver sees them |
//! | [`descriptor`] | what a device says about itself, every length checked |
//! | [`gather`] | frames and padding sent as one transfer |
//! | [`recovery`] | what class drivers try when a device stops working |
//!
//! It knows no host controller, no class driver and no kernel. Isochronous transfers are not supported.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod descriptor;
pub mod device;
pub mod gather;
pub mod recovery;

pub use descriptor::{Configuration, DeviceDescriptor, Endpoint, InterfaceSetting, TransferKind};
pub use device::{
    Completion, DeviceInformation, EndpointAddress, Path, Pipe, Request, Speed, Transfer, TransferError,
    UsbDevice,
};
pub use gather::Gather;
