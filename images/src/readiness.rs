//! Waiting until a guest has its addresses, and saying meanwhile what it waits for.
//!
//! The guest itself tells what it found and what is missing: a device, a link, a DHCP server. What can come to nothing is
//! not waited for.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::console::{InterfaceState, Ready, Transcript, format_mac};
use crate::error::Error;
use crate::guest::{FOREVER, Guest, SHOWN_LINES};
use crate::output;
use crate::progress::Progress;

/// How long a guest may take to get its addresses: generous, only against a hang.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// How long nothing is said: most guests are ready much sooner.
const SILENCE: Duration = Duration::from_secs(3);

/// The network cards that a guest was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cards {
    /// Station addresses of those that we made.
    pub macs: Vec<[u8; 6]>,
    /// How many were handed to it whose station address is not known.
    pub handed_over: usize,
}

/// What is to be expected of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// Every card has its address.
    Ready,
    /// It is on its way, and waits for this.
    Waiting(String),
    /// There is nothing to wait for any more, for this reason.
    Hopeless(String),
}

impl Cards {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.macs.len() + self.handed_over
    }

    /// What the guest said of the `index`-th card that we made, once it is ready. A card whose station address was
    /// changed by an option is known when all cards are ready.
    #[must_use]
    pub fn ready<'t>(&self, transcript: &'t Transcript, index: usize) -> Option<&'t Ready> {
        if let Some(ready) = transcript.ready_by_mac(*self.macs.get(index)?) {
            return Some(ready);
        }
        let known: Vec<String> = self.macs.iter().map(|mac| format_mac(*mac)).collect();
        let mut strangers: Vec<&Ready> =
            transcript.ready.iter().filter(|ready| !known.contains(&ready.mac)).collect();
        strangers.sort_by(|one, other| one.interface.cmp(&other.interface));
        let unknown = |mac: &[u8; 6]| transcript.ready_by_mac(*mac).is_none();
        let unknown_before = self.macs[..index].iter().filter(|mac| unknown(mac)).count();
        let all_there = strangers.len() >= self.macs.iter().filter(|mac| unknown(mac)).count();
        strangers.get(unknown_before).copied().filter(|_| all_there)
    }

    /// What is to be expected, by what the guest has said.
    #[must_use]
    pub fn outlook(&self, transcript: &Transcript) -> Outlook {
        let all_ready = (0..self.macs.len()).all(|index| self.ready(transcript, index).is_some());
        if transcript.ready.len() >= self.count() && all_ready {
            return Outlook::Ready;
        }
        if !transcript.entered {
            return Outlook::Waiting("the guest to start: it has said nothing of itself".into());
        }
        let count = transcript.interfaces.len();
        let mut text = String::new();
        for (name, state) in &transcript.interfaces {
            if !transcript.ready.iter().any(|ready| ready.interface == *name) {
                let separator = if text.is_empty() { "" } else { "; " };
                // Writing to a string does not fail.
                let _ = write!(text, "{separator}{name} ({}): {}", state.driver, missing(state));
            }
        }
        match transcript.devices_found {
            Some(_) if count == 0 => Outlook::Hopeless(
                "it found no network device that it drives. What it found is on its console, with `no driver` behind \
                 what is unknown to it"
                    .into(),
            ),
            Some(_) if count < self.count() => Outlook::Hopeless(format!(
                "it has {} network cards and drives {count} of them; why not the others is on its console",
                self.count()
            )),
            None if count < self.count() => {
                let separator = if text.is_empty() { "" } else { "; " };
                Outlook::Waiting(format!("{text}{separator}a network device: the guest is still looking for one"))
            }
            _ => Outlook::Waiting(text),
        }
    }
}

/// What an interface without an address waits for.
fn missing(state: &InterfaceState) -> String {
    match (state.link, &state.taken_by, state.discoveries) {
        (false, ..) => "a link (is the cable plugged in, and its other end up?)".into(),
        (true, Some(other), _) => {
            format!("its address, which {other} has; it tries again after a minute")
        }
        (true, None, 0) => "its address".into(),
        (true, None, 1) => "an answer to DHCP".into(),
        (true, None, attempts) => format!(
            "an answer to DHCP, asked {attempts} times (without a DHCP server: --cmdline 'ip=ADDRESS/PREFIX')"
        ),
    }
}

/// How long a guest is waited for, and what ends that early.
#[derive(Clone, Copy, Debug)]
pub struct Patience<'p> {
    /// How long it may take; `None`: as long as it likes.
    pub limit: Option<Duration>,
    /// Set from elsewhere to give up.
    pub stop: Option<&'p AtomicBool>,
    /// Devices may be plugged in later: a guest without one is not hopeless.
    pub hot_plug: bool,
}

impl Default for Patience<'_> {
    /// Generous, only against a hang.
    fn default() -> Self {
        Self { limit: Some(BOOT_LIMIT), stop: None, hot_plug: false }
    }
}

impl Patience<'_> {
    /// Why it is over after that time, if it is.
    fn is_over(&self, elapsed: Duration) -> Option<String> {
        if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return Some(format!("interrupted after {} s, when", elapsed.as_secs()));
        }
        self.limit.filter(|limit| elapsed >= *limit).map(|limit| format!("after {limit:?}"))
    }
}

/// Waits until every card has its address. Options that the image does not understand are named on standard error. When it
/// takes long, what is waited for is shown as `progress`, or written to standard error where there is none. `between` is as
/// in [`Guest::wait_until`], and `observe` sees what was said.
///
/// # Errors
///
/// [`Error::NoAddress`] when there is nothing to wait for any more, or patience is over; [`Error::NoGuest`] or
/// [`Error::GuestDied`].
pub fn wait_ready(
    guest: &mut Guest,
    cards: &Cards,
    patience: &Patience<'_>,
    progress: Option<&Progress>,
    between: &mut dyn FnMut(),
    observe: &mut dyn FnMut(&Transcript),
) -> Result<(), Error> {
    let begin = Instant::now();
    let (mut said, mut problems) = (String::new(), 0);
    let mut failure = None;
    guest.wait_until("readiness", FOREVER, None, between, &mut |transcript| {
        observe(transcript);
        for problem in transcript.option_problems.iter().skip(problems) {
            output::note(format_args!("the image does not understand an option: {problem}"));
        }
        problems = transcript.option_problems.len();
        let text = match cards.outlook(transcript) {
            Outlook::Ready => return true,
            Outlook::Hopeless(why) if !patience.hot_plug => {
                failure = Some(why);
                return true;
            }
            Outlook::Hopeless(_) => "a network device to be plugged in".into(),
            Outlook::Waiting(text) => text,
        };
        let elapsed = begin.elapsed();
        if elapsed >= SILENCE && text != said {
            match progress {
                Some(progress) => progress.say(format!("waiting for {text}")),
                None => output::note(format_args!("waiting for {text}")),
            }
            said.clone_from(&text);
        }
        failure = patience.is_over(elapsed).map(|when| format!("{when} it was still waiting for {text}"));
        failure.is_some()
    })?;
    match failure {
        None => Ok(()),
        Some(why) => {
            let console = guest.transcript().last_lines(SHOWN_LINES);
            Err(Error::NoAddress { why, console })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
    const OTHER: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x57];
    const ENTRY: &str = "@skiff entry version=0.1.0";
    const DEVICE: &str = "@skiff device interface=eth0 driver=rtl8153a mac=52:54:00:12:34:56";
    const UP: &str = "@skiff link interface=eth0 state=up speed_mbps=1000";

    fn transcript(lines: &[&str]) -> Transcript {
        let mut transcript = Transcript::default();
        lines.iter().for_each(|line| transcript.add(line, Instant::now()));
        transcript
    }

    fn outlook(macs: &[[u8; 6]], lines: &[&str]) -> Outlook {
        Cards { macs: macs.to_vec(), handed_over: 0 }.outlook(&transcript(lines))
    }

    /// What a guest with one card waits for.
    fn waits(lines: &[&str]) -> String {
        match outlook(&[MAC], lines) {
            Outlook::Waiting(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_missing_is_told_from_what_the_guest_has_said() {
        assert!(waits(&[]).contains("the guest to start"));
        assert!(waits(&[ENTRY]).contains("still looking"));
        assert!(waits(&[ENTRY, DEVICE]).starts_with("eth0 (rtl8153a): a link"));
        assert_eq!(
            waits(&[ENTRY, DEVICE, UP, "@skiff devices interfaces=1"]),
            "eth0 (rtl8153a): its address"
        );
        let attempt = |attempt| format!("@skiff dhcp interface=eth0 attempt={attempt}");
        assert!(waits(&[ENTRY, DEVICE, UP, &attempt(4)]).contains("DHCP, asked 4 times"));
        let taken = "@skiff taken interface=eth0 address=10.0.0.2 station=02:00:00:00:00:77";
        assert!(waits(&[ENTRY, DEVICE, UP, taken]).contains("02:00:00:00:00:77 has"));
        let down = "@skiff link interface=eth0 state=down";
        assert!(waits(&[ENTRY, DEVICE, UP, &attempt(4), down]).starts_with("eth0 (rtl8153a): a link"));
        assert_eq!(waits(&[ENTRY, DEVICE, UP, &attempt(4), down, UP]), "eth0 (rtl8153a): its address");
    }

    #[test]
    fn without_a_device_there_is_nothing_to_wait_for() {
        let none = "@skiff devices interfaces=0";
        assert!(
            matches!(outlook(&[MAC], &[ENTRY, none]), Outlook::Hopeless(why) if why.contains("no network device"))
        );
        let one = "@skiff devices interfaces=1";
        let why = outlook(&[MAC, OTHER], &[ENTRY, DEVICE, one]);
        assert!(matches!(why, Outlook::Hopeless(why) if why.contains("2 network cards and drives 1")));
    }

    #[test]
    fn a_guest_is_ready_when_every_card_is() {
        let ready = |number: u8, mac: &str| {
            format!("@skiff ready interface=eth{number} driver=x mac={mac} address=10.0.{number}.2 prefix=24")
        };
        let (first, second) = (ready(0, "52:54:00:12:34:56"), ready(1, "52:54:00:12:34:57"));
        assert_eq!(outlook(&[MAC], &[&first]), Outlook::Ready);
        assert!(matches!(outlook(&[MAC, OTHER], &[ENTRY, &second]), Outlook::Waiting(_)));
        assert_eq!(outlook(&[MAC, OTHER], &[&second, &first]), Outlook::Ready);
    }

    /// `mac=` on the image's command line gives the cards other addresses than we know.
    #[test]
    fn a_card_with_another_station_address_is_found_by_elimination() {
        let ready = |number: u8, mac: &str| {
            format!("@skiff ready interface=eth{number} driver=x mac={mac} address=10.0.{number}.2 prefix=24")
        };
        let cards = Cards { macs: vec![MAC, OTHER], handed_over: 0 };
        let address = |transcript: &Transcript, index| {
            cards.ready(transcript, index).map(|ready| ready.address.octets()[2])
        };
        let lines = [ready(1, "02:00:00:00:00:02"), ready(0, "02:00:00:00:00:01")];
        let one = transcript(&[&lines[0]]);
        assert_eq!((address(&one, 0), address(&one, 1)), (None, None));
        let both = transcript(&[&lines[0], &lines[1]]);
        assert_eq!((address(&both, 0), address(&both, 1)), (Some(0), Some(1)));
        let known = transcript(&[&lines[0], &ready(0, "52:54:00:12:34:56")]);
        assert_eq!((address(&known, 0), address(&known, 1)), (Some(0), Some(1)));
    }
}
