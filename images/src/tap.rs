//! A tap interface for a guest: an existing one, or one that QEMU makes and that goes with it.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lab_wire::Cable;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::unistd::geteuid;

use crate::error::Error;
use crate::qemu;

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
    /// Our address on an interface that QEMU makes, with the length of its prefix.
    address: Option<(Ipv4Addr, u8)>,
}

impl Tap {
    /// Looks at the interface. One that does not exist is made by QEMU, if this process is root: then it gets an
    /// address for this side from the guest's command line, and the guest gets one on its command line if it has none
    /// there, so that it can be pinged at once.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when the interface cannot be used, [`Error::Usage`] when it does not exist and may not be made.
    /// Both say what to do.
    pub fn prepare(name: &str, command_line: &mut String) -> Result<Self, Error> {
        if if_nametoindex(name).is_ok() {
            // What keeps a guest from using it is told here, better than QEMU would.
            drop(attach(name)?);
            if !is_up(name) {
                eprintln!("skiff: the tap {name} is down; as root: ip link set {name} up");
            }
            return Ok(Self { name: name.to_owned(), address: None });
        }
        if !geteuid().is_root() {
            return Err(Error::Usage(format!(
                "there is no tap {name}, and this user may not make one; as root:\n\
                 ip tuntap add {name} mode tap user $USER && ip address add 10.0.0.1/24 dev {name} && \
                 ip link set {name} up"
            )));
        }
        if Command::new("ip").arg("-V").stdout(Stdio::null()).status().is_err() {
            qemu::install("ip", &["iproute2"])?;
        }
        if !command_line.split_ascii_whitespace().any(|option| option.starts_with("ip=")) {
            command_line.push_str(" ip=10.0.0.2/24 gw=10.0.0.1");
        }
        Ok(Self { name: name.to_owned(), address: host_address(command_line) })
    }

    /// After QEMU has been started: brings up the interface if QEMU makes it.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when it does not appear or cannot be configured.
    pub fn bring_up(&self) -> Result<(), Error> {
        let Some((address, prefix)) = self.address else { return Ok(()) };
        let deadline = Instant::now() + MAKING_LIMIT;
        while if_nametoindex(self.name.as_str()).is_err() {
            if Instant::now() >= deadline {
                return Err(Error::Usage(format!("QEMU could not make the tap {}", self.name)));
            }
            thread::sleep(Duration::from_millis(2));
        }
        ip(&["address", "add", &format!("{address}/{prefix}"), "dev", &self.name])?;
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
    if status.success() { Ok(()) } else { Err(Error::Usage(format!("{} failed ({status})", action()))) }
}

/// The address for our side of a network whose guest has this command line: its gateway if it names one, otherwise the
/// first of the network that is not the guest's.
fn host_address(command_line: &str) -> Option<(Ipv4Addr, u8)> {
    let option =
        |name: &str| command_line.split_ascii_whitespace().find_map(|option| option.strip_prefix(name));
    let (guest, prefix) = option("ip=")?.split_once('/')?;
    let (guest, prefix): (Ipv4Addr, u8) = (guest.parse().ok()?, prefix.parse().ok()?);
    if let Some(gateway) = option("gw=") {
        return Some((gateway.parse().ok()?, prefix));
    }
    let mask = u32::MAX.checked_shl(32_u32.checked_sub(prefix.into())?).unwrap_or(0);
    let network = guest.to_bits() & mask;
    [network + 1, network + 2]
        .map(Ipv4Addr::from_bits)
        .into_iter()
        .find(|address| *address != guest)
        .map(|address| (address, prefix))
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
        assert_eq!(host_address("ip=10.1.2.1"), None);
        assert_eq!(host_address("ip=10.1.2.1/40"), None);
    }
}
