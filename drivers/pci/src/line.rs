//! Interrupt lines: which of a host bridge's four inputs a function's pin is wired to.

use crate::enumeration::Found;

/// Follows a pin (1 to 4 for INTA to INTD) from a function through the bridges to the first bus: each bridge turns the
/// pins by the device number of what is behind it (PCI-to-PCI Bridge Architecture 1.2, table 9-1). Gives the device on
/// the first bus and the pin there.
#[must_use]
pub fn on_first_bus(found: &[Found], index: usize, pin: u8) -> Option<(u8, u8)> {
    let mut pin = pin.checked_sub(1)? & 3;
    let mut at = found.get(index)?;
    while let Some(bridge) = at.bridge {
        pin = (pin + at.function.address.device()) & 3;
        // A bridge comes before what is behind it: this ends.
        at = found.get(bridge)?;
    }
    Some((at.function.address.device(), pin + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enumeration::enumerate;
    use crate::fake::{Fake, FakeFunction, at};

    #[test]
    fn each_bridge_turns_the_pins() {
        let fake = Fake::new([(at(0, 5, 0), FakeFunction::bridge())])
            .behind(at(0, 5, 0), vec![((2, 0), FakeFunction::bridge()), ((3, 0), FakeFunction::device(1, 1))])
            .behind(at(1, 2, 0), vec![((7, 0), FakeFunction::device(1, 2))]);
        let found = enumerate(&fake, 0, 255);
        let index = |device| found.iter().position(|found| found.function.device == device).unwrap();
        assert_eq!(on_first_bus(&found, index(1), 1), Some((5, 4)));
        // INTA turned by 7 is INTD, and by 2 more INTB.
        assert_eq!(on_first_bus(&found, index(2), 1), Some((5, 2)));
        assert_eq!(on_first_bus(&found, 0, 3), Some((5, 3)));
        assert_eq!(on_first_bus(&found, 0, 0), None);
        assert_eq!(on_first_bus(&found, 99, 1), None);
    }
}
