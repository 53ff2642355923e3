//! The bus: a task for each port, from plug to unplug.

use hal::time::{Clock, Duration, sleep};
use netbuf::Memory;

use crate::UsbDevice;
use crate::attached::{Change, Device};
use crate::device::TransferError;
use crate::first_look::{FirstLook, Look};
use crate::host::{HostController, HostError, HostSlot, PortStatus};
use crate::port::{DownstreamPort, RootPort};
use crate::waiting::{Either, FutureSet, Turn, either};

/// What may be chosen.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a connection must be stable before it is believed (USB 2.0, 7.1.7.3: TATTDB, 100 ms).
    pub debounce: Duration,
    /// How often a device is tried before it is left alone.
    pub attempts: u8,
    /// How long a control transfer of the enumeration may take (USB 2.0, 9.2.6.1: 5 seconds at most).
    pub control_deadline: Duration,
    /// How long a port stays without power in a power cycle.
    pub power_off: Duration,
    /// How long a device may take to come back after a power cycle.
    pub reconnect_deadline: Duration,
    /// How long a port without a device is watched, once its controller runs, before it counts as empty: what is plugged
    /// in is seen some time after the port has its power, and at super speed after the link was trained.
    pub connect_deadline: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(100),
            attempts: 3,
            control_deadline: Duration::from_secs(2),
            power_off: Duration::from_millis(500),
            reconnect_deadline: Duration::from_secs(3),
            connect_deadline: Duration::from_secs(1),
        }
    }
}

/// Offers a new device to the drivers. True when one took it; it keeps the handle, or a clone of it.
pub type Offer<'o, S> = &'o dyn Fn(Device<S>) -> bool;

/// One host controller's devices.
pub struct Bus<H, C> {
    pub(crate) host: H,
    pub(crate) clock: C,
    pub(crate) memory: Memory,
    pub(crate) config: Config,
    pub(crate) default_address: Turn,
    pub(crate) first_look: FirstLook,
}

impl<H: HostController, C: Clock> Bus<H, C> {
    /// A bus that nothing runs yet. `memory` is for the status reports of hubs.
    pub fn new(host: H, clock: C, memory: Memory, config: Config) -> Self {
        let (default_address, first_look) = (Turn::default(), FirstLook::default());
        Self { host, clock, memory, config, default_address, first_look }
    }

    /// Runs the bus: enumerates what is and what will be plugged in, and offers it. Does not end.
    /// Run it as a task beside the controller's own.
    pub async fn run(&self, offer: Offer<'_, H::Slot>) {
        let mut ports = FutureSet::new();
        for port in 1..=self.host.ports() {
            let look = self.first_look.begin();
            ports.push(self.serve_port(RootPort { host: &self.host, port }, look, offer));
        }
        ports.run().await;
    }

    /// Waits until everything that was plugged in when [`Bus::run`] began has been offered, or does not work. Whatever
    /// is offered later is plugged in later.
    pub async fn settled(&self) {
        self.first_look.over().await;
    }

    /// Serves a port until it is gone.
    pub(crate) async fn serve_port<'l, P: DownstreamPort>(
        &'l self,
        port: P,
        look: Look<'l>,
        offer: Offer<'l, H::Slot>,
    ) {
        let path = port.path();
        // Nothing is seen before the controller runs, which may take a while: it is taken over from the BIOS.
        port.changed().await;
        let empty_at = self.clock.now() + self.config.connect_deadline;
        let mut look = Some(look);
        let mut tripped = false;
        while let Ok(status) = port.status().await {
            match (core::mem::replace(&mut tripped, status.over_current), status.over_current) {
                (false, true) => log::error!("{path}: too much current flows; the port is off"),
                (true, false) => {
                    // The port's power is still off (USB 2.0, 11.12.5; xHCI 5.4.8).
                    log::info!("{path}: no longer too much current; the port is switched on again");
                    sleep(&self.clock, self.config.power_off).await;
                    port.set_power(true).await;
                }
                _ => {}
            }
            if !status.connected || status.over_current {
                let now = self.clock.now();
                if look.is_some() && now < empty_at {
                    either(port.changed(), sleep(&self.clock, empty_at.since(now))).await;
                } else {
                    look = None;
                    port.changed().await;
                }
                continue;
            }
            let Some(status) = self.debounce(&port, status).await else { continue };
            match self.bring_up(&port, status).await {
                Ok(device) => self.serve_device(&port, device, look.take(), offer).await,
                Err(unusable) => {
                    look = None;
                    if unusable == Unusable::Broken {
                        self.wait_for_unplug(&port).await;
                    }
                }
            }
        }
    }

    /// Waits until the connection is stable (USB 2.0, 7.1.7.3). `None` when it is not there any more.
    async fn debounce<P: DownstreamPort>(&self, port: &P, first: PortStatus) -> Option<PortStatus> {
        /// A contact that bounces for a minute is not one.
        const PATIENCE: u32 = 600;
        let mut status = first;
        for _ in 0..PATIENCE {
            sleep(&self.clock, self.config.debounce).await;
            status = port.status().await.ok()?;
            if !status.connected {
                return None;
            }
            if !status.connection_changed && !status.training {
                break;
            }
        }
        Some(status)
    }

    /// Enumerates, several times if need be.
    async fn bring_up<P: DownstreamPort>(
        &self,
        port: &P,
        status: PortStatus,
    ) -> Result<Device<H::Slot>, Unusable> {
        let path = port.path();
        let mut warm = status.wants_warm_reset;
        for attempt in 1..=self.config.attempts.max(1) {
            let error = match self.enumerate(port, warm).await {
                Ok(device) => return Ok(device),
                Err(error) => error,
            };
            let Ok(status) = port.status().await else { return Err(Unusable::Unplugged) };
            if !status.connected || status.connection_changed {
                log::info!("{path}: unplugged while it was brought up ({error})");
                return Err(Unusable::Unplugged);
            }
            warm = status.wants_warm_reset;
            log::warn!("{path}: attempt {attempt} of {}: {error}", self.config.attempts);
        }
        log::error!("{path}: the device does not work and is left alone until it is replugged");
        port.disable().await;
        Err(Unusable::Broken)
    }

    async fn wait_for_unplug<P: DownstreamPort>(&self, port: &P) {
        while let Ok(status) = port.status().await {
            if !status.connected || status.connection_changed {
                return;
            }
            port.changed().await;
        }
    }

    /// Serves a device until it is unplugged: drivers use it meanwhile.
    async fn serve_device<'l, P: DownstreamPort>(
        &'l self,
        port: &P,
        device: Device<H::Slot>,
        look: Option<Look<'l>>,
        offer: Offer<'_, H::Slot>,
    ) {
        let information = device.information();
        log::info!("{information}");
        let watch = async {
            self.watch(port, &device).await;
            device.end();
        };
        if crate::hub::is_hub(information) {
            // The hub's ports end by themselves when the hub does, and have to: their devices give slots back.
            let hub = self.serve_hub(&device, port.attachment(information.speed), look, offer);
            crate::waiting::both(watch, hub).await;
        } else {
            if !offer(device.clone()) {
                log::info!("{}: no driver for it; left alone", information.path);
            }
            drop(look);
            watch.await;
        }
        log::info!("{}: gone", information.path);
        device.slot().disable().await;
    }

    /// Watches port and device, and carries out what the driver asks for, until the device is gone.
    async fn watch<P: DownstreamPort>(&self, port: &P, device: &Device<H::Slot>) {
        while !device.is_ended() {
            match either(port.changed(), device.next_change()).await {
                Either::First(()) => {
                    let Ok(status) = port.status().await else { return };
                    let there = status.connected && status.enabled && !status.connection_changed;
                    if !there || status.wants_warm_reset {
                        return;
                    }
                }
                Either::Second((change, reply)) => {
                    let carried_out = self.carry_out(port, device, change).await;
                    reply.give(carried_out.map_err(|(error, _)| error));
                    if matches!(carried_out, Err((_, Afterwards::Lost))) {
                        return;
                    }
                }
            }
        }
    }

    async fn carry_out<P: DownstreamPort>(
        &self,
        port: &P,
        device: &Device<H::Slot>,
        change: Change,
    ) -> Result<(), (TransferError, Afterwards)> {
        let usable = |error: HostError| (error.into(), Afterwards::Usable);
        match change {
            Change::Configuration(value) => device.change_configuration(value).await.map_err(usable),
            Change::Interface { interface, alternate } => {
                device.change_interface(interface, alternate).await.map_err(usable)
            }
            Change::Reset => self.reset(port, device).await,
            Change::PowerCycle => {
                if !port.set_power(false).await {
                    return Err((TransferError::NotThere, Afterwards::Usable));
                }
                sleep(&self.clock, self.config.power_off).await;
                port.set_power(true).await;
                self.wait_for_reconnect(port).await;
                self.reset(port, device).await
            }
        }
    }

    async fn wait_for_reconnect<P: DownstreamPort>(&self, port: &P) {
        let end = self.clock.now() + self.config.reconnect_deadline;
        while self.clock.now() < end {
            sleep(&self.clock, self.config.debounce).await;
            match port.status().await {
                Ok(status) if status.connected && !status.connection_changed && !status.training => return,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Port reset and address again. A device that does not come back from it is brought up anew, as another one.
    async fn reset<P: DownstreamPort>(
        &self,
        port: &P,
        device: &Device<H::Slot>,
    ) -> Result<(), (TransferError, Afterwards)> {
        let _turn = self.default_address.take().await;
        let path = port.path();
        let speed = port.reset(false).await.map(|status| status.speed);
        let same_speed = matches!(speed, Ok(Some(speed)) if speed == device.information().speed);
        if !same_speed {
            log::warn!("{path}: not the same after its port was reset: {speed:?}");
            return Err((TransferError::Gone, Afterwards::Lost));
        }
        self.readdress(device).await.map_err(|error| {
            log::warn!("{path}: lost in a reset: {error}");
            (TransferError::Gone, Afterwards::Lost)
        })
    }
}

/// Why a device was not brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unusable {
    /// It went away; another may be there by now.
    Unplugged,
    /// Somebody has to unplug it first.
    Broken,
}

/// What is left of a device after a change that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Afterwards {
    Usable,
    Lost,
}
