//! Places for base addresses that the firmware left without one.
//!
//! Some firmware (QEMU's qboot) leaves all of this to the operating system, some leaves nothing; so what has a place keeps it,
//! and the rest is laid out above it, in the windows of bus addresses that the surroundings name. Behind a bridge
//! everything lies in one stretch, which the bridge is told to pass on.

use alloc::vec::Vec;
use core::ops::Range;

use crate::base_address::{self, BRIDGE_REGISTERS, BaseAddress, DEVICE_REGISTERS, Kind};
use crate::enumeration::Found;
use crate::function::{Command, Header};
use crate::{ConfigurationSpace, update};

const PORTS_WINDOW: u16 = 0x1c;
const MEMORY_WINDOW: u16 = 0x20;
const PREFETCHABLE_WINDOW: u16 = 0x24;
const PORTS_WINDOW_UPPER: u16 = 0x30;
/// A bridge passes on memory in steps of 1 MiB,
const MEMORY_STEP: u64 = 1 << 20;
/// and ports in steps of 4 Ki.
const PORTS_STEP: u64 = 1 << 12;

/// Bus addresses to lay windows out in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// Memory addresses below 4 GiB that lead to the bus and are nobody else's.
    pub memory: Range<u64>,
    /// I/O ports likewise.
    pub ports: Range<u64>,
}

/// A window that got no place: its device is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace {
    /// The index of the function in the list.
    pub index: usize,
    /// Its window.
    pub window: BaseAddress,
}

/// Gives every window of every function without a place one. Gives the windows of all functions, in the order of the
/// list, and those that found no room.
pub fn assign(
    space: &impl ConfigurationSpace,
    found: &[Found],
    room: &Space,
) -> (Vec<base_address::Windows>, Vec<NoPlace>) {
    let registers = |found: &Found| match found.function.header {
        Header::Device => DEVICE_REGISTERS,
        Header::Bridge => BRIDGE_REGISTERS,
        Header::Other(_) => 0,
    };
    let windows: Vec<_> = found
        .iter()
        .map(|found| base_address::read(space, found.function.address, registers(found)))
        .collect();
    let mut layout = Layout { space, found, windows, room: room.clone(), failed: Vec::new() };
    layout.skip_taken();
    layout.bus(None);
    (layout.windows, layout.failed)
}

struct Layout<'l, S> {
    space: &'l S,
    found: &'l [Found],
    windows: Vec<base_address::Windows>,
    /// What is left.
    room: Space,
    failed: Vec<NoPlace>,
}

impl<S: ConfigurationSpace> Layout<'_, S> {
    /// Starts above everything that has a place in the room already.
    fn skip_taken(&mut self) {
        for window in self.windows.iter().flatten().flatten().filter(|window| window.address != 0) {
            let room = match window.kind {
                Kind::Memory { .. } => &mut self.room.memory,
                Kind::Ports => &mut self.room.ports,
            };
            let end = window.address.saturating_add(window.size);
            if window.address < room.end && end > room.start {
                room.start = end.min(room.end);
            }
        }
    }

    /// Lays out what is on the bus behind a bridge, or on the first bus.
    fn bus(&mut self, bridge: Option<usize>) {
        for index in 0..self.found.len() {
            if self.found[index].bridge != bridge {
                continue;
            }
            // The largest first leaves no gaps.
            let mut missing: Vec<_> =
                self.windows[index].iter().flatten().filter(|window| window.address == 0).copied().collect();
            missing.sort_unstable_by_key(|window| core::cmp::Reverse(window.size));
            for window in missing {
                self.place(index, window);
            }
            if self.found[index].function.header == Header::Bridge {
                self.behind(index);
            }
        }
    }

    fn place(&mut self, index: usize, mut window: BaseAddress) {
        let room = match window.kind {
            Kind::Memory { .. } => &mut self.room.memory,
            Kind::Ports => &mut self.room.ports,
        };
        let place = room
            .start
            .checked_next_multiple_of(window.size)
            .filter(|start| start.checked_add(window.size).is_some_and(|end| end <= room.end));
        let Some(address) = place else {
            self.failed.push(NoPlace { index, window });
            return;
        };
        room.start = address + window.size;
        window.address = address;
        base_address::write(self.space, self.found[index].function.address, &window);
        self.windows[index][usize::from(window.index)] = Some(window);
    }

    /// Whether something behind a bridge, or behind a bridge behind it, has no place yet.
    fn is_missing_behind(&self, index: usize) -> bool {
        let mut inside = self.found.iter().zip(&self.windows).enumerate();
        inside.any(|(place, (found, windows))| {
            found.bridge == Some(index)
                && (windows.iter().flatten().any(|window| window.address == 0)
                    || found.function.header == Header::Bridge && self.is_missing_behind(place))
        })
    }

    fn behind(&mut self, index: usize) {
        let address = self.found[index].function.address;
        // A bridge whose devices have their places was set up by the firmware; one without devices needs nothing.
        if !self.is_missing_behind(index) {
            return;
        }
        for (range, step) in [(&mut self.room.memory, MEMORY_STEP), (&mut self.room.ports, PORTS_STEP)] {
            range.start = range.start.next_multiple_of(step).min(range.end);
        }
        let start = self.room.clone();
        self.bus(Some(index));
        for (range, step) in [(&mut self.room.memory, MEMORY_STEP), (&mut self.room.ports, PORTS_STEP)] {
            range.start = range.start.next_multiple_of(step).min(range.end);
        }
        // Base and last step; a base above the end closes the window.
        let (memory, ports) =
            (start.memory.start..self.room.memory.start, start.ports.start..self.room.ports.start);
        let memory_window = if memory.is_empty() {
            0x0000_fff0
        } else {
            (memory.start >> 16) as u32 & 0xfff0 | (memory.end - 1) as u32 & 0xfff0_0000
        };
        let ports_window = if ports.is_empty() {
            0x00f0
        } else {
            (ports.start >> 8) as u32 & 0xf0 | (ports.end - 1) as u32 & 0xf000
        };
        self.space.write(address, MEMORY_WINDOW, memory_window);
        self.space.write(address, PREFETCHABLE_WINDOW, 0x0000_fff0);
        update(self.space, address, PORTS_WINDOW, 0xffff, ports_window);
        self.space.write(address, PORTS_WINDOW_UPPER, 0);
        self.found[index].function.set_command(
            self.space,
            Command::MEMORY | Command::PORTS | Command::BUS_MASTER,
            Command::NONE,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enumeration::enumerate;
    use crate::fake::{Fake, FakeFunction, at};
    use proptest::prelude::*;

    fn room() -> Space {
        Space { memory: 0xc000_0000..0xfec0_0000, ports: 0xc000..0x1_0000 }
    }

    #[test]
    fn what_has_a_place_keeps_it_and_the_rest_goes_above() {
        let mut placed = FakeFunction::device(1, 1).with_bar(0, 0, 0x1000);
        placed.registers[4] |= 0xc800_0000;
        let fake = Fake::new([
            (at(0, 1, 0), placed),
            (
                at(0, 2, 0),
                FakeFunction::device(1, 2).with_bar(0, 1, 0x20).with_bar(1, 0, 0x1000).with_bar(4, 4, 0x4000),
            ),
        ]);
        let found = enumerate(&fake, 0, 255);
        let (windows, failed) = assign(&fake, &found, &room());
        assert_eq!(failed, []);
        assert_eq!(fake.get(at(0, 1, 0), 0x10), 0xc800_0000);
        assert_eq!(fake.get(at(0, 2, 0), 0x10), 0xc001);
        assert_eq!(fake.get(at(0, 2, 0), 0x20), 0xc800_4004);
        assert_eq!(fake.get(at(0, 2, 0), 0x14), 0xc800_8000);
        assert_eq!(windows[1][4].map(|window| window.address), Some(0xc800_4000));
    }

    #[test]
    fn a_bridge_passes_on_what_is_behind_it() {
        let fake = Fake::new([
            (at(0, 1, 0), FakeFunction::bridge()),
            (at(0, 2, 0), FakeFunction::device(1, 3).with_bar(0, 0, 0x1000)),
        ])
        .behind(at(0, 1, 0), vec![((0, 0), FakeFunction::device(1, 2).with_bar(0, 0, 0x2000))]);
        let found = enumerate(&fake, 0, 255);
        assert_eq!(assign(&fake, &found, &room()).1, []);
        assert_eq!(fake.get(at(1, 0, 0), 0x10), 0xc000_0000);
        assert_eq!(fake.get(at(0, 1, 0), 0x20), 0xc000_c000, "one step of memory");
        assert_eq!(fake.get(at(0, 1, 0), 0x1c) & 0xffff, 0x00f0, "no ports");
        assert_eq!(fake.get(at(0, 1, 0), 0x04) & 7, 7);
        assert_eq!(fake.get(at(0, 2, 0), 0x10), 0xc010_0000);
    }

    #[test]
    fn bridges_behind_bridges_keep_what_the_firmware_gave_them() {
        let set_up = |numbers| FakeFunction::bridge().with(0x18, numbers).with(0x20, 0xc810_c810);
        let mut placed = FakeFunction::device(1, 1).with_bar(0, 0, 0x1000);
        placed.registers[4] |= 0xc810_0000;
        let fake = Fake::new([
            (at(0, 1, 0), set_up(0x0002_0100)),
            (at(1, 0, 0), set_up(0x0002_0201)),
            (at(2, 0, 0), placed),
            (at(0, 2, 0), FakeFunction::bridge().with(0x18, 0x0004_0300)),
            (at(3, 0, 0), FakeFunction::bridge().with(0x18, 0x0004_0403)),
            (at(4, 0, 0), FakeFunction::device(1, 2).with_bar(0, 0, 0x1000)),
        ]);
        let found = enumerate(&fake, 0, 255);
        assert_eq!(found.len(), 6);
        assert_eq!(assign(&fake, &found, &room()).1, []);
        for bridge in [at(0, 1, 0), at(1, 0, 0)] {
            assert_eq!(fake.get(bridge, 0x20), 0xc810_c810, "still open");
        }
        assert_eq!(fake.get(at(4, 0, 0), 0x10), 0xc820_0000);
        for bridge in [at(0, 2, 0), at(3, 0, 0)] {
            assert_eq!(fake.get(bridge, 0x20), 0xc820_c820, "passes on what got a place now");
        }
    }

    #[test]
    fn a_window_without_room_is_named() {
        let fake = Fake::new([(at(0, 1, 0), FakeFunction::device(1, 1).with_bar(0, 4, 1 << 40))]);
        let found = enumerate(&fake, 0, 255);
        let (windows, failed) = assign(&fake, &found, &room());
        assert_eq!((failed.len(), failed[0].index, failed[0].window.size), (1, 0, 1 << 40));
        assert_eq!(windows[0][0].map(|window| window.address), Some(0));
    }

    proptest! {
        /// Sizes of up to 64 MiB on the first bus and behind two bridges.
        #[test]
        fn places_are_disjoint_and_in_the_room(
            sizes in proptest::collection::vec((0u32..3, 0usize..6, 4u32..26, any::<bool>()), 0..20),
        ) {
            let mut devices = vec![vec![]; 3];
            for (number, (bus, register, size, ports)) in sizes.into_iter().enumerate() {
                let size = if ports { 1 << size.min(8) } else { 1u64 << size };
                let device = FakeFunction::device(9, number as u16 + 1).with_bar(register, u32::from(ports), size);
                devices[bus as usize].push(((number as u8 + 3, 0), device));
            }
            let first = devices.remove(0).into_iter().map(|((device, _), function)| (at(0, device, 0), function));
            let bridges = [(at(0, 1, 0), FakeFunction::bridge()), (at(0, 2, 0), FakeFunction::bridge())];
            let fake = Fake::new(first.chain(bridges))
                .behind(at(0, 2, 0), devices.remove(1))
                .behind(at(0, 1, 0), devices.remove(0));
            let found = enumerate(&fake, 0, 255);
            let (windows, failed) = assign(&fake, &found, &room());
            prop_assert_eq!(failed, []);
            let mut taken: Vec<_> = windows.iter().flatten().flatten()
                .map(|window| (window.kind == Kind::Ports, window.address, window.address + window.size))
                .collect();
            taken.sort_unstable();
            for (ports, start, end) in &taken {
                let room = if *ports { room().ports } else { room().memory };
                prop_assert!(room.start <= *start && *end <= room.end);
            }
            prop_assert!(taken.windows(2).all(|pair| pair[0].0 != pair[1].0 || pair[0].2 <= pair[1].1));
        }
    }
}
