//! The network layer: interfaces, the echo path on netbufs, and smoltcp behind a seam for everything else.
//!
//! | module | what |
//! | --- | --- |
//! | [`interface`] | one task per device: receive a batch, answer it, transmit the answers |
//! | [`receive`] | what happens to a frame: answered, held, passed on or dropped |
//! | [`echo`] | a request becomes its reply in its own buffer |
//! | [`reassembly`] | fragmented requests, put together without copying |
//! | [`options`] | IPv4 options in requests |
//! | [`conflict`] | probe, announce and defend an address |
//! | [`stack`] | the seam to smoltcp: DHCP, ARP resolution, what comes later |
//! | [`configuration`], [`counters`], [`table`] | what is set, what is counted, which interfaces there are |
//! | [`wire`] | checked views over the bytes of a frame |
//!
//! Nothing here knows a driver or the hardware: devices are [`hal::network::NetworkDevice`]s, time is a
//! [`hal::time::Clock`], memory is a [`netbuf::Memory`]. So all of it runs on the host against a device that a test
//! plays.

pub mod configuration;
pub mod conflict;
pub mod counters;
pub mod echo;
pub mod interface;
pub mod options;
pub mod reassembly;
pub mod receive;
pub mod stack;
pub mod table;
pub mod wire;

pub use configuration::Configuration;
pub use interface::{Environment, run_interface};
pub use table::Table;
