//! The interrupt controllers of the machine, from the ACPI multiple APIC description table (ACPI 6.5, 5.2.12).

use alloc::vec::Vec;

/// Offset of the first entry, behind the table's header, the local APIC's address and the flags.
const ENTRIES: usize = 44;
const LOCAL_APIC_ADDRESS: usize = 36;
const FLAGS: usize = 40;

const IO_APIC: u8 = 1;
const SOURCE_OVERRIDE: u8 = 2;
const LOCAL_APIC_ADDRESS_OVERRIDE: u8 = 5;

/// When a line asks for an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Level-triggered, not edge-triggered.
    pub level: bool,
    /// Active low, not active high.
    pub active_low: bool,
}

impl Signal {
    /// As ISA lines are.
    pub const ISA: Self = Self { level: false, active_low: false };
    /// As PCI lines are.
    pub const PCI: Self = Self { level: true, active_low: true };
}

/// An I/O APIC: its registers, and the first of the global interrupts that end there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    /// Physical address of the registers.
    pub address: u32,
    /// Number of its first input.
    pub first_interrupt: u32,
}

/// An ISA interrupt that is not the global interrupt of the same number, or not edge-triggered and active high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Override {
    isa: u8,
    global: u32,
    flags: u16,
}

/// The interrupt controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterruptMap {
    /// Physical address of the local APICs' registers; 0 when the table does not tell.
    pub local_apic: u64,
    /// The I/O APICs.
    pub io_apics: Vec<IoApic>,
    /// There is also a pair of 8259 controllers, to be silenced.
    pub has_8259: bool,
    overrides: Vec<Override>,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

impl InterruptMap {
    /// A machine that does not describe its controllers: there may be a pair of 8259s.
    #[must_use]
    pub fn undescribed() -> Self {
        Self { has_8259: true, ..Self::default() }
    }

    /// Reads the table, from its signature on. What is cut off or malformed is left out.
    #[must_use]
    pub fn parse(table: &[u8]) -> Self {
        let mut map = Self {
            local_apic: u64::from(u32_at(table, LOCAL_APIC_ADDRESS).unwrap_or(0)),
            has_8259: u32_at(table, FLAGS).is_some_and(|flags| flags & 1 != 0),
            ..Self::default()
        };
        let mut rest = table.get(ENTRIES..).unwrap_or_default();
        while let [kind, length, ..] = *rest {
            let length = usize::from(length);
            if length < 2 || length > rest.len() {
                break;
            }
            let (entry, others) = rest.split_at(length);
            rest = others;
            // An entry that is too short for its kind gives `None` and is left out.
            let _ = map.add(kind, entry);
        }
        map
    }

    fn add(&mut self, kind: u8, entry: &[u8]) -> Option<()> {
        match kind {
            IO_APIC => {
                let (address, first_interrupt) = (u32_at(entry, 4)?, u32_at(entry, 8)?);
                self.io_apics.push(IoApic { address, first_interrupt });
            }
            SOURCE_OVERRIDE => {
                let (isa, global) = (*entry.get(3)?, u32_at(entry, 4)?);
                let flags = u16::from_le_bytes(entry.get(8..10)?.try_into().ok()?);
                self.overrides.push(Override { isa, global, flags });
            }
            LOCAL_APIC_ADDRESS_OVERRIDE => {
                self.local_apic = u64::from_le_bytes(entry.get(4..12)?.try_into().ok()?);
            }
            _ => {}
        }
        Some(())
    }

    /// The global interrupt that an ISA interrupt arrives at, and how; `bus` is what "as the bus has it" means: ISA for
    /// ISA devices, PCI for a PCI device whose interrupt-line register names an ISA interrupt.
    #[must_use]
    pub fn resolve(&self, isa: u8, bus: Signal) -> (u32, Signal) {
        match self.overrides.iter().find(|entry| entry.isa == isa) {
            None => (u32::from(isa), bus),
            Some(entry) => {
                let active_low = match entry.flags & 0b11 {
                    0b01 => false,
                    0b11 => true,
                    _ => bus.active_low,
                };
                let level = match entry.flags >> 2 & 0b11 {
                    0b01 => false,
                    0b11 => true,
                    _ => bus.level,
                };
                (entry.global, Signal { level, active_low })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As QEMU's pc machine describes itself.
    fn table() -> Vec<u8> {
        let mut table = vec![0; ENTRIES];
        table[LOCAL_APIC_ADDRESS..][..4].copy_from_slice(&0xfee0_0000u32.to_le_bytes());
        table[FLAGS] = 1;
        table.extend([0, 8, 0, 0, 1, 0, 0, 0]);
        table.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
        table.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
        for isa in [5, 9, 10, 11] {
            table.extend([2, 10, 0, isa, isa, 0, 0, 0, 0x0d, 0]);
        }
        table.extend([4, 6, 0xff, 0, 0, 1]);
        table
    }

    #[test]
    fn controllers_and_overrides_of_a_pc_are_found() {
        let map = InterruptMap::parse(&table());
        assert_eq!(map.local_apic, 0xfee0_0000);
        assert!(map.has_8259);
        assert_eq!(map.io_apics, [IoApic { address: 0xfec0_0000, first_interrupt: 0 }]);
        assert_eq!(map.resolve(0, Signal::ISA), (2, Signal::ISA));
        assert_eq!(map.resolve(11, Signal::PCI), (11, Signal { level: true, active_low: false }));
        assert_eq!(map.resolve(4, Signal::ISA), (4, Signal::ISA));
        assert_eq!(map.resolve(3, Signal::PCI), (3, Signal::PCI));
    }

    #[test]
    fn an_entry_of_length_zero_ends_the_table() {
        let mut bytes = table();
        bytes.extend([1, 0]);
        bytes.extend([1, 12, 0, 0, 0, 0, 0xc1, 0xfe, 0, 0, 0, 0]);
        assert_eq!(InterruptMap::parse(&bytes).io_apics.len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes: Vec<u8>, cut in 0usize..120) {
            prop_assert!(InterruptMap::parse(&bytes).io_apics.len() <= bytes.len() / 12);
            let whole = table();
            let cut = InterruptMap::parse(&whole[..cut.min(whole.len())]);
            prop_assert!(cut.overrides.len() <= 5);
        }
    }
}
