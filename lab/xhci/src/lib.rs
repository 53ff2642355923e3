//! An in-process model of a USB host controller after the eXtensible Host Controller Interface, revision 1.2:
//! registers, rings, contexts, ports and hubs. It is what an emulator does not show: scratchpads, wide contexts, port
//! power, legacy hand-off, internal errors, stopped endpoints, transaction translators, and every completion code.
//!
//! The model knows no driver. It is driven by register accesses ([`Model::read`], [`Model::write_register`]), reads and
//! writes the guest's memory through [`GuestMemory`], and does its work in [`Model::step`], which tells whether an
//! interrupt is due. Time does not pass in it: what takes time on hardware is done at the next step.
//!
//! It is strict: what the specification forbids a driver is noted as a [violation](Model::violations), which a test
//! demands to be none.
#![forbid(unsafe_code)]

mod command;
mod config;
mod context;
mod device;
mod event;
mod gadget;
mod hub;
mod memory;
mod model;
mod port;
mod registers;
mod transfer;
mod trb;

pub use config::{Config, Faults, Protocol};
pub use device::{Answer, Plugged, Speed, VirtualDevice, shared};
pub use gadget::{Gadget, GadgetEndpoint, Transport};
pub use hub::{HubKind, VirtualHub};
pub use memory::GuestMemory;
pub use model::Model;
