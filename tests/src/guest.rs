//! Images under QEMU, for system tests: built once, booted one at a time, judged by what they say at their end.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use images::guest::GuestConfiguration;
use images::image::{self, Drivers, Image};
use images::nic::{FarEnd, Nic, Slot};
use images::qemu::Qemu;
use images::readiness::Patience;
use images::wired::WiredGuest;
use lab_wire::{Pace, PingOutcome, PingRequest};

/// The counters of one interface, by name.
pub type Counters = BTreeMap<String, u64>;

/// The image that all tests of this process share.
pub fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| image::build(Drivers::All).unwrap_or_else(|error| panic!("{error}")))
}

/// The QEMU that all tests of this process share.
pub fn qemu() -> &'static Qemu {
    static QEMU: OnceLock<Qemu> = OnceLock::new();
    QEMU.get_or_init(|| Qemu::find().unwrap_or_else(|error| panic!("{error}")))
}

/// A guest with these cards, each on a cable of its own.
#[must_use]
pub fn configuration(nics: &[Nic]) -> GuestConfiguration {
    let slots = (0_u8..).zip(nics).map(|(index, nic)| Slot::new(index, *nic, FarEnd::Cable)).collect();
    GuestConfiguration { slots, ..GuestConfiguration::new(image()) }
}

/// Boots it and waits until every card has its address.
///
/// # Panics
///
/// When it does not come up; the guest's last words are in the message.
#[must_use]
pub fn boot(configuration: &GuestConfiguration) -> WiredGuest {
    let mut guest = WiredGuest::start(qemu(), configuration).unwrap_or_else(|error| panic!("{error}"));
    guest.wait_ready(&Patience::default(), None).unwrap_or_else(|error| panic!("{error}"));
    guest
}

/// Pings the first card, `in_flight` requests under way at once.
///
/// # Panics
///
/// When not every request is answered once and with its own data.
pub fn ping(guest: &mut WiredGuest, count: u64, size: usize, in_flight: usize) -> PingOutcome {
    let destination = guest.address(0).expect("the guest is ready");
    let request = PingRequest {
        pace: Pace::Flood { in_flight },
        // Generous: a lost reply must not be a slow machine.
        timeout: Duration::from_secs(30),
        ..PingRequest::new(destination, count, size)
    };
    let outcome = guest.hosts[0].ping(&request, &mut |_| {}).expect("the guest answers ARP");
    assert!(
        outcome.is_complete() && outcome.sent == count,
        "of {} pings of {size} bytes {} were answered, {} wrongly, {} twice ({:?}). The console:\n{}",
        outcome.sent,
        outcome.replies.len(),
        outcome.corrupted,
        outcome.duplicates,
        outcome.interrupted,
        guest.guest.obituary(),
    );
    outcome
}

/// Presses the power button and returns the counters of each interface in order.
///
/// # Panics
///
/// When the guest does not power off in order.
pub fn power_off(mut guest: WiredGuest) -> Vec<Counters> {
    guest.shut_down().expect("the guest powers off");
    guest.guest.transcript().counters.values().cloned().collect()
}

/// Frames that the interface dropped, for whatever reason.
#[must_use]
pub fn drops(counters: &Counters) -> u64 {
    counters.iter().filter(|(name, _)| name.starts_with("drop_")).map(|(_, value)| value).sum()
}
