//! Which driver gets which function.
//!
//! A driver that fails to come up leaves its function quiet and says why; everything else goes on.

use alloc::boxed::Box;
#[cfg(feature = "usb")]
use alloc::rc::Rc;
use core::fmt;

use hal::dma::Pages;
use virtio::entropy::VirtioEntropy;
use virtio::network::{NetworkInterrupts, VirtioNetwork};
use virtio::pci::PciTransport;
use virtio::{DeviceType, Interrupts as VirtioInterrupts};

use super::adapters::Adapters;
use super::bus::{Bus, Device, DeviceError, Interrupts};
use super::entropy;
use super::network::NetworkAdapter;
use super::search::Search;
#[cfg(feature = "usb")]
use super::usb_host;
use super::window::Window;
use crate::executor::{self, TooManyTasks};
use crate::net;
use crate::time::SystemClock;

/// What drivers and interfaces share; made once, for good.
pub type Environment = net::Environment<SystemClock>;

/// The drivers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    VirtioNetwork,
    VirtioEntropy,
    #[cfg(feature = "usb")]
    Xhci,
    /// Part of the machine itself: bridges and the like, which need no driver.
    None,
    Unknown,
}

const BRIDGES: u8 = 0x06;
#[cfg(feature = "usb")]
const SERIAL_BUSES: u8 = 0x0c;
#[cfg(feature = "usb")]
const USB: u8 = 0x03;
#[cfg(feature = "usb")]
const XHCI: u8 = 0x30;

/// Why a driver did not come up.
#[derive(Debug)]
pub enum BindError {
    /// The function does not give what the driver needs.
    Device(DeviceError),
    /// The virtio driver's error.
    Virtio(virtio::Error),
    /// The xHCI driver's error.
    #[cfg(feature = "usb")]
    Xhci(xhci::ControllerError),
    /// No task for it.
    Tasks(TooManyTasks),
}

impl fmt::Display for BindError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => error.fmt(formatter),
            Self::Virtio(error) => error.fmt(formatter),
            #[cfg(feature = "usb")]
            Self::Xhci(error) => error.fmt(formatter),
            Self::Tasks(error) => error.fmt(formatter),
        }
    }
}

impl core::error::Error for BindError {}

macro_rules! from {
    ($($error:ty => $variant:ident),* $(,)?) => {$(
        impl From<$error> for BindError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}
from!(DeviceError => Device, virtio::Error => Virtio, TooManyTasks => Tasks);
#[cfg(feature = "usb")]
from!(xhci::ControllerError => Xhci);

/// Chooses by ids first, by class second.
fn driver(device: &Device<'_>) -> Driver {
    let function = device.function();
    if function.vendor == virtio::pci::VENDOR_ID {
        return match virtio::pci::device_type(function.device) {
            Some(DeviceType::Network) => Driver::VirtioNetwork,
            Some(DeviceType::EntropySource) => Driver::VirtioEntropy,
            _ => Driver::Unknown,
        };
    }
    match (function.class, function.subclass, function.interface) {
        (BRIDGES, ..) => Driver::None,
        #[cfg(feature = "usb")]
        (SERIAL_BUSES, USB, XHCI) => Driver::Xhci,
        _ => Driver::Unknown,
    }
}

/// Brings up the sources of random bytes, which everything else may need.
pub fn bind_entropy(bus: &Bus, pages: &Pages) {
    for device in bus.devices().filter(|device| driver(device) == Driver::VirtioEntropy) {
        conclude(&device, "virtio-rng", virtio_entropy(&device, pages));
    }
}

/// Gives every other function to its driver, and names those that have none.
pub fn bind(bus: &Bus, pages: &Pages, environment: &'static Environment, adapters: &Adapters) {
    let search = Search::begin(environment);
    #[cfg(feature = "usb")]
    let (mut controllers, adapters) = (0, Rc::new(adapters.clone()));
    #[cfg(not(feature = "usb"))]
    let _ = adapters;
    for device in bus.devices() {
        match driver(&device) {
            Driver::VirtioNetwork => {
                conclude(&device, "virtio-net", virtio_network(&device, pages, environment));
            }
            #[cfg(feature = "usb")]
            Driver::Xhci => {
                let started = usb_host::start(&device, controllers, pages, &search, adapters.clone());
                conclude(&device, "xhci", started);
                controllers += 1;
            }
            Driver::VirtioEntropy | Driver::None => {}
            Driver::Unknown => {
                log::info!("PCI: {}: no driver ({:?})", device.function(), device.function().device_type());
            }
        }
    }
    drop(search);
}

/// Says what came of a function's driver, and silences the function when the driver gave up.
fn conclude(device: &Device<'_>, name: &str, result: Result<(), BindError>) {
    match result {
        Ok(()) => log::info!("PCI: {}: {name}", device.function()),
        Err(error) => {
            device.disable();
            log::error!("PCI: {}: {name} does not work: {error}", device.function());
        }
    }
}

/// Drives a network device as a task of its own.
pub(super) fn spawn_interface(
    device: NetworkAdapter,
    environment: &'static Environment,
) -> Result<(), TooManyTasks> {
    let interface = net::run_interface(device, environment);
    executor::spawn(async move {
        // The interface has logged why it ended.
        interface.await;
    })
}

fn virtio_transport(device: &Device<'_>) -> Result<PciTransport<Window>, virtio::Error> {
    device.enable();
    PciTransport::new(
        device.function().device,
        |offset| device.read_configuration(offset),
        |register| device.window(register),
    )
}

fn virtio_entropy(device: &Device<'_>, pages: &Pages) -> Result<(), BindError> {
    let source = VirtioEntropy::new(virtio_transport(device)?, pages, SystemClock)?;
    entropy::add_device(Box::new(source));
    Ok(())
}

fn virtio_network(
    device: &Device<'_>,
    pages: &Pages,
    environment: &'static Environment,
) -> Result<(), BindError> {
    let transport = virtio_transport(device)?;
    let interrupts = match device.interrupts()? {
        Interrupts::Messages([configuration, queues]) => NetworkInterrupts {
            routing: VirtioInterrupts::MessageSignalled { configuration: 0, queues: 1 },
            queues,
            configuration: Some(configuration),
        },
        // virtio knows no plain MSI, so this is a line.
        Interrupts::One { interrupt, .. } => {
            NetworkInterrupts { routing: VirtioInterrupts::Line, queues: interrupt, configuration: None }
        }
    };
    let network = VirtioNetwork::new(transport, pages, &environment.memory, interrupts)?;
    Ok(spawn_interface(NetworkAdapter::Virtio(network), environment)?)
}
