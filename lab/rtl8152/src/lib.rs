//! A virtual adapter of the RTL8152 family: what a driver can see of an RTL8152B, 8153, 8153A to D, 8156, 8156A or
//! 8156B, written from the fact sheet (docs/hardware/rtl8152.md) and checked against Linux's r8152.
//!
//! The core is pure and clock-driven: [`Adapter`] is a [`lab_usbredir::Device`], to be carried by usbredir into QEMU or
//! called directly by a test on a virtual clock. Frames go in and out as byte vectors.
//!
//! | module | idea |
//! | --- | --- |
//! | [`version`] | the table of chips |
//! | [`descriptors`] | what each tells of itself at each bus speed; named fields to corrupt |
//! | [`register_file`], [`registers`] | two spaces of 64 KiB with byte enables; the addresses that do something |
//! | [`phy`] | PHY registers behind their window, negotiation, the link |
//! | [`chip`] | side effects, the polls that drivers make, frames in and out |
//! | [`receive`], [`transmit`], [`headers`], [`tally`] | the data path with checksums and segmentation done for real |
//! | [`adapter`] | the USB device: hot-plug, configurations, endpoints |
//! | [`storage`] | the virtual CD-ROM `0bda:8151` |
//! | [`ncm`] | transfer blocks of CDC-NCM |
//! | [`faults`] | what goes wrong when |
//! | [`trace`] | register accesses in the form of the golden logs |
//!
//! # What it is not
//!
//! Analog settings, power saving, wake-on-LAN and MCU firmware have no effect; their registers and
//! descriptors are there. Values that no source knows are the fact sheet's model values.
#![forbid(unsafe_code)]

pub mod adapter;
pub mod chip;
pub mod descriptors;
pub mod faults;
pub mod headers;
pub mod ncm;
pub mod phy;
pub mod receive;
pub mod register_file;
pub mod registers;
pub mod storage;
pub mod tally;
pub mod trace;
pub mod transmit;
pub mod version;

pub use adapter::{Adapter, Config, Transfers};
pub use faults::{Action, Counted, Disconnect, Fault, FaultPlan, Trigger};
pub use phy::LinkSpeed;
pub use version::{Generation, VERSIONS, Version};
