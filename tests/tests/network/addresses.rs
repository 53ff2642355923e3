//! ARP, address conflicts and DHCP.

use std::net::Ipv4Addr;

use etherparse::{ArpOperation, EtherType, IpNumber, Ipv4Header};
use hal::time::Duration;
use kernel::net::Configuration;
use kernel::net::configuration::Probing;
use kernel::net::counters::DropReason;
use lab_wire::dhcp::{self, Lease, MessageType};
use lab_wire::packet::{self, BROADCAST, MacAddress, Packet};

use crate::harness::{Bench, GUEST, GUEST_MAC, PEER, PEER_MAC, Reply, Request, fixed, ipv4_frame};

fn arp(operation: ArpOperation, sender: (MacAddress, Ipv4Addr), target: (MacAddress, Ipv4Addr)) -> Vec<u8> {
    packet::ethernet(BROADCAST, sender.0, EtherType::ARP, &packet::arp(operation, sender, target))
}

fn who_has(target: Ipv4Addr) -> Vec<u8> {
    arp(ArpOperation::REQUEST, (PEER_MAC, PEER), ([0; 6], target))
}

/// Sender and target protocol addresses of the ARP packets in `frames`.
fn arps(frames: &[Vec<u8>]) -> Vec<(ArpOperation, Ipv4Addr, Ipv4Addr)> {
    let packets = frames.iter().filter_map(|frame| packet::parse(frame));
    packets
        .filter_map(|(_, _, packet)| match packet {
            Packet::Arp(arp) => Some((arp.operation, arp.sender_ipv4_addr(), arp.target_ipv4_addr())),
            Packet::Ipv4(..) => None,
        })
        .collect()
}

/// Row 20: a request for our address is answered, to the sender alone.
#[test]
fn arp_request_for_our_address_is_answered() {
    let answers = Bench::ready().exchange(who_has(GUEST));
    let (to, from, Packet::Arp(reply)) = packet::parse(&answers[0]).unwrap() else { panic!("no ARP") };
    assert_eq!((to, from, answers.len()), (PEER_MAC, GUEST_MAC, 1));
    assert_eq!(reply.operation, ArpOperation::REPLY);
    assert_eq!((reply.sender_mac, reply.sender_ipv4_addr()), (GUEST_MAC, GUEST));
    assert_eq!((reply.target_mac, reply.target_ipv4_addr()), (PEER_MAC, PEER));
}

/// Row 20: a probe for our address (RFC 5227) is answered: the address is defended.
#[test]
fn arp_probe_for_our_address_is_answered() {
    let probe = arp(ArpOperation::REQUEST, (PEER_MAC, Ipv4Addr::UNSPECIFIED), ([0; 6], GUEST));
    let answers = arps(&Bench::ready().exchange(probe));
    assert_eq!(answers, [(ArpOperation::REPLY, GUEST, Ipv4Addr::UNSPECIFIED)]);
}

/// Row 20: requests for other addresses are not answered.
#[test]
fn arp_request_for_another_address_is_dropped() {
    let bench = Bench::ready();
    for target in [Ipv4Addr::new(10, 0, 0, 3), Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::UNSPECIFIED] {
        bench.assert_dropped(who_has(target), DropReason::ArpOtherTarget);
    }
}

/// Row 20: senders that are not one station with one address are ignored.
#[test]
fn arp_senders_that_are_not_unicast_are_ignored() {
    let bench = Bench::ready();
    for mac in [[1, 0, 0x5e, 0, 0, 1], [0xff; 6], [0; 6]] {
        let packet = packet::arp(ArpOperation::REQUEST, (mac, PEER), ([0; 6], GUEST));
        bench.assert_dropped(
            packet::ethernet(BROADCAST, PEER_MAC, EtherType::ARP, &packet),
            DropReason::ArpSender,
        );
    }
    for address in [[10, 0, 0, 255], [255; 4], [224, 0, 0, 1], [127, 0, 0, 1]] {
        let request = arp(ArpOperation::REQUEST, (PEER_MAC, address.into()), ([0; 6], GUEST));
        bench.assert_dropped(request, DropReason::ArpSender);
    }
}

/// Row 20: replies that nobody asked for teach nothing.
#[test]
fn unsolicited_arp_replies_are_dropped() {
    let bench = Bench::ready();
    let reply = arp(ArpOperation::REPLY, (PEER_MAC, PEER), (GUEST_MAC, GUEST));
    bench.assert_dropped(reply, DropReason::ArpUnsolicited);
}

/// Row 20: an ARP reply that answers a question of ours is used: the stack behind the echo path resolves addresses.
#[test]
fn solicited_arp_replies_are_used() {
    let bench = Bench::ready();
    let header = Ipv4Header {
        time_to_live: 64,
        protocol: IpNumber::UDP,
        source: PEER.octets(),
        destination: GUEST.octets(),
        ..Ipv4Header::default()
    };
    // A datagram to a port where nobody listens: port unreachable goes back once the sender is resolved.
    let datagram = ipv4_frame(GUEST_MAC, PEER_MAC, header, &[0x12, 0x34, 0, 9, 0, 8, 0, 0]);
    let asked = arps(&bench.exchange(datagram.clone()));
    assert_eq!(asked, [(ArpOperation::REQUEST, GUEST, PEER)]);
    bench.exchange(arp(ArpOperation::REPLY, (PEER_MAC, PEER), (GUEST_MAC, GUEST)));
    let answers = bench.exchange(datagram);
    let (_, _, Packet::Ipv4(_, message)) = packet::parse(&answers[0]).unwrap() else { panic!("no IPv4") };
    assert_eq!(message[..2], [3, 3], "port unreachable");
}

/// Row 20: an address is probed before it is used, and announced then.
#[test]
fn own_address_is_probed_and_announced() {
    let mut configuration = fixed();
    configuration.probing = Probing::FAST;
    let bench = Bench::new(configuration);
    bench.pass(Duration::from_millis(9));
    let probes = arps(&bench.cable.sent());
    assert_eq!(probes, [(ArpOperation::REQUEST, Ipv4Addr::UNSPECIFIED, GUEST); 2]);
    assert!(bench.exchange(Request::default().frame()).is_empty(), "used before the probes were over");
    bench.pass(Duration::from_millis(2));
    assert_eq!(arps(&bench.cable.sent()), [(ArpOperation::REQUEST, GUEST, GUEST)]);
    Reply::only(&bench.exchange(Request::default().frame()));
    assert_eq!(
        bench.first_report("ready"),
        "ready interface=eth0 driver=played mac=52:54:00:12:34:56 address=10.0.0.2 prefix=24 gateway=10.0.0.1 \
         since_entry_us=10000"
    );
}

/// Row 20: an address that somebody else has is not used.
#[test]
fn an_address_that_is_taken_is_not_used() {
    let mut configuration = fixed();
    configuration.probing = Probing::FAST;
    let bench = Bench::new(configuration);
    bench.pass(Duration::from_millis(1));
    let other = [2, 0, 0, 0, 0, 0x77];
    bench.exchange(arp(ArpOperation::REPLY, (other, GUEST), (GUEST_MAC, Ipv4Addr::UNSPECIFIED)));
    bench.pass(Duration::from_secs(50));
    bench.cable.sent();
    assert!(bench.exchange(Request::default().frame()).is_empty());
    assert_eq!(bench.counters().address_conflicts.get(), 1);
    let taken = "taken interface=eth0 address=10.0.0.2 station=02:00:00:00:00:77";
    assert_eq!((bench.first_report("taken").as_str(), bench.reported("taken ")), (taken, 1));
    assert_eq!(bench.reported("ready "), 0);
    // The other station went away: the next try succeeds.
    bench.pass(Duration::from_secs(20));
    bench.cable.sent();
    Reply::only(&bench.exchange(Request::default().frame()));
}

/// Row 20: a used address is defended, once in ten seconds.
#[test]
fn a_used_address_is_defended() {
    let bench = Bench::ready();
    let claim = arp(ArpOperation::REQUEST, ([2, 0, 0, 0, 0, 0x77], GUEST), ([0; 6], GUEST));
    let defence = [(ArpOperation::REQUEST, GUEST, GUEST)];
    assert_eq!(arps(&bench.exchange(claim.clone())), defence);
    assert!(bench.exchange(claim.clone()).is_empty(), "two stations must not shout at each other");
    bench.pass(Duration::from_secs(10));
    assert_eq!(arps(&bench.exchange(claim)), defence);
    Reply::only(&bench.exchange(Request::default().frame()));
}

const LEASE: Lease = Lease { address: GUEST, prefix: 24, router: Some(PEER), seconds: 600 };

/// Plays the DHCP server, and answers ARP, for what the guest has sent; gives the kinds of message seen.
fn serve_dhcp(bench: &Bench) -> Vec<MessageType> {
    let mut seen = Vec::new();
    for frame in bench.cable.sent() {
        if arps(std::slice::from_ref(&frame)) == [(ArpOperation::REQUEST, GUEST, PEER)] {
            bench.cable.send(arp(ArpOperation::REPLY, (PEER_MAC, PEER), (GUEST_MAC, GUEST)));
        }
        let Some((_, _, Packet::Ipv4(header, datagram))) = packet::parse(&frame) else { continue };
        if header.protocol != IpNumber::UDP || datagram[..4] != [0, 68, 0, 67] {
            continue;
        }
        let message = dhcp::Message::parse(&datagram[8..]).expect("a DHCP message");
        assert_eq!(message.client_mac, GUEST_MAC);
        seen.push(message.kind);
        let Some(answer) = dhcp::answer(PEER, &LEASE, &message) else { continue };
        let builder = etherparse::PacketBuilder::ethernet2(PEER_MAC, GUEST_MAC)
            .ipv4(PEER.octets(), answer.destination.octets(), 64)
            .udp(67, 68);
        let mut reply = Vec::new();
        builder.write(&mut reply, &answer.payload).unwrap();
        bench.cable.send(reply);
    }
    seen
}

fn lease(bench: &Bench) {
    let mut seen = Vec::new();
    for _ in 0..100 {
        bench.pass(Duration::from_millis(100));
        seen.extend(serve_dhcp(bench));
        if bench.table.entries()[0].state().address.is_some() {
            assert_eq!(seen, [MessageType::Discover, MessageType::Request]);
            return;
        }
    }
    panic!("no address; seen {seen:?}");
}

#[test]
fn an_address_is_leased_by_dhcp() {
    let bench = Bench::new(Configuration::default());
    lease(&bench);
    bench.cable.sent();
    Reply::only(&bench.exchange(Request::default().frame()));
    let ready = bench.first_report("ready");
    assert!(ready.contains(" address=10.0.0.2 prefix=24 gateway=10.0.0.1 "), "{ready}");
}

/// The protocol stack wants every frame in one piece; that is nothing that an echo costs.
#[test]
fn what_the_answers_of_a_dhcp_server_cost_is_not_counted_as_the_cost_of_echoes() {
    let bench = Bench::new(Configuration::default());
    bench.cable.linear.set(Some(128));
    lease(&bench);
    bench.cable.sent();
    let request = Request { payload: vec![3; 1400], ..Request::default() };
    Reply::only(&bench.exchange(request.frame()));
    let counters = bench.counters();
    assert_eq!((counters.payload_bytes_copied.get(), counters.allocations.get()), (0, 0), "{counters}");
    assert!(counters.stack_bytes_copied.get() > 0 && counters.stack_frames.get() == 2, "{counters}");
}

#[test]
fn a_lost_discovery_is_repeated_soon() {
    let bench = Bench::new(Configuration::default());
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.cable.sent().len(), 1);
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.cable.sent().len(), 1);
}

#[test]
fn discoveries_that_nobody_answers_are_reported_more_and_more_rarely() {
    let bench = Bench::new(Configuration::default());
    bench.pass(Duration::from_secs(60));
    assert_eq!(
        discoveries(&bench),
        [1, 2, 4, 8, 16].map(|attempt| format!("dhcp interface=eth0 attempt={attempt}"))
    );
}

/// What was reported of DHCP.
fn discoveries(bench: &Bench) -> Vec<String> {
    bench.reports.borrow().iter().filter(|line| line.starts_with("dhcp ")).cloned().collect()
}

#[test]
fn discoveries_are_counted_from_the_beginning_after_a_lease() {
    let bench = Bench::new(Configuration::default());
    lease(&bench);
    bench.pass(Duration::from_secs(700));
    assert_eq!(bench.reported("ready "), 1);
    assert_eq!(discoveries(&bench)[..2], ["dhcp interface=eth0 attempt=1"; 2]);
}

#[test]
fn a_lease_is_renewed_and_given_up_when_it_is_over() {
    let bench = Bench::new(Configuration::default());
    lease(&bench);
    // Half of ten minutes later the lease is renewed, again and again.
    let renewals: usize = (0..180)
        .map(|_| {
            bench.pass(Duration::from_secs(10));
            serve_dhcp(&bench).iter().filter(|kind| **kind == MessageType::Request).count()
        })
        .sum();
    assert!((5..=6).contains(&renewals), "{renewals} renewals in half an hour");
    bench.cable.sent();
    Reply::only(&bench.exchange(Request::default().frame()));
    // With nobody to renew it, it ends, and with it the use of the address.
    bench.pass(Duration::from_secs(700));
    bench.cable.sent();
    assert!(bench.table.entries()[0].state().address.is_none());
    let answers = bench.exchange(Request::default().frame());
    assert!(answers.iter().all(|frame| frame[..6] == BROADCAST), "{answers:02x?}");
}
