//! One usbredir packet: its meaning ([`Body`]), parser and builder.
//!
//! On the wire a packet is a header (type u32, length u32, id u32 or u64), fixed fields and, for data packets, data;
//! everything is little endian and packed. `length` counts what follows the header.

use crate::capabilities::Capabilities;
use crate::error::ProtocolError;
use crate::fields::Fields;

/// How many slots the endpoint and interface tables have. An endpoint's slot is its number, plus 16 for IN.
pub const SLOTS: usize = 32;

/// How a transfer or request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// It worked.
    Success = 0,
    /// It was cancelled by the host.
    Cancelled = 1,
    /// The request makes no sense.
    Invalid = 2,
    /// Something failed on the way.
    InputOutputError = 3,
    /// The endpoint is halted.
    Stall = 4,
    /// The device did not answer.
    TimedOut = 5,
    /// The device sent more than was asked for.
    Babble = 6,
}

impl Status {
    /// What a number stands for. A number without a meaning is [`Status::Invalid`]: in requests the field is not used,
    /// and QEMU leaves whatever its stack held there.
    fn from_number(value: u8) -> Self {
        match value {
            0 => Self::Success,
            1 => Self::Cancelled,
            3 => Self::InputOutputError,
            4 => Self::Stall,
            5 => Self::TimedOut,
            6 => Self::Babble,
            _ => Self::Invalid,
        }
    }
}

/// The interfaces of the current configuration, by slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceTable {
    /// How many of the slots are in use; at most [`SLOTS`].
    pub count: u32,
    /// `bInterfaceNumber`.
    pub number: [u8; SLOTS],
    /// `bInterfaceClass`.
    pub class: [u8; SLOTS],
    /// `bInterfaceSubClass`.
    pub subclass: [u8; SLOTS],
    /// `bInterfaceProtocol`.
    pub protocol: [u8; SLOTS],
}

/// The endpoints of the current configuration and alternate settings, by slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTable {
    /// 0 control, 1 isochronous, 2 bulk, 3 interrupt, 255 no such endpoint.
    pub kind: [u8; SLOTS],
    /// `bInterval`.
    pub interval: [u8; SLOTS],
    /// `bInterfaceNumber` of its interface.
    pub interface: [u8; SLOTS],
    /// `wMaxPacketSize`.
    pub max_packet_size: [u16; SLOTS],
}

impl Default for EndpointTable {
    fn default() -> Self {
        Self { kind: [255; SLOTS], interval: [0; SLOTS], interface: [0; SLOTS], max_packet_size: [0; SLOTS] }
    }
}

/// The slot of an endpoint address: OUT endpoints 0 to 15, IN endpoints 16 to 31.
pub fn slot(endpoint: u8) -> usize {
    usize::from((endpoint & 0x80) >> 3 | endpoint & 0x0f)
}

/// A packet with the id that joins an answer to its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Chosen by whoever asks; repeated in the answer. 64 bits if both ends can, else the upper half is lost.
    pub id: u64,
    /// What it says.
    pub body: Body,
}

/// What a packet says. Directions: "guest" is the side that uses the device, "device" the side that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields carry the names of USB's own fields")]
pub enum Body {
    /// Both: version text (at most 63 bytes matter) and capabilities. Always the first packet.
    Hello { version: String, capabilities: Capabilities },
    /// Device: it is plugged in. Endpoint and interface tables must have been sent before.
    DeviceConnect {
        speed: u8,
        class: u8,
        subclass: u8,
        protocol: u8,
        vendor: u16,
        product: u16,
        version: u16,
    },
    /// Device: it is gone.
    DeviceDisconnect,
    /// Guest: port reset.
    Reset,
    /// Device: the interface table.
    InterfaceInfo(Box<InterfaceTable>),
    /// Device: the endpoint table.
    EndpointInfo(Box<EndpointTable>),
    /// Guest.
    SetConfiguration { configuration: u8 },
    /// Guest.
    GetConfiguration,
    /// Device: answer to the two before.
    ConfigurationStatus { status: Status, configuration: u8 },
    /// Guest.
    SetAlternateSetting { interface: u8, alternate: u8 },
    /// Guest.
    GetAlternateSetting { interface: u8 },
    /// Device: answer to the two before.
    AlternateSettingStatus { status: Status, interface: u8, alternate: u8 },
    /// Guest.
    StartIsochronousStream { endpoint: u8, packets_per_transfer: u8, transfers: u8 },
    /// Guest.
    StopIsochronousStream { endpoint: u8 },
    /// Device: answer to the two before.
    IsochronousStreamStatus { status: Status, endpoint: u8 },
    /// Guest: from now on send what the interrupt endpoint has.
    StartInterruptReceiving { endpoint: u8 },
    /// Guest: enough.
    StopInterruptReceiving { endpoint: u8 },
    /// Device: answer to the two before.
    InterruptReceivingStatus { status: Status, endpoint: u8 },
    /// Guest: bit mask of slots.
    AllocateBulkStreams { endpoints: u32, streams: u32 },
    /// Guest: bit mask of slots.
    FreeBulkStreams { endpoints: u32 },
    /// Device: answer to the two before.
    BulkStreamsStatus { endpoints: u32, streams: u32, status: Status },
    /// Guest: give up the data packet with this packet's id. Answered by that packet with `Cancelled`.
    CancelDataPacket,
    /// Guest: the device is not wanted.
    FilterReject,
    /// Both: rules in text form, without the terminating zero.
    FilterRules { rules: Vec<u8> },
    /// Guest: answer to a disconnect.
    DeviceDisconnectAcknowledge,
    /// Guest.
    StartBulkReceiving { stream: u32, bytes_per_transfer: u32, endpoint: u8, transfers: u8 },
    /// Guest.
    StopBulkReceiving { stream: u32, endpoint: u8 },
    /// Device: answer to the two before.
    BulkReceivingStatus { stream: u32, endpoint: u8, status: Status },
    /// Both: a control transfer and its answer. The data goes with the direction bit of `request_type`.
    Control {
        endpoint: u8,
        request: u8,
        request_type: u8,
        status: Status,
        value: u16,
        index: u16,
        length: u16,
        data: Vec<u8>,
    },
    /// Both: a bulk transfer and its answer. The data goes with the direction bit of `endpoint`.
    Bulk { endpoint: u8, status: Status, length: u32, stream: u32, data: Vec<u8> },
    /// Both: isochronous data.
    Isochronous { endpoint: u8, status: Status, length: u16, data: Vec<u8> },
    /// Both: interrupt data.
    Interrupt { endpoint: u8, status: Status, length: u16, data: Vec<u8> },
    /// Device: data that came while bulk receiving is on.
    BufferedBulk { stream: u32, length: u32, endpoint: u8, status: Status, data: Vec<u8> },
}

impl Body {
    /// The packet type's number.
    pub fn kind(&self) -> u32 {
        match self {
            Self::Hello { .. } => 0,
            Self::DeviceConnect { .. } => 1,
            Self::DeviceDisconnect => 2,
            Self::Reset => 3,
            Self::InterfaceInfo(_) => 4,
            Self::EndpointInfo(_) => 5,
            Self::SetConfiguration { .. } => 6,
            Self::GetConfiguration => 7,
            Self::ConfigurationStatus { .. } => 8,
            Self::SetAlternateSetting { .. } => 9,
            Self::GetAlternateSetting { .. } => 10,
            Self::AlternateSettingStatus { .. } => 11,
            Self::StartIsochronousStream { .. } => 12,
            Self::StopIsochronousStream { .. } => 13,
            Self::IsochronousStreamStatus { .. } => 14,
            Self::StartInterruptReceiving { .. } => 15,
            Self::StopInterruptReceiving { .. } => 16,
            Self::InterruptReceivingStatus { .. } => 17,
            Self::AllocateBulkStreams { .. } => 18,
            Self::FreeBulkStreams { .. } => 19,
            Self::BulkStreamsStatus { .. } => 20,
            Self::CancelDataPacket => 21,
            Self::FilterReject => 22,
            Self::FilterRules { .. } => 23,
            Self::DeviceDisconnectAcknowledge => 24,
            Self::StartBulkReceiving { .. } => 25,
            Self::StopBulkReceiving { .. } => 26,
            Self::BulkReceivingStatus { .. } => 27,
            Self::Control { .. } => 100,
            Self::Bulk { .. } => 101,
            Self::Isochronous { .. } => 102,
            Self::Interrupt { .. } => 103,
            Self::BufferedBulk { .. } => 104,
        }
    }

    /// Parses what follows the header of a packet of type `kind`, laid out as `common` (the capabilities that both
    /// ends announced) says.
    ///
    /// Whether the amount of data agrees with the length field is left to the receiver, because an answer and a
    /// request differ in it.
    ///
    /// # Errors
    ///
    /// Names the packet type and what is wrong with it.
    pub fn parse(kind: u32, bytes: &[u8], common: Capabilities) -> Result<Self, ProtocolError> {
        let mut f = Fields::new(kind, bytes);
        let status = Status::from_number;
        let body = match kind {
            0 => {
                let version = f.bytes::<64>()?;
                let end = version.iter().position(|b| *b == 0).unwrap_or(version.len());
                let version = String::from_utf8_lossy(&version[..end]).into_owned();
                let words = f.rest();
                let capabilities = words.first_chunk::<4>().map_or(0, |word| u32::from_le_bytes(*word));
                Self::Hello { version, capabilities: Capabilities(capabilities) }
            }
            1 => Self::DeviceConnect {
                speed: f.u8()?,
                class: f.u8()?,
                subclass: f.u8()?,
                protocol: f.u8()?,
                vendor: f.u16()?,
                product: f.u16()?,
                version: if common.contains(Capabilities::CONNECT_DEVICE_VERSION) { f.u16()? } else { 0 },
            },
            2 => Self::DeviceDisconnect,
            3 => Self::Reset,
            4 => {
                let count = f.u32()?;
                if count as usize > SLOTS {
                    let value = count.into();
                    return Err(ProtocolError::BadField { kind, field: "interface count", value });
                }
                Self::InterfaceInfo(Box::new(InterfaceTable {
                    count,
                    number: f.bytes()?,
                    class: f.bytes()?,
                    subclass: f.bytes()?,
                    protocol: f.bytes()?,
                }))
            }
            5 => {
                let mut table = EndpointTable {
                    kind: f.bytes()?,
                    interval: f.bytes()?,
                    interface: f.bytes()?,
                    ..Default::default()
                };
                if common.contains(Capabilities::ENDPOINT_MAX_PACKET_SIZE) {
                    for size in &mut table.max_packet_size {
                        *size = f.u16()?;
                    }
                }
                if common.contains(Capabilities::BULK_STREAMS) {
                    f.bytes::<{ 4 * SLOTS }>()?;
                }
                Self::EndpointInfo(Box::new(table))
            }
            6 => Self::SetConfiguration { configuration: f.u8()? },
            7 => Self::GetConfiguration,
            8 => Self::ConfigurationStatus { status: status(f.u8()?), configuration: f.u8()? },
            9 => Self::SetAlternateSetting { interface: f.u8()?, alternate: f.u8()? },
            10 => Self::GetAlternateSetting { interface: f.u8()? },
            11 => Self::AlternateSettingStatus {
                status: status(f.u8()?),
                interface: f.u8()?,
                alternate: f.u8()?,
            },
            12 => Self::StartIsochronousStream {
                endpoint: f.u8()?,
                packets_per_transfer: f.u8()?,
                transfers: f.u8()?,
            },
            13 => Self::StopIsochronousStream { endpoint: f.u8()? },
            14 => Self::IsochronousStreamStatus { status: status(f.u8()?), endpoint: f.u8()? },
            15 => Self::StartInterruptReceiving { endpoint: f.u8()? },
            16 => Self::StopInterruptReceiving { endpoint: f.u8()? },
            17 => Self::InterruptReceivingStatus { status: status(f.u8()?), endpoint: f.u8()? },
            18 => Self::AllocateBulkStreams { endpoints: f.u32()?, streams: f.u32()? },
            19 => Self::FreeBulkStreams { endpoints: f.u32()? },
            20 => Self::BulkStreamsStatus { endpoints: f.u32()?, streams: f.u32()?, status: status(f.u8()?) },
            21 => Self::CancelDataPacket,
            22 => Self::FilterReject,
            23 => {
                let rules = f.rest();
                let end = rules.iter().position(|b| *b == 0).unwrap_or(rules.len());
                Self::FilterRules { rules: rules[..end].to_vec() }
            }
            24 => Self::DeviceDisconnectAcknowledge,
            25 => Self::StartBulkReceiving {
                stream: f.u32()?,
                bytes_per_transfer: f.u32()?,
                endpoint: f.u8()?,
                transfers: f.u8()?,
            },
            26 => Self::StopBulkReceiving { stream: f.u32()?, endpoint: f.u8()? },
            27 => Self::BulkReceivingStatus { stream: f.u32()?, endpoint: f.u8()?, status: status(f.u8()?) },
            100 => Self::Control {
                endpoint: f.u8()?,
                request: f.u8()?,
                request_type: f.u8()?,
                status: status(f.u8()?),
                value: f.u16()?,
                index: f.u16()?,
                length: f.u16()?,
                data: f.rest().to_vec(),
            },
            101 => {
                let endpoint = f.u8()?;
                let status = status(f.u8()?);
                let low = u32::from(f.u16()?);
                let stream = f.u32()?;
                let wide = common.contains(Capabilities::BULK_LENGTH_32_BITS);
                let high = if wide { u32::from(f.u16()?) } else { 0 };
                Self::Bulk { endpoint, status, length: high << 16 | low, stream, data: f.rest().to_vec() }
            }
            102 => Self::Isochronous {
                endpoint: f.u8()?,
                status: status(f.u8()?),
                length: f.u16()?,
                data: f.rest().to_vec(),
            },
            103 => Self::Interrupt {
                endpoint: f.u8()?,
                status: status(f.u8()?),
                length: f.u16()?,
                data: f.rest().to_vec(),
            },
            104 => Self::BufferedBulk {
                stream: f.u32()?,
                length: f.u32()?,
                endpoint: f.u8()?,
                status: status(f.u8()?),
                data: f.rest().to_vec(),
            },
            _ => return Err(ProtocolError::UnknownType { kind }),
        };
        f.end()?;
        Ok(body)
    }

    /// Appends the fixed fields and the data to `out`.
    fn build(&self, out: &mut Vec<u8>, common: Capabilities) {
        match self {
            Self::Hello { version, capabilities } => {
                let mut text = [0; 64];
                let shown = version.len().min(63);
                text[..shown].copy_from_slice(&version.as_bytes()[..shown]);
                out.extend(text);
                out.extend(capabilities.0.to_le_bytes());
            }
            Self::DeviceConnect { speed, class, subclass, protocol, vendor, product, version } => {
                out.extend([*speed, *class, *subclass, *protocol]);
                out.extend(vendor.to_le_bytes());
                out.extend(product.to_le_bytes());
                if common.contains(Capabilities::CONNECT_DEVICE_VERSION) {
                    out.extend(version.to_le_bytes());
                }
            }
            Self::DeviceDisconnect
            | Self::Reset
            | Self::GetConfiguration
            | Self::CancelDataPacket
            | Self::FilterReject
            | Self::DeviceDisconnectAcknowledge => {}
            Self::InterfaceInfo(table) => {
                out.extend(table.count.to_le_bytes());
                for column in [&table.number, &table.class, &table.subclass, &table.protocol] {
                    out.extend(column);
                }
            }
            Self::EndpointInfo(table) => {
                for column in [&table.kind, &table.interval, &table.interface] {
                    out.extend(column);
                }
                if common.contains(Capabilities::ENDPOINT_MAX_PACKET_SIZE) {
                    out.extend(table.max_packet_size.iter().flat_map(|size| size.to_le_bytes()));
                }
                if common.contains(Capabilities::BULK_STREAMS) {
                    out.extend([0; 4 * SLOTS]);
                }
            }
            Self::SetConfiguration { configuration: byte }
            | Self::GetAlternateSetting { interface: byte }
            | Self::StopIsochronousStream { endpoint: byte }
            | Self::StartInterruptReceiving { endpoint: byte }
            | Self::StopInterruptReceiving { endpoint: byte } => out.push(*byte),
            Self::ConfigurationStatus { status, configuration: byte }
            | Self::IsochronousStreamStatus { status, endpoint: byte }
            | Self::InterruptReceivingStatus { status, endpoint: byte } => out.extend([*status as u8, *byte]),
            Self::SetAlternateSetting { interface, alternate } => out.extend([*interface, *alternate]),
            Self::AlternateSettingStatus { status, interface, alternate } => {
                out.extend([*status as u8, *interface, *alternate]);
            }
            Self::StartIsochronousStream { endpoint, packets_per_transfer, transfers } => {
                out.extend([*endpoint, *packets_per_transfer, *transfers]);
            }
            Self::AllocateBulkStreams { endpoints, streams } => {
                out.extend(endpoints.to_le_bytes());
                out.extend(streams.to_le_bytes());
            }
            Self::FreeBulkStreams { endpoints } => out.extend(endpoints.to_le_bytes()),
            Self::BulkStreamsStatus { endpoints, streams, status } => {
                out.extend(endpoints.to_le_bytes());
                out.extend(streams.to_le_bytes());
                out.push(*status as u8);
            }
            Self::FilterRules { rules } => {
                out.extend(rules);
                out.push(0);
            }
            Self::StartBulkReceiving { stream, bytes_per_transfer, endpoint, transfers } => {
                out.extend(stream.to_le_bytes());
                out.extend(bytes_per_transfer.to_le_bytes());
                out.extend([*endpoint, *transfers]);
            }
            Self::StopBulkReceiving { stream, endpoint } => {
                out.extend(stream.to_le_bytes());
                out.push(*endpoint);
            }
            Self::BulkReceivingStatus { stream, endpoint, status } => {
                out.extend(stream.to_le_bytes());
                out.extend([*endpoint, *status as u8]);
            }
            Self::Control { endpoint, request, request_type, status, value, index, length, data } => {
                out.extend([*endpoint, *request, *request_type, *status as u8]);
                for field in [value, index, length] {
                    out.extend(field.to_le_bytes());
                }
                out.extend(data);
            }
            Self::Bulk { endpoint, status, length, stream, data } => {
                out.extend([*endpoint, *status as u8]);
                out.extend((*length as u16).to_le_bytes());
                out.extend(stream.to_le_bytes());
                if common.contains(Capabilities::BULK_LENGTH_32_BITS) {
                    out.extend(((*length >> 16) as u16).to_le_bytes());
                }
                out.extend(data);
            }
            Self::Isochronous { endpoint, status, length, data }
            | Self::Interrupt { endpoint, status, length, data } => {
                out.extend([*endpoint, *status as u8]);
                out.extend(length.to_le_bytes());
                out.extend(data);
            }
            Self::BufferedBulk { stream, length, endpoint, status, data } => {
                out.extend(stream.to_le_bytes());
                out.extend(length.to_le_bytes());
                out.extend([*endpoint, *status as u8]);
                out.extend(data);
            }
        }
    }
}

impl Packet {
    /// Appends the packet, header and all, to `out`.
    pub fn build(&self, out: &mut Vec<u8>, common: Capabilities) {
        let kind = self.body.kind();
        out.extend(kind.to_le_bytes());
        let length_at = out.len();
        out.extend([0; 4]);
        if kind != 0 && common.contains(Capabilities::IDS_64_BITS) {
            out.extend(self.id.to_le_bytes());
        } else {
            out.extend((self.id as u32).to_le_bytes());
        }
        let body_at = out.len();
        self.body.build(out, common);
        let length = (out.len() - body_at) as u32;
        out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
}
