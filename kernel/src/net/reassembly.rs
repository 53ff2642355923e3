//! Fragmented echo requests (RFC 791 3.2, RFC 1122 3.3.2), put together without copying.
//!
//! A datagram's fragments stay in the buffers they came in, sorted by offset. When the datagram is whole, each of those
//! frames becomes a fragment of the reply: what fitted the link on the way here fits it on the way back.
//!
//! Memory is bounded by the number of datagrams and of fragments held; when either runs out, the oldest datagram goes.
//! Fragments that overlap are an attack or a fault: the whole datagram goes (RFC 5722's rule, applied to version 4).

use alloc::vec::Vec;

use hal::time::Instant;
use netbuf::NetBuf;

use super::configuration::Reassembly as Limits;
use super::counters::DropReason;
use super::wire::ethernet;
use super::wire::ipv4::{self, Address, Header};

/// The largest payload of an IPv4 datagram with a plain header.
const LARGEST_PAYLOAD: usize = 65_535 - ipv4::HEADER_LENGTH;

/// Which datagram a fragment belongs to. The protocol is always ICMP here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    source: Address,
    destination: Address,
    identification: u16,
}

/// A fragment in the frame that it came in.
#[derive(Debug)]
pub struct Fragment {
    /// Ethernet frame, ending where the fragment ends.
    pub frame: NetBuf,
    /// Bytes of the IPv4 header with options.
    pub header_length: usize,
    /// Where its payload belongs in that of the datagram, in bytes.
    pub offset: usize,
    /// Bytes of payload.
    pub length: usize,
}

impl Fragment {
    fn end(&self) -> usize {
        self.offset + self.length
    }

    /// The payload's place in the frame.
    #[must_use]
    pub fn payload(&self) -> core::ops::Range<usize> {
        let start = ethernet::HEADER_LENGTH + self.header_length;
        start..start + self.length
    }
}

/// A datagram of which fragments have come.
#[derive(Debug)]
struct Datagram {
    key: Key,
    started: Instant,
    /// Bytes of payload, once the last fragment was seen.
    total: Option<usize>,
    /// By offset, without overlap.
    fragments: Vec<Fragment>,
}

/// What became of a fragment.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Others are missing.
    Held,
    /// It was the last one missing: [`Reassembler::take_whole`] has them all.
    Whole,
    /// This many frames, the new one included, were given up.
    Dropped(DropReason, u64),
}

/// All datagrams that are being put together on one interface.
#[derive(Debug)]
pub struct Reassembler {
    limits: Limits,
    datagrams: Vec<Datagram>,
    /// Fragments held, over all datagrams.
    held: usize,
    /// Emptied lists, kept so that a stream of large pings does not allocate.
    spare: Vec<Vec<Fragment>>,
    whole: Vec<Fragment>,
}

impl Reassembler {
    /// One that holds nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, datagrams: Vec::new(), held: 0, spare: Vec::new(), whole: Vec::new() }
    }

    /// Takes a fragment whose IPv4 header was checked and whose frame ends where the packet ends. `give_up` is told
    /// of the frames of older datagrams that had to make room.
    pub fn insert(
        &mut self,
        frame: NetBuf,
        header: Header,
        now: Instant,
        mut give_up: impl FnMut(DropReason, u64),
    ) -> Outcome {
        let flags = header.flags_and_offset.get();
        let more = flags & ipv4::MORE_FRAGMENTS != 0;
        let header_length = header.length();
        let fragment = Fragment {
            frame,
            header_length,
            offset: usize::from(flags & ipv4::FRAGMENT_OFFSET) * 8,
            length: usize::from(header.total_length.get()).saturating_sub(header_length),
        };
        // Only the last fragment may end inside an eight-byte unit (RFC 791, 3.2).
        let torn = more && !fragment.length.is_multiple_of(8);
        if fragment.length == 0 || torn || fragment.end() > LARGEST_PAYLOAD {
            return Outcome::Dropped(DropReason::FragmentMalformed, 1);
        }
        let key = Key {
            source: header.source,
            destination: header.destination,
            identification: header.identification.get(),
        };
        while self.held >= self.limits.fragments.max(1) {
            // The datagram this fragment belongs to is spared only while there is an older one.
            let Some(frames) = self.remove_oldest() else { break };
            give_up(DropReason::FragmentMemory, frames);
        }
        let index = match self.datagrams.iter().position(|datagram| datagram.key == key) {
            Some(index) => index,
            None => {
                if self.datagrams.len() >= self.limits.datagrams.max(1)
                    && let Some(frames) = self.remove_oldest()
                {
                    give_up(DropReason::FragmentMemory, frames);
                }
                let fragments = self.spare.pop().unwrap_or_default();
                self.datagrams.push(Datagram { key, started: now, total: None, fragments });
                self.datagrams.len() - 1
            }
        };
        let Some(datagram) = self.datagrams.get_mut(index) else { return Outcome::Held };
        match datagram.insert(fragment, more) {
            Ok(()) => {
                self.held += 1;
                if datagram.is_whole() {
                    let fragments = self.remove(index);
                    self.recycle_whole(fragments);
                    return Outcome::Whole;
                }
                Outcome::Held
            }
            Err(DropReason::FragmentDuplicate) => Outcome::Dropped(DropReason::FragmentDuplicate, 1),
            Err(reason) => {
                let mut fragments = self.remove(index);
                let frames = fragments.len() as u64 + 1;
                fragments.clear();
                self.spare.push(fragments);
                Outcome::Dropped(reason, frames)
            }
        }
    }

    fn recycle_whole(&mut self, fragments: Vec<Fragment>) {
        let mut old = core::mem::replace(&mut self.whole, fragments);
        old.clear();
        self.spare.push(old);
    }

    /// The fragments of the datagram that became whole last, by offset. Whoever calls takes all of them out.
    pub fn take_whole(&mut self) -> &mut Vec<Fragment> {
        &mut self.whole
    }

    /// When the oldest datagram is to be given up; `None` when there is none.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.datagrams.first().map(|oldest| oldest.started + self.limits.timeout)
    }

    /// Gives up the oldest datagram if its time is over: how many frames went, and its first fragment if that one had
    /// come, so that its sender can be told.
    pub fn expire(&mut self, now: Instant) -> Option<(u64, Option<Fragment>)> {
        if now < self.deadline()? {
            return None;
        }
        let mut fragments = self.remove(0);
        let frames = fragments.len() as u64;
        let first = fragments.drain(..).next().filter(|fragment| fragment.offset == 0);
        self.spare.push(fragments);
        Some((frames, first))
    }

    /// Fragments held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Datagrams are kept in the order in which their first fragments came.
    fn remove_oldest(&mut self) -> Option<u64> {
        if self.datagrams.is_empty() {
            return None;
        }
        let mut fragments = self.remove(0);
        let frames = fragments.len() as u64;
        fragments.clear();
        self.spare.push(fragments);
        Some(frames)
    }

    fn remove(&mut self, index: usize) -> Vec<Fragment> {
        let datagram = self.datagrams.remove(index);
        self.held -= datagram.fragments.len();
        datagram.fragments
    }
}

impl Datagram {
    fn insert(&mut self, fragment: Fragment, more: bool) -> Result<(), DropReason> {
        let at = self.fragments.partition_point(|other| other.offset < fragment.offset);
        let before = at.checked_sub(1).and_then(|index| self.fragments.get(index));
        let behind = self.fragments.get(at);
        if let Some(same) = behind
            && (same.offset, same.length) == (fragment.offset, fragment.length)
        {
            return Err(DropReason::FragmentDuplicate);
        }
        let overlaps = before.is_some_and(|other| other.end() > fragment.offset)
            || behind.is_some_and(|other| fragment.end() > other.offset);
        let end = self.fragments.last().map_or(0, Fragment::end).max(fragment.end());
        let total = if more { self.total } else { Some(fragment.end()) };
        // A second end, or bytes behind the end.
        let contradicts =
            total.is_some_and(|total| end > total || self.total.is_some_and(|known| known != total));
        if overlaps || contradicts {
            return Err(DropReason::FragmentOverlap);
        }
        self.total = total;
        self.fragments.insert(at, fragment);
        Ok(())
    }

    fn is_whole(&self) -> bool {
        let present: usize = self.fragments.iter().map(|fragment| fragment.length).sum();
        self.total == Some(present)
    }
}
