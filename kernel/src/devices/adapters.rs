//! What the kernel command line says about USB network adapters.
//!
//! | option | meaning | default |
//! | --- | --- | --- |
//! | `mac=02:00:00:00:00:01`, `mac=usb0-3:02:00:00:00:00:01` | the station address of the adapter plugged in at that place, or of every adapter without a place of its own | the adapter's permanent one |
//! | `coalescing=latency` or `throughput` | whether an RTL8152-family adapter waits for more frames before it hands them over | `latency` |

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;

/// Most places that options are kept for.
const PLACES_LIMIT: usize = 64;

/// Choices for all adapters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adapters {
    /// Station addresses by the place that an adapter is plugged in at; an empty place is any.
    station_addresses: Vec<(String, [u8; 6])>,
    /// Fewer interrupts rather than a short round trip.
    pub throughput: bool,
}

impl Adapters {
    /// Takes an option in. False when it is none of an adapter's.
    ///
    /// # Errors
    ///
    /// What would have been understood.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, &'static str> {
        match key {
            "mac" => {
                const EXPECTED: &str =
                    "mac=02:00:00:00:00:01 or mac=usb0-3:02:00:00:00:00:01, no group address";
                let (place, address) = match value.split_once(':') {
                    Some((place, address)) if place.starts_with("usb") => (place, address),
                    _ => ("", value),
                };
                let address = station_address(address).ok_or(EXPECTED)?;
                self.station_addresses.retain(|(known, _)| known != place);
                if self.station_addresses.len() >= PLACES_LIMIT {
                    return Err("fewer adapters");
                }
                self.station_addresses.push((place.to_string(), address));
            }
            "coalescing" => {
                self.throughput = match value {
                    "latency" => false,
                    "throughput" => true,
                    _ => return Err("coalescing=latency|throughput"),
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The station address for the adapter at `place`, if one was chosen.
    #[must_use]
    pub fn station_address(&self, place: impl Display) -> Option<[u8; 6]> {
        let place = place.to_string();
        let at = |wanted: &str| self.station_addresses.iter().find(|(known, _)| known == wanted);
        at(&place).or_else(|| at("")).map(|(_, address)| *address)
    }
}

/// Six bytes in hexadecimal between colons, not zero and not a group's.
fn station_address(text: &str) -> Option<[u8; 6]> {
    let mut address = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut address {
        let part = parts.next()?;
        let digits = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| digits)?;
    }
    (parts.next().is_none() && address != [0; 6] && address[0] & 1 == 0).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_place_goes_before_one_without() {
        let mut adapters = Adapters::default();
        assert_eq!(adapters.station_address("usb0-3"), None);
        assert_eq!(adapters.set("mac", "02:00:00:00:00:01"), Ok(true));
        assert_eq!(adapters.set("mac", "usb0-3:02:00:00:00:00:02"), Ok(true));
        assert_eq!(adapters.set("mac", "usb0-3:02:00:00:00:00:03"), Ok(true), "the later one counts");
        assert_eq!(adapters.station_address("usb0-3"), Some([2, 0, 0, 0, 0, 3]));
        assert_eq!(adapters.station_address("usb0-4"), Some([2, 0, 0, 0, 0, 1]));
    }

    #[test]
    fn what_is_no_station_address_is_refused() {
        for wrong in [
            "",
            "02:00",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "2:0:0:0:0:1",
            "usb0-3",
            "02:00:00:00:00:01:02",
            "+2:00:00:00:00:01",
        ] {
            assert!(Adapters::default().set("mac", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn coalescing_is_one_of_two() {
        let mut adapters = Adapters::default();
        assert_eq!(adapters.set("coalescing", "throughput"), Ok(true));
        assert!(adapters.throughput);
        assert!(adapters.set("coalescing", "both").is_err());
        assert_eq!(adapters.set("colour", "red"), Ok(false));
    }
}
