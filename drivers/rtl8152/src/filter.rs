//! Which frames the MAC accepts (fact sheet rtl8152.md, section 4.11).

use hal::time::Clock;
use usb::UsbDevice;

use crate::chip::Chip;
use crate::config::Filter;
use crate::error::Error;
use crate::regs::*;

/// The bit of the 64-bit multicast hash that stands for `group`: the upper six bits of the Ethernet CRC-32 in its
/// non-reflected form (polynomial 0x04c11db7, all ones at first, bits of a byte from the least significant one on,
/// no final inversion).
fn multicast_hash_bit(group: [u8; 6]) -> u32 {
    const POLYNOMIAL: u32 = 0x04c1_1db7;
    let mut crc = u32::MAX;
    for byte in group {
        for bit in 0..8 {
            let carry = crc >> 31 ^ u32::from(byte >> bit & 1);
            crc = crc << 1 ^ if carry == 1 { POLYNOMIAL } else { 0 };
        }
    }
    crc >> 26
}

/// Accept bits and multicast hash.
fn settings(filter: &Filter) -> (u32, u64) {
    const OWN_AND_BROADCAST: u32 = RCR_APM | RCR_AB;
    match filter {
        Filter::Groups(groups) if groups.is_empty() => (OWN_AND_BROADCAST, 0),
        Filter::Groups(groups) => {
            let hash = groups.iter().fold(0, |hash, &group| hash | 1 << multicast_hash_bit(group));
            (OWN_AND_BROADCAST | RCR_AM, hash)
        }
        Filter::AllMulticast => (OWN_AND_BROADCAST | RCR_AM, u64::MAX),
        Filter::Promiscuous => (OWN_AND_BROADCAST | RCR_AM | RCR_AAP, u64::MAX),
    }
}

impl<D: UsbDevice, C: Clock> Chip<D, C> {
    /// Makes `filter` the one in force.
    pub(crate) async fn configure_filter(&self, filter: &Filter) -> Result<(), Error> {
        let (accept, hash) = settings(filter);
        let rcr = self.registers.read(RCR).await?;
        self.registers.write_dwords(Space::Pla, MAR, &hash.to_be_bytes()).await?;
        self.registers.write(RCR, rcr & !RCR_ACCEPT | accept).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_of_known_groups() {
        let vectors = [
            ([0x01, 0x00, 0x5e, 0x00, 0x00, 0x01], [0, 0, 0, 0, 0x80, 0, 0, 0]),
            ([0x33, 0x33, 0x00, 0x00, 0x00, 0x01], [0x40, 0, 0, 0, 0, 0, 0, 0]),
            ([0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb], [0, 0, 0, 0, 0, 0, 0x80, 0]),
            ([0x33, 0x33, 0xff, 0x11, 0x22, 0x33], [0, 0, 0, 0x10, 0, 0, 0, 0]),
        ];
        for (group, expected) in vectors {
            let (accept, hash) = settings(&Filter::Groups(vec![group]));
            assert_eq!(hash.to_be_bytes(), expected, "{group:02x?}");
            assert_eq!(accept, 0xe);
        }
    }

    #[test]
    fn modes_choose_the_accept_bits() {
        assert_eq!(settings(&Filter::Groups(Vec::new())), (0xa, 0));
        assert_eq!(settings(&Filter::AllMulticast), (0xe, u64::MAX));
        assert_eq!(settings(&Filter::Promiscuous), (0xf, u64::MAX));
    }
}
