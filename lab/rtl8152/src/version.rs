//! The chips of the family: what tells them apart (fact sheet 1.3 to 1.5).

use std::fmt;

use lab_usbredir::Speed;

use crate::phy::LinkSpeed;

/// A generation: chips that are programmed alike (fact sheet, "chip classes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generation {
    /// RTL8152: 10/100, USB 2.0.
    R8152,
    /// RTL8153 and 8153A.
    R8153,
    /// RTL8153B.
    R8153B,
    /// RTL8153C.
    R8153C,
    /// RTL8156 and 8156A.
    R8156,
    /// RTL8156B and 8153D.
    R8156B,
}

/// One chip version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The version bits of `PLA e612` (mask `0x7cf0`).
    pub code: u16,
    /// Name on the command line.
    pub name: &'static str,
    /// Linux's name.
    pub linux: &'static str,
    /// How it is programmed.
    pub generation: Generation,
    /// `idProduct` under Realtek's `idVendor`.
    pub product: u16,
    /// `bcdDevice`.
    pub device_version: u16,
    /// The fastest Ethernet speed.
    pub fastest: LinkSpeed,
}

const fn version(
    code: u16,
    name: &'static str,
    linux: &'static str,
    generation: Generation,
    product: u16,
    device_version: u16,
    fastest: LinkSpeed,
) -> Version {
    Version { code, name, linux, generation, product, device_version, fastest }
}

/// Realtek's vendor id.
pub const REALTEK: u16 = 0x0bda;

/// Every version that Linux drives with this register interface.
pub const VERSIONS: [Version; 15] = {
    use Generation::*;
    use LinkSpeed::*;
    [
        version(0x4c00, "8152", "VER_01", R8152, 0x8152, 0x2000, M100),
        version(0x4c10, "8152b", "VER_02", R8152, 0x8152, 0x2000, M100),
        version(0x4800, "8152-4800", "VER_07", R8152, 0x8152, 0x2000, M100),
        version(0x5c00, "8153-5c00", "VER_03", R8153, 0x8153, 0x3000, M1000),
        version(0x5c10, "8153", "VER_04", R8153, 0x8153, 0x3000, M1000),
        version(0x5c20, "8153a-5c20", "VER_05", R8153, 0x8153, 0x3000, M1000),
        version(0x5c30, "8153a", "VER_06", R8153, 0x8153, 0x3000, M1000),
        version(0x6000, "8153b-6000", "VER_08", R8153B, 0x8153, 0x3100, M1000),
        version(0x6010, "8153b", "VER_09", R8153B, 0x8153, 0x3100, M1000),
        version(0x6400, "8153c", "VER_14", R8153C, 0x8153, 0x3100, M1000),
        version(0x7420, "8153d", "VER_15", R8156B, 0x8153, 0x3104, M1000),
        version(0x7020, "8156", "VER_10", R8156, 0x8156, 0x3000, M2500),
        version(0x7030, "8156a", "VER_11", R8156, 0x8156, 0x3000, M2500),
        version(0x7400, "8156b-7400", "VER_12", R8156B, 0x8156, 0x3104, M2500),
        version(0x7410, "8156b", "VER_13", R8156B, 0x8156, 0x3104, M2500),
    ]
};

impl Version {
    /// The version with this name (`8153a`, `rtl8153a`) or hexadecimal code (`5c30`).
    pub fn find(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let name = name.strip_prefix("rtl").unwrap_or(&name);
        let code = u16::from_str_radix(name, 16).ok();
        let by_name = VERSIONS.iter().find(|v| v.name == name);
        by_name.or_else(|| VERSIONS.iter().find(|v| Some(v.code) == code)).copied()
    }

    /// The fastest bus speed of the chip.
    pub fn fastest_bus(&self) -> Speed {
        if self.generation == Generation::R8152 { Speed::High } else { Speed::Super }
    }

    /// Largest frame the chip takes from the wire, frame check sequence included, whatever its registers say.
    pub fn largest_frame(&self) -> usize {
        match self.generation {
            Generation::R8152 => 1522,
            Generation::R8153 | Generation::R8153B | Generation::R8153C => 9 << 10,
            Generation::R8156 => 15 << 10,
            Generation::R8156B => 16 << 10,
        }
    }

    /// Whether it has the registers of the RTL8153B and later: latched aggregation settings among them.
    pub fn latches_aggregation(&self) -> bool {
        self.generation >= Generation::R8153B
    }

    /// The unit of the aggregation size register in bytes; none on the RTL8152.
    pub fn aggregation_unit(&self) -> Option<usize> {
        match self.generation {
            Generation::R8152 => None,
            Generation::R8153 => Some(4),
            _ => Some(8),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RTL{} ({:04x})", self.name, self.code)
    }
}
