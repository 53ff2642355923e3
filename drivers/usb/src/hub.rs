//! Hubs (USB 2.0 chapter 11, USB 3.2 chapter 10): a device whose driver is the bus itself, because its ports are
//! served as the root hub's are.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::future::poll_fn;

use hal::time::{Clock, Duration, sleep};
use netbuf::{Block, Zone};

use crate::attached::Device;
use crate::bus::{Bus, Offer};
use crate::descriptor::{DescriptorError, HubDescriptor, kind};
use crate::device::{
    DeviceInformation, EndpointAddress, Path, Pipe, Request, Speed, Transfer, TransferError,
};
use crate::first_look::Look;
use crate::host::{Attachment, HostController, HostError, HostSlot, HubShape, PortStatus, Translator};
use crate::port::DownstreamPort;
use crate::waiting::{FutureSet, Waiters, both, either};
use crate::{TransferKind, UsbDevice};

/// `bDeviceClass` of a hub.
const HUB_CLASS: u8 = 9;
/// `bDeviceProtocol` and `bInterfaceProtocol` of a hub with a translator for each port (USB 2.0, 11.23.1).
const MULTIPLE_TRANSLATORS: u8 = 2;
/// More ports than a USB 2 route string can name.
const MAXIMUM_PORTS: u8 = 15;
/// SET_HUB_DEPTH (USB 3.2, 10.16.2.9).
const SET_HUB_DEPTH: u8 = 12;
/// How long a request to a hub may take.
const DEADLINE: Duration = Duration::from_secs(1);
/// How long a port of a hub may stay in reset.
const RESET_DEADLINE: Duration = Duration::from_millis(800);
/// How often a hub that does not tell of a port is asked again, and after what time.
const RETRIES: u32 = 4;
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How often a failing status pipe is brought back before the hub is given up.
const RECOVERIES: u32 = 3;

/// Port features (USB 2.0 table 11-17, USB 3.2 table 10-17).
mod feature {
    pub const PORT_ENABLE: u16 = 1;
    pub const PORT_RESET: u16 = 4;
    pub const PORT_POWER: u16 = 8;
    /// The first of the change features; bit n of `wPortChange` is cleared by feature 16 + n on a USB 2 hub.
    pub const CHANGES: u16 = 16;
    pub const C_PORT_LINK_STATE: u16 = 25;
    pub const C_PORT_CONFIG_ERROR: u16 = 26;
    pub const BH_PORT_RESET: u16 = 28;
    pub const C_BH_PORT_RESET: u16 = 29;
}

/// `wPortStatus` and `wPortChange` (USB 2.0 11.24.2.7, USB 3.2 10.16.2.6).
mod port_bits {
    pub const CONNECTION: u16 = 1 << 0;
    pub const ENABLE: u16 = 1 << 1;
    pub const OVER_CURRENT: u16 = 1 << 3;
    pub const RESET: u16 = 1 << 4;
    pub const LOW_SPEED: u16 = 1 << 9;
    pub const HIGH_SPEED: u16 = 1 << 10;
    /// USB 3, change: warm reset done.
    pub const WARM_RESET: u16 = 1 << 5;
    /// USB 3, change: link state.
    pub const LINK_STATE: u16 = 1 << 6;
    /// USB 3, change: configuration error.
    pub const CONFIG_ERROR: u16 = 1 << 7;
}

/// Whether the device is a hub.
pub(crate) fn is_hub(information: &DeviceInformation) -> bool {
    information.device.class == HUB_CLASS
}

/// A hub at work.
struct Hub<'b, S> {
    device: &'b Device<S>,
    attachment: Attachment,
    superspeed: bool,
    per_port_translators: bool,
    ports: Vec<PortLatch>,
}

#[derive(Default)]
struct PortLatch {
    changed: Cell<bool>,
    /// A change of connection that was acknowledged while something else was waited for.
    connection_changed: Cell<bool>,
    waiters: Waiters,
}

impl PortLatch {
    fn raise(&self) {
        self.changed.set(true);
        self.waiters.wake();
    }
}

/// Why a hub cannot be used.
#[derive(Clone, Copy, Debug)]
enum HubError {
    Transfer(TransferError),
    Host(HostError),
    Descriptor(DescriptorError),
    /// No interrupt endpoint to report changes.
    NoStatusEndpoint,
    /// No configuration.
    NoConfiguration,
    OutOfMemory,
}

impl fmt::Display for HubError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transfer(error) => error.fmt(formatter),
            Self::Host(error) => error.fmt(formatter),
            Self::Descriptor(error) => error.fmt(formatter),
            Self::NoStatusEndpoint => formatter.write_str("it has no endpoint to report changes"),
            Self::NoConfiguration => formatter.write_str("it has no configuration"),
            Self::OutOfMemory => formatter.write_str("no memory for its status reports"),
        }
    }
}

impl From<TransferError> for HubError {
    fn from(error: TransferError) -> Self {
        Self::Transfer(error)
    }
}

impl<H: HostController, C: Clock> Bus<H, C> {
    /// Runs a hub until it is unplugged or fails. Boxed, because hubs hang under hubs.
    pub(crate) fn serve_hub<'b>(
        &'b self,
        device: &'b Device<H::Slot>,
        attachment: Attachment,
        look: Option<Look<'b>>,
        offer: Offer<'b, H::Slot>,
    ) -> core::pin::Pin<Box<dyn Future<Output = ()> + 'b>> {
        Box::pin(async move {
            let path = device.information().path;
            match self.start_hub(device, attachment).await {
                Ok((hub, endpoint)) => self.run_hub(&hub, endpoint, look, offer).await,
                Err(HubError::Transfer(TransferError::Gone)) => {}
                Err(error) => log::error!("{path}: the hub cannot be used: {error}"),
            }
        })
    }

    /// Configures the hub, tells the controller about it, and switches its ports on (USB 2.0, 11.24; xHCI 4.6.6).
    async fn start_hub<'b>(
        &self,
        device: &'b Device<H::Slot>,
        attachment: Attachment,
    ) -> Result<(Hub<'b, H::Slot>, EndpointAddress), HubError> {
        let information = device.information();
        let superspeed = information.speed >= Speed::Super;
        let configuration = information.configurations.first().ok_or(HubError::NoConfiguration)?;
        device.set_configuration(configuration.value).await?;
        let mut setting = configuration.settings.first().ok_or(HubError::NoStatusEndpoint)?;
        let several = |protocol: u8| protocol == MULTIPLE_TRANSLATORS;
        if information.speed == Speed::High && several(information.device.protocol) {
            let better = configuration
                .settings
                .iter()
                .find(|other| other.number == setting.number && several(other.protocol));
            if let Some(better) = better.filter(|better| better.alternate != setting.alternate) {
                device.set_interface(better.number, better.alternate).await?;
            }
            setting = better.unwrap_or(setting);
        }
        let endpoint = setting.endpoint(TransferKind::Interrupt, true).ok_or(HubError::NoStatusEndpoint)?;
        let kind = if superspeed { kind::SUPERSPEED_HUB } else { kind::HUB };
        let mut bytes = [0; 64];
        let request =
            Request { kind: Request::CLASS | Request::DEVICE, ..Request::get_descriptor(kind, 0, 0) };
        let count = device.control_in(request, &mut bytes, DEADLINE).await?;
        let descriptor = HubDescriptor::parse(&bytes[..count], superspeed).map_err(HubError::Descriptor)?;
        let ports = descriptor.ports.min(MAXIMUM_PORTS);
        let per_port_translators = information.speed == Speed::High && several(setting.protocol);
        if superspeed {
            let depth = information.path.ports().len() as u16 - 1;
            let request = Request { kind: Request::CLASS, request: SET_HUB_DEPTH, value: depth, index: 0 };
            device.control_out(request, &[], DEADLINE).await?;
        }
        let think_time = if information.speed == Speed::High { descriptor.think_time() } else { 0 };
        let shape = HubShape { ports, think_time, per_port_translators };
        device.slot().configure_hub(shape).await.map_err(HubError::Host)?;
        let ports = (0..ports).map(|_| PortLatch::default()).collect::<Vec<_>>();
        ports.iter().for_each(PortLatch::raise);
        let hub = Hub { device, attachment, superspeed, per_port_translators, ports };
        for port in 1..=hub.ports.len() as u16 {
            hub.set_feature(port, feature::PORT_POWER).await?;
        }
        sleep(&self.clock, Duration::from_millis(u64::from(descriptor.power_good_milliseconds))).await;
        Ok((hub, endpoint.address))
    }

    async fn run_hub<'b>(
        &'b self,
        hub: &Hub<'_, H::Slot>,
        endpoint: EndpointAddress,
        look: Option<Look<'b>>,
        offer: Offer<'b, H::Slot>,
    ) {
        let path = hub.device.information().path;
        log::info!("{path}: hub with {} ports", hub.ports.len());
        let mut ports = FutureSet::new();
        for port in 1..=hub.ports.len() as u8 {
            match path.below(port) {
                Some(path) => {
                    let port = HubPort { hub, clock: &self.clock, port, path };
                    ports.push(self.serve_port(port, self.first_look.begin(), offer));
                }
                None => log::warn!("{path}: hubs are nested too deep; port {port} is not used"),
            }
        }
        drop(look);
        let reports = async {
            let watched = either(self.watch_hub(hub, endpoint), hub.device.ended()).await;
            if let crate::waiting::Either::First(Err(error)) = watched {
                if !hub.device.is_ended() {
                    log::error!("{path}: the hub fails and is given up: {error}");
                }
                // Its ports are not heard any more: as if it were unplugged.
                hub.device.end();
            }
            hub.ports.iter().for_each(PortLatch::raise);
        };
        both(reports, ports.run()).await;
    }

    /// Reads the hub's reports of changes: a bit for the hub and one for each port (USB 2.0, 11.12.4).
    async fn watch_hub(&self, hub: &Hub<'_, H::Slot>, endpoint: EndpointAddress) -> Result<(), HubError> {
        let mut pipe = hub.device.open(endpoint)?;
        let mut block = Block::alloc(&self.memory, 0, Zone::Normal).map_err(|_| HubError::OutOfMemory)?;
        let length = hub.ports.len() / 8 + 1;
        let mut recoveries = 0;
        loop {
            pipe.submit(Transfer::In { block, length }).map_err(|(error, _)| error)?;
            pipe.start();
            let completion = poll_fn(|context| pipe.poll_completion(context)).await;
            let Transfer::In { block: returned, .. } = completion.transfer else {
                return Err(HubError::Transfer(TransferError::NotThere));
            };
            block = returned;
            match completion.result {
                Ok(count) => {
                    recoveries = 0;
                    let report = &block.bytes()[..count.min(length)];
                    let reported =
                        |bit: usize| report.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 != 0);
                    if reported(0) {
                        hub.acknowledge_own_changes().await?;
                    }
                    for (index, latch) in
                        hub.ports.iter().enumerate().filter(|(index, _)| reported(index + 1))
                    {
                        log::trace!("{}: port {} changed", hub.device.information().path, index + 1);
                        latch.raise();
                    }
                }
                Err(TransferError::Gone) => return Err(TransferError::Gone.into()),
                Err(error) if recoveries >= RECOVERIES => return Err(error.into()),
                Err(_) => {
                    recoveries += 1;
                    pipe.recover().await?;
                    // A report may have been lost with the transfer.
                    hub.ports.iter().for_each(PortLatch::raise);
                }
            }
        }
    }
}

impl<S: HostSlot> Hub<'_, S> {
    async fn set_feature(&self, port: u16, feature: u16) -> Result<(), TransferError> {
        let kind = Request::CLASS | Request::OTHER;
        let request = Request { kind, request: Request::SET_FEATURE, value: feature, index: port };
        self.device.control_out(request, &[], DEADLINE).await
    }

    async fn clear_feature(&self, port: u16, feature: u16) -> Result<(), TransferError> {
        let kind = Request::CLASS | Request::OTHER;
        let request = Request { kind, request: Request::CLEAR_FEATURE, value: feature, index: port };
        self.device.control_out(request, &[], DEADLINE).await
    }

    async fn get_status(&self, recipient: u8, index: u16) -> Result<(u16, u16), TransferError> {
        let mut bytes = [0; 4];
        let kind = Request::CLASS | recipient;
        let request = Request { kind, request: Request::GET_STATUS, value: 0, index };
        match self.device.control_in(request, &mut bytes, DEADLINE).await? {
            4 => Ok((u16::from_le_bytes([bytes[0], bytes[1]]), u16::from_le_bytes([bytes[2], bytes[3]]))),
            _ => Err(TransferError::Transaction),
        }
    }

    /// Local power and over-current of the hub itself: acknowledged and told (USB 2.0, 11.24.2.6).
    async fn acknowledge_own_changes(&self) -> Result<(), TransferError> {
        let (status, change) = self.get_status(Request::DEVICE, 0).await?;
        log::warn!("{}: hub status {status:#06x}, changed {change:#06x}", self.device.information().path);
        for feature in (0..2_u16).filter(|bit| change >> bit & 1 != 0) {
            let kind = Request::CLASS | Request::DEVICE;
            let request = Request { kind, request: Request::CLEAR_FEATURE, value: feature, index: 0 };
            self.device.control_out(request, &[], DEADLINE).await?;
        }
        Ok(())
    }
}

/// A port of a hub.
struct HubPort<'h, 'd, S, C> {
    hub: &'h Hub<'d, S>,
    clock: &'h C,
    port: u8,
    path: Path,
}

impl<S: HostSlot, C: Clock> HubPort<'_, '_, S, C> {
    fn latch(&self) -> &PortLatch {
        &self.hub.ports[usize::from(self.port) - 1]
    }

    /// Reads status and changes, and acknowledges the changes.
    async fn read(&self) -> Result<(u16, u16), TransferError> {
        let index = u16::from(self.port);
        let (status, change) = self.hub.get_status(Request::OTHER, index).await?;
        for bit in (0..8_u16).filter(|bit| change >> bit & 1 != 0) {
            let feature = match 1 << bit {
                port_bits::WARM_RESET if self.hub.superspeed => feature::C_BH_PORT_RESET,
                port_bits::LINK_STATE if self.hub.superspeed => feature::C_PORT_LINK_STATE,
                port_bits::CONFIG_ERROR if self.hub.superspeed => feature::C_PORT_CONFIG_ERROR,
                _ => feature::CHANGES + bit,
            };
            self.hub.clear_feature(index, feature).await?;
        }
        if change & port_bits::CONNECTION != 0 {
            self.latch().connection_changed.set(true);
        }
        Ok((status, change))
    }

    fn interpret(&self, status: u16, connection_changed: bool) -> PortStatus {
        let link = u32::from(status >> 5 & 0xf);
        let superspeed = self.hub.superspeed;
        let speed = match status {
            _ if superspeed => self.hub.attachment.speed.min(Speed::Super),
            _ if status & port_bits::LOW_SPEED != 0 => Speed::Low,
            _ if status & port_bits::HIGH_SPEED != 0 => Speed::High,
            _ => Speed::Full,
        };
        PortStatus {
            connected: status & port_bits::CONNECTION != 0,
            connection_changed,
            enabled: status & port_bits::ENABLE != 0,
            over_current: status & port_bits::OVER_CURRENT != 0,
            // Link states Inactive, Compliance, Polling (USB 3.2 table 10-13).
            wants_warm_reset: superspeed && matches!(link, 6 | 10),
            training: superspeed && link == 7,
            speed: Some(speed),
            raw: u32::from(status),
        }
    }
}

impl<S: HostSlot, C: Clock> DownstreamPort for HubPort<'_, '_, S, C> {
    fn path(&self) -> Path {
        self.path
    }

    fn attachment(&self, speed: Speed) -> Attachment {
        let hub = &self.hub;
        let translator = match speed {
            Speed::Low | Speed::Full if hub.attachment.speed == Speed::High => Some(Translator {
                hub_slot: hub.device.slot().id(),
                port: self.port,
                per_port: hub.per_port_translators,
            }),
            // Behind a full-speed hub the translator, if any, is the one in front of that hub.
            Speed::Low | Speed::Full => hub.attachment.translator,
            _ => None,
        };
        Attachment { path: self.path, speed, translator }
    }

    async fn changed(&self) {
        let latch = self.latch();
        latch.waiters.wait(|| latch.changed.replace(false).then_some(())).await;
    }

    async fn status(&self) -> Result<PortStatus, HostError> {
        let mut failures = 0;
        while !self.hub.device.is_ended() {
            match self.read().await {
                Ok((status, _)) => {
                    return Ok(self.interpret(status, self.latch().connection_changed.replace(false)));
                }
                Err(TransferError::Gone) => break,
                Err(error) if failures == RETRIES => {
                    log::error!(
                        "{}: the hub does not tell of this port, which is given up: {error}",
                        self.path
                    );
                    return Err(error.into());
                }
                Err(_) => {
                    failures += 1;
                    sleep(self.clock, RETRY_PAUSE).await;
                }
            }
        }
        Err(HostError::Transfer(TransferError::Gone))
    }

    async fn reset(&self, warm: bool) -> Result<PortStatus, HostError> {
        const STEP: Duration = Duration::from_millis(20);
        let index = u16::from(self.port);
        let feature = if warm { feature::BH_PORT_RESET } else { feature::PORT_RESET };
        self.hub.set_feature(index, feature).await?;
        let end = self.clock.now() + RESET_DEADLINE;
        loop {
            let _ = either(sleep(self.clock, STEP), self.changed()).await;
            let (status, change) = self.read().await?;
            let reset_over = change & (port_bits::RESET | port_bits::WARM_RESET) != 0;
            let found = self.interpret(status, false);
            if reset_over && found.connected && found.enabled {
                // Whatever it was before, this is what is there.
                self.latch().connection_changed.set(false);
                return Ok(found);
            }
            if reset_over || self.clock.now() >= end {
                return Err(HostError::PortReset { status: u32::from(status) });
            }
        }
    }

    async fn disable(&self) {
        let _ = self.hub.clear_feature(u16::from(self.port), feature::PORT_ENABLE).await;
    }

    async fn set_power(&self, on: bool) -> bool {
        let index = u16::from(self.port);
        let done = if on {
            self.hub.set_feature(index, feature::PORT_POWER).await
        } else {
            self.hub.clear_feature(index, feature::PORT_POWER).await
        };
        done.is_ok()
    }
}
