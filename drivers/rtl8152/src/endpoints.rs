//! The vendor configuration and its endpoints.
//!
//! Adapters offer a vendor configuration and one or two CDC ones; a host that takes the first class match runs them
//! slowly. The vendor configuration is the one whose interface 0 has class 0xff (fact sheet rtl8152.md, section 1.6).

use usb::{DeviceInformation, Endpoint, EndpointAddress, TransferKind};

use crate::error::Error;

const CLASS_VENDOR: u8 = 0xff;

/// The three endpoints that carry data and link events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoints {
    /// `bConfigurationValue` of the vendor configuration.
    pub configuration: u8,
    pub receive: EndpointAddress,
    pub transmit: EndpointAddress,
    pub interrupt: EndpointAddress,
    /// Bytes per packet of the interrupt endpoint: what a link event may have.
    pub interrupt_size: usize,
}

/// A bulk endpoint with smaller packets exists at no speed (USB 2.0, 5.8.3).
const LEAST_BULK_PACKET: u16 = 8;
/// A link event.
pub(crate) const EVENT_LENGTH: usize = 2;

/// Chooses configuration and endpoints. Nothing is bound unless all three are there with types and sizes that work.
pub(crate) fn choose(information: &DeviceInformation) -> Result<Endpoints, Error> {
    let vendor = |configuration: &&usb::Configuration| {
        configuration.setting(0, 0).is_some_and(|setting| setting.class == CLASS_VENDOR)
    };
    let configuration = information.configurations.iter().find(vendor).ok_or(Error::NoVendorConfiguration)?;
    let setting = configuration.setting(0, 0).ok_or(Error::NoVendorConfiguration)?;
    let find = |kind, inward, least: u16, name| -> Result<&Endpoint, Error> {
        let endpoint = setting.endpoint(kind, inward);
        endpoint.filter(|endpoint| endpoint.maximum_packet_size >= least).ok_or(Error::BadEndpoint(name))
    };
    let receive = find(TransferKind::Bulk, true, LEAST_BULK_PACKET, "bulk IN")?;
    let transmit = find(TransferKind::Bulk, false, LEAST_BULK_PACKET, "bulk OUT")?;
    let interrupt = find(TransferKind::Interrupt, true, EVENT_LENGTH as u16, "interrupt IN")?;
    Ok(Endpoints {
        configuration: configuration.value,
        receive: receive.address,
        transmit: transmit.address,
        interrupt: interrupt.address,
        interrupt_size: usize::from(interrupt.maximum_packet_size),
    })
}
