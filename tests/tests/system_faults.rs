//! What the kernel makes of a bug in the image: the processor stops it, and the report is in terms of the source.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use std::sync::OnceLock;
use std::time::Duration;

use images::guest::{Guest, GuestConfiguration, MachineType};
use images::image::{self, Drivers, Image};
use skiff_tests::guest::qemu;

const END_LIMIT: Duration = Duration::from_secs(120);

/// The image that goes wrong as it is told.
fn faulty_image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| image::build_application("fault-tests", Drivers::Virtio).expect("the image builds"))
}

/// Lets the image commit a fault, and gives what is told about its end, and whether QEMU ended well.
fn after(fault: &str, command_line: &str) -> (String, bool) {
    let configuration = GuestConfiguration {
        machine: MachineType::Pc,
        command_line: command_line.into(),
        extra_arguments: vec!["-fw_cfg".into(), format!("name=opt/skiff/fault,string={fault}")],
        ..GuestConfiguration::new(faulty_image())
    };
    let (mut guest, _) = Guest::start(qemu(), &configuration).unwrap();
    let status = guest.wait_for_end(END_LIMIT).unwrap();
    (guest.obituary(), status.success())
}

/// As `after`, for a fault that must be reported with all of `expected` and end QEMU by its exit device.
fn assert_reported(fault: &str, expected: &[&str]) {
    let (text, success) = after(fault, "panic=exit");
    for expected in expected {
        assert!(text.contains(expected), "{fault}: {expected:?} is missing in:\n{text}");
    }
    assert!(!success, "{fault}: {text}");
}

#[test]
fn a_panic_names_its_place_and_message() {
    assert_reported("panic", &["as it was told", "fault-tests/src/main.rs", "reason of its end: panic"]);
}

#[test]
fn the_null_page_cannot_be_read() {
    assert_reported("null-read", &["page-fault", "null page", "null_read", "reason of its end: exception"]);
}

#[test]
fn constants_cannot_be_written() {
    assert_reported("write-to-constants", &["page-fault", "attempt to write", "write_to"]);
}

#[test]
fn instructions_cannot_be_written() {
    assert_reported("write-to-instructions", &["page-fault", "attempt to write", "write_to"]);
}

#[test]
fn data_cannot_be_executed() {
    assert_reported("execute-data", &["page-fault", "attempt to execute"]);
}

#[test]
fn a_stack_overflow_ends_at_the_guard_page() {
    assert_reported("stack-overflow", &["stack overflow: the main stack", "overflow_the_stack"]);
}

#[test]
fn an_invalid_instruction_is_reported() {
    assert_reported("invalid-opcode", &["invalid-opcode", "reason of its end: exception"]);
}

#[test]
fn a_double_fault_is_reported_on_a_stack_of_its_own() {
    assert_reported("double-fault", &["double-fault", "reason of its end: exception"]);
}

#[test]
fn a_panicked_appliance_restarts() {
    // QEMU is told not to restart machines: a reset ends it, without an error.
    let (text, success) = after("panic", "");
    assert!(text.contains("reason of its end: panic") && success, "{text}");
}

#[test]
fn an_application_that_returns_switches_the_machine_off() {
    let (text, success) = after("nothing", "");
    assert!(text.contains("reason of its end: application") && success, "{text}");
}
