//! Walking the buses (PCI 3.0, 6.1; PCI-to-PCI Bridge Architecture 1.2, 3.2.5).
//!
//! Bridges that the firmware has numbered are taken as they are; others get the next free numbers, depth first.

use alloc::vec::Vec;

use crate::function::{Function, Header};
use crate::{ConfigurationSpace, PciAddress};

const BUS_NUMBERS: u16 = 0x18;
const DEVICES: u8 = 32;
const FUNCTIONS: u8 = 8;
/// Bridges behind bridges, at most.
const DEPTH_LIMIT: usize = 16;

/// A function, and the bridges that lead to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The function.
    pub function: Function,
    /// The index of the bridge that its bus is behind, in the list of what was found; `None` on the first bus.
    pub bridge: Option<usize>,
}

/// Everything on the buses from `first_bus` on, at most up to `last_bus`. A bridge comes before what is behind it.
pub fn enumerate(space: &impl ConfigurationSpace, first_bus: u8, last_bus: u8) -> Vec<Found> {
    let mut walk = Walk { space, found: Vec::new(), highest: first_bus, last_bus };
    walk.bus(first_bus, None, 0);
    walk.found
}

struct Walk<'s, S> {
    space: &'s S,
    found: Vec<Found>,
    /// The highest bus number in use. Each bus that is entered must be above all entered before, so that bridges with
    /// numbers that make no sense cannot lead round in a circle.
    highest: u8,
    last_bus: u8,
}

impl<S: ConfigurationSpace> Walk<'_, S> {
    fn bus(&mut self, bus: u8, bridge: Option<usize>, depth: usize) {
        for device in 0..DEVICES {
            for number in 0..FUNCTIONS {
                let Some(function) = Function::read(self.space, PciAddress::new(0, bus, device, number))
                else {
                    if number == 0 {
                        break;
                    }
                    continue;
                };
                self.found.push(Found { function, bridge });
                if function.header == Header::Bridge && depth < DEPTH_LIMIT {
                    self.behind(&function, self.found.len() - 1, depth);
                }
                if number == 0 && !function.has_siblings {
                    break;
                }
            }
        }
    }

    fn behind(&mut self, bridge: &Function, index: usize, depth: usize) {
        let address = bridge.address;
        let [primary, secondary, subordinate, latency] = self.space.read(address, BUS_NUMBERS).to_le_bytes();
        let set = |secondary: u8, subordinate: u8| {
            let numbers = [address.bus(), secondary, subordinate, latency];
            self.space.write(address, BUS_NUMBERS, u32::from_le_bytes(numbers));
        };
        if primary == address.bus()
            && secondary > self.highest
            && secondary <= subordinate
            && secondary <= self.last_bus
        {
            self.highest = secondary;
            self.bus(secondary, Some(index), depth + 1);
            self.highest = self.highest.max(subordinate.min(self.last_bus));
        } else if self.highest < self.last_bus {
            let secondary = self.highest + 1;
            // While it is not known how many buses follow, everything above belongs to this bridge.
            set(secondary, self.last_bus);
            self.highest = secondary;
            self.bus(secondary, Some(index), depth + 1);
            let numbers = [address.bus(), secondary, self.highest, latency];
            self.space.write(address, BUS_NUMBERS, u32::from_le_bytes(numbers));
        } else {
            log::warn!("PCI: no bus number left for bridge {bridge}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, FakeFunction, at};
    use core::cell::Cell;
    use proptest::prelude::*;

    fn addresses(found: &[Found]) -> Vec<PciAddress> {
        found.iter().map(|found| found.function.address).collect()
    }

    #[test]
    fn siblings_are_looked_for_only_where_a_device_says_it_has_some() {
        let fake = Fake::new([
            (at(0, 0, 0), FakeFunction::device(1, 1)),
            (at(0, 0, 1), FakeFunction::device(1, 2)),
            (at(0, 5, 0), FakeFunction::device(1, 3).with(0x0c, 0x0080_0000)),
            (at(0, 5, 7), FakeFunction::device(1, 4)),
        ]);
        assert_eq!(addresses(&enumerate(&fake, 0, 255)), [at(0, 0, 0), at(0, 5, 0), at(0, 5, 7)]);
    }

    #[test]
    fn bridges_without_numbers_get_some() {
        let fake = Fake::new([(at(0, 1, 0), FakeFunction::bridge()), (at(0, 2, 0), FakeFunction::bridge())])
            .behind(at(0, 1, 0), vec![((3, 0), FakeFunction::bridge())])
            .behind(at(1, 3, 0), vec![((0, 0), FakeFunction::device(7, 7))])
            .behind(at(0, 2, 0), vec![((9, 0), FakeFunction::device(8, 8))]);
        let found = enumerate(&fake, 0, 255);
        assert_eq!(addresses(&found), [at(0, 1, 0), at(1, 3, 0), at(2, 0, 0), at(0, 2, 0), at(3, 9, 0)]);
        assert_eq!(fake.get(at(0, 1, 0), 0x18), 0x0002_0100);
        assert_eq!(fake.get(at(1, 3, 0), 0x18), 0x0002_0201);
        assert_eq!(fake.get(at(0, 2, 0), 0x18), 0x0003_0300);
        let bridges: Vec<_> = found.iter().map(|found| found.bridge).collect();
        assert_eq!(bridges, [None, Some(0), Some(1), None, Some(3)]);
    }

    #[test]
    fn numbers_of_the_firmware_are_kept() {
        let fake = Fake::new([
            (at(0, 1, 0), FakeFunction::bridge().with(0x18, 0x0005_0400)),
            (at(4, 0, 0), FakeFunction::device(7, 7)),
            (at(0, 2, 0), FakeFunction::bridge()),
        ]);
        let found = enumerate(&fake, 0, 255);
        assert_eq!(addresses(&found), [at(0, 1, 0), at(4, 0, 0), at(0, 2, 0)]);
        assert_eq!(fake.get(at(0, 1, 0), 0x18), 0x0005_0400);
        assert_eq!(fake.get(at(0, 2, 0), 0x18), 0x0006_0600);
    }

    /// Every function of every bus answers with noise.
    struct Noise<'r> {
        registers: &'r [u32],
        reads: Cell<u64>,
    }

    impl ConfigurationSpace for Noise<'_> {
        fn read(&self, address: PciAddress, offset: u16) -> u32 {
            self.reads.set(self.reads.get() + 1);
            let mix =
                usize::from(address.bus()) * 7 + usize::from(address.device()) * 3 + usize::from(offset / 4);
            self.registers[mix % self.registers.len()]
        }
        fn write(&self, _: PciAddress, _: u16, _: u32) {}
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_walk_through_noise_ends(registers in proptest::collection::vec(any::<u32>(), 1..40)) {
            let noise = Noise { registers: &registers, reads: Cell::new(0) };
            let found = enumerate(&noise, 0, 255);
            prop_assert!(found.len() <= 256 * 32 * 8);
            // At most six reads for each function, bridges one more; every bus is entered once at most.
            prop_assert!(noise.reads.get() <= 256 * 32 * 8 * 8);
        }
    }
}
