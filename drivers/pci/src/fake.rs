//! Configuration space played by a table, for tests: each register with the bits that can be written.

use core::cell::RefCell;
use std::collections::BTreeMap;

use crate::{ConfigurationSpace, PciAddress};

/// The address of a function on segment 0.
pub fn at(bus: u8, device: u8, function: u8) -> PciAddress {
    PciAddress::new(0, bus, device, function)
}

/// A function: registers, and masks of the bits that writes reach.
#[derive(Clone, Debug)]
pub struct FakeFunction {
    pub registers: [u32; 64],
    pub masks: [u32; 64],
}

impl FakeFunction {
    pub fn device(vendor: u16, device: u16) -> Self {
        let mut function = Self { registers: [0; 64], masks: [0; 64] };
        function.registers[0] = u32::from(device) << 16 | u32::from(vendor);
        // The command register; the status stays as it is, since zeroes are written to it.
        function.masks[1] = 0xffff;
        function.masks[15] = 0xff;
        function
    }

    /// A bridge between buses, not yet configured.
    pub fn bridge() -> Self {
        let mut bridge = Self::device(0x1b36, 0x000c).with(0x0c, 0x0001_0000).with(0x08, 0x0604_0000);
        bridge.masks[6] = 0x00ff_ffff;
        bridge.masks[7] = 0xf0f0;
        bridge.masks[8] = 0xfff0_fff0;
        bridge.masks[9] = 0xfff0_fff0;
        bridge
    }

    pub fn with(mut self, offset: u16, value: u32) -> Self {
        self.registers[usize::from(offset / 4)] = value;
        self
    }

    /// A base address register: the bits that the device fixes, and the size (of both halves for a 64-bit one).
    pub fn with_bar(mut self, index: usize, flags: u32, size: u64) -> Self {
        self.registers[4 + index] = flags;
        let mask = !(size - 1);
        self.masks[4 + index] = mask as u32 & !if flags & 1 == 1 { 3 } else { 15 };
        if flags & 0b111 == 0b100 {
            self.masks[5 + index] = (mask >> 32) as u32;
        }
        self
    }
}

/// Functions of a bus that has no number yet, by device and function number.
type Behind = Vec<((u8, u8), FakeFunction)>;

/// A machine's configuration space. Buses behind bridges answer only when the bridges say so.
pub struct Fake {
    functions: RefCell<BTreeMap<PciAddress, FakeFunction>>,
    behind: RefCell<BTreeMap<PciAddress, Behind>>,
}

impl Fake {
    pub fn new(functions: impl IntoIterator<Item = (PciAddress, FakeFunction)>) -> Self {
        Self { functions: RefCell::new(functions.into_iter().collect()), behind: RefCell::default() }
    }

    /// Puts functions behind a bridge: they appear on whatever bus number it is given.
    pub fn behind(self, bridge: PciAddress, functions: Behind) -> Self {
        self.behind.borrow_mut().insert(bridge, functions);
        self
    }

    pub fn get(&self, address: PciAddress, offset: u16) -> u32 {
        self.functions.borrow()[&address].registers[usize::from(offset / 4)]
    }
}

impl ConfigurationSpace for Fake {
    fn read(&self, address: PciAddress, offset: u16) -> u32 {
        assert_eq!(offset % 4, 0);
        self.functions
            .borrow()
            .get(&address)
            .and_then(|function| function.registers.get(usize::from(offset / 4)).copied())
            .unwrap_or(u32::MAX)
    }

    fn write(&self, address: PciAddress, offset: u16, value: u32) {
        assert_eq!(offset % 4, 0);
        let mut functions = self.functions.borrow_mut();
        let Some(function) = functions.get_mut(&address) else { return };
        let index = usize::from(offset / 4);
        let (Some(register), Some(mask)) = (function.registers.get_mut(index), function.masks.get(index))
        else {
            return;
        };
        *register = *register & !mask | value & mask;
        if index == 6
            && let Some(behind) = self.behind.borrow_mut().remove(&address)
        {
            let bus = (value >> 8) as u8;
            for ((device, number), function) in behind {
                functions.insert(at(bus, device, number), function);
            }
        }
    }
}
