//! QEMU: found or installed, what its version can do, one at a time.

mod install;
mod lock;
mod monitor;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

pub use install::{bounded_apt, install};
pub use lock::MachineLock;
pub use monitor::Monitor;

use crate::error::Error;

const PROGRAM: &str = "qemu-system-x86_64";

/// Names the QEMU to use instead of the one in the path.
pub const QEMU_VARIABLE: &str = "SKIFF_QEMU";

/// What runs the guest's machine up to its first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// qboot where QEMU ships it: a hundredth of the instructions of SeaBIOS. SeaBIOS otherwise.
    Fastest,
    /// SeaBIOS, as most machines of clouds have.
    SeaBios,
}

/// An installed QEMU.
#[derive(Clone, Debug)]
pub struct Qemu {
    /// The program.
    pub path: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
    /// It ships the qboot firmware.
    has_qboot: bool,
}

impl Qemu {
    /// Finds QEMU: the one that [`QEMU_VARIABLE`] names, or the one in the path. When there is none it is installed from
    /// the distribution's packages, if this process is root on a system with apt.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], which says what to do, when QEMU cannot be had.
    pub fn find() -> Result<Self, Error> {
        // Tests ask for it from many threads at once; one of them installs.
        static FINDING: Mutex<()> = Mutex::new(());
        let _finding = FINDING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = env::var_os(QEMU_VARIABLE) {
            return Self::at(Path::new(&path)).ok_or_else(|| Error::Missing {
                program: PROGRAM,
                remedy: format!(
                    "{QEMU_VARIABLE} names {}, which is no QEMU that runs; name another one, or unset it",
                    Path::new(&path).display()
                ),
            });
        }
        if let Some(found) = Self::at(Path::new(PROGRAM)) {
            return Ok(found);
        }
        install(PROGRAM, &["qemu-system-x86"])?;
        Self::at(Path::new(PROGRAM)).ok_or_else(|| Error::Missing {
            program: PROGRAM,
            remedy: format!(
                "its package is installed, but it is not in the path; name it by {QEMU_VARIABLE}"
            ),
        })
    }

    /// The QEMU at this path; `None` when there is none, or it does not say its version.
    fn at(path: &Path) -> Option<Self> {
        let version = parse_version(&output(Command::new(path).arg("--version"))?)?;
        let folders = output(Command::new(path).args(["-L", "help"])).unwrap_or_default();
        let has_qboot = folders.lines().any(|folder| Path::new(folder.trim()).join("qboot.rom").exists());
        Some(Self { path: path.to_path_buf(), version, has_qboot })
    }

    /// The kind of `-netdev` that takes a connected stream socket by number.
    #[must_use]
    pub fn stream_netdev(&self, id: &str, descriptor: i32) -> String {
        if self.version >= (7, 2) {
            format!("stream,id={id},server=off,addr.type=fd,addr.str={descriptor}")
        } else {
            format!("socket,id={id},fd={descriptor}")
        }
    }

    /// The arguments that choose this firmware.
    #[must_use]
    pub fn firmware_arguments(&self, firmware: Firmware) -> Vec<String> {
        if firmware == Firmware::Fastest && self.has_qboot {
            vec!["-bios".into(), "qboot.rom".into()]
        } else {
            Vec::new()
        }
    }
}

/// Standard output of a program that ends well; `None` when it is not there or ends otherwise.
fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Major and minor of "QEMU emulator version 7.2.22 (Debian ...)".
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split("version ").nth(1)?.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qemu(version: (u32, u32)) -> Qemu {
        Qemu { path: PROGRAM.into(), version, has_qboot: false }
    }

    #[test]
    fn versions_are_read_from_what_distributions_print() {
        assert_eq!(
            parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright"),
            Some((7, 2))
        );
        assert_eq!(parse_version("QEMU emulator version 11.1.3"), Some((11, 1)));
        assert_eq!(parse_version("something else"), None);
    }

    #[test]
    fn a_qemu_without_stream_backends_gets_the_older_one() {
        assert_eq!(qemu((6, 2)).stream_netdev("net0", 5), "socket,id=net0,fd=5");
        assert!(qemu((7, 2)).stream_netdev("net0", 5).starts_with("stream,"));
    }
}
