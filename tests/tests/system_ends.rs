//! How an image ends: in order by the power button, or by a bug that is reported in terms of the source.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use std::time::Duration;

use images::guest::{GuestConfiguration, MachineType};
use images::nic::Nic;
use images::wired::WiredGuest;
use serde_json::json;
use skiff_tests::debugger::{self, Debugger, function_address};
use skiff_tests::folder::Folder;
use skiff_tests::guest::{boot, configuration, image, ping};

const END_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_power_button_switches_off_both_machines_after_the_last_words() {
    for machine in [MachineType::Q35, MachineType::Pc] {
        let mut guest = boot(&GuestConfiguration { machine, ..configuration(&[Nic::Virtio]) });
        ping(&mut guest, 3, 56, 1);
        guest.shut_down().unwrap();
        let status = guest.guest.exit_status().unwrap();
        let transcript = guest.guest.transcript();
        assert_eq!(transcript.exit_reason.as_deref(), Some("power-button"));
        assert_eq!(transcript.counters["eth0"]["echo_replies"], 3);
        assert!(transcript.memory_used.is_some());
        assert!(status.success(), "switched off, not crashed: {status}");
    }
}

/// Boots an image that ends QEMU on a bug, provokes one, and returns what is then told about it.
fn obituary_after(provoke: impl FnOnce(&mut WiredGuest, &Folder)) -> String {
    let folder = Folder::new("debugger");
    let mut configuration = configuration(&[Nic::Virtio]);
    configuration.command_line = "panic=exit".into();
    configuration.extra_arguments = debugger::qemu_arguments(&folder);
    let mut guest = boot(&configuration);
    ping(&mut guest, 3, 56, 1);
    provoke(&mut guest, &folder);
    // A halted processor goes on with the next interrupt.
    guest.hosts[0].inject(&[0xff; 60]).unwrap();
    let status = guest.guest.wait_for_end(END_LIMIT).unwrap();
    assert!(!status.success(), "{status}");
    guest.guest.obituary()
}

#[test]
fn a_panic_is_reported_with_its_message_and_the_chain_of_calls() {
    let address =
        function_address(&image().unstripped, &["capacity_overflow"]).expect("alloc is in the image");
    let text = obituary_after(|_, folder| {
        let mut debugger = Debugger::attach(folder).unwrap();
        debugger.call(address).unwrap();
        debugger.detach().unwrap();
    });
    assert!(text.contains("Panic at") && text.contains("capacity overflow"), "{text}");
    assert!(text.contains("capacity_overflow") && text.contains("kernel::"), "{text}");
    assert!(text.contains("reason of its end: panic"), "{text}");
}

#[test]
fn a_jump_to_address_zero_is_reported_as_a_page_fault() {
    let text = obituary_after(|_, folder| {
        let mut debugger = Debugger::attach(folder).unwrap();
        debugger.jump(0).unwrap();
        debugger.detach().unwrap();
    });
    assert!(text.contains("Exception 14 (page-fault)") && text.contains("address 0x0"), "{text}");
    assert!(text.contains("reason of its end: exception"), "{text}");
}

#[test]
fn a_non_maskable_interrupt_is_reported_with_the_chain_of_calls() {
    let text = obituary_after(|guest, _| {
        guest.guest.monitor().unwrap().execute("inject-nmi", &json!({})).unwrap();
    });
    assert!(text.contains("Exception 2 (non-maskable-interrupt)"), "{text}");
    assert!(text.contains("kernel::"), "{text}");
}

#[test]
fn a_guest_that_is_dropped_takes_its_qemu_with_it() {
    let guest = boot(&configuration(&[Nic::Virtio]));
    let id = guest.guest.process_id();
    assert!(images::guest::process_runs(id));
    drop(guest);
    assert!(!images::guest::process_runs(id));
}
