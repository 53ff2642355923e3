//! `skiff oracle passthrough`: USB passthrough for real, on a machine that need not have any USB.
//!
//! ```text
//! virtual adapter <- usbredir -> xHCI of the outer QEMU <- Linux, usbfs -> libusb <- inner QEMU, usb-host -> image
//! ```
//!
//! Pings from our side of the adapter's cable cross both layers. Then the adapter is unplugged and plugged in again in
//! the outer layer, under a ping flood, and the image in the inner one has to answer again.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use lab_rtl8152::{Config, Disconnect, Version};
use lab_wire::{Cable, Host, HostConfiguration, Pace, PingOutcome, PingRequest};

use crate::console::Transcript;
use crate::dongle::{self, Command, Dongle, Remote};
use crate::error::Error;
use crate::image::{self, Drivers};
use crate::oracle::linux::{Boot, Linux};
use crate::oracle::packages::{self, Kernel};
use crate::oracle::programs::{self, Files};
use crate::output;
use crate::qemu::Qemu;

/// Linux's first process.
const SCRIPT: &str = include_str!("passthrough_init.sh");
/// An emulated machine in an emulated machine is slow; these are only against hangs.
const LIMIT: Duration = Duration::from_secs(300);
const REPLY_LIMIT: Duration = Duration::from_secs(30);
/// How long the adapter stays unplugged: the inner QEMU looks for devices every two seconds.
const AWAY: Duration = Duration::from_secs(3);

/// Arguments of `skiff oracle passthrough`.
#[derive(Clone, Debug, Args)]
pub struct PassthroughArguments {
    /// The Debian package with the outer kernel; by default Linux 6.12 where Debian has it
    #[arg(long, value_name = "PACKAGE")]
    pub kernel: Option<String>,
    /// Which chip
    #[arg(long, default_value = "8153a", value_name = "CHIP")]
    pub version: String,
    /// Pings before and after each replug
    #[arg(long, default_value_t = 50)]
    pub count: u64,
    /// How many times the adapter is unplugged and plugged in again
    #[arg(long, default_value_t = 3)]
    pub replugs: u64,
    /// Options for the image
    #[arg(long, default_value = "", value_name = "OPTIONS", hide_default_value = true)]
    pub cmdline: String,
    /// Show the console of both layers
    #[arg(long)]
    pub console: bool,
}

/// Carries out `skiff oracle passthrough`; true: every ping of the image was answered.
///
/// # Errors
///
/// What kept it from being tried, or a layer dying of it.
pub fn run(arguments: &PassthroughArguments) -> Result<bool, Error> {
    let version = Version::find(&arguments.version)
        .ok_or_else(|| Error::Usage(format!("no chip {}", arguments.version)))?;
    let image = image::build(Drivers::All)?;
    let kernel = Kernel::fetch(arguments.kernel.as_deref())?;
    let qemu = Qemu::find()?;
    let mut files = Files::new();
    let inner_qemu = programs::add_qemu(&mut files, &qemu)?;
    let manager = packages::unpack(&["udev"])?;
    let merged = manager.join("usr/bin/udevadm");
    let manager = if merged.exists() { merged } else { manager.join("bin/udevadm") };
    programs::add(&mut files, &manager, "/bin/systemd-udevd")?;
    let bytes = std::fs::read(&image.stripped)
        .map_err(Error::system(format!("cannot read {}", image.stripped.display())))?;
    files.insert("/image.elf".into(), bytes);

    let (near, far) = Cable::channel();
    let dongle = Dongle::new(Config::new(version), vec![near], None)
        .map_err(|error| Error::Usage(error.to_string()))?;
    let (socket, remote) =
        dongle.plug_into("virtual adapter").map_err(Error::system("cannot start the virtual adapter"))?;
    let boot = Boot {
        kernel: &kernel,
        modules: &["xhci_pci"],
        script: &SCRIPT.replace("@QEMU@", &inner_qemu).replace("@CMDLINE@", &arguments.cmdline),
        files,
        memory: 1024,
    };
    let mut linux =
        Linux::boot(&qemu, boot, |descriptors| dongle::qemu_arguments(0, descriptors.add(socket)))?;
    if arguments.console {
        linux.guest.show_console();
    }
    let mut host = Host::new(far, HostConfiguration::of_network(0));
    output::line(format_args!("{version} in Linux {}, passed through", kernel.release));
    ask(arguments, &mut linux, &mut host, &remote)
}

fn ask(
    arguments: &PassthroughArguments,
    linux: &mut Linux,
    host: &mut Host,
    remote: &Remote,
) -> Result<bool, Error> {
    let started = Instant::now();
    let mut content = true;
    for replug in 0..=arguments.replugs {
        if replug > 0 {
            unplug_under_flood(host, remote)?;
        }
        let address = wait_ready(linux, host, replug)?;
        let seconds = started.elapsed().as_secs();
        for (size, pace) in [
            (56, Pace::Interval(Duration::from_millis(20))),
            (1400, Pace::Flood { in_flight: 4 }),
            (20_000, Pace::Flood { in_flight: 1 }),
        ] {
            let request = PingRequest {
                pace,
                timeout: REPLY_LIMIT,
                ..PingRequest::new(address, arguments.count, size)
            };
            let outcome = host.ping(&request, &mut |_| {}).map_err(Error::system("the cable"))?;
            content &= outcome.is_complete();
            report(replug, seconds, address, size, &outcome);
        }
    }
    Ok(content)
}

fn report(replug: u64, seconds: u64, address: Ipv4Addr, size: usize, outcome: &PingOutcome) {
    let mut times: Vec<Duration> = outcome.replies.iter().map(|reply| reply.round_trip).collect();
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let verdict = if outcome.is_complete() { "ok" } else { "FAILED" };
    let (replies, sent) = (outcome.replies.len(), outcome.sent);
    output::line(format_args!(
        "{verdict:7}plug-in {replug} ({seconds} s): {address} answers {replies}/{sent} pings of {size} bytes, median {median:?}"
    ));
}

/// How often the image has said that it is ready.
fn times_ready(transcript: &Transcript) -> usize {
    transcript.lines().filter(|line| line.contains("@skiff ready ")).count()
}

/// Waits until the image has its address, for the `replug`-th time again.
fn wait_ready(linux: &mut Linux, host: &mut Host, replug: u64) -> Result<Ipv4Addr, Error> {
    let mut address = None;
    linux.guest.wait_until(
        "an address of the image in the inner machine",
        LIMIT,
        None,
        &mut || {
            let _ = host.serve(Duration::from_millis(5));
        },
        &mut |transcript| {
            address = transcript.ready.last().map(|ready| ready.address);
            times_ready(transcript) as u64 > replug
        },
    )?;
    address.ok_or_else(|| Error::Usage("the image has no address".into()))
}

/// Unplugs the adapter in the outer layer while a flood goes on, and plugs it in again.
fn unplug_under_flood(host: &mut Host, remote: &Remote) -> Result<(), Error> {
    let unplug = remote.clone();
    let person = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        unplug.command(Command::Unplug(Disconnect { away: Some(AWAY), as_storage: false }));
    });
    let request = PingRequest {
        pace: Pace::Interval(Duration::from_millis(5)),
        timeout: Duration::from_millis(500),
        ..PingRequest::new(Ipv4Addr::new(10, 0, 0, 2), 200, 1000)
    };
    // Those that are under way are lost, of course.
    host.ping(&request, &mut |_| {}).map_err(Error::system("the cable"))?;
    let _ = person.join();
    Ok(())
}
