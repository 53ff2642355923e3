//! The kernel of a Skiff image: boot, memory, interrupts, time, executor, driver binding, network.
//!
//! Everything that belongs to a freestanding program sits behind the feature `boot`; what is left (parsers, tables,
//! allocators, the network layer) compiles and is tested on the host.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod memory;
pub mod net;
pub mod report;

#[cfg(any(feature = "boot", test))]
mod boot;
#[cfg(feature = "boot")]
pub mod console;
#[cfg(feature = "boot")]
mod panic;
#[cfg(feature = "boot")]
pub mod power;
