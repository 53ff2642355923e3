//! The capability list of a function (PCI 3.0, 6.7).

use crate::{ConfigurationSpace, PciAddress, read_u8};

/// Power management.
pub const POWER_MANAGEMENT: u8 = 0x01;
/// Message-signalled interrupts.
pub const MSI: u8 = 0x05;
/// What the vendor makes of it.
pub const VENDOR_SPECIFIC: u8 = 0x09;
/// PCI Express.
pub const EXPRESS: u8 = 0x10;
/// Message-signalled interrupts with a table.
pub const MSI_X: u8 = 0x11;

const COMMAND_AND_STATUS: u16 = 0x04;
const STATUS_CAPABILITIES: u32 = 1 << 20;
const POINTER: u16 = 0x34;
/// Capabilities lie behind the header.
const FIRST_OFFSET: u8 = 0x40;
/// So many fit; a list that is longer runs in a circle.
const LIMIT: u8 = 48;

/// An entry of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// What it is.
    pub id: u8,
    /// Where it is: a multiple of four, from 0x40 to 0xfc.
    pub offset: u16,
}

/// Goes through the list.
#[derive(Debug)]
pub struct Capabilities<'s, S> {
    space: &'s S,
    address: PciAddress,
    next: u8,
    left: u8,
}

/// The capabilities of a function, in the order of the list.
pub fn list<S: ConfigurationSpace>(space: &S, address: PciAddress) -> Capabilities<'_, S> {
    let present = space.read(address, COMMAND_AND_STATUS) & STATUS_CAPABILITIES != 0;
    let next = if present { read_u8(space, address, POINTER) } else { 0 };
    Capabilities { space, address, next, left: LIMIT }
}

/// The first capability of this kind.
pub fn find(space: &impl ConfigurationSpace, address: PciAddress, id: u8) -> Option<Capability> {
    list(space, address).find(|capability| capability.id == id)
}

impl<S: ConfigurationSpace> Iterator for Capabilities<'_, S> {
    type Item = Capability;

    fn next(&mut self) -> Option<Capability> {
        let offset = self.next & !3;
        if offset < FIRST_OFFSET || self.left == 0 {
            return None;
        }
        self.left -= 1;
        let [id, next, ..] = self.space.read(self.address, u16::from(offset)).to_le_bytes();
        self.next = next;
        Some(Capability { id, offset: u16::from(offset) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, FakeFunction, at};
    use proptest::prelude::*;

    fn device() -> FakeFunction {
        FakeFunction::device(1, 2).with(0x04, 0x0010_0000).with(0x34, 0x98)
    }

    #[test]
    fn the_list_is_followed_in_its_order() {
        let fake = Fake::new([(at(0, 1, 0), device().with(0x98, 0x0000_8411).with(0x84, 0x0000_0005))]);
        let found: Vec<_> = list(&fake, at(0, 1, 0)).collect();
        assert_eq!(found, [Capability { id: MSI_X, offset: 0x98 }, Capability { id: MSI, offset: 0x84 }]);
        assert_eq!(find(&fake, at(0, 1, 0), VENDOR_SPECIFIC), None);
    }

    #[test]
    fn a_list_in_a_circle_ends() {
        let fake = Fake::new([(at(0, 1, 0), device().with(0x98, 0x0000_9809))]);
        assert_eq!(list(&fake, at(0, 1, 0)).count(), usize::from(LIMIT));
    }

    #[test]
    fn without_the_status_bit_there_is_no_list() {
        let fake = Fake::new([(at(0, 1, 0), device().with(0x04, 0).with(0x98, 0x0000_0011))]);
        assert_eq!(list(&fake, at(0, 1, 0)).count(), 0);
    }

    proptest! {
        #[test]
        fn any_list_stays_in_the_space_and_ends(registers in proptest::collection::vec(any::<u32>(), 64)) {
            let mut function = device();
            function.registers[2..].copy_from_slice(&registers[2..]);
            let fake = Fake::new([(at(0, 1, 0), function)]);
            let found: Vec<_> = list(&fake, at(0, 1, 0)).collect();
            prop_assert!(found.len() <= usize::from(LIMIT));
            prop_assert!(found.iter().all(|found| (0x40..=0xfc).contains(&found.offset) && found.offset % 4 == 0));
        }
    }
}
