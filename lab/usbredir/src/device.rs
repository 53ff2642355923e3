//! A virtual USB device, as whoever carries its transfers sees it.
//!
//! The device is clock-driven: each call says what time it is (a duration since an instant of the caller's choice that
//! never goes back), nothing blocks, no threads. It therefore runs the same behind a socket in real time and in a test
//! on a virtual clock.

use std::time::Duration;

/// Bus speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Speed {
    /// 12 Mbit/s.
    Full,
    /// 480 Mbit/s.
    High,
    /// 5 Gbit/s and more.
    Super,
}

/// The type of an endpoint, numbered as in `bmAttributes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferKind {
    /// 0
    Control = 0,
    /// 1
    Isochronous = 1,
    /// 2
    Bulk = 2,
    /// 3
    Interrupt = 3,
}

/// The eight bytes that start a control transfer (USB 2.0, 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// `bmRequestType`; bit 7 set: the data stage goes to the host.
    pub request_type: u8,
    /// `bRequest`.
    pub request: u8,
    /// `wValue`.
    pub value: u16,
    /// `wIndex`.
    pub index: u16,
    /// `wLength`.
    pub length: u16,
}

/// How the device answers a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Only IN endpoints: nothing to say now (NAK). Ask again after time has passed or something has happened.
    NotYet,
    /// To the device: so many bytes were taken.
    Accepted(usize),
    /// To the host: these bytes. Fewer than asked for end the transfer short.
    Data(Vec<u8>),
    /// STALL: the endpoint is halted, or the control request is refused.
    Stall,
    /// More came than was asked for.
    Babble,
    /// No valid answer on the bus.
    Error,
    /// This transfer never gets an answer; it hangs until the host gives up.
    Never,
}

/// A device that is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Differs between two plug-ins of the same device.
    pub plugged: u32,
    /// Bus speed.
    pub speed: Speed,
    /// `idVendor`.
    pub vendor: u16,
    /// `idProduct`.
    pub product: u16,
    /// `bcdDevice`.
    pub version: u16,
}

/// An endpoint of the current configuration and alternate settings, other than endpoint zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `bEndpointAddress`.
    pub address: u8,
    /// Type.
    pub kind: TransferKind,
    /// `wMaxPacketSize`.
    pub max_packet_size: u16,
    /// `bInterval`.
    pub interval: u8,
    /// Number of its interface.
    pub interface: u8,
}

/// An interface of the current configuration with its current alternate setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `bInterfaceNumber`.
    pub number: u8,
    /// Class, subclass, protocol.
    pub class: [u8; 3],
}

/// A virtual USB device.
pub trait Device {
    /// Whether it is plugged in, and as what.
    fn attachment(&mut self, now: Duration) -> Option<Attachment>;

    /// The endpoints of the current configuration, other than endpoint zero.
    fn endpoints(&self) -> Vec<Endpoint>;

    /// The interfaces of the current configuration.
    fn interfaces(&self) -> Vec<Interface>;

    /// Bus reset: back to the address state.
    fn reset(&mut self, now: Duration);

    /// A control transfer on endpoint zero, standard requests included (SET_ADDRESS excepted: the carrier does it).
    /// `data` is the data stage to the device.
    fn control(&mut self, setup: Setup, data: &[u8], now: Duration) -> Answer;

    /// One whole bulk transfer to the device.
    fn bulk_out(&mut self, endpoint: u8, data: &[u8], now: Duration) -> Answer;

    /// A bulk transfer of at most `limit` bytes to the host.
    fn bulk_in(&mut self, endpoint: u8, limit: usize, now: Duration) -> Answer;

    /// One poll of an interrupt endpoint, for at most `limit` bytes.
    fn interrupt_in(&mut self, endpoint: u8, limit: usize, now: Duration) -> Answer;

    /// When something will change by itself (an IN endpoint gets data, the device comes back), if nothing else happens.
    fn next_timer(&self) -> Option<Duration>;
}
