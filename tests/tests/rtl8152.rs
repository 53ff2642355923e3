//! The RTL8152 driver against the model, in process on virtual time.

use hal::time::{Duration, sleep};
use lab_rtl8152::{Config, LinkSpeed, VERSIONS};
use lab_usbredir::Speed;
use skiff_tests::adapter_faults::adapter;
use skiff_tests::adapter_world::{Manner, World, echo_of};

const MINUTE: Duration = Duration::from_secs(60);

/// Frames of every length class, there and back, in order and whole.
async fn traffic(world: &World, rounds: usize, longest: usize) {
    for round in 0..rounds {
        let lengths = [60, 61, 62, 63, 64, 255, 256, 257, 511, 512, 513, 1000, 1023, 1024, 1513, longest];
        let frames: Vec<_> = (lengths.iter().enumerate())
            .map(|(number, &length)| world.frame(round * 16 + number, length))
            .collect();
        for frame in &frames {
            world.socket.with(|adapter, now| adapter.receive_frame(frame, now));
        }
        let mut echoed = Vec::new();
        while echoed.len() < frames.len() {
            sleep(&*world.clock, Duration::from_micros(100)).await;
            echoed.extend(world.sent());
        }
        let expected: Vec<_> = frames.iter().map(|frame| echo_of(frame)).collect();
        assert!(echoed == expected, "round {round}: frames changed or changed places");
    }
}

#[test]
fn every_chip_at_every_bus_speed_passes_traffic_both_ways() {
    for version in VERSIONS {
        for speed in [Speed::Full, Speed::High, Speed::Super] {
            if speed > version.fastest_bus() {
                continue;
            }
            let world = World::with_rtl8152(Config { speed, ..Config::new(version) });
            world.run(MINUTE, async {
                world.echo_works().await;
                traffic(&world, 10, 1514).await;
            });
            let diary = world.close();
            assert_eq!((diary.started, &diary.failures), (1, &Vec::new()), "{version:?} at {speed:?}");
            assert_eq!(diary.counter("rx_bad_aggregates"), 0);
        }
    }
}

#[test]
fn the_link_flaps_and_traffic_goes_on() {
    for version in VERSIONS {
        let world = World::with_rtl8152(Config::new(version));
        world.run(MINUTE, async {
            world.echo_works().await;
            for _ in 0..5 {
                world.socket.with(|adapter, now| adapter.set_cable(None, now));
                sleep(&*world.clock, Duration::from_millis(300)).await;
                assert!(!world.exchange(&world.frame(1, 60), Duration::from_millis(20)).await);
                world.socket.with(|adapter, now| adapter.set_cable(Some(LinkSpeed::M2500), now));
                world.echo_works().await;
                traffic(&world, 1, 1514).await;
            }
        });
        let diary = world.close();
        assert_eq!(diary.failures, Vec::<String>::new(), "{version:?}");
        let downs = diary.links.iter().filter(|link| link.is_none()).count();
        let ups = diary.links.iter().filter(|link| link.is_some()).count();
        assert_eq!((ups, downs), (6, 5), "{version:?}: {:?}", diary.links);
    }
}

#[test]
fn a_slower_partner_makes_a_slower_link() {
    let world = World::with_rtl8152(adapter("8156b"));
    world.run(MINUTE, async {
        world.echo_works().await;
        for partner in [LinkSpeed::M1000, LinkSpeed::M100, LinkSpeed::M10, LinkSpeed::M2500] {
            world.socket.with(|adapter, now| adapter.set_cable(Some(partner), now));
            world.echo_works().await;
            traffic(&world, 1, 1514).await;
        }
    });
    let diary = world.close();
    let speeds: Vec<_> = diary.links.iter().copied().flatten().collect();
    assert_eq!(speeds, [2500, 1000, 100, 10, 2500]);
}

#[test]
fn dropping_the_future_of_receive_loses_nothing() {
    for name in ["8152b", "8153a", "8153b", "8156a", "8156b"] {
        let world = World::new(adapter(name));
        world.employ_rtl8152(Manner::Impatient, rtl8152::Config::default());
        world.run(MINUTE, async {
            world.echo_works().await;
            traffic(&world, 5, 1514).await;
            world.socket.with(|adapter, now| adapter.set_cable(None, now));
            sleep(&*world.clock, Duration::from_millis(300)).await;
            world.socket.with(|adapter, now| adapter.set_cable(Some(LinkSpeed::M1000), now));
            world.echo_works().await;
            traffic(&world, 5, 1514).await;
        });
        assert_eq!(world.close().failures, Vec::<String>::new(), "{name}");
    }
}
