//! From a connected port to a device that a driver can use (USB 2.0 9.1.2, xHCI 4.3).

use alloc::string::String;
use alloc::vec::Vec;

use hal::time::{Clock, Duration, sleep};

use crate::attached::Device;
use crate::bus::Bus;
use crate::configuration::Configuration;
use crate::descriptor::{DescriptorError, DeviceDescriptor, control_packet_size, kind, string_text};
use crate::device::{DeviceInformation, Path, Request, Speed, TransferError};
use crate::host::{ControlData, HostController, HostError, HostSlot};
use crate::port::DownstreamPort;

/// More configurations than any device has.
const MAXIMUM_CONFIGURATIONS: u8 = 8;
/// Longer configurations than any device has.
const MAXIMUM_CONFIGURATION_LENGTH: u16 = 4096;
/// A device rests so long after a port reset (USB 2.0, 7.1.7.5: TRSTRCY).
const RESET_RECOVERY: Duration = Duration::from_millis(10);
/// A device may take so long to follow SET_ADDRESS (USB 2.0, 9.2.6.3).
const ADDRESS_RECOVERY: Duration = Duration::from_millis(2);
/// American English, which a device without a list of languages is asked in.
const ENGLISH: u16 = 0x0409;

/// Why a device could not be brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnumerationError {
    Host(&'static str, HostError),
    Descriptor(&'static str, DescriptorError),
}

impl core::fmt::Display for EnumerationError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Host(step, error) => write!(formatter, "{step}: {error}"),
            Self::Descriptor(step, error) => write!(formatter, "{step}: {error}"),
        }
    }
}

/// Names the step in which a host error came up.
fn at<E: Into<HostError>>(step: &'static str) -> impl Fn(E) -> EnumerationError {
    move |error| EnumerationError::Host(step, error.into())
}

impl<H: HostController, C: Clock> Bus<H, C> {
    /// Resets the port and brings up what is plugged in.
    pub(crate) async fn enumerate<P: DownstreamPort>(
        &self,
        port: &P,
        warm: bool,
    ) -> Result<Device<H::Slot>, EnumerationError> {
        // Between reset and address a device answers to address 0: one at a time (USB 2.0, 9.1.1.3).
        let turn = self.default_address.take().await;
        let status = port.reset(warm).await.map_err(at("port reset"))?;
        let unknown = HostError::UnknownSpeed { id: (status.raw >> 10 & 0xf) as u8 };
        let speed = status.speed.ok_or(unknown).map_err(at("port reset"))?;
        sleep(&self.clock, RESET_RECOVERY).await;
        let attachment = port.attachment(speed);
        let slot = self.host.enable_slot(attachment).await.map_err(at("Enable Slot"))?;
        let device = match self.address(&slot, speed).await {
            Ok(device) => {
                drop(turn);
                self.describe(&slot, port.path(), speed, device).await
            }
            Err(error) => Err(error),
        };
        if device.is_err() {
            slot.disable().await;
        }
        device.map(|information| Device::new(slot, information))
    }

    /// Address, then the device descriptor in two steps: its first eight bytes tell how long packets may be.
    async fn address(&self, slot: &H::Slot, speed: Speed) -> Result<DeviceDescriptor, EnumerationError> {
        slot.address().await.map_err(at("Address Device"))?;
        sleep(&self.clock, ADDRESS_RECOVERY).await;
        const STEP: &str = "device descriptor";
        let mut bytes = [0; DeviceDescriptor::LENGTH as usize];
        let count = self.descriptor(slot, kind::DEVICE, 0, 0, &mut bytes[..8]).await.map_err(at(STEP))?;
        let descriptor = |error| EnumerationError::Descriptor(STEP, error);
        if count < 8 {
            return Err(descriptor(DescriptorError::Short { kind: kind::DEVICE, length: count }));
        }
        crate::descriptor::expect(&bytes, kind::DEVICE, DeviceDescriptor::LENGTH).map_err(descriptor)?;
        let packet = control_packet_size(speed, bytes[7]).map_err(descriptor)?;
        slot.set_control_packet_size(packet).await.map_err(at("Evaluate Context"))?;
        self.device_descriptor(slot).await
    }

    /// The whole device descriptor.
    pub(crate) async fn device_descriptor(
        &self,
        slot: &H::Slot,
    ) -> Result<DeviceDescriptor, EnumerationError> {
        const STEP: &str = "device descriptor";
        let mut bytes = [0; DeviceDescriptor::LENGTH as usize];
        let count = self.descriptor(slot, kind::DEVICE, 0, 0, &mut bytes).await.map_err(at(STEP))?;
        DeviceDescriptor::parse(&bytes[..count]).map_err(|error| EnumerationError::Descriptor(STEP, error))
    }

    /// What belongs to a port reset while the device keeps its slot: Default state, address, and the check that it is
    /// still the same device.
    pub(crate) async fn readdress(&self, device: &Device<H::Slot>) -> Result<(), EnumerationError> {
        sleep(&self.clock, RESET_RECOVERY).await;
        let slot = device.slot();
        slot.reset().await.map_err(at("Reset Device"))?;
        device.forget_configuration();
        slot.address().await.map_err(at("Address Device"))?;
        sleep(&self.clock, ADDRESS_RECOVERY).await;
        let found = self.device_descriptor(slot).await?;
        if found == crate::UsbDevice::information(device).device {
            Ok(())
        } else {
            Err(at("another device answers after the reset")(TransferError::Gone))
        }
    }

    async fn descriptor(
        &self,
        slot: &H::Slot,
        kind: u8,
        number: u8,
        language: u16,
        bytes: &mut [u8],
    ) -> Result<usize, TransferError> {
        let request = Request::get_descriptor(kind, number, language);
        slot.control(request, ControlData::In(bytes), self.config.control_deadline).await
    }

    /// Configurations and names.
    async fn describe(
        &self,
        slot: &H::Slot,
        path: Path,
        speed: Speed,
        device: DeviceDescriptor,
    ) -> Result<DeviceInformation, EnumerationError> {
        let mut configurations = Vec::new();
        let mut failure: Option<EnumerationError> = None;
        for number in 0..device.configurations.min(MAXIMUM_CONFIGURATIONS) {
            match self.configuration(slot, number, speed).await {
                Ok(configuration) => {
                    for oddity in &configuration.oddities {
                        log::warn!("{path}: configuration {}: {oddity:?}", configuration.value);
                    }
                    configurations.push(configuration);
                }
                // One that cannot be understood does not spoil the others; a device that fails does.
                Err(
                    error @ (EnumerationError::Descriptor(..)
                    | EnumerationError::Host(_, HostError::Transfer(TransferError::Stall))),
                ) => {
                    log::warn!("{path}: configuration {number} of {}: {error}", device.configurations);
                    failure = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(failure) = failure.filter(|_| configurations.is_empty()) {
            return Err(failure);
        }
        let language = self.language(slot).await?;
        Ok(DeviceInformation {
            path,
            speed,
            device,
            configurations,
            manufacturer: self.string(slot, device.manufacturer_string, language).await?,
            product: self.string(slot, device.product_string, language).await?,
            serial: self.string(slot, device.serial_string, language).await?,
        })
    }

    async fn configuration(
        &self,
        slot: &H::Slot,
        number: u8,
        speed: Speed,
    ) -> Result<Configuration, EnumerationError> {
        const STEP: &str = "configuration descriptor";
        let malformed = |error| EnumerationError::Descriptor(STEP, error);
        let mut header = [0; Configuration::LENGTH as usize];
        let count =
            self.descriptor(slot, kind::CONFIGURATION, number, 0, &mut header).await.map_err(at(STEP))?;
        let total = Configuration::total_length(&header[..count]).map_err(malformed)?;
        let mut bytes = alloc::vec![0; usize::from(total.min(MAXIMUM_CONFIGURATION_LENGTH))];
        let count =
            self.descriptor(slot, kind::CONFIGURATION, number, 0, &mut bytes).await.map_err(at(STEP))?;
        Configuration::parse(&bytes[..count], speed).map_err(malformed)
    }

    /// The first language that the device has strings in; 0 when it has none.
    async fn language(&self, slot: &H::Slot) -> Result<u16, EnumerationError> {
        let bytes = self.string_bytes(slot, 0, 0).await?;
        Ok(match *bytes.as_slice() {
            [] => 0,
            [_, _, low, high, ..] => u16::from_le_bytes([low, high]),
            _ => ENGLISH,
        })
    }

    /// A string; empty when there is none or the device does not give it.
    async fn string(&self, slot: &H::Slot, number: u8, language: u16) -> Result<String, EnumerationError> {
        if number == 0 || language == 0 {
            return Ok(String::new());
        }
        let bytes = self.string_bytes(slot, number, language).await?;
        Ok(string_text(&bytes).unwrap_or_default())
    }

    async fn string_bytes(
        &self,
        slot: &H::Slot,
        number: u8,
        language: u16,
    ) -> Result<Vec<u8>, EnumerationError> {
        let mut bytes = alloc::vec![0; 255];
        match self.descriptor(slot, kind::STRING, number, language, &mut bytes).await {
            Ok(count) => {
                bytes.truncate(count);
                Ok(bytes)
            }
            // Names are not worth a device: refused, garbled or late ones are left out.
            Err(TransferError::Gone) => Err(at("string descriptor")(TransferError::Gone)),
            Err(_) => Ok(Vec::new()),
        }
    }
}
