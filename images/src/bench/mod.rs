//! `skiff bench`: what an echo costs.
//!
//! Two guests for each payload size: one for times, and one that counts instructions, which makes it slower. Times are
//! those of this machine at this moment; instruction counts repeat.

mod instructions;
mod peer;

use std::collections::BTreeSet;
use std::io;
use std::thread;
use std::time::Duration;

use lab_wire::{Pace, PingOutcome, PingRequest};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::{Value, json};

pub use instructions::{InstructionCount, InstructionCounter};

use crate::arguments::{BenchArguments, Peer};
use crate::error::Error;
use crate::guest::GuestConfiguration;
use crate::image;
use crate::nic::{FarEnd, Slot};
use crate::progress::Progress;
use crate::qemu::Qemu;
use crate::readiness::Patience;
use crate::report::grouped;
use crate::statistics::Summary;
use crate::wired::WiredGuest;

/// Echoes before anything is measured: the guest has met its peer, QEMU has translated the path.
const WARM_UP: u64 = 300;
/// Echoes that are counted one by one.
const SINGLE: usize = 300;
/// After a single echo the guest may still tidy up before it sleeps.
const SETTLE: Duration = Duration::from_millis(3);
/// By then an image has announced its address for the last time (RFC 5227: two seconds after the first).
const ANNOUNCED: Duration = Duration::from_secs(3);

/// How long an idle guest is watched.
const IDLE: Duration = Duration::from_secs(2);
/// Requests under way at once in a flood.
const FLOOD_DEPTH: usize = 32;
/// How long a reply may take: generous, only against a hang.
const REPLY_LIMIT: Duration = Duration::from_secs(30);

/// Width of a column of the table.
const COLUMN: usize = 14;

/// Counters that tell what an echo costs, beside instructions.
const COSTS: [&str; 4] = ["payload_bytes_copied", "allocations", "interrupts", "doorbells"];

/// What echoes of one size cost.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Who answers them.
    pub guest: String,
    /// Bytes of data in each echo.
    pub size: usize,
    /// Round trips, one at a time.
    pub round_trip: Summary,
    /// Answers per second, one at a time.
    pub rate_single: f64,
    /// Answers per second, `FLOOD_DEPTH` under way.
    pub rate_flood: f64,
    /// Processor time of QEMU per echo, one at a time: of the guest, the machine and its devices together.
    pub processor_single: Duration,
    /// The same with `FLOOD_DEPTH` under way.
    pub processor_flood: Duration,
    /// Instructions for one echo that finds the guest idle, median.
    pub instructions_single: u64,
    /// Instructions per echo when the next request follows each reply.
    pub instructions_back_to_back: u64,
    /// Instructions per echo with `FLOOD_DEPTH` under way.
    pub instructions_flood: u64,
    /// Instructions until the first reply, those of the firmware included.
    pub instructions_to_first_reply: u64,
    /// Instructions per second of an idle guest.
    pub instructions_idle: u64,
    /// Echoes that the guest counted while times were measured.
    pub echoes: u64,
    /// Of the counters named in `COSTS`, those that the guest has, from its start to its end.
    pub costs: Vec<(&'static str, u64)>,
}

/// Carries out `skiff bench` and returns what is to be printed.
///
/// # Errors
///
/// What kept a guest from being started or from answering.
pub fn bench(arguments: &BenchArguments) -> Result<String, Error> {
    arguments.nic.check_driven_by(arguments.drivers)?;
    let qemu = Qemu::find()?;
    let image = image::build(arguments.drivers)?;
    let counter = InstructionCounter::build(&qemu)?;
    let configuration = GuestConfiguration {
        slots: vec![Slot::new(0, arguments.nic, FarEnd::Cable)],
        command_line: "ip=10.0.0.2/24 gw=10.0.0.1".into(),
        ..GuestConfiguration::new(&image)
    };
    let sizes: Vec<usize> = arguments.size.iter().map(|size| usize::from(*size)).collect();
    let peer = match arguments.peer {
        Some(Peer::Linux) => Some(peer::linux(arguments.nic)?),
        None => None,
    };
    let mut subjects = vec![("Skiff".to_owned(), configuration)];
    if let Some((name, prepared)) = &peer {
        let slots = vec![Slot::new(0, arguments.nic, FarEnd::Cable)];
        subjects.push((name.clone(), GuestConfiguration { slots, ..prepared.configuration.clone() }));
    }
    let mut measurements = Vec::new();
    for size in sizes {
        for (name, configuration) in &subjects {
            let _progress = Progress::new(format!("measuring echoes of {size} bytes, answered by {name}"));
            let measured = measure(&qemu, name, configuration, &counter, size, arguments.count)?;
            measurements.push(measured);
        }
    }
    Ok(if arguments.json {
        to_json(arguments, image.bytes, &measurements).to_string() + "\n"
    } else {
        to_table(arguments, image.bytes, &measurements)
    })
}

fn measure(
    qemu: &Qemu,
    name: &str,
    configuration: &GuestConfiguration,
    counter: &InstructionCounter,
    size: usize,
    count: u64,
) -> Result<Measurement, Error> {
    // Times, without the plugin.
    let mut guest = start(qemu, configuration)?;
    ping(&mut guest, WARM_UP, size, 1)?;
    let started = processor_time(guest.guest.process_id())?;
    let single = ping(&mut guest, count, size, 1)?;
    let middle = processor_time(guest.guest.process_id())?;
    let flood = ping(&mut guest, count, size, FLOOD_DEPTH)?;
    let ended = processor_time(guest.guest.process_id())?;
    end(&mut guest)?;
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
    guest.wait_settled()?;
    thread::sleep(ANNOUNCED);
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
    end(&mut guest)?;

    let per_echo = |time: Duration| time.div_f64(count.max(1) as f64);
    Ok(Measurement {
        guest: name.to_owned(),
        processor_single: per_echo(middle.saturating_sub(started)),
        processor_flood: per_echo(ended.saturating_sub(middle)),
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
    guest.wait_ready(&Patience::default(), None)?;
    Ok(guest)
}

/// Ends a guest: an image of ours in order, so that it prints its counters. A peer knows no power button.
fn end(guest: &mut WiredGuest) -> Result<(), Error> {
    let ours = guest.guest.transcript().lines().any(|line| line.starts_with("@skiff entry "));
    if ours { guest.shut_down() } else { Ok(()) }
}

/// Processor time that a process has used, its threads and the system's work for it included.
fn processor_time(process: u32) -> Result<Duration, Error> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).map_err(Error::system(format!("cannot read {path}")))?;
    // The program's name, in parentheses, may hold anything. Of what follows, the 12th and 13th are user and system time.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
    Ok(Duration::from_micros(ticks * 1_000_000 / per_second.unwrap_or(100).max(1)))
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
    let answered: BTreeSet<u64> = outcome.replies.iter().map(|reply| reply.sequence).collect();
    let lost: Vec<u64> =
        (1..=outcome.sent).filter(|sequence| !answered.contains(sequence)).take(10).collect();
    let lost = format!("{} of {} pings were answered; lost: {lost:?}", outcome.replies.len(), outcome.sent);
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
                "guest": measurement.guest,
                "qemu_processor_us": measurement.processor_single.as_secs_f64() * 1e6,
                "qemu_processor_us_flood": measurement.processor_flood.as_secs_f64() * 1e6,
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
    if arguments.peer.is_some() {
        row("", &|m| m.guest.chars().take(COLUMN - 2).collect());
    }
    row("bytes of data", &|m| m.size.to_string());
    row("instructions per echo, one at a time", &|m| grouped(m.instructions_single));
    row("instructions per echo, back to back", &|m| grouped(m.instructions_back_to_back));
    row(&format!("instructions per echo, {FLOOD_DEPTH} under way"), &|m| grouped(m.instructions_flood));
    row("instructions to the first reply (1)", &|m| grouped(m.instructions_to_first_reply));
    row("instructions per second, idle", &|m| grouped(m.instructions_idle));
    row("round trip, median, us (2)", &|m| format!("{:.1}", m.round_trip.median.as_secs_f64() * 1e6));
    row("replies per second, one at a time (2)", &|m| format!("{:.0}", m.rate_single));
    row(&format!("replies per second, {FLOOD_DEPTH} under way (2)"), &|m| format!("{:.0}", m.rate_flood));
    let microseconds = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e6);
    row("QEMU's processor time per echo, one at a time, us (2)", &|m| microseconds(m.processor_single));
    row(&format!("QEMU's processor time per echo, {FLOOD_DEPTH} under way, us (2)"), &|m| {
        microseconds(m.processor_flood)
    });
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
        let mut line = format!("{name:<56}");
        for value in values {
            line.push_str(&format!("{value:>COLUMN$}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str("(1) from the start of QEMU, its firmware included\n");
    text.push_str("(2) of this machine at this moment; instruction counts repeat, times do not\n");
    text
}
