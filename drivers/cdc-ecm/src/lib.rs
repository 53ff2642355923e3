//! Class driver for USB Ethernet adapters after the Ethernet Control Model (USB CDC 1.2 with ECM 1.2).
//!
//! One frame is one transfer, ended by a short packet; a device says by notification when its link changes, if it
//! says so at all.
//!
//! | module | what |
//! | --- | --- |
//! | [`function`] | the Ethernet function in a device's descriptors |
//! | [`notification`] | what the interrupt endpoint brings |
//! | [`config`] | what can be chosen |
//! | `driver` | bring-up, link, recovery |
//! | `data_path` | frames between pipes and network layer |
//!
//! It runs over anything that implements [`usb::UsbDevice`], and takes its time from a [`hal::time::Clock`].
//! Multicast filters by address, power management patterns and statistics requests are not used.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod config;
mod counters;
mod data_path;
mod driver;
mod error;
pub mod function;
pub mod notification;

pub use config::{Config, Filter};
pub use counters::Counters;
pub use driver::CdcEcm;
pub use error::Error;
pub use function::matches;
