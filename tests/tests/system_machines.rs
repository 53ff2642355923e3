//! The image on machines that differ in what the kernel must cope with: interrupt lines, firmware, memory.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use images::guest::{GuestConfiguration, MachineType};
use images::nic::Nic;
use images::qemu::Firmware;
use skiff_tests::guest::{boot, configuration, ping, power_off};

const PINGS: u64 = 50;

/// Boots, pings, and switches off in order.
fn assert_answers(configuration: &GuestConfiguration) {
    let mut guest = boot(configuration);
    ping(&mut guest, PINGS, 56, 1);
    let counters = power_off(guest);
    assert_eq!(counters[0]["echo_replies"], PINGS, "{configuration:?}");
}

#[test]
fn interrupt_lines_work_with_every_chipset_and_firmware() {
    for machine in [MachineType::Q35, MachineType::Pc] {
        for firmware in [Firmware::Fastest, Firmware::SeaBios] {
            assert_answers(&GuestConfiguration {
                machine,
                firmware,
                extra_arguments: vec!["-global".into(), "virtio-net-pci.vectors=0".into()],
                ..configuration(&[Nic::Virtio])
            });
        }
    }
}

#[test]
fn memory_above_four_gibibytes_is_used() {
    let configuration = GuestConfiguration {
        memory: 6 * 1024,
        // The host need not have so much: what the image does not touch stays untouched.
        extra_arguments: vec![
            "-object".into(),
            "memory-backend-ram,id=ram,size=6G,reserve=off".into(),
            "-machine".into(),
            "memory-backend=ram".into(),
        ],
        ..configuration(&[Nic::Virtio])
    };
    assert_answers(&configuration);
}
