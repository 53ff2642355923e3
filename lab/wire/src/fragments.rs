//! IPv4 fragmentation and reassembly (RFC 791, 3.2).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use etherparse::Ipv4Header;

use crate::packet::FragmentPosition;

/// How long an incomplete datagram is kept (RFC 1122, 3.3.2: between 60 and 120 seconds).
const LIFETIME: Duration = Duration::from_secs(60);

/// Incomplete datagrams kept at once; the oldest gives way.
const MAXIMUM_DATAGRAMS: usize = 64;

/// Cuts a datagram's payload into fragments that fit `maximum_payload` bytes each.
pub fn cut(payload: &[u8], maximum_payload: usize) -> impl Iterator<Item = (FragmentPosition, &[u8])> {
    // A payload that fits goes whole; otherwise all fragments but the last are multiples of 8 bytes long.
    let step =
        if payload.len() <= maximum_payload { payload.len().max(1) } else { maximum_payload.max(8) & !7 };
    (0..payload.len().max(1)).step_by(step).map(move |offset| {
        let end = payload.len().min(offset + step);
        (FragmentPosition { offset, more: end < payload.len() }, &payload[offset..end])
    })
}

/// Which datagram a fragment belongs to: source, destination, protocol, identification.
type DatagramKey = ([u8; 4], [u8; 4], u8, u16);

struct Datagram {
    since: Instant,
    payload: Vec<u8>,
    /// Which bytes of `payload` have arrived, in units of 8.
    arrived: Vec<bool>,
    /// Length of the whole payload, once the last fragment is there.
    length: Option<usize>,
}

/// Puts fragments together again.
#[derive(Default)]
pub struct Reassembly {
    datagrams: HashMap<DatagramKey, Datagram>,
}

impl Reassembly {
    /// Adds a fragment and returns the payload of the datagram it completes. A later fragment overwrites what it
    /// overlaps: this is the friendly end of the cable.
    pub fn add(&mut self, header: &Ipv4Header, fragment: &[u8], now: Instant) -> Option<Vec<u8>> {
        self.datagrams.retain(|_, datagram| now.duration_since(datagram.since) < LIFETIME);
        let key = (header.source, header.destination, header.protocol.0, header.identification);
        if self.datagrams.len() >= MAXIMUM_DATAGRAMS && !self.datagrams.contains_key(&key) {
            let oldest =
                self.datagrams.iter().min_by_key(|(_, datagram)| datagram.since).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.datagrams.remove(&oldest));
        }
        let datagram = self.datagrams.entry(key).or_insert_with(|| Datagram {
            since: now,
            payload: Vec::new(),
            arrived: Vec::new(),
            length: None,
        });
        let offset = usize::from(header.fragment_offset.value()) * 8;
        let end = offset + fragment.len();
        if datagram.payload.len() < end {
            datagram.payload.resize(end, 0);
            datagram.arrived.resize(end.div_ceil(8), false);
        }
        datagram.payload[offset..end].copy_from_slice(fragment);
        datagram.arrived[offset / 8..end.div_ceil(8)].fill(true);
        if !header.more_fragments {
            datagram.length = Some(end);
        }
        let length = datagram.length?;
        if datagram.payload.len() == length && datagram.arrived.iter().all(|arrived| *arrived) {
            return self.datagrams.remove(&key).map(|datagram| datagram.payload);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{IpFragOffset, IpNumber};
    use proptest::prelude::*;

    fn header(position: FragmentPosition) -> Ipv4Header {
        Ipv4Header {
            identification: 7,
            protocol: IpNumber::ICMP,
            more_fragments: position.more,
            fragment_offset: IpFragOffset::try_new(u16::try_from(position.offset / 8).unwrap()).unwrap(),
            ..Default::default()
        }
    }

    #[test]
    fn a_payload_that_fits_goes_whole_even_when_it_is_empty() {
        assert_eq!(cut(&[], 1480).collect::<Vec<_>>(), [(FragmentPosition::default(), &[][..])]);
        assert_eq!(cut(&[1; 1480], 1480).count(), 1);
    }

    #[test]
    fn the_largest_echo_takes_45_fragments_of_an_ethernet_frame() {
        let payload = vec![0; 65515];
        let fragments: Vec<_> = cut(&payload, 1480).collect();
        assert_eq!(fragments.len(), 45);
        assert!(fragments.iter().all(|(position, _)| position.offset % 8 == 0));
        assert!(!fragments.last().unwrap().0.more);
    }

    proptest! {
        #[test]
        fn fragments_in_any_order_give_the_payload_back(
            payload in proptest::collection::vec(any::<u8>(), 1..4000),
            room in 8_usize..600,
            order in any::<proptest::sample::Index>(),
        ) {
            let mut fragments: Vec<_> = cut(&payload, room).collect();
            let turn = order.index(fragments.len());
            fragments.rotate_left(turn);
            let mut reassembly = Reassembly::default();
            let (last, first) = fragments.split_last().unwrap();
            for (position, bytes) in first {
                prop_assert!(reassembly.add(&header(*position), bytes, Instant::now()).is_none());
            }
            prop_assert_eq!(reassembly.add(&header(last.0), last.1, Instant::now()), Some(payload.clone()));
        }
    }
}
