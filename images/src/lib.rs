//! The host tool as a library: builds images, boots them in QEMU, pings them, measures them.
//!
//! | module | idea |
//! | --- | --- |
//! | [`arguments`] | the command line of `skiff` |
//! | [`image`] | cargo builds the image; the file that boots is cut out of what it linked |
//! | [`passed_through`] | USB adapters and controllers of this machine, handed to the guest |
//! | [`qemu`] | QEMU found or installed, its command line, its monitor, one at a time |
//! | [`tap`] | a tap interface for a guest: an existing one, or one that goes with it |
//! | [`nic`] | the network cards a guest can have, and what they are plugged into |
//! | [`dongle`], [`dongle_command`] | the virtual USB adapter in real time; `skiff dongle`: it alone |
//! | [`guest`] | a running guest: started, watched, stopped, never outliving its owner |
//! | [`console`] | what the guest says on its serial console |
//! | [`news`] | what whoever holds a guest is told as it happens |
//! | [`readiness`] | waiting for a guest's addresses, and saying what it waits for |
//! | [`stop`], [`temporary`] | Ctrl-C ends a run in order; files that no end of this process leaves behind |
//! | [`output`], [`progress`] | what is said: results, what happens meanwhile, what is being done right now |
//! | [`symbols`] | an exception's addresses turned into functions and lines |
//! | [`run`] | `skiff run`: boot, ping, report; or hold a tap |
//! | [`wired`] | a guest whose cards are wired to hosts of ours |
//! | [`mod@bench`] | `skiff bench`: what an echo costs |
//! | [`oracle`] | `skiff oracle`: Linux judges the virtual hardware |
//! | [`report`], [`statistics`] | the summary, for people and as JSON |
//! | [`mod@error`] | what can go wrong, and the exit statuses |
#![forbid(unsafe_code)]

pub mod arguments;
pub mod bench;
pub mod console;
pub mod dongle;
pub mod dongle_command;
pub mod error;
pub mod guest;
pub mod image;
pub mod news;
pub mod nic;
pub mod oracle;
pub mod output;
pub mod passed_through;
pub mod progress;
pub mod qemu;
pub mod readiness;
pub mod report;
pub mod run;
pub mod statistics;
pub mod stop;
pub mod symbols;
pub mod tap;
pub mod temporary;
pub mod wired;

pub use error::Error;
