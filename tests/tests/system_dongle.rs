//! `skiff dongle` as a program of its own, plugged into guests by its socket.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use images::guest::{Guest, GuestConfiguration};
use lab_wire::{Cable, Host, HostConfiguration, Pace, PingRequest};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skiff_tests::command::skiff;
use skiff_tests::folder::Folder;
use skiff_tests::guest::{image, qemu};

/// Only against a hang.
const LIMIT: Duration = Duration::from_secs(120);

/// The program; killed at the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_dongle_with_faults_serves_one_guest_after_the_other() {
    let folder = Folder::new("dongle");
    let faults = "bulk-in 20 corrupt rx.length 0x7fff\nbulk-out 30 stall\nbulk-in 60 babble\n\
                  control 200 timeout\nbulk-out 90 disconnect 200ms  # and back again\n";
    fs::write(folder.file("faults"), faults).unwrap();
    let wire = UnixListener::bind(folder.file("wire")).unwrap();
    let mut command = skiff();
    command.args(["dongle", "--version", "8153b", "--wire", &folder.file("wire")]);
    command.args(["--faults", &folder.file("faults"), "--log", &folder.file("log")]);
    command.args(["--listen", &folder.file("socket")]).stdout(Stdio::null());
    let _dongle = Running(command.spawn().unwrap());
    let (socket, _) = wire.accept().unwrap();
    let mut host = Host::new(Cable::qemu_stream(socket).unwrap(), HostConfiguration::of_network(0));
    let begin = Instant::now();
    while !folder.path().join("socket").exists() {
        assert!(begin.elapsed() < LIMIT, "the dongle never listened");
        std::thread::sleep(Duration::from_millis(20));
    }
    for round in 0..2 {
        let mut configuration = GuestConfiguration::new(image());
        configuration.extra_arguments = [
            "-chardev",
            &format!("socket,id=dongle,path={}", folder.file("socket")),
            "-device",
            "qemu-xhci",
            "-device",
            "usb-redir,chardev=dongle",
        ]
        .map(str::to_owned)
        .to_vec();
        let (mut guest, _) = Guest::start(qemu(), &configuration).unwrap();
        let mut serve = || drop(host.serve(Duration::from_millis(2)));
        let ready = guest.wait_until("an address", LIMIT, None, &mut serve, &mut |t| !t.ready.is_empty());
        ready.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let address = guest.transcript().ready[0].address;
        let mut answered = 0;
        let begin = Instant::now();
        // Every fault costs some; what counts is that it goes on, and ends with a run without any loss.
        while answered < 100 {
            let request = PingRequest {
                pace: Pace::Flood { in_flight: 4 },
                timeout: Duration::from_millis(500),
                ..PingRequest::new(address, 100, 500)
            };
            answered = host.ping(&request, &mut |_| {}).map_or(0, |outcome| outcome.replies.len());
            assert!(begin.elapsed() < LIMIT, "round {round}: {}", guest.obituary());
        }
        let mut serve = || drop(host.serve(Duration::from_millis(2)));
        guest.shut_down(LIMIT, &mut serve).unwrap();
    }
    let log = fs::read_to_string(folder.file("log")).unwrap();
    // Each guest asks for the version, and finds the one that was ordered.
    assert!(
        log.lines().filter(|line| line.starts_with("R  PLA e610") && line.contains("-> 60")).count() >= 2
    );
}

#[test]
fn an_interrupted_dongle_leaves_no_socket_behind() {
    let folder = Folder::new("dongle-interrupted");
    // It outlives its terminal if that is wanted.
    let mut command = Command::new("nohup");
    command.arg(skiff().get_program()).args(["dongle", "--listen", &folder.file("socket")]);
    let mut dongle = Running(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(dongle.0.stdout.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().ends_with("/socket"));
    let process = Pid::from_raw(dongle.0.id().try_into().unwrap());
    kill(process, Signal::SIGHUP).unwrap();
    // Whom it lets in is alive.
    UnixStream::connect(folder.file("socket")).unwrap();
    assert!(said.next().unwrap().unwrap().contains("a guest connects"));
    kill(process, Signal::SIGINT).unwrap();
    assert_eq!(dongle.0.wait().unwrap().signal(), Some(Signal::SIGINT as i32));
    assert!(!folder.path().join("socket").exists());
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let folder = Folder::new("dongle-refused");
    fs::write(folder.file("plan"), "control 1 stall\ncontrol x stall\n").unwrap();
    fs::write(folder.file("field"), "start corrupt device.nothing 1\n").unwrap();
    fs::write(folder.file("file"), "not a socket").unwrap();
    let plan = folder.file("plan");
    let field = folder.file("field");
    let file = folder.file("file");
    let listen = folder.file("socket");
    for (arguments, reason) in [
        (vec!["--version", "8159", "--listen", &listen], "no such chip; there are 8152"),
        (vec!["--version", "8152b", "--speed", "super", "--listen", &listen], "USB 2.0"),
        (vec!["--mac", "01:00:00:00:00:01", "--listen", &listen], "not a unicast address"),
        (vec!["--faults", &plan, "--listen", &listen], "fault plan, line 2"),
        (vec!["--faults", &field, "--listen", &listen], "no descriptor field is called `device.nothing`"),
        (vec!["--wire", "/nonexistent/wire", "--listen", &listen], "cannot connect to /nonexistent/wire"),
        (vec!["--listen", &file], "cannot listen at"),
    ] {
        let output = skiff().arg("dongle").args(&arguments).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(reason), "{arguments:?}: {text}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "not a socket");
}
