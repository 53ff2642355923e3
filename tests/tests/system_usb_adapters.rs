//! The image in QEMU on USB network adapters: the virtual RTL8152 family through QEMU's xHCI.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use images::dongle::Command;
use images::nic::Nic;
use images::wired::WiredGuest;
use lab_rtl8152::{Disconnect, LinkSpeed};
use skiff_tests::guest::{boot, configuration, drops, ping, power_off};

/// Only against a hang.
const LIMIT: Duration = Duration::from_secs(120);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

#[test]
fn a_thousand_pings_of_all_sizes_are_answered_on_every_adapter() {
    for nic in [Nic::Rtl8152b, Nic::Rtl8153, Nic::Rtl8153b, Nic::Rtl8156a, Nic::Rtl8156b] {
        let mut guest = boot(&configuration(&[nic]));
        ping(&mut guest, 700, 56, 16);
        for size in [0, 1, 17, 18, 19, 255, 256, 257, 1000, 1471, 1472] {
            ping(&mut guest, 20, size, 4);
        }
        for size in [1473, 8000, 30_000, 65_507] {
            ping(&mut guest, 20, size, 1);
        }
        let counters = &power_off(guest)[0];
        assert_eq!(counters["echo_replies"], 1000, "{nic}");
        assert_eq!(drops(counters), 0, "{nic}: {counters:?}");
    }
}

#[test]
fn a_flood_of_a_hundred_thousand_is_answered_without_copies_and_allocations() {
    let mut guest = boot(&configuration(&[Nic::Rtl8153]));
    ping(&mut guest, 100_000, 1400, 32);
    let counters = &power_off(guest)[0];
    assert_eq!(counters["echo_replies"], 100_000);
    assert_eq!(drops(counters), 0, "{counters:?}");
    assert_eq!((counters["payload_bytes_copied"], counters["allocations"]), (0, 0), "{counters:?}");
}

/// Pings until one is answered: what came from before the command is told apart by the identifier.
fn wait_for_answer(guest: &mut WiredGuest, station: [u8; 6], identifier: u16) {
    let begin = Instant::now();
    for sequence in 0.. {
        let host = &mut guest.hosts[0];
        host.send_echo_request(station, ADDRESS, identifier, sequence, &[0x55; 900]).unwrap();
        let turn = Instant::now();
        while turn.elapsed() < Duration::from_millis(10) {
            let arrival = host.receive(Duration::from_millis(2)).unwrap();
            let echo = arrival.and_then(|arrival| arrival.echo_reply);
            if echo.is_some_and(|echo| echo.identifier == identifier) {
                return;
            }
        }
        assert!(
            begin.elapsed() < LIMIT,
            "no answer after {identifier}. The console:\n{}",
            guest.guest.obituary()
        );
    }
}

/// Bytes of memory in use at the end, after so many times unplugged under traffic.
fn memory_after(cycles: u16) -> u64 {
    let mut configuration = configuration(&[Nic::Rtl8153]);
    configuration.command_line = "ip=10.0.0.2/24 gw=10.0.0.1".into();
    let station = configuration.slots[0].mac;
    let mut guest = boot(&configuration);
    let remote = guest.guest.dongle(0).unwrap().clone();
    for cycle in 1..=cycles {
        for sequence in 0..40 {
            let host = &mut guest.hosts[0];
            host.send_echo_request(station, ADDRESS, 0, sequence, &[0xaa; 1400]).unwrap();
        }
        let away = Some(Duration::from_millis(u64::from(cycle % 7)));
        remote.command(Command::Unplug(Disconnect { away, as_storage: false }));
        wait_for_answer(&mut guest, station, cycle);
    }
    guest.shut_down().unwrap();
    guest.guest.transcript().memory_used.unwrap()
}

#[test]
fn memory_is_flat_over_two_hundred_plug_cycles_under_traffic() {
    let (few, many) = (memory_after(5), memory_after(200));
    // Slabs and block pools keep what a burst made them take; a leak of one block per cycle would be megabytes.
    assert!(many < few + 256 * 1024, "{few} bytes after 5 cycles, {many} after 200");
}

#[test]
fn a_pulled_cable_is_noticed_and_a_plugged_one_too_without_being_ready_anew() {
    let mut guest = boot(&configuration(&[Nic::Rtl8156b]));
    let remote = guest.guest.dongle(0).unwrap().clone();
    ping(&mut guest, 50, 1000, 4);
    let said = |guest: &mut WiredGuest, text: &str, times: usize| {
        let begin = Instant::now();
        while guest.guest.transcript().lines().filter(|line| line.contains(text)).count() < times {
            guest.serve();
            assert!(begin.elapsed() < LIMIT, "`{text}` was not said {times} times");
        }
    };
    remote.command(Command::Cable(None));
    said(&mut guest, "eth0: link down", 1);
    remote.command(Command::Cable(Some(LinkSpeed::M1000)));
    said(&mut guest, "@skiff link interface=eth0 state=up speed_mbps=1000", 1);
    // The lease is asked for again.
    said(&mut guest, "@skiff address interface=eth0 address=10.0.0.2 prefix=24", 1);
    ping(&mut guest, 50, 1000, 4);
    assert_eq!(guest.guest.transcript().lines().filter(|line| line.starts_with("@skiff ready ")).count(), 1);
    power_off(guest);
}

#[test]
fn ready_means_that_the_very_first_request_is_answered() {
    for nic in [Nic::Rtl8153, Nic::Rtl8156b, Nic::CdcEcm, Nic::Virtio] {
        for _ in 0..3 {
            let mut configuration = configuration(&[nic]);
            configuration.command_line = "ip=10.0.0.2/24 gw=10.0.0.1".into();
            let station = configuration.slots[0].mac;
            let mut guest = boot(&configuration);
            // Sent once: it is answered, or never.
            guest.hosts[0].send_echo_request(station, ADDRESS, 9, 1, &[0x55; 100]).unwrap();
            let begin = Instant::now();
            while guest.hosts[0]
                .receive(Duration::from_millis(2))
                .unwrap()
                .is_none_or(|arrival| arrival.echo_reply.is_none())
            {
                assert!(
                    begin.elapsed() < LIMIT,
                    "{nic}: no answer. The console:\n{}",
                    guest.guest.obituary()
                );
            }
            power_off(guest);
        }
    }
}

#[test]
fn an_adapter_that_comes_back_as_a_cd_rom_is_ejected_and_answers() {
    let mut configuration = configuration(&[Nic::Rtl8153]);
    configuration.command_line = "ip=10.0.0.2/24 gw=10.0.0.1".into();
    let station = configuration.slots[0].mac;
    let mut guest = boot(&configuration);
    ping(&mut guest, 20, 56, 1);
    let remote = guest.guest.dongle(0).unwrap().clone();
    let away = Some(Duration::from_millis(100));
    remote.command(Command::Unplug(Disconnect { away, as_storage: true }));
    wait_for_answer(&mut guest, station, 77);
    power_off(guest);
}
