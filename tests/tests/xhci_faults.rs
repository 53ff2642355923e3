//! Faults: every completion code at every transfer and command, unplug at every step, controllers that die.
//! Whatever happens ends in a named error or in a device that works, and gives all memory back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use std::future::poll_fn;
use std::task::Poll;

use hal::time::timeout;
use lab_xhci::{Config, Faults, Gadget, GadgetEndpoint, HubKind, Speed, Transport, VirtualHub, shared};
use netbuf::{Block, NetBuf, Zone};
use skiff_tests::xhci_model::{Computer, ModelDevice, completion};
use usb::{EndpointAddress, Gather, Pipe, Request, Transfer, TransferError, UsbDevice};

const SECOND: Duration = Duration::from_secs(1);
/// Every completion code of the specification (0 to 36), and two that mean nothing.
const CODES: std::ops::RangeInclusive<u8> = 0..=38;

/// A gadget with a pair of bulk endpoints.
fn gadget(speed: Speed, vendor: u16) -> Gadget {
    let endpoints = [
        GadgetEndpoint { address: 0x81, transport: Transport::Bulk },
        GadgetEndpoint { address: 0x01, transport: Transport::Bulk },
    ];
    Gadget::new(speed, (vendor, 1), 0xff, &endpoints)
}

/// A gadget that sends back what it gets.
fn echoing(speed: Speed, vendor: u16) -> Gadget {
    let mut gadget = gadget(speed, vendor);
    gadget.echoes = true;
    gadget
}

/// What a driver does with its device: configure, request, send, receive; each step may fail with a named error.
async fn use_device(computer: &Computer, device: &ModelDevice) -> Result<(), TransferError> {
    device.set_configuration(1).await?;
    let read = Request { kind: Request::VENDOR, request: 5, value: 0, index: 9 };
    device.control_in(read, &mut [0; 8], SECOND).await?;
    let mut output = device.open(EndpointAddress(0x01))?;
    let mut input = device.open(EndpointAddress(0x81))?;
    for round in 0..3 {
        let mut frame = NetBuf::alloc(&computer.memory, 1600).unwrap();
        frame.put(1514).unwrap().fill(round);
        let mut gather = Gather::new();
        gather.push_frame(frame);
        output.submit(Transfer::Out(gather)).map_err(|(error, _)| error)?;
        output.start();
        let block = Block::alloc(&computer.memory, 0, Zone::Normal).unwrap();
        input.submit(Transfer::In { block, length: 2048 }).map_err(|(error, _)| error)?;
        input.start();
        for pipe in [&mut output, &mut input] {
            let done = timeout(&computer.clock, SECOND, completion(pipe)).await;
            match done {
                Ok(completion) => match completion.result {
                    Ok(1514) => {}
                    // A short packet is no error to the bus (codes 1 and 13); who counts bytes sees it.
                    Ok(_) => return Err(TransferError::Cancelled),
                    Err(TransferError::Gone) => return Err(TransferError::Gone),
                    Err(error) => {
                        pipe.recover().await?;
                        return Err(error);
                    }
                },
                Err(_) => {
                    pipe.cancel().await?;
                    let completion = completion(pipe).await;
                    assert!(completion.result.is_err(), "cancelled, but {:?}", completion.result);
                    return Err(TransferError::TimedOut);
                }
            }
        }
    }
    device.set_configuration(0).await
}

/// One life: plug, enumerate, use, unplug, with these faults. Gives transfers and commands that it took.
fn live(faults: Faults, what: &str) -> (usize, usize) {
    let ports = vec![lab_xhci::Protocol::Usb2; 2];
    let (computer, pages) = idle_computer(Config { ports, ..Config::default() });
    let gadget = shared(echoing(Speed::Full, 1));
    computer.machine.model.borrow_mut().faults = faults;
    computer.plug(1, gadget.clone());
    computer.pass(SECOND * 60);
    // One that was offered and went away again keeps its contexts until its driver drops it.
    let device = computer.offered.borrow_mut().drain(..).next_back();
    if let Some(device) = device {
        let mut outcome = computer.run(use_device(&computer, &device));
        if let Err(error) = outcome {
            // A driver's next step: reset the device, and all works again. Or it is gone, and comes anew.
            gadget.borrow_mut().answers.clear();
            let reset = computer.run(device.reset());
            outcome = match reset {
                Ok(()) => computer.run(use_device(&computer, &device)),
                Err(_) => {
                    drop(device);
                    computer.pass(SECOND * 60);
                    let again = computer.offered.borrow_mut().pop();
                    let again = again.unwrap_or_else(|| panic!("{what}: {error}, and not offered again"));
                    computer.run(use_device(&computer, &again))
                }
            };
        }
        assert_eq!(outcome, Ok(()), "{what}: not recovered");
    }
    computer.unplug(1);
    computer.pass(SECOND * 60);
    let taken = {
        let model = computer.machine.model.borrow();
        (model.transfers(), model.commands())
    };
    // A healthy device in the other port works whatever became of the first.
    computer.machine.model.borrow_mut().faults = Faults::default();
    computer.plug(2, shared(echoing(Speed::High, 3)));
    computer.pass(SECOND * 60);
    let other =
        computer.offered.borrow_mut().pop().unwrap_or_else(|| panic!("{what}: the other port is dead"));
    assert_eq!(other.information().device.vendor, 3, "{what}");
    assert_eq!(computer.run(use_device(&computer, &other)), Ok(()), "{what}: other device");
    drop(other);
    computer.unplug(2);
    computer.pass(SECOND * 60);
    assert_idle(&computer, pages, what);
    assert_eq!(computer.ended.get(), None, "{what}: the controller was given up");
    assert_eq!(computer.violations(), Vec::<String>::new(), "{what}");
    taken
}

/// A computer that runs, and the pages in use while nothing is plugged in. Its packet memory has taken the slabs that it
/// keeps for ever.
fn idle_computer(config: Config) -> (Computer, usize) {
    let computer = Computer::new(config);
    computer.pass(SECOND);
    let frame = NetBuf::alloc(&computer.memory, 1600).unwrap();
    let block = Block::alloc(&computer.memory, 0, Zone::Normal).unwrap();
    drop((frame, block));
    let pages = computer.pages.live_blocks();
    (computer, pages)
}

/// Whether a computer in which nothing is plugged in any more uses as many pages as at first, and no slot.
fn assert_idle(computer: &Computer, pages: usize, what: &str) {
    assert_eq!(computer.machine.model.borrow().enabled_slots(), 0, "{what}: slots");
    assert_eq!(computer.memory.statistics().live_blocks, 0, "{what}: packet memory");
    assert_eq!(computer.pages.live_blocks(), pages, "{what}: pages");
}

#[test]
fn the_sweep_every_code_at_every_transfer() {
    let (transfers, _) = live(Faults::default(), "no fault");
    assert!(transfers > 20, "{transfers}");
    for number in 0..transfers {
        for code in CODES {
            let faults = Faults { transfer: Some((number, code)), ..Faults::default() };
            live(faults, &format!("code {code} at transfer {number}"));
        }
    }
}

#[test]
fn the_sweep_every_code_at_every_command() {
    let (_, commands) = live(Faults::default(), "no fault");
    assert!(commands >= 5, "{commands}");
    for number in 0..commands {
        for code in CODES.filter(|code| *code != 1) {
            let faults = Faults { command: Some((number, code)), ..Faults::default() };
            live(faults, &format!("code {code} at command {number}"));
        }
    }
}

#[test]
fn every_transfer_and_command_that_is_never_answered_is_given_up_in_time() {
    let (transfers, commands) = live(Faults::default(), "no fault");
    for number in 0..transfers {
        let faults = Faults { swallowed_transfer: Some(number), ..Faults::default() };
        live(faults, &format!("transfer {number} swallowed"));
    }
    for number in 0..commands {
        for deaf_to_abort in [false, true] {
            let faults = Faults { swallowed_command: Some(number), deaf_to_abort, ..Faults::default() };
            live(faults, &format!("command {number} swallowed, deaf {deaf_to_abort}"));
        }
    }
}

#[test]
fn a_controller_that_dies_at_any_event_is_reset_and_its_devices_come_back() {
    let computer = Computer::new(Config::default());
    let (_, device) = computer.attach(1, gadget(Speed::Full, 1));
    let _ = computer.run(use_device(&computer, &device));
    let events = computer.machine.model.borrow().events();
    assert!(events > 20, "{events}");
    for number in 1..events {
        let faults = Faults { controller_error_after: Some(number), ..Faults::default() };
        live(faults, &format!("controller error after {number} events"));
    }
}

#[test]
fn unplugging_at_any_event_leaves_nothing_behind_and_replugging_works() {
    for hubs in 0..=2 {
        let mut events = 1;
        loop {
            let (computer, pages) = idle_computer(Config::default());
            let gadget = shared(echoing(Speed::Full, 1));
            let mut plugged: lab_xhci::Plugged = gadget.clone();
            for _ in 0..hubs {
                let hub = shared(VirtualHub::new(HubKind::HighSingle, 4));
                hub.borrow_mut().plug(2, plugged);
                plugged = hub;
            }
            computer.machine.model.borrow_mut().faults.unplug_after = Some((events, 1));
            computer.plug(1, plugged.clone());
            computer.pass(SECOND * 30);
            let device = computer.offered.borrow_mut().pop();
            if let Some(device) = device {
                let used = computer.run(use_device(&computer, &device));
                let expected = matches!(used, Ok(()) | Err(TransferError::Gone | TransferError::Transaction));
                assert!(expected, "{used:?} with {hubs} hubs, unplugged after {events} events");
            }
            computer.pass(SECOND * 30);
            let too_late = computer.machine.model.borrow().faults.unplug_after.is_some();
            let what = format!("{hubs} hubs, unplugged after {events} events");
            computer.machine.model.borrow_mut().faults = Faults::default();
            computer.unplug(1);
            computer.pass(SECOND * 30);
            assert_idle(&computer, pages, &what);
            gadget.borrow_mut().answers.clear();
            computer.offered.borrow_mut().clear();
            computer.plug(1, plugged);
            let device = computer.device();
            assert_eq!(computer.run(use_device(&computer, &device)), Ok(()), "{what}: replugged");
            assert_eq!(computer.controller.counters().restarts.get(), 0, "{what}");
            assert_eq!(computer.violations(), Vec::<String>::new(), "{what}");
            if too_late {
                break;
            }
            events += 1;
        }
        assert!(events > 25, "{events}");
    }
}

#[test]
fn a_device_exchanged_for_another_at_any_moment_is_gone_and_the_other_works() {
    for milliseconds in 0..130 {
        let computer = Computer::new(Config::default());
        computer.pass(SECOND);
        computer.plug(1, shared(echoing(Speed::High, 1)));
        computer.pass(Duration::from_millis(milliseconds));
        computer.unplug(1);
        computer.plug(1, shared(echoing(Speed::High, 2)));
        let device = computer.device();
        let what = format!("exchanged after {milliseconds} ms");
        assert_eq!(device.information().device.vendor, 2, "{what}");
        assert_eq!(computer.run(use_device(&computer, &device)), Ok(()), "{what}");
        computer.unplug(1);
        computer.pass(SECOND);
        assert_eq!(computer.run(device.set_configuration(1)), Err(TransferError::Gone), "{what}");
        assert_eq!(computer.violations(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn a_controller_that_cannot_be_reset_is_given_up_with_its_memory() {
    let computer = Computer::new(Config::default());
    let (_, device) = computer.attach(1, gadget(Speed::High, 1));
    computer.machine.model.borrow_mut().faults.dead = true;
    computer.machine.model.borrow_mut().fail();
    computer.pass(SECOND * 60);
    assert_eq!(computer.ended.get(), Some(xhci::ControllerError::DoesNotReset));
    let lent = computer.pages.live_blocks();
    assert!(lent > 5, "rings and contexts stay with the controller: {lent}");
    assert_eq!(computer.run(device.set_configuration(1)), Err(TransferError::Gone));
}

#[test]
fn a_controller_pulled_out_of_the_computer_is_noticed() {
    let computer = Computer::new(Config::default());
    let (_, device) = computer.attach(1, gadget(Speed::High, 1));
    computer.machine.remove_controller();
    computer.pass(SECOND * 60);
    assert_eq!(computer.ended.get(), Some(xhci::ControllerError::NotThere));
    assert_eq!(computer.run(device.reset()), Err(TransferError::Gone));
}

#[test]
fn lost_interrupts_cost_time_and_nothing_else() {
    let computer = Computer::new(Config::default());
    computer.pass(SECOND);
    computer.machine.model.borrow_mut().faults.mute = true;
    let gadget = shared(echoing(Speed::High, 1));
    computer.plug(1, gadget);
    computer.pass(SECOND * 200);
    let device = computer.offered.borrow_mut().pop().unwrap();
    let read = Request { kind: Request::VENDOR, request: 5, value: 0, index: 9 };
    assert_eq!(computer.run(device.control_in(read, &mut [0; 8], SECOND * 5)), Ok(8));
    assert!(computer.controller.counters().lost_interrupts.get() > 0);
    assert_eq!(computer.ended.get(), None);
}

#[test]
fn a_port_that_never_leaves_reset_is_named_and_left_alone() {
    let computer = Computer::new(Config::default());
    computer.machine.model.borrow_mut().faults.endless_reset = true;
    computer.plug(1, shared(gadget(Speed::High, 1)));
    computer.pass(SECOND * 60);
    assert!(computer.offered.borrow().is_empty());
    computer.machine.model.borrow_mut().faults.endless_reset = false;
    computer.plug(2, shared(gadget(Speed::High, 3)));
    assert_eq!(computer.device().information().device.vendor, 3);
}

#[test]
fn a_contact_that_bounces_during_a_reset_hides_no_unplugging() {
    let computer = Computer::new(Config::default());
    computer.machine.model.borrow_mut().faults.bouncing_reset = true;
    let (_, device) = computer.attach(1, echoing(Speed::High, 1));
    assert_eq!(computer.run(use_device(&computer, &device)), Ok(()));
    computer.unplug(1);
    computer.pass(SECOND);
    assert_eq!(computer.run(device.set_configuration(1)), Err(TransferError::Gone));
    computer.plug(1, shared(echoing(Speed::High, 2)));
    assert_eq!(computer.device().information().device.vendor, 2);
    assert_eq!(computer.violations(), Vec::<String>::new());
}

#[test]
fn a_hub_that_fails_to_tell_of_a_port_is_asked_again() {
    for failures in [1, 4] {
        let computer = Computer::new(Config::default());
        let hub = shared(VirtualHub::new(HubKind::HighSingle, 4));
        computer.plug(1, hub.clone());
        computer.pass(SECOND * 10);
        hub.borrow_mut().port_answers.extend(vec![lab_xhci::Answer::Stall; failures]);
        hub.borrow_mut().plug(2, shared(echoing(Speed::High, 1)));
        computer.machine.kick();
        let device = computer.device();
        assert_eq!(computer.run(use_device(&computer, &device)), Ok(()), "{failures} failures");
        assert_eq!(computer.violations(), Vec::<String>::new());
    }
}

#[test]
fn a_port_that_tripped_is_switched_on_again_when_the_current_is_back_to_normal() {
    let computer = Computer::new(Config { port_power: true, ..Config::default() });
    let (_, device) = computer.attach(1, echoing(Speed::High, 1));
    computer.machine.model.borrow_mut().over_current(1, true);
    computer.machine.kick();
    computer.pass(SECOND * 10);
    assert_eq!(computer.run(device.set_configuration(1)), Err(TransferError::Gone));
    computer.machine.model.borrow_mut().over_current(1, false);
    computer.machine.kick();
    let again = computer.device();
    assert_eq!(computer.run(use_device(&computer, &again)), Ok(()));
    assert_eq!(computer.violations(), Vec::<String>::new());
}

#[test]
fn a_broken_superspeed_link_is_brought_back_by_a_warm_reset() {
    let computer = Computer::new(Config::default());
    computer.machine.model.borrow_mut().needs_warm_reset(3);
    let (_, device) = computer.attach(3, gadget(Speed::Super, 1));
    computer.machine.model.borrow_mut().break_link(3);
    computer.machine.kick();
    computer.pass(SECOND * 5);
    assert_eq!(computer.run(device.set_configuration(1)), Err(TransferError::Gone));
    let again = computer.device();
    assert_eq!(computer.run(again.set_configuration(1)), Ok(()));
    assert_eq!(computer.violations(), Vec::<String>::new());
}

#[test]
fn missed_services_and_events_from_nowhere_are_counted_and_change_nothing() {
    let computer = Computer::new(Config::default());
    let (_, device) = computer.attach(1, echoing(Speed::High, 1));
    computer.run(device.set_configuration(1)).unwrap();
    {
        let mut model = computer.machine.model.borrow_mut();
        model.miss_service(1, 3);
        model.miss_service(1, 1);
        // Transfer events for a slot, an endpoint and an address that do not exist; a command completion likewise;
        // a change of port 200; event types that are reserved.
        for control in [32 << 10 | 0xff << 24, 32 << 10 | 1 << 24 | 31 << 16, 32 << 10 | 1 << 24 | 1 << 16] {
            model.send_raw_event([0xdead_bee0, 0xffff_ffff, 1 << 24, control]);
        }
        model.send_raw_event([0xdead_bee0, 0xffff_ffff, 1 << 24, 33 << 10]);
        model.send_raw_event([200 << 24, 0, 1 << 24, 34 << 10]);
        model.send_raw_event([0, 0, 0, 0]);
        model.send_raw_event([u32::MAX; 4]);
    }
    computer.machine.kick();
    computer.pass(SECOND);
    let counters = computer.controller.counters();
    assert_eq!((counters.missed_services.get(), counters.stray_events.get()), (2, 7));
    assert_eq!(computer.run(use_device(&computer, &device)), Ok(()));
}

#[test]
fn an_event_ring_that_is_read_a_little_at_a_time_never_looks_full() {
    let computer = Computer::new(Config::default());
    let gadget = shared(gadget(Speed::High, 1));
    computer.plug(1, gadget.clone());
    computer.pass(SECOND * 5);
    let device = computer.offered.borrow_mut().remove(0);
    computer.run(async {
        device.set_configuration(1).await.unwrap();
        let mut pipe = device.open(EndpointAddress(0x81)).unwrap();
        // In all more events than the ring holds, while the event task never has a turn.
        for _ in 0..300 {
            for _ in 0..3 {
                computer.post(&mut pipe, 0);
                gadget.borrow_mut().answer(0x81, vec![1; 3]);
            }
            pipe.start();
            computer.machine.model.borrow_mut().step();
            for _ in 0..3 {
                let polled = poll_fn(|context| Poll::Ready(pipe.poll_completion(context))).await;
                let Poll::Ready(completion) = polled else { panic!("the controller held an event back") };
                assert_eq!(completion.result, Ok(3));
            }
        }
    });
    assert_eq!(computer.controller.counters().event_ring_full.get(), 0);
    assert_eq!(computer.violations(), Vec::<String>::new());
}

#[test]
fn a_full_event_ring_is_drained_and_nothing_is_lost() {
    let computer = Computer::new(Config::default());
    let gadgets = [1, 2].map(|port| {
        let gadget = shared(gadget(Speed::High, port as u16));
        computer.plug(port, gadget.clone());
        gadget
    });
    computer.pass(SECOND * 5);
    let devices: Vec<_> = computer.offered.borrow_mut().drain(..).collect();
    computer.run(async {
        let mut pipes = Vec::new();
        for device in &devices {
            device.set_configuration(1).await.unwrap();
            let mut pipe = device.open(EndpointAddress(0x81)).unwrap();
            for _ in 0..200 {
                computer.post(&mut pipe, 0);
            }
            pipe.start();
            pipes.push(pipe);
        }
        for gadget in &gadgets {
            (0..200_u8).for_each(|number| gadget.borrow_mut().answer(0x81, vec![number; 3]));
        }
        computer.machine.kick();
        for pipe in &mut pipes {
            for _ in 0..200 {
                assert_eq!(completion(pipe).await.result, Ok(3));
            }
        }
    });
    assert!(computer.controller.counters().event_ring_full.get() > 0);
    assert_eq!(computer.violations(), Vec::<String>::new());
}

#[test]
fn dropping_a_pipe_gives_its_buffers_back_only_after_the_endpoint_stood_still() {
    let computer = Computer::new(Config::default());
    let gadget = shared(gadget(Speed::High, 1));
    computer.plug(1, gadget.clone());
    let device = computer.device();
    computer.run(async {
        device.set_configuration(1).await.unwrap();
        let mut pipe = device.open(EndpointAddress(0x81)).unwrap();
        for _ in 0..4 {
            computer.post(&mut pipe, 0);
        }
        pipe.start();
        hal::time::sleep(&computer.clock, SECOND).await;
        drop(pipe);
        // The controller still owns them: data that arrives now must hit memory that is nobody else's.
        assert_eq!(computer.memory.statistics().live_blocks, 4);
        assert_eq!(device.open(EndpointAddress(0x81)).err(), Some(TransferError::Busy));
        hal::time::sleep(&computer.clock, SECOND).await;
        assert_eq!(computer.memory.statistics().live_blocks, 0);
        assert!(device.open(EndpointAddress(0x81)).is_ok());
    });
    assert_eq!(computer.violations(), Vec::<String>::new());
}

#[test]
fn a_pipe_that_is_not_halted_is_emptied_without_a_word_to_the_device() {
    let computer = Computer::new(Config::default());
    let (gadget, device) = computer.attach(1, gadget(Speed::High, 1));
    computer.run_within_rules(async {
        device.set_configuration(1).await.unwrap();
        let mut pipe = device.open(EndpointAddress(0x81)).unwrap();
        computer.post(&mut pipe, 0);
        pipe.start();
        let requests = gadget.borrow().requests.len();
        pipe.recover().await.unwrap();
        assert_eq!(completion(&mut pipe).await.result, Err(TransferError::Cancelled));
        assert_eq!(gadget.borrow().requests.len(), requests);
    });
}

#[test]
fn running_out_of_memory_at_any_allocation_ends_in_a_named_error_and_heals() {
    for number in 0..40 {
        let (computer, pages) = idle_computer(Config::default());
        let gadget = shared(echoing(Speed::Full, 1));
        let hub = shared(VirtualHub::new(HubKind::HighSingle, 4));
        hub.borrow_mut().plug(1, gadget.clone());
        computer.pages.fail_allocation(number);
        computer.plug(1, hub.clone());
        computer.pass(SECOND * 60);
        computer.pages.heal();
        computer.offered.borrow_mut().clear();
        computer.unplug(1);
        computer.pass(SECOND * 60);
        assert_idle(&computer, pages, &format!("allocation {number}"));
        computer.plug(1, hub);
        let device = computer.device();
        assert_eq!(computer.run(use_device(&computer, &device)), Ok(()), "allocation {number}");
        assert_eq!(computer.violations(), Vec::<String>::new(), "allocation {number}");
    }
}

#[test]
fn a_configuration_refused_for_bandwidth_can_be_set_again() {
    const BANDWIDTH_ERROR: u8 = 8;
    let computer = Computer::new(Config::default());
    let (_, device) = computer.attach(1, echoing(Speed::High, 1));
    for already_configured in [false, true] {
        let next = computer.machine.model.borrow().commands();
        computer.machine.model.borrow_mut().faults.command = Some((next, BANDWIDTH_ERROR));
        assert_eq!(computer.run(device.set_configuration(1)), Err(TransferError::TooLarge));
        assert_eq!(computer.run(device.set_configuration(1)), Ok(()), "{already_configured}");
    }
    assert_eq!(computer.run(use_device(&computer, &device)), Ok(()));
    assert_eq!(computer.violations(), Vec::<String>::new());
}
