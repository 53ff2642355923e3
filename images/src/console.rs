//! What the guest says on its serial console: log lines for people, and `@skiff` lines for this tool.
//!
//! An `@skiff` line is a word and pairs `key=value`; spaces, control characters and `%` in values are escaped as `%`
//! and two hexadecimal digits.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Lines kept for when the guest dies.
const KEPT_LINES: usize = 400;

/// Longest line that is kept whole, in bytes.
const LONGEST_LINE: usize = 16 * 1024;

/// One `@skiff` line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// What it is about: `ready`, `counters`, `exception`, ...
    pub word: String,
    /// Its pairs, values unescaped.
    pub values: BTreeMap<String, String>,
    /// What stands alone after the word (`return-address 0x1234`).
    pub arguments: Vec<String>,
}

impl Event {
    /// Reads a console line; `None` for a log line.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut parts = line.trim_end().strip_prefix("@skiff ")?.split_ascii_whitespace();
        let mut event = Self { word: parts.next()?.to_owned(), ..Self::default() };
        for part in parts {
            match part.split_once('=') {
                Some((key, value)) => {
                    event.values.insert(key.to_owned(), unescape(value));
                }
                None => event.arguments.push(unescape(part)),
            }
        }
        Some(event)
    }

    /// A value as it stands.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// A decimal value, or a hexadecimal one that begins with `0x`.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        number(self.text(key)?)
    }
}

/// A decimal number, or a hexadecimal one that begins with `0x`.
#[must_use]
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => std::str::from_utf8(&[*high, *low])
                .ok()
                .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the guest has told of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceState {
    /// The driver's name.
    pub driver: String,
    /// Whether its device has a link.
    pub link: bool,
    /// How often a DHCP server was looked for since the link came up.
    pub discoveries: u64,
    /// The station that has the address which the interface was to use.
    pub taken_by: Option<String>,
}

/// An interface that has its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// `eth0`, ...
    pub interface: String,
    /// The driver's name.
    pub driver: String,
    /// Its station address, as the guest writes it.
    pub mac: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// The guest's word on its first echo reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstReply {
    /// From the guest's first instruction until the reply was handed to the device.
    pub since_entry: Duration,
    /// When the line arrived here.
    pub seen: Instant,
}

/// All that the guest has said so far.
#[derive(Debug, Default)]
pub struct Transcript {
    lines: VecDeque<String>,
    /// The image runs.
    pub entered: bool,
    /// Options on the image's command line that it does not understand; its words.
    pub option_problems: Vec<String>,
    /// The interfaces there are, by name.
    pub interfaces: BTreeMap<String, InterfaceState>,
    /// How many interfaces there were when everything that was plugged in at the start had been looked at.
    pub devices_found: Option<u64>,
    /// Interfaces that have their address, the latest word on each.
    pub ready: Vec<Ready>,
    /// The first echo reply of each interface.
    pub first_reply: BTreeMap<String, FirstReply>,
    /// The latest counters of each interface.
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
    /// Bytes of memory in use, as the guest counts at its end.
    pub memory_used: Option<u64>,
    /// Why the guest ended, once it has said so.
    pub exit_reason: Option<String>,
    /// What a panic or an exception left behind: those lines, in order.
    pub failure: Vec<Event>,
}

impl Transcript {
    /// Takes in one line that arrived at that time.
    pub fn add(&mut self, line: &str, seen: Instant) {
        let mut end = line.len().min(LONGEST_LINE);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        if self.lines.len() == KEPT_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line[..end].to_owned());
        if let Some(event) = Event::parse(line) {
            self.interpret(event, seen);
        }
    }

    fn interpret(&mut self, event: Event, seen: Instant) {
        let interface = event.text("interface").unwrap_or_default().to_owned();
        match event.word.as_str() {
            "entry" => self.entered = true,
            "device" => {
                let driver = event.text("driver").unwrap_or_default().to_owned();
                self.interfaces.insert(interface, InterfaceState { driver, ..InterfaceState::default() });
            }
            "option" => self.option_problems.extend(event.text("problem").map(str::to_owned)),
            "devices" => self.devices_found = event.number("interfaces"),
            "link" => {
                let state = self.interfaces.entry(interface).or_default();
                state.link = event.text("state") == Some("up");
                (state.discoveries, state.taken_by) = (0, None);
            }
            "dhcp" => {
                self.interfaces.entry(interface).or_default().discoveries =
                    event.number("attempt").unwrap_or(0);
            }
            "taken" => {
                let other = event.text("station").unwrap_or("another station").to_owned();
                self.interfaces.entry(interface).or_default().taken_by = Some(other);
            }
            "ready" => {
                let Some(address) = event.text("address").and_then(|address| address.parse().ok()) else {
                    return;
                };
                let text = |key| event.text(key).unwrap_or_default().to_owned();
                self.ready.retain(|ready| ready.interface != interface);
                self.ready.push(Ready { interface, driver: text("driver"), mac: text("mac"), address });
            }
            "first-reply" => {
                if let Some(microseconds) = event.number("since_entry_us") {
                    let since_entry = Duration::from_micros(microseconds);
                    self.first_reply.entry(interface).or_insert(FirstReply { since_entry, seen });
                }
            }
            "counters" => {
                let counters = self.counters.entry(interface).or_default();
                for (key, value) in &event.values {
                    if let Some(value) = number(value) {
                        counters.insert(key.clone(), value);
                    }
                }
            }
            "memory" => self.memory_used = event.number("used_bytes"),
            "exit" => self.exit_reason = event.text("reason").map(str::to_owned),
            "exception" | "panic" | "return-address" | "stack" => self.failure.push(event),
            _ => {}
        }
    }

    /// The interface with this station address, once it is ready.
    #[must_use]
    pub fn ready_by_mac(&self, mac: [u8; 6]) -> Option<&Ready> {
        let text = format_mac(mac);
        self.ready.iter().find(|ready| ready.mac.eq_ignore_ascii_case(&text))
    }

    /// The last `count` lines, each indented; those that only this tool reads are left out.
    #[must_use]
    pub fn last_lines(&self, count: usize) -> String {
        let readable: Vec<&String> = self
            .lines
            .iter()
            .filter(|line| !line.starts_with("@skiff stack") && !line.starts_with("@skiff return-address"))
            .collect();
        let skip = readable.len().saturating_sub(count);
        readable[skip..].iter().map(|line| format!("    {line}\n")).collect()
    }

    /// All lines that are kept, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

/// As the guest writes a station address: lower-case pairs and colons.
#[must_use]
pub fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_ready_line_names_interface_and_address() {
        let mut transcript = Transcript::default();
        transcript.add(
            "@skiff ready interface=eth0 driver=virtio-net mac=52:54:00:12:34:56 address=10.0.0.2 prefix=24",
            Instant::now(),
        );
        let ready = transcript.ready_by_mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]).unwrap();
        assert_eq!((ready.interface.as_str(), ready.address), ("eth0", Ipv4Addr::new(10, 0, 0, 2)));
    }

    #[test]
    fn later_counters_replace_earlier_ones() {
        let mut transcript = Transcript::default();
        transcript.add("@skiff counters interface=eth0 echoes=1 drops=0", Instant::now());
        transcript.add("@skiff counters interface=eth0 echoes=5 drops=2", Instant::now());
        assert_eq!(transcript.counters["eth0"]["echoes"], 5);
        assert_eq!(transcript.counters["eth0"]["drops"], 2);
    }

    #[test]
    fn counters_of_an_interface_and_of_its_driver_with_one_name_are_both_kept() {
        let mut transcript = Transcript::default();
        transcript.add("@skiff counters interface=eth0 rx_frames=5 driver_rx_frames=7", Instant::now());
        let counters = &transcript.counters["eth0"];
        assert_eq!((counters["rx_frames"], counters["driver_rx_frames"]), (5, 7));
    }

    #[test]
    fn options_that_the_image_does_not_understand_are_kept() {
        let mut transcript = Transcript::default();
        transcript.add("@skiff option problem=option%20%22ip=x%22%20ignored", Instant::now());
        assert_eq!(transcript.option_problems, ["option \"ip=x\" ignored"]);
    }

    #[test]
    fn escapes_in_values_are_undone() {
        let event = Event::parse("@skiff panic message=index%205%0aout%25%zz").unwrap();
        assert_eq!(event.text("message"), Some("index 5\nout%%zz"));
    }

    #[test]
    fn a_log_line_is_no_event() {
        assert_eq!(Event::parse("[info] @skiff is quoted here"), None);
    }

    proptest! {
        #[test]
        fn any_line_is_taken_in_without_a_panic(line: String, tail: String) {
            let mut transcript = Transcript::default();
            transcript.add(&line, Instant::now());
            transcript.add(&format!("@skiff {tail}"), Instant::now());
            let _ = transcript.last_lines(5);
        }
    }
}
