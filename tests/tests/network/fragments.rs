//! Echo requests in fragments, and replies in fragments.

use hal::time::Duration;
use kernel::net::counters::DropReason;
use lab_wire::fragments::cut;
use proptest::prelude::*;

use crate::harness::{Bench, GUEST, GUEST_MAC, PEER_MAC, Reply, Request, assert_sound, fixed, ipv4_frame};

/// The fragments of a request, `step` bytes of payload each.
fn fragments(request: &Request, step: usize) -> Vec<Vec<u8>> {
    let message = request.message();
    cut(&message, step)
        .map(|(position, bytes)| fragment(request, position.offset, position.more, bytes))
        .collect()
}

fn fragment(request: &Request, offset: usize, more: bool, bytes: &[u8]) -> Vec<u8> {
    let mut header = request.header.clone();
    header.more_fragments = more;
    header.fragment_offset = ((offset / 8) as u16).try_into().unwrap();
    ipv4_frame(GUEST_MAC, PEER_MAC, header, bytes)
}

fn large(size: usize) -> Request {
    Request { payload: (0..size).map(|n| (n % 251) as u8).collect(), ..Request::default() }
}

/// Puts reply fragments together; checks that they are fragments of one datagram without gap or overlap.
fn assembled(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut parts: Vec<_> = frames.iter().map(|frame| Reply::parse(frame)).collect();
    parts.sort_by_key(|part| part.header.fragment_offset.value());
    let (mut message, identification) = (Vec::new(), parts[0].header.identification);
    for (index, part) in parts.iter().enumerate() {
        assert_eq!(part.header.source, GUEST.octets());
        assert_eq!(part.header.identification, identification);
        assert!(!part.header.dont_fragment);
        assert_eq!(usize::from(part.header.fragment_offset.value()) * 8, message.len());
        assert_eq!(part.header.more_fragments, index + 1 < parts.len());
        message.extend_from_slice(&part.message);
    }
    assert_sound(&message);
    message
}

/// Row 3: a request in fragments is answered whole, in fragments; the largest one too.
#[test]
fn a_fragmented_request_is_answered_in_fragments() {
    let bench = Bench::ready();
    for size in [1473, 2000, 8000, 65_507] {
        let request = large(size);
        let answers = bench.exchange_all(fragments(&request, 1480));
        let message = assembled(&answers);
        assert_eq!(message[0], 0);
        assert_eq!(message[8..], request.payload, "{size} bytes");
    }
    let counters = bench.counters();
    assert_eq!((counters.reassembled.get(), counters.echo_replies.get()), (4, 4));
    assert_eq!((counters.payload_bytes_copied.get(), counters.dropped_total()), (0, 0));
}

/// Row 3: fragments come in any order.
#[test]
fn fragments_may_come_in_any_order() {
    let bench = Bench::ready();
    let request = large(5000);
    let mut frames = fragments(&request, 1000);
    frames.reverse();
    assert_eq!(assembled(&bench.exchange_all(frames.clone()))[8..], request.payload);
    frames.swap(0, 3);
    assert_eq!(assembled(&bench.exchange_all(frames))[8..], request.payload);
}

/// Row 13: fragmented replies carry identifications of their own, a new one for each datagram.
#[test]
fn each_fragmented_reply_has_its_own_identification() {
    let bench = Bench::ready();
    let mut seen: Vec<u16> = (0..10)
        .map(|_| Reply::parse(&bench.exchange_all(fragments(&large(3000), 1480))[0]).header.identification)
        .collect();
    seen.dedup();
    assert_eq!(seen.len(), 10);
}

/// Row 8: the checksum covers all fragments.
#[test]
fn a_damaged_fragment_is_noticed() {
    let bench = Bench::ready();
    let mut frames = fragments(&large(4000), 1480);
    let last = frames.len() - 1;
    *frames[last].last_mut().unwrap() ^= 1;
    assert!(bench.exchange_all(frames).is_empty());
    assert_eq!(bench.counters().dropped(DropReason::IcmpChecksum), 3);
}

/// Row 15: fragments that overlap discard the whole datagram.
#[test]
fn overlapping_fragments_discard_the_datagram() {
    let message = large(64).message();
    let cases: [&[(usize, usize)]; 5] = [
        &[(0, 32), (24, 72)],
        &[(24, 72), (0, 32)],
        &[(0, 32), (8, 16)],
        &[(8, 16), (0, 32)],
        &[(0, 32), (0, 24)],
    ];
    for case in cases {
        let bench = Bench::ready();
        let frames = case
            .iter()
            .map(|(from, to)| fragment(&large(64), *from, *to < message.len(), &message[*from..*to]));
        assert!(bench.exchange_all(frames).is_empty());
        assert_eq!(bench.counters().dropped(DropReason::FragmentOverlap), 2, "{case:?}");
        // What is left of the datagram starts a new one, which the gap keeps from becoming whole.
        let rest = fragment(&large(64), 32, false, &message[32..]);
        assert!(bench.exchange(rest).is_empty());
    }
}

/// Row 15: the same fragment twice is dropped once and does no harm.
#[test]
fn duplicate_fragments_are_dropped() {
    let bench = Bench::ready();
    let request = large(3000);
    let mut frames = fragments(&request, 1480);
    frames.insert(1, frames[0].clone());
    assert_eq!(assembled(&bench.exchange_all(frames))[8..], request.payload);
    assert_eq!(bench.counters().dropped(DropReason::FragmentDuplicate), 1);
}

/// Row 15: two ends of one datagram, or bytes behind its end, discard it.
#[test]
fn contradicting_ends_discard_the_datagram() {
    let message = large(64).message();
    for (from, more) in [(32, false), (40, true), (40, false)] {
        let bench = Bench::ready();
        let frames = [
            fragment(&large(64), 24, false, &message[24..32]),
            fragment(&large(64), from, more, &message[from..from + 8]),
        ];
        bench.exchange_all(frames);
        assert_eq!(bench.counters().dropped(DropReason::FragmentOverlap), 2, "{from} {more}");
    }
}

/// Row 15: fragments that cannot be: empty, torn in the middle of a unit, beyond the largest datagram.
#[test]
fn impossible_fragments_are_dropped() {
    let bench = Bench::ready();
    bench.assert_dropped(fragment(&large(0), 8, true, &[]), DropReason::FragmentMalformed);
    bench.assert_dropped(fragment(&large(0), 8, true, &[1; 7]), DropReason::FragmentMalformed);
    bench.assert_dropped(fragment(&large(0), 65_512, false, &[1; 16]), DropReason::FragmentMalformed);
}

/// Row 15: after 60 seconds an incomplete datagram is given up; the sender is told when its first fragment came.
#[test]
fn an_incomplete_datagram_times_out_with_time_exceeded() {
    let bench = Bench::ready();
    let frames = fragments(&large(3000), 1480);
    assert!(bench.exchange(frames[0].clone()).is_empty());
    bench.pass(Duration::from_secs(59));
    assert!(bench.cable.sent().is_empty());
    bench.pass(Duration::from_secs(2));
    let error = Reply::only(&bench.cable.sent());
    assert_eq!((error.kind(), error.code()), (11, 1));
    assert_eq!(error.message[8..], frames[0][14..42], "the request's header and eight bytes");
    assert_eq!(bench.counters().dropped(DropReason::FragmentTimeout), 1);
}

/// Row 15: without the first fragment nobody is told (row 7: no error about a later fragment).
#[test]
fn an_incomplete_datagram_without_its_beginning_times_out_silently() {
    let bench = Bench::ready();
    for frame in &fragments(&large(3000), 1480)[1..] {
        bench.exchange(frame.clone());
    }
    bench.pass(Duration::from_secs(61));
    assert!(bench.cable.sent().is_empty());
    assert_eq!(bench.counters().dropped(DropReason::FragmentTimeout), 2);
}

/// Row 15: memory for fragments is bounded; the oldest datagrams make room.
#[test]
fn fragment_memory_is_bounded() {
    let configuration = fixed();
    let limits = configuration.reassembly;
    let bench = Bench::ready_with(configuration);
    let idle = bench.memory.statistics().live_descriptors;
    for identification in 0..1000 {
        let mut request = large(3000);
        request.header.identification = identification;
        for frame in &fragments(&request, 8)[..50] {
            bench.cable.send(frame.clone());
        }
        bench.pass(Duration::from_micros(1));
        let held = bench.memory.statistics().live_descriptors - idle;
        assert!(held <= limits.fragments, "{held} buffers are held");
    }
    assert!(bench.counters().dropped(DropReason::FragmentMemory) > 0);
    // A datagram of now is still put together.
    let request = large(4000);
    assert_eq!(assembled(&bench.exchange_all(fragments(&request, 1480)))[8..], request.payload);
}

/// Row 7: what is not ICMP is not put together, and no error is sent about it.
#[test]
fn fragments_of_other_protocols_are_dropped() {
    let bench = Bench::ready();
    let mut request = large(64);
    request.header.protocol = etherparse::IpNumber::UDP;
    bench.assert_dropped(fragment(&request, 0, true, &[0; 64]), DropReason::FragmentProtocol);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_way_of_cutting_is_answered(
        size in 1usize..20_000, step in 1usize..180, seed: u64, linear in proptest::option::of(42usize..100),
    ) {
        let bench = Bench::ready();
        bench.cable.linear.set(linear);
        let request = large(size);
        let step = (step * 8).max(size / 150).next_multiple_of(8).min(1480);
        let mut frames = fragments(&request, step);
        prop_assume!(frames.len() > 1 && frames.len() < 190);
        // A shuffle that the seed repeats.
        let mut state = seed | 1;
        for index in (1..frames.len()).rev() {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            frames.swap(index, (state >> 33) as usize % (index + 1));
        }
        let answers = bench.exchange_all(frames);
        prop_assert_eq!(&assembled(&answers)[8..], &request.payload[..]);
        prop_assert_eq!(bench.counters().payload_bytes_copied.get(), 0);
    }

    #[test]
    fn any_fragments_are_survived_and_nothing_leaks(
        pieces in proptest::collection::vec((0usize..12, 1usize..6, any::<bool>(), 0u16..3), 1..60),
    ) {
        let bench = Bench::ready();
        let idle = bench.memory.statistics().live_descriptors;
        for (offset, length, more, identification) in pieces {
            let mut request = large(0);
            request.header.identification = identification;
            bench.exchange(fragment(&request, offset * 8, more, &vec![8; length * 8]));
        }
        bench.pass(Duration::from_secs(120));
        bench.cable.sent();
        prop_assert_eq!(bench.memory.statistics().live_descriptors, idle);
    }
}
