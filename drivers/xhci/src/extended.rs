//! Extended capabilities (xHCI 1.2, chapter 7): BIOS hand-off, and which port speaks which protocol.

use alloc::vec::Vec;

use hal::mmio::Mmio;
use hal::time::{Clock, Duration, sleep};
use usb::Speed;

/// Capability ids (table 7-1).
const LEGACY: u8 = 1;
const SUPPORTED_PROTOCOL: u8 = 2;

/// USBLEGSUP: the BIOS owns the controller (7.1.1).
const BIOS_OWNED: u32 = 1 << 16;
/// USBLEGSUP: the operating system owns the controller.
const OS_OWNED: u32 = 1 << 24;
/// USBLEGCTLSTS: the SMI enables, which stay on unless cleared, and the status bits, cleared by ones (7.1.2).
const SMI_ENABLES: u32 = 1 | 1 << 4 | 0b111 << 13;
const SMI_STATUS: u32 = 0b111 << 29;

/// More capabilities than there can be: the list loops.
const LONGEST_LIST: usize = 64;

/// Offsets and headers of all extended capabilities. Ends at a pointer out of the window, and when the list loops.
fn capabilities<M: Mmio>(window: &M, first: usize) -> impl Iterator<Item = (usize, u32)> {
    let mut next = (first != 0).then_some(first);
    core::iter::from_fn(move || {
        let offset = next.filter(|offset| offset.checked_add(4).is_some_and(|end| end <= window.len()))?;
        let header = window.read_u32(offset);
        let step = ((header >> 8) & 0xff) as usize * 4;
        next = (step != 0).then(|| offset + step);
        Some((offset, header))
    })
    .take(LONGEST_LIST)
}

/// Takes the controller over from the BIOS (4.22.1): asks, waits up to a second, then takes it anyway, and switches
/// its system management interrupts off. True when the BIOS had owned it.
pub async fn take_over<M: Mmio, C: Clock>(window: &M, first: usize, clock: &C) -> bool {
    let Some((offset, header)) = capabilities(window, first).find(|(_, header)| *header as u8 == LEGACY)
    else {
        return false;
    };
    let owned = header & BIOS_OWNED != 0;
    if owned {
        window.write_u32(offset, header | OS_OWNED);
        let mut patience = 100;
        while window.read_u32(offset) & BIOS_OWNED != 0 && patience > 0 {
            patience -= 1;
            sleep(clock, Duration::from_millis(10)).await;
        }
        let header = window.read_u32(offset);
        if header & BIOS_OWNED != 0 {
            log::warn!("xhci: the BIOS does not hand the controller over; taking it");
            window.write_u32(offset, header & !BIOS_OWNED | OS_OWNED);
        }
    }
    let control = window.read_u32(offset + 4);
    window.write_u32(offset + 4, control & !SMI_ENABLES | SMI_STATUS);
    owned
}

/// What one root port speaks (7.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortProtocol {
    /// Major revision: 2 or 3; 0 when no capability names the port.
    pub major: u8,
    /// Speed ids that the controller defines itself, with the speed each stands for.
    speeds: Vec<(u8, Speed)>,
}

impl PortProtocol {
    /// What a speed id of this port means: as the controller defines it, or as table 7-13 does. `None` for an id
    /// that means nothing.
    #[must_use]
    pub fn speed(&self, id: u8) -> Option<Speed> {
        if let Some((_, speed)) = self.speeds.iter().find(|(known, _)| *known == id) {
            return Some(*speed);
        }
        match id {
            1 => Some(Speed::Full),
            2 => Some(Speed::Low),
            3 => Some(Speed::High),
            4 => Some(Speed::Super),
            5..=7 => Some(Speed::SuperPlus),
            _ => None,
        }
    }
}

/// The speed id that the slot context takes for a device behind a hub (table 7-13).
#[must_use]
pub fn default_speed_id(speed: Speed) -> u8 {
    match speed {
        Speed::Full => 1,
        Speed::Low => 2,
        Speed::High => 3,
        Speed::Super => 4,
        Speed::SuperPlus => 5,
    }
}

/// The protocols of ports 1 to `ports`, from the supported protocol capabilities.
#[must_use]
pub fn port_protocols<M: Mmio>(window: &M, first: usize, ports: u8) -> Vec<PortProtocol> {
    let mut protocols = alloc::vec![PortProtocol::default(); usize::from(ports)];
    for (offset, header) in
        capabilities(window, first).filter(|(_, header)| *header as u8 == SUPPORTED_PROTOCOL)
    {
        let places = window.read_u32(offset + 8);
        let (start, count, definitions) = (places as u8, (places >> 8) as u8, places >> 28);
        let speeds = (0..definitions as usize)
            .filter_map(|index| speed_definition(window.read_u32(offset + 0x10 + 4 * index)))
            .collect();
        let protocol = PortProtocol { major: (header >> 24) as u8, speeds };
        let covered =
            usize::from(start.saturating_sub(1))..usize::from(start.saturating_sub(1)) + usize::from(count);
        protocols
            .iter_mut()
            .enumerate()
            .filter(|(index, _)| start > 0 && covered.contains(index))
            .for_each(|(_, place)| place.clone_from(&protocol));
    }
    protocols
}

/// A protocol speed id definition (7.2.2.1.1): the id, and the speed that its bit rate amounts to.
fn speed_definition(definition: u32) -> Option<(u8, Speed)> {
    let unit = [1_u64, 1_000, 1_000_000, 1_000_000_000][((definition >> 4) & 3) as usize];
    let rate = u64::from(definition >> 16) * unit;
    let speed = match rate {
        1_000_000..=2_000_000 => Speed::Low,
        10_000_000..=15_000_000 => Speed::Full,
        400_000_000..=500_000_000 => Speed::High,
        4_000_000_000..=5_000_000_000 => Speed::Super,
        5_000_000_001.. => Speed::SuperPlus,
        _ => return None,
    };
    Some(((definition & 0xf) as u8, speed))
}
