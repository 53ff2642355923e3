//! Logs of register accesses compared by what they mean: which register was written what, however it was cut into
//! transfers, and with the PHY's registers behind their window by their own address.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use lab_rtl8152::register_file::{Space, enabled_lanes, merge};
use lab_rtl8152::registers::pla;
use lab_rtl8152::trace::Access;

/// Which register space, with the PHY's apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Where {
    /// MAC side.
    Pla,
    /// Bus side.
    Usb,
    /// The PHY behind its window.
    Phy,
}

/// One dword's worth of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Write {
    /// Register space.
    pub space: Where,
    /// Address of the dword.
    pub address: u16,
    /// Which of its bytes are written, bit 0 the lowest.
    pub lanes: u8,
    /// The value, zero where no byte is written.
    pub value: u32,
}

impl fmt::Display for Write {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = match self.space {
            Where::Pla => "PLA",
            Where::Usb => "USB",
            Where::Phy => "PHY",
        };
        let shift = self.lanes.trailing_zeros() & 3;
        let digits = 2 * self.lanes.count_ones() as usize;
        let (address, value) = (self.address + shift as u16, self.value >> (8 * shift));
        write!(formatter, "{space} {address:04x} := {value:0digits$x}")
    }
}

/// What a log comes to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Every write, once.
    pub writes: BTreeSet<Write>,
    /// Every dword that was read, with its space.
    pub reads: BTreeSet<(Where, u16)>,
}

impl Summary {
    /// Sums up the accesses of a log's text; lines that are none are passed over.
    #[must_use]
    pub fn of(log: &str) -> Self {
        let mut summary = Self::default();
        let mut page = 0;
        for access in log.lines().filter_map(|line| line.parse::<Access>().ok()) {
            summary.add(&access, &mut page);
        }
        summary
    }

    fn add(&mut self, access: &Access, page: &mut u16) {
        let (dwords, _) = access.data.as_chunks::<4>();
        for (i, (dword, lanes)) in dwords.iter().zip(enabled_lanes(access.enables, dwords.len())).enumerate()
        {
            let address = access.address.wrapping_add(4 * i as u16);
            let place = match access.space {
                Space::Usb => (Where::Usb, address),
                Space::Pla if pla::OCP_WINDOW.contains(&address) => (Where::Phy, *page | address & 0x0fff),
                Space::Pla => (Where::Pla, address),
            };
            let value = merge(0, u32::from_le_bytes(*dword), lanes);
            if !access.write {
                self.reads.insert(place);
            } else if place == (Where::Pla, pla::OCP_BASE) {
                *page = value as u16 & 0xf000;
            } else if lanes != 0 {
                let (space, address) = place;
                self.writes.insert(Write { space, address, lanes, value });
            }
        }
    }
}

/// Registers whose programming makes link and data (class E of the fact sheet), as ranges of dword addresses.
const ESSENTIAL: [(Where, RangeInclusive<u16>); 20] = [
    (Where::Pla, 0xc010..=0xc014),
    (Where::Pla, 0xc0a0..=0xc0a8),
    (Where::Pla, 0xc0b4..=0xc0b4),
    (Where::Pla, 0xe614..=0xe618),
    (Where::Pla, 0xe810..=0xe810),
    (Where::Pla, 0xe84c..=0xe84c),
    (Where::Pla, 0xe854..=0xe858),
    (Where::Pla, 0xe8dc..=0xe8dc),
    (Where::Usb, 0xd404..=0xd40c),
    (Where::Usb, 0xd42c..=0xd42c),
    (Where::Usb, 0xd430..=0xd434),
    (Where::Usb, 0xd4b0..=0xd4b4),
    (Where::Phy, 0xa400..=0xa400),
    (Where::Phy, 0xa410..=0xa410),
    (Where::Phy, 0xa5d4..=0xa5d4),
    // Read: version, boot, PHY and link state, factory address.
    (Where::Pla, 0xe610..=0xe610),
    (Where::Pla, 0xe004..=0xe004),
    (Where::Pla, 0xe908..=0xe908),
    (Where::Pla, 0xd000..=0xd000),
    (Where::Phy, 0xa420..=0xa420),
];

/// Registers that are only modified, so that what is written depends on what they held at power-on: zero in the register
/// file that the golden logs were made with, engines on in the model (fact sheet 3.2). Only that they are written counts.
const MODIFIED: [(Where, u16); 1] = [(Where::Usb, 0xd4b0)];

/// Whether a register is one of the essential ones.
#[must_use]
pub fn is_essential(space: Where, address: u16) -> bool {
    ESSENTIAL.iter().any(|(s, range)| *s == space && range.contains(&address))
}

/// How a log stands to a golden one, in the essential registers.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Writes in both.
    pub shared: usize,
    /// Writes of the golden log that did not happen.
    pub missing: Vec<Write>,
    /// Writes that the golden log has not.
    pub additional: Vec<Write>,
    /// Reads of the golden log that did not happen.
    pub unread: Vec<(Where, u16)>,
}

/// Compares the essential accesses of a log with those of a golden log.
#[must_use]
pub fn compare(log: &Summary, golden: &Summary) -> Comparison {
    let essential = |write: &&Write| is_essential(write.space, write.address);
    let comparable = |summary: &Summary| -> BTreeSet<Write> {
        let value = |write: &Write| {
            if MODIFIED.contains(&(write.space, write.address)) { 0 } else { write.value }
        };
        summary.writes.iter().map(|write| Write { value: value(write), ..*write }).collect()
    };
    let (writes, golden_writes) = (comparable(log), comparable(golden));
    let unread = golden.reads.difference(&log.reads).copied();
    Comparison {
        shared: golden_writes.intersection(&writes).filter(essential).count(),
        missing: golden_writes.difference(&writes).filter(essential).copied().collect(),
        additional: writes.difference(&golden_writes).filter(essential).copied().collect(),
        unread: unread.filter(|(space, address)| is_essential(*space, *address)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
### a heading
W  PLA e86c be=33 len=4 : 0000a000
W  PLA b400 be=33 len=4 : 00001200
R  PLA b420 be=33 len=4 -> 00000003   [PHY-OCP a420/a422]
W  PLA cd00 be=ff len=8 : 00 00 00 00 80 00 00 00
W  PLA e810 be=88 len=4 : 0c000000";

    #[test]
    fn phy_registers_go_by_their_own_address() {
        let summary = Summary::of(LOG);
        let texts: Vec<String> = summary.writes.iter().map(Write::to_string).collect();
        assert_eq!(
            texts,
            ["PLA cd00 := 00000000", "PLA cd04 := 00000080", "PLA e813 := 0c", "PHY a400 := 1200"]
        );
        assert!(summary.reads.contains(&(Where::Phy, 0xa420)));
    }

    #[test]
    fn a_missing_and_an_additional_write_are_told_apart() {
        let golden = Summary::of(LOG);
        let other = Summary::of(&LOG.replace("0c000000", "04000000"));
        let comparison = compare(&other, &golden);
        assert_eq!(comparison.missing[0].to_string(), "PLA e813 := 0c");
        assert_eq!(comparison.additional[0].to_string(), "PLA e813 := 04");
        assert_eq!((comparison.shared, comparison.unread.len()), (1, 0));
    }
}
