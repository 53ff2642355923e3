//! virtio-rng against a device that the tests play.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod device;

use std::cell::Cell;
use std::sync::Arc;
use std::task::Waker;

use device::{Device, VERSION_1, Window};
use hal::dma::Pages;
use hal::entropy::{Entropy, NoEntropy};
use hal::time::{Clock, Duration, Instant};
use virtio::entropy::VirtioEntropy;
use virtio::pci::PciTransport;

/// A clock that moves on by a millisecond each time somebody looks.
#[derive(Default)]
struct RestlessClock(Cell<u64>);

impl Clock for RestlessClock {
    fn now(&self) -> Instant {
        self.0.set(self.0.get() + 1);
        Instant::from_nanoseconds(self.0.get() * Duration::from_millis(1).as_nanos() as u64)
    }
    fn wake_at(&self, _at: Instant, _waker: &Waker) {
        unreachable!("the device is polled");
    }
}

fn source(legacy: bool, value: Option<u8>) -> VirtioEntropy<PciTransport<Window>, RestlessClock> {
    let device = Device::new(legacy, if legacy { 0 } else { VERSION_1 }, Vec::new(), 1, 8);
    device.0.borrow_mut().entropy = value;
    let id = if legacy { 0x1005 } else { 0x1044 };
    let transport =
        PciTransport::new(id, |offset| device.read_configuration(offset), |index| device.open_bar(index));
    let pages: Pages = Arc::new(device::IdentityPages);
    VirtioEntropy::new(transport.unwrap(), &pages, RestlessClock::default()).unwrap()
}

#[test]
fn bytes_come_from_the_device_however_many_are_asked_for() {
    for legacy in [false, true] {
        let source = source(legacy, Some(0xc7));
        for length in [0, 1, 63, 64, 65, 1000] {
            let mut bytes = vec![0; length];
            source.fill(&mut bytes).unwrap();
            assert_eq!(bytes, vec![0xc7; length]);
        }
    }
}

#[test]
fn a_silent_device_is_an_error_and_not_asked_again() {
    let source = source(false, None);
    let mut bytes = [0; 8];
    assert_eq!(source.fill(&mut bytes), Err(NoEntropy));
    assert_eq!(source.fill(&mut bytes), Err(NoEntropy));
}
