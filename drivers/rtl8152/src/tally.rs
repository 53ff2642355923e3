//! The hardware's own counters (fact sheet rtl8152.md, section 3.5).

use hal::time::Clock;
use usb::UsbDevice;

use crate::chip::Chip;
use crate::error::Error;
use crate::regs::{Space, TALLYCNT};

/// Bytes of the counter block.
const LENGTH: usize = 64;

/// Counters of the MAC since the chip was brought up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames sent.
    pub tx_packets: u64,
    /// Frames received.
    pub rx_packets: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Frames received with an error.
    pub rx_errors: u32,
    /// Frames lost for want of room in the receive FIFO.
    pub rx_missed: u16,
    /// Frames received misaligned.
    pub alignment_errors: u16,
    /// Frames sent after one collision.
    pub tx_single_collision: u32,
    /// Frames sent after several collisions.
    pub tx_multiple_collisions: u32,
    /// Frames received to the own address.
    pub rx_unicast: u64,
    /// Frames received to broadcast.
    pub rx_broadcast: u64,
    /// Frames received to a group.
    pub rx_multicast: u32,
    /// Transmissions given up.
    pub tx_aborted: u16,
    /// Transmissions that the bus was too slow for.
    pub tx_underrun: u16,
}

impl Tally {
    fn parse(bytes: &[u8; LENGTH]) -> Self {
        fn field<const N: usize>(bytes: &[u8; LENGTH], at: usize) -> [u8; N] {
            bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
        }
        let u16_at = |at| u16::from_le_bytes(field(bytes, at));
        let u32_at = |at| u32::from_le_bytes(field(bytes, at));
        let u64_at = |at| u64::from_le_bytes(field(bytes, at));
        Self {
            tx_packets: u64_at(0),
            rx_packets: u64_at(8),
            tx_errors: u64_at(16),
            rx_errors: u32_at(24),
            rx_missed: u16_at(28),
            alignment_errors: u16_at(30),
            tx_single_collision: u32_at(32),
            tx_multiple_collisions: u32_at(36),
            rx_unicast: u64_at(40),
            rx_broadcast: u64_at(48),
            rx_multicast: u32_at(56),
            tx_aborted: u16_at(60),
            tx_underrun: u16_at(62),
        }
    }

    /// Whether, since `earlier`, the MAC took or lost frames that are meant for this station in every filter mode.
    pub(crate) fn took_frames_since(&self, earlier: &Self) -> bool {
        let of = |tally: &Self| (tally.rx_unicast, tally.rx_broadcast, tally.rx_missed);
        of(self) != of(earlier)
    }

    /// Calls `visit` for every counter.
    pub(crate) fn visit(&self, visit: &mut dyn FnMut(&'static str, u64)) {
        visit("hardware_tx_packets", self.tx_packets);
        visit("hardware_rx_packets", self.rx_packets);
        visit("hardware_tx_errors", self.tx_errors);
        visit("hardware_rx_errors", self.rx_errors.into());
        visit("hardware_rx_missed", self.rx_missed.into());
        visit("hardware_alignment_errors", self.alignment_errors.into());
        visit("hardware_tx_single_collision", self.tx_single_collision.into());
        visit("hardware_tx_multiple_collisions", self.tx_multiple_collisions.into());
        visit("hardware_rx_unicast", self.rx_unicast);
        visit("hardware_rx_broadcast", self.rx_broadcast);
        visit("hardware_rx_multicast", self.rx_multicast.into());
        visit("hardware_tx_aborted", self.tx_aborted.into());
        visit("hardware_tx_underrun", self.tx_underrun.into());
    }
}

impl<D: UsbDevice, C: Clock> Chip<D, C> {
    /// Reads all counters at once.
    pub(crate) async fn tally(&self) -> Result<Tally, Error> {
        let mut bytes = [0; LENGTH];
        self.registers.read_bytes(Space::Pla, TALLYCNT, &mut bytes).await?;
        Ok(Tally::parse(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_place() {
        let bytes = core::array::from_fn(|index| index as u8);
        let tally = Tally::parse(&bytes);
        assert_eq!(tally.rx_packets, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(tally.rx_errors, 0x1b1a_1918);
        assert_eq!(tally.rx_missed, 0x1d1c);
        assert_eq!(tally.rx_unicast, 0x2f2e_2d2c_2b2a_2928);
        assert_eq!(tally.tx_underrun, 0x3f3e);
        let mut visited = 0;
        tally.visit(&mut |_, _| visited += 1);
        assert_eq!(visited, 13);
    }
}
