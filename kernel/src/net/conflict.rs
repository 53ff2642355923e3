//! Address conflict detection (RFC 5227): probe an address, announce it, defend it.
//!
//! A state machine without input and output of its own: the interface's task tells it the time and the ARP packets it
//! sees, and sends what it asks for.

use hal::time::Instant;

use super::configuration::Probing;
use super::wire::arp::Packet;
use super::wire::ethernet;
use super::wire::ipv4::{Address, Subnet};

/// What the interface is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Broadcast this packet and ask again.
    Send(Packet),
    /// The address is ours from now on; ask again.
    Use,
    /// This station has the address that was being probed: it is not used, and tried again later; ask again.
    Taken(ethernet::Address),
    /// Nothing before this moment; `None`: nothing until an ARP packet comes.
    Wait(Option<Instant>),
}

/// Why an ARP packet is of interest here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Somebody has the address that was being probed: it is not used, and tried again later.
    Probed(ethernet::Address),
    /// Somebody uses the address that we use.
    InUse {
        /// The other station.
        other: ethernet::Address,
        /// The address is defended now; false while the last defence is too recent.
        defended: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `sent` probes are out; the next step is due at `next`.
    Probing { sent: u32, next: Instant },
    /// In use; `sent` announcements are out, the next is due at `next`.
    Announcing { sent: u32, next: Instant },
    /// In use and announced.
    InUse,
}

/// The life of one address on one interface.
#[derive(Clone, Debug)]
pub struct Detector {
    own: ethernet::Address,
    subnet: Subnet,
    probing: Probing,
    state: State,
    last_defence: Option<Instant>,
    defend: bool,
    /// Who has the address, until it was told.
    taken: Option<ethernet::Address>,
}

impl Detector {
    /// Starts with an address that is not yet used.
    #[must_use]
    pub fn new(own: ethernet::Address, subnet: Subnet, probing: Probing, now: Instant) -> Self {
        let state = State::Probing { sent: 0, next: now };
        Self { own, subnet, probing, state, last_defence: None, defend: false, taken: None }
    }

    /// The address in question.
    #[must_use]
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// Whether the address is ours.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self.state, State::Announcing { .. } | State::InUse)
    }

    /// The next thing to do at `now`.
    pub fn poll(&mut self, now: Instant) -> Action {
        let address = self.subnet.address;
        if core::mem::take(&mut self.defend) {
            return Action::Send(Packet::request(self.own, address, address));
        }
        if let Some(other) = self.taken.take() {
            return Action::Taken(other);
        }
        match self.state {
            State::Probing { next, .. } | State::Announcing { next, .. } if now < next => {
                Action::Wait(Some(next))
            }
            State::Probing { sent, .. } if sent < self.probing.probes => {
                self.state = State::Probing { sent: sent + 1, next: now + self.probing.interval };
                Action::Send(Packet::request(self.own, Address::UNSPECIFIED, address))
            }
            State::Probing { .. } => {
                self.state = State::Announcing { sent: 0, next: now };
                Action::Use
            }
            State::Announcing { sent, .. } if sent < self.probing.announcements => {
                self.state =
                    State::Announcing { sent: sent + 1, next: now + self.probing.announcement_interval };
                Action::Send(Packet::request(self.own, address, address))
            }
            State::Announcing { .. } | State::InUse => {
                self.state = State::InUse;
                Action::Wait(None)
            }
        }
    }

    /// Looks at an ARP packet of another station (RFC 5227, 2.1.1 and 2.4).
    pub fn observe(&mut self, packet: &Packet, now: Instant) -> Option<Conflict> {
        if packet.sender_hardware == self.own {
            return None;
        }
        let claims = packet.sender == self.subnet.address;
        if self.is_in_use() {
            if !claims {
                return None;
            }
            let quiet = self.last_defence.is_none_or(|last| now.since(last) >= self.probing.defend_interval);
            if quiet {
                self.last_defence = Some(now);
                self.defend = true;
            }
            return Some(Conflict::InUse { other: packet.sender_hardware, defended: quiet });
        }
        // While probing, another station's probe for the same address is a conflict too.
        let probes = packet.sender == Address::UNSPECIFIED && packet.target == self.subnet.address;
        // While the next try is waited for, the conflict is known.
        let waiting = matches!(self.state, State::Probing { sent: 0, next } if now < next);
        if waiting || (!claims && !probes) {
            return None;
        }
        self.state = State::Probing { sent: 0, next: now + self.probing.retry };
        self.taken = Some(packet.sender_hardware);
        Some(Conflict::Probed(packet.sender_hardware))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const OWN: ethernet::Address = ethernet::Address([2, 0, 0, 0, 0, 1]);
    const OTHER: ethernet::Address = ethernet::Address([2, 0, 0, 0, 0, 2]);
    const ADDRESS: Address = Address([10, 0, 0, 2]);

    fn detector(probing: Probing) -> Detector {
        Detector::new(OWN, Subnet { address: ADDRESS, prefix: 24 }, probing, Instant::default())
    }

    /// Runs until the address is used; gives the probes sent and the time it took.
    fn until_used(detector: &mut Detector) -> (u32, Duration) {
        let (mut probes, mut now) = (0, Instant::default());
        loop {
            match detector.poll(now) {
                Action::Send(packet) => {
                    assert_eq!((packet.sender, packet.target), (Address::UNSPECIFIED, ADDRESS));
                    probes += 1;
                }
                Action::Use => return (probes, now.since(Instant::default())),
                Action::Taken(other) => panic!("{other} has it"),
                Action::Wait(next) => now = next.expect("probing waits for a moment"),
            }
        }
    }

    /// Row 20: the address is probed before it is used.
    #[test]
    fn an_address_is_probed_before_use() {
        assert_eq!(until_used(&mut detector(Probing::FAST)), (2, Duration::from_millis(10)));
        assert_eq!(until_used(&mut detector(Probing::STANDARD)), (3, Duration::from_secs(6)));
        assert_eq!(until_used(&mut detector(Probing::OFF)), (0, Duration::ZERO));
    }

    #[test]
    fn a_used_address_is_announced_and_then_silent() {
        let mut detector = detector(Probing::FAST);
        let (_, took) = until_used(&mut detector);
        let mut now = Instant::default() + took;
        let mut announcements = 0;
        loop {
            match detector.poll(now) {
                Action::Send(packet) => {
                    assert_eq!((packet.sender, packet.target), (ADDRESS, ADDRESS));
                    announcements += 1;
                }
                Action::Wait(Some(next)) => now = next,
                Action::Wait(None) => break,
                Action::Use => panic!("used twice"),
                Action::Taken(other) => panic!("{other} has it"),
            }
        }
        assert_eq!(announcements, 2);
    }

    #[test]
    fn a_claimed_address_is_not_used_and_tried_again() {
        let mut detector = detector(Probing::FAST);
        assert!(matches!(detector.poll(Instant::default()), Action::Send(_)));
        let claim = Packet::request(OTHER, ADDRESS, ADDRESS);
        assert_eq!(detector.observe(&claim, Instant::default()), Some(Conflict::Probed(OTHER)));
        assert_eq!(detector.poll(Instant::default()), Action::Taken(OTHER));
        let Action::Wait(Some(next)) = detector.poll(Instant::default()) else {
            panic!("used in spite of a conflict")
        };
        assert_eq!(next.since(Instant::default()), Probing::FAST.retry);
        assert_eq!(detector.observe(&claim, Instant::default()), None, "known already");
        assert!(matches!(detector.poll(next), Action::Send(_)));
    }

    #[test]
    fn a_simultaneous_probe_is_a_conflict() {
        let mut detector = detector(Probing::FAST);
        let probe = Packet::request(OTHER, Address::UNSPECIFIED, ADDRESS);
        assert_eq!(detector.observe(&probe, Instant::default()), Some(Conflict::Probed(OTHER)));
    }

    #[test]
    fn a_used_address_is_defended_once_per_interval() {
        let mut detector = detector(Probing { announcements: 0, ..Probing::OFF });
        until_used(&mut detector);
        let claim = Packet::request(OTHER, ADDRESS, ADDRESS);
        let start = Instant::default();
        for (at, defended) in [(0, true), (1, false), (9, false), (10, true)] {
            let now = start + Duration::from_secs(at);
            assert_eq!(detector.observe(&claim, now), Some(Conflict::InUse { other: OTHER, defended }));
            assert_eq!(matches!(detector.poll(now), Action::Send(_)), defended, "after {at} s");
        }
        assert!(detector.is_in_use());
    }

    #[test]
    fn our_own_packets_are_no_conflict() {
        let mut detector = detector(Probing::FAST);
        assert_eq!(detector.observe(&Packet::request(OWN, ADDRESS, ADDRESS), Instant::default()), None);
    }
}
