//! The kernel command line.
//!
//! ```text
//! ip=10.0.0.2/24 gw=10.0.0.1 ip=eth1:10.0.1.2/24 log=debug panic=exit inspect=icmp,memory
//! ```
//!
//! The options `arp-probe=`, `echo-broadcast=` and `echo-rate=` are the [network layer's](crate::net::configuration),
//! `mac=` and `coalescing=` are for [USB adapters](crate::devices::adapters).
//! Options are separated by white space; of an option given twice, the later one counts. What is unknown or malformed
//! becomes a [`Problem`], to be named on the console; the other options hold.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv4Addr;

use log::LevelFilter;

use crate::devices::adapters::Adapters;
use crate::net::Configuration;
use crate::net::configuration::Inspect;
use crate::net::wire::ipv4::Subnet;

/// The interface that an address without a name is for.
pub const FIRST_INTERFACE: &str = "eth0";

/// Most interfaces that options are kept for.
const INTERFACES_LIMIT: usize = 64;

/// What is expected where an option is not known.
const KNOWN: &str =
    "one of ip=, gw=, log=, panic=, inspect=, arp-probe=, echo-broadcast=, echo-rate=, mac=, coalescing=";

/// What ends a panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum PanicAction {
    /// Restart the machine: what an appliance does.
    #[default]
    Reboot,
    /// Stand still, for a look at the machine.
    Halt,
    /// End QEMU by its exit device, or switch off.
    Exit,
}

/// An address and the length of its network prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of the network prefix, at most 32.
    pub prefix: u8,
}

/// What was said about one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceOptions {
    /// `eth0`, `eth1`, ...
    pub name: String,
    /// A fixed address; without it the interface asks by DHCP.
    pub address: Option<Address>,
    /// The gateway.
    pub gateway: Option<Ipv4Addr>,
}

/// What the image was told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Interfaces that were named.
    pub interfaces: Vec<InterfaceOptions>,
    /// What is logged.
    pub log: LevelFilter,
    /// What ends a panic.
    pub panic: PanicAction,
    /// Print each ICMP message.
    pub inspect_icmp: bool,
    /// Print memory use.
    pub inspect_memory: bool,
    /// The behaviour of the network layer.
    pub network: Configuration,
    /// Choices for USB network adapters.
    pub adapters: Adapters,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            log: LevelFilter::Info,
            panic: PanicAction::default(),
            inspect_icmp: false,
            inspect_memory: false,
            network: Configuration::default(),
            adapters: Adapters::default(),
        }
    }
}

/// An option that was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The option as it was given.
    pub option: String,
    /// What would have been understood.
    pub expected: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "option {:?} ignored: expected {}", self.option, self.expected)
    }
}

impl core::error::Error for Problem {}

impl Options {
    /// Reads a command line into the options, and gives what was not understood.
    pub fn apply(&mut self, command_line: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        for option in command_line.split_ascii_whitespace() {
            if let Err(expected) = self.apply_option(option) {
                problems.push(Problem { option: option.to_string(), expected });
            }
        }
        problems
    }

    /// What was said about this interface.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&InterfaceOptions> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    fn apply_option(&mut self, option: &str) -> Result<(), &'static str> {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "ip" => {
                const EXPECTED: &str = "ip=A.B.C.D/PREFIX or ip=INTERFACE:A.B.C.D/PREFIX";
                let (name, value) = interface_and_value(value).ok_or(EXPECTED)?;
                let address = address(value).ok_or(EXPECTED)?;
                self.interface_mut(name).ok_or("fewer interfaces")?.address = Some(address);
            }
            "gw" => {
                const EXPECTED: &str = "gw=A.B.C.D or gw=INTERFACE:A.B.C.D";
                let (name, value) = interface_and_value(value).ok_or(EXPECTED)?;
                let gateway = value.parse().ok().filter(is_host).ok_or(EXPECTED)?;
                self.interface_mut(name).ok_or("fewer interfaces")?.gateway = Some(gateway);
            }
            "log" => self.log = level(value).ok_or("log=off|error|warn|info|debug|trace")?,
            "panic" => {
                self.panic = match value {
                    "reboot" => PanicAction::Reboot,
                    "halt" => PanicAction::Halt,
                    "exit" => PanicAction::Exit,
                    _ => return Err("panic=reboot|halt|exit"),
                }
            }
            "inspect" => {
                const EXPECTED: &str = "inspect=icmp, inspect=memory or both, separated by a comma";
                if !value.split(',').all(|what| matches!(what, "icmp" | "memory")) {
                    return Err(EXPECTED);
                }
                self.inspect_icmp |= value.split(',').any(|what| what == "icmp");
                self.inspect_memory |= value.split(',').any(|what| what == "memory");
            }
            _ => match self.network.set(key, value) {
                Ok(true) => {}
                Ok(false) if self.adapters.set(key, value)? => {}
                Ok(false) => return Err(KNOWN),
                Err(bad) => return Err(bad.expected),
            },
        }
        Ok(())
    }

    /// The behaviour of the network layer, with the addresses of its interfaces; and those that no host may have.
    #[must_use]
    pub fn network_configuration(&self) -> (Configuration, Vec<Problem>) {
        let mut configuration = self.network.clone();
        configuration.inspect = Inspect { icmp: self.inspect_icmp, memory: self.inspect_memory };
        let mut problems = Vec::new();
        for InterfaceOptions { name, address, gateway } in &self.interfaces {
            let Some(Address { address, prefix }) = address else { continue };
            let subnet = Subnet { address: (*address).into(), prefix: *prefix };
            if let Err(bad) = configuration.set_address(name, subnet, gateway.map(Into::into)) {
                let option = alloc::format!("ip={name}:{subnet}");
                problems.push(Problem { option, expected: bad.expected });
            }
        }
        (configuration, problems)
    }

    fn interface_mut(&mut self, name: &str) -> Option<&mut InterfaceOptions> {
        let index = match self.interfaces.iter().position(|interface| interface.name == name) {
            Some(index) => index,
            None if self.interfaces.len() < INTERFACES_LIMIT => {
                self.interfaces
                    .push(InterfaceOptions { name: name.to_string(), ..InterfaceOptions::default() });
                self.interfaces.len() - 1
            }
            None => return None,
        };
        self.interfaces.get_mut(index)
    }
}

/// Splits `eth1:value`; `value` alone is the first interface's. `None` for a name that no interface can have.
fn interface_and_value(text: &str) -> Option<(&str, &str)> {
    let Some((name, value)) = text.split_once(':') else { return Some((FIRST_INTERFACE, text)) };
    let number = name.strip_prefix("eth")?;
    let plain =
        number.bytes().all(|byte| byte.is_ascii_digit()) && (number == "0" || !number.starts_with('0'));
    (plain && (1..=3).contains(&number.len())).then_some((name, value))
}

fn address(text: &str) -> Option<Address> {
    let (address, prefix) = text.split_once('/')?;
    let address = address.parse().ok().filter(is_host)?;
    let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = prefix.parse().ok().filter(|prefix| digits && *prefix <= 32)?;
    Some(Address { address, prefix })
}

/// Whether a single host may have this address.
fn is_host(address: &Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback())
}

fn level(text: &str) -> Option<LevelFilter> {
    Some(match text {
        "off" => LevelFilter::Off,
        "error" => LevelFilter::Error,
        "warn" => LevelFilter::Warn,
        "info" => LevelFilter::Info,
        "debug" => LevelFilter::Debug,
        "trace" => LevelFilter::Trace,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::configuration::Addressing;
    use proptest::prelude::*;

    fn parse(command_line: &str) -> (Options, Vec<Problem>) {
        let mut options = Options::default();
        let problems = options.apply(command_line);
        (options, problems)
    }

    #[test]
    fn every_option_is_understood() {
        let (options, problems) = parse(
            "ip=10.0.0.2/24 gw=10.0.0.1 ip=eth1:192.168.7.9/16 gw=eth1:192.168.0.1 log=debug panic=halt inspect=icmp,memory",
        );
        assert_eq!(problems, []);
        let first = options.interface("eth0").unwrap();
        assert_eq!(first.address, Some(Address { address: Ipv4Addr::new(10, 0, 0, 2), prefix: 24 }));
        assert_eq!(first.gateway, Some(Ipv4Addr::new(10, 0, 0, 1)));
        let second = options.interface("eth1").unwrap();
        assert_eq!(second.address, Some(Address { address: Ipv4Addr::new(192, 168, 7, 9), prefix: 16 }));
        assert_eq!((options.log, options.panic), (LevelFilter::Debug, PanicAction::Halt));
        assert!(options.inspect_icmp && options.inspect_memory);
        assert_eq!(options.interface("eth2"), None);
    }

    #[test]
    fn the_later_of_two_counts() {
        let (mut options, _) = parse("ip=10.0.0.2/24 panic=halt");
        assert_eq!(options.apply("panic=exit ip=eth0:10.0.0.3/8"), []);
        assert_eq!(options.panic, PanicAction::Exit);
        assert_eq!(options.interfaces.len(), 1);
        assert_eq!(options.interface("eth0").unwrap().address.unwrap().prefix, 8);
    }

    #[test]
    fn what_is_malformed_is_named_and_the_rest_holds() {
        let malformed = [
            "ip=10.0.0.2",
            "ip=10.0.0.2/33",
            "ip=10.0.0.2/+8",
            "ip=10.0.0/8",
            "ip=wlan0:10.0.0.2/8",
            "ip=eth01:10.0.0.2/8",
            "ip=224.0.0.1/8",
            "ip=127.0.0.1/8",
            "gw=",
            "gw=0.0.0.0",
            "gw=eth:1.2.3.4",
            "log=loud",
            "panic=",
            "inspect=all",
            "quiet",
            "=",
            "ip",
        ];
        for option in malformed {
            let (options, problems) = parse(&["log=warn", option].join(" "));
            assert_eq!(problems.len(), 1, "{option}");
            assert_eq!(problems[0].option, option);
            assert_eq!(options, Options { log: LevelFilter::Warn, ..Options::default() }, "{option}");
        }
    }

    #[test]
    fn nothing_said_is_nothing_wrong() {
        assert_eq!(parse(" \t\n "), (Options::default(), Vec::new()));
    }

    #[test]
    fn options_of_the_network_layer_reach_it() {
        let (options, problems) = parse("echo-rate=5 ip=10.0.0.2/24 gw=10.0.0.1 ip=eth1:10.0.1.255/24");
        assert_eq!(problems, []);
        let (configuration, problems) = options.network_configuration();
        assert_eq!(configuration.echo.rate, Some(5));
        assert!(matches!(configuration.addressing("eth0"), Addressing::Static { subnet, gateway: Some(_) }
            if subnet.prefix == 24));
        assert_eq!(configuration.addressing("eth1"), Addressing::Dhcp);
        assert_eq!(problems[0].option, "ip=eth1:10.0.1.255/24");
        assert_eq!(parse("echo-rate=none").1.len(), 1);
    }

    proptest! {
        #[test]
        fn every_word_is_an_option_or_a_problem(text: String) {
            let (_, problems) = parse(&text);
            prop_assert!(problems.len() <= text.split_ascii_whitespace().count());
        }

        #[test]
        fn addresses_come_out_as_they_went_in(bytes: [u8; 4], prefix in 0u8..=32, number in 0u8..100) {
            let address = Ipv4Addr::from(bytes);
            let (options, problems) = parse(&format!("ip=eth{number}:{address}/{prefix}"));
            if is_host(&address) {
                prop_assert_eq!(options.interfaces[0].address, Some(Address { address, prefix }));
            } else {
                prop_assert_eq!(problems.len(), 1);
            }
        }
    }
}
