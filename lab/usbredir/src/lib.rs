//! The usbredir protocol: how QEMU's `usb-redir` device talks to whoever holds the USB device.
//!
//! The codec ([`packet`], [`decoder`]) knows the wire format and nothing else. [`device`] is the trait of a virtual USB
//! device, clock-driven and without threads. [`connection`] joins the two as a state machine from bytes to bytes;
//! [`serve`] drives it on a stream in real time. Only the standard library is used.
//!
//! # Design principles, in order
//!
//! 1. The peer is hostile: no length, count or type it sends can make this crate panic, allocate beyond
//!    [`decoder::LARGEST_PACKET`] or loop.
//! 2. The device model decides; this crate translates. It keeps no idea of its own of configurations or endpoints.
//! 3. Time is an argument, so that a test can run the same code on a virtual clock.
//!
//! # Not supported
//!
//! Isochronous streams, bulk streams and buffered bulk receiving are parsed and answered with "invalid"; device
//! filters are ignored.
#![forbid(unsafe_code)]

pub mod capabilities;
pub mod connection;
pub mod decoder;
pub mod device;
pub mod error;
mod fields;
pub mod packet;
pub mod serve;

pub use capabilities::Capabilities;
pub use connection::Connection;
pub use device::{Answer, Attachment, Device, Endpoint, Interface, Setup, Speed, TransferKind};
pub use error::ProtocolError;
pub use packet::{Body, Packet, Status};
