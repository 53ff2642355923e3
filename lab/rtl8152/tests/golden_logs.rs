//! The golden logs of Linux's r8152, played to the model: every poll is answered as Linux saw it answered.

#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use lab_rtl8152::trace::Access;
use lab_rtl8152::{Adapter, Config, VERSIONS, Version};
use lab_usbredir::{Answer, Device, Setup};

const LOGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/hardware/rtl8152-traces");

/// Registers whose bits drivers wait for: space, dword, mask of those bits.
const POLLED: [(&str, u16, u32); 6] = [
    ("PLA", 0xe000, 0x0000_0100),
    ("PLA", 0xe004, 0x0000_0002),
    ("PLA", 0xe610, 0x7cf0_0800),
    ("PLA", 0xe810, 0x1000_0000),
    ("PLA", 0xe84c, 0x3200_0000),
    // The PHY's window; only where the page is a000.
    ("PLA", 0xb420, 0x0000_0007),
];

fn log_of(version: &Version) -> Option<String> {
    let end = format!("-{}.txt", version.linux);
    let entries = fs::read_dir(Path::new(LOGS)).unwrap().map(|entry| entry.unwrap().path());
    let mut matching = entries.filter(|path| path.to_string_lossy().ends_with(&end));
    matching.next().map(|path| fs::read_to_string(path).unwrap())
}

fn perform(adapter: &mut Adapter, access: &Access, now: Duration) -> Vec<u8> {
    let space = if access.space.name() == "PLA" { 0x0100 } else { 0 };
    let setup = Setup {
        request_type: if access.write { 0x40 } else { 0xc0 },
        request: 5,
        value: access.address,
        index: space | u16::from(access.enables),
        length: access.data.len() as u16,
    };
    let data: &[u8] = if access.write { &access.data } else { &[] };
    match adapter.control(setup, data, now) {
        Answer::Data(data) => data,
        Answer::Accepted(_) => Vec::new(),
        other => panic!("{access}: {other:?}"),
    }
}

#[test]
fn every_poll_of_the_golden_logs_is_answered_as_there() {
    let mut logs = 0;
    for version in &VERSIONS {
        let Some(log) = log_of(version) else { continue };
        logs += 1;
        let mut adapter = Adapter::new(Config::new(*version)).unwrap();
        let mut polls = 0;
        for (i, access) in log.lines().filter_map(|line| line.parse::<Access>().ok()).enumerate() {
            let answer = perform(&mut adapter, &access, Duration::from_millis(i as u64));
            if access.write {
                continue;
            }
            assert_eq!(answer.len(), access.data.len());
            let space = access.space.name();
            for (_, _, mask) in POLLED.iter().filter(|(s, a, _)| (*s, *a) == (space, access.address)) {
                let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap()) & mask;
                assert_eq!(word(&answer), word(&access.data), "{version}: {access}");
                polls += 1;
            }
        }
        assert!(polls >= 5, "{version}: {polls} polls");
    }
    assert_eq!(logs, 12);
}

#[test]
fn the_whole_log_of_a_session_is_logged_again_in_the_same_words() {
    let version = Version::find("8153a").unwrap();
    let log = log_of(&version).unwrap();
    let mut adapter = Adapter::new(Config::new(version)).unwrap();
    adapter.log_accesses();
    let accesses: Vec<Access> = log.lines().filter_map(|line| line.parse().ok()).collect();
    for access in &accesses {
        perform(&mut adapter, access, Duration::ZERO);
    }
    let again = adapter.take_accesses();
    assert_eq!(again.len(), accesses.len());
    for (access, again) in accesses.iter().zip(&again).filter(|(access, _)| access.write) {
        assert_eq!(access.to_string(), again.to_string());
    }
}
