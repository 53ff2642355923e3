//! What the tests share: a virtual clock with its executor, a USB host that is only a trait, and (for system tests)
//! images under QEMU.
//!
//! This crate is the only place that sees drivers and models together.
#![forbid(unsafe_code)]

pub mod adapter_faults;
pub mod adapter_world;
pub mod command;
pub mod debugger;
pub mod direct_usb;
pub mod folder;
pub mod guest;
pub mod namespace;
pub mod virtual_time;
pub mod xhci_model;
