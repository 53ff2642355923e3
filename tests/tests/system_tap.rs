//! Real Linux tools against the image on a tap, in a network namespace that the test makes; needs root.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use skiff_tests::command::skiff;
use skiff_tests::namespace::{in_namespace, ip};

/// `skiff run --tap ...` that has said `ready:`.
struct Held {
    child: Child,
    output: BufReader<ChildStdout>,
    address: String,
}

impl Held {
    fn start(arguments: &[&str]) -> Self {
        let mut child =
            skiff().arg("run").arg("--json").args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address =
            line.strip_prefix("ready: ").expect("the first line says where it is").trim().to_owned();
        Self { child, output, address }
    }

    /// Ctrl-C; the summary that follows.
    fn stop(mut self) -> Value {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        self.summary()
    }

    fn summary(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(&line).unwrap()
    }
}

/// Runs Debian's ping and returns what it printed, if nothing was lost.
fn ping(arguments: &[&str]) -> String {
    let output = Command::new("ping").arg("-n").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains(" 0% packet loss"), "{text}");
    text
}

#[test]
fn a_real_flood_of_100_000_pings_loses_nothing() {
    in_namespace("flood over a tap", || {
        ip("tuntap add dev tap0 mode tap");
        ip("address add 10.9.0.1/24 dev tap0");
        ip("link set tap0 up");
        let held = Held::start(&["--nic", "virtio", "--tap", "tap0", "--cmdline", "ip=10.9.0.2/24"]);
        assert_eq!(held.address, "10.9.0.2");
        ping(&["-f", "-q", "-c", "100000", &held.address]);
        let summary = held.stop();
        assert!(summary["counters"]["echo_replies"].as_u64() >= Some(100_000), "{summary}");
        assert_eq!(summary["counters"]["payload_bytes_copied"], 0);
        assert_eq!(summary["sent"], 0, "skiff itself pings nothing on a tap");
    });
}

#[test]
fn a_tap_that_does_not_exist_is_made_and_goes_with_the_guest() {
    in_namespace("made tap", || {
        let mut held = Held::start(&["--tap", "made0", "--for", "3s"]);
        ping(&["-c", "3", "-i", "0.2", "-s", "1472", &held.address]);
        held.summary();
        let gone = Command::new("ip").args(["link", "show", "made0"]).stderr(Stdio::null()).status().unwrap();
        assert!(!gone.success(), "the tap is gone");
    });
}
