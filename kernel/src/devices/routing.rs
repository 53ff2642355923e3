//! Interrupt lines of the two chipsets that QEMU plays, for firmware that does not note them in the functions, or notes
//! others than it has wired (QEMU's qboot).
//!
//! A chipset gathers the pins of all devices on eight (Q35: ICH9, "LPC interface" 13.1 in its data sheet) or four (PIIX3,
//! 2.2.13 in its data sheet) lines, PIRQA and up, and a register for each says which ISA interrupt it raises.

/// A chipset with routing registers, in the configuration space of its ISA bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chipset {
    /// PIIX3, on QEMU's `pc`.
    Piix3,
    /// ICH9, on QEMU's `q35`.
    Ich9,
}

/// What a routing register says when its line goes nowhere.
const DISABLED: u8 = 0x80;

impl Chipset {
    /// The chipset that an ISA bridge with these ids belongs to.
    #[must_use]
    pub const fn of_bridge(vendor: u16, device: u16) -> Option<Self> {
        match (vendor, device) {
            (0x8086, 0x7000) => Some(Self::Piix3),
            (0x8086, 0x2918) => Some(Self::Ich9),
            _ => None,
        }
    }

    /// The offset of the routing register of the line that a pin (1 to 4) of a device on the first bus is wired to.
    ///
    /// `None` for devices that are wired by registers elsewhere (those inside ICH9, 25 to 31).
    #[must_use]
    pub fn register(self, device: u8, pin: u8) -> Option<u16> {
        let pin = pin.checked_sub(1).filter(|pin| *pin < 4)?;
        match self {
            // The slots turn the pins so that each slot's INTA has a line of its own.
            Self::Piix3 => Some(0x60 + u16::from(device.wrapping_sub(1).wrapping_add(pin) & 3)),
            // Slots are on PIRQE to PIRQH.
            Self::Ich9 if device < 25 => Some(0x68 + u16::from((device + pin) & 3)),
            Self::Ich9 => None,
        }
    }

    /// The ISA interrupt that a routing register names.
    #[must_use]
    pub const fn interrupt(register: u8) -> Option<u8> {
        let interrupt = register & 0xf;
        // Below 3 are timer, keyboard and the second controller.
        if register & DISABLED != 0 || interrupt < 3 { None } else { Some(interrupt) }
    }

    /// The ISA interrupt to use for a line that goes nowhere: one that no ISA device has.
    #[must_use]
    pub const fn spare(register: u16) -> u8 {
        if register & 1 == 0 { 10 } else { 11 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_reach_the_lines_that_the_boards_wire_them_to() {
        // On `pc`, device 3 INTA is PIRQC; on `q35`, device 1 INTA is PIRQF.
        assert_eq!(Chipset::Piix3.register(3, 1), Some(0x62));
        assert_eq!(Chipset::Piix3.register(1, 4), Some(0x63));
        assert_eq!(Chipset::Ich9.register(1, 1), Some(0x69));
        assert_eq!(Chipset::Ich9.register(0, 4), Some(0x6b));
        assert_eq!(Chipset::Ich9.register(31, 1), None);
        assert_eq!((Chipset::Piix3.register(3, 0), Chipset::Piix3.register(3, 5)), (None, None));
    }

    #[test]
    fn a_disabled_or_reserved_route_is_none() {
        assert_eq!(Chipset::interrupt(0x0b), Some(11));
        assert_eq!(Chipset::interrupt(0x80), None);
        assert_eq!(Chipset::interrupt(0x8b), None);
        assert_eq!(Chipset::interrupt(0x00), None);
    }
}
