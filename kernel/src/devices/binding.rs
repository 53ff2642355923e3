//! Which driver gets which function.
//!
//! A driver that fails to come up leaves its function quiet and says why; everything else goes on.

use alloc::boxed::Box;
use core::fmt;

use hal::dma::Pages;
use virtio::DeviceType;
use virtio::entropy::VirtioEntropy;
use virtio::pci::PciTransport;

use super::bus::{Bus, Device};
use super::entropy;
use super::window::Window;
use crate::time::SystemClock;

/// The drivers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    VirtioNetwork,
    VirtioEntropy,
    Xhci,
    /// Part of the machine itself: bridges and the like, which need no driver.
    None,
    Unknown,
}

const BRIDGES: u8 = 0x06;
const SERIAL_BUSES: u8 = 0x0c;
const USB: u8 = 0x03;
const XHCI: u8 = 0x30;

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
        (SERIAL_BUSES, USB, XHCI) => Driver::Xhci,
        _ => Driver::Unknown,
    }
}

fn virtio_transport(device: &Device<'_>) -> Result<PciTransport<Window>, virtio::Error> {
    device.enable();
    PciTransport::new(
        device.function().device,
        |offset| device.read_configuration(offset),
        |register| device.window(register),
    )
}

/// Says what came of a function's driver, and silences the function when the driver gave up.
fn conclude<E: fmt::Display>(device: &Device<'_>, name: &str, result: Result<(), E>) {
    match result {
        Ok(()) => log::info!("PCI: {}: {name}", device.function()),
        Err(error) => {
            device.disable();
            log::error!("PCI: {}: {name} does not work: {error}", device.function());
        }
    }
}

/// Brings up the sources of random bytes, which everything else may need.
pub fn bind_entropy(bus: &Bus, pages: &Pages) {
    for device in bus.devices().filter(|device| driver(device) == Driver::VirtioEntropy) {
        let result = virtio_transport(&device)
            .and_then(|transport| VirtioEntropy::new(transport, pages, SystemClock))
            .map(|source| entropy::add_device(Box::new(source)));
        conclude(&device, "virtio-rng", result);
    }
}

/// Gives every other function that has a driver to it, and names those that have none.
pub fn bind(bus: &Bus) {
    for device in bus.devices() {
        match driver(&device) {
            Driver::VirtioNetwork | Driver::Xhci => log::info!("PCI: {}: later", device.function()),
            Driver::VirtioEntropy | Driver::None => {}
            Driver::Unknown => {
                log::info!("PCI: {}: no driver ({:?})", device.function(), device.function().device_type());
            }
        }
    }
}
