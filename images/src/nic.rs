//! The network cards a guest can have, and what they are plugged into.

use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use clap::ValueEnum;
use lab_rtl8152::{Config, Version};
use lab_wire::Cable;

use crate::console::format_mac;
use crate::dongle::{self, Dongle, Remote};
use crate::error::Error;
use crate::image::Drivers;
use crate::qemu::Qemu;
use crate::tap;

/// A kind of network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Nic {
    /// virtio-net, modern (PCI id 1041)
    Virtio,
    /// virtio-net, transitional (PCI id 1000), as Proxmox presents it
    VirtioTransitional,
    /// QEMU's own USB network card, which speaks CDC Ethernet at full speed
    CdcEcm,
    /// RTL8152B on USB 2.0: 100 Mbit/s
    Rtl8152b,
    /// RTL8153A on USB 3: 1 Gbit/s
    Rtl8153,
    /// RTL8153B on USB 3: 1 Gbit/s
    Rtl8153b,
    /// RTL8156A on USB 3: 2.5 Gbit/s
    Rtl8156a,
    /// RTL8156B on USB 3: 2.5 Gbit/s
    Rtl8156b,
}

impl Nic {
    /// Whether an image with these drivers can use the card.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`], which says what to do.
    pub fn check_driven_by(self, drivers: Drivers) -> Result<(), Error> {
        match (drivers, self) {
            (Drivers::All, _) | (Drivers::Virtio, Self::Virtio | Self::VirtioTransitional) => Ok(()),
            (Drivers::Virtio, _) => Err(Error::Usage(format!(
                "--drivers virtio leaves out the driver of {self}: add --nic virtio"
            ))),
        }
    }

    /// The chip, for the cards that are virtual USB adapters of ours.
    #[must_use]
    pub fn adapter(self) -> Option<Version> {
        Version::find(match self {
            Self::Virtio | Self::VirtioTransitional | Self::CdcEcm => return None,
            Self::Rtl8152b => "8152b",
            Self::Rtl8153 => "8153a",
            Self::Rtl8153b => "8153b",
            Self::Rtl8156a => "8156a",
            Self::Rtl8156b => "8156b",
        })
    }
}

impl fmt::Display for Nic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Virtio => "virtio",
            Self::VirtioTransitional => "virtio-transitional",
            Self::CdcEcm => "cdc-ecm",
            Self::Rtl8152b => "rtl8152b",
            Self::Rtl8153 => "rtl8153",
            Self::Rtl8153b => "rtl8153b",
            Self::Rtl8156a => "rtl8156a",
            Self::Rtl8156b => "rtl8156b",
        })
    }
}

/// What a card is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FarEnd {
    /// A cable whose other end this process holds.
    Cable,
    /// A tap interface of this machine.
    Tap(String),
}

/// A card and what it is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The card.
    pub nic: Nic,
    /// Its other end.
    pub far_end: FarEnd,
    /// Its station address.
    pub mac: [u8; 6],
}

impl Slot {
    /// The `index`-th card of a guest: its station address follows from that.
    #[must_use]
    pub fn new(index: u8, nic: Nic, far_end: FarEnd) -> Self {
        Self { nic, far_end, mac: [0x52, 0x54, 0x00, 0x12, 0x34, 0x56_u8.wrapping_add(index)] }
    }
}

/// What a guest's cards add to QEMU.
#[derive(Default)]
pub struct Attachments {
    /// Command-line arguments.
    pub arguments: Vec<String>,
    /// Our ends of the cables, in the order of the slots; `None` for a card on a tap.
    pub cables: Vec<Option<Cable>>,
    /// Remote controls of the virtual adapters, in the order of the slots; `None` for other cards.
    pub dongles: Vec<Option<Remote>>,
}

/// File descriptors that QEMU inherits, by the number each has there.
#[derive(Default)]
pub struct Descriptors(Vec<OwnedFd>);

impl Descriptors {
    /// The first number after standard input, output and error.
    const FIRST: i32 = 3;

    /// Adds one and returns its number in QEMU.
    pub fn add(&mut self, descriptor: impl Into<OwnedFd>) -> i32 {
        self.0.push(descriptor.into());
        Self::FIRST + i32::try_from(self.0.len()).unwrap_or(i32::MAX) - 1
    }

    /// Makes a socket pair, keeps QEMU's end, and returns its number there and our end.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when the system has no more of them.
    pub fn add_socket(&mut self) -> Result<(i32, UnixStream), Error> {
        let (ours, theirs) = UnixStream::pair().map_err(Error::system("cannot make a socket pair"))?;
        Ok((self.add(theirs), ours))
    }

    /// All of them with their numbers.
    pub fn into_mappings(self) -> Vec<command_fds::FdMapping> {
        (Self::FIRST..)
            .zip(self.0)
            .map(|(child_fd, parent_fd)| command_fds::FdMapping { parent_fd, child_fd })
            .collect()
    }
}

/// Plugs the cards in.
///
/// # Errors
///
/// [`Error::System`] when the system has no more sockets.
pub fn attach(qemu: &Qemu, slots: &[Slot], descriptors: &mut Descriptors) -> Result<Attachments, Error> {
    let mut attachments = Attachments::default();
    for (index, slot) in slots.iter().enumerate() {
        let id = format!("net{index}");
        if let Some(version) = slot.nic.adapter() {
            plug_adapter(index, version, slot, descriptors, &mut attachments)?;
            continue;
        }
        let (backend, cable) = match &slot.far_end {
            FarEnd::Cable => {
                let (number, socket) = descriptors.add_socket()?;
                let cable = Cable::qemu_stream(socket).map_err(Error::system("cannot set up a socket"))?;
                (qemu.stream_netdev(&id, number), Some(cable))
            }
            FarEnd::Tap(name) => {
                (format!("tap,id={id},ifname={name},script=no,downscript=no,vhost=off"), None)
            }
        };
        let mac = format_mac(slot.mac);
        attachments.arguments.extend(["-netdev".into(), backend]);
        // Without the boot ROM, which is a package of its own and of no use here.
        let virtio = format!("virtio-net-pci,netdev={id},mac={mac},romfile=");
        let devices = match slot.nic {
            Nic::VirtioTransitional => vec![format!("{virtio},disable-legacy=off,disable-modern=off")],
            Nic::CdcEcm => {
                let controller = format!("qemu-xhci,id=xhci{index}");
                vec![controller, format!("usb-net,netdev={id},mac={mac},bus=xhci{index}.0")]
            }
            _ => vec![format!("{virtio},disable-legacy=on")],
        };
        attachments.arguments.extend(devices.into_iter().flat_map(|device| ["-device".into(), device]));
        attachments.cables.push(cable);
        attachments.dongles.push(None);
    }
    Ok(attachments)
}

/// A virtual adapter, served by a thread of this process.
fn plug_adapter(
    index: usize,
    version: Version,
    slot: &Slot,
    descriptors: &mut Descriptors,
    attachments: &mut Attachments,
) -> Result<(), Error> {
    let (near, far) = match &slot.far_end {
        FarEnd::Cable => {
            let (near, far) = Cable::channel();
            (near, Some(far))
        }
        FarEnd::Tap(name) => (tap::attach(name)?, None),
    };
    let config = Config { address: slot.mac, ..Config::new(version) };
    let dongle = Dongle::new(config, vec![near], None).map_err(|error| Error::Usage(error.to_string()))?;
    let (socket, remote) =
        dongle.plug_into("virtual adapter").map_err(Error::system("cannot start the virtual adapter"))?;
    attachments.arguments.extend(dongle::qemu_arguments(index, descriptors.add(socket)));
    attachments.cables.push(far);
    attachments.dongles.push(Some(remote));
    Ok(())
}
