//! virtio-net (virtio 1.2, 5.1): frames are received into netbufs, netbufs are gathered for transmission.
//!
//! ```text
//!            headroom    tailroom = what the device may write
//!  posted   |.........|[header][ frame ............... ]|
//!  received |.................|[ frame .... ]...........|      after pull(header)
//!  to send  |.........|[zeros ][ frame .... ]...........|      after push(header), one descriptor
//! ```
//!
//! A buffer belongs to its ring entry until the device says that it is done with it, or was reset. A received buffer
//! usually goes out again as a reply; when it comes back from the transmit ring it is posted for receiving again, so
//! that in steady state nothing is allocated. A buffer that is shared, has no headroom or lies in pieces is sent with
//! its header from a block of zeros and its pieces chained.
//!
//! Not used on purpose: indirect descriptors and `EVENT_IDX` (the crate allocates for the one, and for the other can
//! neither hold back the device's interrupts nor tell rightly when to notify once its 16-bit index wraps; the plain
//! flags do both), merged receive buffers, segmentation and checksum offloads, the control queue.

mod receive;
mod transmit;

use core::future::poll_fn;
use core::mem::ManuallyDrop;
use core::sync::atomic::{Ordering, fence};
use core::task::Poll;

use hal::dma::Pages;
use hal::interrupt::Interrupt;
use hal::network::{DeviceError, Event, Information, NetworkDevice};
use netbuf::{Memory, Queue};
use virtio_drivers::device::common::Feature;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus};

use crate::Error;
use crate::transport::{InterruptTransport, Interrupts, negotiate, reset, start};
use receive::ReceiveRing;
use transmit::TransmitRing;

/// Entries of each ring: what QEMU and most others offer. A legacy device must have exactly this size.
pub const RING_SIZE: usize = 256;

const RECEIVE_QUEUE: u16 = 0;
const TRANSMIT_QUEUE: u16 = 1;

// Features of the network device (5.1.3).
const FEATURE_MTU: u64 = 1 << 3;
const FEATURE_MAC: u64 = 1 << 5;
const FEATURE_STATUS: u64 = 1 << 16;

// Offsets in the device's configuration (5.1.4).
const CONFIGURATION_MAC: usize = 0;
const CONFIGURATION_STATUS: usize = 6;
const CONFIGURATION_MTU: usize = 10;

const STATUS_LINK_UP: u16 = 1;

/// Bytes of the header before each frame (5.1.6): with the count of merged buffers, and of a legacy device without.
const HEADER_LENGTH: usize = 12;
const LEGACY_HEADER_LENGTH: usize = 10;

const ETHERNET_MTU: usize = 1500;
/// More than this is taken for a mistake of the device.
const LARGEST_MTU: usize = 9216;
/// Ethernet header and one VLAN tag.
const ETHERNET_HEADER: usize = 18;

/// The interrupts of a device.
#[derive(Debug)]
pub struct NetworkInterrupts<I> {
    /// How they are routed.
    pub routing: Interrupts,
    /// Used buffers; over a line also everything else.
    pub queues: I,
    /// Changes of the configuration, where that has a message of its own.
    pub configuration: Option<I>,
}

/// How frames are laid out in descriptors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Bytes of the header before each frame.
    header: usize,
    /// The device wants the header in a descriptor of its own (legacy without `ANY_LAYOUT`, 5.1.6.6).
    split_header: bool,
    /// Bytes of a receive buffer, header included.
    buffer: usize,
}

/// What the device has access to until it is reset.
#[derive(Debug)]
struct Rings {
    receive: ReceiveRing,
    transmit: TransmitRing,
}

/// A virtio network device.
#[derive(Debug)]
pub struct VirtioNetwork<T: InterruptTransport, I> {
    information: Information,
    transport: T,
    interrupts: NetworkInterrupts<I>,
    rings: ManuallyDrop<Rings>,
    has_status: bool,
    link_up: bool,
    /// A link change not yet told.
    link_event: Option<Event>,
    failed: Option<DeviceError>,
    /// Transmission was cut short for want of room.
    wants_room: bool,
    /// The device may interrupt.
    interrupts_on: bool,
    interrupts_seen: u64,
    notifications: u64,
}

impl<T: InterruptTransport, I: Interrupt> VirtioNetwork<T, I> {
    /// Brings the device up, with all of the receive ring posted.
    ///
    /// # Errors
    ///
    /// [`Error`]: another type of device, no memory, or a device that does not follow the initialisation.
    pub fn new(
        mut transport: T,
        pages: &Pages,
        memory: &Memory,
        interrupts: NetworkInterrupts<I>,
    ) -> Result<Self, Error> {
        if transport.device_type() != DeviceType::Network {
            return Err(Error::NotSupported { device_id: transport.device_type() as u16 });
        }
        let wanted = FEATURE_MAC
            | FEATURE_STATUS
            | FEATURE_MTU
            | Feature::VERSION_1.bits()
            | Feature::ANY_LAYOUT.bits();
        let features = negotiate(&mut transport, wanted)?;
        let has = |feature: u64| features & feature != 0;
        transport.set_interrupts(interrupts.routing);
        if let Interrupts::MessageSignalled { configuration, .. } = interrupts.routing
            && !transport.configuration_vector_accepted(configuration)
        {
            return Err(Error::VectorRejected { entry: configuration });
        }
        if !has(FEATURE_MAC) {
            return Err(Error::NoMacAddress);
        }
        let mac_address: [u8; 6] =
            transport.read_config_space(CONFIGURATION_MAC).map_err(|_| Error::NoMacAddress)?;
        let told =
            if has(FEATURE_MTU) { transport.read_config_space::<u16>(CONFIGURATION_MTU).ok() } else { None };
        let mtu = told.map_or(ETHERNET_MTU, |mtu| usize::from(u16::from_le(mtu)).clamp(576, LARGEST_MTU));
        let modern = has(Feature::VERSION_1.bits());
        let header = if modern { HEADER_LENGTH } else { LEGACY_HEADER_LENGTH };
        let layout = Layout {
            header,
            split_header: !modern && !has(Feature::ANY_LAYOUT.bits()),
            buffer: header + ETHERNET_HEADER + mtu.max(ETHERNET_MTU),
        };
        let receive = ReceiveRing::new(&mut transport, pages, memory, layout)?;
        let transmit = TransmitRing::new(&mut transport, pages, layout)?;
        if let Interrupts::MessageSignalled { queues, .. } = interrupts.routing {
            for queue in [RECEIVE_QUEUE, TRANSMIT_QUEUE] {
                if !transport.queue_vector_accepted(queue, queues) {
                    return Err(Error::VectorRejected { entry: queues });
                }
            }
        }
        let information = Information {
            driver: if transport.requires_legacy_layout() { "virtio-net-legacy" } else { "virtio-net" },
            mac_address,
            maximum_transmission_unit: mtu,
            transmit_checksum: false,
        };
        let mut device = Self {
            information,
            transport,
            interrupts,
            rings: ManuallyDrop::new(Rings { receive, transmit }),
            has_status: has(FEATURE_STATUS),
            link_up: false,
            link_event: None,
            failed: None,
            wants_room: false,
            interrupts_on: true,
            interrupts_seen: 0,
            notifications: 0,
        };
        start(&mut device.transport);
        // Buffers may be made available before DRIVER_OK, but the device is told of them only after it (3.1.1).
        device.rings.receive.fill()?;
        device.notify(RECEIVE_QUEUE);
        device.read_link();
        Ok(device)
    }

    /// Tells the device of new buffers, unless it said that it does not need to be told.
    fn notify(&mut self, queue: u16) {
        // The new index must be visible before the device's flag is read (2.7.13.4).
        fence(Ordering::SeqCst);
        let wanted = match queue {
            RECEIVE_QUEUE => self.rings.receive.should_notify(),
            _ => self.rings.transmit.should_notify(),
        };
        if wanted {
            self.notifications += 1;
            self.transport.notify(queue);
        }
    }

    /// Looks whether there is a link. A device that does not tell always has one (5.1.4.2).
    fn read_link(&mut self) {
        let status = || self.transport.read_config_space::<u16>(CONFIGURATION_STATUS).map(u16::from_le);
        let up = !self.has_status || status().is_ok_and(|status| status & STATUS_LINK_UP != 0);
        if up != self.link_up {
            self.link_up = up;
            self.link_event = Some(if up { Event::LinkUp(0) } else { Event::LinkDown });
        }
    }

    fn configuration_changed(&mut self) {
        let status = self.transport.get_status();
        if status.bits() == 0xff {
            self.failed = Some(DeviceError::Gone);
        } else if status.contains(DeviceStatus::DEVICE_NEEDS_RESET) {
            log::error!("virtio-net: the device reports that it needs a reset; giving it up");
            self.failed = Some(DeviceError::Failed);
        }
        self.read_link();
    }

    /// Looks at both rings. `None`: there is nothing to do.
    fn service(&mut self, received: &mut Queue, budget: usize) -> Result<Option<Event>, DeviceError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let rings = &mut *self.rings;
        let reclaimed = rings.transmit.reclaim(&mut rings.receive.spare);
        let taken = reclaimed.and_then(|_| rings.receive.take(received, budget));
        let taken = match taken {
            Ok(taken) => taken,
            Err(error) => {
                log::error!("virtio-net: {error}; giving the device up");
                self.failed = Some(DeviceError::Failed);
                return Err(DeviceError::Failed);
            }
        };
        if taken > 0 {
            self.notify(RECEIVE_QUEUE);
        }
        if self.wants_room && self.rings.transmit.has_room() {
            self.wants_room = false;
            return Ok(Some(Event::Progress));
        }
        Ok(if taken > 0 { Some(Event::Progress) } else { self.link_event.take() })
    }

    /// Lets the device interrupt, or not.
    fn set_device_interrupts(&mut self, on: bool) {
        self.interrupts_on = on;
        self.rings.receive.set_interrupts(on);
        // Finished transmissions are only of interest while frames wait for room.
        self.rings.transmit.set_interrupts(on && self.wants_room);
    }

    /// Whether the device handed back something worth looking at.
    fn has_work(&self) -> bool {
        self.rings.receive.has_used() || (self.wants_room && self.rings.transmit.has_used())
    }

    /// Waits for an interrupt and takes note of its reason.
    async fn wait(&mut self) {
        let interrupts = &self.interrupts;
        let (queues, configuration) = poll_fn(|context| {
            if interrupts.queues.poll_fired(context).is_ready() {
                // The other one stays latched for the next wait.
                return Poll::Ready((true, false));
            }
            let fired = |signal: &I| signal.poll_fired(context).is_ready();
            if interrupts.configuration.as_ref().is_some_and(fired) {
                return Poll::Ready((false, true));
            }
            Poll::Pending
        })
        .await;
        self.interrupts_seen += 1;
        let mut changed = configuration;
        if self.interrupts.routing == Interrupts::Line {
            // Reading the reason lets go of the line.
            let reason = self.transport.ack_interrupt();
            changed |= reason.contains(InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT);
        }
        if queues {
            self.interrupts.queues.rearm();
        }
        if changed {
            if let Some(signal) = &self.interrupts.configuration {
                signal.rearm();
            }
            self.configuration_changed();
        }
    }
}

impl<T: InterruptTransport, I: Interrupt> NetworkDevice for VirtioNetwork<T, I> {
    fn information(&self) -> &Information {
        &self.information
    }

    async fn receive(&mut self, received: &mut Queue, budget: usize) -> Result<Event, DeviceError> {
        // Left on by a wait that was cancelled.
        if self.interrupts_on {
            self.set_device_interrupts(false);
        }
        loop {
            if let Some(event) = self.service(received, budget)? {
                return Ok(event);
            }
            self.set_device_interrupts(true);
            // A frame may have come before the device saw that: look again (2.7.7.1).
            fence(Ordering::SeqCst);
            if !self.has_work() {
                self.wait().await;
            }
            self.set_device_interrupts(false);
        }
    }

    fn transmit(&mut self, frames: &mut Queue) -> Result<(), DeviceError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let rings = &mut *self.rings;
        let sent = rings.transmit.send(frames, &mut rings.receive.spare);
        match sent {
            Ok(sent) => {
                self.wants_room = !frames.is_empty();
                if sent > 0 {
                    self.notify(TRANSMIT_QUEUE);
                }
                Ok(())
            }
            Err(error) => {
                log::error!("virtio-net: {error}; giving the device up");
                self.failed = Some(DeviceError::Failed);
                Err(DeviceError::Failed)
            }
        }
    }

    fn counters(&self, visit: &mut dyn FnMut(&'static str, u64)) {
        visit("interrupts", self.interrupts_seen);
        visit("doorbells", self.notifications);
        visit("bad_lengths", self.rings.receive.bad_lengths);
        visit("no_receive_memory", self.rings.receive.no_memory);
        visit("unsendable", self.rings.transmit.unsendable);
    }
}

impl<T: InterruptTransport, I> Drop for VirtioNetwork<T, I> {
    fn drop(&mut self) {
        match reset(&mut self.transport) {
            // SAFETY: dropped once, here, and not used afterwards; the device has let go of everything in there.
            Ok(()) => unsafe { ManuallyDrop::drop(&mut self.rings) },
            // The device may still write: its memory is given up rather than reused.
            Err(error) => log::error!("virtio-net: {error}"),
        }
    }
}

/// What a device did that no working device does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misbehaviour {
    /// It returned a buffer that it was not given.
    UnknownBuffer { queue: u16, token: u16 },
    /// It changed its mind about which buffer it returned.
    InconsistentRing { queue: u16 },
}

impl core::fmt::Display for Misbehaviour {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::UnknownBuffer { queue, token } => {
                write!(
                    formatter,
                    "the device returned buffer {token} of queue {queue}, which it does not have"
                )
            }
            Self::InconsistentRing { queue } => {
                write!(formatter, "the device changed an entry of queue {queue} that it had handed back")
            }
        }
    }
}
