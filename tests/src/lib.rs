//! What the tests share: a virtual clock with its executor, and (for system tests) images under QEMU.
//!
//! This crate is the only place that sees drivers and models together.

pub mod virtual_time;
