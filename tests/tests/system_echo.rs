//! The image in QEMU answers pings over the user-space wire, on every machine and card it is meant for.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use images::guest::{GuestConfiguration, MachineType};
use images::nic::Nic;
use images::qemu::Firmware;
use skiff_tests::guest::{boot, configuration, drops, ping, power_off};

/// The proof that a combination works: boot, ping, power off in order, nothing dropped.
fn answers_on(configuration: &GuestConfiguration) {
    let mut guest = boot(configuration);
    ping(&mut guest, 20, 56, 1);
    let counters = power_off(guest);
    assert_eq!(counters[0]["echo_replies"], 20);
    assert_eq!(drops(&counters[0]), 0, "{counters:?}");
}

#[test]
fn a_thousand_echoes_are_answered_and_the_payload_is_never_copied() {
    let mut guest = boot(&configuration(&[Nic::Virtio]));
    ping(&mut guest, 100, 1400, 32);
    ping(&mut guest, 1000, 56, 32);
    let counters = &power_off(guest)[0];
    assert_eq!((counters["echo_requests"], counters["echo_replies"]), (1100, 1100));
    assert_eq!((counters["payload_bytes_copied"], counters["allocations"]), (0, 0), "{counters:?}");
    assert_eq!(drops(counters), 0, "{counters:?}");
}

#[test]
fn allocations_do_not_depend_on_the_number_of_echoes() {
    let allocations = |echoes| {
        let mut guest = boot(&configuration(&[Nic::Virtio]));
        ping(&mut guest, echoes, 56, 32);
        power_off(guest)[0]["allocations"]
    };
    assert_eq!(allocations(500), allocations(5000));
}

#[test]
fn payloads_of_any_size_that_fits_a_frame_come_back_whole() {
    let mut guest = boot(&configuration(&[Nic::Virtio]));
    for size in [0, 1, 17, 56, 1472] {
        ping(&mut guest, 20, size, 4);
    }
    power_off(guest);
}

#[test]
fn a_fixed_address_on_the_command_line_is_used_without_asking_dhcp() {
    let mut configuration = configuration(&[Nic::Virtio]);
    configuration.command_line = "ip=10.0.0.77/24 gw=10.0.0.1".into();
    let mut guest = boot(&configuration);
    assert_eq!(guest.address(0).unwrap().octets(), [10, 0, 0, 77]);
    ping(&mut guest, 20, 56, 1);
    assert_eq!(guest.hosts[0].leases_acknowledged(), 0);
    power_off(guest);
}

#[test]
fn without_a_fixed_address_the_one_that_dhcp_leases_is_used() {
    let mut guest = boot(&configuration(&[Nic::Virtio]));
    assert_eq!(guest.address(0).unwrap().octets(), [10, 0, 0, 2]);
    ping(&mut guest, 20, 56, 1);
    assert_eq!(guest.hosts[0].leases_acknowledged(), 1);
    power_off(guest);
}

#[test]
fn options_that_nobody_knows_are_named_and_do_not_stop_the_boot() {
    let mut configuration = configuration(&[Nic::Virtio]);
    configuration.command_line = "frobnicate=yes ip=10.0.0.300/24 log=debug".into();
    let mut guest = boot(&configuration);
    ping(&mut guest, 5, 56, 1);
    let named = |guest: &mut images::wired::WiredGuest, option: &str| {
        guest.guest.transcript().lines().any(|line| line.contains(option) && line.contains("ignored"))
    };
    assert!(named(&mut guest, "frobnicate=yes") && named(&mut guest, "ip=10.0.0.300/24"));
    power_off(guest);
}

#[test]
fn options_also_come_from_the_firmware_configuration_device() {
    let mut configuration = configuration(&[Nic::Virtio]);
    configuration.extra_arguments =
        vec!["-fw_cfg".into(), "name=opt/skiff/cmdline,string=ip=10.0.0.99/24".into()];
    let mut guest = boot(&configuration);
    assert_eq!(guest.address(0).unwrap().octets(), [10, 0, 0, 99]);
    ping(&mut guest, 5, 56, 1);
    power_off(guest);
}

#[test]
fn modern_virtio_answers_on_the_older_pc() {
    answers_on(&GuestConfiguration { machine: MachineType::Pc, ..configuration(&[Nic::Virtio]) });
}

#[test]
fn transitional_virtio_answers_on_q35() {
    answers_on(&configuration(&[Nic::VirtioTransitional]));
}

#[test]
fn transitional_virtio_answers_on_the_older_pc() {
    answers_on(&GuestConfiguration { machine: MachineType::Pc, ..configuration(&[Nic::VirtioTransitional]) });
}

#[test]
fn it_boots_behind_seabios_on_both_machines() {
    for machine in [MachineType::Q35, MachineType::Pc] {
        answers_on(&GuestConfiguration {
            machine,
            firmware: Firmware::SeaBios,
            ..configuration(&[Nic::Virtio])
        });
    }
}

#[test]
fn eight_mebibytes_are_enough() {
    answers_on(&GuestConfiguration { memory: 8, ..configuration(&[Nic::Virtio]) });
}

#[test]
fn several_cards_each_have_their_network_and_their_counters() {
    let mut guest = boot(&configuration(&[Nic::Virtio, Nic::VirtioTransitional, Nic::Virtio]));
    for card in 0..3 {
        let destination = guest.address(card).unwrap();
        assert_eq!(usize::from(destination.octets()[2]), card, "one network for each card");
        let request = lab_wire::PingRequest::new(destination, 50, 56);
        let outcome = guest.hosts[card].ping(&request, &mut |_| {}).unwrap();
        assert!(outcome.is_complete(), "card {card}: {outcome:?}");
        guest.serve();
    }
    let counters = power_off(guest);
    let replies: Vec<u64> = counters.iter().map(|counters| counters["echo_replies"]).collect();
    assert_eq!(replies, [50, 50, 50]);
}
