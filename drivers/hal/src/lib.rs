//! What a driver needs from its surroundings, and what a network driver offers in return.
//!
//! Drivers are ordinary libraries, generic over these traits. The kernel implements them on hardware; tests implement
//! them on models and a virtual clock. A driver never learns which of the two it runs on. This crate knows no driver,
//! no bus and no kernel.
//!
//! | module | what |
//! | --- | --- |
//! | [`mmio`] | a window of device registers |
//! | [`dma`] | memory that processor and device share |
//! | [`time`] | the monotonic clock, sleeping, deadlines |
//! | [`interrupt`] | waiting until a device asks for attention |
//! | [`entropy`] | random bytes |
//! | [`network`] | the face of a network device towards the network layer |
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod dma;
pub mod entropy;
pub mod interrupt;
pub mod mmio;
pub mod network;
pub mod time;
