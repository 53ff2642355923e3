//! `skiff dongle`: the virtual adapter alone, to be plugged into any QEMU guest.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lab_rtl8152::{Config, VERSIONS, Version};
use lab_usbredir::Speed;
use lab_usbredir::serve::End;
use lab_wire::{Cable, Host, HostConfiguration};

use crate::arguments::exit_status;
use crate::dongle::{AccessLog, Dongle};
use crate::error::Error;
use crate::output;
use crate::tap;
use crate::temporary::Temporary;

/// How long the built-in host is served before it looks whether its cable is still there.
const TURN: Duration = Duration::from_millis(200);

/// Arguments of `skiff dongle`.
#[derive(Clone, Debug, Args)]
#[command(after_help = concat!("\
Plug it into QEMU with

  -chardev socket,id=dongle,path=SOCKET -device qemu-xhci -device usb-redir,chardev=dongle

Without --tap or --wire a host of our own is at the other end of the cable: 10.0.0.1, which answers pings and leases
10.0.0.2 by DHCP. When the guest goes, the next one may come; the adapter loses power in between.

", exit_status!()))]
pub struct DongleArguments {
    /// Which chip: 8152b, 8153a, 8153b, 8153c, 8153d, 8156a, 8156b, ... or its version register in hexadecimal (5c30)
    #[arg(long, default_value = "8153a", value_parser = parse_version)]
    pub version: Version,
    /// Bus speed; the fastest that the chip can do when nothing is said
    #[arg(long, value_enum)]
    pub speed: Option<BusSpeed>,
    /// Station address
    #[arg(long, value_parser = parse_address, value_name = "ADDRESS")]
    pub mac: Option<StationAddress>,
    /// Plug the network cable into this tap interface
    #[arg(long, value_name = "NAME", conflicts_with = "wire")]
    pub tap: Option<String>,
    /// Plug the network cable into this UNIX socket, framed as QEMU's `-netdev stream` does
    #[arg(long, value_name = "SOCKET")]
    pub wire: Option<PathBuf>,
    /// What goes wrong when: a fault plan (docs/virtual-adapter.md)
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// Show up as the virtual CD-ROM 0bda:8151 until it is ejected
    #[arg(long)]
    pub cd_rom: bool,
    /// Write every register access to this file
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Where QEMU connects; a socket of this name is replaced
    #[arg(long, value_name = "SOCKET")]
    pub listen: PathBuf,
}

/// USB speeds on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BusSpeed {
    /// 12 Mbit/s
    Full,
    /// 480 Mbit/s
    High,
    /// 5 Gbit/s
    Super,
}

/// An Ethernet address on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StationAddress(pub [u8; 6]);

fn parse_version(text: &str) -> Result<Version, String> {
    Version::find(text).ok_or_else(|| {
        let names: Vec<&str> = VERSIONS.iter().map(|version| version.name).collect();
        format!("no such chip; there are {}", names.join(", "))
    })
}

fn parse_address(text: &str) -> Result<StationAddress, String> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    let address: Option<[u8; 6]> = bytes.and_then(|bytes| bytes.try_into().ok());
    match address {
        Some(address) if address[0] & 1 == 0 => Ok(StationAddress(address)),
        _ => Err("not a unicast address such as 00:e0:4c:68:00:01".to_owned()),
    }
}

impl DongleArguments {
    /// The adapter that is meant.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a speed the chip has not or a fault plan that is not understood, [`Error::System`] for one
    /// that cannot be read.
    fn config(&self) -> Result<Config, Error> {
        let mut config = Config::new(self.version);
        if let Some(StationAddress(address)) = self.mac {
            config.address = address;
        }
        if let Some(speed) = self.speed {
            config.speed = match speed {
                BusSpeed::Full => Speed::Full,
                BusSpeed::High => Speed::High,
                BusSpeed::Super => Speed::Super,
            };
            if config.speed > self.version.fastest_bus() {
                return Err(Error::Usage(format!("the {} is a USB 2.0 device", self.version)));
            }
        }
        if let Some(path) = &self.faults {
            let text =
                fs::read_to_string(path).map_err(Error::system(format!("cannot read {}", path.display())))?;
            config.faults =
                text.parse().map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
        }
        config.storage_first = self.cd_rom;
        Ok(config)
    }

    fn cable(&self) -> Result<Cable, Error> {
        if let Some(name) = &self.tap {
            return tap::attach(name);
        }
        if let Some(path) = &self.wire {
            let failed = || Error::system(format!("cannot connect to {}", path.display()));
            let socket = UnixStream::connect(path).map_err(failed())?;
            return Cable::qemu_stream(socket).map_err(failed());
        }
        let (ours, theirs) = Cable::channel();
        let mut host = Host::new(theirs, HostConfiguration::of_network(0));
        thread::spawn(move || while host.serve(TURN).is_ok() {});
        Ok(ours)
    }

    fn log(&self) -> Result<Option<AccessLog>, Error> {
        let Some(path) = &self.log else { return Ok(None) };
        let file = File::create(path).map_err(Error::system(format!("cannot write {}", path.display())))?;
        Ok(Some(Box::new(BufWriter::new(file))))
    }
}

/// A listening socket and its file.
struct Listener {
    socket: UnixListener,
    _file: Temporary,
}

impl Listener {
    fn bind(path: &Path) -> Result<Self, Error> {
        let failed = || Error::system(format!("cannot listen at {}", path.display()));
        // A file of another kind is not ours to remove, nor a socket that somebody listens to; binding to them fails.
        let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
        if is_socket && UnixStream::connect(path).is_err() {
            fs::remove_file(path).map_err(failed())?;
        }
        let socket = UnixListener::bind(path).map_err(|source| match source.kind() {
            ErrorKind::AddrInUse => Error::System {
                action: format!(
                    "cannot listen at {} (somebody listens there, or it is another kind of file: name another path)",
                    path.display()
                ),
                source,
            },
            _ => failed()(source),
        })?;
        Ok(Self { socket, _file: Temporary::new(path)? })
    }
}

/// Carries out `skiff dongle`: serves guest after guest until it is killed.
///
/// # Errors
///
/// What kept it from being started.
pub fn run(arguments: &DongleArguments) -> Result<(), Error> {
    let config = arguments.config()?;
    let dongle = Dongle::new(config, vec![arguments.cable()?], arguments.log()?);
    let mut dongle = dongle.map_err(|error| Error::Usage(error.to_string()))?;
    let listener = Listener::bind(&arguments.listen)?;
    let remote = dongle.remote();
    output::line(format_args!("{} at {}", arguments.version, arguments.listen.display()));
    thread::spawn(move || {
        for stream in listener.socket.incoming().flatten() {
            if !remote.connect(stream) {
                return;
            }
        }
    });
    while let Some(stream) = dongle.wait_for_guest() {
        output::line("a guest connects");
        match dongle.serve(stream) {
            End::GuestLeft => output::line("the guest has left"),
            End::Protocol(error) => output::line(format_args!("the guest is cut off: {error}")),
            End::Socket(error) => output::line(format_args!("the guest's socket failed: {error}")),
            _ => {}
        }
    }
    Ok(())
}
