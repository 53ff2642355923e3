//! The descriptors of each chip at each bus speed (fact sheet 1.2 to 1.4).

use std::fmt;

use lab_usbredir::{Endpoint, Interface, Speed, TransferKind};

use crate::version::{Generation, REALTEK, Version};

/// Descriptor types.
const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const STRING: u8 = 3;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;
const DEVICE_QUALIFIER: u8 = 6;
const OTHER_SPEED: u8 = 7;
const BOS: u8 = 15;

/// Everything a device tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The device descriptor.
    pub device: Vec<u8>,
    /// Whole configurations, in order of their index.
    pub configurations: Vec<Vec<u8>>,
    /// Strings by index, from 1; the empty ones do not exist.
    pub strings: Vec<String>,
    /// The binary object store.
    pub bos: Vec<u8>,
}

/// No field has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField(
    /// The name.
    pub String,
);

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no descriptor field is called `{}`", self.0)
    }
}

impl std::error::Error for UnknownField {}

/// A configuration under construction.
struct Builder {
    bytes: Vec<u8>,
    speed: Speed,
}

impl Builder {
    fn new(value: u8, interfaces: u8, milliamperes: u16, speed: Speed) -> Self {
        let unit = if speed == Speed::Super { 8 } else { 2 };
        let power = (milliamperes / unit) as u8;
        Self { bytes: vec![9, CONFIGURATION, 0, 0, interfaces, value, 0, 0xa0, power], speed }
    }

    fn interface(mut self, number: u8, alternate: u8, endpoints: u8, class: [u8; 3]) -> Self {
        let [class, subclass, protocol] = class;
        self.bytes.extend([9, INTERFACE, number, alternate, endpoints, class, subclass, protocol, 0]);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    fn endpoint(mut self, address: u8, kind: TransferKind, size: u16, interval: u8) -> Self {
        let [low, high] = size.to_le_bytes();
        self.bytes.extend([7, ENDPOINT, address, kind as u8, low, high, interval]);
        if self.speed == Speed::Super {
            let (burst, bytes) = if kind == TransferKind::Bulk { (3, 0) } else { (0, size) };
            let [low, high] = bytes.to_le_bytes();
            self.bytes.extend([6, 0x30, burst, 0, low, high]);
        }
        self
    }

    fn bulk_pair(self) -> Self {
        let size = bulk_size(self.speed);
        self.endpoint(0x81, TransferKind::Bulk, size, 0).endpoint(0x02, TransferKind::Bulk, size, 0)
    }

    fn finish(mut self) -> Vec<u8> {
        let [low, high] = (self.bytes.len() as u16).to_le_bytes();
        self.bytes[2..4].copy_from_slice(&[low, high]);
        self.bytes
    }
}

/// Maximum packet size of a bulk endpoint.
pub fn bulk_size(speed: Speed) -> u16 {
    match speed {
        Speed::Full => 64,
        Speed::High => 512,
        Speed::Super => 1024,
    }
}

impl Descriptors {
    /// The adapter's descriptors.
    pub fn adapter(version: &Version, speed: Speed, address: [u8; 6]) -> Self {
        let address_text: String = address.iter().map(|byte| format!("{byte:02X}")).collect();
        let multi_gigabit = version.product == 0x8156;
        let (usb, packet0) = match (speed, version.generation) {
            (Speed::Super, Generation::R8156 | Generation::R8156B) => (0x0320, 9),
            (Speed::Super, _) => (0x0300, 9),
            _ => (0x0210, 64),
        };
        let (serial, product, serial_text) = match version.generation {
            Generation::R8152 => (3, "USB 10/100 LAN", address_text.clone()),
            _ if multi_gigabit => (6, "USB 10/100/1G/2.5G LAN", "401000001".to_owned()),
            _ => (6, "USB 10/100/1000 LAN", "000001".to_owned()),
        };
        let configurations: &[u8] = if multi_gigabit { &[1, 2, 3] } else { &[1, 2] };
        let mut device = vec![18, DEVICE];
        device.extend(u16::to_le_bytes(usb));
        device.extend([0, 0, 0, packet0]);
        for field in [REALTEK, version.product, version.device_version] {
            device.extend(field.to_le_bytes());
        }
        device.extend([1, 2, serial, configurations.len() as u8]);
        let mut strings = vec![String::new(); 7];
        strings[1] = "Realtek".to_owned();
        strings[2] = product.to_owned();
        // The address is the text of the Ethernet functional descriptor.
        strings[3] = address_text;
        strings[usize::from(serial)] = serial_text;
        let interval = if multi_gigabit { 11 } else { 8 };
        let power = match (speed, version.generation) {
            (_, Generation::R8152) => 100,
            (Speed::Super, _) => 256,
            _ => 350,
        };
        let vendor = Builder::new(1, 1, power, speed)
            .interface(0, 0, 3, [0xff, 0xff, 0])
            .bulk_pair()
            .endpoint(0x83, TransferKind::Interrupt, 2, interval)
            .finish();
        let segment = if multi_gigabit { 1518 } else { 1514 };
        let ecm = |value| Self::communication(value, [2, 6, 0], &[], segment, 0, interval, power, speed);
        // CDC-NCM: an NCM functional descriptor more, data protocol 1.
        let ncm = |value| {
            Self::communication(
                value,
                [2, 0x0d, 0],
                &[6, 0x24, 0x1a, 0x00, 0x01, 0x00],
                segment,
                1,
                interval,
                power,
                speed,
            )
        };
        let configurations = if multi_gigabit { vec![vendor, ncm(2), ecm(3)] } else { vec![vendor, ecm(2)] };
        Self { device, configurations, strings, bos: bos(speed) }
    }

    /// A CDC configuration: a communication interface and a data interface with and without endpoints.
    #[allow(clippy::too_many_arguments, reason = "one call per configuration, all of them in one place")]
    fn communication(
        value: u8,
        class: [u8; 3],
        functional: &[u8],
        segment: u16,
        data_protocol: u8,
        interval: u8,
        power: u16,
        speed: Speed,
    ) -> Vec<u8> {
        let [low, high] = segment.to_le_bytes();
        Builder::new(value, 2, power, speed)
            .interface(0, 0, 1, class)
            .raw(&[5, 0x24, 0x00, 0x10, 0x01])
            .raw(&[5, 0x24, 0x06, 0, 1])
            .raw(&[13, 0x24, 0x0f, 3, 0, 0, 0, 0, low, high, 0, 0, 0])
            .raw(functional)
            .endpoint(0x83, TransferKind::Interrupt, 16, interval)
            .interface(1, 0, 0, [0x0a, 0, data_protocol])
            .interface(1, 1, 2, [0x0a, 0, data_protocol])
            .bulk_pair()
            .finish()
    }

    /// The virtual CD-ROM with the Windows driver that some adapters show first.
    pub fn storage(speed: Speed) -> Self {
        let mut device = vec![18, DEVICE, 0x00, if speed == Speed::Super { 3 } else { 2 }, 0, 0, 0];
        device.push(if speed == Speed::Super { 9 } else { 64 });
        for field in [REALTEK, 0x8151, 0x0200] {
            device.extend(u16::to_le_bytes(field));
        }
        device.extend([1, 2, 0, 1]);
        let size = bulk_size(speed);
        let configuration = Builder::new(1, 1, 100, speed)
            .interface(0, 0, 2, [0x08, 0x06, 0x50])
            .endpoint(0x81, TransferKind::Bulk, size, 0)
            .endpoint(0x02, TransferKind::Bulk, size, 0)
            .finish();
        let strings = vec![String::new(), "Realtek".to_owned(), "USB CD-ROM".to_owned()];
        Self { device, configurations: vec![configuration], strings, bos: bos(speed) }
    }

    /// Answers GET_DESCRIPTOR; `None`: no such descriptor.
    pub fn get(&self, kind: u8, index: u8, speed: Speed) -> Option<Vec<u8>> {
        match kind {
            DEVICE => Some(self.device.clone()),
            CONFIGURATION => self.configurations.get(usize::from(index)).cloned(),
            STRING if index == 0 => Some(vec![4, STRING, 0x09, 0x04]),
            STRING => {
                let text = self.strings.get(usize::from(index)).filter(|text| !text.is_empty())?;
                let mut bytes = vec![(2 + 2 * text.len()) as u8, STRING];
                bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
                Some(bytes)
            }
            DEVICE_QUALIFIER if speed != Speed::Super => {
                let mut bytes = vec![10, DEVICE_QUALIFIER];
                bytes.extend(&self.device[2..8]);
                bytes.extend([self.device[17], 0]);
                Some(bytes)
            }
            OTHER_SPEED if speed != Speed::Super => {
                let mut bytes = self.configurations.get(usize::from(index))?.clone();
                bytes[1] = OTHER_SPEED;
                Some(bytes)
            }
            BOS => Some(self.bos.clone()),
            _ => None,
        }
    }

    /// The configuration with this `bConfigurationValue`.
    pub fn configuration(&self, value: u8) -> Option<&[u8]> {
        self.configurations.iter().find(|c| c.get(5) == Some(&value)).map(Vec::as_slice)
    }

    /// Interfaces and endpoints of a configuration with the given alternate settings (by interface number).
    ///
    /// Reads the bytes as they are, corrupted or not: a device knows its endpoints from nowhere else here.
    pub fn tables(&self, value: u8, alternates: &[u8; 2]) -> (Vec<Interface>, Vec<Endpoint>) {
        let (mut interfaces, mut endpoints) = (Vec::new(), Vec::new());
        let mut bytes = self.configuration(value).unwrap_or(&[]);
        let mut current = None;
        while let [length, kind, ..] = *bytes {
            let Some((descriptor, rest)) = bytes.split_at_checked(usize::from(length.max(2))) else { break };
            bytes = rest;
            match (kind, descriptor) {
                (INTERFACE, [_, _, number, alternate, _, class, subclass, protocol, ..]) => {
                    let chosen = alternates.get(usize::from(*number)).copied().unwrap_or(0);
                    current = (chosen == *alternate).then_some(*number);
                    if current.is_some() {
                        interfaces.push(Interface { number: *number, class: [*class, *subclass, *protocol] });
                    }
                }
                (ENDPOINT, [_, _, address, attributes, low, high, interval, ..]) => {
                    let Some(interface) = current else { continue };
                    endpoints.push(Endpoint {
                        address: *address,
                        kind: match attributes & 3 {
                            0 => TransferKind::Control,
                            1 => TransferKind::Isochronous,
                            2 => TransferKind::Bulk,
                            _ => TransferKind::Interrupt,
                        },
                        max_packet_size: u16::from_le_bytes([*low, *high]),
                        interval: *interval,
                        interface,
                    });
                }
                _ => {}
            }
        }
        (interfaces, endpoints)
    }

    /// Overwrites a field, named as in the USB specification behind the descriptor it is in: `device.idProduct`,
    /// `bos.wTotalLength`, `configuration1.bNumInterfaces`, `configuration1.interface0.bInterfaceClass`,
    /// `configuration1.endpoint81.wMaxPacketSize`. Interfaces and endpoints are the first with that number or address.
    ///
    /// # Errors
    ///
    /// The name is not one of these.
    pub fn corrupt(&mut self, name: &str, value: u16) -> Result<(), UnknownField> {
        let (bytes, at, size) = self.locate(name).ok_or_else(|| UnknownField(name.to_owned()))?;
        let target = bytes.get_mut(at..at + size).ok_or_else(|| UnknownField(name.to_owned()))?;
        target.copy_from_slice(&value.to_le_bytes()[..size]);
        Ok(())
    }

    fn locate(&mut self, name: &str) -> Option<(&mut Vec<u8>, usize, usize)> {
        let (owner, rest) = name.split_once('.')?;
        if owner == "device" || owner == "bos" {
            let (at, size) = field(if owner == "bos" { "configuration" } else { owner }, rest)?;
            return Some((if owner == "bos" { &mut self.bos } else { &mut self.device }, at, size));
        }
        let value: u8 = owner.strip_prefix("configuration")?.parse().ok()?;
        let configuration = self.configurations.iter_mut().find(|c| c.get(5) == Some(&value))?;
        let Some((part, field_name)) = rest.split_once('.') else {
            let (at, size) = field("configuration", rest)?;
            return Some((configuration, at, size));
        };
        let (kind, kind_name, wanted) = if let Some(number) = part.strip_prefix("interface") {
            (INTERFACE, "interface", number.parse().ok()?)
        } else {
            (ENDPOINT, "endpoint", u8::from_str_radix(part.strip_prefix("endpoint")?, 16).ok()?)
        };
        let (at, size) = field(kind_name, field_name)?;
        let mut start = 0;
        while let Some([length, found, number]) = configuration.get(start..start + 3) {
            if (*found, *number) == (kind, wanted) {
                return Some((configuration, start + at, size));
            }
            start += usize::from((*length).max(2));
        }
        None
    }
}

/// Offset and size of a field.
fn field(descriptor: &str, name: &str) -> Option<(usize, usize)> {
    let fields: &[(&str, usize, usize)] = match descriptor {
        "device" => &[
            ("bcdUSB", 2, 2),
            ("bDeviceClass", 4, 1),
            ("bDeviceSubClass", 5, 1),
            ("bDeviceProtocol", 6, 1),
            ("bMaxPacketSize0", 7, 1),
            ("idVendor", 8, 2),
            ("idProduct", 10, 2),
            ("bcdDevice", 12, 2),
            ("iManufacturer", 14, 1),
            ("iProduct", 15, 1),
            ("iSerialNumber", 16, 1),
            ("bNumConfigurations", 17, 1),
        ],
        "configuration" => &[
            ("wTotalLength", 2, 2),
            ("bNumInterfaces", 4, 1),
            ("bNumDeviceCaps", 4, 1),
            ("bConfigurationValue", 5, 1),
            ("iConfiguration", 6, 1),
            ("bmAttributes", 7, 1),
            ("bMaxPower", 8, 1),
        ],
        "interface" => &[
            ("bInterfaceNumber", 2, 1),
            ("bAlternateSetting", 3, 1),
            ("bNumEndpoints", 4, 1),
            ("bInterfaceClass", 5, 1),
            ("bInterfaceSubClass", 6, 1),
            ("bInterfaceProtocol", 7, 1),
            ("iInterface", 8, 1),
        ],
        "endpoint" => &[
            ("bEndpointAddress", 2, 1),
            ("bmAttributes", 3, 1),
            ("wMaxPacketSize", 4, 2),
            ("bInterval", 6, 1),
        ],
        _ => return None,
    };
    match name {
        "bLength" => Some((0, 1)),
        "bDescriptorType" => Some((1, 1)),
        _ => fields.iter().find(|f| f.0 == name).map(|f| (f.1, f.2)),
    }
}

fn bos(speed: Speed) -> Vec<u8> {
    let usb2 = [7, 0x10, 0x02, 0x02, 0, 0, 0];
    let super_speed = [10, 0x10, 0x03, 0x02, 0x0e, 0x00, 2, 10, 0xff, 0x07];
    let mut bytes = vec![5, BOS, 0, 0, 1];
    bytes.extend(usb2);
    if speed == Speed::Super {
        bytes.extend(super_speed);
        bytes[4] = 2;
    }
    bytes[2] = bytes.len() as u8;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_lengths_are_those_of_the_dumps() {
        let lengths = |name, speed| {
            let version = Version::find(name).unwrap();
            let descriptors = Descriptors::adapter(&version, speed, [0, 0xe0, 0x4c, 0x36, 0x08, 0xec]);
            descriptors.configurations.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(lengths("8152b", Speed::High), [0x27, 0x50]);
        assert_eq!(lengths("8153a", Speed::High), [0x27, 0x50]);
        assert_eq!(lengths("8153a", Speed::Super), [0x39, 0x62]);
        assert_eq!(lengths("8156b", Speed::Super), [57, 0x68, 0x62]);
        assert_eq!(bos(Speed::Super).len(), 0x16);
    }

    #[test]
    fn a_named_field_is_corrupted_and_nothing_else() {
        let version = Version::find("8153a").unwrap();
        let intact = Descriptors::adapter(&version, Speed::Super, [2; 6]);
        let mut corrupted = intact.clone();
        corrupted.corrupt("configuration1.endpoint02.wMaxPacketSize", 0x1234).unwrap();
        let differences = intact.configurations[0].iter().zip(&corrupted.configurations[0]);
        assert_eq!(differences.filter(|(a, b)| a != b).count(), 2);
        assert_eq!(corrupted.tables(1, &[0; 2]).1[1].max_packet_size, 0x1234);
        assert!(corrupted.corrupt("configuration1.endpoint05.bInterval", 0).is_err());
        assert!(corrupted.corrupt("device.nothing", 0).is_err());
        corrupted.corrupt("device.idProduct", 0x8151).unwrap();
        assert_eq!(corrupted.device[10..12], [0x51, 0x81]);
    }
}
