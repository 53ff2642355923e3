//! Finding the Ethernet function in a device's descriptors (CDC 1.2, section 5.2.3; ECM 1.2, section 5.4).
//!
//! A communications interface carries functional descriptors: a union that names its data interface, and an Ethernet
//! networking descriptor with the station address and the largest frame. The data interface has an alternate setting
//! without endpoints, in which no frames flow, and one with a pair of bulk endpoints.
//!
//! A device may offer RNDIS or a vendor configuration beside this one; only ECM's is chosen.

use usb::descriptor::{descriptors, kind};
use usb::{DeviceInformation, EndpointAddress, InterfaceSetting, TransferKind};

use crate::error::Error;

const CLASS_COMMUNICATIONS: u8 = 0x02;
const SUBCLASS_ETHERNET: u8 = 0x06;
const CLASS_DATA: u8 = 0x0a;

/// `bDescriptorSubtype` of functional descriptors (CDC 1.2, table 13).
const SUBTYPE_UNION: u8 = 0x06;
const SUBTYPE_ETHERNET: u8 = 0x0f;
const UNION_LENGTH: usize = 5;
const ETHERNET_LENGTH: usize = 13;

/// Ethernet header, without VLAN tag.
pub(crate) const HEADER: usize = 14;
/// Least MTU: what IPv4 asks of every link (RFC 791).
const LEAST_MTU: usize = 68;
const ETHERNET_MTU: usize = 1500;

/// An Ethernet function that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// `bConfigurationValue`.
    pub configuration: u8,
    /// Number of the communications interface.
    pub control_interface: u8,
    /// Number of the data interface.
    pub data_interface: u8,
    /// Its alternate setting with endpoints.
    pub data_alternate: u8,
    /// Bulk IN.
    pub receive: EndpointAddress,
    /// Bytes per packet of the bulk IN endpoint.
    pub receive_packet: usize,
    /// Bulk OUT.
    pub transmit: EndpointAddress,
    /// Interrupt IN with its packet size; optional (ECM 1.2, section 4.3).
    pub notification: Option<(EndpointAddress, usize)>,
    /// `iMACAddress`.
    pub address_string: u8,
    /// `wMaxSegmentSize`: the largest frame, with header and without check sequence.
    pub segment: usize,
}

impl Function {
    /// Largest network-layer packet.
    #[must_use]
    pub fn maximum_transmission_unit(&self) -> usize {
        self.segment.saturating_sub(HEADER).min(ETHERNET_MTU)
    }
}

/// Whether a device has an Ethernet function.
#[must_use]
pub fn matches(information: &DeviceInformation) -> bool {
    find(information).is_ok()
}

/// The first usable Ethernet function of a device.
///
/// # Errors
///
/// [`Error::NotEcm`] when there is none; otherwise why the last one that was looked at is not usable.
pub fn find(information: &DeviceInformation) -> Result<Function, Error> {
    let mut fault = Error::NotEcm;
    for configuration in &information.configurations {
        let controls = configuration
            .default_settings()
            .filter(|setting| setting.class == CLASS_COMMUNICATIONS && setting.subclass == SUBCLASS_ETHERNET);
        for control in controls {
            match function(configuration, control) {
                Ok(function) => return Ok(function),
                Err(error) => fault = error,
            }
        }
    }
    Err(fault)
}

fn function(configuration: &usb::Configuration, control: &InterfaceSetting) -> Result<Function, Error> {
    let mut data_interface = None;
    let mut ethernet = None;
    for raw in descriptors(&control.extras).filter(|raw| raw.kind == kind::CLASS_INTERFACE) {
        match raw.byte(2) {
            SUBTYPE_UNION if raw.bytes.len() >= UNION_LENGTH && raw.byte(3) == control.number => {
                data_interface.get_or_insert(raw.byte(4));
            }
            SUBTYPE_ETHERNET if raw.bytes.len() >= ETHERNET_LENGTH => {
                ethernet.get_or_insert((raw.byte(3), raw.word(8)));
            }
            _ => {}
        }
    }
    let data_interface = data_interface.ok_or(Error::NotEcm)?;
    let (address_string, segment) = ethernet.ok_or(Error::NotEcm)?;
    if usize::from(segment) < HEADER + LEAST_MTU {
        return Err(Error::SegmentSize(segment));
    }
    let data = configuration
        .settings
        .iter()
        .find(|setting| {
            setting.number == data_interface && setting.class == CLASS_DATA && !setting.endpoints.is_empty()
        })
        .ok_or(Error::NotEcm)?;
    let receive = data.endpoint(TransferKind::Bulk, true).ok_or(Error::BadEndpoint("bulk IN"))?;
    let transmit = data.endpoint(TransferKind::Bulk, false).ok_or(Error::BadEndpoint("bulk OUT"))?;
    let notification = control.endpoint(TransferKind::Interrupt, true);
    Ok(Function {
        configuration: configuration.value,
        control_interface: control.number,
        data_interface,
        data_alternate: data.alternate,
        receive: receive.address,
        receive_packet: usize::from(receive.maximum_packet_size),
        transmit: transmit.address,
        notification: notification
            .map(|endpoint| (endpoint.address, usize::from(endpoint.maximum_packet_size))),
        address_string,
        segment: usize::from(segment),
    })
}

/// The station address in the text of its string: twelve hexadecimal digits (ECM 1.2, table 3). `None` when it is not
/// one, or is zero or a group's.
#[must_use]
pub fn station_address(text: &str) -> Option<[u8; 6]> {
    let mut address = [0; 6];
    let mut digits = text.chars().map(|digit| digit.to_digit(16));
    for byte in &mut address {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = (high << 4 | low) as u8;
    }
    (digits.next().is_none() && is_station_address(address)).then_some(address)
}

/// Whether a station may have this address: not zero, not a group.
pub(crate) fn is_station_address(address: [u8; 6]) -> bool {
    address != [0; 6] && address[0] & 1 == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use usb::{Configuration, DeviceDescriptor, Path, Speed};

    /// The ECM configuration of QEMU's `usb-net`: device at full speed, two alternate settings of the data interface.
    #[rustfmt::skip]
    const USB_NET: [u8; 80] = [
        9, 2, 80, 0, 2, 1, 7, 0xc0, 0x32,
        9, 4, 0, 0, 1, 2, 6, 0, 5,
        5, 0x24, 0, 0x10, 1,
        5, 0x24, 6, 0, 1,
        13, 0x24, 0x0f, 4, 0, 0, 0, 0, 0xea, 0x05, 0, 0, 0,
        7, 5, 0x81, 3, 16, 0, 32,
        9, 4, 1, 0, 0, 10, 0, 0, 0,
        9, 4, 1, 1, 2, 10, 0, 0, 6,
        7, 5, 0x82, 2, 64, 0, 0,
        7, 5, 0x02, 2, 64, 0, 0,
    ];
    /// Offset of the Ethernet functional descriptor.
    const ETHERNET: usize = 28;
    /// Offset of the union functional descriptor.
    const UNION: usize = 23;

    /// A configuration whose first interface is RNDIS, as `usb-net` offers it too.
    #[rustfmt::skip]
    const RNDIS: [u8; 18] = [
        9, 2, 18, 0, 1, 2, 8, 0xc0, 0x32,
        9, 4, 0, 0, 0, 2, 2, 0xff, 1,
    ];

    fn information(configurations: &[&[u8]]) -> DeviceInformation {
        let device = [18, 1, 0, 2, 2, 0, 0, 64, 0x25, 0x05, 0xa2, 0xa4, 0, 0, 1, 2, 10, 2];
        DeviceInformation {
            path: Path::root(0, 1),
            speed: Speed::Full,
            device: DeviceDescriptor::parse(&device).unwrap(),
            configurations: configurations
                .iter()
                .map(|bytes| Configuration::parse(bytes, Speed::Full).unwrap())
                .collect(),
            manufacturer: String::new(),
            product: String::new(),
            serial: String::new(),
        }
    }

    #[test]
    fn the_ethernet_function_is_found_behind_rndis() {
        let function = find(&information(&[&RNDIS, &USB_NET])).unwrap();
        assert_eq!(function.configuration, 1);
        assert_eq!((function.data_interface, function.data_alternate), (1, 1));
        assert_eq!((function.receive.0, function.transmit.0), (0x82, 0x02));
        assert_eq!(function.notification, Some((EndpointAddress(0x81), 16)));
        assert_eq!((function.address_string, function.segment), (4, 1514));
        assert_eq!(function.maximum_transmission_unit(), 1500);
    }

    #[test]
    fn a_device_without_the_function_is_left_alone() {
        assert!(!matches(&information(&[&RNDIS])));
        assert!(!matches(&information(&[])));
    }

    #[test]
    fn missing_descriptors_are_named() {
        let broken = |at: usize, value: u8| {
            let mut bytes = USB_NET;
            bytes[at] = value;
            find(&information(&[&bytes]))
        };
        assert_eq!(broken(UNION + 2, 0x7f), Err(Error::NotEcm), "no union");
        assert_eq!(broken(UNION + 4, 9), Err(Error::NotEcm), "a data interface that is not there");
        assert_eq!(broken(ETHERNET + 2, 0x7f), Err(Error::NotEcm), "no Ethernet descriptor");
        assert_eq!(broken(69, 3), Err(Error::BadEndpoint("bulk IN")));
        assert_eq!(broken(76, 3), Err(Error::BadEndpoint("bulk OUT")));
    }

    #[test]
    fn a_segment_size_below_the_least_packet_is_refused() {
        let mut bytes = USB_NET;
        bytes[ETHERNET + 8] = 81;
        bytes[ETHERNET + 9] = 0;
        assert_eq!(find(&information(&[&bytes])), Err(Error::SegmentSize(81)));
    }

    #[test]
    fn station_addresses_are_twelve_digits() {
        assert_eq!(station_address("525400123456"), Some([0x52, 0x54, 0x00, 0x12, 0x34, 0x56]));
        assert_eq!(station_address("00e04C3608eC"), Some([0x00, 0xe0, 0x4c, 0x36, 0x08, 0xec]));
        for wrong in [
            "",
            "52540012345",
            "5254001234567",
            "52540012345g",
            "000000000000",
            "01005e000001",
            "52:54:00:12:34",
        ] {
            assert_eq!(station_address(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn damaged_descriptors_give_a_function_or_a_reason(at in 9usize..80, value in any::<u8>()) {
            let mut bytes = USB_NET;
            bytes[at] = value;
            if let Ok(function) = find(&information(&[&bytes])) {
                prop_assert!(function.segment >= HEADER + LEAST_MTU);
                prop_assert!(function.receive.is_in() && !function.transmit.is_in());
                prop_assert!(function.receive_packet > 0);
            }
        }

        #[test]
        fn any_text_is_an_address_or_is_not(text in ".{0,16}") {
            let _ = station_address(&text);
        }
    }
}
