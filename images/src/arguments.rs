//! The command line of `skiff`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::dongle_command::DongleArguments;
use crate::guest::MachineType;
use crate::image::Drivers;
use crate::nic::Nic;
use crate::oracle::OracleArguments;
use crate::passed_through::{PciAddress, UsbHost};

/// What a guest is left up for, and not pinged.
const HELD: &str = "held";

/// The end of every command's help.
macro_rules! exit_status {
    () => {
        "Environment: SKIFF_QEMU names the QEMU to use.

Exit status:
  0  done; of `run`: every ping was answered
  1  pings were lost, or the guest died; of `oracle`: it is not content
  2  the arguments are wrong, do not go together, or ask for what this machine has not
  3  nothing could be started: the build failed, a program is missing, a file or device cannot be used
  4  the guest got no address: it has no network card that it drives, no link, or no DHCP server answers"
    };
}
pub(crate) use exit_status;

/// Builds Skiff images, boots them in QEMU and pings them.
///
/// Without a command it does what `skiff run` does: builds the image, boots it, pings it ten times and says how it went.
/// Nothing else needs to run: the other end of the network cable is part of this tool.
#[derive(Debug, Parser)]
#[command(
    name = "skiff",
    version,
    args_conflicts_with_subcommands = true,
    after_help = concat!("\
Examples:
  skiff run --count 1000 --flood        a thousand pings as fast as they are answered
  skiff run --nic virtio --nic virtio   two network cards, each pinged
  skiff run --tap tap0                  on a tap: ping it from this machine with any program
  skiff run --interactive               leave it up, with its console here
  skiff image --format elf --out skiff.elf --cmdline 'ip=10.0.0.2/24 gw=10.0.0.1'

", exit_status!())
)]
pub struct Arguments {
    /// What to do; `run` when nothing is said.
    #[command(subcommand)]
    pub command: Option<CommandArguments>,
    /// Arguments of `run`, when nothing is said.
    #[command(flatten)]
    pub run: RunArguments,
}

/// What `skiff` can do.
#[derive(Debug, Subcommand)]
pub enum CommandArguments {
    /// Build the image, boot it in QEMU, ping it, and say how it went
    Run(RunArguments),
    /// Build the image and write it to a file, to be booted elsewhere
    Image(ImageArguments),
    /// Measure what an echo costs: guest instructions, round trips, copies
    Bench(BenchArguments),
    /// A virtual USB network adapter of the RTL8152 family, to be plugged into any QEMU guest
    Dongle(DongleArguments),
    /// Let a Debian Linux judge our virtual hardware (fetches Debian packages)
    Oracle(OracleArguments),
}

/// Arguments of `skiff run`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = exit_status!(),
    group(ArgGroup::new(HELD).args(["tap", "usb_host", "usb_controller", "interactive"]).multiple(true)),
)]
pub struct RunArguments {
    /// Network card of the guest, rtl8153 when nothing is said; give it several times for several cards
    #[arg(long, value_enum, value_name = "NIC")]
    pub nic: Vec<Nic>,
    /// Number of pings to each card
    #[arg(long, default_value_t = 10, conflicts_with = HELD)]
    pub count: u64,
    /// Bytes of data in each ping, at most 65507
    #[arg(long, default_value_t = 56, conflicts_with = HELD, value_parser = clap::value_parser!(u16).range(..=65507))]
    pub size: u16,
    /// Time from one ping to the next: 100ms, 1s, ...
    #[arg(long, default_value = "100ms", conflicts_with = HELD, value_parser = parse_duration)]
    pub interval: Duration,
    /// Ping as fast as answers come back, 32 under way at once
    #[arg(long, conflicts_with_all = ["interval", HELD])]
    pub flood: bool,
    /// Attach the card to this tap interface and ping nothing: prints `ready: ADDRESS` and waits
    ///
    /// A tap that does not exist is made, by root, and goes when the guest goes. Several cards need a tap each, and those
    /// have to exist.
    #[arg(long, value_name = "NAME")]
    pub tap: Vec<String>,
    /// Hand this USB adapter of this machine to the guest: VENDOR:PRODUCT (0bda:8153) or BUS.PORT (2.1)
    ///
    /// Like --tap it pings nothing: prints `ready: ADDRESS` and waits. The image asks DHCP on the real network, or takes
    /// its address from --cmdline.
    #[arg(long, value_name = "DEVICE")]
    pub usb_host: Vec<UsbHost>,
    /// Hand a whole USB controller of this machine to the guest, by vfio-pci: faster than a single adapter
    #[arg(long, value_name = "PCI-ADDRESS")]
    pub usb_controller: Vec<PciAddress>,
    /// How long the guest may take to get its address; 30s when nothing is said, and with --tap, --usb-host,
    /// --usb-controller or --interactive as long as it likes
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub wait: Option<Duration>,
    /// With --tap, --usb-host, --usb-controller or --interactive: end after this time; without it on Ctrl-C or when the guest stops
    #[arg(long = "for", value_name = "TIME", requires = HELD, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Memory of the guest in MiB, at least 8
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(8..))]
    pub memory: u32,
    /// The machine that QEMU plays
    #[arg(long, value_enum, default_value_t = MachineType::Q35)]
    pub machine: MachineType,
    /// Options for the image: ip=10.0.0.2/24 gw=10.0.0.1 log=debug ...; without ip= it asks DHCP
    #[arg(long, default_value = "", value_name = "OPTIONS", hide_default_value = true)]
    pub cmdline: String,
    /// The drivers in the image
    #[arg(long, value_enum, default_value_t)]
    pub drivers: Drivers,
    /// Print the summary as one JSON object on one line, and nothing else but `ready:` lines where there are such
    #[arg(long, conflicts_with = "interactive")]
    pub json: bool,
    /// Leave the guest up with its serial console on this terminal, and ping nothing
    #[arg(long)]
    pub interactive: bool,
}

/// Arguments of `skiff image`.
#[derive(Clone, Debug, Args)]
#[command(after_help = exit_status!())]
pub struct ImageArguments {
    /// What kind of file
    #[arg(long, value_enum, default_value_t = ImageFormat::Elf)]
    pub format: ImageFormat,
    /// The file to write; the same with symbols is written beside it as FILE.debug
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The drivers in the image
    #[arg(long, value_enum, default_value_t)]
    pub drivers: Drivers,
    /// Options for the image, built into it; those that a loader passes are added to them
    #[arg(long, default_value = "", value_name = "OPTIONS", hide_default_value = true)]
    pub cmdline: String,
}

/// Arguments of `skiff bench`.
#[derive(Clone, Debug, Args)]
#[command(after_help = exit_status!())]
pub struct BenchArguments {
    /// Network card of the guest
    #[arg(long, value_enum, default_value_t = Nic::Virtio)]
    pub nic: Nic,
    /// The drivers in the image
    #[arg(long, value_enum, default_value_t)]
    pub drivers: Drivers,
    /// Bytes of data in each ping, at most 65507; several sizes are measured one after the other
    #[arg(long, value_delimiter = ',', default_values_t = [56, 1400], value_parser = clap::value_parser!(u16).range(..=65507))]
    pub size: Vec<u16>,
    /// Number of pings for each figure
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,
    /// Measure this one in the same way, with the same card, in the same run
    #[arg(long, value_enum)]
    pub peer: Option<Peer>,
    /// Print one JSON object on one line
    #[arg(long)]
    pub json: bool,
}

/// Whom an image is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Debian's Linux with its own drivers (fetches Debian packages)
    Linux,
}

/// Kinds of image files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImageFormat {
    /// ELF with a PVH entry: for QEMU's -kernel and other PVH loaders
    Elf,
}

/// Reads `250us`, `100ms`, `1.5s`, `2m`; a bare number is seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits =
        text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err(format!("'{unit}' is not one of us, ms, s, m")),
    };
    let number: f64 = number.parse().map_err(|_| format!("'{number}' is not a number"))?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn nothing_said_is_a_run_and_so_are_its_options_alone() {
        let arguments = Arguments::parse_from(["skiff"]);
        assert!(arguments.command.is_none());
        assert_eq!((arguments.run.count, arguments.run.size, arguments.run.memory), (10, 56, 32));
        let arguments = Arguments::parse_from(["skiff", "--flood", "--count", "5"]);
        assert!(arguments.command.is_none() && arguments.run.flood);
    }

    #[test]
    fn durations_take_the_usual_units() {
        assert_eq!(parse_duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(parse_duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("3"), Ok(Duration::from_secs(3)));
        assert!(
            parse_duration("3 parsecs").is_err()
                && parse_duration("").is_err()
                && parse_duration("-1s").is_err()
        );
    }
}
