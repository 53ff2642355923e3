//! virtio-net against a device that the tests play: modern and legacy, well-behaved and not.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod device;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use device::{ANY_LAYOUT, Device, Window};
use hal::dma::Pages;
use hal::interrupt::InterruptSignal;
use hal::network::{DeviceError, Event, NetworkDevice};
use netbuf::{Block, Memory, NetBuf, Queue, Zone};
use proptest::prelude::*;
use virtio::network::{NetworkInterrupts, RING_SIZE, VirtioNetwork};
use virtio::pci::PciTransport;
use virtio::{Error, Interrupts};

type Network = VirtioNetwork<PciTransport<Window>, Arc<InterruptSignal>>;

struct Bench {
    device: Device,
    network: Network,
    signal: Arc<InterruptSignal>,
    memory: Memory,
}

fn pages() -> Pages {
    Arc::new(device::IdentityPages)
}

fn bring_up(device: &Device, routing: Interrupts) -> Result<Bench, Error> {
    let id = if device.0.borrow().legacy { 0x1000 } else { 0x1041 };
    device.0.borrow_mut().message_signalled = routing != Interrupts::Line;
    let transport =
        PciTransport::new(id, |offset| device.read_configuration(offset), |index| device.open_bar(index))?;
    let pages = pages();
    let memory = Memory::new(pages.clone()).unwrap();
    let signal = Arc::new(InterruptSignal::new());
    let interrupts = NetworkInterrupts { routing, queues: signal.clone(), configuration: None };
    let network = VirtioNetwork::new(transport, &pages, &memory, interrupts)?;
    Ok(Bench { device: device.clone(), network, signal, memory })
}

/// A device that came up and has told its link.
fn bench(legacy: bool) -> Bench {
    let mut bench = bring_up(&Device::network(legacy, ANY_LAYOUT), Interrupts::Line).unwrap();
    assert_eq!(bench.poll(&mut Queue::new(), 1), Poll::Ready(Ok(Event::LinkUp(0))));
    bench
}

const MESSAGES: Interrupts = Interrupts::MessageSignalled { queues: 1, configuration: 0 };

impl Bench {
    /// Polls `receive` once.
    fn poll(&mut self, received: &mut Queue, budget: usize) -> Poll<Result<Event, DeviceError>> {
        let mut future = pin!(self.network.receive(received, budget));
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn receive_all(&mut self) -> Vec<Vec<u8>> {
        let mut received = Queue::new();
        while let Poll::Ready(event) = self.poll(&mut received, 64) {
            event.unwrap();
        }
        let mut frames = Vec::new();
        while let Some(frame) = received.pop_front() {
            frames.push(frame.data().to_vec());
        }
        frames
    }

    fn frame(&self, bytes: &[u8]) -> NetBuf {
        let mut frame = NetBuf::rx_alloc(&self.memory, bytes.len().max(1)).unwrap();
        frame.put(bytes.len()).unwrap().copy_from_slice(bytes);
        frame
    }
}

#[test]
fn modern_and_legacy_devices_come_up() {
    for legacy in [false, true] {
        for routing in [Interrupts::Line, MESSAGES] {
            let bench = bring_up(&Device::network(legacy, ANY_LAYOUT), routing).unwrap();
            let information = bench.network.information();
            assert_eq!(information.mac_address, [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
            assert_eq!(information.maximum_transmission_unit, 1500);
            assert_eq!(bench.device.0.borrow().status & 4, 4, "DRIVER_OK");
        }
    }
}

#[test]
fn a_transitional_device_with_capabilities_is_driven_as_a_modern_one() {
    let device = Device::network(false, 0);
    let transport =
        PciTransport::new(0x1000, |offset| device.read_configuration(offset), |index| device.open_bar(index));
    assert!(!transport.unwrap().is_legacy());
}

#[test]
fn frames_are_received_whole_and_in_order() {
    for legacy in [false, true] {
        for layout in [ANY_LAYOUT, 0] {
            let mut bench = bring_up(&Device::network(legacy, layout), Interrupts::Line).unwrap();
            let frames: Vec<Vec<u8>> =
                (14..114).chain([1514]).map(|length| vec![length as u8; length]).collect();
            for frame in &frames {
                assert!(bench.device.deliver(frame));
            }
            assert_eq!(bench.receive_all(), frames);
        }
    }
}

#[test]
fn the_receive_ring_stays_full() {
    let mut bench = bench(false);
    for round in 0..3 * RING_SIZE {
        assert!(bench.device.deliver(&[1; 60]), "no buffer in round {round}");
        assert_eq!(bench.receive_all().len(), 1);
    }
}

#[test]
fn a_budget_is_kept_and_nothing_is_lost() {
    let mut bench = bench(false);
    for _ in 0..10 {
        bench.device.deliver(&[7; 60]);
    }
    let mut received = Queue::new();
    assert_eq!(bench.poll(&mut received, 4), Poll::Ready(Ok(Event::Progress)));
    assert_eq!(received.len(), 4);
    assert_eq!(bench.receive_all().len(), 6);
}

#[test]
fn a_linear_frame_is_sent_in_one_descriptor() {
    let mut bench = bench(false);
    let mut frames = Queue::new();
    frames.push_back(bench.frame(&[5; 98]));
    bench.network.transmit(&mut frames).unwrap();
    assert!(frames.is_empty());
    assert_eq!(bench.device.sent(), [(vec![5; 98], 1)]);
}

#[test]
fn a_legacy_device_without_any_layout_gets_the_header_alone() {
    let mut bench = bring_up(&Device::network(true, 0), Interrupts::Line).unwrap();
    let mut frames = Queue::new();
    frames.push_back(bench.frame(&[5; 98]));
    bench.network.transmit(&mut frames).unwrap();
    assert_eq!(bench.device.sent(), [(vec![5; 98], 2)]);
}

#[test]
fn frags_are_gathered_without_copying() {
    let mut bench = bench(false);
    let mut block = Block::alloc(&bench.memory, 0, Zone::Normal).unwrap();
    block.bytes_mut().fill(9);
    let mut frame = bench.frame(&[1; 54]);
    frame.add_rx_frag(block.share(), 100, 1000, 4096).unwrap();
    let copied = bench.memory.statistics().copied_bytes;
    let mut frames = Queue::new();
    frames.push_back(frame);
    bench.network.transmit(&mut frames).unwrap();
    let expected = [vec![1; 54], vec![9; 1000]].concat();
    assert_eq!(bench.device.sent(), [(expected, 2)]);
    assert_eq!(bench.memory.statistics().copied_bytes, copied);
}

#[test]
fn a_shared_frame_is_sent_with_a_header_of_its_own() {
    let mut bench = bench(false);
    let mut frame = bench.frame(&[3; 60]);
    let clone = frame.clone_buffer().unwrap();
    let mut frames = Queue::new();
    frames.push_back(frame);
    bench.network.transmit(&mut frames).unwrap();
    assert_eq!(bench.device.sent(), [(vec![3; 60], 2)]);
    assert_eq!(clone.data(), [3; 60]);
}

#[test]
fn a_batch_is_one_notification() {
    let mut bench = bench(false);
    bench.device.0.borrow_mut().notified.clear();
    let mut frames = Queue::new();
    for _ in 0..20 {
        frames.push_back(bench.frame(&[0; 60]));
    }
    bench.network.transmit(&mut frames).unwrap();
    assert_eq!(bench.device.0.borrow().notified, [1]);
}

#[test]
fn frames_beyond_the_ring_wait_and_progress_is_told() {
    let mut bench = bench(false);
    let mut frames = Queue::new();
    for number in 0..2 * RING_SIZE {
        frames.push_back(bench.frame(&[number as u8; 60]));
    }
    let mut sent = Vec::new();
    let mut received = Queue::new();
    bench.network.transmit(&mut frames).unwrap();
    while !frames.is_empty() {
        assert_eq!(bench.poll(&mut received, 64), Poll::Pending, "there is no room yet");
        assert!(!bench.device.interrupts_suppressed(1), "nobody would tell of room");
        sent.extend(bench.device.sent());
        bench.signal.raise();
        assert_eq!(bench.poll(&mut received, 64), Poll::Ready(Ok(Event::Progress)));
        bench.network.transmit(&mut frames).unwrap();
    }
    sent.extend(bench.device.sent());
    let numbers: Vec<u8> = sent.iter().map(|(frame, _)| frame[0]).collect();
    let expected: Vec<u8> = (0..2 * RING_SIZE).map(|number| number as u8).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn interrupts_are_off_while_frames_are_served() {
    let mut bench = bench(false);
    let mut received = Queue::new();
    assert_eq!(bench.poll(&mut received, 1), Poll::Pending);
    assert!(!bench.device.interrupts_suppressed(0));
    assert!(bench.device.interrupts_suppressed(1), "finished transmissions are not worth an interrupt");
    bench.device.deliver(&[0; 60]);
    bench.device.deliver(&[0; 60]);
    bench.signal.raise();
    assert!(bench.poll(&mut received, 1).is_ready());
    assert!(bench.device.interrupts_suppressed(0));
}

#[test]
fn echoing_allocates_nothing_in_steady_state() {
    let mut bench = bench(false);
    let echo = |bench: &mut Bench| {
        for _ in 0..8 {
            bench.device.deliver(&[1; 98]);
        }
        let mut received = Queue::new();
        assert!(bench.poll(&mut received, 64).is_ready());
        bench.network.transmit(&mut received).unwrap();
        assert_eq!(bench.device.sent().len(), 8);
    };
    for _ in 0..100 {
        echo(&mut bench);
    }
    let before = bench.memory.statistics();
    for _ in 0..1000 {
        echo(&mut bench);
    }
    let after = bench.memory.statistics();
    assert_eq!(after.allocator_calls, before.allocator_calls);
    assert_eq!(after.copied_bytes, before.copied_bytes);
    assert_eq!(after.live_descriptors, before.live_descriptors);
}

#[test]
fn link_changes_are_told() {
    let mut bench = bench(false);
    let mut received = Queue::new();
    assert_eq!(bench.poll(&mut received, 1), Poll::Pending);
    for (up, event) in [(0, Event::LinkDown), (1, Event::LinkUp(0))] {
        bench.device.0.borrow_mut().configuration[6] = up;
        bench.device.0.borrow_mut().interrupt_status = 2;
        bench.signal.raise();
        assert_eq!(bench.poll(&mut received, 1), Poll::Ready(Ok(event)));
    }
}

#[test]
fn a_link_that_is_down_from_the_beginning_is_told_when_it_comes_up() {
    let device = Device::network(false, ANY_LAYOUT);
    device.0.borrow_mut().configuration[6] = 0;
    let mut bench = bring_up(&device, Interrupts::Line).unwrap();
    let mut received = Queue::new();
    assert_eq!(bench.poll(&mut received, 1), Poll::Pending);
    device.0.borrow_mut().configuration[6] = 1;
    device.0.borrow_mut().interrupt_status = 2;
    bench.signal.raise();
    assert_eq!(bench.poll(&mut received, 1), Poll::Ready(Ok(Event::LinkUp(0))));
}

#[test]
fn a_device_that_does_not_tell_its_link_has_one() {
    let device = Device::network(false, ANY_LAYOUT);
    {
        let mut state = device.0.borrow_mut();
        state.features &= !(1 << 16);
        // Not to be read.
        state.configuration[6] = 0;
    }
    let mut bench = bring_up(&device, Interrupts::Line).unwrap();
    assert_eq!(bench.poll(&mut Queue::new(), 1), Poll::Ready(Ok(Event::LinkUp(0))));
}

#[test]
fn an_unknown_used_id_fails_the_device_alone() {
    for id in [256, 0xffff, 0x1_0000 + 300, u32::MAX] {
        let mut bench = bench(false);
        bench.device.return_buffer(0, id, 100);
        let mut received = Queue::new();
        assert_eq!(bench.poll(&mut received, 64), Poll::Ready(Err(DeviceError::Failed)), "id {id:#x}");
        assert!(bench.network.transmit(&mut received).is_err());
    }
}

/// The first return frees the token, and the buffer that takes its place gets it again: a second return is then taken
/// for that buffer's. What it gives is a buffer of ours, of the length told, and nothing is lost or given twice.
#[test]
fn a_buffer_returned_twice_gives_only_what_was_posted() {
    let mut bench = bench(false);
    let live = bench.memory.statistics().live_descriptors;
    let chain = bench.device.next_chain(0).unwrap();
    bench.device.return_buffer(0, chain.head.into(), 100);
    bench.device.return_buffer(0, chain.head.into(), 100);
    let mut received = Queue::new();
    assert_eq!(bench.poll(&mut received, 64), Poll::Ready(Ok(Event::Progress)));
    assert_eq!(received.iter().map(NetBuf::len).collect::<Vec<_>>(), [88, 88]);
    received.clear();
    assert_eq!(bench.memory.statistics().live_descriptors, live);
}

#[test]
fn impossible_lengths_drop_the_frame_and_keep_the_ring() {
    let mut bench = bench(false);
    for length in [0, 1, 12, 5000, u32::MAX] {
        let chain = bench.device.next_chain(0).unwrap();
        bench.device.return_buffer(0, chain.head.into(), length);
    }
    assert_eq!(bench.receive_all(), Vec::<Vec<u8>>::new());
    let mut bad = 0;
    bench.network.counters(&mut |name, value| {
        if name == "bad_lengths" {
            bad = value
        }
    });
    assert_eq!(bad, 5);
    for _ in 0..RING_SIZE {
        assert!(bench.device.deliver(&[0; 60]));
    }
}

#[test]
fn a_device_that_rejects_features_is_given_up() {
    let device = Device::network(false, 0);
    device.0.borrow_mut().refuse_features = true;
    assert!(matches!(bring_up(&device, Interrupts::Line), Err(Error::FeaturesRejected { .. })));
}

#[test]
fn a_legacy_ring_of_another_size_is_named() {
    let features = Device::network(true, 0).0.borrow().features;
    let device = Device::new(true, features, vec![2; 8], 2, 1024);
    let Err(error) = bring_up(&device, Interrupts::Line) else { panic!("came up") };
    assert_eq!(error, Error::QueueSize { queue: 0, offered: 1024, needed: 256 });
}

#[test]
fn a_modern_ring_may_be_larger() {
    let features = Device::network(false, 0).0.borrow().features;
    let device = Device::new(false, features, vec![2; 8], 2, 1024);
    let mut bench = bring_up(&device, Interrupts::Line).unwrap();
    assert!(bench.device.deliver(&[1; 60]));
    assert_eq!(bench.receive_all().len(), 1);
}

#[test]
fn nothing_leaks_when_the_device_goes() {
    let mut bench = bench(false);
    let mut frames = Queue::new();
    for _ in 0..10 {
        frames.push_back(bench.frame(&[0; 60]));
    }
    bench.network.transmit(&mut frames).unwrap();
    let Bench { device, network, memory, .. } = bench;
    drop(network);
    assert_eq!(device.0.borrow().status, 0, "reset before the memory goes");
    assert_eq!(memory.statistics().live_descriptors, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the device writes into its used rings, the driver reads nothing that it was not given.
    #[test]
    fn any_used_entries_are_survived(
        entries in proptest::collection::vec((0usize..2, prop_oneof![0u32..300, any::<u32>()], any::<u32>()), 0..400),
    ) {
        let mut bench = bench(false);
        let mut received = Queue::new();
        for (queue, id, length) in entries {
            bench.device.return_buffer(queue, id, length);
            if let Poll::Ready(Err(_)) = bench.poll(&mut received, 64) {
                break;
            }
            for frame in received.iter() {
                prop_assert!(frame.len() <= 2048);
            }
            bench.network.transmit(&mut received).ok();
        }
    }
}
