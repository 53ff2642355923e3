//! USB: host controllers, and the network adapters that are plugged in behind them.

use alloc::rc::Rc;
use core::fmt;

use cdc_ecm::CdcEcm;
use hal::dma::Pages;
use hal::time::{Duration, sleep};
use rtl8152::Rtl8152;
use usb::UsbDevice as _;
use usb::waiting::both;
use xhci::Controller;

use super::adapters::Adapters;
use super::binding::{BindError, Environment, spawn_interface};
use super::bus::{Device, DeviceError, Interrupts};
use super::network::{NetworkAdapter, UsbDevice};
use super::search::Search;
use crate::executor;
use crate::time::SystemClock;

/// The base address register of an xHCI controller's registers (xHCI 1.2, 5.2.1).
const REGISTERS: u8 = 0;

/// How long an adapter may be away that was switched from being a CD-ROM.
const RETURN_DEADLINE: Duration = Duration::from_secs(3);

/// Starts a host controller and the bus behind it, a task each.
pub(super) fn start(
    device: &Device<'_>,
    number: u8,
    pages: &Pages,
    search: &Rc<Search>,
    adapters: Rc<Adapters>,
) -> Result<(), BindError> {
    let environment = search.environment;
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
    let searching = Rc::downgrade(search);
    let search = search.clone();
    executor::spawn(async move {
        let offer = |device| offer(device, environment, &adapters, searching.upgrade());
        let settled = async {
            bus.settled().await;
            drop(search);
        };
        both(bus.run(&offer), settled).await;
    })?;
    Ok(())
}

/// Finds a driver for a device that was plugged in; whether there is one. A search that goes on is over only when the
/// driver has come up or has failed.
fn offer(
    device: UsbDevice,
    environment: &'static Environment,
    adapters: &Adapters,
    search: Option<Rc<Search>>,
) -> bool {
    let information = device.information();
    let path = information.path;
    let mac_address = adapters.station_address(path);
    let throughput = adapters.throughput;
    let ids = &information.device;
    let spawned = match rtl8152::matches(ids.vendor, ids.product) {
        Some(rtl8152::Match::Adapter) => executor::spawn(async move {
            let mut config = rtl8152::Config::default();
            config.mac_address = mac_address;
            if throughput {
                config.coalescing = rtl8152::Coalescing::Throughput;
            }
            let adapter = Rtl8152::start(device, SystemClock, environment.memory.clone(), config).await;
            started(path, adapter.map(NetworkAdapter::Rtl8152), environment);
            drop(search);
        }),
        Some(rtl8152::Match::ModeSwitch) => executor::spawn(async move {
            match rtl8152::switch_mode(&device, &SystemClock, &environment.memory).await {
                // It goes, and comes back as an adapter.
                Ok(()) if search.is_some() => sleep(&SystemClock, RETURN_DEADLINE).await,
                Ok(()) => {}
                Err(error) => log::error!("{path}: it stays a CD-ROM: {error}"),
            }
            drop(search);
        }),
        None if cdc_ecm::matches(information) => executor::spawn(async move {
            let mut config = cdc_ecm::Config::default();
            if mac_address.is_some() {
                // The device's own filter knows only its own address.
                config.mac_address = mac_address;
                config.filter = cdc_ecm::Filter::Promiscuous;
            }
            let adapter = CdcEcm::start(device, SystemClock, environment.memory.clone(), config).await;
            started(path, adapter.map(NetworkAdapter::CdcEcm), environment);
            drop(search);
        }),
        None => return false,
    };
    if let Err(error) = spawned {
        log::error!("{path}: not driven: {error}");
    }
    spawned.is_ok()
}

/// Gives an adapter that came up its interface, and says why one did not.
fn started<E: fmt::Display>(
    path: usb::Path,
    adapter: Result<NetworkAdapter, E>,
    environment: &'static Environment,
) {
    match adapter {
        Ok(adapter) => {
            if let Err(error) = spawn_interface(adapter, environment) {
                log::error!("{path}: not driven: {error}");
            }
        }
        Err(error) => log::error!("{path}: the adapter does not work: {error}"),
    }
}
