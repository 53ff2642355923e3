//! Message-signalled interrupts (PCI 3.0, 6.8): a device raises an interrupt by writing to memory.

use core::fmt;

use hal::mmio::Mmio;

use crate::{ConfigurationSpace, PciAddress, capability, read_u16, update};

/// What a device writes where, to raise an interrupt. The surroundings make it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The address, a multiple of four.
    pub address: u64,
    /// The data; MSI uses the lower half.
    pub data: u32,
}

/// What is wrong with a device's claims about its interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// The device can only write to the lower 4 GiB.
    AddressTooWide {
        /// The address it was to write to.
        address: u64,
    },
    /// The table has no such entry.
    NoEntry {
        /// The entry asked for.
        entry: u16,
        /// Entries that fit the table's window.
        entries: u16,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressTooWide { address } => {
                write!(formatter, "the device cannot address {address:#x} for its interrupt")
            }
            Self::NoEntry { entry, entries } => {
                write!(formatter, "interrupt {entry} asked for, the device has {entries}")
            }
        }
    }
}

impl core::error::Error for MessageError {}

const MSI_ENABLE: u32 = 1 << 16;
const MSI_MULTIPLE_ENABLE: u32 = 0b111 << 20;
const MSI_64_BIT: u16 = 1 << 7;

/// The plain form: one message (of the up to 32 that a device may ask for, this uses one).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    function: PciAddress,
    offset: u16,
    wide: bool,
}

impl Msi {
    /// The capability of a function, if it has one.
    pub fn find(space: &impl ConfigurationSpace, function: PciAddress) -> Option<Self> {
        let offset = capability::find(space, function, capability::MSI)?.offset;
        let wide = read_u16(space, function, offset + 2) & MSI_64_BIT != 0;
        // The last registers of a capability at the very end would lie outside the space.
        (offset <= 0xf0).then_some(Self { function, offset, wide })
    }

    /// Sets the message and switches the capability on.
    ///
    /// # Errors
    ///
    /// [`MessageError::AddressTooWide`].
    pub fn enable(&self, space: &impl ConfigurationSpace, message: Message) -> Result<(), MessageError> {
        let high = (message.address >> 32) as u32;
        if high != 0 && !self.wide {
            return Err(MessageError::AddressTooWide { address: message.address });
        }
        space.write(self.function, self.offset + 4, message.address as u32);
        let data_offset = if self.wide {
            space.write(self.function, self.offset + 8, high);
            self.offset + 12
        } else {
            self.offset + 8
        };
        update(space, self.function, data_offset, 0xffff, message.data);
        update(space, self.function, self.offset, MSI_ENABLE | MSI_MULTIPLE_ENABLE, MSI_ENABLE);
        Ok(())
    }

    /// Switches the capability off.
    pub fn disable(&self, space: &impl ConfigurationSpace) {
        update(space, self.function, self.offset, MSI_ENABLE, 0);
    }
}

const MSI_X_ENABLE: u32 = 1 << 31;
const MSI_X_MASK_ALL: u32 = 1 << 30;
const MSI_X_SIZE: u16 = 0x7ff;
const PLACE_REGISTER: u32 = 0b111;

/// Bytes of a table entry: address, data, control.
const ENTRY_SIZE: usize = 16;
const ENTRY_HIGH: usize = 4;
const ENTRY_DATA: usize = 8;
const ENTRY_CONTROL: usize = 12;
const ENTRY_MASKED: u32 = 1;

/// The form with a table: a message for each of up to 2048 entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiX {
    function: PciAddress,
    offset: u16,
    /// The base address register in whose window the table is.
    pub table_register: u8,
    /// Where the table begins in that window, in bytes.
    pub table_offset: u32,
    /// Entries in the table, as the device claims.
    pub entries: u16,
}

impl MsiX {
    /// The capability of a function, if it has one.
    pub fn find(space: &impl ConfigurationSpace, function: PciAddress) -> Option<Self> {
        let offset = capability::find(space, function, capability::MSI_X)?.offset;
        if offset > 0xf4 {
            return None;
        }
        let table = space.read(function, offset + 4);
        Some(Self {
            function,
            offset,
            table_register: (table & PLACE_REGISTER) as u8,
            table_offset: table & !PLACE_REGISTER,
            entries: (read_u16(space, function, offset + 2) & MSI_X_SIZE) + 1,
        })
    }

    /// Bytes of the table.
    #[must_use]
    pub fn table_length(&self) -> usize {
        usize::from(self.entries) * ENTRY_SIZE
    }

    /// Masks every entry of the table, in its window `table`, and switches the capability on.
    pub fn enable(&self, space: &impl ConfigurationSpace, table: &impl Mmio) {
        // Off as a whole while entries may still hold what somebody else left there.
        update(
            space,
            self.function,
            self.offset,
            MSI_X_ENABLE | MSI_X_MASK_ALL,
            MSI_X_ENABLE | MSI_X_MASK_ALL,
        );
        for entry in 0..self.usable(table) {
            table.write_u32(usize::from(entry) * ENTRY_SIZE + ENTRY_CONTROL, ENTRY_MASKED);
        }
        update(space, self.function, self.offset, MSI_X_MASK_ALL, 0);
    }

    /// Switches the capability off.
    pub fn disable(&self, space: &impl ConfigurationSpace) {
        update(space, self.function, self.offset, MSI_X_ENABLE, 0);
    }

    /// Sets the message of an entry, and unmasks it.
    ///
    /// # Errors
    ///
    /// [`MessageError::NoEntry`].
    pub fn set(&self, table: &impl Mmio, entry: u16, message: Message) -> Result<(), MessageError> {
        let at = self.place(table, entry)?;
        table.write_u32(at + ENTRY_CONTROL, ENTRY_MASKED);
        table.write_u32(at, message.address as u32);
        table.write_u32(at + ENTRY_HIGH, (message.address >> 32) as u32);
        table.write_u32(at + ENTRY_DATA, message.data);
        table.write_u32(at + ENTRY_CONTROL, 0);
        Ok(())
    }

    /// Entries that are in the table and in its window.
    fn usable(&self, table: &impl Mmio) -> u16 {
        self.entries.min(u16::try_from(table.len() / ENTRY_SIZE).unwrap_or(u16::MAX))
    }

    fn place(&self, table: &impl Mmio, entry: u16) -> Result<usize, MessageError> {
        let entries = self.usable(table);
        if entry < entries {
            Ok(usize::from(entry) * ENTRY_SIZE)
        } else {
            Err(MessageError::NoEntry { entry, entries })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, FakeFunction, at};
    use core::cell::RefCell;
    use proptest::prelude::*;

    struct Table(RefCell<Vec<u32>>);

    impl Mmio for Table {
        fn len(&self) -> usize {
            self.0.borrow().len() * 4
        }
        fn read_u8(&self, _: usize) -> u8 {
            unreachable!("the table has 32-bit registers")
        }
        fn read_u16(&self, _: usize) -> u16 {
            unreachable!("the table has 32-bit registers")
        }
        fn read_u32(&self, offset: usize) -> u32 {
            self.0.borrow()[offset / 4]
        }
        fn write_u8(&self, _: usize, _: u8) {
            unreachable!("the table has 32-bit registers")
        }
        fn write_u16(&self, _: usize, _: u16) {
            unreachable!("the table has 32-bit registers")
        }
        fn write_u32(&self, offset: usize, value: u32) {
            self.0.borrow_mut()[offset / 4] = value;
        }
    }

    fn device(capability: u16, head: u32) -> FakeFunction {
        let mut function = FakeFunction::device(1, 2)
            .with(0x04, 0x0010_0000)
            .with(0x34, u32::from(capability))
            .with(capability, head);
        for register in 0..4 {
            function.masks[usize::from(capability / 4) + register] =
                if register == 0 { 0xc07f_0000 } else { u32::MAX };
        }
        function
    }

    #[test]
    fn a_table_entry_is_masked_while_it_is_written() {
        let fake = Fake::new([(at(0, 1, 0), device(0x98, 0x0002_0011).with(0x9c, 0x0000_0804))]);
        let msi_x = MsiX::find(&fake, at(0, 1, 0)).unwrap();
        assert_eq!((msi_x.table_register, msi_x.table_offset, msi_x.entries), (4, 0x800, 3));
        assert_eq!(msi_x.table_length(), 48);
        let table = Table(RefCell::new(vec![0; 12]));
        msi_x.enable(&fake, &table);
        assert_eq!(fake.get(at(0, 1, 0), 0x98) >> 30, 0b10, "on, and not masked as a whole");
        msi_x.set(&table, 1, Message { address: 0x1_fee0_1000, data: 0x31 }).unwrap();
        assert_eq!(*table.0.borrow(), [0, 0, 0, 1, 0xfee0_1000, 1, 0x31, 0, 0, 0, 0, 1]);
        let error = msi_x.set(&table, 3, Message { address: 0, data: 0 }).unwrap_err();
        assert_eq!(error, MessageError::NoEntry { entry: 3, entries: 3 });
        msi_x.disable(&fake);
        assert_eq!(fake.get(at(0, 1, 0), 0x98) >> 31, 0);
    }

    #[test]
    fn a_table_larger_than_its_window_is_cut() {
        let fake = Fake::new([(at(0, 1, 0), device(0x98, 0x07ff_0011))]);
        let msi_x = MsiX::find(&fake, at(0, 1, 0)).unwrap();
        let table = Table(RefCell::new(vec![0; 9]));
        msi_x.enable(&fake, &table);
        let error = msi_x.set(&table, 2, Message { address: 0, data: 0 }).unwrap_err();
        assert_eq!(error, MessageError::NoEntry { entry: 2, entries: 2 });
    }

    #[test]
    fn the_plain_form_has_its_data_behind_the_address_it_can_hold() {
        let message = Message { address: 0xfee0_0000, data: 0x41 };
        for (head, data_offset) in [(0x0000_0005, 0x88), (0x0080_0005, 0x8c)] {
            let fake = Fake::new([(at(0, 1, 0), device(0x80, head))]);
            let msi = Msi::find(&fake, at(0, 1, 0)).unwrap();
            msi.enable(&fake, message).unwrap();
            assert_eq!(fake.get(at(0, 1, 0), 0x84), 0xfee0_0000);
            assert_eq!(fake.get(at(0, 1, 0), data_offset), 0x41);
            assert_eq!(fake.get(at(0, 1, 0), 0x80) & MSI_ENABLE, MSI_ENABLE);
            msi.disable(&fake);
            assert_eq!(fake.get(at(0, 1, 0), 0x80) & MSI_ENABLE, 0);
        }
    }

    #[test]
    fn a_narrow_device_refuses_a_wide_address() {
        let fake = Fake::new([(at(0, 1, 0), device(0x80, 0x0000_0005))]);
        let msi = Msi::find(&fake, at(0, 1, 0)).unwrap();
        let address = 1 << 32;
        assert_eq!(
            msi.enable(&fake, Message { address, data: 0 }),
            Err(MessageError::AddressTooWide { address })
        );
    }

    proptest! {
        #[test]
        fn any_claims_about_interrupts_are_harmless(
            registers in proptest::collection::vec(any::<u32>(), 64), words in 0usize..64, entry: u16,
        ) {
            let mut function = FakeFunction::device(1, 2);
            function.registers[1..].copy_from_slice(&registers[1..]);
            function.masks[1..].fill(u32::MAX);
            let fake = Fake::new([(at(0, 1, 0), function)]);
            let table = Table(RefCell::new(vec![0; words]));
            let message = Message { address: 0xfee0_0000, data: 1 };
            if let Some(msi_x) = MsiX::find(&fake, at(0, 1, 0)) {
                msi_x.enable(&fake, &table);
                prop_assert_eq!(msi_x.set(&table, entry, message).is_ok(), usize::from(entry) < words / 4 && entry < msi_x.entries);
            }
            if let Some(msi) = Msi::find(&fake, at(0, 1, 0)) {
                prop_assert!(msi.enable(&fake, message).is_ok());
            }
        }
    }
}
