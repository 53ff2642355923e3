//! A network device of any kind, so that the network layer is compiled into the image once and not for each driver.

#[cfg(feature = "usb")]
use cdc_ecm::CdcEcm;
use hal::network::{DeviceError, Event, Information, NetworkDevice};
use netbuf::Queue;
#[cfg(feature = "usb")]
use rtl8152::Rtl8152;
use virtio::network::VirtioNetwork;
use virtio::pci::PciTransport;
#[cfg(feature = "usb")]
use xhci::Slot;

use super::window::Window;
use crate::interrupt::dispatch::DeviceInterrupt;
#[cfg(feature = "usb")]
use crate::time::SystemClock;

/// A USB device behind an xHCI controller.
#[cfg(feature = "usb")]
pub(super) type UsbDevice = usb::Device<Slot<Window, SystemClock>>;

/// A network device of one of the drivers there are.
pub(super) enum NetworkAdapter {
    Virtio(VirtioNetwork<PciTransport<Window>, DeviceInterrupt>),
    #[cfg(feature = "usb")]
    Rtl8152(Rtl8152<UsbDevice, SystemClock>),
    #[cfg(feature = "usb")]
    CdcEcm(CdcEcm<UsbDevice, SystemClock>),
}

/// Calls the same method of whichever driver it is.
macro_rules! forward {
    ($self:ident, $device:ident => $call:expr) => {
        match $self {
            Self::Virtio($device) => $call,
            #[cfg(feature = "usb")]
            Self::Rtl8152($device) => $call,
            #[cfg(feature = "usb")]
            Self::CdcEcm($device) => $call,
        }
    };
}

impl NetworkDevice for NetworkAdapter {
    fn information(&self) -> &Information {
        forward!(self, device => device.information())
    }

    async fn receive(&mut self, received: &mut Queue, budget: usize) -> Result<Event, DeviceError> {
        forward!(self, device => device.receive(received, budget).await)
    }

    fn transmit(&mut self, frames: &mut Queue) -> Result<(), DeviceError> {
        forward!(self, device => device.transmit(frames))
    }

    fn counters(&self, visit: &mut dyn FnMut(&'static str, u64)) {
        forward!(self, device => device.counters(visit));
    }
}
