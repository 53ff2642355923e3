//! A network namespace for one test: taps and addresses in it are nobody else's, and go with the test.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use images::qemu::install;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

/// Runs `work` on a thread in a network namespace of its own; programs that it starts are in there too. Without the
/// right to make one, says so on standard error and returns `None`.
///
/// # Panics
///
/// When `work` does, and when programs are missing that cannot be installed.
pub fn in_namespace<Result: Send>(test: &str, work: impl FnOnce() -> Result + Send) -> Option<Result> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // Not by a macro: what those print is shown only when the test fails.
            let skip = |why: &str| drop(writeln!(std::io::stderr(), "{test}: SKIPPED, {why}"));
            if !geteuid().is_root() {
                skip("it needs root");
                return None;
            }
            // Before the namespace, from which nothing can be fetched.
            need("ip", "-V", "iproute2");
            need("ping", "-V", "iputils-ping");
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                skip(&format!("no network namespace to be had ({error})"));
                return None;
            }
            ip("link set lo up");
            Some(work())
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn need(program: &'static str, version: &str, package: &str) {
    let found = Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        install(program, &[package]).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Runs `ip` with these words.
///
/// # Panics
///
/// When it fails.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_ascii_whitespace()).status().expect("ip runs");
    assert!(status.success(), "ip {arguments}: {status}");
}
