//! The face of a network device towards the network layer.
//!
//! A driver owns its hardware; the network layer owns the driver and runs one task per device:
//! wait for frames, answer them, hand the answers back as one batch.

use core::fmt;
use core::future::Future;

use netbuf::Queue;

/// What a device is and what it does by itself.
#[derive(Clone, Debug)]
pub struct Information {
    /// The driver, for messages: `virtio-net`, `rtl8153a`.
    pub driver: &'static str,
    /// The station address.
    pub mac_address: [u8; 6],
    /// Largest network-layer packet that fits one frame, in bytes (1500 for plain Ethernet).
    pub maximum_transmission_unit: usize,
    /// The device completes a transport checksum left partial (`ChecksumStatus::Partial`) in a frame to transmit.
    pub transmit_checksum: bool,
}

/// What ended a wait on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Frames were appended to the queue, or transmit room came free.
    Progress,
    /// The link came up, at this many megabits per second (0: the device does not tell).
    LinkUp(u32),
    /// The link went down.
    LinkDown,
}

/// Why a device stopped being usable. The interface goes down; everything else runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceError {
    /// The device was unplugged or its host controller is gone.
    Gone,
    /// The driver gave up after its recovery steps; it has logged why.
    Failed,
}

impl fmt::Display for DeviceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Gone => "the device is gone",
            Self::Failed => "the device failed and could not be recovered",
        })
    }
}

impl core::error::Error for DeviceError {}

/// A network device, driven by one task. It has no link until it tells [`Event::LinkUp`]: from then on frames pass.
pub trait NetworkDevice {
    /// What the device is. The MAC address does not change while the device lives.
    fn information(&self) -> &Information;

    /// Waits until there is something to do, then appends at most `budget` received frames to `received`: Ethernet
    /// header at `data`, frame check sequence already removed. Also reclaims finished transmissions.
    /// While it finds work it leaves the device's interrupts masked; it unmasks them before it waits.
    ///
    /// Dropping the future loses nothing: what was not appended comes with the next call.
    ///
    /// # Errors
    ///
    /// [`DeviceError`]: the device is not usable any more; drop it.
    fn receive(
        &mut self,
        received: &mut Queue,
        budget: usize,
    ) -> impl Future<Output = Result<Event, DeviceError>>;

    /// Takes frames from the front of `frames` as long as the device has room, and tells the device once.
    /// Frames that stay in the queue may be offered again after the next [`Event::Progress`].
    ///
    /// # Errors
    ///
    /// [`DeviceError`]: the device is not usable any more; drop it.
    fn transmit(&mut self, frames: &mut Queue) -> Result<(), DeviceError>;

    /// Counters of the driver itself, each with its name: drops at the ring, recovery steps, doorbells, interrupts.
    fn counters(&self, visit: &mut dyn FnMut(&'static str, u64)) {
        let _ = visit;
    }
}

/// Declares `Counters`, a struct of `u64`s that can be visited by name: what [`NetworkDevice::counters`] of a driver shows.
#[macro_export]
macro_rules! counters {
    ($($(#[$documentation:meta])* $name:ident,)*) => {
        /// Counters of one device since its driver started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$documentation])* pub $name: u64,)*
        }

        impl Counters {
            /// Calls `visit` for every counter.
            pub fn visit(&self, visit: &mut dyn FnMut(&'static str, u64)) {
                $(visit(stringify!($name), self.$name);)*
            }
        }
    };
}
