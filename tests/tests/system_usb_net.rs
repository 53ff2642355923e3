//! USB under QEMU, with devices that nobody here wrote: `usb-net` directly and behind nested hubs, hot-plugged under
//! traffic, and beside devices that are none of our business.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use images::console::Transcript;
use images::guest::{Guest, GuestConfiguration};
use images::nic::Nic;
use lab_wire::{Cable, Host, HostConfiguration, Pace, PingRequest};
use serde_json::json;
use skiff_tests::guest::{Counters, boot, configuration, image, ping, power_off, qemu};

/// For hangs only: two cores may be shared with anything.
const PATIENCE: Duration = Duration::from_secs(120);
const MACS: [&str; 2] = ["52:54:00:12:34:56", "52:54:00:12:34:57"];

/// A guest whose devices a test chooses itself, with a cable to each of its network back ends.
struct Rig {
    guest: Guest,
    hosts: Vec<Host>,
}

impl Rig {
    /// Starts the guest with `networks` back ends named `net0` and so on, and these devices.
    fn start(networks: u8, devices: &[&str]) -> Self {
        let configuration = GuestConfiguration::new(image());
        let mut hosts = Vec::new();
        let started = Guest::start_with(qemu(), &configuration, |descriptors| {
            let mut arguments = Vec::new();
            for network in 0..networks {
                let (number, socket) = descriptors.add_socket().unwrap();
                let cable = Cable::qemu_stream(socket).unwrap();
                hosts.push(Host::new(cable, HostConfiguration::of_network(network)));
                arguments.extend(["-netdev".into(), qemu().stream_netdev(&format!("net{network}"), number)]);
            }
            arguments.extend(devices.iter().flat_map(|device| ["-device".into(), (*device).into()]));
            arguments
        });
        Self { guest: started.unwrap().0, hosts }
    }

    fn wait(&mut self, what: &str, mut done: impl FnMut(&Transcript) -> bool) {
        let Self { guest, hosts } = self;
        let mut serve = || hosts.iter_mut().for_each(|host| drop(host.serve(Duration::from_millis(1))));
        let waited = guest.wait_until(what, PATIENCE, None, &mut serve, &mut done);
        waited.unwrap_or_else(|error| panic!("{error}\n{}", self.guest.obituary()));
    }

    fn wait_for_addresses(&mut self, count: usize) {
        self.wait("addresses", |transcript| transcript.ready.len() == count);
    }

    fn ping(&mut self, network: usize, count: u64, size: usize, in_flight: usize) {
        let request = PingRequest {
            pace: Pace::Flood { in_flight },
            timeout: Duration::from_secs(30),
            ..PingRequest::new(Ipv4Addr::new(10, 0, network as u8, 2), count, size)
        };
        let outcome = self.hosts[network].ping(&request, &mut |_| {}).unwrap();
        let answered = outcome.is_complete() && outcome.sent == count;
        assert!(answered, "network {network}, {size} bytes: {outcome:?}\n{}", self.guest.obituary());
    }

    fn command(&mut self, command: &str, arguments: serde_json::Value) {
        self.guest.monitor().unwrap().execute(command, &arguments).unwrap();
    }

    fn power_off(&mut self) -> (Vec<Counters>, u64) {
        let Self { guest, hosts } = self;
        let mut serve = || hosts.iter_mut().for_each(|host| drop(host.serve(Duration::from_millis(1))));
        guest.shut_down(PATIENCE, &mut serve).unwrap();
        let transcript = guest.transcript();
        (transcript.counters.values().cloned().collect(), transcript.memory_used.unwrap())
    }

    fn has_said(&mut self, text: &str) -> bool {
        self.guest.transcript().lines().any(|line| line.contains(text))
    }
}

fn sum(counters: &Counters, name: &str) -> u64 {
    counters.get(name).copied().unwrap_or(0)
}

#[test]
fn usb_net_answers_a_thousand_pings_of_every_size() {
    let mut guest = boot(&configuration(&[Nic::CdcEcm]));
    ping(&mut guest, 1000, 56, 1);
    for size in (0..=1472).step_by(23) {
        ping(&mut guest, 4, size, 1);
    }
    // Fragments, up to the largest datagram that IPv4 carries.
    for size in [1473, 2000, 2952, 8000, 65507] {
        ping(&mut guest, 4, size, 1);
    }
    ping(&mut guest, 1000, 1400, 8);
    let counters = power_off(guest);
    assert!(sum(&counters[0], "xhci_doorbells") > 1000, "{counters:?}");
    assert_eq!(sum(&counters[0], "xhci_lost_interrupts"), 0);
    assert_eq!(sum(&counters[0], "xhci_stray_events"), 0);
    assert_eq!(sum(&counters[0], "xhci_restarts"), 0);
}

#[test]
fn two_adapters_behind_nested_hubs_answer_while_other_devices_are_named_and_left_alone() {
    let mut rig = Rig::start(
        2,
        &[
            "qemu-xhci,id=xhci",
            "usb-hub,bus=xhci.0,port=1",
            "usb-hub,bus=xhci.0,port=1.2",
            &format!("usb-net,netdev=net0,mac={},bus=xhci.0,port=1.2.3", MACS[0]),
            &format!("usb-net,netdev=net1,mac={},bus=xhci.0,port=1.1", MACS[1]),
            "usb-kbd,bus=xhci.0,port=2",
            "usb-tablet,bus=xhci.0,port=1.3",
            "usb-mouse,bus=xhci.0,port=1.2.1",
        ],
    );
    rig.wait_for_addresses(2);
    for network in 0..2 {
        rig.ping(network, 1000, 56, 4);
        for size in (0..=1472).step_by(64) {
            rig.ping(network, 4, size, 1);
        }
        rig.ping(network, 4, 8000, 1);
    }
    for name in ["QEMU USB Keyboard", "QEMU USB Tablet", "QEMU USB Mouse"] {
        assert!(rig.has_said(name), "{name}\n{}", rig.guest.obituary());
    }
    let (counters, _) = rig.power_off();
    assert!(counters.iter().all(|counters| sum(counters, "echo_replies") >= 1000));
}

#[test]
fn a_memory_stick_is_named_and_left_alone() {
    let mut configuration = configuration(&[Nic::CdcEcm]);
    configuration.extra_arguments = [
        "-blockdev",
        "driver=null-co,node-name=stick,size=1048576,read-zeroes=on",
        "-device",
        "usb-storage,drive=stick,bus=xhci0.0",
    ]
    .map(String::from)
    .to_vec();
    let mut guest = boot(&configuration);
    ping(&mut guest, 100, 56, 1);
    let named = guest.guest.transcript().lines().any(|line| line.contains("QEMU USB HARDDRIVE"));
    assert!(named, "{}", guest.guest.obituary());
    power_off(guest);
}

#[test]
fn adapters_of_several_kinds_all_come_up_and_all_answer() {
    let mut guest = boot(&configuration(&[Nic::CdcEcm, Nic::Virtio, Nic::CdcEcm]));
    for card in 0..3 {
        let destination = guest.address(card).unwrap();
        let request = PingRequest { timeout: PATIENCE, ..PingRequest::new(destination, 50, 100) };
        let outcome = guest.hosts[card].ping(&request, &mut |_| {}).unwrap();
        assert!(outcome.is_complete(), "card {card}: {outcome:?}");
    }
    assert_eq!(power_off(guest).len(), 3);
}

#[test]
fn an_adapter_answers_behind_every_controller_and_kind_of_interrupt_that_qemu_has() {
    for controller in [
        "qemu-xhci,id=xhci,p2=1,p3=1",
        "nec-usb-xhci,id=xhci,msi=off,msix=off",
        "nec-usb-xhci,id=xhci,msi=on,msix=off",
        "nec-usb-xhci,id=xhci,msi=off,msix=on",
    ] {
        let adapter = format!("usb-net,netdev=net0,mac={},bus=xhci.0", MACS[0]);
        let mut rig = Rig::start(1, &[controller, &adapter]);
        rig.wait_for_addresses(1);
        rig.ping(0, 200, 56, 1);
        rig.ping(0, 500, 1400, 32);
        let (counters, _) = rig.power_off();
        assert_eq!(sum(&counters[0], "xhci_lost_interrupts"), 0, "{controller}");
        assert_eq!(sum(&counters[0], "xhci_restarts"), 0, "{controller}");
    }
}

/// Plugs and unplugs an adapter this often, each time in the middle of a flood; gives the bytes of memory in use at the
/// end.
fn hot_plug(rounds: u32) -> u64 {
    let mut rig = Rig::start(1, &["qemu-xhci,id=xhci", "usb-hub,bus=xhci.0,port=1"]);
    // Behind a hub and directly by turns.
    let adapter = |round: u32| {
        let port = if round.is_multiple_of(2) { "1.1" } else { "2" };
        json!({
            "driver": "usb-net", "id": "adapter", "netdev": "net0", "mac": MACS[0], "bus": "xhci.0", "port": port,
        })
    };
    rig.wait("the guest to boot", |transcript| transcript.lines().any(|line| line.contains("hub with")));
    for round in 0..rounds {
        rig.command("device_add", adapter(round));
        rig.wait("the adapter to come", |transcript| last_word(transcript) == Some(true));
        rig.ping(0, 3, 56, 1);
        let (stop, answered) = (AtomicBool::new(false), AtomicBool::new(false));
        let Rig { guest, hosts } = &mut rig;
        let host = &mut hosts[0];
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| {
                let request = PingRequest {
                    pace: Pace::Flood { in_flight: 16 },
                    timeout: Duration::from_millis(50),
                    stop: Some(&stop),
                    ..PingRequest::new(Ipv4Addr::new(10, 0, 0, 2), 1_000_000, 1400)
                };
                // It is cut off: what matters is that it runs.
                drop(host.ping(&request, &mut |_| answered.store(true, Ordering::Relaxed)));
            });
            let begin = Instant::now();
            while !answered.load(Ordering::Relaxed) {
                assert!(begin.elapsed() < PATIENCE, "round {round}: no traffic");
                std::thread::sleep(Duration::from_millis(1));
            }
            // At another moment in each round.
            std::thread::sleep(Duration::from_micros(2000 + u64::from(round) * 997 % 20_000));
            guest.monitor().unwrap().execute("device_del", &json!({ "id": "adapter" })).unwrap();
            stop.store(true, Ordering::Relaxed);
            flood.join().unwrap();
        });
        rig.wait("the adapter to go", |transcript| last_word(transcript) == Some(false));
    }
    let (counters, memory) = rig.power_off();
    assert_eq!(sum(&counters[0], "xhci_restarts"), 0);
    memory
}

/// Whether the latest word on the adapter is that it is ready, or that it is gone.
fn last_word(transcript: &Transcript) -> Option<bool> {
    transcript
        .lines()
        .filter_map(|line| match line {
            line if line.starts_with("@skiff ready") => Some(true),
            line if line.ends_with(": gone") => Some(false),
            _ => None,
        })
        .last()
}

#[test]
fn an_adapter_is_plugged_and_unplugged_two_hundred_times_under_traffic_with_flat_memory() {
    let (few, many) = (hot_plug(10), hot_plug(200));
    // A page leaked in each round would be 760 KiB.
    println!("memory in use: {few} bytes after 10 rounds, {many} after 200");
    assert!(many < few + 64 * 1024, "{few} bytes after 10 rounds, {many} after 200");
}
