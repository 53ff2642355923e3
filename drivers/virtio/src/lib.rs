//! virtio-net and virtio-rng, handing over netbufs.
//!
//! The rings and the feature types are the virtio-drivers crate's. Its own devices are not used: its PCI transport has
//! no MSI-X and no legacy interface, its network device wants one contiguous buffer per frame, and both allocate while
//! frames flow. This crate knows neither the kernel nor how a bus is enumerated.
//!
//! | module | what |
//! | --- | --- |
//! | [`pci`] | the registers of modern, transitional and legacy PCI devices |
//! | [`network`] | virtio-net: frames are received into netbufs, netbufs are gathered for transmission |
//! | [`entropy`] | virtio-rng |
//!
//! # What a device may not do to us
//!
//! Everything that a device writes is taken as a claim: a used id must name a buffer that was handed over, a length
//! must fit that buffer, a status must have the bits that were set. Otherwise the device fails, alone and with a
//! message. `unsafe` stands where the crate's `VirtQueue` asks for it, and in the [`virtio_drivers::Hal`] it needs.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod dma;
pub mod entropy;
mod error;
pub mod network;
pub mod pci;
mod transport;

pub use error::Error;
pub use transport::{InterruptTransport, Interrupts};
pub use virtio_drivers::transport::{DeviceType, Transport};
