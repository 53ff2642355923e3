//! A guest whose network cards are wired to hosts of ours, each in a network of its own.
//!
//! Card number N is in 10.0.N.0/24: our host is `.1` and leases `.2` by DHCP.

use std::net::Ipv4Addr;
use std::time::Duration;

use lab_wire::{Host, HostConfiguration};

use crate::error::Error;
use crate::guest::{Guest, GuestConfiguration};
use crate::progress::Progress;
use crate::qemu::Qemu;
use crate::readiness::{self, Cards, Patience};

/// How long a guest may take to power off: generous, only against a hang.
pub const POWER_OFF_LIMIT: Duration = Duration::from_secs(60);

/// How long a guest may take to look at all of its devices: generous, only against a hang.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// How long one host is served before the next one's turn.
const TURN: Duration = Duration::from_millis(1);

/// A guest and the hosts at the ends of its cables.
pub struct WiredGuest {
    /// The guest.
    pub guest: Guest,
    /// The host of each card, in order.
    pub hosts: Vec<Host>,
    cards: Cards,
}

impl WiredGuest {
    /// Starts the guest; each of its cards must be on a cable.
    ///
    /// # Errors
    ///
    /// Those of [`Guest::start`]; [`Error::Usage`] for a card on a tap.
    pub fn start(qemu: &Qemu, configuration: &GuestConfiguration) -> Result<Self, Error> {
        let (guest, cables) = Guest::start(qemu, configuration)?;
        let hosts: Option<Vec<Host>> = (0_u8..)
            .zip(cables)
            .map(|(network, cable)| Some(Host::new(cable?, HostConfiguration::of_network(network))))
            .collect();
        let hosts = hosts.ok_or_else(|| Error::Usage("a card on a tap has no host of ours".into()))?;
        Ok(Self { guest, hosts, cards: configuration.cards() })
    }

    /// Waits until every card has its address, serving ARP and DHCP meanwhile.
    ///
    /// # Errors
    ///
    /// Those of [`readiness::wait_ready`].
    pub fn wait_ready(&mut self, patience: &Patience<'_>, progress: Option<&Progress>) -> Result<(), Error> {
        let Self { guest, hosts, cards } = self;
        readiness::wait_ready(guest, cards, patience, progress, &mut || serve(hosts), &mut |_| {})
    }

    /// Waits until an image of ours has looked at everything that is plugged in: only then is it idle when nobody asks it
    /// anything. Another guest does not tell, and is not waited for.
    ///
    /// # Errors
    ///
    /// Those of [`Guest::wait_until`].
    pub fn wait_settled(&mut self) -> Result<(), Error> {
        let Self { guest, hosts, .. } = self;
        guest.wait_until(
            "the look at all devices",
            SETTLE_LIMIT,
            None,
            &mut || serve(hosts),
            &mut |transcript| !transcript.entered || transcript.devices_found.is_some(),
        )
    }

    /// The address of a card, once it has one.
    pub fn address(&mut self, card: usize) -> Option<Ipv4Addr> {
        self.cards.ready(self.guest.transcript(), card).map(|ready| ready.address)
    }

    /// Answers what the guest asks of its networks, for a moment.
    pub fn serve(&mut self) {
        serve(&mut self.hosts);
    }

    /// Presses the power button and serves the networks until the guest is off.
    ///
    /// # Errors
    ///
    /// Those of [`Guest::shut_down`].
    pub fn shut_down(&mut self) -> Result<(), Error> {
        let Self { guest, hosts, .. } = self;
        guest.shut_down(POWER_OFF_LIMIT, &mut || serve(hosts))
    }
}

fn serve(hosts: &mut [Host]) {
    let mut served = false;
    for host in hosts {
        // A guest that has just ended closes its cables first; whoever watches it will see.
        served |= host.serve(TURN).is_ok();
    }
    if !served {
        std::thread::sleep(TURN);
    }
}
