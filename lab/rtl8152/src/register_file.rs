//! Two spaces of 64 KiB with byte enables, and nothing else (fact sheet 2.1, 2.2, 2.5).

/// Which of the two address spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// MAC and PHY side.
    Pla,
    /// Bus side.
    Usb,
}

impl Space {
    /// The space that `wIndex` selects.
    pub fn of_index(index: u16) -> Option<Self> {
        match index & 0xff00 {
            0x0100 => Some(Self::Pla),
            0x0000 => Some(Self::Usb),
            _ => None,
        }
    }

    /// As in the golden logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pla => "PLA",
            Self::Usb => "USB",
        }
    }
}

/// The bytes of both spaces.
#[derive(Clone, Debug)]
pub struct RegisterFile {
    pla: Vec<u8>,
    usb: Vec<u8>,
}

/// What a write enables in each of its dwords: bit n stands for byte n. `enables` is the low byte of `wIndex`.
pub fn enabled_lanes(enables: u8, dwords: usize) -> impl Iterator<Item = u8> {
    (0..dwords).map(move |i| {
        if i == 0 {
            enables & 0xf
        } else if i == dwords - 1 {
            enables >> 4
        } else {
            0xf
        }
    })
}

/// `old` with the bytes of `new` whose bits are set in `lanes`.
pub fn merge(old: u32, new: u32, lanes: u8) -> u32 {
    let mut mask = 0;
    for lane in 0..4 {
        if lanes & 1 << lane != 0 {
            mask |= 0xff << (8 * lane);
        }
    }
    old & !mask | new & mask
}

impl RegisterFile {
    /// All zero.
    pub fn new() -> Self {
        Self { pla: vec![0; 1 << 16], usb: vec![0; 1 << 16] }
    }

    fn space(&self, space: Space) -> &[u8] {
        match space {
            Space::Pla => &self.pla,
            Space::Usb => &self.usb,
        }
    }

    /// One byte.
    pub fn byte(&self, space: Space, address: u16) -> u8 {
        self.space(space)[usize::from(address)]
    }

    /// The word at an even address.
    pub fn word(&self, space: Space, address: u16) -> u16 {
        u16::from_le_bytes([self.byte(space, address), self.byte(space, address | 1)])
    }

    /// The dword that contains `address`.
    pub fn dword(&self, space: Space, address: u16) -> u32 {
        let at = usize::from(address & !3);
        let bytes = &self.space(space)[at..at + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    /// Sets consecutive bytes; addresses wrap at the end of the space.
    pub fn set(&mut self, space: Space, address: u16, bytes: &[u8]) {
        let memory = match space {
            Space::Pla => &mut self.pla,
            Space::Usb => &mut self.usb,
        };
        for (i, byte) in bytes.iter().enumerate() {
            memory[usize::from(address.wrapping_add(i as u16))] = *byte;
        }
    }
}

impl Default for RegisterFile {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_dword_takes_the_low_nibble_and_bursts_take_both_ends() {
        assert_eq!(enabled_lanes(0x33, 1).collect::<Vec<_>>(), [3]);
        assert_eq!(enabled_lanes(0x3f, 2).collect::<Vec<_>>(), [0xf, 0x3]);
        assert_eq!(enabled_lanes(0x18, 4).collect::<Vec<_>>(), [8, 0xf, 0xf, 1]);
    }

    #[test]
    fn bytes_that_are_not_enabled_keep_their_value() {
        assert_eq!(merge(0x1122_3344, 0xaabb_ccdd, 0b0101), 0x11bb_33dd);
    }
}
