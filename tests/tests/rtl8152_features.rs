//! What the RTL8152 driver makes of the chip's offloads, filters and buffers, against the model on virtual time.

use std::cell::RefCell;
use std::rc::Rc;

use etherparse::PacketBuilder;
use hal::network::{Event, NetworkDevice};
use hal::time::{Duration, sleep};
use lab_rtl8152::{Adapter, Config, LinkSpeed};
use netbuf::{ChecksumStatus, NetBuf, Queue};
use rtl8152::{Coalescing, Filter, Rtl8152};
use skiff_tests::adapter_faults::{adapter, planned};
use skiff_tests::adapter_world::{FAR, Manner, World, echo_of, frame};
use skiff_tests::direct_usb::DirectUsb;
use skiff_tests::virtual_time::VirtualClock;

const MINUTE: Duration = Duration::from_secs(60);
const CHIPS: [&str; 6] = ["8152b", "8153a", "8153b", "8153c", "8156a", "8156b"];

type Driver = Rtl8152<DirectUsb<Adapter>, Rc<VirtualClock>>;

/// Runs `main` with a driver whose link is up.
fn with_driver<T>(
    adapter: Config,
    config: rtl8152::Config,
    main: impl AsyncFnOnce(&World, &mut Driver) -> T,
) -> T {
    let world = World::new(adapter);
    let result = world.run(MINUTE, async {
        let device = world.socket.enumerate().await.expect("the adapter enumerates");
        let (clock, memory) = (world.clock.clone(), world.memory.clone());
        let mut driver = Rtl8152::start(device, clock, memory, config).await.expect("the adapter comes up");
        let mut received = Queue::new();
        while !matches!(driver.receive(&mut received, 8).await, Ok(Event::LinkUp(_))) {}
        main(&world, &mut driver).await
    });
    world.close();
    result
}

/// Lets the driver work for a while and gives what it received.
async fn work(world: &World, driver: &mut Driver, time: Duration) -> Queue {
    let mut received = Queue::new();
    let receive = async {
        loop {
            driver.receive(&mut received, 64).await.expect("the adapter works");
        }
    };
    let _: Result<(), _> = hal::time::timeout(&*world.clock, time, receive).await;
    received
}

/// A buffer with these bytes and room for a header in front.
fn buffer(world: &World, bytes: &[u8]) -> NetBuf {
    let mut buffer = NetBuf::rx_alloc(&world.memory, bytes.len()).expect("memory");
    buffer.put(bytes.len()).expect("room").copy_from_slice(bytes);
    buffer
}

/// Sends one frame and gives what appears on the cable.
async fn transmit(world: &World, driver: &mut Driver, frame: NetBuf) -> Vec<Vec<u8>> {
    let mut frames = Queue::new();
    frames.push_back(frame);
    driver.transmit(&mut frames).expect("the adapter works");
    work(world, driver, Duration::from_millis(2)).await;
    world.sent()
}

fn udp(payload: usize) -> Vec<u8> {
    let builder =
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], FAR).ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64).udp(7, 7);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &vec![0x5a; payload]).expect("it fits");
    bytes
}

fn tcp6(payload: usize) -> Vec<u8> {
    let builder =
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], FAR).ipv6([1; 16], [2; 16], 64).tcp(7, 7, 1, 1024);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &vec![0xa5; payload]).expect("it fits");
    bytes
}

#[test]
fn a_checksum_left_partial_is_completed_by_the_chip() {
    for name in CHIPS {
        with_driver(adapter(name), rtl8152::Config::default(), async |world, driver| {
            for (whole, start, offset) in [(udp(300), 34, 6), (tcp6(300), 54, 16)] {
                let mut blank = whole.clone();
                blank[start + offset..start + offset + 2].fill(0);
                let mut frame = buffer(world, &blank);
                frame.set_checksum_status(ChecksumStatus::Partial { start, offset });
                assert_eq!(transmit(world, driver, frame).await, [whole], "{name}");
            }
        });
    }
}

#[test]
fn a_checksum_that_the_chip_cannot_complete_is_not_sent_wrong() {
    with_driver(adapter("8153a"), rtl8152::Config::default(), async |world, driver| {
        let mut frame = buffer(world, &frame([2; 6], 1, 100));
        frame.set_checksum_status(ChecksumStatus::Partial { start: 34, offset: 2 });
        assert!(transmit(world, driver, frame).await.is_empty());
        assert_eq!(driver.driver_counters().tx_dropped_unfit, 1);
    });
}

#[test]
fn received_checksums_are_believed_when_the_chip_checked_both_layers() {
    for name in CHIPS {
        with_driver(adapter(name), rtl8152::Config::default(), async |world, driver| {
            let mut right = udp(400);
            right[..6].copy_from_slice(&world.address);
            let mut wrong = right.clone();
            wrong[60] ^= 1;
            let mut fragment = right.clone();
            fragment[20] = 0x20;
            let statuses: Rc<RefCell<Vec<ChecksumStatus>>> = Rc::default();
            for frame in [&right, &wrong, &fragment, &world.frame(1, 200)] {
                world.socket.with(|adapter, now| adapter.receive_frame(frame, now));
                let mut received = work(world, driver, Duration::from_millis(2)).await;
                let frame = received.pop_front().expect("it arrives");
                statuses.borrow_mut().push(frame.checksum_status());
            }
            let verified = statuses
                .borrow()
                .iter()
                .map(|status| *status == ChecksumStatus::Unnecessary)
                .collect::<Vec<_>>();
            assert_eq!(verified, [true, false, false, false], "{name}");
        });
    }
}

#[test]
fn vlan_tags_are_stripped_and_inserted_by_the_chip() {
    for name in CHIPS {
        for strip in [true, false] {
            let mut choices = rtl8152::Config::default();
            choices.vlan_strip = strip;
            with_driver(adapter(name), choices, async |world, driver| {
                let plain = world.frame(3, 300);
                let mut tagged = plain.clone();
                tagged.splice(12..12, [0x81, 0x00, 0x60, 0x7b]);
                world.socket.with(|adapter, now| adapter.receive_frame(&tagged, now));
                let mut received = work(world, driver, Duration::from_millis(2)).await;
                let frame = received.pop_front().expect("it arrives");
                let (expected, tag) = if strip { (&plain, Some(0x607b)) } else { (&tagged, None) };
                assert_eq!((frame.len(), frame.vlan()), (expected.len(), tag), "{name}");
                // And back out: what was stripped is inserted.
                assert_eq!(transmit(world, driver, frame).await, [tagged], "{name}");
            });
        }
    }
}

#[test]
fn jumbo_frames_pass_up_to_the_largest_mtu() {
    for name in ["8153a", "8153b", "8153c", "8156a", "8156b", "8153d"] {
        for share in [2000, 4074, 9000, usize::MAX] {
            let adapter = adapter(name);
            let largest = rtl8152::Version::ALL
                .into_iter()
                .find(|version| version.number() == adapter.version.code)
                .expect("driver and model know the same chips")
                .maximum_mtu();
            let mtu = share.min(largest);
            let mut choices = rtl8152::Config::default();
            choices.maximum_transmission_unit = mtu;
            let world = World::new(adapter);
            world.employ_rtl8152(Manner::Echo, choices);
            world.run(MINUTE, async {
                world.echo_works().await;
                for number in 0..6 {
                    let frames = [60, 1514, mtu + 14].map(|length| world.frame(number, length));
                    for frame in &frames {
                        world.socket.with(|adapter, now| adapter.receive_frame(frame, now));
                    }
                    sleep(&*world.clock, Duration::from_millis(5)).await;
                    assert!(
                        world.sent() == frames.each_ref().map(|frame| echo_of(frame)),
                        "{name}, MTU {mtu}"
                    );
                }
            });
            assert_eq!(world.close().failures, Vec::<String>::new());
        }
    }
}

#[test]
fn the_filter_passes_what_it_should() {
    let own = adapter("8153a").address;
    let broadcast = [0xff; 6];
    let (joined, other) = ([1, 0, 0x5e, 0, 0, 1], [1, 0, 0x5e, 0, 0, 0xfb]);
    let stranger = [2, 0, 0, 0, 0, 0x77];
    let all = [own, broadcast, joined, other, stranger];
    for (filter, expected) in [
        (Filter::Groups(vec![]), vec![own, broadcast]),
        (Filter::Groups(vec![joined]), vec![own, broadcast, joined]),
        (Filter::AllMulticast, vec![own, broadcast, joined, other]),
        (Filter::Promiscuous, all.to_vec()),
    ] {
        with_driver(adapter("8153a"), rtl8152::Config::default(), async |world, driver| {
            driver.set_filter(filter.clone());
            work(world, driver, Duration::from_millis(10)).await;
            for destination in all {
                world.socket.with(|adapter, now| adapter.receive_frame(&frame(destination, 0, 80), now));
            }
            let received = work(world, driver, Duration::from_millis(5)).await;
            let passed: Vec<[u8; 6]> =
                received.iter().filter_map(|frame| frame.data().first_chunk().copied()).collect();
            assert_eq!(passed, expected, "{filter:?}");
        });
    }
}

#[test]
fn a_filter_chosen_during_a_recovery_is_in_force_after_it() {
    for tenths in 0..160 {
        let faults = "bulk-out 1 stall".parse().expect("a plan");
        with_driver(
            Config { faults, ..adapter("8153a") },
            rtl8152::Config::default(),
            async |world, driver| {
                transmit(world, driver, buffer(world, &frame(FAR, 0, 80))).await;
                work(world, driver, Duration::from_micros(100 * tenths)).await;
                driver.set_filter(Filter::Promiscuous);
                work(world, driver, Duration::from_millis(50)).await;
                assert_eq!(driver.driver_counters().recovery_endpoint_resets, 1);
                let stranger = [2, 0, 0, 0, 0, 0x77];
                world.socket.with(|adapter, now| adapter.receive_frame(&frame(stranger, 0, 80), now));
                let passed = work(world, driver, Duration::from_millis(5)).await.len();
                assert_eq!(passed, 1, "chosen {tenths} tenths of a millisecond later");
            },
        );
    }
}

#[test]
fn a_configured_address_is_the_one_that_the_filter_knows() {
    let mut choices = rtl8152::Config::default();
    choices.mac_address = Some([2, 0, 0, 0, 0x12, 0x34]);
    with_driver(adapter("8156b"), choices, async |world, driver| {
        let address = driver.information().mac_address;
        assert_eq!(address, [2, 0, 0, 0, 0x12, 0x34]);
        world.socket.with(|adapter, now| adapter.receive_frame(&frame(address, 0, 80), now));
        assert_eq!(work(world, driver, Duration::from_millis(5)).await.len(), 1);
    });
}

#[test]
fn payload_is_neither_copied_nor_allocated_for_in_steady_state() {
    let world = World::with_rtl8152(adapter("8153a"));
    let (before, after) = world.run(MINUTE, async {
        world.echo_works().await;
        for number in 0..64 {
            assert!(world.exchange(&world.frame(number, 1514), Duration::from_millis(5)).await);
        }
        let before = world.memory.statistics();
        for number in 0..1000 {
            assert!(world.exchange(&world.frame(number, 1514), Duration::from_millis(5)).await);
        }
        (before, world.memory.statistics())
    });
    world.close();
    let copied = after.copied_bytes - before.copied_bytes;
    assert_eq!(copied, 1000 * 128, "the copied head of each frame and nothing else");
    assert_eq!(after.allocator_calls - before.allocator_calls, 0, "allocator calls in 1000 echoes");
}

#[test]
fn copybreak_copies_up_to_whole_frames() {
    let mut choices = rtl8152::Config::default();
    choices.rx_copybreak = usize::MAX;
    with_driver(adapter("8153a"), choices, async |world, driver| {
        let before = world.memory.statistics().copied_bytes;
        world.socket.with(|adapter, now| adapter.receive_frame(&world.frame(0, 1514), now));
        let received = work(world, driver, Duration::from_millis(5)).await;
        assert_eq!(
            received.iter().map(|frame| (frame.head_len(), frame.data_len())).collect::<Vec<_>>(),
            [(1514, 0)]
        );
        assert_eq!(world.memory.statistics().copied_bytes - before, 1514);
    });
}

#[test]
fn frames_offered_together_share_transfers() {
    with_driver(adapter("8153a"), rtl8152::Config::default(), async |world, driver| {
        let mut frames = Queue::new();
        let sent: Vec<_> = (0..100).map(|number| frame([2; 6], number, 60 + number)).collect();
        sent.iter().for_each(|bytes| frames.push_back(buffer(world, bytes)));
        while !frames.is_empty() {
            driver.transmit(&mut frames).expect("the adapter works");
            work(world, driver, Duration::from_millis(1)).await;
        }
        work(world, driver, Duration::from_millis(5)).await;
        assert!(world.sent() == sent, "frames changed or changed places");
        let counters = driver.driver_counters();
        assert_eq!((counters.sent_frames, counters.tx_transfers), (100, 2));
        assert_eq!(counters.tx_heads_copied, 0);
    });
}

#[test]
fn a_full_transfer_ring_makes_frames_wait_and_loses_none() {
    with_driver(adapter("8153a"), rtl8152::Config::default(), async |world, driver| {
        let mut frames = Queue::new();
        let sent: Vec<_> = (0..1000).map(|number| frame([2; 6], number, 61 + number % 64)).collect();
        sent.iter().for_each(|bytes| frames.push_back(buffer(world, bytes)));
        let mut on_cable = Vec::new();
        while !frames.is_empty() {
            driver.transmit(&mut frames).expect("the adapter works");
            work(world, driver, Duration::from_micros(100)).await;
            on_cable.extend(world.sent());
        }
        work(world, driver, Duration::from_millis(5)).await;
        on_cable.extend(world.sent());
        assert!(on_cable == sent, "frames changed, changed places or got lost");
        let mut shown = Vec::new();
        driver.counters(&mut |name, value| shown.push((name, value)));
        assert!(shown.iter().all(|(name, value)| !name.starts_with("recovery") || *value == 0), "{shown:?}");
    });
}

#[test]
fn a_frame_that_the_ring_never_has_room_for_is_lost_and_the_others_are_sent() {
    let world = World::with_rtl8152(adapter("8153a"));
    world.run(MINUTE, async {
        world.echo_works().await;
        world.socket.ring.set(1);
        // Its echo has two pieces: the copied head, and the rest where it was received.
        assert!(!world.exchange(&world.frame(1, 1514), Duration::from_secs(1)).await);
        assert!(world.exchange(&world.frame(2, 60), Duration::from_secs(1)).await);
    });
    let diary = world.close();
    assert_eq!((diary.counter("tx_dropped_lost"), diary.counter("recovery_endpoint_resets")), (1, 1));
}

/// Nothing is found out by looking at the hardware every now and then.
fn without_inspections() -> rtl8152::Config {
    let mut choices = rtl8152::Config::default();
    choices.inspection_interval = Duration::from_secs(3600);
    choices
}

#[test]
fn frames_that_waited_for_the_interrupt_endpoint_to_be_reset_are_asked_for() {
    with_driver(planned("8153a", "interrupt 3 stall"), without_inspections(), async |world, driver| {
        world.socket.with(|adapter, now| adapter.set_cable(None, now));
        work(world, driver, Duration::from_millis(1)).await;
        assert_eq!(driver.driver_counters().recovery_interrupt_endpoint, 1);
        let mut frames = Queue::new();
        frames.push_back(buffer(world, &frame(FAR, 0, 80)));
        driver.transmit(&mut frames).expect("the adapter works");
        assert_eq!(frames.len(), 1, "there is no pipe to send it with");
        assert_eq!(driver.receive(&mut Queue::new(), 8).await, Ok(Event::Progress));
        driver.transmit(&mut frames).expect("the adapter works");
        assert!(frames.is_empty());
    });
}

#[test]
fn link_events_come_after_the_interrupt_endpoint_and_another_failed_at_once() {
    with_driver(
        planned("8153a", "interrupt 3 stall\nbulk-out 1 stall"),
        without_inspections(),
        async |world, driver| {
            world.socket.with(|adapter, now| adapter.set_cable(None, now));
            transmit(world, driver, buffer(world, &frame(FAR, 0, 80))).await;
            work(world, driver, Duration::from_secs(1)).await;
            let counters = driver.driver_counters();
            assert_eq!((counters.recovery_endpoint_resets, counters.recovery_interrupt_endpoint), (1, 1));
            assert_eq!(counters.link_downs, 1);
            world.socket.with(|adapter, now| adapter.set_cable(Some(LinkSpeed::M1000), now));
            work(world, driver, Duration::from_secs(1)).await;
            assert_eq!(driver.driver_counters().link_ups, 2);
        },
    );
}

#[test]
fn a_cloned_frame_is_sent_without_touching_the_other_half() {
    with_driver(adapter("8153a"), rtl8152::Config::default(), async |world, driver| {
        let bytes = frame([2; 6], 5, 200);
        let mut original = buffer(world, &bytes);
        let clone = original.clone_buffer().expect("memory");
        assert_eq!(transmit(world, driver, clone).await, core::slice::from_ref(&bytes));
        assert_eq!(original.data(), bytes);
        assert_eq!(driver.driver_counters().tx_heads_copied, 1);
    });
}

#[test]
fn frames_that_nobody_frees_bound_the_blocks_that_they_pin() {
    let mut choices = rtl8152::Config::default();
    choices.receive_blocks = 12;
    with_driver(adapter("8153a"), choices, async |world, driver| {
        let mut hoard = Vec::new();
        for number in 0..200 {
            world.socket.with(|adapter, now| adapter.receive_frame(&world.frame(number, 1514), now));
            let mut received = work(world, driver, Duration::from_millis(1)).await;
            hoard.extend(core::iter::from_fn(|| received.pop_front()));
        }
        assert!(world.memory.statistics().live_blocks <= 12 + 2, "{:?}", world.memory.statistics());
        assert!(driver.driver_counters().rx_blocks_missing > 0);
        // Freed, everything flows again.
        hoard.clear();
        work(world, driver, Duration::from_millis(100)).await;
        world.socket.with(|adapter, now| adapter.receive_frame(&world.frame(7, 1514), now));
        assert!(!work(world, driver, Duration::from_millis(100)).await.is_empty());
    });
}

#[test]
fn latency_coalescing_answers_sooner_than_throughput() {
    let round_trip = |coalescing| {
        let mut choices = rtl8152::Config::default();
        choices.coalescing = coalescing;
        with_driver(adapter("8153a"), choices, async |world, driver| {
            world.socket.with(|adapter, now| adapter.receive_frame(&world.frame(0, 60), now));
            let start = world.socket.now();
            let mut received = Queue::new();
            while received.is_empty() {
                driver.receive(&mut received, 1).await.expect("the adapter works");
            }
            world.socket.now() - start
        })
    };
    let (latency, throughput) = (round_trip(Coalescing::Latency), round_trip(Coalescing::Throughput));
    assert!(latency < throughput, "{latency:?} against {throughput:?}");
}

#[test]
fn the_hardware_counters_are_shown() {
    with_driver(adapter("8153a"), rtl8152::Config::default(), async |world, driver| {
        for number in 0..5 {
            world.socket.with(|adapter, now| adapter.receive_frame(&world.frame(number, 80), now));
        }
        work(world, driver, Duration::from_secs(2)).await;
        assert_eq!(driver.tally().rx_unicast, 5);
        let mut shown = Vec::new();
        driver.counters(&mut |name, value| shown.push((name, value)));
        assert!(
            shown.contains(&("hardware_rx_unicast", 5)) && shown.contains(&("received_frames", 5)),
            "{shown:?}"
        );
    });
}
