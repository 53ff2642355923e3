//! USB: host controllers, and the network adapters that are plugged in behind them.

use cdc_ecm::CdcEcm;
use hal::dma::Pages;
use rtl8152::Rtl8152;
use usb::UsbDevice;
use usb::host::HostSlot;
use xhci::Controller;

use super::binding::{BindError, Environment, spawn_interface};
use super::bus::{Device, DeviceError, Interrupts};
use crate::executor::{self, TooManyTasks};
use crate::time::SystemClock;

/// The base address register of an xHCI controller's registers (xHCI 1.2, 5.2.1).
const REGISTERS: u8 = 0;

/// Starts a host controller and the bus behind it, a task each.
pub(super) fn start(
    device: &Device<'_>,
    number: u8,
    pages: &Pages,
    environment: &'static Environment,
) -> Result<(), BindError> {
    device.enable();
    let window = device.window(REGISTERS).ok_or(DeviceError::NoWindow { register: REGISTERS })?;
    let (interrupt, message_signalled) = match device.interrupts()? {
        Interrupts::Messages([interrupt]) => (interrupt, true),
        Interrupts::One { interrupt, message_signalled } => (interrupt, message_signalled),
    };
    let config = xhci::Config { message_signalled, ..xhci::Config::default() };
    let controller = Controller::new(number, window, pages.clone(), SystemClock, config)?;
    let bus =
        usb::Bus::new(controller.clone(), SystemClock, environment.memory.clone(), usb::Config::default());
    executor::spawn(async move {
        if let Err(error) = controller.run(interrupt).await {
            log::error!("usb {number}: the host controller is given up: {error}");
        }
    })?;
    executor::spawn(async move { bus.run(&|device| offer(device, environment)).await })?;
    Ok(())
}

/// Finds a driver for a device that was plugged in; whether there is one.
fn offer<S: HostSlot + 'static>(device: usb::Device<S>, environment: &'static Environment) -> bool {
    let information = device.information();
    let path = information.path;
    let ids = &information.device;
    let spawned = match rtl8152::matches(ids.vendor, ids.product) {
        Some(rtl8152::Match::Adapter) => start_rtl8152(device, environment),
        Some(rtl8152::Match::ModeSwitch) => executor::spawn(async move {
            if let Err(error) = rtl8152::switch_mode(&device, &SystemClock, &environment.memory).await {
                log::error!("{path}: it stays a CD-ROM: {error}");
            }
        }),
        None if cdc_ecm::matches(information) => start_cdc_ecm(device, environment),
        None => return false,
    };
    if let Err(error) = spawned {
        log::error!("{path}: not driven: {error}");
    }
    spawned.is_ok()
}

fn start_rtl8152<S: HostSlot + 'static>(
    device: usb::Device<S>,
    environment: &'static Environment,
) -> Result<(), TooManyTasks> {
    let path = device.information().path;
    executor::spawn(async move {
        let config = rtl8152::Config::default();
        match Rtl8152::start(device, SystemClock, environment.memory.clone(), config).await {
            Ok(adapter) => report(path, spawn_interface(adapter, environment)),
            Err(error) => log::error!("{path}: the adapter does not work: {error}"),
        }
    })
}

fn start_cdc_ecm<S: HostSlot + 'static>(
    device: usb::Device<S>,
    environment: &'static Environment,
) -> Result<(), TooManyTasks> {
    let path = device.information().path;
    executor::spawn(async move {
        let config = cdc_ecm::Config::default();
        match CdcEcm::start(device, SystemClock, environment.memory.clone(), config).await {
            Ok(adapter) => report(path, spawn_interface(adapter, environment)),
            Err(error) => log::error!("{path}: the adapter does not work: {error}"),
        }
    })
}

fn report(path: usb::Path, spawned: Result<(), TooManyTasks>) {
    if let Err(error) = spawned {
        log::error!("{path}: not driven: {error}");
    }
}
