//! The adapters that this driver claims (fact sheet rtl8152.md, section 1.1).

/// Vendor and product ids of the adapters.
#[rustfmt::skip]
const ADAPTERS: &[(u16, &[u16])] = &[
    // Realtek
    (0x0bda, &[0x8050, 0x8053, 0x8152, 0x8153, 0x8155, 0x8156]),
    // Microsoft Surface adapters and dock
    (0x045e, &[0x07ab, 0x07c6, 0x0927, 0x0c5e]),
    // Samsung
    (0x04e8, &[0xa101]),
    // Lenovo
    (0x17ef, &[
        0x304f, 0x3052, 0x3054, 0x3057, 0x3062, 0x3069, 0x3082, 0x3098, 0x7205, 0x720a, 0x720b, 0x720c, 0x7214,
        0x721e, 0x8153, 0xa359, 0xa387,
    ]),
    // Linksys USB3GIG
    (0x13b1, &[0x0041]),
    // Nvidia Tegra boards
    (0x0955, &[0x09ff]),
    // TP-Link UE300
    (0x2357, &[0x0601]),
    // D-Link DUB-E250
    (0x2001, &[0xb301]),
    // Dell
    (0x413c, &[0xb097]),
    // ASUS
    (0x0b05, &[0x1976, 0x1d91]),
    // TRENDnet TUC-ET2G
    (0x20f4, &[0xe02b]),
    (0x2baf, &[0x0012]),
];

/// The virtual CD-ROM as which an adapter shows up that waits to be switched.
const CD_ROM: (u16, u16) = (0x0bda, 0x8151);

/// What a pair of ids is to this driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// An Ethernet adapter: [`Rtl8152::start`](crate::Rtl8152::start).
    Adapter,
    /// An adapter that shows itself as a virtual CD-ROM: [`switch_mode`](crate::switch_mode), after which it
    /// disconnects and comes back as an adapter.
    ModeSwitch,
}

/// Looks the ids of a device descriptor up.
#[must_use]
pub fn matches(vendor: u16, product: u16) -> Option<Match> {
    if (vendor, product) == CD_ROM {
        return Some(Match::ModeSwitch);
    }
    ADAPTERS
        .iter()
        .any(|&(of, products)| of == vendor && products.contains(&product))
        .then_some(Match::Adapter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_and_the_virtual_cd_rom_are_told_apart() {
        assert_eq!(matches(0x0bda, 0x8153), Some(Match::Adapter));
        assert_eq!(matches(0x17ef, 0xa387), Some(Match::Adapter));
        assert_eq!(matches(0x0bda, 0x8151), Some(Match::ModeSwitch));
        assert_eq!(matches(0x0bda, 0x8157), None, "another descriptor format");
        assert_eq!(matches(0x045e, 0x8153), None, "a product id of another vendor");
    }
}
