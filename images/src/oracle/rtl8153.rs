//! `skiff oracle rtl8153`: the virtual adapter in every chip version, driven by Linux's own r8152.
//!
//! One boot sees them all: each is pulled out under traffic and the next one plugged in. For each, Linux has to bind its
//! driver, see the link, ping both ways with whole and fragmented packets, survive a pulled cable, and stream both ways
//! over TCP with all its offloads on; and what it wrote to the essential registers is compared with the golden log.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use lab_rtl8152::{Config, LinkSpeed, VERSIONS, Version};
use lab_wire::{Cable, Host, HostConfiguration, Pace, PingRequest};

use crate::dongle::{self, Command, Dongle, Remote};
use crate::error::Error;
use crate::oracle::accesses::{Summary, compare};
use crate::oracle::linux::{Boot, Linux};
use crate::oracle::modules::Modules;
use crate::oracle::packages::Kernel;
use crate::oracle::streams::{LENGTH, StreamHost, Streamed};
use crate::output;
use crate::qemu::Qemu;

/// Linux's first process.
const SCRIPT: &str = include_str!("rtl8153_init.sh");

/// Where the golden logs are in this repository.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/hardware/rtl8152-traces");

/// What one plug-in may take: generous, only against a hang.
const LIMIT: Duration = Duration::from_secs(300);

/// `idVendor` of the adapters.
const REALTEK: u16 = 0x0bda;

/// The guest.
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Arguments of `skiff oracle rtl8153`.
#[derive(Clone, Debug, Args)]
pub struct Rtl8153Arguments {
    /// The Debian package with the kernel; by default Linux 6.12 where Debian has it
    #[arg(long, value_name = "PACKAGE")]
    pub kernel: Option<String>,
    /// Only this chip; give it several times for several chips
    #[arg(long, value_name = "CHIP")]
    pub version: Vec<String>,
    /// With Linux's drivers for the USB classes instead: CDC-ECM, or CDC-NCM where the chip has it. Without the chips
    /// that this Linux wants driven by r8152 alone: the RTL8153, for Linux 6.1 the RTL8152, too
    #[arg(long)]
    pub cdc: bool,
    /// Show Linux's console
    #[arg(long)]
    pub console: bool,
    /// Keep the logs of register accesses in this folder
    #[arg(long, value_name = "FOLDER")]
    pub logs: Option<std::path::PathBuf>,
}

/// A log that several threads share.
#[derive(Clone, Default)]
struct SharedLog(Arc<Mutex<Vec<u8>>>);

impl SharedLog {
    /// What was written since the last call.
    fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl io::Write for SharedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What Linux made of one chip.
struct Verdict {
    version: Version,
    complaints: Vec<String>,
    streamed: Streamed,
    pings: (u64, u64),
    from_host: (u64, u64),
    link: String,
    accesses: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |bytes: usize, time: Duration| {
            #[expect(clippy::cast_precision_loss, reason = "a rate, shown without decimals")]
            let bits = bytes as f64 * 8e-6;
            bits / time.as_secs_f64().max(1e-6)
        };
        let verdict = if self.complaints.is_empty() { "ok" } else { "FAILED" };
        write!(
            formatter,
            "{verdict:7}{} {}: {}; pings {}/{} from Linux, {}/{} to Linux; TCP {:.0} Mbit/s to Linux, {:.0} from it; {}",
            self.version,
            self.version.linux,
            self.link,
            self.pings.1,
            self.pings.0,
            self.from_host.1,
            self.from_host.0,
            rate(self.streamed.given, self.streamed.giving_time),
            rate(self.streamed.taken, self.streamed.taking_time),
            self.accesses
        )?;
        self.complaints.iter().try_for_each(|complaint| write!(formatter, "\n       {complaint}"))
    }
}

/// The bench: Linux, the adapter's remote control, and who is at the other end of its cable.
struct Bench {
    linux: Linux,
    remote: Remote,
    host: Host,
    streams: StreamHost,
    log: SharedLog,
}

/// Carries out `skiff oracle rtl8153`; true: Linux is content with every chip.
///
/// # Errors
///
/// What kept the oracle from being asked, or Linux dying of it.
pub fn run(arguments: &Rtl8153Arguments) -> Result<bool, Error> {
    let versions = versions(arguments)?;
    let kernel = Kernel::fetch(arguments.kernel.as_deref())?;
    output::line(format_args!("Linux {}", kernel.release));
    let versions = if arguments.cdc { left_to_classes(&kernel, versions)? } else { versions };
    let Some(first) = versions.first() else {
        return Err(Error::Usage("this Linux leaves all of these chips to r8152 alone".into()));
    };
    let qemu = Qemu::find()?;
    let mut bench = Bench::set_up(&qemu, &kernel, *first, arguments.cdc)?;
    if arguments.console {
        bench.linux.guest.show_console();
    }
    let mut content = true;
    for (plug, version) in (1..).zip(&versions) {
        let verdict = bench.judge(plug, *version, arguments)?;
        output::line(&verdict);
        content &= verdict.complaints.is_empty();
        match versions.get(plug as usize) {
            Some(next) => bench.remote.command(Command::Replace(Box::new(Config::new(*next)))),
            None => bench.remote.command(Command::Unplug(gone())),
        }
        let Bench { linux, host, .. } = &mut bench;
        linux.wait("gone", plug, LIMIT, &mut || serve(host))?;
    }
    Ok(content)
}

fn gone() -> lab_rtl8152::Disconnect {
    lab_rtl8152::Disconnect { away: None, as_storage: false }
}

fn versions(arguments: &Rtl8153Arguments) -> Result<Vec<Version>, Error> {
    if arguments.version.is_empty() {
        return Ok(VERSIONS.to_vec());
    }
    let find = |name: &String| Version::find(name).ok_or_else(|| Error::Usage(format!("no chip {name}")));
    arguments.version.iter().map(find).collect()
}

/// The versions that Linux's class drivers take. The others are in the table of `cdc_ether` by their numbers, with the
/// remark that they are r8152's: the RTL8153, in Linux 6.1 the RTL8152, too.
fn left_to_classes(kernel: &Kernel, versions: Vec<Version>) -> Result<Vec<Version>, Error> {
    let modules = Modules::new(kernel)?;
    let mut left = Vec::new();
    for version in versions {
        if modules.names_usb_device("cdc_ether", REALTEK, version.product)? {
            output::line(format_args!("left   {version}: this Linux wants it driven by r8152 alone"));
        } else {
            left.push(version);
        }
    }
    Ok(left)
}

fn serve(host: &mut Host) {
    let _ = host.serve(Duration::from_millis(5));
}

impl Bench {
    fn set_up(qemu: &Qemu, kernel: &Kernel, first: Version, cdc: bool) -> Result<Self, Error> {
        let log = SharedLog::default();
        let (to_host, host) = Cable::channel();
        let (to_streams, streams) = Cable::channel();
        let (to_jumbo, jumbo) = Cable::channel();
        let dongle =
            Dongle::new(Config::new(first), vec![to_host, to_streams, to_jumbo], Some(Box::new(log.clone())))
                .map_err(|error| Error::Usage(error.to_string()))?;
        let streams = StreamHost::start(streams, Ipv4Addr::new(10, 0, 0, 3));
        let host = Host::new(host, HostConfiguration::of_network(0));
        let mut jumbo = Host::new(
            jumbo,
            HostConfiguration {
                mac: [0x52, 0x55, 10, 0, 0, 4],
                address: Ipv4Addr::new(10, 0, 0, 4),
                lease: None,
                maximum_transmission_unit: 8000,
            },
        );
        thread::spawn(move || while jumbo.serve(Duration::from_secs(1)).is_ok() {});
        let (socket, remote) =
            dongle.plug_into("virtual adapter").map_err(Error::system("cannot start the virtual adapter"))?;
        let boot = Boot {
            kernel,
            modules: if cdc { &["xhci_pci", "cdc_ether", "cdc_ncm"] } else { &["xhci_pci", "r8152"] },
            script: SCRIPT,
            files: BTreeMap::new(),
            memory: 256,
        };
        let linux =
            Linux::boot(qemu, boot, |descriptors| dongle::qemu_arguments(0, descriptors.add(socket)))?;
        Ok(Self { linux, remote, host, streams, log })
    }

    /// Waits for what Linux says of the adapter that is plugged in, and does its own part.
    fn judge(&mut self, plug: u64, version: Version, arguments: &Rtl8153Arguments) -> Result<Verdict, Error> {
        let Self { linux, host, .. } = self;
        linux.wait("done", plug, LIMIT, &mut || serve(host))?;
        let mut complaints = Vec::new();
        let link = linux.reports("link", plug).pop();
        let (driver, carrier) =
            link.as_ref().map_or(("", ""), |link| (link.text("driver"), link.text("carrier")));
        let expected = match version.product {
            _ if !arguments.cdc => "r8152",
            0x8156 => "cdc_ncm",
            _ => "cdc_ether",
        };
        if driver != expected || carrier != "1" {
            complaints.push(format!("driver `{driver}`, carrier `{carrier}`"));
        }
        let mut pings = (0, 0);
        for report in linux.reports("ping", plug) {
            let (sent, received) = (report.number("sent"), report.number("received"));
            pings = (pings.0 + sent, pings.1 + received);
            if sent != received {
                let (size, to) = (report.text("size"), report.text("to"));
                complaints.push(format!("pings of {size} bytes to {to}: {received} of {sent} answered"));
            }
        }
        let errors = linux.reports("done", plug).first().map_or(0, |done| done.number("errors"));
        if errors != 0 || pings.0 == 0 {
            complaints.push(format!("{} pings sent; Linux counts {errors} errors", pings.0));
        }
        let streamed = self.streams.take();
        if (streamed.given, streamed.taken, streamed.wrong) != (LENGTH, LENGTH, 0) {
            complaints.push(format!("of {LENGTH} bytes each way: {streamed:?}"));
        }
        let mut from_host = self.ping_linux(&mut complaints)?;
        self.remote.command(Command::Cable(None));
        thread::sleep(Duration::from_millis(500));
        self.remote.command(Command::Cable(Some(LinkSpeed::M2500)));
        self.wait_for_answer(&mut complaints)?;
        let again = self.ping_linux(&mut complaints)?;
        from_host = (from_host.0 + again.0, from_host.1 + again.1);
        let text = self.log.take();
        if let Some(folder) = &arguments.logs {
            let path = folder.join(format!("{}-{}.txt", version.name, version.linux));
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&path, &text))
                .map_err(Error::system(format!("cannot write {}", path.display())))?;
        }
        let accesses = if arguments.cdc {
            format!("driver {driver}")
        } else {
            compare_with_golden(&version, &text, &mut complaints)?
        };
        let link = link.map_or_else(String::new, |link| {
            format!("{} Mbit/s on USB {} Mbit/s", link.text("speed"), link.text("usb"))
        });
        Ok(Verdict { version, complaints, streamed, pings, from_host, link, accesses })
    }

    /// Pings Linux from our side of the cable.
    fn ping_linux(&mut self, complaints: &mut Vec<String>) -> Result<(u64, u64), Error> {
        let mut all = (0, 0);
        // Linux answers large requests from one small socket buffer: several at once, and it drops some itself.
        for (size, count, in_flight) in
            [(0, 20, 4), (56, 200, 4), (1472, 50, 4), (30_000, 10, 1), (65_507, 5, 1)]
        {
            let request = PingRequest {
                pace: Pace::Flood { in_flight },
                timeout: Duration::from_secs(10),
                ..PingRequest::new(GUEST, count, size)
            };
            let outcome =
                self.host.ping(&request, &mut |_| {}).map_err(Error::system(format!("ping {GUEST}")))?;
            all = (all.0 + outcome.sent, all.1 + outcome.replies.len() as u64);
            if !outcome.is_complete() {
                let replies = outcome.replies.len();
                complaints.push(format!("pings of {size} bytes to Linux: {replies} of {count} answered"));
            }
        }
        Ok(all)
    }

    /// Pings until the first answer: the link needs a moment.
    fn wait_for_answer(&mut self, complaints: &mut Vec<String>) -> Result<(), Error> {
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            let request =
                PingRequest { timeout: Duration::from_millis(500), ..PingRequest::new(GUEST, 1, 56) };
            let outcome =
                self.host.ping(&request, &mut |_| {}).map_err(Error::system(format!("ping {GUEST}")))?;
            if outcome.is_complete() {
                return Ok(());
            }
        }
        complaints.push("no answer after the cable was pulled and put back".to_owned());
        Ok(())
    }
}

/// Compares with the golden log of that version, if there is one.
fn compare_with_golden(version: &Version, log: &str, complaints: &mut Vec<String>) -> Result<String, Error> {
    let failed = || Error::system(format!("cannot read {GOLDEN}"));
    let end = format!("-{}.txt", version.linux);
    let mut golden = None;
    for entry in fs::read_dir(Path::new(GOLDEN)).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        if entry.file_name().to_string_lossy().ends_with(&end) {
            golden = Some(fs::read_to_string(entry.path()).map_err(failed())?);
        }
    }
    let Some(golden) = golden else { return Ok("no golden log".to_owned()) };
    let comparison = compare(&Summary::of(log), &Summary::of(&golden));
    for write in &comparison.missing {
        complaints.push(format!("an essential write of the golden log did not happen: {write}"));
    }
    for (space, address) in &comparison.unread {
        complaints
            .push(format!("an essential register of the golden log was not read: {space:?} {address:04x}"));
    }
    let additional: Vec<String> = comparison.additional.iter().map(ToString::to_string).collect();
    Ok(format!(
        "{} essential writes as in the golden log, {} others [{}]",
        comparison.shared,
        additional.len(),
        additional.join(", ")
    ))
}
