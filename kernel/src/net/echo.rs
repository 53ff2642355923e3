//! The echo path: a request becomes its reply in the buffer it came in.
//!
//! ```text
//!  received   | Ethernet | IPv4 (+ options) | ICMP 8, code | identifier, sequence, payload ... |
//!  answered   | swapped  | swapped, TTL 64  | ICMP 0, code | the same bytes, not touched       |
//! ```
//!
//! The payload is read once, to verify its checksum, and never written or copied: the reply's checksum follows from the
//! request's by the one word that changes (RFC 1624). This module knows buffers and headers; which packets may be
//! answered at all is decided in `receive`.

use core::ops::Range;

use hal::time::{Duration, Instant};
use netbuf::NetBuf;
use zerocopy::FromBytes;
use zerocopy::byteorder::network_endian::U16;

use super::counters::DropReason;
use super::options;
use super::wire::ethernet;
use super::wire::ipv4::{self, Address};
use super::wire::{checksum, icmpv4};

/// Who answers.
#[derive(Clone, Copy, Debug)]
pub struct Responder {
    /// The interface's station address.
    pub station: ethernet::Address,
    /// The interface's IPv4 address.
    pub address: Address,
    /// For Timestamp options.
    pub now: Instant,
}

/// Where a reply stands in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It is the datagram.
    Whole,
    /// It is a fragment of one: the flags and the offset stay as the request had them, and all fragments get the same
    /// identification.
    Fragment {
        /// Identification of the reply.
        identification: u16,
    },
}

/// Whether the message of a frame, at these bytes, has a valid ICMP checksum.
#[must_use]
pub fn checksum_holds(frame: &NetBuf, message: Range<usize>) -> bool {
    frame.checksum(message).is_ok_and(|sum| netbuf::fold(sum) == 0)
}

/// Turns the headers of a request frame into those of its reply.
///
/// `header_length` is that of the IPv4 header with options, which was checked before. With [`Part::Whole`] the message
/// starts with an ICMP header; a fragment starts with one only at offset 0.
///
/// A whole reply has DF set and identification 0: as an atomic datagram it needs none (RFC 6864, 4.1).
///
/// # Errors
///
/// [`DropReason`]: options that cannot be answered, or a buffer that cannot be written to.
pub fn turn(
    frame: &mut NetBuf,
    header_length: usize,
    part: Part,
    responder: &Responder,
) -> Result<(), DropReason> {
    let head = frame.data_mut().map_err(|_| DropReason::Memory)?;
    let (ethernet, packet) =
        ethernet::Header::mut_from_prefix(head).map_err(|_| DropReason::EthernetTruncated)?;
    let (header, message) = packet.split_at_mut_checked(header_length).ok_or(DropReason::Ipv4Truncated)?;
    let (ip, option_bytes) = ipv4::Header::mut_from_prefix(header).map_err(|_| DropReason::Ipv4Truncated)?;
    if !option_bytes.is_empty() {
        let milliseconds = responder.now.nanoseconds() / 1_000_000;
        options::answer(option_bytes, responder.address, milliseconds)?;
    }
    let offset = ip.flags_and_offset.get() & ipv4::FRAGMENT_OFFSET;
    if part == Part::Whole || offset == 0 {
        let (icmp, _) = icmpv4::Header::mut_from_prefix(message).map_err(|_| DropReason::IcmpTruncated)?;
        icmp.turn_echo();
    }
    ethernet.turn(responder.station);
    ip.destination = ip.source;
    ip.source = responder.address;
    ip.time_to_live = 64;
    match part {
        Part::Whole => {
            ip.identification = U16::ZERO;
            ip.flags_and_offset = U16::new(ipv4::DONT_FRAGMENT);
        }
        Part::Fragment { identification } => {
            ip.identification = U16::new(identification);
            ip.flags_and_offset = U16::new(ip.flags_and_offset.get() & !ipv4::DONT_FRAGMENT);
        }
    }
    ip.checksum = U16::ZERO;
    if option_bytes.is_empty() {
        ip.seal();
    } else {
        let sum = !checksum::sum(header, 0);
        if let Ok((ip, _)) = ipv4::Header::mut_from_prefix(header) {
            ip.checksum = U16::new(sum);
        }
    }
    Ok(())
}

/// A token bucket for echo replies (off unless configured).
#[derive(Clone, Debug)]
pub struct Limiter {
    rate: Option<u32>,
    /// Time's worth of tokens in the bucket; at most a second's.
    credit: Duration,
    last: Instant,
}

impl Limiter {
    /// A full bucket that allows `rate` replies per second; `None` allows all.
    #[must_use]
    pub fn new(rate: Option<u32>, now: Instant) -> Self {
        Self { rate, credit: Duration::from_secs(1), last: now }
    }

    /// Takes a token, if there is one.
    pub fn allows(&mut self, now: Instant) -> bool {
        let Some(rate) = self.rate else { return true };
        let price = Duration::from_secs(1) / rate.max(1);
        self.credit = (self.credit + now.since(self.last)).min(Duration::from_secs(1));
        self.last = now;
        match self.credit.checked_sub(price) {
            Some(rest) => {
                self.credit = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row 19: an optional token bucket.
    #[test]
    fn the_limiter_allows_a_burst_and_then_the_rate() {
        let start = Instant::default();
        let mut limiter = Limiter::new(Some(10), start);
        assert_eq!((0..100).filter(|_| limiter.allows(start)).count(), 10);
        let later = start + Duration::from_millis(250);
        assert_eq!((0..100).filter(|_| limiter.allows(later)).count(), 2);
    }

    #[test]
    fn without_a_rate_everything_is_allowed() {
        let mut limiter = Limiter::new(None, Instant::default());
        assert!((0..100_000).all(|_| limiter.allows(Instant::default())));
    }
}
