//! `skiff run`: boot, ping, report; or hold a tap or a console until told to end.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab_wire::{EchoReply, Host, Pace, PingOutcome, PingRequest};

use crate::arguments::RunArguments;
use crate::error::Error;
use crate::guest::{Guest, GuestConfiguration};
use crate::image::{self, Image};
use crate::news::News;
use crate::nic::{FarEnd, Nic, Slot};
use crate::output;
use crate::passed_through::{usb_controller_arguments, usb_device_arguments};
use crate::progress::Progress;
use crate::qemu::Qemu;
use crate::readiness::{Cards, Patience, wait_ready};
use crate::report::Report;
use crate::statistics::Summary;
use crate::stop;
use crate::tap::Tap;
use crate::wired::{POWER_OFF_LIMIT, WiredGuest};

/// Requests under way at once in a flood.
const FLOOD_DEPTH: usize = 32;

/// How long a reply may take before its request counts as lost: generous, machines stall.
const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// A pause between two looks at a guest that nothing else waits for.
const GLANCE: Duration = Duration::from_millis(20);

/// How long a guest that is to be pinged may take to get its address, when nothing else was said.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// What a run came to: its report, as far as it got, and what went wrong.
pub struct RunOutcome {
    /// The summary; `None` when the guest never got its address.
    pub report: Option<Report>,
    /// Why it ended otherwise than asked.
    pub failure: Option<Error>,
}

/// Carries out `skiff run`; replies and `ready:` lines go to standard output.
///
/// # Errors
///
/// What kept the guest from being started. What happens to it later is in the outcome.
pub fn run(arguments: &RunArguments) -> Result<RunOutcome, Error> {
    // Before the image is built: what does not go together or is not there is told at once.
    let slots = slots(arguments)?;
    slots.iter().try_for_each(|slot| slot.nic.check_driven_by(arguments.drivers))?;
    let passed_through = passed_through(arguments)?;
    let mut command_line = arguments.cmdline.clone();
    let several = slots.len() > 1 || passes_through(arguments);
    let taps = arguments.tap.iter().map(|name| Tap::prepare(name, several, &mut command_line));
    let taps = taps.collect::<Result<Vec<Tap>, Error>>()?;
    let qemu = Qemu::find()?;
    let image = image::build(arguments.drivers)?;
    let configuration = GuestConfiguration {
        machine: arguments.machine,
        memory: arguments.memory,
        slots,
        command_line,
        extra_arguments: passed_through,
        ..GuestConfiguration::new(&image)
    };
    if arguments.tap.is_empty() && !arguments.interactive && !passes_through(arguments) {
        run_pings(arguments, &qemu, &configuration, &image)
    } else {
        run_held(arguments, &qemu, &configuration, &image, &taps)
    }
}

/// Whether hardware of this machine is handed to the guest.
fn passes_through(arguments: &RunArguments) -> bool {
    !arguments.usb_host.is_empty() || !arguments.usb_controller.is_empty()
}

/// QEMU's arguments for the hardware that is handed to the guest.
fn passed_through(arguments: &RunArguments) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    for (index, device) in arguments.usb_host.iter().enumerate() {
        all.extend(usb_device_arguments(index, device)?);
    }
    for address in &arguments.usb_controller {
        all.extend(usb_controller_arguments(address)?);
    }
    Ok(all)
}

/// The cards and what each is plugged into.
fn slots(arguments: &RunArguments) -> Result<Vec<Slot>, Error> {
    let mut nics = arguments.nic.clone();
    if nics.is_empty() && !(passes_through(arguments) && arguments.tap.is_empty()) {
        nics = vec![Nic::Rtl8153; arguments.tap.len().max(1)];
    }
    if !arguments.tap.is_empty() && arguments.tap.len() != nics.len() {
        let (taps, cards) = (arguments.tap.len(), nics.len());
        return Err(Error::Usage(format!(
            "{cards} network cards need {cards} taps; --tap was given {taps} times"
        )));
    }
    let mut taps = arguments.tap.iter();
    let slots = (0_u8..).zip(nics).map(|(index, nic)| {
        let far_end = taps.next().map_or(FarEnd::Cable, |name| FarEnd::Tap(name.clone()));
        Slot::new(index, nic, far_end)
    });
    Ok(slots.collect())
}

fn new_report(configuration: &GuestConfiguration, image: &Image) -> Report {
    let nics: Vec<String> = configuration.slots.iter().map(|slot| slot.nic.to_string()).collect();
    Report {
        nic: nics.join(","),
        image_bytes: image.bytes,
        memory: configuration.memory,
        ..Report::default()
    }
}

/// What the guest itself told, once it is off.
fn complete(report: &mut Report, guest: &mut Guest) {
    let transcript = guest.transcript();
    report.guest_memory_bytes = transcript.memory_used;
    report.counters = transcript.counters.clone();
    let first = transcript.first_reply.values().min_by_key(|first| first.since_entry).copied();
    report.guest_entry_to_first_reply = first.map(|first| first.since_entry);
    if report.vmm_to_first_reply.is_none() {
        // On a tap nobody here sees the reply; the guest's word on it arrives a moment later.
        report.vmm_to_first_reply = first.map(|first| first.seen.duration_since(guest.started()));
    }
}

/// From now on a signal ends the run in order. Before a guest runs it simply ends this process.
fn on_signal() -> Result<Arc<AtomicBool>, Error> {
    stop::on_signal().map_err(Error::system("cannot install signal handlers"))
}

fn run_pings(
    arguments: &RunArguments,
    qemu: &Qemu,
    configuration: &GuestConfiguration,
    image: &Image,
) -> Result<RunOutcome, Error> {
    let mut wired = WiredGuest::start(qemu, configuration)?;
    let stop = &*on_signal()?;
    {
        let progress = Progress::new("booting the image in QEMU");
        let limit = Some(arguments.wait.unwrap_or(READY_LIMIT));
        let patience = Patience { limit, stop: Some(stop), hot_plug: false };
        if let Err(failure) = wired.wait_ready(&patience, Some(&progress)) {
            return Ok(RunOutcome { report: None, failure: Some(failure) });
        }
    }
    let started = wired.guest.started();
    let pinged = ping_all(arguments, &mut wired, stop);
    let mut report = new_report(configuration, image);
    let mut round_trips = Vec::new();
    let mut failure = None;
    let mut rate = 0.0;
    for result in pinged {
        match result {
            Ok((outcome, first)) => {
                report.sent += outcome.sent;
                report.received += outcome.replies.len() as u64;
                report.spoiled += outcome.corrupted + outcome.duplicates;
                round_trips.extend(outcome.replies.iter().map(|reply| reply.round_trip));
                #[expect(clippy::cast_precision_loss, reason = "a rate, shown without decimals")]
                let replies = outcome.replies.len() as f64;
                rate += replies / outcome.elapsed.as_secs_f64().max(1e-9);
                let first = first.map(|first| first.duration_since(started));
                report.vmm_to_first_reply = report.vmm_to_first_reply.into_iter().chain(first).min();
            }
            Err(error) => failure = Some(error),
        }
    }
    report.round_trip = Summary::of(round_trips);
    report.replies_per_second = arguments.flood.then_some(rate);
    if let Err(error) = wired.shut_down() {
        // That the guest died explains more than that its cable was pulled.
        failure = Some(error);
    }
    complete(&mut report, &mut wired.guest);
    Ok(RunOutcome { report: Some(report), failure })
}

/// What became of the pings to one card, and when its first reply arrived.
type Pinged = Result<(PingOutcome, Option<Instant>), Error>;

/// Pings all cards at once, each from a thread of its own.
fn ping_all(arguments: &RunArguments, wired: &mut WiredGuest, stop: &AtomicBool) -> Vec<Pinged> {
    let pace = if arguments.flood {
        Pace::Flood { in_flight: FLOOD_DEPTH }
    } else {
        Pace::Interval(arguments.interval)
    };
    let addresses: Vec<_> = (0..wired.hosts.len()).map(|card| wired.address(card)).collect();
    let show = !arguments.json && !arguments.flood;
    let ping = |host: &mut Host, destination| -> Pinged {
        if show {
            output::line(format_args!("PING {destination}: {} bytes of data", arguments.size));
        }
        let request = PingRequest {
            pace,
            timeout: REPLY_LIMIT,
            stop: Some(stop),
            ..PingRequest::new(destination, arguments.count, arguments.size.into())
        };
        let mut first = None;
        let mut observe = |reply: &EchoReply| {
            first.get_or_insert_with(Instant::now);
            if show {
                output::line(format_args!(
                    "{} bytes from {}: icmp_seq={} ttl={} time={:.3} ms",
                    reply.bytes,
                    reply.source,
                    reply.sequence,
                    reply.time_to_live,
                    reply.round_trip.as_secs_f64() * 1e3
                ));
            }
        };
        let outcome =
            host.ping(&request, &mut observe).map_err(Error::system(format!("ping {destination}")))?;
        Ok((outcome, first))
    };
    thread::scope(|scope| {
        let runs: Vec<_> = wired
            .hosts
            .iter_mut()
            .zip(addresses)
            .filter_map(|(host, address)| Some((host, address?)))
            .map(|(host, destination)| scope.spawn(move || ping(host, destination)))
            .collect();
        runs.into_iter()
            .map(|run| run.join().unwrap_or_else(|_| Err(Error::Usage("a ping thread panicked".into()))))
            .collect()
    })
}

/// With `--tap`, `--usb-host`, `--usb-controller` or `--interactive`: says when the guest is ready, then waits.
fn run_held(
    arguments: &RunArguments,
    qemu: &Qemu,
    configuration: &GuestConfiguration,
    image: &Image,
    taps: &[Tap],
) -> Result<RunOutcome, Error> {
    let (mut guest, mut hosts) = if taps.is_empty() {
        let wired = WiredGuest::start(qemu, configuration)?;
        (wired.guest, wired.hosts)
    } else {
        (Guest::start(qemu, configuration)?.0, Vec::new())
    };
    let begin = guest.started();
    let stop = &*on_signal()?;
    for tap in taps {
        // If QEMU could not attach to it, its own words say more than ours.
        if let Err(error) = tap.bring_up(&mut || guest.exit_status().is_some()) {
            return Err(if guest.exit_status().is_some() { guest.death() } else { error });
        }
    }
    if arguments.interactive {
        guest.show_console();
        forward_input(&guest)?;
    }
    let mut serve = || {
        for host in &mut hosts {
            // The end of the guest is seen elsewhere.
            let _ = host.serve(Duration::from_millis(1));
        }
        thread::sleep(GLANCE);
    };

    let cards = Cards {
        handed_over: arguments.usb_host.len() + arguments.usb_controller.len(),
        ..configuration.cards()
    };
    let mut news = News::default();
    let patience = Patience {
        limit: arguments.wait.into_iter().chain(arguments.duration).min(),
        stop: Some(stop),
        hot_plug: arguments.interactive,
    };
    let ready =
        wait_ready(&mut guest, &cards, &patience, None, &mut serve, &mut |transcript| news.tell(transcript));
    let no_address = match ready {
        Ok(()) => None,
        Err(failure @ Error::NoAddress { .. }) => Some(failure),
        Err(failure) => return Ok(RunOutcome { report: None, failure: Some(failure) }),
    };
    while no_address.is_none()
        && guest.exit_status().is_none()
        && !stop.load(Ordering::Relaxed)
        && arguments.duration.is_none_or(|duration| begin.elapsed() < duration)
    {
        serve();
        news.tell(guest.transcript());
    }
    let failure = guest.shut_down(POWER_OFF_LIMIT, &mut serve).err();
    let mut report = new_report(configuration, image);
    complete(&mut report, &mut guest);
    Ok(RunOutcome { report: Some(report), failure: failure.or(no_address) })
}

/// Sends what is typed to the guest's serial input.
fn forward_input(guest: &Guest) -> Result<(), Error> {
    let mut input = guest.console_input()?;
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if writeln!(input, "{line}").is_err() {
                return;
            }
        }
    });
    Ok(())
}
