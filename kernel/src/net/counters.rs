//! What an interface counts.
//!
//! Each interface has one task that writes its counters; whoever prints them reads. So a counter is an atomic for the
//! sake of the reader only, and counting is a plain load and store.

use core::fmt;
use core::ops::{AddAssign, Sub};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use netbuf::Memory;

/// A number that its one writer raises and everybody may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Raises by one.
    pub fn count(&self) {
        self.add(1);
    }

    /// Raises by `amount`.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Defines `Counters` and the way to go through them by name.
macro_rules! counters {
    ($($(#[$documentation:meta])* $name:ident,)*) => {
        /// The counters of one interface, in the order in which they are printed.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$documentation])* pub $name: Counter,)*
            drops: [Counter; DropReason::ALL.len()],
        }

        impl Counters {
            /// Calls `visit` with the name and value of each counter, drop reasons as `drop_` and the reason.
            pub fn visit(&self, visit: &mut dyn FnMut(&'static str, u64)) {
                $(visit(stringify!($name), self.$name.get());)*
                for (reason, counter) in DropReason::ALL.iter().zip(&self.drops) {
                    visit(reason.name(), counter.get());
                }
            }
        }
    };
}

counters! {
    /// Frames received.
    rx_frames,
    /// Their bytes, Ethernet header included.
    rx_bytes,
    /// Frames handed to the device.
    tx_frames,
    /// Their bytes, Ethernet header included.
    tx_bytes,
    /// Valid echo requests to an address of the interface (a fragmented one counts once).
    echo_requests,
    /// Echo replies handed to the device (a fragmented one counts once).
    echo_replies,
    /// Replies to ARP requests for an address of the interface.
    arp_replies,
    /// ARP probes and announcements sent.
    arp_announcements,
    /// Other stations seen using our address.
    address_conflicts,
    /// Frames that went on to the protocol stack behind the echo path.
    stack_frames,
    /// Datagrams put together from fragments.
    reassembled,
    /// ICMP errors that reassembly sent.
    icmp_errors,
    /// Calls to the page allocator while frames were handled here, and not by the protocol stack.
    allocations,
    /// Payload bytes that the processor copied while frames were handled here, and not by the protocol stack.
    payload_bytes_copied,
    /// Calls to the page allocator for frames on their way to the protocol stack.
    stack_allocations,
    /// Bytes copied of frames on their way to the protocol stack, which wants each in one piece.
    stack_bytes_copied,
}

/// Defines `DropReason` with the name that each has on the console.
macro_rules! drop_reasons {
    ($($(#[$documentation:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a frame was discarded. Each discarded frame counts under exactly one reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum DropReason { $($(#[$documentation])* $variant,)* }

        impl DropReason {
            /// Every reason, in the order of the enum.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name on the console.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => concat!("drop_", $name),)* }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than an Ethernet header.
    EthernetTruncated = "ethernet_truncated",
    /// The Ethernet source is a group address.
    EthernetSource = "ethernet_source",
    /// For another station.
    OtherStation = "other_station",
    /// A payload type that nobody here speaks.
    EtherType = "ethertype",
    /// ARP cut short, or not for IPv4 over Ethernet.
    ArpMalformed = "arp_malformed",
    /// ARP whose sender is not one station (RFC 826, RFC 5227).
    ArpSender = "arp_sender",
    /// ARP that asks for somebody else.
    ArpOtherTarget = "arp_other_target",
    /// An ARP reply that nobody asked for.
    ArpUnsolicited = "arp_unsolicited",
    /// The IPv4 header is cut short or longer than its frame.
    Ipv4Truncated = "ipv4_truncated",
    /// Another version in an IPv4 frame.
    Ipv4Version = "ipv4_version",
    /// Lengths in the IPv4 header contradict each other.
    Ipv4Length = "ipv4_length",
    /// The IPv4 header checksum does not hold.
    Ipv4Checksum = "ipv4_checksum",
    /// The IPv4 source is unspecified, loopback, a group, a broadcast address or our own.
    Ipv4Source = "ipv4_source",
    /// The IPv4 destination is not an address of this interface.
    Ipv4Destination = "ipv4_destination",
    /// A unicast IPv4 packet in a link-layer group frame (RFC 1122, 3.3.6).
    LinkBroadcast = "link_broadcast",
    /// IPv4 options that contradict themselves.
    Ipv4Options = "ipv4_options",
    /// A source route (RFC 7126).
    SourceRoute = "source_route",
    /// The ICMP message is cut short.
    IcmpTruncated = "icmp_truncated",
    /// The ICMP checksum does not hold.
    IcmpChecksum = "icmp_checksum",
    /// An ICMP type that asks for nothing here.
    IcmpType = "icmp_type",
    /// An echo request to a broadcast or multicast address.
    EchoBroadcast = "echo_broadcast",
    /// More echo requests than the configured rate.
    EchoRate = "echo_rate",
    /// A fragment of a protocol that is not reassembled.
    FragmentProtocol = "fragment_protocol",
    /// A fragment that no datagram can contain.
    FragmentMalformed = "fragment_malformed",
    /// Fragments that overlap: all of that datagram go.
    FragmentOverlap = "fragment_overlap",
    /// The same fragment again.
    FragmentDuplicate = "fragment_duplicate",
    /// Fragments of a datagram given up for the sake of newer ones.
    FragmentMemory = "fragment_memory",
    /// Fragments of a datagram that did not become whole in time.
    FragmentTimeout = "fragment_timeout",
    /// More frames for the protocol stack than it takes at once.
    StackFull = "stack_full",
    /// No memory to make a private copy or to answer.
    Memory = "memory",
    /// The device's transmit ring stayed full.
    TransmitFull = "transmit_full",
}

impl Counters {
    /// Counts a discarded frame.
    pub fn drop_frame(&self, reason: DropReason) {
        self.drop_frames(reason, 1);
    }

    /// Counts several frames that were discarded together.
    pub fn drop_frames(&self, reason: DropReason, frames: u64) {
        if let Some(counter) = self.drops.get(reason as usize) {
            counter.add(frames);
        }
    }

    /// Frames discarded for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).map_or(0, Counter::get)
    }

    /// Frames discarded for any reason.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().map(Counter::get).sum()
    }

    /// Whether one of the counters has this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let mut found = false;
        self.visit(&mut |known, _| found |= known == name);
        found
    }

    /// A number that changes whenever a counter does, to see whether printing is worth it.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        self.rx_frames.get().wrapping_add(self.tx_frames.get())
    }
}

/// Shows the counters as `name=value` words; those that are zero are left out, except for the first six.
impl fmt::Display for Counters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut result = Ok(());
        let mut shown = 0;
        self.visit(&mut |name, value| {
            if value != 0 || shown < ALWAYS_SHOWN || matches!(name, "allocations" | "payload_bytes_copied") {
                let space = if shown == 0 { "" } else { " " };
                result = result.and_then(|()| write!(formatter, "{space}{name}={value}"));
            }
            shown += 1;
        });
        result
    }
}

/// What packet memory did for frames.
#[derive(Clone, Copy, Default)]
pub(super) struct Effort {
    /// Calls to the page allocator.
    pub allocations: u64,
    pub bytes_copied: u64,
}

impl Effort {
    /// Since the start.
    pub fn so_far(memory: &Memory) -> Self {
        Self { allocations: memory.allocator_calls(), bytes_copied: memory.copied_bytes() }
    }
}

impl Sub for Effort {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            allocations: self.allocations - other.allocations,
            bytes_copied: self.bytes_copied - other.bytes_copied,
        }
    }
}

impl AddAssign for Effort {
    fn add_assign(&mut self, other: Self) {
        self.allocations += other.allocations;
        self.bytes_copied += other.bytes_copied;
    }
}

/// Frames, bytes and echoes are printed even when they are zero.
const ALWAYS_SHOWN: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let counters = Counters::default();
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            counters.drop_frames(*reason, index as u64 + 1);
        }
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(counters.dropped(*reason), index as u64 + 1);
        }
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
    }

    #[test]
    fn zero_drop_counters_are_not_printed() {
        let counters = Counters::default();
        counters.drop_frame(DropReason::IcmpChecksum);
        let line = counters.to_string();
        assert!(line.starts_with("rx_frames=0 rx_bytes=0"), "{line}");
        assert!(line.contains(" drop_icmp_checksum=1") && !line.contains("drop_ipv4"), "{line}");
        assert!(line.contains("allocations=0 payload_bytes_copied=0"), "{line}");
    }
}
