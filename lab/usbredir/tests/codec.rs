//! The codec: what is built is parsed again, and no bytes at all make it panic, loop or grow.

use lab_usbredir::decoder::{Decoder, LARGEST_PACKET};
use lab_usbredir::packet::{Body, EndpointTable, InterfaceTable, Packet, Status};
use lab_usbredir::{Capabilities, ProtocolError};
use proptest::prelude::*;

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![
        Just(Status::Success),
        Just(Status::Cancelled),
        Just(Status::Invalid),
        Just(Status::InputOutputError),
        Just(Status::Stall),
        Just(Status::TimedOut),
        Just(Status::Babble)
    ]
}

prop_compose! {
    fn control()(endpoint: u8, request: u8, request_type: u8, status in status(), value: u16, index: u16, length: u16,
                 data in proptest::collection::vec(any::<u8>(), 0..70)) -> Body {
        Body::Control { endpoint, request, request_type, status, value, index, length, data }
    }
}

prop_compose! {
    fn bulk()(endpoint: u8, status in status(), length: u32, stream: u32,
              data in proptest::collection::vec(any::<u8>(), 0..700)) -> Body {
        Body::Bulk { endpoint, status, length, stream, data }
    }
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        (any::<u8>(), any::<u16>(), any::<u16>(), any::<u16>()).prop_map(
            |(speed, vendor, product, version)| {
                Body::DeviceConnect { speed, class: 1, subclass: 2, protocol: 3, vendor, product, version }
            }
        ),
        Just(Body::DeviceDisconnect),
        Just(Body::Reset),
        (0..=32u32, any::<[u8; 32]>()).prop_map(|(count, number)| {
            Body::InterfaceInfo(Box::new(InterfaceTable { count, number, ..Default::default() }))
        }),
        (any::<[u8; 32]>(), any::<[u16; 32]>()).prop_map(|(kind, max_packet_size)| {
            Body::EndpointInfo(Box::new(EndpointTable { kind, max_packet_size, ..Default::default() }))
        }),
        any::<u8>().prop_map(|configuration| Body::SetConfiguration { configuration }),
        Just(Body::GetConfiguration),
        (status(), any::<u8>())
            .prop_map(|(status, configuration)| Body::ConfigurationStatus { status, configuration }),
        any::<(u8, u8)>()
            .prop_map(|(interface, alternate)| Body::SetAlternateSetting { interface, alternate }),
        any::<u8>().prop_map(|interface| Body::GetAlternateSetting { interface }),
        any::<u8>().prop_map(|endpoint| Body::StartInterruptReceiving { endpoint }),
        any::<u8>().prop_map(|endpoint| Body::StopInterruptReceiving { endpoint }),
        (status(), any::<u8>())
            .prop_map(|(status, endpoint)| Body::InterruptReceivingStatus { status, endpoint }),
        any::<(u32, u32)>().prop_map(|(endpoints, streams)| Body::AllocateBulkStreams { endpoints, streams }),
        Just(Body::CancelDataPacket),
        Just(Body::FilterReject),
        proptest::collection::vec(1u8..128, 0..40).prop_map(|rules| Body::FilterRules { rules }),
        Just(Body::DeviceDisconnectAcknowledge),
        any::<(u32, u32, u8, u8)>().prop_map(|(stream, bytes_per_transfer, endpoint, transfers)| {
            Body::StartBulkReceiving { stream, bytes_per_transfer, endpoint, transfers }
        }),
        control(),
        bulk(),
        (any::<u8>(), status(), any::<u16>(), proptest::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(endpoint, status, length, data)| Body::Interrupt { endpoint, status, length, data }),
    ]
}

fn hello(capabilities: Capabilities) -> Vec<u8> {
    let mut bytes = Vec::new();
    let body = Body::Hello { version: "a test".into(), capabilities };
    Packet { id: 0, body }.build(&mut bytes, Capabilities::default());
    bytes
}

proptest! {
    #[test]
    fn packets_survive_the_wire_in_pieces_of_any_size(
        bodies in proptest::collection::vec((any::<u64>(), body()), 0..12), piece in 1..200usize)
    {
        let all = Capabilities(0xff);
        let mut bytes = hello(all);
        let sent: Vec<Packet> = bodies.into_iter().map(|(id, body)| Packet { id, body }).collect();
        for packet in &sent {
            packet.build(&mut bytes, all);
        }
        let mut decoder = Decoder::new(all);
        let mut received = Vec::new();
        for piece in bytes.chunks(piece) {
            decoder.push(piece);
            while let Some(packet) = decoder.next_packet() {
                received.push(packet.unwrap());
            }
        }
        prop_assert_eq!(&received[1..], &sent[..]);
    }

    #[test]
    fn arbitrary_bytes_after_a_hello_are_packets_or_errors(
        capabilities: u32, bytes in proptest::collection::vec(any::<u8>(), 0..4000))
    {
        let mut decoder = Decoder::new(Capabilities(0xff));
        decoder.push(&hello(Capabilities(capabilities)));
        decoder.push(&bytes);
        let mut steps = 0;
        while decoder.next_packet().is_some() {
            steps += 1;
            prop_assert!(steps <= bytes.len() / 12 + 1, "a packet of no bytes");
        }
    }

    #[test]
    fn a_packet_with_any_type_and_body_is_parsed_or_refused(
        kind in prop_oneof![0..30u32, 98..110u32, any::<u32>()], capabilities: u32,
        bytes in proptest::collection::vec(any::<u8>(), 0..400))
    {
        let _ = Body::parse(kind, &bytes, Capabilities(capabilities));
    }
}

#[test]
fn the_layout_is_that_of_the_protocol() {
    let mut bytes = Vec::new();
    let body = Body::Bulk {
        endpoint: 0x81,
        status: Status::Stall,
        length: 0x0001_0002,
        stream: 3,
        data: vec![0xaa],
    };
    let packet = Packet { id: 0x1_0000_0005, body };
    packet.build(&mut bytes, Capabilities(0xff));
    let wide = [101, 0, 0, 0, 11, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0x81, 4, 2, 0, 3, 0, 0, 0, 1, 0, 0xaa];
    assert_eq!(bytes, wide);
    bytes.clear();
    packet.build(&mut bytes, Capabilities::default());
    assert_eq!(bytes, [101, 0, 0, 0, 9, 0, 0, 0, 5, 0, 0, 0, 0x81, 4, 2, 0, 3, 0, 0, 0, 0xaa]);
}

#[test]
fn a_declared_length_beyond_the_limit_ends_the_stream_without_an_allocation() {
    let mut decoder = Decoder::new(Capabilities::OURS);
    let length = LARGEST_PACKET as u32 + 1;
    let mut bytes = hello(Capabilities::OURS);
    bytes.extend(101u32.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend([0; 8]);
    decoder.push(&bytes);
    assert!(matches!(decoder.next_packet(), Some(Ok(_))));
    let error = decoder.next_packet().unwrap().unwrap_err();
    assert_eq!(error, ProtocolError::TooLong { kind: 101, length: length as usize, limit: LARGEST_PACKET });
    assert!(!error.is_recoverable());
    decoder.push(&hello(Capabilities::OURS));
    assert!(decoder.next_packet().is_none());
}

#[test]
fn a_bad_packet_is_skipped_and_the_next_one_understood() {
    let mut decoder = Decoder::new(Capabilities::OURS);
    let mut bytes = hello(Capabilities::OURS);
    // A set-configuration without its byte, and one with two.
    for length in [0u32, 2] {
        bytes.extend(6u32.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(vec![1; length as usize]);
    }
    Packet { id: 9, body: Body::Reset }.build(&mut bytes, Capabilities::OURS);
    decoder.push(&bytes);
    assert!(decoder.next_packet().unwrap().is_ok());
    assert_eq!(decoder.next_packet(), Some(Err(ProtocolError::TooShort { kind: 6, length: 0 })));
    assert_eq!(decoder.next_packet(), Some(Err(ProtocolError::TrailingBytes { kind: 6, left: 1 })));
    assert_eq!(decoder.next_packet(), Some(Ok(Packet { id: 9, body: Body::Reset })));
}

#[test]
fn hello_comes_first_and_once() {
    let mut decoder = Decoder::new(Capabilities::OURS);
    let mut bytes = Vec::new();
    Packet { id: 0, body: Body::Reset }.build(&mut bytes, Capabilities::default());
    bytes.extend(hello(Capabilities::OURS));
    decoder.push(&bytes);
    assert_eq!(decoder.next_packet(), Some(Err(ProtocolError::HelloOutOfPlace { kind: 3 })));
    assert!(decoder.next_packet().unwrap().is_ok());
    let mut again = Vec::new();
    let body = Body::Hello { version: String::new(), capabilities: Capabilities::default() };
    Packet { id: 0, body }.build(&mut again, Capabilities::default());
    // A second hello has the header of the agreed layout.
    again.splice(12..12, [0; 4]);
    decoder.push(&again);
    assert_eq!(decoder.next_packet(), Some(Err(ProtocolError::HelloOutOfPlace { kind: 0 })));
}
