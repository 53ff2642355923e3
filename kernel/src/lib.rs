//! The kernel of a Skiff image: boot, memory, interrupts, time, executor, driver binding, network.
//!
//! Everything that belongs to a freestanding program sits behind the feature `boot`; what is left (parsers, tables,
//! allocators, the network layer) compiles and is tested on the host.
//!
//! | module | what |
//! | --- | --- |
//! | `boot` | from the first instruction to the application |
//! | [`memory`] | frames, page tables, the heap |
//! | [`devices`] | PCI, register windows, driver binding, entropy |
//! | [`firmware`] | ACPI tables, QEMU's firmware configuration |
//! | `interrupt` | descriptor tables, controllers, dispatch, exceptions |
//! | [`time`] | clock and timers |
//! | `executor` | tasks |
//! | `console`, [`report`] | log and report lines on the serial port |
//! | `power`, `panic`, `crash` | ending, well or not |
//! | [`command_line`] | options |
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod command_line;
pub mod devices;
pub mod firmware;
pub mod memory;
pub mod net;
pub mod report;
pub mod time;

#[cfg(any(feature = "boot", test))]
mod boot;
#[cfg(feature = "boot")]
pub mod console;
#[cfg(feature = "boot")]
mod crash;
#[cfg(feature = "boot")]
pub mod executor;
#[cfg(feature = "boot")]
pub mod interrupt;
#[cfg(feature = "boot")]
mod panic;
#[cfg(feature = "boot")]
pub mod power;
#[cfg(feature = "boot")]
mod system;

#[cfg(feature = "boot")]
pub use system::System;

/// What [`application!`] needs of `alloc`, which an application need not have.
#[cfg(feature = "boot")]
#[doc(hidden)]
pub type Boxed<T> = core::pin::Pin<alloc::boxed::Box<T>>;

/// As above.
#[cfg(feature = "boot")]
#[doc(hidden)]
pub fn boxed<T>(value: T) -> Boxed<T> {
    alloc::boxed::Box::pin(value)
}
