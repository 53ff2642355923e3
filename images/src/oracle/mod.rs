//! `skiff oracle`: an unmodified Debian Linux says whether our virtual hardware is right, and whether passthrough works.
//!
//! Not part of the tests that every change runs: it needs Debian's packages, which it fetches by itself.
//!
//! | module | idea |
//! | --- | --- |
//! | [`packages`] | Debian packages fetched and unpacked, nothing installed |
//! | [`modules`] | the kernel modules a guest needs, in the order they load |
//! | [`archive`] | an initial RAM file system, written without cpio |
//! | [`accesses`] | two logs of register accesses compared |
//! | [`streams`] | the TCP host that Linux sends to and receives from |
//! | [`linux`] | Linux booted with a script of ours as its first process |
//! | [`passthrough`] | a guest in a guest: the adapter passed through to an image of ours |
//! | [`programs`] | programs of this machine with all their libraries, for a guest |
//! | [`rtl8153`] | every chip version under Linux's r8152 |

pub mod accesses;
pub mod archive;
pub mod linux;
pub mod modules;
pub mod packages;
pub mod passthrough;
pub mod programs;
pub mod rtl8153;
pub mod streams;

use clap::{Args, Subcommand};

use crate::arguments::exit_status;
use crate::error::Error;

/// Arguments of `skiff oracle`.
#[derive(Clone, Debug, Args)]
#[command(after_help = exit_status!())]
pub struct OracleArguments {
    /// What is put to the test
    #[command(subcommand)]
    pub question: Question,
}

/// What an oracle can be asked.
#[derive(Clone, Debug, Subcommand)]
pub enum Question {
    /// The virtual RTL8152-family adapter, driven by Linux's r8152 in every chip version
    Rtl8153(rtl8153::Rtl8153Arguments),
    /// USB passthrough: Linux has the virtual adapter and hands it by `-device usb-host` to our image in a QEMU of its own
    Passthrough(passthrough::PassthroughArguments),
}

/// Carries out `skiff oracle`; true: all is as it should be. What was found goes to standard output.
///
/// # Errors
///
/// What kept the oracle from being asked.
pub fn run(arguments: &OracleArguments) -> Result<bool, Error> {
    match &arguments.question {
        Question::Rtl8153(arguments) => rtl8153::run(arguments),
        Question::Passthrough(arguments) => passthrough::run(arguments),
    }
}
