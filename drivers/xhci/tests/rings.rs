//! Rings, seen by a consumer that follows the specification: nothing is executed twice, left out or out of order.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::VecDeque;

use netbuf::Zone;
use netbuf::host::HostPages;
use proptest::prelude::*;
use xhci::ring::{ProducerRing, Span};
use xhci::trb::{CYCLE, Trb, kind};

/// A consumer of the ring, as the controller is one (xHCI 4.9.2): follows the cycle bit and links.
struct Consumer {
    address: u64,
    cycle: u32,
}

impl Consumer {
    fn next(&mut self, pages: &HostPages) -> Option<Trb> {
        loop {
            let mut bytes = [0; 16];
            pages.read(self.address, &mut bytes).unwrap();
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let parameter = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            let trb = Trb { parameter, status: word(8), control: word(12) };
            if trb.control & CYCLE != self.cycle {
                return None;
            }
            if trb.kind() != kind::LINK {
                self.address += 16;
                return Some(trb);
            }
            self.address = trb.parameter;
            self.cycle ^= trb.control >> 1 & 1;
        }
    }
}

proptest! {
    /// Descriptors of any length are put and consumed in any rhythm; each TRB carries a serial number.
    #[test]
    fn a_consumer_sees_every_trb_once_and_in_order(steps in prop::collection::vec((1..40_usize, 0..60_usize), 1..400)) {
        let pages = HostPages::new();
        let mut ring = ProducerRing::new(&(pages.clone() as hal::dma::Pages), Zone::Normal).unwrap();
        let mut consumer = Consumer { address: ring.base(), cycle: CYCLE };
        let mut spans: VecDeque<(Span, u64)> = VecDeque::new();
        let (mut put, mut seen) = (0_u64, 0_u64);
        for (count, consume) in steps {
            let first = put;
            if let Some(span) = ring.put(count, |index| Trb::normal(first + index as u64, 0, 0, 0)) {
                put += count as u64;
                prop_assert_eq!(span.last - span.first + 1, count);
                spans.push_back((span, put));
            }
            for _ in 0..consume {
                let Some(trb) = consumer.next(&pages) else { break };
                prop_assert_eq!(trb.parameter, seen);
                seen += 1;
            }
            while spans.front().is_some_and(|(_, end)| *end <= seen) {
                ring.release(spans.pop_front().unwrap().0);
            }
        }
        while let Some(trb) = consumer.next(&pages) {
            prop_assert_eq!(trb.parameter, seen);
            seen += 1;
        }
        prop_assert_eq!(seen, put);
    }

    /// Set TR Dequeue Pointer to the enqueue pointer empties the ring wherever it stands.
    #[test]
    fn the_enqueue_pointer_is_where_the_ring_goes_on(before in prop::collection::vec(1..40_usize, 0..60), after in 1..40_usize) {
        let pages = HostPages::new();
        let mut ring = ProducerRing::new(&(pages.clone() as hal::dma::Pages), Zone::Normal).unwrap();
        for count in before {
            let span = ring.put(count, |_| Trb::normal(1, 0, 0, 0)).unwrap();
            ring.release(span);
        }
        let pointer = ring.enqueue_pointer();
        let mut consumer = Consumer { address: pointer & !0xf, cycle: pointer as u32 & CYCLE };
        prop_assert_eq!(consumer.next(&pages), None);
        ring.put(after, |index| Trb::normal(index as u64, 0, 0, 0)).unwrap();
        for index in 0..after as u64 {
            prop_assert_eq!(consumer.next(&pages).map(|trb| trb.parameter), Some(index));
        }
        prop_assert_eq!(consumer.next(&pages), None);
    }
}

#[test]
fn an_address_outside_of_the_ring_names_no_trb() {
    let pages = HostPages::new();
    let ring = ProducerRing::new(&(pages as hal::dma::Pages), Zone::Normal).unwrap();
    let base = ring.base();
    assert_eq!((ring.index_of(base), ring.index_of(base + 4080)), (Some(0), Some(255)));
    for address in [base - 16, base + 4096, base + 8, 0, u64::MAX] {
        assert_eq!(ring.index_of(address), None);
    }
}
