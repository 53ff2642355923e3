//! Capability registers and extended capabilities of controllers that make no sense, and of some that do.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::cell::RefCell;

use hal::mmio::Mmio;
use proptest::prelude::*;
use usb::Speed;
use xhci::ControllerError;
use xhci::extended::port_protocols;
use xhci::regs::Registers;

/// A register window that remembers what is written.
struct Window(RefCell<Vec<u8>>);

impl Window {
    fn new(size: usize, words: &[(usize, u32)]) -> Self {
        let mut bytes = vec![0; size];
        words.iter().for_each(|(at, word)| bytes[*at..*at + 4].copy_from_slice(&word.to_le_bytes()));
        Self(RefCell::new(bytes))
    }

    fn load<const N: usize>(&self, offset: usize) -> [u8; N] {
        let bytes = self.0.borrow();
        let part = offset.checked_add(N).and_then(|end| bytes.get(offset..end));
        part.map_or([0xff; N], |part| part.try_into().unwrap())
    }
}

impl Mmio for Window {
    fn len(&self) -> usize {
        self.0.borrow().len()
    }
    fn read_u8(&self, offset: usize) -> u8 {
        u8::from_le_bytes(self.load(offset))
    }
    fn read_u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.load(offset))
    }
    fn read_u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.load(offset))
    }
    fn write_u8(&self, _: usize, _: u8) {}
    fn write_u16(&self, _: usize, _: u16) {}
    fn write_u32(&self, _: usize, _: u32) {}
}

/// CAPLENGTH 0x40, 8 slots, 4 ports, doorbells at 0x2000, runtime registers at 0x1000, capabilities at 0x800.
const SANE: [(usize, u32); 5] =
    [(0, 0x0110_0040), (4, 0x0400_0108), (0x10, 0x0200_0005), (0x14, 0x2000), (0x18, 0x1000)];

#[test]
fn capabilities_are_read_from_their_fields() {
    let capabilities = Registers::new(Window::new(0x3000, &SANE)).unwrap().capabilities;
    assert_eq!((capabilities.version, capabilities.slots, capabilities.ports), (0x110, 8, 4));
    assert!(capabilities.addresses_64 && capabilities.contexts_64 && !capabilities.port_power);
    assert_eq!(capabilities.extended, 0x800);
    let scratchpads = |hcsparams2| {
        let words = [SANE.as_slice(), &[(8, hcsparams2)]].concat();
        Registers::new(Window::new(0x3000, &words)).unwrap().capabilities.scratchpads
    };
    // The high five bits are the lower field.
    assert_eq!(
        (scratchpads(1 << 27), scratchpads(1 << 21), scratchpads(0x1f << 27 | 0x1f << 21)),
        (1, 32, 1023)
    );
}

#[test]
fn a_window_that_is_absent_too_small_or_senseless_is_refused() {
    let refusal = |size, words: &[(usize, u32)]| Registers::new(Window::new(size, words)).err();
    assert_eq!(refusal(0, &[]), Some(ControllerError::NotThere));
    assert_eq!(
        refusal(0x2000, &SANE),
        Some(ControllerError::WindowTooSmall { needed: 0x2024, size: 0x2000 })
    );
    let no_ports = [SANE.as_slice(), &[(4, 0x0000_0108)]].concat();
    assert!(matches!(refusal(0x3000, &no_ports), Some(ControllerError::BadCapabilities(_))));
}

#[test]
fn ports_speak_what_their_capability_says() {
    let mut words = SANE.to_vec();
    // USB 2 on ports 1 and 2; USB 3 on 3 and 4 with speeds of its own: id 4 is 5 Gbit/s, id 9 is 20 Gbit/s.
    words.extend([(0x800, 0x0200_0402), (0x808, 0x0000_0201)]);
    words.extend([
        (0x810, 0x0320_0002),
        (0x818, 0x2000_0203),
        (0x820, 5 << 16 | 0x34),
        (0x824, 20 << 16 | 0x39),
    ]);
    let protocols = port_protocols(&Window::new(0x3000, &words), 0x800, 4);
    let majors: Vec<u8> = protocols.iter().map(|protocol| protocol.major).collect();
    assert_eq!(majors, [2, 2, 3, 3]);
    assert_eq!((protocols[0].speed(3), protocols[0].speed(9)), (Some(Speed::High), None));
    assert_eq!((protocols[2].speed(4), protocols[3].speed(9)), (Some(Speed::Super), Some(Speed::SuperPlus)));
    assert_eq!(protocols[3].speed(0), None);
}

#[test]
fn a_capability_list_that_loops_or_leaves_the_window_ends() {
    for header in [0x0000_0001, 0x0000_ff02, 0x0000_0102] {
        let protocols = port_protocols(&Window::new(0x900, &[(0x800, header), (0x804, header)]), 0x800, 255);
        assert_eq!(protocols.len(), 255);
    }
    assert_eq!(port_protocols(&Window::new(0x900, &[]), usize::MAX - 2, 1).len(), 1);
}

proptest! {
    #[test]
    fn registers_at_random_are_refused_or_stay_in_their_window(bytes in prop::collection::vec(any::<u8>(), 0x20), size in 0x20..0x4_0000_usize) {
        let mut content = bytes;
        content.resize(size, 0x5a);
        if let Ok(registers) = Registers::new(Window(RefCell::new(content))) {
            let capabilities = registers.capabilities;
            registers.portsc(capabilities.ports);
            registers.ring(capabilities.slots, 1);
            let protocols = port_protocols(registers.window(), capabilities.extended, capabilities.ports);
            prop_assert_eq!(protocols.len(), usize::from(capabilities.ports));
        }
    }
}
