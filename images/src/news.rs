//! What whoever holds a guest is told of it as it happens: its addresses, and links that go and come back.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use crate::console::Transcript;
use crate::output;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An interface answers at another address than before, or at its first one.
    Ready(Ipv4Addr),
    /// The link of an interface that was ready went, or came back.
    Link {
        /// `eth0`, ...
        interface: String,
        /// The interface's address.
        address: Ipv4Addr,
        /// It came back.
        up: bool,
    },
}

impl fmt::Display for Item {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(address) => write!(formatter, "ready: {address}"),
            Self::Link { interface, address, up } => {
                write!(formatter, "{interface} ({address}): link {}", if *up { "up" } else { "down" })
            }
        }
    }
}

/// What was told so far.
#[derive(Debug, Default)]
pub struct News {
    /// The address of each interface that has been ready.
    addresses: BTreeMap<String, Ipv4Addr>,
    /// Whether each had a link at the last look.
    links: BTreeMap<String, bool>,
}

impl News {
    /// What happened since the last look.
    pub fn since_last_look(&mut self, transcript: &Transcript) -> Vec<Item> {
        let mut items = Vec::new();
        for ready in &transcript.ready {
            let (interface, address) = (&ready.interface, ready.address);
            if self.addresses.insert(interface.clone(), address) != Some(address) {
                items.push(Item::Ready(address));
            }
            let up = transcript.interfaces.get(interface).is_some_and(|state| state.link);
            // The first link is no news: the address is.
            if self.links.insert(interface.clone(), up).is_some_and(|before| before != up) {
                items.push(Item::Link { interface: interface.clone(), address, up });
            }
        }
        items
    }

    /// Tells what happened since the last look: addresses on standard output, for programs; links on standard error.
    pub fn tell(&mut self, transcript: &Transcript) {
        for item in self.since_last_look(transcript) {
            match item {
                Item::Ready(_) => output::line(&item),
                Item::Link { .. } => output::note(&item),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn addresses_are_told_once_and_links_when_they_go_and_come_back() {
        let (mut news, mut transcript) = (News::default(), Transcript::default());
        let mut after = |line: &str| -> Vec<String> {
            transcript.add(line, Instant::now());
            news.since_last_look(&transcript).iter().map(ToString::to_string).collect()
        };
        let nothing = Vec::<String>::new();
        assert_eq!(after("@skiff device interface=eth0 driver=x mac=02:00:00:00:00:01"), nothing);
        assert_eq!(after("@skiff link interface=eth0 state=up"), nothing);
        let ready = "@skiff ready interface=eth0 driver=x mac=02:00:00:00:00:01 address=10.0.0.2 prefix=24";
        assert_eq!(after(ready), ["ready: 10.0.0.2"]);
        assert_eq!(after("@skiff link interface=eth0 state=down"), ["eth0 (10.0.0.2): link down"]);
        assert_eq!(after("@skiff counters interface=eth0 rx_frames=1"), nothing);
        assert_eq!(after("@skiff link interface=eth0 state=up"), ["eth0 (10.0.0.2): link up"]);
        assert_eq!(after("@skiff address interface=eth0 address=10.0.0.2 prefix=24"), nothing);
        // Another network behind the same link.
        assert_eq!(after(&ready.replace("10.0.0.2", "10.0.7.9")), ["ready: 10.0.7.9"]);
        assert_eq!(after(ready), ["ready: 10.0.0.2"], "back again");
    }
}
