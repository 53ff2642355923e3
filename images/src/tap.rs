//! A tap interface for a guest: an existing one, or one that QEMU makes and that goes with it.

use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lab_wire::Cable;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::unistd::geteuid;

use crate::error::Error;
use crate::output;
use crate::qemu;

/// Longest name of an interface, in bytes (Linux's IFNAMSIZ without the zero).
const LONGEST_NAME: usize = 15;

/// How long QEMU may take to make the interface: generous, only against a hang.
const MAKING_LIMIT: Duration = Duration::from_secs(30);

/// Plugs a cable of ours into a tap interface.
///
/// # Errors
///
/// [`Error::System`], which says what to do.
pub fn attach(name: &str) -> Result<Cable, Error> {
    Cable::tap(name).map_err(|source| {
        let hint = match source.kind() {
            ErrorKind::ResourceBusy => " (another program has it: end that one, or name another tap)",
            ErrorKind::PermissionDenied if if_nametoindex(name).is_err() => {
                " (there is none, and this user may not make one: run as root)"
            }
            ErrorKind::PermissionDenied => {
                " (it belongs to somebody else: run as root, or name a tap of your own)"
            }
            ErrorKind::InvalidInput => " (it is no tap: `ip tuntap list` names those that are)",
            _ => "",
        };
        Error::System { action: format!("cannot attach to the tap {name}{hint}"), source }
    })
}

/// A tap that a guest will be attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    name: String,
    /// It goes with the guest.
    made: bool,
    /// Our address on one that is made, with the length of its prefix; `None` when the image's own is not known.
    address: Option<(Ipv4Addr, u8)>,
}

impl Tap {
    /// Looks at the interface. One that does not exist is made with the guest, if this process is root and the guest has
    /// no `other_cards`: then it gets an address for this side from the guest's command line, and the guest gets one on
    /// its command line if it has none there, so that it can be pinged at once.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when the interface cannot be used, [`Error::Usage`] when it does not exist and may not be made.
    /// Both say what to do.
    pub fn prepare(name: &str, other_cards: bool, command_line: &mut String) -> Result<Self, Error> {
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(Error::Usage(format!(
                "no interface can be called `{name}`: a name has {LONGEST_NAME} bytes at most"
            )));
        }
        if if_nametoindex(name).is_ok() {
            // What keeps a guest from using it is told here, better than QEMU would.
            drop(attach(name)?);
            if !is_up(name) {
                output::note(format_args!("the tap {name} is down; as root: ip link set {name} up"));
            }
            return Ok(Self { name: name.to_owned(), made: false, address: None });
        }
        // Which of several cards gets which address is known only when they are up.
        let obstacle = match (geteuid().is_root(), other_cards) {
            (true, false) => None,
            (true, true) => Some("for several cards none is made"),
            (false, _) => Some("this user may not make one"),
        };
        if let Some(obstacle) = obstacle {
            return Err(Error::Usage(format!(
                "there is no tap {name}, and {obstacle}; as root:\n\
                 ip tuntap add {name} mode tap user $USER && ip address add 10.0.0.1/24 dev {name} && \
                 ip link set {name} up"
            )));
        }
        if Command::new("ip").arg("-V").stdout(Stdio::null()).status().is_err() {
            qemu::install("ip", &["iproute2"])?;
        }
        if option(command_line, "ip").is_none() {
            command_line.push_str(" ip=10.0.0.2/24 gw=10.0.0.1");
        }
        Ok(Self { name: name.to_owned(), made: true, address: host_address(command_line) })
    }

    /// After QEMU has been started: brings up an interface that is made. `ended` says whether QEMU is gone.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when it does not appear or cannot be configured.
    pub fn bring_up(&self, ended: &mut dyn FnMut() -> bool) -> Result<(), Error> {
        if !self.made {
            return Ok(());
        }
        let deadline = Instant::now() + MAKING_LIMIT;
        while if_nametoindex(self.name.as_str()).is_err() {
            if ended() || Instant::now() >= deadline {
                let source = io::Error::other("it did not appear");
                return Err(Error::System { action: format!("cannot make the tap {}", self.name), source });
            }
            thread::sleep(Duration::from_millis(2));
        }
        if let Some((address, prefix)) = self.address {
            ip(&["address", "add", &format!("{address}/{prefix}"), "dev", &self.name])?;
        }
        ip(&["link", "set", &self.name, "up"])
    }
}

/// Whether an interface is up; one that cannot be looked at counts as up.
fn is_up(name: &str) -> bool {
    let mut addresses = getifaddrs().into_iter().flatten();
    let found = addresses.find(|address| address.interface_name == name);
    found.is_none_or(|address| address.flags.contains(InterfaceFlags::IFF_UP))
}

fn ip(arguments: &[&str]) -> Result<(), Error> {
    let action = || format!("ip {}", arguments.join(" "));
    let status = Command::new("ip").args(arguments).status().map_err(Error::system(action()))?;
    if status.success() { Ok(()) } else { Err(Error::system(action())(io::Error::other(status.to_string()))) }
}

/// What the command line says of this option for the first interface; the image takes the last one, too.
fn option<'c>(command_line: &'c str, key: &str) -> Option<&'c str> {
    let of_first = |option: &'c str| {
        let value = option.strip_prefix(key)?.strip_prefix('=')?;
        match value.split_once(':') {
            None => Some(value),
            Some((interface, value)) => (interface == "eth0").then_some(value),
        }
    };
    command_line.split_ascii_whitespace().filter_map(of_first).next_back()
}

/// The address for our side of a network whose guest has this command line: its gateway if it names one, otherwise the
/// first of the network that is not the guest's.
fn host_address(command_line: &str) -> Option<(Ipv4Addr, u8)> {
    let (guest, prefix) = option(command_line, "ip")?.split_once('/')?;
    let (guest, prefix): (Ipv4Addr, u8) = (guest.parse().ok()?, prefix.parse().ok()?);
    if let Some(gateway) = option(command_line, "gw") {
        return Some((gateway.parse().ok()?, prefix));
    }
    let mask = u32::MAX.checked_shl(32_u32.checked_sub(prefix.into())?).unwrap_or(0);
    let network = guest.to_bits() & mask;
    let mut hosts = (1..=2).filter_map(|host| network.checked_add(host)).map(Ipv4Addr::from_bits);
    hosts.find(|address| *address != guest).map(|address| (address, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_side_of_a_made_tap_is_the_gateway_or_the_first_free_address() {
        let address = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        assert_eq!(host_address("ip=10.1.2.3/16 gw=10.1.0.9"), Some((address("10.1.0.9"), 16)));
        assert_eq!(host_address("log=info ip=10.1.2.3/24"), Some((address("10.1.2.1"), 24)));
        assert_eq!(host_address("ip=10.1.2.1/24"), Some((address("10.1.2.2"), 24)));
        assert_eq!(host_address("ip=eth1:10.9.9.9/24 ip=eth0:10.1.2.3/24"), Some((address("10.1.2.1"), 24)));
        assert_eq!(
            host_address("ip=10.0.0.9/8 ip=10.1.2.3/24"),
            Some((address("10.1.2.1"), 24)),
            "the later one"
        );
        assert_eq!(host_address("ip=255.255.255.254/32"), Some((address("255.255.255.255"), 32)));
        assert_eq!(host_address("ip=eth1:10.1.2.3/24"), None);
        assert_eq!(host_address("ip=10.1.2.1"), None);
        assert_eq!(host_address("ip=10.1.2.1/40"), None);
    }
}
