//! How the network layer behaves: defaults, and what the kernel command line says about it.
//!
//! | option | meaning | default |
//! | --- | --- | --- |
//! | `arp-probe=fast`, `standard` or `off` | how long an address is probed before use, see [`Probing`] | `fast` |
//! | `echo-broadcast=on` | answer echo requests to broadcast and multicast addresses | `off` |
//! | `echo-rate=N` | answer at most N echo requests per second and interface | unlimited |
//!
//! Addresses (`ip=`, `gw=`) and `inspect=` are the business of [`command_line`](crate::command_line).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::wire::ipv4::{Address, Subnet};

/// Where an interface gets its address from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// From a DHCP server.
    Dhcp,
    /// Fixed.
    Static {
        /// Address and prefix.
        subnet: Subnet,
        /// Where packets to other subnets go.
        gateway: Option<Address>,
    },
}

/// Timing of address conflict detection (RFC 5227).
///
/// The standard's seconds are meant for networks where a host comes up together with a hundred others behind slow
/// bridges. They would be most of the time to the first reply of an image, so the default keeps the procedure and
/// shortens the waits: a station that has the address answers a probe within a millisecond on a switched network. What
/// the short probe misses, the announcements and the defence of the address still find while it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probing {
    /// Probes sent before the address is used (PROBE_NUM); with 0 it is used and announced at once.
    pub probes: u32,
    /// Between two probes, and after the last one until the address is used (PROBE_MIN and ANNOUNCE_WAIT).
    pub interval: Duration,
    /// Announcements sent once it is used (ANNOUNCE_NUM).
    pub announcements: u32,
    /// Between two announcements (ANNOUNCE_INTERVAL).
    pub announcement_interval: Duration,
    /// A conflict is answered with an announcement at most this often (DEFEND_INTERVAL).
    pub defend_interval: Duration,
    /// After a probe was answered by somebody else, the address is tried again after this time
    /// (RATE_LIMIT_INTERVAL).
    pub retry: Duration,
}

impl Probing {
    /// Two probes five milliseconds apart: ten milliseconds until the address is used.
    pub const FAST: Self = Self {
        probes: 2,
        interval: Duration::from_millis(5),
        announcements: 2,
        announcement_interval: Duration::from_secs(2),
        defend_interval: Duration::from_secs(10),
        retry: Duration::from_secs(60),
    };

    /// The waits of RFC 5227, section 1.1, without their random part.
    pub const STANDARD: Self = Self { probes: 3, interval: Duration::from_secs(2), ..Self::FAST };

    /// Use the address at once, announce and defend it.
    pub const OFF: Self = Self { probes: 0, ..Self::FAST };
}

/// How echo requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Answer requests to broadcast and multicast addresses (RFC 1122, 3.2.2.6: may).
    pub broadcast: bool,
    /// Most replies per second, refilled continuously, with a burst of one second's worth; `None` for all.
    pub rate: Option<u32>,
}

/// Limits of reassembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reassembly {
    /// A datagram whose first fragment (the first to arrive) is older is given up (RFC 1122, 3.3.2: 60 to 120 s).
    pub timeout: Duration,
    /// Datagrams put together at a time.
    pub datagrams: usize,
    /// Fragments held at a time, over all datagrams; each holds one receive buffer of about 2 KiB.
    pub fragments: usize,
}

/// What is printed for whoever wants to see packet memory at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspect {
    /// For each echo request: what backs its buffer, and what backs a copy of it.
    pub icmp: bool,
    /// The tables of caches and zones: when an interface gets its address, with each report of counters, at the end.
    pub memory: bool,
}

/// The behaviour of all interfaces, and the addresses of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    interfaces: Vec<Named>,
    /// Address conflict detection.
    pub probing: Probing,
    /// Echo replies.
    pub echo: Echo,
    /// Reassembly.
    pub reassembly: Reassembly,
    /// Counters are printed this often when they changed.
    pub report_interval: Duration,
    /// What is printed of packet memory.
    pub inspect: Inspect,
}

/// The fixed address of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    name: String,
    subnet: Subnet,
    gateway: Option<Address>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            probing: Probing::FAST,
            echo: Echo { broadcast: false, rate: None },
            reassembly: Reassembly { timeout: Duration::from_secs(60), datagrams: 16, fragments: 192 },
            report_interval: Duration::from_secs(60),
            inspect: Inspect::default(),
        }
    }
}

/// An option of the network layer with a value that it cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadValue {
    /// What would be right.
    pub expected: &'static str,
}

impl fmt::Display for BadValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "expected {}", self.expected)
    }
}

impl core::error::Error for BadValue {}

impl Configuration {
    /// Takes one option of the command line. `Ok(false)`: not an option of the network layer.
    ///
    /// # Errors
    ///
    /// [`BadValue`]; the configuration is then unchanged.
    pub fn set(&mut self, option: &str, value: &str) -> Result<bool, BadValue> {
        match option {
            "arp-probe" => {
                self.probing = match value {
                    "fast" => Probing::FAST,
                    "standard" => Probing::STANDARD,
                    "off" => Probing::OFF,
                    _ => return Err(BadValue { expected: "arp-probe=fast|standard|off" }),
                };
            }
            "echo-broadcast" => {
                self.echo.broadcast = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(BadValue { expected: "echo-broadcast=on|off" }),
                };
            }
            "echo-rate" => match value.parse() {
                Ok(rate) if rate > 0 => self.echo.rate = Some(rate),
                _ => return Err(BadValue { expected: "echo-rate=N, N replies per second" }),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Gives the interface of this name a fixed address.
    ///
    /// # Errors
    ///
    /// [`BadValue`] for an address that no host of its subnet may have; the configuration is then unchanged.
    pub fn set_address(
        &mut self,
        name: &str,
        subnet: Subnet,
        gateway: Option<Address>,
    ) -> Result<(), BadValue> {
        if !subnet.is_host() {
            return Err(BadValue { expected: "an address that a host of the subnet may have" });
        }
        self.interfaces.retain(|interface| interface.name != name);
        self.interfaces.push(Named { name: name.into(), subnet, gateway });
        Ok(())
    }

    /// Where the interface of this name gets its address from.
    #[must_use]
    pub fn addressing(&self, name: &str) -> Addressing {
        match self.interfaces.iter().find(|interface| interface.name == name) {
            Some(Named { subnet, gateway, .. }) => Addressing::Static { subnet: *subnet, gateway: *gateway },
            None => Addressing::Dhcp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_an_address_dhcp_is_asked() {
        assert_eq!(Configuration::default().addressing("eth0"), Addressing::Dhcp);
    }

    #[test]
    fn the_last_address_of_an_interface_holds() {
        let mut configuration = Configuration::default();
        let subnet = |last| Subnet { address: Address([10, 0, 0, last]), prefix: 24 };
        configuration.set_address("eth1", subnet(2), None).unwrap();
        configuration.set_address("eth1", subnet(3), None).unwrap();
        assert_eq!(configuration.addressing("eth1"), Addressing::Static { subnet: subnet(3), gateway: None });
        assert_eq!(configuration.addressing("eth0"), Addressing::Dhcp);
    }

    #[test]
    fn an_address_that_no_host_may_have_is_not_used() {
        let mut configuration = Configuration::default();
        for address in [[10, 0, 0, 255], [224, 0, 0, 1], [0, 0, 0, 0], [127, 0, 0, 1]] {
            let subnet = Subnet { address: Address(address), prefix: 24 };
            assert!(configuration.set_address("eth0", subnet, None).is_err(), "{subnet}");
            assert_eq!(configuration.addressing("eth0"), Addressing::Dhcp);
        }
    }

    #[test]
    fn options_of_others_are_left_to_them() {
        assert_eq!(Configuration::default().set("log", "info"), Ok(false));
    }

    proptest! {
        #[test]
        fn any_value_is_taken_or_refused(option in "arp-probe|echo-broadcast|echo-rate", value: String) {
            let mut configuration = Configuration::default();
            if configuration.set(&option, &value).is_err() {
                prop_assert_eq!(configuration, Configuration::default());
            }
        }
    }
}
