//! Driver for the RTL8152 family of USB Ethernet adapters: RTL8152B, 8153, 8153A to 8153D, 8156A and 8156B.
//!
//! Everything is one vendor request that reads and writes registers, two bulk pipes that carry several frames per
//! transfer, and an interrupt pipe that says that the link changed. The facts are in `docs/hardware/rtl8152.md`,
//! whose sections the modules cite.
//!
//! | module | what |
//! | --- | --- |
//! | [`ids`] | which devices are adapters |
//! | [`version`] | which chip it is, and what follows |
//! | [`config`] | what can be chosen |
//! | `endpoints` | the vendor configuration and its pipes |
//! | `registers`, `regs` | register access, and the registers' names |
//! | `chip` | procedures that all generations share |
//! | `rtl8152`, `rtl8153a`, `rtl8153b`, `rtl8156` | one bring-up per generation |
//! | `bring_up` | the order of things: version, initialisation, station address, PHY, MAC |
//! | `link`, `filter`, `tally` | link up and down, receive filter, hardware counters |
//! | [`aggregate`], `transmit` | several frames in one transfer, both ways |
//! | `driver`, `service`, `jobs` | the driver itself: start, what it waits for, what takes longer |
//! | `receiving`, `sending` | the data path |
//! | `mode_switch` | out of the virtual CD-ROM |
//!
//! It runs over anything that implements [`usb::UsbDevice`], and takes its time from a [`hal::time::Clock`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod aggregate;
mod bring_up;
mod chip;
pub mod config;
mod counters;
mod driver;
mod endpoints;
mod error;
#[cfg(test)]
mod fake;
mod filter;
#[cfg(test)]
mod golden;
pub mod ids;
mod jobs;
mod link;
mod mode_switch;
mod receiving;
mod registers;
mod regs;
mod rtl8152;
mod rtl8153a;
mod rtl8153b;
mod rtl8156;
mod sending;
mod service;
mod tally;
mod transmit;
pub mod version;

pub use config::{Coalescing, Config, Filter};
pub use counters::Counters;
pub use driver::Rtl8152;
pub use error::Error;
pub use ids::{Match, matches};
pub use mode_switch::switch_mode;
pub use regs::Space;
pub use tally::Tally;
pub use version::{Generation, Version};
