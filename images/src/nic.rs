//! The network cards a guest can have, and what they are plugged into.

use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use clap::ValueEnum;
use lab_wire::Cable;

use crate::console::format_mac;
use crate::error::Error;
use crate::qemu::Qemu;

/// A kind of network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Nic {
    /// virtio-net, modern (PCI id 1041)
    Virtio,
    /// virtio-net, transitional (PCI id 1000), as Proxmox presents it
    VirtioTransitional,
}

impl fmt::Display for Nic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Virtio => "virtio",
            Self::VirtioTransitional => "virtio-transitional",
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
        // Without the boot ROM, which is a package of its own and of no use here.
        let device = match slot.nic {
            Nic::Virtio => format!("virtio-net-pci,netdev={id},mac={mac},romfile=,disable-legacy=on"),
            Nic::VirtioTransitional => {
                format!("virtio-net-pci,netdev={id},mac={mac},romfile=,disable-legacy=off,disable-modern=off")
            }
        };
        attachments.arguments.extend(["-netdev".into(), backend, "-device".into(), device]);
        attachments.cables.push(cable);
    }
    Ok(attachments)
}
