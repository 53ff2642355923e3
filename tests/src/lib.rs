//! What the tests share: a virtual clock with its executor, and (for system tests) images under QEMU.
//!
//! This crate is the only place that sees drivers and models together.

pub mod command;
pub mod debugger;
pub mod guest;
pub mod namespace;
pub mod virtual_time;
pub mod xhci_model;
