//! The hardware's own counters (fact sheet 3.5).

/// Counters as the chip keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Tally {
    pub tx_packets: u64,
    pub rx_packets: u64,
    pub tx_errors: u64,
    pub rx_errors: u32,
    /// Dropped because the receive FIFO was full.
    pub rx_missed: u16,
    pub rx_unicast: u64,
    pub rx_broadcast: u64,
    pub rx_multicast: u32,
    pub tx_aborted: u16,
}

impl Tally {
    /// The 64 bytes at `PLA e890`.
    pub fn to_bytes(self) -> [u8; 64] {
        let mut bytes = [0; 64];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.tx_packets.to_le_bytes());
        put(8, &self.rx_packets.to_le_bytes());
        put(16, &self.tx_errors.to_le_bytes());
        put(24, &self.rx_errors.to_le_bytes());
        put(28, &self.rx_missed.to_le_bytes());
        put(40, &self.rx_unicast.to_le_bytes());
        put(48, &self.rx_broadcast.to_le_bytes());
        put(56, &self.rx_multicast.to_le_bytes());
        put(60, &self.tx_aborted.to_le_bytes());
        bytes
    }
}
