//! The CDC ECM driver against the second configuration of the RTL8152 model, in process on virtual time.

use hal::time::{Duration, sleep};
use lab_rtl8152::{Action, Config, Counted, LinkSpeed, Trigger};
use lab_usbredir::Speed;
use skiff_tests::adapter_faults::{
    LIMIT, adapter, away, climb_the_ladder, faulty, faulty_at, planned, recovery_steps, works_in_the_end,
};
use skiff_tests::adapter_world::{Diary, Manner, World, echo_of};

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
            let world = World::new(Config { speed, ..adapter(name) });
            world.employ_cdc_ecm(manner, cdc_ecm::Config::default());
            world.run(LIMIT, async {
                world.echo_works().await;
                // Multiples of the packet size need a zero-length packet behind them.
                for length in
                    (60..=1514).step_by(97).chain([63, 64, 65, 511, 512, 513, 1023, 1024, 1025, 1514])
                {
                    let sent = world.frame(length, length);
                    assert!(world.exchange(&sent, Duration::from_millis(50)).await, "{name}, {length} bytes");
                }
                let burst: Vec<_> = (0..40).map(|number| world.frame(number, 100 + number * 30)).collect();
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
    let world = World::with_cdc_ecm(adapter("8153a"));
    world.run(LIMIT, async {
        world.echo_works().await;
        world.socket.with(|adapter, now| adapter.set_cable(None, now));
        sleep(&*world.clock, Duration::from_millis(500)).await;
        world.socket.with(|adapter, now| adapter.set_cable(Some(LinkSpeed::M1000), now));
        world.echo_works().await;
    });
    let links = world.close().links;
    let edges: Vec<bool> = links.iter().map(Option::is_some).collect();
    assert!(edges.ends_with(&[true, false, true]), "{links:?}");
}

#[test]
fn a_speed_that_comes_after_the_link_is_told_too() {
    // Lost are the speed at first, and that the link goes and comes back: what is left is a speed.
    let plan = "interrupt 3 short 0\ninterrupt 4 short 0\ninterrupt 5 short 0";
    let world = World::with_cdc_ecm(planned("8153a", plan));
    world.run(LIMIT, async {
        world.echo_works().await;
        world.socket.with(|adapter, now| adapter.set_cable(Some(LinkSpeed::M10), now));
        world.echo_works().await;
    });
    let diary = world.close();
    assert_eq!((diary.links.as_slice(), diary.counter("link_ups")), ([Some(0), Some(10)].as_slice(), 1));
}

/// What a healthy adapter moves before its first frame has come back.
fn transfers_until_it_works() -> lab_rtl8152::Transfers {
    let world = World::with_cdc_ecm(adapter("8153a"));
    let transfers = world.run(LIMIT, async {
        world.echo_works().await;
        world.socket.with(|adapter, _| adapter.transfers())
    });
    world.close();
    transfers
}

fn run(config: Config) -> Diary {
    let world = World::with_cdc_ecm(config);
    world.run(LIMIT, async {
        for number in 0..20 {
            world.exchange(&world.frame(number, 60 + number * 70), Duration::from_millis(20)).await;
        }
        works_in_the_end(&world).await;
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
                let diary = run(faulty("8153a", Trigger::Nth(kind, number), action.clone()));
                assert!(diary.started >= 1, "{kind:?} {number}, {action:?}: {diary:?}");
            }
        }
    }
}

#[test]
fn the_ladder_is_climbed_step_by_step_and_ends() {
    let hanging = faulty_at("8153a", Counted::BulkOut, 5..2000, &Action::TimeOut);
    climb_the_ladder(World::with_cdc_ecm(hanging));
}

#[test]
fn a_device_that_came_back_by_the_second_step_starts_at_the_first_the_next_time() {
    let before = transfers_until_it_works().control;
    // The first step fails itself: the endpoint stays halted.
    let plan = format!("bulk-out 8 stall\ncontrol {} error\nbulk-out 20 stall", before + 1);
    let world = World::with_cdc_ecm(planned("8153a", &plan));
    world.run(LIMIT, async {
        world.echo_works().await;
        for number in 0..40 {
            world.exchange(&world.frame(number, 100), Duration::from_millis(20)).await;
        }
        world.echo_works().await;
    });
    let diary = world.close();
    assert_eq!(recovery_steps(&diary), [2, 1, 0], "{diary:?}");
    assert_eq!(diary.counter("recovery_steps_failed"), 1);
}

#[test]
fn a_device_that_was_reset_and_does_not_tell_has_a_link_as_at_first() {
    let before = transfers_until_it_works();
    // Two transmit transfers hang, one after the other. After the cable was pulled, what the device tells comes cut short.
    let mut plan =
        format!("bulk-out {} timeout\nbulk-out {} timeout\n", before.bulk_out + 1, before.bulk_out + 2);
    (before.interrupt + 2..before.interrupt + 20)
        .for_each(|number| plan.push_str(&format!("interrupt {number} short 0\n")));
    let world = World::with_cdc_ecm(planned("8153a", &plan));
    world.run(LIMIT, async {
        world.echo_works().await;
        // The first step against the first; in the middle of the time that the second has, the cable is pulled.
        assert!(!world.exchange(&world.frame(1, 100), Duration::from_secs(6)).await);
        assert!(!world.exchange(&world.frame(1, 100), Duration::from_secs(2)).await);
        world.socket.with(|adapter, now| adapter.set_cable(None, now));
        sleep(&*world.clock, Duration::from_millis(100)).await;
        assert_eq!(world.diary.borrow().links.last(), Some(&None));
        world.socket.with(|adapter, now| adapter.set_cable(Some(LinkSpeed::M1000), now));
        world.echo_works().await;
    });
    let diary = world.close();
    assert_eq!((diary.counter("recovery_device_resets"), diary.failures), (1, Vec::new()));
}

#[test]
fn a_notification_that_fails_is_recovered_and_the_link_is_still_followed() {
    for action in [Action::Stall, Action::Error, Action::Babble] {
        let world = World::with_cdc_ecm(faulty("8153a", Trigger::Nth(Counted::Interrupt, 2), action.clone()));
        world.run(LIMIT, async {
            world.echo_works().await;
            for cable in [None, Some(LinkSpeed::M1000), None, Some(LinkSpeed::M1000)] {
                world.socket.with(|adapter, now| adapter.set_cable(cable, now));
                sleep(&*world.clock, Duration::from_secs(1)).await;
            }
            world.echo_works().await;
        });
        let diary = world.close();
        assert_eq!(diary.failures, Vec::<String>::new(), "{action:?}");
        let downs = diary.links.iter().filter(|link| link.is_none()).count();
        assert!(downs >= 1, "{action:?}: {:?}", diary.links);
    }
}
