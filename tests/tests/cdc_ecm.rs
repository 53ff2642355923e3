//! The CDC ECM driver against the second configuration of the RTL8152 model, in process on virtual time.

use hal::time::{Duration, sleep};
use lab_rtl8152::{Action, Config, Counted, Disconnect, Fault, FaultPlan, LinkSpeed, Trigger, Version};
use lab_usbredir::Speed;
use skiff_tests::adapter_world::{Diary, Manner, World, echo_of, frame};

const LIMIT: Duration = Duration::from_secs(600);

fn config(name: &str) -> Config {
    Config::new(Version::find(name).expect("the model knows this chip"))
}

#[test]
fn frames_of_every_length_pass_both_ways_at_every_bus_speed() {
    for (name, speed) in [
        ("8152b", Speed::Full),
        ("8152b", Speed::High),
        ("8153a", Speed::High),
        ("8153a", Speed::Super),
        ("8156b", Speed::Super),
    ] {
        for manner in [Manner::Echo, Manner::Impatient] {
            let config = Config { speed, ..config(name) };
            let address = config.address;
            let world = World::new(config);
            world.employ_cdc_ecm(manner, cdc_ecm::Config::default());
            world.run(LIMIT, async {
                world.echo_works(address).await;
                // Multiples of the packet size need a zero-length packet behind them.
                for length in
                    (60..=1514).step_by(97).chain([63, 64, 65, 511, 512, 513, 1023, 1024, 1025, 1514])
                {
                    let sent = frame(address, length, length);
                    assert!(world.exchange(&sent, Duration::from_millis(50)).await, "{name}, {length} bytes");
                }
                let burst: Vec<_> = (0..40).map(|number| frame(address, number, 100 + number * 30)).collect();
                for frame in &burst {
                    world.socket.with(|adapter, now| adapter.receive_frame(frame, now));
                }
                sleep(&*world.clock, Duration::from_millis(50)).await;
                assert!(
                    world.sent() == burst.iter().map(|frame| echo_of(frame)).collect::<Vec<_>>(),
                    "{name}"
                );
            });
            assert_eq!(world.close().failures, Vec::<String>::new(), "{name} at {speed:?}");
        }
    }
}

#[test]
fn the_link_follows_the_notifications() {
    let config = config("8153a");
    let address = config.address;
    let world = World::new(config);
    world.employ_cdc_ecm(Manner::Echo, cdc_ecm::Config::default());
    world.run(LIMIT, async {
        world.echo_works(address).await;
        world.socket.with(|adapter, now| adapter.set_cable(None, now));
        sleep(&*world.clock, Duration::from_millis(500)).await;
        world.socket.with(|adapter, now| adapter.set_cable(Some(LinkSpeed::M1000), now));
        world.echo_works(address).await;
    });
    let links = world.close().links;
    let edges: Vec<bool> = links.iter().map(Option::is_some).collect();
    assert!(edges.ends_with(&[true, false, true]), "{links:?}");
}

fn away(milliseconds: u64) -> Disconnect {
    Disconnect { away: Some(Duration::from_millis(milliseconds)), as_storage: false }
}

fn run(config: Config) -> Diary {
    let address = config.address;
    let world = World::new(config);
    world.employ_cdc_ecm(Manner::Echo, cdc_ecm::Config::default());
    world.run(LIMIT, async {
        for number in 0..20 {
            world.exchange(&frame(address, number, 60 + number * 70), Duration::from_millis(20)).await;
        }
        let patience = world.socket.now() + Duration::from_secs(60);
        while world.socket.now() < patience {
            if world.exchange(&frame(address, 99, 99), Duration::from_millis(200)).await {
                return;
            }
        }
        world.socket.with(|adapter, now| adapter.unplug(away(100), now));
        world.echo_works(address).await;
    });
    world.close()
}

#[test]
fn whatever_fails_is_recovered_or_named_and_leaves_nothing_behind() {
    for (kind, count) in
        [(Counted::Control, 20), (Counted::BulkIn, 30), (Counted::BulkOut, 24), (Counted::Interrupt, 3)]
    {
        for number in 1..=count {
            let misfortunes = [
                Action::Stall,
                Action::TimeOut,
                Action::Error,
                Action::Babble,
                Action::Short(None),
                Action::Disconnect(away(200)),
            ];
            // Every transfer suffers, and everything happens, but not every pair is tried.
            for (_, action) in (number..).zip(misfortunes).filter(|(pair, _)| pair % 4 == 0) {
                let faults = vec![Fault { trigger: Trigger::Nth(kind, number), action: action.clone() }];
                let diary = run(Config { faults: FaultPlan { faults }, ..config("8153a") });
                assert!(diary.started >= 1, "{kind:?} {number}, {action:?}: {diary:?}");
            }
        }
    }
}

#[test]
fn the_ladder_is_climbed_step_by_step_and_ends() {
    let faults = (5..2000)
        .map(|number| Fault { trigger: Trigger::Nth(Counted::BulkOut, number), action: Action::TimeOut });
    let config = Config { faults: FaultPlan { faults: faults.collect() }, ..config("8153a") };
    let address = config.address;
    let world = World::new(config);
    world.employ_cdc_ecm(Manner::Echo, cdc_ecm::Config::default());
    world.run(LIMIT, async {
        while world.diary.borrow().failures.is_empty() {
            world.exchange(&frame(address, 7, 70), Duration::from_millis(100)).await;
        }
    });
    let diary = world.close();
    let steps =
        ["recovery_endpoint_resets", "recovery_device_resets", "recovery_port_power_cycles", "tx_timeouts"]
            .map(|name| diary.counter(name));
    assert_eq!(steps, [1, 1, 1, 4], "{diary:?}");
}
