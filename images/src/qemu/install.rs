//! Programs that are missing are installed from the distribution's packages, if this process may; otherwise the user is
//! told how.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::unistd::geteuid;

use super::lock::MachineLock;
use crate::error::Error;
use crate::progress::Progress;

/// What makes apt wait for others, but neither for ever nor in vain: for another apt to end; for a server that does not
/// answer, and once more. A package list that cannot be fetched is an error, not a warning.
const BOUNDS: [&str; 5] = [
    "DPkg::Lock::Timeout=300",
    "Acquire::http::Timeout=10",
    "Acquire::https::Timeout=10",
    "Acquire::Retries=1",
    "APT::Update::Error-Mode=any",
];

/// Installs packages of the distribution, if this process may: `program` was looked for and not found. What failed once is
/// not tried again: a mirror that is not to be reached costs each attempt half a minute.
///
/// # Errors
///
/// [`Error::Missing`], which says what to do, when it may not or it fails.
pub fn install(program: &'static str, packages: &[&str]) -> Result<(), Error> {
    static FAILED: Mutex<BTreeMap<&str, String>> = Mutex::new(BTreeMap::new());
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(remedy) = failed.get(program) {
        return Err(Error::Missing { program, remedy: remedy.clone() });
    }
    let result = try_install(program, packages);
    if let Err(Error::Missing { remedy, .. }) = &result {
        failed.insert(program, remedy.clone());
    }
    result
}

fn try_install(program: &'static str, packages: &[&str]) -> Result<(), Error> {
    let command = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    let remedy = |why: &str| Error::Missing { program, remedy: format!("{why}; as root: {command}") };
    let apt_is_there = Command::new("apt-get")
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !apt_is_there {
        let packages = packages.join(" ");
        let remedy =
            format!("this system has no apt to install it with; install what Debian calls {packages}");
        return Err(Error::Missing { program, remedy });
    }
    if !geteuid().is_root() {
        return Err(remedy("this user may not install it"));
    }
    // Who comes second finds the packages there, and apt has nothing left to do.
    let _lock = MachineLock::of_packages()?;
    let progress = Progress::new("");
    let install = ["install", "-y", "--no-install-recommends"];
    let install = || {
        progress.say(format!("{program} is missing: installing {}", packages.join(" ")));
        apt(&[&install, packages].concat())
    };
    // A fresh system has no package lists, an old one has stale ones.
    let installed = install().or_else(|_| {
        progress.say("updating the package lists".into());
        let updated = apt(&["update"]);
        // One source of several that fails need not be the one that matters; if it is, it is the reason.
        install().map_err(|why| updated.err().unwrap_or(why))
    });
    installed.map_err(|why| remedy(&format!("apt could not install it ({why})")))
}

/// An `apt-get` that does not wait for ever, and says only what is wrong.
pub fn bounded_apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.arg("-qq").args(BOUNDS.iter().flat_map(|bound| ["-o", bound]));
    apt
}

/// Runs apt to its end; what it complained about is the error.
fn apt(arguments: &[&str]) -> Result<(), String> {
    let output = bounded_apt()
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(complaint(&String::from_utf8_lossy(&output.stderr))) }
}

/// The first error among what apt says: those that follow are its consequences.
fn complaint(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines().find(|line| line.starts_with("E:") || line.starts_with("Err:"));
    first.or_else(|| lines().next()).unwrap_or("it does not say why").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_of_apt_is_told() {
        let text = "W: something\nE: Failed to fetch http://x/InRelease  Connection timed out\nE: Some index files\n";
        assert_eq!(complaint(text), "E: Failed to fetch http://x/InRelease  Connection timed out");
        assert_eq!(complaint("\n odd\n"), "odd");
        assert_eq!(complaint(""), "it does not say why");
    }
}
