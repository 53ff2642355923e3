//! `skiff bench`: what an echo costs.
//!
//! Two guests for each payload size: one for times, and one that counts instructions, which makes it slower. Times are
//! those of this machine at this moment; instruction counts repeat.

mod instructions;

use std::io;
use std::thread;
use std::time::Duration;

use lab_wire::{Pace, PingOutcome, PingRequest};
use serde_json::{Value, json};

pub use instructions::{InstructionCount, InstructionCounter};

use crate::arguments::BenchArguments;
use crate::error::Error;
use crate::guest::GuestConfiguration;
use crate::image;
use crate::nic::{FarEnd, Slot};
use crate::progress::Progress;
use crate::qemu::Qemu;
use crate::report::grouped;
use crate::statistics::Summary;
use crate::wired::WiredGuest;

/// Echoes before anything is measured: the guest has met its peer, QEMU has translated the path.
const WARM_UP: u64 = 300;
/// Echoes that are counted one by one.
const SINGLE: usize = 300;
/// After a single echo the guest may still tidy up before it sleeps.
const SETTLE: Duration = Duration::from_millis(3);
/// How long an idle guest is watched.
const IDLE: Duration = Duration::from_secs(2);
/// Requests under way at once in a flood.
const FLOOD_DEPTH: usize = 32;
/// How long a reply may take: generous, only against a hang.
const REPLY_LIMIT: Duration = Duration::from_secs(30);

/// Counters that tell what an echo costs, beside instructions.
const COSTS: [&str; 4] = ["payload_bytes_copied", "allocations", "interrupts", "doorbells"];

/// What echoes of one size cost.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Bytes of data in each echo.
    pub size: usize,
    /// Round trips, one at a time.
    pub round_trip: Summary,
    /// Answers per second, one at a time.
    pub rate_single: f64,
    /// Answers per second, [`FLOOD_DEPTH`] under way.
    pub rate_flood: f64,
    /// Instructions for one echo that finds the guest idle, median.
    pub instructions_single: u64,
    /// Instructions per echo when the next request follows each reply.
    pub instructions_back_to_back: u64,
    /// Instructions per echo with [`FLOOD_DEPTH`] under way.
    pub instructions_flood: u64,
    /// Instructions until the first reply, those of the firmware included.
    pub instructions_to_first_reply: u64,
    /// Instructions per second of an idle guest.
    pub instructions_idle: u64,
    /// Echoes that the guest counted while times were measured.
    pub echoes: u64,
    /// Of the counters named in [`COSTS`], those that the guest has, from its start to its end.
    pub costs: Vec<(&'static str, u64)>,
}

/// Carries out `skiff bench` and returns what is to be printed.
///
/// # Errors
///
/// What kept a guest from being started or from answering.
pub fn bench(arguments: &BenchArguments) -> Result<String, Error> {
    let image = image::build()?;
    let qemu = Qemu::find()?;
    let counter = InstructionCounter::build(&qemu)?;
    let configuration = GuestConfiguration {
        slots: vec![Slot::new(0, arguments.nic, FarEnd::Cable)],
        command_line: "ip=10.0.0.2/24 gw=10.0.0.1".into(),
        ..GuestConfiguration::new(&image)
    };
    let sizes: Vec<usize> = arguments.size.iter().map(|size| usize::from(*size)).collect();
    let mut measurements = Vec::new();
    for size in sizes {
        let _progress = Progress::new(format!("measuring echoes of {size} bytes"));
        measurements.push(measure(&qemu, &configuration, &counter, size, arguments.count)?);
    }
    Ok(if arguments.json {
        to_json(arguments, image.bytes, &measurements).to_string() + "\n"
    } else {
        to_table(arguments, image.bytes, &measurements)
    })
}

fn measure(
    qemu: &Qemu,
    configuration: &GuestConfiguration,
    counter: &InstructionCounter,
    size: usize,
    count: u64,
) -> Result<Measurement, Error> {
    // Times, without the plugin.
    let mut guest = start(qemu, configuration)?;
    ping(&mut guest, WARM_UP, size, 1)?;
    let single = ping(&mut guest, count, size, 1)?;
    let flood = ping(&mut guest, count, size, FLOOD_DEPTH)?;
    guest.shut_down()?;
    let counters = guest.guest.transcript().counters.values().next().cloned().unwrap_or_default();
    let round_trip = Summary::of(single.replies.iter().map(|reply| reply.round_trip));
    drop(guest);

    // Instructions.
    let mut configuration = configuration.clone();
    configuration.extra_arguments.extend(counter.qemu_arguments());
    let mut guest = start(qemu, &configuration)?;
    let instructions = counter.open()?;
    let read = || instructions.read().map_err(Error::system("cannot read the count of instructions"));
    ping(&mut guest, 1, size, 1)?;
    let first = read()?;
    ping(&mut guest, WARM_UP, size, 1)?;
    thread::sleep(SETTLE);
    let before_idle = read()?;
    thread::sleep(IDLE);
    let idle = read()? - before_idle;
    let mut singles = Vec::with_capacity(SINGLE);
    for _ in 0..SINGLE {
        let before = read()?;
        ping(&mut guest, 1, size, 1)?;
        thread::sleep(SETTLE);
        singles.push(read()? - before);
    }
    singles.sort_unstable();
    let mut per_echo = |in_flight| {
        let before = read()?;
        ping(&mut guest, count, size, in_flight)?;
        thread::sleep(SETTLE);
        Ok::<u64, Error>((read()? - before) / count)
    };
    let back_to_back = per_echo(1)?;
    let flooded = per_echo(FLOOD_DEPTH)?;
    guest.shut_down()?;

    Ok(Measurement {
        size,
        round_trip: round_trip.ok_or_else(|| Error::Usage("--count must be at least 1".into()))?,
        rate_single: rate(&single),
        rate_flood: rate(&flood),
        instructions_single: singles[SINGLE / 2],
        instructions_back_to_back: back_to_back,
        instructions_flood: flooded,
        instructions_to_first_reply: first,
        instructions_idle: idle / IDLE.as_secs(),
        echoes: counters.get("echo_replies").copied().unwrap_or(0),
        costs: COSTS.iter().filter_map(|name| Some((*name, *counters.get(*name)?))).collect(),
    })
}

fn start(qemu: &Qemu, configuration: &GuestConfiguration) -> Result<WiredGuest, Error> {
    let mut guest = WiredGuest::start(qemu, configuration)?;
    guest.wait_ready(None)?;
    Ok(guest)
}

/// Pings; anything but a complete answer is an error: a figure with losses in it means nothing.
fn ping(guest: &mut WiredGuest, count: u64, size: usize, in_flight: usize) -> Result<PingOutcome, Error> {
    let destination = guest.address(0).ok_or_else(|| Error::Usage("the guest has no address".into()))?;
    let request = PingRequest {
        pace: Pace::Flood { in_flight },
        timeout: REPLY_LIMIT,
        ..PingRequest::new(destination, count, size)
    };
    let host = &mut guest.hosts[0];
    let outcome = host.ping(&request, &mut |_| {}).map_err(Error::system(format!("ping {destination}")))?;
    if outcome.is_complete() {
        return Ok(outcome);
    }
    let lost = format!("{} of {} pings were answered", outcome.replies.len(), outcome.sent);
    Err(Error::System { action: "measuring".into(), source: io::Error::other(lost) })
}

#[expect(clippy::cast_precision_loss, reason = "a rate, shown without decimals")]
fn rate(outcome: &PingOutcome) -> f64 {
    outcome.replies.len() as f64 / outcome.elapsed.as_secs_f64().max(1e-9)
}

fn to_json(arguments: &BenchArguments, image_bytes: u64, measurements: &[Measurement]) -> Value {
    let sizes: Vec<Value> = measurements
        .iter()
        .map(|measurement| {
            let costs: serde_json::Map<String, Value> =
                measurement.costs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
            json!({
                "size": measurement.size,
                "rtt_us_median": measurement.round_trip.median.as_secs_f64() * 1e6,
                "replies_per_second": measurement.rate_single.round(),
                "replies_per_second_flood": measurement.rate_flood.round(),
                "instructions_single": measurement.instructions_single,
                "instructions_back_to_back": measurement.instructions_back_to_back,
                "instructions_flood": measurement.instructions_flood,
                "instructions_to_first_reply": measurement.instructions_to_first_reply,
                "instructions_idle_per_second": measurement.instructions_idle,
                "echoes": measurement.echoes,
                "counters": costs,
            })
        })
        .collect();
    json!({ "nic": arguments.nic.to_string(), "image_bytes": image_bytes, "sizes": sizes })
}

fn to_table(arguments: &BenchArguments, image_bytes: u64, measurements: &[Measurement]) -> String {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let mut row = |name: &str, value: &dyn Fn(&Measurement) -> String| {
        rows.push((name.to_owned(), measurements.iter().map(value).collect()));
    };
    row("bytes of data", &|m| m.size.to_string());
    row("instructions per echo, one at a time", &|m| grouped(m.instructions_single));
    row("instructions per echo, back to back", &|m| grouped(m.instructions_back_to_back));
    row(&format!("instructions per echo, {FLOOD_DEPTH} under way"), &|m| grouped(m.instructions_flood));
    row("instructions to the first reply (1)", &|m| grouped(m.instructions_to_first_reply));
    row("instructions per second, idle", &|m| grouped(m.instructions_idle));
    row("round trip, median, us (2)", &|m| format!("{:.1}", m.round_trip.median.as_secs_f64() * 1e6));
    row("replies per second, one at a time (2)", &|m| format!("{:.0}", m.rate_single));
    row(&format!("replies per second, {FLOOD_DEPTH} under way (2)"), &|m| format!("{:.0}", m.rate_flood));
    row("echoes answered for the rows below", &|m| grouped(m.echoes));
    for name in COSTS {
        if measurements.iter().any(|m| m.costs.iter().any(|(cost, _)| *cost == name)) {
            row(name, &|m| {
                let cost = m.costs.iter().find(|(cost, _)| *cost == name);
                cost.map_or_else(String::new, |(_, value)| grouped(*value))
            });
        }
    }
    let mut text = format!("{}, image of {} bytes, QEMU's TCG\n", arguments.nic, grouped(image_bytes));
    for (name, values) in rows {
        text.push_str(&format!("{name:<42}"));
        for value in values {
            text.push_str(&format!("{value:>14}"));
        }
        text.push('\n');
    }
    text.push_str("(1) from the start of QEMU, its firmware included\n");
    text.push_str("(2) of this machine at this moment; instruction counts repeat, times do not\n");
    text
}
