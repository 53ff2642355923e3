//! The USB core and the xHCI driver on the model: enumeration, transfers, hubs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use lab_xhci::{Config, Gadget, GadgetEndpoint, HubKind, Speed, Transport, VirtualHub, shared};
use netbuf::{Block, Memory, NetBuf, Zone};
use skiff_tests::xhci_model::{Computer, ModelDevice, ModelPipe, completion};
use usb::{EndpointAddress, Gather, Pipe, Request, Transfer, TransferError, UsbDevice};

const SECOND: Duration = Duration::from_secs(1);
const VENDOR: u8 = Request::VENDOR | Request::DEVICE;

/// A gadget with a pair of bulk endpoints and an interrupt endpoint.
fn bulk_gadget(speed: Speed) -> Gadget {
    let endpoints = [
        GadgetEndpoint { address: 0x81, transport: Transport::Bulk },
        GadgetEndpoint { address: 0x01, transport: Transport::Bulk },
        GadgetEndpoint { address: 0x82, transport: Transport::Interrupt },
    ];
    Gadget::new(speed, (1, 2), 0xff, &endpoints)
}

/// Configures the device and opens its bulk IN endpoint.
async fn input(device: &ModelDevice) -> impl Pipe + use<> {
    device.set_configuration(1).await.unwrap();
    device.open(EndpointAddress(0x81)).unwrap()
}

fn interrupt_in() -> [GadgetEndpoint; 1] {
    [GadgetEndpoint { address: 0x81, transport: Transport::Interrupt }]
}

fn frame(memory: &Memory, bytes: &[u8]) -> NetBuf {
    let mut frame = NetBuf::alloc(memory, bytes.len().max(64)).unwrap();
    frame.put(bytes.len()).unwrap().copy_from_slice(bytes);
    frame
}

/// Every make of controller that enumeration must get along with.
fn makes() -> Vec<Config> {
    let plain = Config::default();
    vec![
        plain.clone(),
        Config { scratchpads: 37, ..plain.clone() },
        Config { wide_contexts: true, ..plain.clone() },
        Config { wide_addresses: false, ..plain.clone() },
        Config { port_power: true, ..plain.clone() },
        Config { bios: Some(3), ..plain.clone() },
        Config { stubborn_bios: true, ..plain.clone() },
        Config {
            scratchpads: 600,
            wide_contexts: true,
            port_power: true,
            bios: Some(1),
            reports_short_twice: true,
            ..plain
        },
    ]
}

#[test]
fn every_speed_is_enumerated_on_every_make_of_controller() {
    for config in makes() {
        for (speed, port) in
            [(Speed::Low, 1), (Speed::Full, 1), (Speed::High, 2), (Speed::Super, 3), (Speed::SuperPlus, 4)]
        {
            let computer = Computer::new(config.clone());
            let gadget = shared(Gadget::new(speed, (0x1209, 0x0001), 0xff, &interrupt_in()));
            computer.plug(port, gadget.clone());
            let device = computer.device();
            let information = device.information();
            assert_eq!(information.to_string().split(':').next(), Some(format!("usb0-{port}").as_str()));
            assert_eq!((information.device.vendor, information.device.product), (0x1209, 0x0001));
            assert_eq!(
                (information.manufacturer.as_str(), information.product.as_str()),
                ("Skiff", "Gadget")
            );
            computer.run(device.set_configuration(1)).unwrap();
            assert_eq!(gadget.borrow().configuration(), 1);
            assert_eq!(computer.violations(), Vec::<String>::new(), "{config:?} {speed:?}");
            assert!(!computer.machine.model.borrow().bios_interrupts_enabled());
        }
    }
}

#[test]
fn control_transfers_carry_data_both_ways_and_survive_a_stall() {
    let computer = Computer::new(Config::default());
    let (_, device) = computer.attach(1, bulk_gadget(Speed::High));
    computer.run_within_rules(async {
        let read = Request { kind: VENDOR, request: 5, value: 0, index: 0x42 };
        let mut bytes = [0; 3000];
        assert_eq!(device.control_in(read, &mut bytes, SECOND).await, Ok(3000));
        assert!(bytes.iter().all(|byte| *byte == 0x42));
        assert_eq!(device.control_out(read, &[1, 2, 3], SECOND).await, Ok(()));
        let refused = Request { kind: Request::CLASS | Request::DEVICE, request: 99, value: 0, index: 0 };
        assert_eq!(device.control_out(refused, &[], SECOND).await, Err(TransferError::Stall));
        assert_eq!(device.control_in(refused, &mut bytes, SECOND).await, Err(TransferError::Stall));
        assert_eq!(device.control_in(read, &mut bytes[..7], SECOND).await, Ok(7));
        let mut huge = vec![0; 65535];
        assert_eq!(device.control_in(read, &mut huge, SECOND).await, Ok(65535));
        assert_eq!(device.control_in(read, &mut vec![0; 65536], SECOND).await, Err(TransferError::TooLarge));
    });
}

#[test]
fn frames_come_back_byte_for_byte_whatever_their_length_and_pieces() {
    for wide_addresses in [true, false] {
        let config = Config { wide_addresses, ..Config::default() };
        let computer = Computer::new(config);
        let gadget = shared(bulk_gadget(Speed::Super));
        gadget.borrow_mut().echoes = true;
        computer.plug(3, gadget.clone());
        let device = computer.device();
        computer.run_within_rules(async {
            device.set_configuration(1).await.unwrap();
            let mut output = device.open(EndpointAddress(0x01)).unwrap();
            let mut input = device.open(EndpointAddress(0x81)).unwrap();
            let mut block = Block::alloc(&computer.memory, 5, Zone::Normal).unwrap();
            // 700 rounds go around a ring of 256 TRBs several times, with every number of pieces.
            for round in 0..700_usize {
                let mut gather = Gather::new();
                for piece in 0..round % 9 {
                    let bytes: Vec<u8> = (0..(round * 37 + piece * 101) % 2000).map(|at| at as u8).collect();
                    gather.push_frame(frame(&computer.memory, &bytes));
                    gather.push_padding((round % 8) as u8);
                }
                gather.set_zero_packet(round % 2 == 0);
                let sent = gather.to_vec();
                assert_eq!(sent.len(), gather.len());
                output.submit(Transfer::Out(gather)).unwrap();
                output.start();
                let done = completion(&mut output).await;
                assert_eq!(done.result, Ok(sent.len()), "round {round}");
                let length = sent.len().max(1).next_multiple_of(1024) + 1024;
                input.submit(Transfer::In { block, length }).unwrap();
                input.start();
                let done = completion(&mut input).await;
                assert_eq!(done.result, Ok(sent.len()), "round {round}");
                let Transfer::In { block: returned, .. } = done.transfer else { panic!() };
                assert_eq!(&returned.bytes()[..sent.len()], &sent[..], "round {round}");
                block = returned;
                // A zero-length packet behind a full last packet arrives as an answer of its own.
                gadget.borrow_mut().answers.clear();
            }
        });
        // Packet memory lies above 4 GiB here: what addresses 32 bits reaches it by a detour only.
        assert_eq!(computer.controller.counters().bounced.get() == 0, wide_addresses);
    }
}

#[test]
fn many_transfers_are_in_flight_and_one_doorbell_starts_them() {
    let computer = Computer::new(Config::default());
    let (gadget, device) = computer.attach(1, bulk_gadget(Speed::High));
    computer.run(async {
        let mut input = input(&device).await;
        for _ in 0..16 {
            computer.post(&mut input, 1);
        }
        let before = computer.controller.counters().doorbells.get();
        input.start();
        input.start();
        assert_eq!(computer.controller.counters().doorbells.get(), before + 1);
        assert_eq!(input.in_flight(), 16);
        for number in 0..16_u8 {
            gadget.borrow_mut().answer(0x81, vec![number; usize::from(number) * 100]);
        }
        computer.machine.kick();
        for number in 0..16_u8 {
            let done = completion(&mut input).await;
            assert_eq!(done.result, Ok(usize::from(number) * 100));
        }
    });
}

/// Counts how often a task would have run.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn who_wants_no_news_is_woken_by_enough_of_it_or_by_a_failure() {
    let computer = Computer::new(Config::default());
    let (_, device) = computer.attach(1, bulk_gadget(Speed::High));
    let wakes = Arc::new(Wakes::default());
    let woken = || wakes.0.load(Ordering::Relaxed);
    let waker = Waker::from(wakes.clone());
    let mut context = Context::from_waker(&waker);
    computer.run_within_rules(async {
        device.set_configuration(1).await.unwrap();
        let mut output = device.open(EndpointAddress(0x01)).unwrap();
        output.announce_after(3);
        let send = async |output: &mut ModelPipe, count| {
            for _ in 0..count {
                let mut gather = Gather::new();
                gather.push_frame(frame(&computer.memory, &[7; 100]));
                output.submit(Transfer::Out(gather)).unwrap();
            }
            output.start();
            hal::time::sleep(&computer.clock, SECOND).await;
        };
        assert!(output.poll_completion(&mut context).is_pending());
        send(&mut output, 2).await;
        assert_eq!(woken(), 0);
        send(&mut output, 1).await;
        assert_eq!(woken(), 1);
        for _ in 0..3 {
            assert_eq!(completion(&mut output).await.result, Ok(100));
        }
        // The endpoint's next owner knows nothing of that.
        drop(output);
        let mut output = device.open(EndpointAddress(0x01)).unwrap();
        assert!(output.poll_completion(&mut context).is_pending());
        send(&mut output, 1).await;
        assert_eq!(woken(), 2);
        assert_eq!(completion(&mut output).await.result, Ok(100));
        output.announce_after(3);
        assert!(output.poll_completion(&mut context).is_pending());
        let next = computer.machine.model.borrow().transfers();
        const TRANSACTION_ERROR: u8 = 4;
        computer.machine.model.borrow_mut().faults.transfer = Some((next, TRANSACTION_ERROR));
        send(&mut output, 1).await;
        assert_eq!(woken(), 3);
        assert_eq!(completion(&mut output).await.result, Err(TransferError::Transaction));
    });
}

#[test]
fn a_full_ring_gives_the_transfer_back() {
    let computer = Computer::new(Config::default());
    let (_, device) = computer.attach(1, bulk_gadget(Speed::High));
    let memory = computer.memory.clone();
    computer.run_within_rules(async {
        let mut input = input(&device).await;
        let mut accepted = 0;
        let refused = loop {
            let block = Block::alloc(&memory, 0, Zone::Normal).unwrap();
            match input.submit(Transfer::In { block, length: 4096 }) {
                Ok(()) => accepted += 1,
                Err((error, Transfer::In { .. })) => break error,
                Err(_) => panic!("another transfer came back"),
            }
        };
        assert_eq!(refused, TransferError::TooLarge);
        assert!(accepted > 200, "{accepted}");
        input.start();
        input.cancel().await.unwrap();
        for _ in 0..accepted {
            let done = completion(&mut input).await;
            assert_eq!(done.result, Err(TransferError::Cancelled));
        }
        assert_eq!(input.in_flight(), 0);
    });
}

#[test]
fn a_stalled_pipe_is_recovered_and_its_queue_comes_back_cancelled() {
    let computer = Computer::new(Config::default());
    let (gadget, device) = computer.attach(1, bulk_gadget(Speed::High));
    computer.run_within_rules(async {
        let mut input = input(&device).await;
        use lab_xhci::Answer::{Babble, Broken, Stall};
        for (answer, error) in [
            (Stall, TransferError::Stall),
            (Babble, TransferError::Babble),
            (Broken, TransferError::Transaction),
        ] {
            for _ in 0..3 {
                computer.post(&mut input, 0);
            }
            gadget.borrow_mut().answers.entry(0x81).or_default().push_back(answer);
            input.start();
            assert_eq!(completion(&mut input).await.result, Err(error));
            input.recover().await.unwrap();
            for _ in 0..2 {
                let done = completion(&mut input).await;
                assert_eq!(done.result, Err(TransferError::Cancelled));
            }
            let clear_halt = [0x02, 1, 0, 0, 0x81, 0, 0, 0];
            assert_eq!(gadget.borrow().requests.last(), Some(&clear_halt));
            computer.post(&mut input, 0);
            input.start();
            gadget.borrow_mut().answer(0x81, vec![7; 5]);
            computer.machine.kick();
            assert_eq!(completion(&mut input).await.result, Ok(5));
        }
    });
}

#[test]
fn a_control_transfer_that_nobody_answers_times_out_and_the_next_one_works() {
    let computer = Computer::new(Config::default());
    let (gadget, device) = computer.attach(1, bulk_gadget(Speed::High));
    computer.run_within_rules(async {
        gadget.borrow_mut().control_answers.extend(vec![lab_xhci::Answer::NotReady; 1]);
        let read = Request { kind: VENDOR, request: 5, value: 0, index: 9 };
        let mut bytes = [0; 8];
        // The model asks again only when something else makes it look: nothing does.
        let swallowed = computer.machine.model.borrow().transfers() + 1;
        computer.machine.model.borrow_mut().faults.swallowed_transfer = Some(swallowed);
        assert_eq!(device.control_in(read, &mut bytes, SECOND).await, Err(TransferError::TimedOut));
        computer.machine.model.borrow_mut().faults.swallowed_transfer = None;
        gadget.borrow_mut().control_answers.clear();
        assert_eq!(device.control_in(read, &mut bytes, SECOND).await, Ok(8));
    });
}

#[test]
fn a_dropped_control_future_leaves_the_pipe_usable() {
    let computer = Computer::new(Config::default());
    let (_, device) = computer.attach(1, bulk_gadget(Speed::High));
    computer.run_within_rules(async {
        let read = Request { kind: VENDOR, request: 5, value: 0, index: 9 };
        let mut bytes = [0; 8];
        let begun = computer.machine.model.borrow().transfers();
        computer.machine.model.borrow_mut().faults.swallowed_transfer = Some(begun + 1);
        let dropped = hal::time::timeout(
            &computer.clock,
            Duration::from_millis(10),
            device.control_in(read, &mut bytes, SECOND),
        );
        assert!(dropped.await.is_err());
        computer.machine.model.borrow_mut().faults.swallowed_transfer = None;
        assert_eq!(device.control_in(read, &mut bytes, SECOND).await, Ok(8));
    });
}

#[test]
fn devices_behind_two_levels_of_hubs_work_through_the_right_translator() {
    for kind in [HubKind::HighSingle, HubKind::HighMultiple, HubKind::Full] {
        let computer = Computer::new(Config::default());
        let (outer, inner) = (shared(VirtualHub::new(kind, 4)), shared(VirtualHub::new(kind, 7)));
        let gadgets = [Speed::Low, Speed::Full]
            .map(|speed| shared(Gadget::new(speed, (1, speed as u16), 0xff, &interrupt_in())));
        inner.borrow_mut().plug(2, gadgets[0].clone());
        inner.borrow_mut().plug(7, gadgets[1].clone());
        outer.borrow_mut().plug(3, inner.clone());
        computer.plug(2, outer.clone());
        computer.pass(Duration::from_secs(10));
        let mut paths: Vec<_> =
            computer.offered.borrow().iter().map(|device| device.information().path.to_string()).collect();
        paths.sort();
        assert_eq!(paths, ["usb0-2.3.2", "usb0-2.3.7"], "{kind:?} {:?}", computer.violations());
        assert_eq!(outer.borrow().alternate(), u8::from(kind == HubKind::HighMultiple));
        for device in computer.offered.borrow_mut().drain(..) {
            computer.run(device.set_configuration(1)).unwrap();
        }
        assert!(gadgets.iter().all(|gadget| gadget.borrow().configuration() == 1));
        assert_eq!(computer.violations(), Vec::<String>::new());
    }
}

#[test]
fn a_bus_is_settled_when_everything_behind_all_hubs_was_offered() {
    let computer = Computer::new(Config::default());
    let gadgets = [(); 3].map(|()| shared(Gadget::new(Speed::High, (1, 2), 0xff, &interrupt_in())));
    let [outer, inner] = [(); 2].map(|()| shared(VirtualHub::new(HubKind::HighMultiple, 4)));
    inner.borrow_mut().plug(4, gadgets[0].clone());
    outer.borrow_mut().plug(2, inner);
    outer.borrow_mut().plug(3, gadgets[1].clone());
    computer.plug(1, outer);
    computer.plug(2, gadgets[2].clone());
    computer.pass(Duration::from_secs(10));
    assert_eq!(computer.settled.get(), Some(3), "{:?}", computer.violations());
}

#[test]
fn a_bus_without_devices_is_settled_after_a_while_and_takes_what_is_plugged_in_later() {
    let computer = Computer::new(Config::default());
    computer.pass(Duration::from_millis(900));
    assert_eq!(computer.settled.get(), None, "a device may still be seen");
    computer.pass(Duration::from_millis(200));
    assert_eq!(computer.settled.get(), Some(0));
    computer.plug(1, shared(Gadget::new(Speed::High, (1, 2), 0xff, &interrupt_in())));
    assert_eq!(computer.device().information().device.vendor, 1);
}

#[test]
fn a_bus_whose_controller_starts_late_is_settled_with_its_devices_and_one_whose_never_does_without() {
    let computer = Computer::new(Config { stubborn_bios: true, ..Config::default() });
    computer.plug(1, shared(bulk_gadget(Speed::High)));
    computer.pass(SECOND * 10);
    assert_eq!(computer.settled.get(), Some(1));
    let computer = Computer::new(Config::default());
    computer.machine.model.borrow_mut().faults.dead = true;
    computer.pass(SECOND * 10);
    assert_eq!(computer.ended.get(), Some(xhci::ControllerError::DoesNotReset));
    assert_eq!(computer.settled.get(), Some(0));
}

#[test]
fn a_device_that_does_not_work_does_not_keep_a_bus_from_settling() {
    let computer = Computer::new(Config::default());
    let gadget = shared(Gadget::new(Speed::High, (1, 2), 0xff, &interrupt_in()));
    gadget.borrow_mut().control_answers.extend(vec![lab_xhci::Answer::Stall; 1000]);
    computer.plug(1, gadget);
    computer.pass(Duration::from_secs(60));
    assert_eq!((computer.settled.get(), computer.offered.borrow().len()), (Some(0), 0));
}

#[test]
fn a_superspeed_hub_learns_its_depth_and_carries_superspeed_devices() {
    let computer = Computer::new(Config::default());
    let (outer, inner) =
        (shared(VirtualHub::new(HubKind::Super, 4)), shared(VirtualHub::new(HubKind::Super, 4)));
    let gadget = shared(bulk_gadget(Speed::Super));
    inner.borrow_mut().plug(4, gadget.clone());
    outer.borrow_mut().plug(1, inner.clone());
    computer.plug(3, outer.clone());
    let device = computer.device();
    assert_eq!(device.information().path.to_string(), "usb0-3.1.4");
    assert_eq!((outer.borrow().depth(), inner.borrow().depth()), (Some(0), Some(1)));
    computer.run(device.set_configuration(1)).unwrap();
    assert_eq!(computer.violations(), Vec::<String>::new());
}

#[test]
fn unplugging_a_hub_takes_everything_behind_it_and_replugging_brings_it_back() {
    let computer = Computer::new(Config::default());
    let (outer, inner) =
        (shared(VirtualHub::new(HubKind::HighSingle, 4)), shared(VirtualHub::new(HubKind::HighMultiple, 4)));
    let gadget = shared(bulk_gadget(Speed::High));
    inner.borrow_mut().plug(1, gadget.clone());
    outer.borrow_mut().plug(4, inner.clone());
    let mut balance = None;
    for _ in 0..20 {
        computer.plug(1, outer.clone());
        let device = computer.device();
        computer.run(async {
            let mut input = input(&device).await;
            for _ in 0..4 {
                computer.post(&mut input, 0);
            }
            input.start();
            computer.unplug(1);
            for _ in 0..4 {
                let done = completion(&mut input).await;
                assert!(
                    matches!(done.result, Err(TransferError::Gone | TransferError::Transaction)),
                    "{:?}",
                    done.result
                );
            }
            let mut bytes = [0; 8];
            let read = Request { kind: VENDOR, request: 5, value: 0, index: 9 };
            assert_eq!(device.control_in(read, &mut bytes, SECOND).await, Err(TransferError::Gone));
            assert_eq!(device.set_configuration(1).await, Err(TransferError::Gone));
        });
        drop(device);
        computer.pass(SECOND * 10);
        assert_eq!(computer.machine.model.borrow().enabled_slots(), 0);
        let now = computer.pages.live_blocks();
        assert_eq!(*balance.get_or_insert(now), now);
    }
    assert_eq!(computer.violations(), Vec::<String>::new());
}

#[test]
fn a_transfer_larger_than_64_kib_is_cut_at_every_boundary_and_ends_short_anywhere() {
    let twice = Config { reports_short_twice: true, ..Config::default() };
    for config in [Config::default(), twice] {
        let computer = Computer::new(config);
        let (gadget, device) = computer.attach(3, bulk_gadget(Speed::Super));
        computer.run_within_rules(async {
            let mut input = input(&device).await;
            let mut block = Block::alloc(&computer.memory, 6, Zone::Normal).unwrap();
            for count in [0, 1, 65535, 65536, 65537, 131_072, 200_000, 262_144] {
                let sent: Vec<u8> = (0..count).map(|at| (at % 251) as u8).collect();
                gadget.borrow_mut().answer(0x81, sent.clone());
                input.submit(Transfer::In { block, length: 262_144 }).unwrap();
                input.start();
                let done = completion(&mut input).await;
                assert_eq!(done.result, Ok(count));
                let Transfer::In { block: returned, .. } = done.transfer else { panic!() };
                assert!(returned.bytes()[..count] == sent[..], "{count} bytes");
                block = returned;
            }
        });
    }
}
