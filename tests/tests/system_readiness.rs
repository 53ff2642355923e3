//! A guest that gets no address: what it waits for is said, and what is hopeless is not waited for.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use images::Error;
use images::console::Transcript;
use images::dongle::Command;
use images::guest::{Guest, GuestConfiguration};
use images::nic::Nic;
use images::readiness::{Cards, Patience, wait_ready};
use lab_rtl8152::LinkSpeed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skiff_tests::command::skiff;
use skiff_tests::guest::{configuration, qemu};
use skiff_tests::namespace::{in_namespace, ip};

const TURN: Duration = Duration::from_millis(1);

/// Waits with nobody at the other end of the cables until `enough`, and gives why there is no address.
fn without_address(guest: &mut Guest, cards: &Cards, enough: impl Fn(&Transcript) -> bool) -> String {
    let stop = AtomicBool::new(false);
    let patience = Patience { stop: Some(&stop), ..Patience::default() };
    let mut look = |transcript: &Transcript| stop.store(enough(transcript), Ordering::Relaxed);
    let result = wait_ready(guest, cards, &patience, None, &mut || std::thread::sleep(TURN), &mut look);
    match result {
        Err(Error::NoAddress { why, .. }) => why,
        Ok(()) => panic!("it has an address"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_guest_without_a_network_device_that_it_drives_is_given_up_at_once() {
    let unknown_cards: [&[&str]; 3] =
        [&[], &["-device", "e1000,romfile="], &["-device", "qemu-xhci", "-device", "usb-tablet"]];
    for devices in unknown_cards {
        let extra_arguments = devices.iter().map(|&word| word.to_owned()).collect();
        let configuration = GuestConfiguration { extra_arguments, ..configuration(&[]) };
        let (mut guest, _) = Guest::start(qemu(), &configuration).unwrap();
        let cards = Cards { macs: vec![[0x52, 0x54, 0, 0x12, 0x34, 0x56]], handed_over: 0 };
        let why = without_address(&mut guest, &cards, |_| false);
        assert!(why.starts_with("it found no network device that it drives"), "{devices:?}: {why}");
    }
}

#[test]
fn a_card_that_is_not_driven_beside_one_that_is_is_not_waited_for() {
    let configuration = configuration(&[Nic::Virtio]);
    let (mut guest, _cables) = Guest::start(qemu(), &configuration).unwrap();
    let cards = Cards { handed_over: 1, ..configuration.cards() };
    let why = without_address(&mut guest, &cards, |_| false);
    assert!(why.starts_with("it has 2 network cards and drives 1 of them"), "{why}");
}

#[test]
fn a_cable_that_is_not_plugged_in_is_named() {
    let configuration = configuration(&[Nic::Rtl8153]);
    let (mut guest, _cables) = Guest::start(qemu(), &configuration).unwrap();
    let remote = guest.dongle(0).unwrap().clone();
    remote.command(Command::Cable(None));
    let everything_was_looked_at = |transcript: &Transcript| transcript.devices_found.is_some();
    let why = without_address(&mut guest, &configuration.cards(), everything_was_looked_at);
    assert!(why.contains("waiting for eth0 (rtl8153a): a link"), "{why}");
    // It is asked for an address as soon as there is a link.
    remote.command(Command::Cable(Some(LinkSpeed::M1000)));
    let asked = |transcript: &Transcript| transcript.interfaces["eth0"].discoveries > 0;
    let why = without_address(&mut guest, &configuration.cards(), asked);
    assert!(why.contains("eth0 (rtl8153a): an answer to DHCP"), "{why}");
}

#[test]
fn a_dhcp_server_that_does_not_answer_is_named_with_the_number_of_attempts() {
    let configuration = configuration(&[Nic::Virtio]);
    let (mut guest, _cables) = Guest::start(qemu(), &configuration).unwrap();
    let asked_again = |transcript: &Transcript| {
        transcript.interfaces.get("eth0").is_some_and(|state| state.discoveries == 2)
    };
    let why = without_address(&mut guest, &configuration.cards(), asked_again);
    assert!(why.contains("an answer to DHCP, asked 2 times"), "{why}");
}

#[test]
fn on_a_tap_without_a_dhcp_server_skiff_says_so_while_it_waits_and_when_it_ends() {
    in_namespace("no DHCP on a tap", || {
        ip("tuntap add dev tap0 mode tap");
        ip("link set tap0 up");
        let mut command = skiff();
        command.args(["run", "--nic", "virtio", "--tap", "tap0"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = said.find(|line| line.contains("DHCP, asked ")).expect("it is said before it ends");
        assert!(line.starts_with("skiff: waiting for eth0 (virtio-net): an answer to DHCP"), "{line}");
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        let line = said.find(|line| line.contains("got no address")).expect("it is said at the end");
        assert!(line.contains("DHCP, asked "), "{line}");
        assert_eq!(child.wait().unwrap().code(), Some(4));
    });
}
