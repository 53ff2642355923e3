//! Driver of USB host controllers after the eXtensible Host Controller Interface, revision 1.2.
//!
//! Clause numbers in this crate are that specification's. It implements [`usb::host::HostController`]: the USB core
//! above it enumerates; this crate knows registers, rings, contexts and commands.
//!
//! | module | what | clauses |
//! | --- | --- | --- |
//! | [`regs`] | registers, checked capabilities | 5 |
//! | [`extended`] | BIOS hand-off, port protocols and speeds | 7 |
//! | [`trb`], [`ring`] | transfer request blocks and the rings of them | 4.9, 6.4 |
//! | [`context`] | device and input contexts | 6.2 |
//! | [`controller`] | start, event task, death and restart | 4.2 |
//! | [`counters`] | what is counted | |
//! | [`command`] | commands as futures, bringing endpoints to a standstill | 4.6 |
//! | [`endpoint`], [`pipe`] | transfers and who owns their memory | 4.10, 4.11 |
//! | [`slot`] | devices: address, configure, control transfers | 4.3, 4.5 |
//! | [`host`] | root ports | 4.19 |
//!
//! # Laws
//!
//! 1. The controller's word indexes nothing: slots, endpoints, TRB addresses and lengths in events are looked up in
//!    what the driver itself knows.
//! 2. Memory in a ring belongs to the controller until an event names it, its endpoint stands still, or the controller
//!    was reset. A controller that cannot be reset keeps the memory for ever.
//! 3. No borrow of shared state is held over an await, and nothing is woken while one is needed by the woken.
//!
//! Not supported: isochronous endpoints, streams, secondary interrupters, virtualization, power saving link states.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod command;
pub mod context;
pub mod controller;
pub mod counters;
pub mod endpoint;
pub mod error;
pub mod extended;
pub mod host;
pub mod pipe;
pub mod regs;
pub mod ring;
pub mod slot;
pub mod trb;

pub use controller::{Config, Controller};
pub use counters::Counters;
pub use error::ControllerError;
pub use pipe::XhciPipe;
pub use slot::Slot;
