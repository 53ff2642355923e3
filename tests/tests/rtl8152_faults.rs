//! The RTL8152 driver against a faulty model, in process on virtual time: whatever goes wrong in whichever transfer ends in a
//! recovery or in a named error, leaves no buffer behind, and after unplugging and plugging in again frames flow.

use hal::time::{Duration, sleep};
use lab_rtl8152::{Action, Adapter, Config, Counted, Disconnect, Trigger};
use skiff_tests::adapter_faults::{
    LIMIT, adapter, away, climb_the_ladder, failure, faulty, faulty_at, planned, send_until_failure,
    works_in_the_end,
};
use skiff_tests::adapter_world::{Diary, Manner, World, echo_of};

/// Whether the sweep tries this misfortune at this transfer. Every transfer suffers, and everything happens, but not every
/// pair is tried unless the environment says `SKIFF_SWEEP=full`: that takes minutes.
fn is_tried(number: u64, misfortune: usize) -> bool {
    const STRIDE: u64 = 8;
    (number + misfortune as u64).is_multiple_of(STRIDE) || std::env::var_os("SKIFF_SWEEP").is_some()
}

/// What every transfer can suffer.
fn misfortunes() -> Vec<Action> {
    vec![
        Action::Stall,
        Action::TimeOut,
        Action::Error,
        Action::Babble,
        Action::Short(None),
        Action::Short(Some(0)),
        Action::Disconnect(away(200)),
        Action::LinkDown(Some(Duration::from_millis(200))),
    ]
}

/// A run of the same length with every plan: bring-up, forty frames there and back, or as many as survive.
fn run(config: Config) -> Diary {
    let world = World::with_rtl8152(config);
    world.run(LIMIT, async {
        world.echo_works().await;
        for number in 0..40 {
            world.exchange(&world.frame(number, 60 + number * 36), Duration::from_millis(5)).await;
        }
        works_in_the_end(&world).await;
    });
    world.close()
}

/// How many transfers of each kind a healthy run has.
fn transfers(name: &str) -> (u64, u64, u64, u64) {
    let world = World::with_rtl8152(adapter(name));
    let counts = world.run(LIMIT, async {
        world.echo_works().await;
        for number in 0..40 {
            assert!(world.exchange(&world.frame(number, 60 + number * 36), Duration::from_millis(5)).await);
        }
        world.socket.with(|adapter, _| adapter.transfers())
    });
    world.close();
    (counts.control, counts.bulk_in, counts.bulk_out, counts.interrupt)
}

#[test]
fn every_control_transfer_may_fail_in_every_way() {
    for name in ["8152b", "8153a", "8153b", "8153c", "8156a", "8156b"] {
        let (control, ..) = transfers(name);
        for number in 1..=control {
            for (_, action) in
                misfortunes().into_iter().enumerate().filter(|(index, _)| is_tried(number, *index))
            {
                let diary = run(faulty(name, Trigger::Nth(Counted::Control, number), action.clone()));
                assert!(diary.started >= 1, "{name}, control {number}, {action:?}: {diary:?}");
            }
        }
    }
}

#[test]
fn every_bulk_and_interrupt_transfer_may_fail_in_every_way() {
    for name in ["8152b", "8153a", "8153b", "8156a", "8156b"] {
        let (_, bulk_in, bulk_out, interrupt) = transfers(name);
        for (kind, count) in
            [(Counted::BulkIn, bulk_in), (Counted::BulkOut, bulk_out), (Counted::Interrupt, interrupt)]
        {
            for number in 1..=count {
                for (_, action) in
                    misfortunes().into_iter().enumerate().filter(|(index, _)| is_tried(number, *index))
                {
                    let diary = run(faulty(name, Trigger::Nth(kind, number), action.clone()));
                    assert!(diary.started >= 1, "{name}, {kind:?} {number}, {action:?}: {diary:?}");
                }
            }
        }
    }
}

#[test]
fn an_adapter_that_never_answers_is_given_up_with_a_reason_and_works_after_a_replug() {
    for (action, reason) in [
        (Action::Stall, "the endpoint answered STALL"),
        (Action::TimeOut, "no answer before the deadline"),
        (Action::Error, "no valid answer from the device"),
    ] {
        // Enumeration passes, and nothing after it.
        let silent = faulty_at("8153a", Counted::Control, 10..500, &action);
        let world = World::with_rtl8152(silent);
        world.run(Duration::from_secs(3600), async {
            let first = failure(&world).await;
            assert!(first.contains(" failed: ") && first.ends_with(reason), "{first}");
            // Replugged often enough, the faults are used up.
            while world.diary.borrow().started == 0 {
                world.socket.with(|adapter, now| adapter.unplug(away(100), now));
                sleep(&*world.clock, Duration::from_secs(60)).await;
            }
            world.echo_works().await;
        });
        world.close();
    }
}

#[test]
fn bring_up_is_tried_as_often_as_configured() {
    for attempts in 1..=3 {
        // What comes after the version, so that the first try has two parts.
        let world = World::new(planned("8153a", "start stick PLA e004 02 00"));
        let mut config = rtl8152::Config::default();
        config.bring_up_attempts = attempts;
        world.employ_rtl8152(Manner::Echo, config);
        let resets = world.run(LIMIT, async {
            failure(&world).await;
            world.socket.with(|adapter, _| adapter.transfers().reset)
        });
        // One when it was plugged in, and one between each two tries.
        assert_eq!(resets, u64::from(attempts));
        world.close();
    }
}

#[test]
fn a_transmit_transfer_that_hangs_is_recovered_by_the_first_step() {
    for name in ["8152b", "8153a", "8153b", "8156a", "8156b"] {
        let diary = run(faulty(name, Trigger::Nth(Counted::BulkOut, 20), Action::TimeOut));
        assert_eq!(diary.counter("tx_timeouts"), 1, "{name}: {diary:?}");
        assert_eq!(diary.counter("recovery_endpoint_resets"), 1, "{name}: {diary:?}");
        assert_eq!(diary.counter("recovery_device_resets"), 0, "{name}: {diary:?}");
        assert_eq!(diary.failures, Vec::<String>::new());
    }
}

#[test]
fn a_receive_transfer_that_hangs_is_noticed_by_the_hardware_counters() {
    for name in ["8152b", "8153a", "8153b", "8156a", "8156b"] {
        let diary = run(faulty(name, Trigger::Nth(Counted::BulkIn, 20), Action::TimeOut));
        assert_eq!(diary.counter("rx_stalls"), 1, "{name}: {diary:?}");
        assert_eq!(diary.counter("recovery_endpoint_resets"), 1, "{name}: {diary:?}");
        assert_eq!(diary.failures, Vec::<String>::new());
    }
}

#[test]
fn the_ladder_is_climbed_step_by_step_and_ends() {
    let hanging = faulty_at("8153a", Counted::BulkOut, 20..2000, &Action::TimeOut);
    climb_the_ladder(World::with_rtl8152(hanging));
}

#[test]
fn an_idle_adapter_is_left_alone() {
    let world = World::with_rtl8152(adapter("8153a"));
    world.run(Duration::from_secs(4000), async {
        world.echo_works().await;
        sleep(&*world.clock, Duration::from_secs(3600)).await;
        assert!(world.exchange(&world.frame(1, 60), Duration::from_millis(20)).await);
    });
    let diary = world.close();
    for (name, value) in &diary.counters {
        assert!(!name.starts_with("recovery") || *value == 0, "{name} = {value} after an idle hour");
    }
    assert_eq!(diary.links, [Some(1000)]);
}

#[test]
fn unplugged_and_plugged_in_two_hundred_times_under_traffic_the_memory_stays_flat() {
    let world = World::with_rtl8152(adapter("8153a"));
    let pages = world.run(Duration::from_secs(4000), async {
        let mut pages = Vec::new();
        for cycle in 0..200_u64 {
            world.echo_works().await;
            for number in 0..8 {
                world.socket.with(|adapter, now| adapter.receive_frame(&world.frame(number, 1514), now));
            }
            sleep(&*world.clock, Duration::from_micros(13 * cycle)).await;
            pages.push(world.pages.live_blocks());
            world.socket.with(|adapter, now| adapter.unplug(away(50), now));
        }
        pages
    });
    let diary = world.close();
    assert_eq!(diary.started, 200);
    let (first, last) = (pages[5], pages[199]);
    assert!(last <= first + 4, "blocks in use went from {first} to {last}: {pages:?}");
}

#[test]
fn an_adapter_that_comes_back_as_a_cd_rom_is_switched_and_works() {
    let world = World::with_rtl8152(Config { storage_first: true, ..adapter("8153a") });
    world.run(LIMIT, async {
        world.echo_works().await;
        let how = Disconnect { away: Some(Duration::from_millis(100)), as_storage: true };
        world.socket.with(|adapter, now| adapter.unplug(how, now));
        sleep(&*world.clock, Duration::from_millis(200)).await;
        world.echo_works().await;
    });
    assert_eq!(world.close().started, 2);
}

#[test]
fn a_cd_rom_that_never_took_the_eject_command_is_switched_by_the_vendors() {
    let world = World::with_rtl8152(Config { storage_first: true, ..planned("8153a", "bulk-out 1 timeout") });
    world.run(LIMIT, world.echo_works());
    let diary = world.close();
    assert_eq!((diary.started, diary.failures), (1, Vec::new()));
}

/// Sends through an adapter whose receive descriptors are corrupted at every `every`th transfer.
fn corrupted(name: &str, field: &str, value: u32, every: u64) -> Diary {
    let action = Action::Corrupt { field: field.into(), value };
    let world = World::with_rtl8152(faulty(name, Trigger::Every(Counted::BulkIn, every), action));
    world.run(LIMIT, async {
        world.echo_works().await;
        for number in 0..60 {
            let sent = world.frame(number, 60 + number * 24);
            world.socket.with(|adapter: &mut Adapter, now| adapter.receive_frame(&sent, now));
            sleep(&*world.clock, Duration::from_millis(1)).await;
            for echo in world.sent() {
                let whole = (0..60).any(|number| echo == echo_of(&world.frame(number, 60 + number * 24)));
                // Another length is another frame, and so is one with a VLAN tag.
                let another = field == "rx.opts2" || field == "rx.length" && value < 1600;
                assert!(
                    whole || another,
                    "{field} = {value:#x}: a frame of {} bytes that nobody sent",
                    echo.len()
                );
            }
        }
        world.echo_works().await;
    });
    world.close()
}

#[test]
fn impossible_descriptors_cost_their_transfer_and_nothing_else() {
    for name in ["8152b", "8153a", "8156b"] {
        for length in [0, 1, 3, 4, 23, 24, 59, 1523, 1600, 0x3fff, 0x7fff] {
            let diary = corrupted(name, "rx.length", length, 3);
            assert!(diary.counter("rx_bad_aggregates") > 0, "{name}, length {length}: {diary:?}");
            assert_eq!(diary.failures, Vec::<String>::new(), "{name}, length {length}");
        }
        for field in ["rx.opts2", "rx.opts3", "rx.opts4", "rx.opts5", "rx.opts6"] {
            let diary = corrupted(name, field, 0xffff_ffff, 3);
            assert_eq!(diary.failures, Vec::<String>::new(), "{name}, {field}");
        }
    }
}

#[test]
fn an_adapter_that_lost_the_frame_boundaries_for_good_is_reset() {
    let action = Action::Corrupt { field: "rx.length".into(), value: 0x7fff };
    let adapter = faulty("8153a", Trigger::Every(Counted::BulkIn, 1), action);
    let diary = send_until_failure(World::with_rtl8152(adapter));
    assert!(diary.counter("rx_bad_aggregates") >= 8);
    assert_eq!(diary.failures[0], "the device failed and could not be recovered");
}

#[test]
fn descriptors_that_cannot_carry_frames_are_refused_by_name() {
    for (field, value, reason) in [
        ("configuration1.endpoint81.wMaxPacketSize", 0, "no usable bulk IN endpoint"),
        ("configuration1.endpoint81.bmAttributes", 3, "no usable bulk IN endpoint"),
        ("configuration1.endpoint81.bEndpointAddress", 0x80, "no usable bulk IN endpoint"),
        ("configuration1.endpoint02.bmAttributes", 1, "no usable bulk OUT endpoint"),
        ("configuration1.endpoint83.wMaxPacketSize", 1, "no usable interrupt IN endpoint"),
        ("configuration1.endpoint83.bLength", 2, "no usable interrupt IN endpoint"),
        (
            "configuration1.interface0.bInterfaceClass",
            0x0a,
            "no configuration with a vendor-specific first interface",
        ),
    ] {
        let action = Action::Corrupt { field: field.into(), value };
        let world = World::with_rtl8152(faulty("8153a", Trigger::Start, action));
        let first = world.run(LIMIT, failure(&world));
        assert!(first.contains(reason), "{field} = {value:#x}: {first}");
        assert_eq!(world.close().started, 0);
    }
}

#[test]
fn a_chip_that_hangs_in_bring_up_is_given_up_by_name() {
    for (register, reason) in [
        ("PLA e004 02 00", "settings loaded"),
        ("PLA e84f 02 00", "buffer list ready"),
        ("PLA e813 10 10", "MAC reset done"),
    ] {
        let world = World::with_rtl8152(planned("8153a", &format!("start stick {register}")));
        let first = world.run(LIMIT, failure(&world));
        assert!(first.contains("did not reach") && first.contains(reason), "{register}: {first}");
        world.close();
    }
}
