//! What can be chosen about a device.

use hal::time::Duration;

/// All choices for one device. `Config::default()` is a good start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The station address to use instead of the one that the device tells. The device's own receive filter keeps
    /// to the latter, so this goes together with [`Filter::Promiscuous`]. Default: none.
    pub mac_address: Option<[u8; 6]>,
    /// Which frames the device is asked to pass. Default: own address, broadcast and all multicast.
    pub filter: Filter,
    /// Frames up to this length are copied whole, so that they do not keep a receive block from being reused.
    /// Default: 256.
    pub rx_copybreak: usize,
    /// Of a longer frame, this many bytes are copied to the linear head. Default: 128.
    pub rx_head_length: usize,
    /// Receive transfers in flight, one frame each; new ones are posted when half of them are gone. Default: 16.
    pub receive_transfers: usize,
    /// Receive blocks that may exist, in transfers or referenced by frames that nobody has freed yet. Default: 128.
    pub receive_blocks: usize,
    /// Transmit transfers in flight, one frame each. Default: 16.
    pub transmit_transfers: usize,
    /// How long a control request may take. Default: 5 s.
    pub control_deadline: Duration,
    /// A transmit transfer that takes longer is a fault. Default: 5 s.
    pub transmit_watchdog: Duration,
    /// How often the whole bring-up is tried before the device is given up. Default: 3.
    pub bring_up_attempts: u32,
    /// Pause before a step of recovery; doubled with each step that follows without progress. Default: 10 ms.
    pub recovery_pause: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mac_address: None,
            filter: Filter::AllMulticast,
            rx_copybreak: 256,
            rx_head_length: 128,
            receive_transfers: 16,
            receive_blocks: 128,
            transmit_transfers: 16,
            control_deadline: Duration::from_secs(5),
            transmit_watchdog: Duration::from_secs(5),
            bring_up_attempts: 3,
            recovery_pause: Duration::from_millis(10),
        }
    }
}

/// Which frames are received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// To the own address and to broadcast.
    Station,
    /// To the own address, to broadcast and to every group.
    #[default]
    AllMulticast,
    /// Everything on the wire.
    Promiscuous,
}

impl Filter {
    /// `wValue` of SET_ETHERNET_PACKET_FILTER (ECM 1.2, table 8).
    pub(crate) const fn bits(self) -> u16 {
        const PROMISCUOUS: u16 = 1 << 0;
        const ALL_MULTICAST: u16 = 1 << 1;
        const DIRECTED: u16 = 1 << 2;
        const BROADCAST: u16 = 1 << 3;
        match self {
            Self::Station => DIRECTED | BROADCAST,
            Self::AllMulticast => DIRECTED | BROADCAST | ALL_MULTICAST,
            Self::Promiscuous => PROMISCUOUS | DIRECTED | BROADCAST | ALL_MULTICAST,
        }
    }
}
