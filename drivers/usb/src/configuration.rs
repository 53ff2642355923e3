//! Configurations: interfaces, their alternate settings and endpoints (USB 2.0 and USB 3.2, chapter 9.6).
//!
//! What is malformed is left out and noted as an [`Oddity`], as the field's hosts do it: the rest of the device may work.

use alloc::vec::Vec;

use crate::descriptor::{DescriptorError, Descriptors, RawDescriptor, descriptors, expect, kind};
use crate::device::{EndpointAddress, Speed};

/// At most this many interfaces of a configuration are looked at.
pub const MAXIMUM_INTERFACES: usize = 32;
/// At most this many alternate settings of a configuration are looked at, over all interfaces.
pub const MAXIMUM_SETTINGS: usize = 128;
/// At most this many oddities of one configuration are kept.
const MAXIMUM_ODDITIES: usize = 16;

/// How an endpoint moves data (`bmAttributes` bits 1:0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferKind {
    /// Control: only endpoint 0 here.
    Control,
    /// Isochronous. Parsed, never opened.
    Isochronous,
    /// Bulk.
    Bulk,
    /// Interrupt.
    Interrupt,
}

/// The SuperSpeed endpoint companion (USB 3.2, 9.6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Companion {
    /// `bMaxBurst`: packets in a burst minus one, 0 to 15.
    pub maximum_burst: u8,
    /// `bmAttributes`: streams of a bulk endpoint, packets per interval of an isochronous one.
    pub attributes: u8,
    /// `wBytesPerInterval` of a periodic endpoint.
    pub bytes_per_interval: u16,
}

/// An endpoint (USB 3.2, 9.6.6), its sizes already cut to what the speed allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Number and direction; the number is 1 to 15.
    pub address: EndpointAddress,
    /// How it moves data.
    pub kind: TransferKind,
    /// Bytes per packet, at least 1.
    pub maximum_packet_size: u16,
    /// Additional transactions per microframe of a high-speed periodic endpoint, 0 to 2.
    pub additional_transactions: u8,
    /// `bInterval`, in the unit of its speed and kind.
    pub interval: u8,
    /// The companion, on SuperSpeed.
    pub companion: Option<Companion>,
    /// Class-specific and unknown descriptors that follow it, as they came.
    pub extras: Vec<u8>,
}

/// One alternate setting of an interface (USB 3.2, 9.6.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSetting {
    /// `bInterfaceNumber`.
    pub number: u8,
    /// `bAlternateSetting`.
    pub alternate: u8,
    /// `bInterfaceClass`.
    pub class: u8,
    /// `bInterfaceSubClass`.
    pub subclass: u8,
    /// `bInterfaceProtocol`.
    pub protocol: u8,
    /// `iInterface`: string index, 0 for none.
    pub string: u8,
    /// Its endpoints, in descriptor order.
    pub endpoints: Vec<Endpoint>,
    /// Class-specific and unknown descriptors between it and its first endpoint, as they came; walk them with
    /// [`descriptors`].
    pub extras: Vec<u8>,
}

impl InterfaceSetting {
    /// The first endpoint of this kind and direction.
    #[must_use]
    pub fn endpoint(&self, kind: TransferKind, inward: bool) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.kind == kind && endpoint.address.is_in() == inward)
    }
}

/// Something in a configuration that cannot be meant so. The configuration is used without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Oddity {
    /// `wTotalLength` says more than the device sent.
    Truncated {
        /// `wTotalLength`.
        total: u16,
        /// Bytes that came.
        received: usize,
    },
    /// A descriptor with an impossible `bLength`; everything from it on was left out.
    BadChain {
        /// Bytes left out.
        remaining: usize,
    },
    /// An interface or endpoint descriptor that is too short.
    ShortDescriptor {
        /// `bDescriptorType`.
        kind: u8,
        /// `bLength`.
        length: usize,
    },
    /// An endpoint before the first interface.
    StrayEndpoint(u8),
    /// `bEndpointAddress` with number 0 or reserved bits set.
    EndpointAddress(u8),
    /// An endpoint that another one of the same setting, or of another interface, already has.
    DuplicateEndpoint(u8),
    /// `wMaxPacketSize` of this endpoint is 0: it cannot move data.
    NoPacketSize(u8),
    /// `wMaxPacketSize` was more than the speed allows and was cut.
    PacketSize {
        /// `bEndpointAddress`.
        endpoint: u8,
        /// What the descriptor says.
        found: u16,
        /// What is used.
        used: u16,
    },
    /// The same alternate setting a second time.
    DuplicateSetting {
        /// `bInterfaceNumber`.
        interface: u8,
        /// `bAlternateSetting`.
        alternate: u8,
    },
    /// More interfaces or settings than are looked at.
    TooMany,
    /// Another number of interfaces than `bNumInterfaces`.
    InterfaceCount {
        /// `bNumInterfaces`.
        said: u8,
        /// Interfaces that were there.
        found: usize,
    },
}

/// A configuration with everything in it (USB 3.2, 9.6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// `bConfigurationValue`: what SET_CONFIGURATION takes.
    pub value: u8,
    /// `bmAttributes`.
    pub attributes: u8,
    /// `bMaxPower`, in units of 2 mA, or of 8 mA from SuperSpeed on.
    pub maximum_power: u8,
    /// `iConfiguration`: string index, 0 for none.
    pub string: u8,
    /// All alternate settings of all interfaces, in descriptor order.
    pub settings: Vec<InterfaceSetting>,
    /// Descriptors between the configuration and its first interface (interface associations and the like).
    pub extras: Vec<u8>,
    /// What was left out or corrected.
    pub oddities: Vec<Oddity>,
}

impl Configuration {
    /// Bytes in the configuration descriptor itself.
    pub const LENGTH: u8 = 9;

    /// `wTotalLength` from the first bytes of a configuration.
    ///
    /// # Errors
    ///
    /// [`DescriptorError`] when the header is not one, or says that the whole is shorter than the header.
    pub fn total_length(bytes: &[u8]) -> Result<u16, DescriptorError> {
        let raw = expect(bytes, kind::CONFIGURATION, Self::LENGTH)?;
        let total = raw.word(2);
        if total < u16::from(Self::LENGTH) {
            return Err(DescriptorError::Short { kind: kind::CONFIGURATION, length: usize::from(total) });
        }
        Ok(total)
    }

    /// Parses the configuration descriptor and all that follows it. `speed` bounds the packet sizes.
    ///
    /// # Errors
    ///
    /// [`DescriptorError`] when not even the configuration descriptor is one. Everything else is an [`Oddity`].
    pub fn parse(bytes: &[u8], speed: Speed) -> Result<Self, DescriptorError> {
        let header = expect(bytes, kind::CONFIGURATION, Self::LENGTH)?;
        let total = Self::total_length(bytes)?;
        let mut configuration = Self {
            value: header.byte(5),
            attributes: header.byte(7),
            maximum_power: header.byte(8),
            string: header.byte(6),
            settings: Vec::new(),
            extras: Vec::new(),
            oddities: Vec::new(),
        };
        if usize::from(total) > bytes.len() {
            configuration.note(Oddity::Truncated { total, received: bytes.len() });
        }
        let end = bytes.len().min(usize::from(total));
        let mut chain = descriptors(&bytes[..end]);
        chain.next();
        configuration.read_chain(&mut chain, speed);
        if chain.remaining() > 0 {
            configuration.note(Oddity::BadChain { remaining: chain.remaining() });
        }
        let found = configuration.interface_count();
        if usize::from(header.byte(4)) != found {
            configuration.note(Oddity::InterfaceCount { said: header.byte(4), found });
        }
        Ok(configuration)
    }

    /// This alternate setting of this interface.
    #[must_use]
    pub fn setting(&self, interface: u8, alternate: u8) -> Option<&InterfaceSetting> {
        self.settings.iter().find(|setting| setting.number == interface && setting.alternate == alternate)
    }

    /// The settings that are in force after SET_CONFIGURATION: alternate 0 of each interface.
    pub fn default_settings(&self) -> impl Iterator<Item = &InterfaceSetting> {
        self.settings.iter().filter(|setting| setting.alternate == 0)
    }

    fn interface_count(&self) -> usize {
        let mut numbers: Vec<u8> = self.settings.iter().map(|setting| setting.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len()
    }

    fn note(&mut self, oddity: Oddity) {
        if self.oddities.len() < MAXIMUM_ODDITIES {
            self.oddities.push(oddity);
        }
    }

    fn read_chain(&mut self, chain: &mut Descriptors<'_>, speed: Speed) {
        // Where a descriptor that nobody here knows belongs: to what stood last before it.
        let mut owner = Owner::Configuration;
        for raw in chain {
            match raw.kind {
                kind::INTERFACE => owner = self.read_interface(&raw),
                kind::ENDPOINT => owner = self.read_endpoint(&raw, owner, speed),
                kind::ENDPOINT_COMPANION => self.read_companion(&raw, owner, speed),
                _ => self.keep_extra(&raw, owner),
            }
        }
    }

    fn read_interface(&mut self, raw: &RawDescriptor<'_>) -> Owner {
        if raw.bytes.len() < 9 {
            self.note(Oddity::ShortDescriptor { kind: raw.kind, length: raw.bytes.len() });
            return Owner::Nobody;
        }
        let (number, alternate) = (raw.byte(2), raw.byte(3));
        if self.setting(number, alternate).is_some() {
            self.note(Oddity::DuplicateSetting { interface: number, alternate });
            return Owner::Nobody;
        }
        let new_interface = !self.settings.iter().any(|setting| setting.number == number);
        if self.settings.len() >= MAXIMUM_SETTINGS
            || (new_interface && self.interface_count() >= MAXIMUM_INTERFACES)
        {
            self.note(Oddity::TooMany);
            return Owner::Nobody;
        }
        self.settings.push(InterfaceSetting {
            number,
            alternate,
            class: raw.byte(5),
            subclass: raw.byte(6),
            protocol: raw.byte(7),
            string: raw.byte(8),
            endpoints: Vec::new(),
            extras: Vec::new(),
        });
        Owner::Setting
    }

    fn read_endpoint(&mut self, raw: &RawDescriptor<'_>, owner: Owner, speed: Speed) -> Owner {
        let address = raw.byte(2);
        if raw.bytes.len() < 7 {
            self.note(Oddity::ShortDescriptor { kind: raw.kind, length: raw.bytes.len() });
            return owner.after_skipped_endpoint();
        }
        if matches!(owner, Owner::Configuration) {
            self.note(Oddity::StrayEndpoint(address));
            return owner;
        }
        if matches!(owner, Owner::Nobody) {
            return owner;
        }
        if address & 0x0f == 0 || address & 0x70 != 0 {
            self.note(Oddity::EndpointAddress(address));
            return Owner::SkippedEndpoint;
        }
        let address = EndpointAddress(address);
        if self.is_taken(address) {
            self.note(Oddity::DuplicateEndpoint(address.0));
            return Owner::SkippedEndpoint;
        }
        let kind = match raw.byte(3) & 3 {
            0 => TransferKind::Control,
            1 => TransferKind::Isochronous,
            2 => TransferKind::Bulk,
            _ => TransferKind::Interrupt,
        };
        let field = raw.word(4);
        let found = field & 0x07ff;
        let limit = packet_size_limit(speed, kind);
        let used = found.min(limit);
        // An isochronous setting without bandwidth is legal (USB 2.0 5.6.3); any other endpoint of size 0 is useless.
        if used == 0 && kind != TransferKind::Isochronous {
            self.note(Oddity::NoPacketSize(address.0));
            return Owner::SkippedEndpoint;
        }
        if used != found {
            self.note(Oddity::PacketSize { endpoint: address.0, found, used });
        }
        let periodic = matches!(kind, TransferKind::Isochronous | TransferKind::Interrupt);
        let additional = if speed == Speed::High && periodic { ((field >> 11) & 3).min(2) as u8 } else { 0 };
        let endpoint = Endpoint {
            address,
            kind,
            maximum_packet_size: used,
            additional_transactions: additional,
            interval: raw.byte(6),
            companion: None,
            extras: Vec::new(),
        };
        match self.settings.last_mut() {
            Some(setting) => {
                setting.endpoints.push(endpoint);
                Owner::Endpoint
            }
            None => Owner::Configuration,
        }
    }

    /// An endpoint address may be used once in each setting, and not by two interfaces (USB 2.0 9.6.6).
    fn is_taken(&self, address: EndpointAddress) -> bool {
        let Some(current) = self.settings.last() else { return false };
        self.settings.iter().any(|setting| {
            let rival = setting.number != current.number || setting.alternate == current.alternate;
            rival && setting.endpoints.iter().any(|endpoint| endpoint.address == address)
        })
    }

    fn read_companion(&mut self, raw: &RawDescriptor<'_>, owner: Owner, speed: Speed) {
        if raw.bytes.len() < 6 {
            self.note(Oddity::ShortDescriptor { kind: raw.kind, length: raw.bytes.len() });
            return;
        }
        if speed < Speed::Super || !matches!(owner, Owner::Endpoint) {
            return;
        }
        let endpoint = self.settings.last_mut().and_then(|setting| setting.endpoints.last_mut());
        if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.companion.is_none()) {
            endpoint.companion = Some(Companion {
                maximum_burst: raw.byte(2).min(15),
                attributes: raw.byte(3),
                bytes_per_interval: raw.word(4),
            });
        }
    }

    fn keep_extra(&mut self, raw: &RawDescriptor<'_>, owner: Owner) {
        let extras = match owner {
            Owner::Configuration => Some(&mut self.extras),
            Owner::Setting => self.settings.last_mut().map(|setting| &mut setting.extras),
            Owner::Endpoint => self
                .settings
                .last_mut()
                .and_then(|setting| setting.endpoints.last_mut())
                .map(|endpoint| &mut endpoint.extras),
            Owner::SkippedEndpoint | Owner::Nobody => None,
        };
        if let Some(extras) = extras {
            extras.extend_from_slice(raw.bytes);
        }
    }
}

/// To whom the next unknown descriptor belongs.
#[derive(Clone, Copy)]
enum Owner {
    Configuration,
    Setting,
    Endpoint,
    SkippedEndpoint,
    Nobody,
}

impl Owner {
    fn after_skipped_endpoint(self) -> Self {
        match self {
            Self::Setting | Self::Endpoint => Self::SkippedEndpoint,
            other => other,
        }
    }
}

/// The largest packet of a kind of endpoint at a speed (USB 2.0 5.5.3 to 5.8.3, USB 3.2 9.6.6).
fn packet_size_limit(speed: Speed, kind: TransferKind) -> u16 {
    match (speed, kind) {
        (Speed::Low, _) => 8,
        (Speed::Full, TransferKind::Isochronous) => 1023,
        (Speed::Full, _) => 64,
        (Speed::High, TransferKind::Control) => 64,
        (Speed::High, TransferKind::Bulk) => 512,
        (Speed::Super | Speed::SuperPlus, TransferKind::Control) => 512,
        (Speed::High | Speed::Super | Speed::SuperPlus, _) => 1024,
    }
}
