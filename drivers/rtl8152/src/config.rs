//! What can be chosen about an adapter, with defaults that suit an appliance.

use alloc::vec::Vec;

use hal::time::Duration;

/// All choices for one adapter. `Config::default()` is a good start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The station address to use instead of the permanent one. Default: none.
    pub mac_address: Option<[u8; 6]>,
    /// Largest network-layer packet, in bytes; more than 1500 are jumbo frames, which RTL8152 does not do.
    /// Default: 1500.
    pub maximum_transmission_unit: usize,
    /// Whether the adapter waits for more frames before it completes a receive transfer. Default: latency.
    pub coalescing: Coalescing,
    /// Which frames the adapter accepts. Default: own address, broadcast and all multicast.
    pub filter: Filter,
    /// Frames up to this length are copied whole, so that they do not keep a receive block from being reused;
    /// `usize::MAX` copies every frame. Default: 256.
    pub rx_copybreak: usize,
    /// Of a longer frame, this many bytes are copied to the linear head. Default: 128: Ethernet, IPv6 and TCP
    /// headers with options.
    pub rx_head_length: usize,
    /// Receive transfers in flight, each with a block of the chip's buffer size (16 to 48 KiB, rounded up to a power of
    /// two of pages); new ones are posted when half of them are gone. Default: 8.
    pub receive_transfers: usize,
    /// Receive blocks that may exist, in transfers or referenced by frames that nobody has freed yet. While all are
    /// out, the adapter holds frames back. Default: 32.
    pub receive_blocks: usize,
    /// Transmit transfers in flight. Frames offered while all are under way wait and share the next one. Default: 4.
    pub transmit_transfers: usize,
    /// At most this many bytes of descriptors and frames share a transmit transfer. Default: 16 KiB, the chip's own
    /// buffer.
    pub transmit_aggregate_bytes: usize,
    /// At most this many frames share a transmit transfer; 1 for a dock that loses aggregates. Default: 64.
    pub transmit_aggregate_frames: usize,
    /// Whether frames share a receive transfer; false for a dock that corrupts aggregates. Default: true.
    pub receive_aggregation: bool,
    /// Whether a VLAN tag is taken out of a received frame and noted in the buffer. For network layers that look at
    /// the note: to all others a tagged frame would look like an untagged one. Default: false.
    pub vlan_strip: bool,
    /// Whether energy-efficient Ethernet is offered to the link partner. Default: false, for the sake of latency.
    pub energy_efficient_ethernet: bool,
    /// How long one register access may take. Default: 5 s; half a second proved too short in the field.
    pub register_deadline: Duration,
    /// A transmit transfer that takes longer is a fault. Default: 5 s.
    pub transmit_watchdog: Duration,
    /// How often the link state and the hardware's counters are looked at; the receive watchdog compares the
    /// counters with what arrived. Default: 1 s.
    pub inspection_interval: Duration,
    /// Receiving counts as stuck when in this many inspections in a row the hardware counted frames and none
    /// arrived. Default: 3.
    pub receive_watchdog_inspections: u32,
    /// How often the whole bring-up is tried before the adapter is given up. Default: 3.
    pub bring_up_attempts: u32,
    /// Pause before a step of recovery; doubled with each step that follows without progress. Default: 10 ms.
    pub recovery_pause: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mac_address: None,
            maximum_transmission_unit: 1500,
            coalescing: Coalescing::Latency,
            filter: Filter::AllMulticast,
            rx_copybreak: 256,
            rx_head_length: 128,
            receive_transfers: 8,
            receive_blocks: 32,
            transmit_transfers: 4,
            transmit_aggregate_bytes: 16 * 1024,
            transmit_aggregate_frames: 64,
            receive_aggregation: true,
            vlan_strip: false,
            energy_efficient_ethernet: false,
            register_deadline: Duration::from_secs(5),
            transmit_watchdog: Duration::from_secs(5),
            inspection_interval: Duration::from_secs(1),
            receive_watchdog_inspections: 3,
            bring_up_attempts: 3,
            recovery_pause: Duration::from_millis(10),
        }
    }
}

/// How long the adapter gathers received frames into one transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coalescing {
    /// As short as the timers go: least round trip.
    #[default]
    Latency,
    /// What other systems program: 85 us at SuperSpeed, 250 us at high speed on RTL8153A; 15 us on later chips.
    Throughput,
}

/// Which frames are received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// To the own address and to broadcast, and to these multicast groups (through a hash of 64 bits: frames of
    /// other groups may come along).
    Groups(Vec<[u8; 6]>),
    /// To the own address, to broadcast and to every group.
    #[default]
    AllMulticast,
    /// Everything on the wire.
    Promiscuous,
}
