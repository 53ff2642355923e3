//! What is plugged into the model: virtual USB devices.

use std::cell::RefCell;
use std::rc::Rc;

use crate::hub::VirtualHub;

/// How fast a device signals. The numbers are the default protocol speed ids (xHCI table 7-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speed {
    /// 12 Mbit/s.
    Full = 1,
    /// 1.5 Mbit/s.
    Low = 2,
    /// 480 Mbit/s.
    High = 3,
    /// 5 Gbit/s.
    Super = 4,
    /// 10 Gbit/s.
    SuperPlus = 5,
}

impl Speed {
    /// Whether the device sits on the USB 3 part of a port.
    #[must_use]
    pub fn is_superspeed(self) -> bool {
        matches!(self, Self::Super | Self::SuperPlus)
    }
}

/// How a device answers a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done. For a transfer to the host: these bytes, all that comes now.
    Data(Vec<u8>),
    /// Not now: ask again later.
    NotReady,
    /// STALL handshake.
    Stall,
    /// More bytes than were asked for.
    Babble,
    /// Silence or garbage.
    Broken,
}

impl Answer {
    /// Done, without bytes.
    #[must_use]
    pub fn done() -> Self {
        Self::Data(Vec::new())
    }
}

/// A USB device.
pub trait VirtualDevice {
    /// How fast it signals.
    fn speed(&self) -> Speed;

    /// A bus reset: unconfigured, address forgotten.
    fn reset(&mut self);

    /// A control transfer; `data` are the bytes of an OUT data stage. At most `wLength` bytes of the answer are used,
    /// more is a babble.
    fn control(&mut self, setup: [u8; 8], data: &[u8]) -> Answer;

    /// The host asks a bulk or interrupt endpoint (address with bit 7 set) for at most `length` bytes.
    fn transfer_in(&mut self, endpoint: u8, length: usize) -> Answer {
        let _ = (endpoint, length);
        Answer::Stall
    }

    /// The host sends to a bulk or interrupt endpoint.
    fn transfer_out(&mut self, endpoint: u8, data: &[u8]) -> Answer {
        let _ = (endpoint, data);
        Answer::Stall
    }

    /// The device as a hub, if it is one.
    fn as_hub(&mut self) -> Option<&mut VirtualHub> {
        None
    }
}

/// A plugged device: the test keeps another handle to it.
pub type Plugged = Rc<RefCell<dyn VirtualDevice>>;

/// Wraps a device so that it can be plugged and still be reached.
pub fn shared<D: VirtualDevice + 'static>(device: D) -> Rc<RefCell<D>> {
    Rc::new(RefCell::new(device))
}
