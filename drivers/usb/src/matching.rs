//! Which driver takes a device: by its ids first, by its class then.

use crate::device::DeviceInformation;

/// What a driver says it can drive.
#[derive(Clone, Copy, Debug)]
pub struct DriverMatch {
    /// The driver's name.
    pub name: &'static str,
    /// `idVendor` and `idProduct` of devices that it knows.
    pub ids: &'static [(u16, u16)],
    /// Whether it can drive the device by what its descriptors say.
    pub by_class: fn(&DeviceInformation) -> bool,
}

/// The index of the driver that takes the device. Those that know its ids go before those that know its class,
/// whatever their order: an adapter that speaks its vendor's protocol is better driven by it.
#[must_use]
pub fn choose(drivers: &[DriverMatch], information: &DeviceInformation) -> Option<usize> {
    let ids = (information.device.vendor, information.device.product);
    let by_id = drivers.iter().position(|driver| driver.ids.contains(&ids));
    by_id.or_else(|| drivers.iter().position(|driver| (driver.by_class)(information)))
}
