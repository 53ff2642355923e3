//! QEMU: found or installed, what its version can do, one at a time.

mod lock;
mod monitor;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::unistd::geteuid;

pub use lock::MachineLock;
pub use monitor::Monitor;

use crate::error::Error;
use crate::progress::Progress;

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
            return Self::at(Path::new(&path));
        }
        match Self::at(Path::new(PROGRAM)) {
            Err(Error::Missing { .. }) => {
                install(PROGRAM, &["qemu-system-x86"])?;
                Self::at(Path::new(PROGRAM))
            }
            found => found,
        }
    }

    fn at(path: &Path) -> Result<Self, Error> {
        let missing = || Error::Missing {
            program: PROGRAM,
            remedy: format!(
                "install it (Debian, Ubuntu: apt install qemu-system-x86), or name one by {QEMU_VARIABLE}"
            ),
        };
        let text = output(Command::new(path).arg("--version")).ok_or_else(missing)?;
        let version = parse_version(&text).ok_or_else(missing)?;
        let folders = output(Command::new(path).args(["-L", "help"])).unwrap_or_default();
        let has_qboot = folders.lines().any(|folder| Path::new(folder.trim()).join("qboot.rom").exists());
        Ok(Self { path: path.to_path_buf(), version, has_qboot })
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

/// Installs packages of the distribution, if this process may.
///
/// # Errors
///
/// [`Error::Missing`], which says what to do, when it may not or it fails.
pub fn install(program: &'static str, packages: &[&str]) -> Result<(), Error> {
    let command = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    let remedy = |why: &str| Error::Missing { program, remedy: format!("{why}; as root: {command}") };
    if !geteuid().is_root() {
        return Err(remedy("this user may not install it"));
    }
    if output(Command::new("apt-get").arg("--version")).is_none() {
        return Err(remedy("this system has no apt to install it with"));
    }
    // Who comes second finds the packages there, and apt has nothing left to do.
    let _lock = MachineLock::of_packages()?;
    let progress = Progress::new(format!("installing {}", packages.join(" ")));
    let apt = |arguments: &[&str]| {
        Command::new("apt-get")
            .args(["-qq", "-o", "DPkg::Lock::Timeout=300"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend_from_slice(packages);
    // A fresh system has no package lists, an old one has stale ones.
    if apt(&arguments) {
        return Ok(());
    }
    progress.update("updating the package lists");
    let updated = apt(&["update"]);
    progress.update(format!("installing {}", packages.join(" ")));
    if updated && apt(&arguments) { Ok(()) } else { Err(remedy("apt could not install it")) }
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
