//! Device and input contexts (xHCI 1.2, 6.2): what driver and controller tell each other about a device.
//!
//! A device context holds a slot context and up to 31 endpoint contexts; an input context has an input control
//! context in front. Each has 32 bytes, or 64 with the upper half reserved (HCCPARAMS1 CSZ).

use hal::dma::{DmaRegion, OutOfDmaMemory, Pages};
use netbuf::Zone;
use usb::device::EndpointAddress;
use usb::{Endpoint, Speed, TransferKind};

/// The device context index of the default control endpoint.
pub const CONTROL_ENDPOINT: u8 = 1;

/// The device context index of an endpoint: 2 n for OUT, 2 n + 1 for IN (4.5.1).
#[must_use]
pub const fn context_index(address: EndpointAddress) -> u8 {
    address.number() * 2 + address.is_in() as u8
}

/// EP State (table 6-8), as the controller shows it in the device context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// Not configured.
    Disabled,
    /// Processes its ring.
    Running,
    /// Stopped by an error; leaves by Reset Endpoint.
    Halted,
    /// Stopped by a command.
    Stopped,
    /// Stopped by a TRB error; leaves by Set TR Dequeue Pointer.
    Error,
}

/// The slot context's fields that a driver fills (6.2.2).
#[derive(Clone, Copy, Debug, Default)]
pub struct SlotFields {
    /// Ports of the hubs on the way, four bits each, the one next to the root in the lowest.
    pub route: u32,
    /// Protocol speed id.
    pub speed: u8,
    /// The hub in front has a translator for each port; or this hub has and uses them.
    pub per_port_translators: bool,
    /// This device is a hub.
    pub hub: bool,
    /// The highest device context index in use.
    pub entries: u8,
    /// Root port.
    pub root_port: u8,
    /// Ports of this hub.
    pub ports: u8,
    /// Slot of the hub with the translator, 0 for none.
    pub translator_slot: u8,
    /// Port of that hub.
    pub translator_port: u8,
    /// Think time of this hub's translator.
    pub think_time: u8,
}

/// The endpoint context's fields (6.2.3).
#[derive(Clone, Copy, Debug)]
pub struct EndpointFields {
    /// Exponent of the service interval, in 125 us.
    pub interval: u8,
    /// EP Type: 1 to 3 OUT, 4 control, 5 to 7 IN.
    pub kind: u8,
    /// Packets in a burst minus one.
    pub maximum_burst: u8,
    /// Bytes per packet.
    pub maximum_packet_size: u16,
    /// Bytes per service interval of a periodic endpoint.
    pub interval_payload: u32,
    /// A guess at the usual TRB's length, for the controller's scheduling (4.14.1.1).
    pub average_length: u16,
}

impl EndpointFields {
    /// The default control endpoint.
    #[must_use]
    pub const fn control(maximum_packet_size: u16) -> Self {
        Self {
            interval: 0,
            kind: 4,
            maximum_burst: 0,
            maximum_packet_size,
            interval_payload: 0,
            average_length: 8,
        }
    }

    /// A bulk or interrupt endpoint; `None` for the kinds that are not supported.
    #[must_use]
    pub fn new(endpoint: &Endpoint, speed: Speed) -> Option<Self> {
        let inward = if endpoint.address.is_in() { 4 } else { 0 };
        let packet = endpoint.maximum_packet_size;
        let companion = endpoint.companion.unwrap_or_default();
        let superspeed = speed >= Speed::Super;
        let burst = if superspeed { companion.maximum_burst } else { endpoint.additional_transactions };
        match endpoint.kind {
            TransferKind::Bulk => Some(Self {
                interval: 0,
                kind: 2 + inward,
                maximum_burst: if superspeed { burst } else { 0 },
                maximum_packet_size: packet,
                interval_payload: 0,
                average_length: 3072,
            }),
            TransferKind::Interrupt => {
                let most = u32::from(packet) * (u32::from(burst) + 1);
                let said = u32::from(companion.bytes_per_interval);
                Some(Self {
                    interval: interval_exponent(speed, endpoint.interval),
                    kind: 3 + inward,
                    maximum_burst: burst,
                    maximum_packet_size: packet,
                    interval_payload: if superspeed && said != 0 { said.min(most) } else { most },
                    average_length: packet.min(1024),
                })
            }
            TransferKind::Control | TransferKind::Isochronous => None,
        }
    }
}

/// The exponent of an interrupt endpoint's interval, in 125 us, from `bInterval` (table 6-12): milliseconds at low
/// and full speed, rounded down to a power of two; the exponent plus one from high speed on.
#[must_use]
fn interval_exponent(speed: Speed, interval: u8) -> u8 {
    match speed {
        Speed::Low | Speed::Full => (u16::from(interval.max(1)) * 8).ilog2().clamp(3, 10) as u8,
        Speed::High | Speed::Super | Speed::SuperPlus => interval.clamp(1, 16) - 1,
    }
}

/// The context that the controller writes.
#[derive(Debug)]
pub struct DeviceContext {
    region: DmaRegion,
    stride: usize,
}

impl DeviceContext {
    /// An empty device context.
    pub fn new(pages: &Pages, zone: Zone, wide: bool) -> Result<Self, OutOfDmaMemory> {
        let stride = if wide { 64 } else { 32 };
        Ok(Self { region: DmaRegion::new(pages, stride * 32, zone)?, stride })
    }

    /// Its bus address, for the device context base address array.
    #[must_use]
    pub fn bus_address(&self) -> u64 {
        self.region.bus_address()
    }

    /// The state of an endpoint.
    #[must_use]
    pub fn endpoint_state(&self, index: u8) -> EndpointState {
        match self.region.read_u32(usize::from(index & 31) * self.stride) & 7 {
            1 => EndpointState::Running,
            2 => EndpointState::Halted,
            3 => EndpointState::Stopped,
            4 => EndpointState::Error,
            _ => EndpointState::Disabled,
        }
    }
}

/// The context that the driver writes for one command.
#[derive(Debug)]
pub struct InputContext {
    region: DmaRegion,
    stride: usize,
}

impl InputContext {
    /// An empty input context.
    pub fn new(pages: &Pages, zone: Zone, wide: bool) -> Result<Self, OutOfDmaMemory> {
        let stride = if wide { 64 } else { 32 };
        Ok(Self { region: DmaRegion::new(pages, stride * 33, zone)?, stride })
    }

    /// Its bus address, for a command.
    #[must_use]
    pub fn bus_address(&self) -> u64 {
        self.region.bus_address()
    }

    /// Clears everything and sets which contexts are dropped and added: one bit for each context index (6.2.5.1).
    pub fn begin(&self, drop: u32, add: u32) {
        self.region.fill(0, self.stride * 33, 0);
        self.region.write_u32(0, drop & !0b11);
        self.region.write_u32(4, add);
    }

    /// Fills the slot context.
    pub fn set_slot(&self, fields: &SlotFields) {
        let at = self.stride;
        let route = fields.route & 0xf_ffff
            | u32::from(fields.speed & 0xf) << 20
            | u32::from(fields.per_port_translators) << 25
            | u32::from(fields.hub) << 26
            | u32::from(fields.entries & 0x1f) << 27;
        self.region.write_u32(at, route);
        self.region.write_u32(at + 4, u32::from(fields.root_port) << 16 | u32::from(fields.ports) << 24);
        let translator = u32::from(fields.translator_slot)
            | u32::from(fields.translator_port) << 8
            | u32::from(fields.think_time & 3) << 16;
        self.region.write_u32(at + 8, translator);
    }

    /// Fills an endpoint context. `dequeue` is its ring's start with the cycle state in bit 0.
    pub fn set_endpoint(&self, index: u8, fields: &EndpointFields, dequeue: u64) {
        /// Errors in a row after which the controller gives up (CErr).
        const ERROR_COUNT: u32 = 3;
        let at = self.stride * (usize::from(index & 31) + 1);
        self.region.write_u32(at, u32::from(fields.interval) << 16 | (fields.interval_payload >> 16) << 24);
        let second = ERROR_COUNT << 1
            | u32::from(fields.kind) << 3
            | u32::from(fields.maximum_burst) << 8
            | u32::from(fields.maximum_packet_size) << 16;
        self.region.write_u32(at + 4, second);
        self.region.write_u64(at + 8, dequeue);
        let third = u32::from(fields.average_length) | (fields.interval_payload & 0xffff) << 16;
        self.region.write_u32(at + 16, third);
    }
}
