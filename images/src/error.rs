//! What can go wrong on the host's side, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a command could not do its work.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The image, or what measures it, did not build; the compiler's words.
    Build(String),
    /// What was built is not an ELF file that can be booted.
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A program that is needed is not there, and could not be installed; what to do.
    Missing {
        /// The program.
        program: &'static str,
        /// How the user gets it.
        remedy: String,
    },
    /// QEMU ended before the guest said anything; what is known about it.
    NoGuest(String),
    /// The guest ended before it should; what is known about it.
    GuestDied(String),
    /// The guest runs, and not every network card of it has an address.
    NoAddress {
        /// Why, as far as the guest has told.
        why: String,
        /// Its last console lines.
        console: String,
    },
    /// The guest runs but did not do what was waited for.
    GuestStalled {
        /// What was waited for.
        waiting_for: String,
        /// Its last console lines.
        console: String,
    },
    /// QEMU's monitor answered with an error.
    Monitor(String),
    /// The user asked for a combination that does not exist.
    Usage(String),
    /// The system refused something.
    System {
        /// What was tried.
        action: String,
        /// What it said.
        source: io::Error,
    },
}

/// What `skiff` ends with; its help says the same.
pub mod exit_status {
    /// Done; every ping was answered.
    pub const DONE: u8 = 0;
    /// Pings were lost, or the guest died.
    pub const LOST: u8 = 1;
    /// The arguments are wrong, do not go together, or ask for what this machine has not.
    pub const USAGE: u8 = 2;
    /// Nothing could be started.
    pub const NOT_STARTED: u8 = 3;
    /// The guest got no address.
    pub const NO_ADDRESS: u8 = 4;
}

impl Error {
    /// What `skiff` ends with when nothing came of a command but this.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => exit_status::USAGE,
            Self::NoAddress { .. } => exit_status::NO_ADDRESS,
            Self::GuestDied(_) | Self::GuestStalled { .. } => exit_status::LOST,
            Self::Build(_)
            | Self::Elf { .. }
            | Self::Missing { .. }
            | Self::NoGuest(_)
            | Self::Monitor(_)
            | Self::System { .. } => exit_status::NOT_STARTED,
        }
    }

    /// Says what was tried when `source` happened.
    pub fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}

/// The end of a console, which may be empty.
fn last_words(console: &str) -> String {
    if console.is_empty() { "Its console is empty.".into() } else { format!("Its last words:\n{console}") }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(messages) => write!(formatter, "the build failed:\n{messages}"),
            Self::Elf { path, problem } => write!(formatter, "{}: {problem}", path.display()),
            Self::Missing { program, remedy } => write!(formatter, "{program} is missing: {remedy}"),
            Self::NoGuest(report) => write!(formatter, "QEMU could not start the guest.\n{report}"),
            Self::GuestDied(report) => write!(formatter, "the guest died.\n{report}"),
            Self::NoAddress { why, console } => {
                write!(formatter, "the guest got no address: {why}.\n{}", last_words(console))
            }
            Self::GuestStalled { waiting_for, console } => {
                let console = last_words(console);
                write!(formatter, "the guest runs, but {waiting_for} did not happen.\n{console}")
            }
            Self::Monitor(message) => write!(formatter, "QEMU's monitor: {message}"),
            Self::Usage(message) => formatter.write_str(message),
            Self::System { action, source } => write!(formatter, "{action}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System { source, .. } => Some(source),
            _ => None,
        }
    }
}
