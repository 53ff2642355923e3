//! The DHCP server of the far end (RFC 2131, options of RFC 2132): one lease for whoever asks.

use std::net::Ipv4Addr;

use crate::packet::MacAddress;

/// UDP port of servers.
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients.
pub const CLIENT_PORT: u16 = 68;

/// Bytes before the options: the BOOTP fields and the magic cookie.
const FIXED_LENGTH: usize = 240;
const MAGIC_COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Shortest BOOTP message that old relays and clients take (RFC 1542, 2.1).
const MINIMUM_LENGTH: usize = 300;

mod option {
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_IDENTIFIER: u8 = 54;
    pub const END: u8 = 255;
    pub const PAD: u8 = 0;
}

/// DHCP message types (RFC 2132, 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageType {
    /// A client looks for servers.
    Discover = 1,
    /// A server offers.
    Offer = 2,
    /// A client asks for an address.
    Request = 3,
    /// A client found the address in use.
    Decline = 4,
    /// The address is the client's.
    Acknowledge = 5,
    /// The address is not the client's.
    Refuse = 6,
    /// The client gives the address back.
    Release = 7,
    /// A client that has an address asks for the rest.
    Inform = 8,
}

impl MessageType {
    fn from_code(code: u8) -> Option<Self> {
        use MessageType::{Acknowledge, Decline, Discover, Inform, Offer, Refuse, Release, Request};
        [Discover, Offer, Request, Decline, Acknowledge, Refuse, Release, Inform]
            .into_iter()
            .find(|kind| *kind as u8 == code)
    }
}

/// What a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What kind of message it is.
    pub kind: MessageType,
    /// The client's number for this exchange.
    pub transaction: u32,
    /// The client asks for answers by broadcast.
    pub broadcast: bool,
    /// The client's present address (`ciaddr`), unspecified while it has none.
    pub client_address: Ipv4Addr,
    /// The client's station address.
    pub client_mac: MacAddress,
    /// Option 50.
    pub requested_address: Option<Ipv4Addr>,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
}

impl Message {
    /// Reads the payload of a UDP datagram to the server port; `None` for what is not a client's message.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (fixed, mut options) = bytes.split_at_checked(FIXED_LENGTH)?;
        if fixed[..3] != [1, 1, 6] || fixed[236..] != MAGIC_COOKIE {
            return None;
        }
        let (mut kind, mut requested_address, mut server) = (None, None, None);
        while let [code, rest @ ..] = options {
            match *code {
                option::END => break,
                option::PAD => options = rest,
                code => {
                    let (length, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                    let address = || <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from);
                    match code {
                        option::MESSAGE_TYPE => kind = MessageType::from_code(*value.first()?),
                        option::REQUESTED_ADDRESS => requested_address = address(),
                        option::SERVER_IDENTIFIER => server = address(),
                        _ => {}
                    }
                    options = rest;
                }
            }
        }
        Some(Self {
            kind: kind?,
            transaction: u32::from_be_bytes(fixed[4..8].try_into().ok()?),
            broadcast: fixed[10] & 0x80 != 0,
            client_address: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]),
            client_mac: fixed[28..34].try_into().ok()?,
            requested_address,
            server,
        })
    }
}

/// What the server hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The client's address.
    pub address: Ipv4Addr,
    /// Length of the network prefix, in bits.
    pub prefix: u8,
    /// The default router.
    pub router: Option<Ipv4Addr>,
    /// How long the lease lasts, in seconds.
    pub seconds: u32,
}

/// An answer and where it goes.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The kind of message.
    pub kind: MessageType,
    /// Payload of the UDP datagram to the client port.
    pub payload: Vec<u8>,
    /// The IPv4 destination; broadcast when the client wants that or has no address that it listens to.
    pub destination: Ipv4Addr,
}

/// Answers one message from the client, as the server at `server` with one lease to give (RFC 2131, 4.3). `None` when
/// nothing is to be said.
#[must_use]
pub fn answer(server: Ipv4Addr, lease: &Lease, message: &Message) -> Option<Answer> {
    let kind = match message.kind {
        MessageType::Discover => MessageType::Offer,
        MessageType::Request => {
            if message.server.is_some_and(|chosen| chosen != server) {
                return None;
            }
            let wanted = message.requested_address.unwrap_or(message.client_address);
            if wanted == lease.address { MessageType::Acknowledge } else { MessageType::Refuse }
        }
        MessageType::Inform => MessageType::Acknowledge,
        _ => return None,
    };
    let leased =
        matches!(kind, MessageType::Offer | MessageType::Acknowledge) && message.kind != MessageType::Inform;
    let yours = if leased { lease.address } else { Ipv4Addr::UNSPECIFIED };

    let mut payload = vec![0; FIXED_LENGTH];
    payload[..4].copy_from_slice(&[2, 1, 6, 0]);
    payload[4..8].copy_from_slice(&message.transaction.to_be_bytes());
    payload[10] = if message.broadcast { 0x80 } else { 0 };
    payload[12..16].copy_from_slice(&message.client_address.octets());
    payload[16..20].copy_from_slice(&yours.octets());
    payload[28..34].copy_from_slice(&message.client_mac);
    payload[236..].copy_from_slice(&MAGIC_COOKIE);
    let mut put = |code: u8, value: &[u8]| {
        payload.push(code);
        payload.push(u8::try_from(value.len()).unwrap_or(0));
        payload.extend_from_slice(value);
    };
    put(option::MESSAGE_TYPE, &[kind as u8]);
    put(option::SERVER_IDENTIFIER, &server.octets());
    if kind != MessageType::Refuse {
        let mask = u32::MAX.checked_shl(32 - u32::from(lease.prefix.min(32))).unwrap_or(0);
        put(option::SUBNET_MASK, &mask.to_be_bytes());
        if let Some(router) = lease.router {
            put(option::ROUTER, &router.octets());
        }
    }
    if leased {
        put(option::LEASE_TIME, &lease.seconds.to_be_bytes());
    }
    payload.push(option::END);
    payload.resize(payload.len().max(MINIMUM_LENGTH), option::PAD);

    let destination = if !message.client_address.is_unspecified() && kind != MessageType::Refuse {
        message.client_address
    } else if message.broadcast || kind == MessageType::Refuse {
        Ipv4Addr::BROADCAST
    } else {
        yours
    };
    Some(Answer { kind, payload, destination })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const LEASE: Lease =
        Lease { address: Ipv4Addr::new(10, 0, 0, 2), prefix: 24, router: Some(SERVER), seconds: 3600 };

    fn client(kind: MessageType) -> Message {
        Message {
            kind,
            transaction: 0x1234_5678,
            broadcast: false,
            client_address: Ipv4Addr::UNSPECIFIED,
            client_mac: [2, 0, 0, 0, 0, 1],
            requested_address: None,
            server: None,
        }
    }

    #[test]
    fn a_discover_is_offered_the_lease() {
        let offer = answer(SERVER, &LEASE, &client(MessageType::Discover)).unwrap();
        assert_eq!((offer.kind, offer.destination), (MessageType::Offer, LEASE.address));
        assert_eq!(&offer.payload[4..8], &[0x12, 0x34, 0x56, 0x78]);
        assert_eq!(&offer.payload[16..20], &[10, 0, 0, 2]);
        assert!(offer.payload.windows(6).any(|option| option == [1, 4, 255, 255, 255, 0]));
        assert!(offer.payload.len() >= MINIMUM_LENGTH);
    }

    #[test]
    fn only_the_leased_address_is_acknowledged() {
        let mut request = client(MessageType::Request);
        request.requested_address = Some(LEASE.address);
        assert_eq!(answer(SERVER, &LEASE, &request).unwrap().kind, MessageType::Acknowledge);
        request.requested_address = Some(Ipv4Addr::new(10, 0, 0, 99));
        let refusal = answer(SERVER, &LEASE, &request).unwrap();
        assert_eq!((refusal.kind, refusal.destination), (MessageType::Refuse, Ipv4Addr::BROADCAST));
    }

    #[test]
    fn a_request_to_another_server_is_not_ours() {
        let mut request = client(MessageType::Request);
        request.server = Some(Ipv4Addr::new(10, 0, 0, 77));
        assert_eq!(answer(SERVER, &LEASE, &request), None);
    }

    #[test]
    fn a_client_that_asks_for_broadcast_is_answered_by_broadcast() {
        let mut discover = client(MessageType::Discover);
        discover.broadcast = true;
        assert_eq!(answer(SERVER, &LEASE, &discover).unwrap().destination, Ipv4Addr::BROADCAST);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Message::parse(&bytes);
        }

        #[test]
        fn any_options_are_read_without_a_panic(options in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = vec![0; FIXED_LENGTH];
            bytes[..3].copy_from_slice(&[1, 1, 6]);
            bytes[236..].copy_from_slice(&MAGIC_COOKIE);
            bytes.extend_from_slice(&options);
            let _ = Message::parse(&bytes);
        }
    }
}
