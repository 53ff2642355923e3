//! The summary of a run, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::statistics::Summary;

/// Counters of which nothing is the best news: what echoes cost in copies and in memory.
const SHOWN_AT_ZERO: [&str; 2] = ["allocations", "payload_bytes_copied"];

/// What a run showed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The network cards, joined by commas.
    pub nic: String,
    /// Echo requests sent.
    pub sent: u64,
    /// Of which so many were answered.
    pub received: u64,
    /// Answers whose data was not what was sent, and answers that came twice.
    pub spoiled: u64,
    /// Answers per second, for a flood.
    pub replies_per_second: Option<f64>,
    /// Round-trip times.
    pub round_trip: Option<Summary>,
    /// From the start of QEMU until the first answer was here.
    pub vmm_to_first_reply: Option<Duration>,
    /// From the guest's first instruction until its first answer was handed to the device.
    pub guest_entry_to_first_reply: Option<Duration>,
    /// Length of the stripped image.
    pub image_bytes: u64,
    /// Memory the guest used, as it counted at its end.
    pub guest_memory_bytes: Option<u64>,
    /// Memory the guest had, in MiB.
    pub memory: u32,
    /// The guest's counters, by interface.
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Report {
    /// Every request was answered, once and with its own data.
    #[must_use]
    pub fn all_answered(&self) -> bool {
        self.sent == self.received && self.spoiled == 0
    }

    /// One object; times in microseconds or milliseconds as the names say. Counters are those of the interface when there
    /// is one; of several interfaces each name begins with `INTERFACE.`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let several = self.counters.len() > 1;
        let counters: Map<String, Value> = self
            .counters
            .iter()
            .flat_map(|(interface, counters)| {
                counters.iter().map(move |(name, value)| {
                    (if several { format!("{interface}.{name}") } else { name.clone() }, json!(value))
                })
            })
            .collect();
        let round_trip = self.round_trip.map(|summary| {
            json!({
                "min": microseconds(summary.minimum),
                "median": microseconds(summary.median),
                "p99": microseconds(summary.percentile_99),
                "max": microseconds(summary.maximum),
            })
        });
        json!({
            "nic": self.nic,
            "sent": self.sent,
            "received": self.received,
            "rtt_us": round_trip,
            "vmm_to_first_reply_ms": self.vmm_to_first_reply.map(milliseconds),
            "guest_entry_to_first_reply_ms": self.guest_entry_to_first_reply.map(milliseconds),
            "image_bytes": self.image_bytes,
            "guest_memory_bytes": self.guest_memory_bytes,
            "counters": counters,
        })
    }
}

fn microseconds(duration: Duration) -> f64 {
    round(duration.as_secs_f64() * 1e6)
}

fn milliseconds(duration: Duration) -> f64 {
    round(duration.as_secs_f64() * 1e3)
}

/// To three places.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Thousands apart, so that large numbers can be read.
#[must_use]
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = || "unknown".to_owned();
        writeln!(formatter, "--- {} ---", self.nic)?;
        if self.sent > 0 {
            let lost = self.sent - self.received.min(self.sent);
            write!(formatter, "pings         {} sent, {} received, {lost} lost", self.sent, self.received)?;
            if self.spoiled > 0 {
                write!(formatter, ", {} wrong or twice", self.spoiled)?;
            }
            if let Some(rate) = self.replies_per_second {
                write!(formatter, ", {rate:.0} replies/s")?;
            }
            writeln!(formatter)?;
        }
        if let Some(times) = self.round_trip {
            writeln!(
                formatter,
                "round trip    min {:.3} ms, median {:.3} ms, p99 {:.3} ms, max {:.3} ms",
                milliseconds(times.minimum),
                milliseconds(times.median),
                milliseconds(times.percentile_99),
                milliseconds(times.maximum)
            )?;
        }
        let show = |duration: Option<Duration>| {
            duration.map_or_else(unknown, |duration| format!("{:.1} ms", milliseconds(duration)))
        };
        if self.vmm_to_first_reply.is_some() || self.guest_entry_to_first_reply.is_some() {
            writeln!(
                formatter,
                "first reply   {} after QEMU was started, {} after the guest's first instruction",
                show(self.vmm_to_first_reply),
                show(self.guest_entry_to_first_reply)
            )?;
        }
        writeln!(formatter, "image         {} bytes, stripped", grouped(self.image_bytes))?;
        let used = self.guest_memory_bytes.map_or_else(unknown, |bytes| format!("{} bytes", grouped(bytes)));
        writeln!(formatter, "memory        {used} used of {} MiB", self.memory)?;
        for (interface, counters) in &self.counters {
            let mut label = format!("{interface:<13}");
            // Several to a line; what never happened is left out, unless that is what matters.
            let shown: Vec<String> = counters
                .iter()
                .filter(|(name, value)| **value != 0 || SHOWN_AT_ZERO.contains(&name.as_str()))
                .map(|(name, value)| format!("{name} {}", grouped(*value)))
                .collect();
            for line in shown.chunks(4) {
                writeln!(formatter, "{label} {}", line.join(", "))?;
                label = " ".repeat(13);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let time = Duration::from_micros(250);
        Report {
            nic: "virtio".into(),
            sent: 10,
            received: 10,
            round_trip: Summary::of([time]),
            vmm_to_first_reply: Some(Duration::from_millis(180)),
            image_bytes: 123_456,
            memory: 32,
            counters: [("eth0".to_owned(), [("echoes".to_owned(), 10), ("drops".to_owned(), 0)].into())]
                .into(),
            ..Report::default()
        }
    }

    #[test]
    fn json_has_the_agreed_names_on_one_line() {
        let value = report().to_json();
        let names: Vec<&String> = value.as_object().unwrap().keys().collect();
        let mut agreed = [
            "nic",
            "sent",
            "received",
            "rtt_us",
            "vmm_to_first_reply_ms",
            "guest_entry_to_first_reply_ms",
            "image_bytes",
            "guest_memory_bytes",
            "counters",
        ];
        agreed.sort_unstable();
        assert_eq!(names, agreed.iter().collect::<Vec<_>>());
        assert_eq!(value["rtt_us"]["median"], 250.0);
        assert_eq!(value["counters"]["drops"], 0);
        assert!(value["guest_entry_to_first_reply_ms"].is_null());
        assert!(!value.to_string().contains('\n'));
    }

    #[test]
    fn counters_of_several_interfaces_are_told_apart() {
        let mut report = report();
        report.counters.insert("eth1".into(), [("echoes".to_owned(), 3)].into());
        let counters = &report.to_json()["counters"];
        assert_eq!((counters["eth0.echoes"].as_u64(), counters["eth1.echoes"].as_u64()), (Some(10), Some(3)));
    }

    #[test]
    fn a_lost_or_a_wrong_answer_is_not_all_answered() {
        assert!(report().all_answered());
        assert!(!Report { received: 9, ..report() }.all_answered());
        assert!(!Report { spoiled: 1, ..report() }.all_answered());
    }

    #[test]
    fn the_table_leaves_out_what_never_happened() {
        let text = report().to_string();
        assert!(text.contains("echoes 10") && !text.contains("drops"), "{text}");
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(grouped(12), "12");
    }
}
