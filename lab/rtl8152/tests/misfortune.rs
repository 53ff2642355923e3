//! Faults, hot-plug, configurations, the virtual CD-ROM.

#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod host;

use std::time::Duration;

use host::{Host, MAC, PEER};
use lab_rtl8152::{Adapter, Config, FaultPlan, VERSIONS, Version, ncm};
use lab_usbredir::{Answer, Device, Setup, Speed};
use proptest::prelude::*;

fn version() -> Version {
    Version::find("8153a").unwrap()
}

fn host_with(faults: &str) -> Host {
    let faults: FaultPlan = faults.parse().unwrap();
    let config = Config { address: MAC, faults, ..Config::new(version()) };
    Host { adapter: Adapter::new(config).unwrap(), now: Duration::ZERO }
}

fn descriptor(host: &mut Host, kind: u16, length: u16) -> Answer {
    host.control(0x80, 6, kind << 8, 0, &[], length)
}

#[test]
fn control_faults_strike_at_their_count_and_only_there() {
    let mut host =
        host_with("control 2 stall\ncontrol 3 timeout\ncontrol 4 error\ncontrol 5 babble\ncontrol 6 short 7");
    let whole = |answer: Answer| matches!(answer, Answer::Data(data) if data.len() == 18);
    assert!(whole(descriptor(&mut host, 1, 18)));
    for expected in [Answer::Stall, Answer::Never, Answer::Error, Answer::Babble] {
        assert_eq!(descriptor(&mut host, 1, 18), expected);
    }
    assert!(matches!(descriptor(&mut host, 1, 18), Answer::Data(data) if data.len() == 7));
    assert!(whole(descriptor(&mut host, 1, 18)));
}

#[test]
fn an_adapter_that_is_pulled_out_comes_back_fresh_and_as_another_plug_in() {
    let mut host = host_with("control 3 disconnect 1500ms");
    host.control(0x00, 9, 1, 0, &[], 0);
    host.write(0x0100, 0xc010, 0xf);
    let before = host.adapter.attachment(host.now).unwrap();
    assert_eq!(host.control(0xc0, 5, 0xe610, 0x0100, &[], 4), Answer::Error);
    assert_eq!(host.adapter.attachment(host.now), None);
    assert_eq!(host.adapter.next_timer(), Some(Duration::from_millis(1500)));
    host.wait(Duration::from_millis(1500));
    let after = host.adapter.attachment(host.now).unwrap();
    assert_ne!(before.plugged, after.plugged);
    assert!(host.adapter.endpoints().is_empty());
    assert_eq!(host.read(0x0100, 0xc010), 0);
}

#[test]
fn a_corrupted_descriptor_is_what_the_host_reads() {
    let mut host = host_with("start corrupt configuration1.endpoint81.wMaxPacketSize 7");
    let Answer::Data(configuration) = descriptor(&mut host, 2, 512) else { panic!("no descriptor") };
    assert_eq!(configuration[9 + 9 + 4..9 + 9 + 6], [7, 0]);
    let config =
        Config { faults: "start corrupt device.nothing 1".parse().unwrap(), ..Config::new(version()) };
    assert!(Adapter::new(config).is_err());
}

#[test]
fn a_held_register_bit_stays_what_the_plan_says() {
    let mut host = host_with("start stick PLA e84f 02 00");
    host.control(0x00, 9, 1, 0, &[], 0);
    assert_eq!(host.read(0x0100, 0xe84c) >> 24, 0x30);
}

#[test]
fn a_halted_endpoint_works_again_once_its_halt_is_cleared() {
    let mut host = host_with("bulk-out 1 stall");
    host.control(0x00, 9, 1, 0, &[], 0);
    assert_eq!(host.adapter.bulk_out(2, &[0; 64], host.now), Answer::Stall);
    assert_eq!(host.adapter.bulk_out(2, &[0; 64], host.now), Answer::Stall);
    assert_eq!(host.control(0x82, 0, 0, 2, &[], 2), Answer::Data(vec![1, 0]));
    host.control(0x02, 1, 0, 2, &[], 0);
    assert_eq!(host.control(0x82, 0, 0, 2, &[], 2), Answer::Data(vec![0, 0]));
    assert_eq!(host.adapter.bulk_out(2, &[0; 64], host.now), Answer::Accepted(64));
}

#[test]
fn a_pulled_cable_comes_back_after_its_time() {
    let mut host = Host::up(version());
    assert!(host.adapter.link_is_up(host.now));
    let mut host = host_with("time 2s link-down 500ms");
    host.control(0x00, 9, 1, 0, &[], 0);
    host.wait(Duration::from_millis(1999));
    assert!(host.adapter.link_is_up(host.now));
    host.wait(Duration::from_millis(1));
    assert!(!host.adapter.link_is_up(host.now));
    host.wait(Duration::from_millis(600));
    assert!(host.adapter.link_is_up(host.now));
}

#[test]
fn an_ejected_drive_becomes_the_adapter() {
    let config = Config { storage_first: true, ..Config::new(version()) };
    let mut host = Host { adapter: Adapter::new(config).unwrap(), now: Duration::ZERO };
    assert_eq!(host.adapter.attachment(host.now).unwrap().product, 0x8151);
    host.control(0x00, 9, 1, 0, &[], 0);
    assert_eq!(host.control(0xc0, 5, 0xe610, 0x0100, &[], 4), Answer::Stall, "no registers yet");
    let mut wrapper = b"USBC\x01\0\0\0\0\0\0\0\0\0\x06\x1b\0\0\0\x02\0".to_vec();
    wrapper.resize(31, 0);
    host.bulk_out(&wrapper);
    assert!(matches!(host.bulk_in(13), Answer::Data(status) if status[12] == 0));
    host.wait(Duration::from_millis(60));
    assert_eq!(host.adapter.attachment(host.now), None);
    host.wait(Duration::from_secs(1));
    assert_eq!(host.adapter.attachment(host.now).unwrap().product, 0x8153);
}

#[test]
fn the_cdc_configuration_carries_bare_frames_and_notifications() {
    let mut host =
        Host { adapter: Adapter::new(Config::new(version())).unwrap(), now: Duration::from_secs(1) };
    host.control(0x00, 9, 2, 0, &[], 0);
    assert!(host.adapter.endpoints().iter().all(|endpoint| endpoint.address == 0x83));
    host.control(0x01, 11, 1, 1, &[], 0);
    assert_eq!(host.adapter.endpoints().len(), 3);
    let mut next = || host.adapter.interrupt_in(0x83, 16, host.now);
    assert_eq!(next(), Answer::Data(vec![0xa1, 0, 1, 0, 0, 0, 0, 0]));
    assert!(matches!(next(), Answer::Data(speed) if speed.len() == 16 && speed[1] == 0x2a));
    let mut frame = vec![9; 200];
    frame[..6].copy_from_slice(&PEER);
    host.adapter.receive_frame(&frame, host.now);
    assert_eq!(host.bulk_in(2048), Answer::Data(frame.clone()));
    host.bulk_out(&frame);
    assert_eq!(host.sent(), [frame]);
}

#[test]
fn the_ncm_configuration_carries_blocks_within_the_limit_that_the_host_sets() {
    let version = Version::find("8156b").unwrap();
    let mut host = Host { adapter: Adapter::new(Config::new(version)).unwrap(), now: Duration::from_secs(1) };
    host.control(0x00, 9, 2, 0, &[], 0);
    host.control(0x01, 11, 1, 1, &[], 0);
    assert!(
        matches!(host.control(0xa1, 0x80, 0, 0, &[], 28), Answer::Data(p) if p.len() == 28 && p[0] == 28)
    );
    assert_eq!(host.control(0x21, 0x86, 0, 0, &100u32.to_le_bytes(), 4), Answer::Stall);
    assert_eq!(host.control(0x21, 0x86, 0, 0, &2048u32.to_le_bytes(), 4), Answer::Accepted(4));
    for i in 0..6 {
        host.adapter.receive_frame(&[i; 600], host.now);
    }
    let mut received = Vec::new();
    while let Answer::Data(block) = host.bulk_in(16 << 10) {
        assert!(block.len() <= 2048);
        host.bulk_out(&block);
        received.extend(ncm::parse(&block).unwrap().into_iter().map(<[u8]>::to_vec));
    }
    assert_eq!(received, (0..6).map(|i| vec![i; 600]).collect::<Vec<_>>());
    assert_eq!(host.sent(), received, "the same blocks the other way");
}

#[test]
fn registers_answer_in_the_address_state_and_survive_a_bus_reset() {
    let mut host = host_with("");
    assert_eq!(host.read(0x0100, 0xe610) >> 16 & 0x7cf0, 0x5c30);
    host.write(0x0100, 0xc010, 0xa);
    host.adapter.reset(host.now);
    assert_eq!(host.read(0x0100, 0xc010), 0xa);
}

#[test]
fn the_station_address_is_locked_until_the_lock_is_opened() {
    let mut host = host_with("");
    host.write(0x0100, 0xc000, 0x1234_5678);
    assert_eq!(host.read(0x0100, 0xc000), u32::from_le_bytes([2, 0, 0, 0]));
    host.write_lanes(0x0111, 0xe81c, 0xc0);
    host.write(0x0100, 0xc000, 0x1234_5678);
    assert_eq!(host.read(0x0100, 0xc000), 0x1234_5678);
    assert_eq!(host.read(0x0100, 0xd000), u32::from_le_bytes([2, 0, 0, 0]));
}

proptest! {
    #[test]
    fn no_control_request_is_a_panic_and_answers_fit(
        version in 0..VERSIONS.len(), speed in 0..3usize, storage_first: bool,
        requests in proptest::collection::vec(
            (prop_oneof![Just(0x40u8), Just(0xc0), Just(0x80), Just(0x00), any::<u8>()],
             prop_oneof![Just(5u8), Just(6), Just(9), Just(11), any::<u8>()],
             any::<u16>(), prop_oneof![0..0x200u16, any::<u16>()], 0..600usize), 1..40))
    {
        let mut config = Config::new(VERSIONS[version]);
        config.speed = [Speed::Full, Speed::High, Speed::Super][speed];
        config.storage_first = storage_first;
        let mut adapter = Adapter::new(config).unwrap();
        for (i, (request_type, request, value, index, length)) in requests.into_iter().enumerate() {
            let now = Duration::from_millis(i as u64);
            let data = vec![0xa5; if request_type & 0x80 == 0 { length } else { 0 }];
            let setup = Setup { request_type, request, value, index, length: length as u16 };
            if let Answer::Data(data) = adapter.control(setup, &data, now) {
                prop_assert!(data.len() <= length);
            }
            adapter.bulk_in(0x81, length, now);
            adapter.interrupt_in(0x83, 2, now);
            prop_assert!(adapter.next_timer().is_none_or(|at| at > now));
        }
    }
}
