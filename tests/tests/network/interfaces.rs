//! Several interfaces, devices that come and go, the report.

use std::rc::Rc;

use hal::network::Event;
use hal::time::Duration;
use kernel::net::Configuration;
use kernel::net::counters::DropReason;
use kernel::net::wire::ipv4::Subnet;
use lab_wire::packet::{self, BROADCAST, Packet};

use crate::harness::{Bench, Cable, GUEST, GUEST_MAC, Reply, Request, fixed};

/// A bench with a second interface, eth1 at 10.0.1.2.
fn two_interfaces() -> (Bench, Rc<Cable>, Request) {
    let mut configuration = fixed();
    let subnet = Subnet { address: std::net::Ipv4Addr::new(10, 0, 1, 2).into(), prefix: 24 };
    configuration.set_address("eth1", subnet, None).unwrap();
    let bench = Bench::new(configuration);
    bench.pass(Duration::from_micros(1));
    let second = Cable::connected();
    let mac = [0x52, 0x54, 0, 0x12, 0x34, 0x57];
    bench.plug(&second, mac);
    bench.pass(Duration::from_secs(10));
    bench.cable.sent();
    second.sent();
    let mut request = Request { destination_mac: mac, ..Request::default() };
    request.header.source = [10, 0, 1, 1];
    request.header.destination = [10, 0, 1, 2];
    (bench, second, request)
}

#[test]
fn interfaces_are_named_in_the_order_of_their_devices() {
    let bench = Bench::new(fixed());
    for last in 1..=3 {
        bench.plug(&Rc::default(), [2, 0, 0, 0, 0, last]);
    }
    // Before any of their tasks has run.
    let stations = bench.table.entries().iter().map(|entry| entry.state().station.0).collect::<Vec<_>>();
    assert_eq!(stations[0], GUEST_MAC);
    assert_eq!(stations[1..].iter().map(|station| station[5]).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn two_interfaces_answer_at_once() {
    let (bench, second, request) = two_interfaces();
    for _ in 0..100 {
        bench.cable.send(Request::default().frame());
        second.send(request.frame());
    }
    bench.pass(Duration::from_millis(1));
    assert_eq!((bench.cable.sent().len(), second.sent().len()), (100, 100));
}

#[test]
fn an_address_is_answered_only_on_its_own_interface() {
    let (bench, second, request) = two_interfaces();
    let mut stray = Request { destination_mac: request.destination_mac, ..Request::default() };
    stray.header.destination = GUEST.octets();
    second.send(stray.frame());
    bench.pass(Duration::from_millis(1));
    assert!(second.sent().is_empty());
}

#[test]
fn a_device_that_goes_takes_only_its_interface_down() {
    let (bench, second, request) = two_interfaces();
    bench.cable.unplug();
    bench.pass(Duration::from_millis(1));
    let entries = bench.table.entries();
    assert!(!entries[0].state().present && entries[1].state().present);
    second.send(request.frame());
    bench.pass(Duration::from_millis(1));
    Reply::only(&second.sent());
}

#[test]
fn a_device_that_comes_back_has_its_address_again() {
    let bench = Bench::ready();
    for round in 1..=200 {
        Reply::only(&bench.exchange(Request::default().frame()));
        bench.cable.unplug();
        bench.pass(Duration::from_millis(1));
        bench.cable.replug();
        bench.plug(&bench.cable, GUEST_MAC);
        bench.pass(Duration::from_secs(5));
        bench.cable.sent();
        assert_eq!(bench.counters().echo_replies.get(), round);
    }
    Reply::only(&bench.exchange(Request::default().frame()));
    assert_eq!(bench.table.entries().len(), 1);
    assert_eq!(bench.reported("first-reply "), 1, "there is one first reply");
}

#[test]
fn nothing_leaks_over_plug_and_unplug() {
    let bench = Bench::ready();
    let mut live = Vec::new();
    for _ in 0..20 {
        bench.exchange(Request::default().frame());
        bench.cable.unplug();
        bench.pass(Duration::from_millis(1));
        live.push(bench.memory.statistics().live_descriptors);
        bench.cable.replug();
        bench.plug(&bench.cable, GUEST_MAC);
        bench.pass(Duration::from_secs(5));
        bench.cable.sent();
    }
    assert_eq!(live, [0; 20]);
}

#[test]
fn a_device_without_a_station_address_is_not_used() {
    let (bench, _, _) = two_interfaces();
    let third = Rc::new(Cable::default());
    bench.plug(&third, [0; 6]);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.table.entries().len(), 2);
}

#[test]
fn without_a_link_nothing_is_sent_and_nobody_is_told_ready() {
    for configuration in [fixed(), Configuration::default()] {
        let bench = Bench::on(Rc::default(), configuration);
        bench.pass(Duration::from_secs(600));
        assert!(bench.cable.sent().is_empty(), "sent into a cable that leads nowhere");
        assert_eq!(bench.reported("ready "), 0, "{:#?}", bench.reports.borrow());
        assert_eq!(bench.first_report("device"), "device interface=eth0 driver=played mac=52:54:00:12:34:56");
    }
}

#[test]
fn an_address_is_ready_and_announced_when_the_link_is_there() {
    let bench = Bench::on(Rc::default(), fixed());
    bench.pass(Duration::from_secs(3));
    bench.cable.event(Event::LinkUp(1000));
    bench.pass(Duration::from_micros(1));
    assert!(bench.first_report("ready").ends_with(" since_entry_us=3000000"));
    assert_eq!(bench.first_report("link"), "link interface=eth0 state=up speed_mbps=1000");
    assert_eq!(announcements(&bench.cable.sent()), 1);
    Reply::only(&bench.exchange(Request::default().frame()));
}

#[test]
fn a_link_that_comes_back_probes_and_announces_the_address_again_and_is_not_ready_anew() {
    let bench = Bench::ready();
    for round in 1..=3 {
        bench.cable.event(Event::LinkDown);
        bench.pass(Duration::from_secs(1));
        assert!(bench.table.entries()[0].state().address.is_none(), "nobody can be answered");
        assert!(bench.cable.sent().is_empty());
        // A device that does not tell its speed.
        bench.cable.event(Event::LinkUp(0));
        bench.pass(Duration::from_secs(5));
        assert_eq!(announcements(&bench.cable.sent()), 2);
        Reply::only(&bench.exchange(Request::default().frame()));
        assert_eq!(bench.reported("ready "), 1);
        assert_eq!(bench.reported("link interface=eth0 state=down"), round);
        assert_eq!(bench.reported("link interface=eth0 state=up"), 1 + round);
        assert_eq!(bench.reported("address interface=eth0 address=10.0.0.2 prefix=24"), round);
    }
}

#[test]
fn another_speed_of_the_same_link_leaves_the_address_alone() {
    let bench = Bench::ready();
    bench.cable.event(Event::LinkUp(100));
    bench.pass(Duration::from_secs(5));
    assert!(bench.cable.sent().is_empty());
    assert_eq!(
        bench.reported("link interface=eth0 state=up speed_mbps=100"),
        2,
        "1000 begins with it as well"
    );
    Reply::only(&bench.exchange(Request::default().frame()));
}

/// Announcements of the guest's address among `frames`.
fn announcements(frames: &[Vec<u8>]) -> usize {
    let announces = |frame: &&Vec<u8>| match packet::parse(frame) {
        Some((BROADCAST, _, Packet::Arp(arp))) => {
            (arp.sender_ipv4_addr(), arp.target_ipv4_addr()) == (GUEST, GUEST)
        }
        _ => false,
    };
    frames.iter().filter(announces).count()
}

#[test]
fn the_first_reply_is_reported_once() {
    let bench = Bench::ready();
    for _ in 0..3 {
        bench.exchange(Request::default().frame());
    }
    let reports = bench.reports.borrow();
    let first: Vec<_> = reports.iter().filter(|line| line.starts_with("first-reply ")).collect();
    assert_eq!(first.len(), 1);
    assert!(first[0].starts_with("first-reply interface=eth0 since_entry_us="), "{}", first[0]);
}

#[test]
fn counters_are_reported_once_a_minute_when_they_changed() {
    let bench = Bench::ready();
    let lines = |bench: &Bench| {
        bench.reports.borrow().iter().filter(|line| line.starts_with("counters interface=eth0 ")).count()
    };
    bench.pass(Duration::from_secs(100));
    let before = lines(&bench);
    bench.exchange(Request::default().frame());
    bench.pass(Duration::from_secs(61));
    assert_eq!(lines(&bench), before + 1);
    bench.pass(Duration::from_secs(600));
    assert_eq!(lines(&bench), before + 1, "nothing changed");
    let last = bench.reports.borrow().last().unwrap().clone();
    assert!(last.contains(" echo_requests=1 echo_replies=1 "), "{last}");
    assert!(last.contains(" allocations=") && last.contains(" payload_bytes_copied=0"), "{last}");
}

#[test]
fn a_driver_tells_its_counters_when_asked() {
    let bench = Bench::ready();
    for _ in 0..3 {
        bench.exchange(Request::default().frame());
    }
    let entry = bench.table.entries().remove(0);
    entry.ask_driver();
    bench.pass(Duration::from_micros(1));
    let line = entry.to_string();
    assert!(line.contains(" frames_taken=3"), "{line}");
}

#[test]
fn a_counter_of_the_driver_with_the_name_of_one_of_the_interface_is_told_apart() {
    let bench = Bench::ready();
    bench.counters().drop_frame(DropReason::Memory);
    let entry = bench.table.entries().remove(0);
    entry.ask_driver();
    bench.pass(Duration::from_micros(1));
    let line = entry.to_string();
    assert!(line.contains(" drop_memory=1 ") && line.ends_with(" driver_drop_memory=77"), "{line}");
}

#[test]
fn an_idle_interface_waits_for_no_timer() {
    let bench = Bench::ready();
    bench.pass(Duration::from_secs(120));
    // With no timer left, virtual time has nowhere to go but to the end of the sleep.
    let stuck = bench.executor.run_for(Duration::from_secs(1), std::future::pending::<()>());
    assert!(matches!(stuck, Err(skiff_tests::virtual_time::Stuck::Deadlock { .. })), "{stuck:?}");
}
