//! Two hosts at the two ends of one cable ping each other.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab_wire::{Cable, Host, HostConfiguration, Pace, PingOutcome, PingRequest};

const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn far_configuration() -> HostConfiguration {
    HostConfiguration {
        address: FAR,
        mac: [2, 0, 0, 0, 0, 2],
        lease: None,
        ..HostConfiguration::of_network(0)
    }
}

/// Runs `work` on the near host while the far one answers.
fn beside_a_far_host(work: impl FnOnce(&mut Host) -> PingOutcome) -> PingOutcome {
    let (near, far) = Cable::channel();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut host = Host::new(far, far_configuration());
            while !done.load(Ordering::Relaxed) {
                if host.serve(Duration::from_millis(1)).is_err() {
                    break;
                }
            }
        });
        let mut host = Host::new(near, HostConfiguration::of_network(0));
        let outcome = work(&mut host);
        done.store(true, Ordering::Relaxed);
        outcome
    })
}

#[test]
fn every_size_up_to_the_largest_comes_back_whole() {
    for size in [0, 1, 17, 56, 1472, 1473, 9000, 65507] {
        let outcome =
            beside_a_far_host(|host| host.ping(&PingRequest::new(FAR, 3, size), &mut |_| {}).unwrap());
        assert!(outcome.is_complete(), "size {size}: {outcome:?}");
        assert_eq!(outcome.replies.len(), 3);
        assert_eq!(outcome.replies[0].bytes, size + 8);
    }
}

#[test]
fn a_pipelined_flood_gets_past_the_wrap_of_the_sequence_number() {
    let request = PingRequest { pace: Pace::Flood { in_flight: 32 }, ..PingRequest::new(FAR, 70_000, 16) };
    let outcome = beside_a_far_host(|host| host.ping(&request, &mut |_| {}).unwrap());
    assert!(outcome.is_complete(), "{} of {} answered", outcome.replies.len(), outcome.sent);
}

#[test]
fn what_is_not_answered_is_lost_and_not_waited_for_for_ever() {
    let (near, mut far) = Cable::channel();
    let mut host = Host::new(near, HostConfiguration::of_network(0));
    // Somebody who answers ARP and nothing else.
    let mac = far_configuration().mac;
    let us = host.configuration().clone();
    let arp = lab_wire::packet::arp(etherparse::ArpOperation::REPLY, (mac, FAR), (us.mac, us.address));
    far.send_frame(&lab_wire::packet::ethernet(us.mac, mac, etherparse::EtherType::ARP, &arp)).unwrap();
    let request = PingRequest { timeout: Duration::from_millis(20), ..PingRequest::new(FAR, 5, 56) };
    let outcome = host.ping(&request, &mut |_| {}).unwrap();
    assert_eq!((outcome.sent, outcome.replies.len()), (5, 0));
    assert!(!outcome.is_complete());
}

#[test]
fn a_host_that_is_not_there_is_said_to_be_unreachable() {
    let (near, _far) = Cable::channel();
    let request = PingRequest { timeout: Duration::from_millis(10), ..PingRequest::new(FAR, 1, 56) };
    let error = Host::new(near, HostConfiguration::of_network(0)).ping(&request, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::HostUnreachable);
}

#[test]
fn a_cable_pulled_during_a_run_ends_it_with_what_was_received() {
    let (near, far) = Cable::channel();
    let mut host = Host::new(near, HostConfiguration::of_network(0));
    std::thread::scope(|scope| {
        let puller = scope.spawn(move || {
            let mut far = Host::new(far, far_configuration());
            for _ in 0..4 {
                far.receive(Duration::from_secs(5)).unwrap();
            }
        });
        let outcome = host.ping(&PingRequest::new(FAR, 100, 56), &mut |_| {}).unwrap();
        puller.join().unwrap();
        assert_eq!(outcome.replies.len(), 3, "one frame was the ARP request");
        assert!(outcome.interrupted.is_some());
    });
}
