//! Base address registers (PCI 3.0, 6.2.5.1): where a function's registers are, and how large each window is.

use crate::function::{Command, command, set_command};
use crate::{ConfigurationSpace, PciAddress};

const FIRST: u16 = 0x10;
/// Base address registers of a device; a bridge has two.
pub const DEVICE_REGISTERS: u8 = 6;
/// Base address registers of a bridge.
pub const BRIDGE_REGISTERS: u8 = 2;

const PORTS: u32 = 1;
const TYPE_MASK: u32 = 0b110;
const TYPE_64_BIT: u32 = 0b100;
const PREFETCHABLE: u32 = 1 << 3;
const MEMORY_MASK: u32 = 0xffff_fff0;
const PORTS_MASK: u32 = 0xffff_fffc;

/// What a window's addresses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory addresses.
    Memory {
        /// May lie above 4 GiB.
        wide: bool,
        /// Reads have no side effects.
        prefetchable: bool,
    },
    /// I/O ports.
    Ports,
}

impl Kind {
    const fn is_wide(self) -> bool {
        matches!(self, Self::Memory { wide: true, .. })
    }
}

/// A window of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseAddress {
    /// The number of its register, from 0.
    pub index: u8,
    /// What its addresses are.
    pub kind: Kind,
    /// The first; 0 when it has no place yet.
    pub address: u64,
    /// Bytes: a power of two.
    pub size: u64,
}

/// The windows of a function, by the number of their registers.
pub type Windows = [Option<BaseAddress>; DEVICE_REGISTERS as usize];

/// Reads the windows of a function that has so many registers. While a size is being asked for, the function does not
/// answer at its addresses: nobody may use it at that time.
pub fn read(space: &impl ConfigurationSpace, address: PciAddress, registers: u8) -> Windows {
    let old = command(space, address);
    set_command(space, address, (Command::PORTS | Command::MEMORY).clear_in(old));
    let mut windows = Windows::default();
    let mut index = 0;
    while let Some(window) =
        windows[..usize::from(registers.min(DEVICE_REGISTERS))].get_mut(usize::from(index))
    {
        *window = read_one(space, address, index, registers);
        // The second half of a 64-bit register is not one itself.
        let wide = space.read(address, offset(index)) & (PORTS | TYPE_MASK) == TYPE_64_BIT;
        index += if wide { 2 } else { 1 };
    }
    set_command(space, address, old);
    windows
}

/// Gives a window a place: `window.address` is written to its register.
pub fn write(space: &impl ConfigurationSpace, address: PciAddress, window: &BaseAddress) {
    let at = offset(window.index);
    space.write(address, at, window.address as u32);
    if window.kind.is_wide() {
        space.write(address, at + 4, (window.address >> 32) as u32);
    }
}

const fn offset(index: u8) -> u16 {
    FIRST + 4 * index as u16
}

/// What can be written to a register, which is put back as it was.
fn probe(space: &impl ConfigurationSpace, address: PciAddress, offset: u16) -> (u32, u32) {
    let old = space.read(address, offset);
    space.write(address, offset, u32::MAX);
    let writable = space.read(address, offset);
    space.write(address, offset, old);
    (old, writable)
}

fn read_one(
    space: &impl ConfigurationSpace,
    address: PciAddress,
    index: u8,
    registers: u8,
) -> Option<BaseAddress> {
    const UPPER_HALF: u64 = 0xffff_ffff_0000_0000;
    let (old, writable) = probe(space, address, offset(index));
    let (kind, base, mask) = if old & PORTS != 0 {
        let mask = writable & PORTS_MASK;
        // A device may leave the upper half of a port address fixed at zero.
        let mask = if mask >> 16 == 0 && mask != 0 { mask | 0xffff_0000 } else { mask };
        (Kind::Ports, u64::from(old & PORTS_MASK), u64::from(mask))
    } else {
        let prefetchable = old & PREFETCHABLE != 0;
        let (base, mask) = (u64::from(old & MEMORY_MASK), u64::from(writable & MEMORY_MASK));
        if old & TYPE_MASK != TYPE_64_BIT {
            (Kind::Memory { wide: false, prefetchable }, base, mask)
        } else if index + 1 < registers {
            let (high, high_writable) = probe(space, address, offset(index + 1));
            let kind = Kind::Memory { wide: true, prefetchable };
            (kind, base | u64::from(high) << 32, mask | u64::from(high_writable) << 32)
        } else {
            return None;
        }
    };
    if mask == 0 {
        // Nothing to write: no window here.
        return None;
    }
    let mask = if kind.is_wide() { mask } else { mask | UPPER_HALF };
    // Writable bits must be the upper ones, without a gap, and the address must fit them.
    let size = (!mask).checked_add(1)?;
    (size.is_power_of_two() && base & (size - 1) == 0).then_some(BaseAddress {
        index,
        kind,
        address: base,
        size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, FakeFunction, at};
    use proptest::prelude::*;

    fn windows(function: FakeFunction) -> Windows {
        let fake = Fake::new([(at(0, 1, 0), function)]);
        let before: Vec<u32> = (0..16).map(|index| fake.get(at(0, 1, 0), index * 4)).collect();
        let windows = read(&fake, at(0, 1, 0), DEVICE_REGISTERS);
        let after: Vec<u32> = (0..16).map(|index| fake.get(at(0, 1, 0), index * 4)).collect();
        assert_eq!(before, after, "reading left something changed");
        windows
    }

    #[test]
    fn windows_of_each_kind_are_sized() {
        let mut function = FakeFunction::device(1, 2)
            .with(0x04, 7)
            .with_bar(0, 0x01, 0x20)
            .with_bar(1, 0x00, 0x1000)
            .with_bar(4, 0x0c, 1 << 33);
        function.registers[4] |= 0xc040;
        function.registers[5] |= 0xfebd_1000;
        function.registers[9] = 0x70;
        let found = windows(function);
        assert_eq!(found[0], Some(BaseAddress { index: 0, kind: Kind::Ports, address: 0xc040, size: 0x20 }));
        let kind = Kind::Memory { wide: false, prefetchable: false };
        assert_eq!(found[1], Some(BaseAddress { index: 1, kind, address: 0xfebd_1000, size: 0x1000 }));
        let kind = Kind::Memory { wide: true, prefetchable: true };
        assert_eq!(found[4], Some(BaseAddress { index: 4, kind, address: 0x70_0000_0000, size: 1 << 33 }));
        assert_eq!((found[2], found[3], found[5]), (None, None, None));
    }

    #[test]
    fn a_wide_window_without_an_upper_half_is_none() {
        let found = windows(FakeFunction::device(1, 2).with_bar(5, 0x00, 0x1000).with(0x24, 0x04));
        assert_eq!(found[5], None);
    }

    #[test]
    fn port_windows_with_a_fixed_upper_half_are_sized() {
        let mut function = FakeFunction::device(1, 2).with_bar(2, 0x01, 0x40);
        function.masks[6] &= 0xffff;
        assert_eq!(windows(function)[2].map(|window| window.size), Some(0x40));
    }

    proptest! {
        /// Whatever the registers hold and whichever bits are writable.
        #[test]
        fn windows_are_aligned_powers_of_two(registers: [u32; 6], masks: [u32; 6]) {
            let mut function = FakeFunction::device(1, 2);
            function.registers[4..10].copy_from_slice(&registers);
            function.masks[4..10].copy_from_slice(&masks);
            for window in windows(function).into_iter().flatten() {
                prop_assert!(window.size.is_power_of_two());
                prop_assert_eq!(window.address % window.size, 0);
                prop_assert!(window.address.checked_add(window.size - 1).is_some());
            }
        }
    }
}
