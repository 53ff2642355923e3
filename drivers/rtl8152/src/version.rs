//! Which chip it is, and what follows from that (fact sheet rtl8152.md, sections 1.5 and 5.5).
//!
//! The product id does not tell: 0bda:8153 is used by four generations. Only the version register does.

use usb::Speed;

use crate::regs::TCR;

/// A chip version that this driver knows, named after the value of its version register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Version {
    /// RTL8152, first version; its receive checksum results are unusable.
    V4c00,
    /// RTL8152B.
    V4c10,
    /// RTL8152 class.
    V4800,
    /// RTL8153.
    V5c00,
    /// RTL8153.
    V5c10,
    /// RTL8153A.
    V5c20,
    /// RTL8153A, the common one.
    V5c30,
    /// RTL8153B, early.
    V6000,
    /// RTL8153B.
    V6010,
    /// RTL8153C.
    V6400,
    /// RTL8156.
    V7020,
    /// RTL8156A.
    V7030,
    /// RTL8156B, early.
    V7400,
    /// RTL8156B.
    V7410,
    /// RTL8153D: an RTL8156B limited to 1 Gb/s.
    V7420,
}

/// Chips that are brought up the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// RTL8152: 10/100 Mb/s on USB 2.0.
    Rtl8152,
    /// RTL8153 and 8153A: 1 Gb/s on USB 3.0.
    Rtl8153A,
    /// RTL8153B.
    Rtl8153B,
    /// RTL8153C.
    Rtl8153C,
    /// RTL8156 and 8156A: 2.5 Gb/s.
    Rtl8156A,
    /// RTL8156B and 8153D.
    Rtl8156B,
}

/// The version bits of the upper word of [`TCR`]; the others are ordinary read-write bits.
const VERSION_MASK: u16 = 0x7cf0;

/// Frame header with a VLAN tag, and the frame check sequence: what a frame adds to the MTU.
pub(crate) const FRAME_OVERHEAD: usize = 18 + 4;

impl Version {
    /// All versions, in the order of their register values.
    pub const ALL: [Self; 15] = [
        Self::V4800,
        Self::V4c00,
        Self::V4c10,
        Self::V5c00,
        Self::V5c10,
        Self::V5c20,
        Self::V5c30,
        Self::V6000,
        Self::V6010,
        Self::V6400,
        Self::V7020,
        Self::V7030,
        Self::V7400,
        Self::V7410,
        Self::V7420,
    ];

    /// What the version register holds.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::V4800 => 0x4800,
            Self::V4c00 => 0x4c00,
            Self::V4c10 => 0x4c10,
            Self::V5c00 => 0x5c00,
            Self::V5c10 => 0x5c10,
            Self::V5c20 => 0x5c20,
            Self::V5c30 => 0x5c30,
            Self::V6000 => 0x6000,
            Self::V6010 => 0x6010,
            Self::V6400 => 0x6400,
            Self::V7020 => 0x7020,
            Self::V7030 => 0x7030,
            Self::V7400 => 0x7400,
            Self::V7410 => 0x7410,
            Self::V7420 => 0x7420,
        }
    }

    /// The version in a value of the dword register at PLA 0xe610; the bare number when it is not a known one.
    pub(crate) fn from_tcr(tcr: u32) -> Result<Self, u16> {
        let number = (tcr >> 16) as u16 & VERSION_MASK;
        Self::ALL.into_iter().find(|version| version.number() == number).ok_or(number)
    }

    /// How it is brought up.
    #[must_use]
    pub const fn generation(self) -> Generation {
        match self {
            Self::V4c00 | Self::V4c10 | Self::V4800 => Generation::Rtl8152,
            Self::V5c00 | Self::V5c10 | Self::V5c20 | Self::V5c30 => Generation::Rtl8153A,
            Self::V6000 | Self::V6010 => Generation::Rtl8153B,
            Self::V6400 => Generation::Rtl8153C,
            Self::V7020 | Self::V7030 => Generation::Rtl8156A,
            Self::V7400 | Self::V7410 | Self::V7420 => Generation::Rtl8156B,
        }
    }

    /// The name for messages and counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4c00 | Self::V4800 => "rtl8152",
            Self::V4c10 => "rtl8152b",
            Self::V5c00 | Self::V5c10 => "rtl8153",
            Self::V5c20 | Self::V5c30 => "rtl8153a",
            Self::V6000 | Self::V6010 => "rtl8153b",
            Self::V6400 => "rtl8153c",
            Self::V7020 => "rtl8156",
            Self::V7030 => "rtl8156a",
            Self::V7400 | Self::V7410 => "rtl8156b",
            Self::V7420 => "rtl8153d",
        }
    }

    /// Whether the PHY does 1000BASE-T.
    pub(crate) const fn gigabit(self) -> bool {
        !matches!(self.generation(), Generation::Rtl8152)
    }

    /// Whether the PHY does 2.5GBASE-T.
    pub(crate) const fn two_and_a_half_gigabit(self) -> bool {
        matches!(self.generation(), Generation::Rtl8156A | Generation::Rtl8156B)
            && !matches!(self, Self::V7420)
    }

    /// Whether the receive descriptor's checksum bits can be believed.
    pub(crate) const fn receive_checksum(self) -> bool {
        !matches!(self, Self::V4c00)
    }

    /// Largest MTU: the chip's buffer limit less `FRAME_OVERHEAD`; fixed on RTL8152.
    #[must_use]
    pub const fn maximum_mtu(self) -> usize {
        match self.generation() {
            Generation::Rtl8152 => 1500,
            Generation::Rtl8153A | Generation::Rtl8153B | Generation::Rtl8153C => 9 * 1024 - FRAME_OVERHEAD,
            Generation::Rtl8156A => 15 * 1024 - FRAME_OVERHEAD,
            Generation::Rtl8156B => 16 * 1024 - FRAME_OVERHEAD,
        }
    }

    /// Bytes of a receive buffer: the chip ends an aggregate so that it fits this (section 5.5).
    pub(crate) const fn receive_buffer(self, speed: Speed) -> usize {
        const KIB: usize = 1024;
        match self.generation() {
            Generation::Rtl8152 => 16 * KIB,
            Generation::Rtl8153A if !is_super_speed(speed) => 16 * KIB,
            Generation::Rtl8153A | Generation::Rtl8153B | Generation::Rtl8153C => 32 * KIB,
            Generation::Rtl8156A | Generation::Rtl8156B => 48 * KIB,
        }
    }

    /// Bytes in one unit of the aggregation size register; `None` where there is no such register.
    pub(crate) const fn early_size_unit(self) -> Option<usize> {
        match self.generation() {
            Generation::Rtl8152 => None,
            Generation::Rtl8153A => Some(4),
            _ => Some(8),
        }
    }
}

/// Whether the link is a SuperSpeed one.
pub(crate) const fn is_super_speed(speed: Speed) -> bool {
    matches!(speed, Speed::Super | Speed::SuperPlus)
}

/// The register that tells the version.
pub(crate) const VERSION_REGISTER: crate::regs::Register<u32> = TCR;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inter_frame_gap_bits_do_not_disturb_the_version() {
        for version in Version::ALL {
            let tcr = u32::from(version.number() | 0x0308) << 16 | 0x0880;
            assert_eq!(Version::from_tcr(tcr), Ok(version));
        }
    }

    #[test]
    fn unknown_versions_are_refused_with_their_number() {
        assert_eq!(Version::from_tcr(0x7010_0800), Err(0x7010));
        assert_eq!(Version::from_tcr(0x1030_0800), Err(0x1030));
        assert_eq!(Version::from_tcr(0xffff_ffff), Err(0x7cf0));
        assert_eq!(Version::from_tcr(0), Err(0));
    }
}
