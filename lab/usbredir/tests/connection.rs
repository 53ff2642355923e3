//! The device side of a connection against a guest played by the test: what QEMU relies on, and what a hostile guest
//! cannot do.

#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

use std::collections::VecDeque;
use std::time::Duration;

use lab_usbredir::decoder::Decoder;
use lab_usbredir::device::{Answer, Attachment, Device, Endpoint, Interface, Setup, Speed, TransferKind};
use lab_usbredir::packet::{Body, Packet, Status};
use lab_usbredir::{Capabilities, Connection};
use proptest::prelude::*;

/// A device that echoes bulk transfers.
#[derive(Default)]
struct Echo {
    away: bool,
    plugged: u32,
    configuration: u8,
    resets: u32,
    queue: VecDeque<Vec<u8>>,
    notifications: VecDeque<Vec<u8>>,
    controls: Vec<Setup>,
    next_control: Option<Answer>,
    never_out: bool,
}

impl Device for Echo {
    fn attachment(&mut self, _: Duration) -> Option<Attachment> {
        let plugged = self.plugged;
        (!self.away).then_some(Attachment { plugged, speed: Speed::Super, vendor: 1, product: 2, version: 3 })
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        let endpoint = |address, kind, interval| Endpoint {
            address,
            kind,
            max_packet_size: 1024,
            interval,
            interface: 0,
        };
        match self.configuration {
            0 => Vec::new(),
            _ => vec![
                endpoint(0x81, TransferKind::Bulk, 0),
                endpoint(0x02, TransferKind::Bulk, 0),
                endpoint(0x83, TransferKind::Interrupt, 0),
            ],
        }
    }

    fn interfaces(&self) -> Vec<Interface> {
        vec![Interface { number: 0, class: [0xff, 0, 0] }; usize::from(self.configuration.min(1))]
    }

    fn reset(&mut self, _: Duration) {
        self.resets += 1;
        self.configuration = 0;
    }

    fn control(&mut self, setup: Setup, _: &[u8], _: Duration) -> Answer {
        self.controls.push(setup);
        if let Some(answer) = self.next_control.take() {
            return answer;
        }
        match (setup.request_type, setup.request) {
            (0, 9) => {
                self.configuration = setup.value as u8;
                Answer::Accepted(0)
            }
            (0x80, 8) => Answer::Data(vec![self.configuration]),
            (kind, _) if kind & 0x80 != 0 => Answer::Data(vec![0x5a; setup.length.into()]),
            _ => Answer::Accepted(setup.length.into()),
        }
    }

    fn bulk_out(&mut self, _: u8, data: &[u8], _: Duration) -> Answer {
        if self.never_out {
            return Answer::Never;
        }
        self.queue.push_back(data.to_vec());
        Answer::Accepted(data.len())
    }

    fn bulk_in(&mut self, _: u8, _: usize, _: Duration) -> Answer {
        self.queue.pop_front().map_or(Answer::NotYet, Answer::Data)
    }

    fn interrupt_in(&mut self, _: u8, _: usize, _: Duration) -> Answer {
        self.notifications.pop_front().map_or(Answer::NotYet, Answer::Data)
    }

    fn next_timer(&self) -> Option<Duration> {
        None
    }
}

/// A guest with a device.
struct Guest {
    connection: Connection,
    device: Echo,
    decoder: Decoder,
}

impl Guest {
    fn connected() -> Self {
        let mut guest = Self {
            connection: Connection::new("test"),
            device: Echo::default(),
            decoder: Decoder::new(QEMU),
        };
        let hello = Body::Hello { version: "guest".into(), capabilities: QEMU };
        let mut bytes = Vec::new();
        Packet { id: 0, body: hello }.build(&mut bytes, Capabilities::default());
        guest.connection.receive(&bytes, &mut guest.device, Duration::ZERO).unwrap();
        guest
    }

    fn configured() -> Self {
        let mut guest = Self::connected();
        guest.ask(1, Body::SetConfiguration { configuration: 1 });
        guest
    }

    fn answers(&mut self) -> Vec<Packet> {
        self.decoder.push(&self.connection.take_output());
        std::iter::from_fn(|| self.decoder.next_packet()).map(Result::unwrap).collect()
    }

    fn ask(&mut self, id: u64, body: Body) -> Vec<Packet> {
        self.answers();
        let mut bytes = Vec::new();
        Packet { id, body }.build(&mut bytes, QEMU & Capabilities::OURS);
        self.connection.receive(&bytes, &mut self.device, Duration::ZERO).unwrap();
        self.answers()
    }

    fn run(&mut self) -> Vec<Packet> {
        self.connection.run(&mut self.device, Duration::ZERO);
        self.answers()
    }
}

/// What QEMU announces.
const QEMU: Capabilities = Capabilities(0xff);

fn control(request_type: u8, request: u8, length: u16, data: &[u8]) -> Body {
    let (endpoint, status) = (request_type & 0x80, Status::Success);
    Body::Control { endpoint, request, request_type, status, value: 0, index: 0, length, data: data.to_vec() }
}

fn bulk(endpoint: u8, length: u32, data: &[u8]) -> Body {
    Body::Bulk { endpoint, status: Status::Success, length, stream: 0, data: data.to_vec() }
}

#[test]
fn the_tables_come_before_the_connect() {
    let kinds: Vec<u32> = Guest::connected().answers().iter().map(|packet| packet.body.kind()).collect();
    assert_eq!(kinds, [0, 5, 4, 1], "hello, endpoints, interfaces, connect");
}

#[test]
fn a_new_configuration_sends_its_tables_before_its_status() {
    let mut guest = Guest::connected();
    let answers = guest.ask(7, Body::SetConfiguration { configuration: 1 });
    let Body::EndpointInfo(table) = &answers[0].body else { panic!("{:?}", answers[0]) };
    assert_eq!((table.kind[17], table.kind[2], table.kind[19]), (2, 2, 3));
    assert_eq!(table.interval[19], 1, "a periodic endpoint without a period is refused by QEMU");
    assert_eq!(table.max_packet_size[17], 1024);
    assert!(matches!(answers[1].body, Body::InterfaceInfo(_)));
    let status = Body::ConfigurationStatus { status: Status::Success, configuration: 1 };
    assert_eq!(answers[2], Packet { id: 7, body: status });
}

#[test]
fn control_answers_carry_the_request_and_never_more_than_was_asked_for() {
    let mut guest = Guest::connected();
    guest.device.next_control = Some(Answer::Data(vec![1; 100]));
    let answer = guest.ask(9, control(0xc0, 5, 4, &[])).remove(0);
    assert_eq!(answer, Packet { id: 9, body: control(0xc0, 5, 4, &[1; 4]) });
    let answer = guest.ask(10, control(0x40, 5, 4, &[1, 2, 3, 4])).remove(0);
    assert_eq!(answer.body, control(0x40, 5, 4, &[]));
    guest.device.next_control = Some(Answer::Stall);
    let answer = guest.ask(11, control(0xc0, 5, 4, &[])).remove(0);
    assert!(matches!(answer.body, Body::Control { status: Status::Stall, length: 0, .. }));
}

#[test]
fn data_that_does_not_fit_its_length_never_reaches_the_device() {
    let mut guest = Guest::configured();
    let seen = guest.device.controls.len();
    for bad in [control(0x40, 5, 4, &[1, 2, 3]), control(0xc0, 5, 4, &[1])] {
        let answer = guest.ask(1, bad).remove(0);
        assert!(matches!(answer.body, Body::Control { status: Status::Invalid, .. }));
    }
    let answer = guest.ask(2, bulk(0x02, 10, &[0; 9])).remove(0);
    assert!(matches!(answer.body, Body::Bulk { status: Status::Invalid, .. }));
    assert_eq!((guest.device.controls.len(), guest.device.queue.len()), (seen, 0));
    assert_eq!(guest.connection.counters.protocol_error, 3);
}

#[test]
fn bulk_requests_are_answered_in_order_each_with_its_id() {
    let mut guest = Guest::configured();
    for id in [100, 50, 75] {
        assert!(guest.ask(id, bulk(0x81, 4096, &[])).is_empty());
    }
    let answers = guest.ask(1, bulk(0x02, 3, b"one"));
    assert_eq!(answers[0], Packet { id: 1, body: bulk(0x02, 3, &[]) });
    assert_eq!(answers[1], Packet { id: 100, body: bulk(0x81, 3, b"one") });
    assert_eq!(guest.ask(2, bulk(0x02, 3, b"two"))[1].id, 50);
    assert_eq!(guest.ask(3, bulk(0x02, 70_000, &[3; 70_000]))[1].body, bulk(0x81, 4096, &[3; 4096]));
}

#[test]
fn a_cancelled_request_is_answered_once_and_gets_no_data() {
    let mut guest = Guest::configured();
    guest.ask(5, bulk(0x81, 100, &[]));
    let answers = guest.ask(5, Body::CancelDataPacket);
    assert!(matches!(answers[0], Packet { id: 5, body: Body::Bulk { status: Status::Cancelled, .. } }));
    assert!(guest.ask(5, Body::CancelDataPacket).is_empty());
    assert_eq!(guest.ask(6, bulk(0x02, 1, &[1])).len(), 1);
}

#[test]
fn a_transfer_that_hangs_is_answered_when_it_is_cancelled() {
    let mut guest = Guest::configured();
    guest.device.next_control = Some(Answer::Never);
    assert!(guest.ask(8, control(0xc0, 5, 4, &[])).is_empty());
    let answers = guest.ask(8, Body::CancelDataPacket);
    assert!(matches!(answers[0], Packet { id: 8, body: Body::Control { status: Status::Cancelled, .. } }));
    guest.device.never_out = true;
    assert!(guest.ask(9, bulk(0x02, 1, &[1])).is_empty());
    assert_eq!(guest.ask(9, Body::CancelDataPacket)[0].id, 9);
}

#[test]
fn interrupts_are_pushed_while_the_guest_listens() {
    let mut guest = Guest::configured();
    guest.device.notifications.push_back(vec![4, 0]);
    assert!(guest.run().is_empty());
    let answers = guest.ask(1, Body::StartInterruptReceiving { endpoint: 0x83 });
    let status = Body::InterruptReceivingStatus { status: Status::Success, endpoint: 0x83 };
    assert_eq!(answers[0].body, status);
    assert!(matches!(&answers[1].body, Body::Interrupt { endpoint: 0x83, data, .. } if data == &[4, 0]));
    guest.ask(2, Body::StopInterruptReceiving { endpoint: 0x83 });
    guest.device.notifications.push_back(vec![0, 0]);
    assert!(guest.run().is_empty());
    let refused = Body::InterruptReceivingStatus { status: Status::Invalid, endpoint: 0x85 };
    assert_eq!(guest.ask(3, Body::StartInterruptReceiving { endpoint: 0x85 })[0].body, refused);
}

#[test]
fn a_replug_waits_for_the_acknowledgement_and_forgets_what_waited() {
    let mut guest = Guest::configured();
    guest.ask(5, bulk(0x81, 100, &[]));
    guest.device.plugged = 1;
    let answers = guest.run();
    assert_eq!(answers.iter().map(|p| p.body.kind()).collect::<Vec<_>>(), [2]);
    // A request that crossed the disconnect, then silence.
    assert!(guest.ask(6, control(0xc0, 5, 4, &[])).is_empty());
    assert!(guest.run().is_empty());
    let kinds: Vec<u32> =
        guest.ask(0, Body::DeviceDisconnectAcknowledge).iter().map(|p| p.body.kind()).collect();
    assert_eq!(kinds, [5, 4, 1]);
    guest.device.queue.push_back(vec![1]);
    assert!(guest.run().is_empty(), "the request of the former life is gone");
}

#[test]
fn what_is_not_supported_is_refused_politely() {
    let mut guest = Guest::configured();
    assert!(guest.ask(1, Body::FilterReject).is_empty());
    assert!(guest.ask(1, Body::FilterRules { rules: b"-1,-1,-1,-1,1".to_vec() }).is_empty());
    let answers = guest.ask(2, Body::AllocateBulkStreams { endpoints: 4, streams: 8 });
    assert!(matches!(answers[0].body, Body::BulkStreamsStatus { status: Status::Invalid, .. }));
    let start = Body::StartIsochronousStream { endpoint: 1, packets_per_transfer: 1, transfers: 1 };
    assert!(matches!(
        guest.ask(3, start)[0].body,
        Body::IsochronousStreamStatus { status: Status::Invalid, .. }
    ));
    let start = Body::StartBulkReceiving { stream: 0, bytes_per_transfer: 512, endpoint: 0x81, transfers: 4 };
    assert!(matches!(guest.ask(4, start)[0].body, Body::BulkReceivingStatus { status: Status::Invalid, .. }));
}

proptest! {
    #[test]
    fn no_bytes_of_a_guest_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let mut guest = Guest::configured();
        let _ = guest.connection.receive(&bytes, &mut guest.device, Duration::ZERO);
        guest.run();
    }

    #[test]
    fn no_packet_of_a_guest_is_a_panic_and_one_has_one_answer(
        packets in proptest::collection::vec(
            (prop_oneof![0..30u32, 100..105u32], any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..40))
    {
        let mut guest = Guest::configured();
        guest.answers();
        let mut answered = 0;
        for (kind, id, body) in &packets {
            let mut bytes = kind.to_le_bytes().to_vec();
            bytes.extend((body.len() as u32).to_le_bytes());
            bytes.extend(u64::from(*id).to_le_bytes());
            bytes.extend(body);
            guest.connection.receive(&bytes, &mut guest.device, Duration::ZERO).unwrap();
            answered += guest.answers().iter().filter(|p| p.body.kind() >= 100).count();
        }
        prop_assert!(answered <= packets.len());
    }
}
