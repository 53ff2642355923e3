//! Where a modern device's structures are: its vendor capabilities (virtio 1.2, 4.1.4).

/// `cfg_type` of the common configuration structure.
pub(super) const COMMON_CONFIGURATION: u8 = 1;
/// `cfg_type` of the notification area.
pub(super) const NOTIFICATION: u8 = 2;
/// `cfg_type` of the interrupt status byte.
pub(super) const INTERRUPT_STATUS: u8 = 3;
/// `cfg_type` of the device-specific configuration.
pub(super) const DEVICE_CONFIGURATION: u8 = 4;

const STATUS: u16 = 0x04; // the status register is the upper half of this word
const STATUS_CAPABILITY_LIST: u32 = 1 << (16 + 4);
const CAPABILITIES_POINTER: u16 = 0x34;
const VENDOR_SPECIFIC: u8 = 0x09;
/// Bytes of `struct virtio_pci_cap`; the notification capability has four more.
const CAPABILITY_LENGTH: u8 = 16;
/// A list that goes round in a circle ends here: no more capabilities than this fit behind the header.
const MOST_CAPABILITIES: usize = 48;

/// A structure inside a base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub bar: u8,
    pub offset: u32,
    pub length: u32,
}

/// The first usable place of each kind: a device may offer several, in its order of preference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Structures {
    places: [Option<Place>; 4],
    /// Bytes between the notification addresses of successive `queue_notify_off`.
    pub notify_multiplier: u32,
}

impl Structures {
    /// Walks the capability list. Whatever stands in it, this ends and reads only the configuration space.
    pub(super) fn find(read: impl Fn(u16) -> u32) -> Self {
        let mut found = Self::default();
        if read(STATUS) & STATUS_CAPABILITY_LIST == 0 {
            return found;
        }
        let mut pointer = (read(CAPABILITIES_POINTER) & 0xfc) as u16;
        for _ in 0..MOST_CAPABILITIES {
            if !(0x40..=0xf0).contains(&pointer) {
                break;
            }
            let [id, next, length, kind] = read(pointer).to_le_bytes();
            if id == VENDOR_SPECIFIC && length >= CAPABILITY_LENGTH {
                found.consider(kind, pointer, length, &read);
            }
            pointer = u16::from(next & 0xfc);
        }
        found
    }

    fn consider(&mut self, kind: u8, pointer: u16, capability_length: u8, read: impl Fn(u16) -> u32) {
        let bar = read(pointer + 4) as u8;
        let slot = usize::from(kind).checked_sub(1).and_then(|index| self.places.get_mut(index));
        let Some(slot @ None) = slot else { return };
        // Base addresses above 5 are reserved (4.1.4.1): such a capability is to be ignored.
        if bar > 5 {
            return;
        }
        *slot = Some(Place { bar, offset: read(pointer + 8), length: read(pointer + 12) });
        if kind == NOTIFICATION && capability_length >= CAPABILITY_LENGTH + 4 {
            self.notify_multiplier = read(pointer + 16);
        }
    }

    pub(super) fn get(&self, kind: u8) -> Option<Place> {
        usize::from(kind).checked_sub(1).and_then(|index| self.places.get(index).copied().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space(bytes: &[u8]) -> impl Fn(u16) -> u32 + '_ {
        |offset| {
            let word = bytes.get(usize::from(offset)..usize::from(offset) + 4);
            word.map_or(u32::MAX, |word| u32::from_le_bytes(word.try_into().unwrap()))
        }
    }

    fn with_capability(at: usize, next: u8, kind: u8, bar: u8, offset: u32) -> Vec<u8> {
        let mut bytes = vec![0; 256];
        bytes[6] = 0x10;
        bytes[0x34] = at as u8;
        bytes[at..at + 6].copy_from_slice(&[VENDOR_SPECIFIC, next, 20, kind, bar, 0]);
        bytes[at + 8..at + 12].copy_from_slice(&offset.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&0x1000u32.to_le_bytes());
        bytes[at + 16..at + 20].copy_from_slice(&4u32.to_le_bytes());
        bytes
    }

    #[test]
    fn a_notification_capability_gives_place_and_multiplier() {
        let bytes = with_capability(0x40, 0, NOTIFICATION, 4, 0x3000);
        let found = Structures::find(space(&bytes));
        assert_eq!(found.get(NOTIFICATION), Some(Place { bar: 4, offset: 0x3000, length: 0x1000 }));
        assert_eq!(found.notify_multiplier, 4);
        assert_eq!(found.get(COMMON_CONFIGURATION), None);
    }

    #[test]
    fn a_circular_list_ends() {
        let bytes = with_capability(0x40, 0x40, COMMON_CONFIGURATION, 4, 0);
        assert!(Structures::find(space(&bytes)).get(COMMON_CONFIGURATION).is_some());
    }

    #[test]
    fn reserved_base_addresses_are_ignored() {
        let bytes = with_capability(0x40, 0, COMMON_CONFIGURATION, 6, 0);
        assert_eq!(Structures::find(space(&bytes)).get(COMMON_CONFIGURATION), None);
    }

    proptest! {
        #[test]
        fn any_configuration_space_is_walked_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 256)) {
            let found = Structures::find(space(&bytes));
            for kind in 0..=u8::MAX {
                if let Some(place) = found.get(kind) {
                    prop_assert!(place.bar <= 5);
                }
            }
        }
    }
}
