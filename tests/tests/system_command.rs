//! `skiff` as a user runs it.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use images::guest::{GuestConfiguration, process_runs};
use images::nic::Nic;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use skiff_tests::command::skiff;
use skiff_tests::folder::Folder;
use skiff_tests::guest::{boot, configuration, ping, power_off};

fn run(arguments: &[&str]) -> Output {
    skiff().args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn json_is_one_object_on_one_line_with_the_figures_of_the_run() {
    let output = run(&["run", "--nic", "virtio", "--count", "20", "--interval", "5ms", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert_eq!(printed.lines().count(), 1, "{printed}");
    let summary: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        (&summary["nic"], &summary["sent"], &summary["received"]),
        (&"virtio".into(), &20.into(), &20.into())
    );
    let times = &summary["rtt_us"];
    let time = |name: &str| times[name].as_f64().unwrap();
    assert!(0.0 < time("min") && time("min") <= time("median"), "{times}");
    assert!(time("median") <= time("p99") && time("p99") <= time("max"), "{times}");
    let entry = summary["guest_entry_to_first_reply_ms"].as_f64().unwrap();
    assert!(0.0 < entry && entry < summary["vmm_to_first_reply_ms"].as_f64().unwrap(), "{summary}");
    assert!(summary["image_bytes"].as_u64().unwrap() > 0);
    assert!(summary["guest_memory_bytes"].as_u64().unwrap() <= 32 << 20);
    assert_eq!(summary["counters"]["echo_replies"], 20);
    // No progress where there is no terminal, only what takes long: a build, and on a slow machine what is waited for.
    let said = text(&output.stderr);
    let takes_long =
        |line: &str| line == "skiff: building the image" || line.starts_with("skiff: waiting for ");
    assert!(said.lines().all(takes_long), "{said}");
}

#[test]
fn replies_are_printed_as_ping_prints_them_and_a_summary_follows() {
    let output = run(&["--count", "3", "--interval", "10ms", "--size", "100"]);
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{printed}{}", text(&output.stderr));
    assert!(printed.contains("108 bytes from 10.0.0.2: icmp_seq=3 ttl=64 time="), "{printed}");
    assert!(printed.contains("3 sent, 3 received, 0 lost"), "{printed}");
}

#[test]
fn the_card_is_an_rtl8153_when_nothing_is_said() {
    let output = run(&["--count", "5", "--interval", "5ms", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let summary: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!((&summary["nic"], &summary["received"]), (&"rtl8153".into(), &5.into()));
}

#[test]
fn an_image_with_virtio_drivers_only_answers_and_stays_small() {
    let output = run(&["run", "--drivers", "virtio", "--nic", "virtio", "--count", "3", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let summary: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert!(summary["image_bytes"].as_u64().unwrap() <= 400_000, "{summary}");
}

#[test]
fn several_cards_are_all_flooded() {
    let cards = ["--nic", "virtio", "--nic", "virtio-transitional"];
    let output = run(&[&["run", "--flood", "--count", "500", "--json"], &cards[..]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let summary: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!((&summary["sent"], &summary["received"]), (&1000.into(), &1000.into()));
    assert_eq!(summary["counters"]["eth1.echo_replies"], 500);
}

#[test]
fn an_option_that_the_image_does_not_understand_is_named_and_the_rest_holds() {
    let output = run(&["run", "--nic", "virtio", "--count", "1", "--cmdline", "colour=red ip=10.0.0.9/24"]);
    let said = text(&output.stderr);
    assert!(
        output.status.success() && said.contains("option \"colour=red\" ignored: expected one of"),
        "{said}"
    );
    assert!(text(&output.stdout).contains("from 10.0.0.9: "), "{}", text(&output.stdout));
}

#[test]
fn a_card_whose_station_address_was_chosen_is_pinged() {
    let output = run(&["run", "--count", "3", "--cmdline", "mac=02:00:00:00:00:01"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_written_image_boots_and_keeps_its_options() {
    let folder = Folder::new("image");
    let out = folder.path().join("skiff.elf");
    let options = "ip=10.0.0.42/24 gw=10.0.0.1";
    let output = run(&["image", "--format", "elf", "--out", out.to_str().unwrap(), "--cmdline", options]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(folder.path().join("skiff.elf.debug").exists());
    let mut guest = boot(&GuestConfiguration {
        image: out,
        unstripped: folder.path().join("skiff.elf.debug"),
        ..configuration(&[Nic::Virtio])
    });
    assert_eq!(guest.address(0).unwrap().octets(), [10, 0, 0, 42]);
    ping(&mut guest, 3, 56, 1);
    power_off(guest);
}

/// The process ids of the children of a process.
fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|list| list.split_ascii_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<u32>>())
        .collect()
}

#[test]
fn qemu_does_not_outlive_a_skiff_that_is_killed() {
    let mut child = skiff().args(["run", "--count", "100000"]).stdout(Stdio::piped()).spawn().unwrap();
    // With the first reply QEMU surely runs.
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap().contains("icmp_seq=1 ")));
    let started = children(child.id());
    assert!(!started.is_empty());
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while started.iter().any(|id| process_runs(*id)) {
        assert!(Instant::now() < deadline, "{started:?} outlived skiff");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_reader_that_has_read_enough_does_not_end_the_run() {
    let mut command = skiff();
    command.args(["run", "--nic", "virtio", "--count", "5", "--interval", "5ms"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(first.starts_with("PING ") && output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn an_interrupt_ends_the_run_in_order_with_its_summary() {
    let mut child = skiff().args(["run", "--count", "100000"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap().contains("icmp_seq=1 ")));
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let rest: Vec<String> = output.map_while(Result::ok).collect();
    assert!(rest.iter().any(|line| line.starts_with("pings") && line.ends_with(", 0 lost")), "{rest:?}");
    assert!(child.wait().unwrap().success());
}
