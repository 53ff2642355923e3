//! What a device says about itself (USB 2.0 chapter 9.6, USB 3.2 chapter 9.6).
//!
//! Every byte here comes from outside. A descriptor is two bytes of header (`bLength`, `bDescriptorType`) and a body;
//! [`descriptors`] walks a chain of them and ends at the first length that cannot be true. Nothing here panics, and
//! nothing that was not checked reaches a host controller.

use alloc::string::String;
use core::fmt;

use crate::device::Speed;

/// `bDescriptorType` values (USB 3.2 table 9-6; hubs: USB 2.0 11.23.2, USB 3.2 10.15.2).
pub mod kind {
    /// Device descriptor.
    pub const DEVICE: u8 = 1;
    /// Configuration descriptor.
    pub const CONFIGURATION: u8 = 2;
    /// String descriptor.
    pub const STRING: u8 = 3;
    /// Interface descriptor.
    pub const INTERFACE: u8 = 4;
    /// Endpoint descriptor.
    pub const ENDPOINT: u8 = 5;
    /// Class-specific interface descriptor (CDC 1.2, 5.2.3).
    pub const CLASS_INTERFACE: u8 = 0x24;
    /// Hub descriptor of a USB 2 hub.
    pub const HUB: u8 = 0x29;
    /// Hub descriptor of a USB 3 hub.
    pub const SUPERSPEED_HUB: u8 = 0x2a;
    /// SuperSpeed endpoint companion.
    pub const ENDPOINT_COMPANION: u8 = 0x30;
    /// SuperSpeedPlus isochronous endpoint companion.
    pub const ISOCHRONOUS_COMPANION: u8 = 0x31;
}

/// A descriptor that cannot be used at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DescriptorError {
    /// Fewer bytes came than the descriptor has.
    Short {
        /// `bDescriptorType` of what was expected.
        kind: u8,
        /// Bytes that came.
        length: usize,
    },
    /// `bLength` is less than the descriptor of this type must have.
    BadLength {
        /// `bDescriptorType`.
        kind: u8,
        /// `bLength`.
        length: u8,
    },
    /// The device sent another descriptor than the one asked for.
    WrongKind {
        /// What was asked for.
        expected: u8,
        /// What came.
        found: u8,
    },
    /// `bMaxPacketSize0` is none of the sizes that the speed allows (USB 2.0 5.5.3; USB 3.2 9.6.1).
    ControlPacketSize(u8),
}

impl fmt::Display for DescriptorError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { kind, length } => {
                write!(formatter, "descriptor {kind:#04x} has only {length} bytes")
            }
            Self::BadLength { kind, length } => {
                write!(formatter, "descriptor {kind:#04x} says bLength {length}")
            }
            Self::WrongKind { expected, found } => {
                write!(formatter, "descriptor {found:#04x} came where {expected:#04x} was asked for")
            }
            Self::ControlPacketSize(size) => write!(formatter, "bMaxPacketSize0 {size} is not a legal size"),
        }
    }
}

impl core::error::Error for DescriptorError {}

/// One descriptor of a chain, its length checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawDescriptor<'a> {
    /// `bDescriptorType`.
    pub kind: u8,
    /// The whole descriptor with its two header bytes: `bLength` bytes.
    pub bytes: &'a [u8],
}

impl RawDescriptor<'_> {
    /// The byte at `offset`, 0 when the descriptor is shorter.
    #[must_use]
    pub fn byte(&self, offset: usize) -> u8 {
        self.bytes.get(offset).copied().unwrap_or(0)
    }

    /// The little-endian u16 at `offset`, 0 where the descriptor is shorter.
    #[must_use]
    pub fn word(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.byte(offset), self.byte(offset + 1)])
    }
}

/// Walks a chain of descriptors. Ends at the end of `bytes`, or before a descriptor whose `bLength` is below 2 or
/// runs past the end: what follows such a one cannot be told apart.
#[must_use]
pub fn descriptors(bytes: &[u8]) -> Descriptors<'_> {
    Descriptors { rest: bytes }
}

/// The iterator of [`descriptors`].
#[derive(Clone, Debug)]
pub struct Descriptors<'a> {
    rest: &'a [u8],
}

impl Descriptors<'_> {
    /// Bytes not walked yet. After the iterator ended: the tail that could not be understood.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Descriptors<'a> {
    type Item = RawDescriptor<'a>;
    fn next(&mut self) -> Option<Self::Item> {
        let (&length, &kind) = (self.rest.first()?, self.rest.get(1)?);
        if length < 2 {
            return None;
        }
        let (bytes, rest) = self.rest.split_at_checked(usize::from(length))?;
        self.rest = rest;
        Some(RawDescriptor { kind, bytes })
    }
}

/// Checks that `bytes` starts with a descriptor of this kind and at least this size.
pub(crate) fn expect(bytes: &[u8], kind: u8, size: u8) -> Result<RawDescriptor<'_>, DescriptorError> {
    let (&length, &found) = match (bytes.first(), bytes.get(1)) {
        (Some(length), Some(found)) => (length, found),
        _ => return Err(DescriptorError::Short { kind, length: bytes.len() }),
    };
    if found != kind {
        return Err(DescriptorError::WrongKind { expected: kind, found });
    }
    if length < size {
        return Err(DescriptorError::BadLength { kind, length });
    }
    if bytes.len() < usize::from(size) {
        return Err(DescriptorError::Short { kind, length: bytes.len() });
    }
    let end = bytes.len().min(usize::from(length));
    Ok(RawDescriptor { kind, bytes: &bytes[..end] })
}

/// The device descriptor (USB 3.2, 9.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceDescriptor {
    /// `bcdUSB`: 0x0210 is USB 2.1.
    pub usb_version: u16,
    /// `bDeviceClass`; 0 when the interfaces tell.
    pub class: u8,
    /// `bDeviceSubClass`.
    pub subclass: u8,
    /// `bDeviceProtocol`.
    pub protocol: u8,
    /// `bMaxPacketSize0` as it stands there; see [`control_packet_size`].
    pub control_packet_size: u8,
    /// `idVendor`.
    pub vendor: u16,
    /// `idProduct`.
    pub product: u16,
    /// `bcdDevice`.
    pub device_version: u16,
    /// `iManufacturer`: string index, 0 for none.
    pub manufacturer_string: u8,
    /// `iProduct`: string index, 0 for none.
    pub product_string: u8,
    /// `iSerialNumber`: string index, 0 for none.
    pub serial_string: u8,
    /// `bNumConfigurations`.
    pub configurations: u8,
}

impl DeviceDescriptor {
    /// Bytes in a device descriptor.
    pub const LENGTH: u8 = 18;

    /// Parses the descriptor.
    ///
    /// # Errors
    ///
    /// [`DescriptorError`] when it is not one or not whole.
    pub fn parse(bytes: &[u8]) -> Result<Self, DescriptorError> {
        let raw = expect(bytes, kind::DEVICE, Self::LENGTH)?;
        Ok(Self {
            usb_version: raw.word(2),
            class: raw.byte(4),
            subclass: raw.byte(5),
            protocol: raw.byte(6),
            control_packet_size: raw.byte(7),
            vendor: raw.word(8),
            product: raw.word(10),
            device_version: raw.word(12),
            manufacturer_string: raw.byte(14),
            product_string: raw.byte(15),
            serial_string: raw.byte(16),
            configurations: raw.byte(17),
        })
    }
}

/// Bytes per packet of the default control pipe, from `bMaxPacketSize0`: the number itself up to high speed, the
/// exponent of two from SuperSpeed on (USB 2.0 5.5.3, USB 3.2 9.6.1).
///
/// # Errors
///
/// [`DescriptorError::ControlPacketSize`] when the speed does not allow it.
pub fn control_packet_size(speed: Speed, field: u8) -> Result<u16, DescriptorError> {
    match (speed, field) {
        (Speed::Low, 8) | (Speed::Full, 8 | 16 | 32 | 64) | (Speed::High, 64) => Ok(u16::from(field)),
        (Speed::Super | Speed::SuperPlus, 9) => Ok(512),
        _ => Err(DescriptorError::ControlPacketSize(field)),
    }
}

/// The text of a string descriptor (USB 3.2, 9.6.9): UTF-16, little endian. Control characters, which would garble
/// a log, and broken surrogates become U+FFFD; an odd last byte is ignored.
///
/// # Errors
///
/// [`DescriptorError`] when it is not a string descriptor.
pub fn string_text(bytes: &[u8]) -> Result<String, DescriptorError> {
    let raw = expect(bytes, kind::STRING, 2)?;
    let units = raw.bytes[2..].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let text = char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER));
    Ok(text.map(|unit| if unit.is_control() { char::REPLACEMENT_CHARACTER } else { unit }).collect())
}

/// What a hub says about itself: the fields that USB 2 and USB 3 hubs share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubDescriptor {
    /// `bNbrPorts`, 1 to 255 (to 15 below a USB 3 hub).
    pub ports: u8,
    /// `wHubCharacteristics`.
    pub characteristics: u16,
    /// `bPwrOn2PwrGood`, in milliseconds.
    pub power_good_milliseconds: u16,
}

impl HubDescriptor {
    /// Parses the descriptor of a USB 2 hub (USB 2.0, 11.23.2.1) or a USB 3 hub (USB 3.2, 10.15.2.1).
    ///
    /// # Errors
    ///
    /// [`DescriptorError`] when it is not one or not whole.
    pub fn parse(bytes: &[u8], superspeed: bool) -> Result<Self, DescriptorError> {
        let (kind, size) = if superspeed { (kind::SUPERSPEED_HUB, 12) } else { (kind::HUB, 7) };
        let raw = expect(bytes, kind, size)?;
        Ok(Self {
            ports: raw.byte(2),
            characteristics: raw.word(3),
            power_good_milliseconds: u16::from(raw.byte(5)) * 2,
        })
    }

    /// The think time of the transaction translator, in units of eight full-speed bit times minus one: bits 6:5 of
    /// `wHubCharacteristics` (USB 2.0 table 11-13), as the slot context takes it (xHCI 6.2.2).
    #[must_use]
    pub fn think_time(&self) -> u8 {
        ((self.characteristics >> 5) & 3) as u8
    }
}
