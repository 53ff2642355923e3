//! virtio-rng, the host's random bytes (virtio 1.2, 5.4).
//!
//! Seeding happens a few times in the life of an image, so the device is polled, without an interrupt.

use core::mem::ManuallyDrop;
use core::time::Duration;

use hal::dma::{DmaRegion, Pages};
use hal::entropy::{Entropy, NoEntropy};
use hal::time::Clock;
use netbuf::Zone;
use spin::Mutex;
use virtio_drivers::device::common::Feature;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceType, Transport};

use crate::Error;
use crate::dma::Memory;
use crate::transport::{negotiate, reset, set_up_queue, start};

const REQUEST_QUEUE: u16 = 0;
/// One request is in flight at a time; eight is the size that QEMU gives the queue.
const QUEUE_SIZE: usize = 8;
/// Bytes asked for at once.
const REQUEST_LENGTH: usize = 64;
/// A host may have to gather entropy first, but not for longer than this.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);

/// A virtio-rng device.
#[derive(Debug)]
pub struct VirtioEntropy<T: Transport, C> {
    clock: C,
    device: Mutex<Device<T>>,
}

#[derive(Debug)]
struct Device<T: Transport> {
    transport: T,
    shared: ManuallyDrop<Shared>,
    /// Set once a request went unanswered: the buffer then belongs to the device for good.
    failed: bool,
}

/// What the device has access to until it is reset.
#[derive(Debug)]
struct Shared {
    queue: VirtQueue<Memory, QUEUE_SIZE>,
    buffer: DmaRegion,
}

impl<T: Transport, C: Clock> VirtioEntropy<T, C> {
    /// Brings the device up.
    ///
    /// # Errors
    ///
    /// [`Error`]: another type of device, no memory, or a device that does not follow the initialisation.
    pub fn new(mut transport: T, pages: &Pages, clock: C) -> Result<Self, Error> {
        if transport.device_type() != DeviceType::EntropySource {
            return Err(Error::NotSupported { device_id: transport.device_type() as u16 });
        }
        negotiate(&mut transport, Feature::VERSION_1.bits())?;
        let mut queue = set_up_queue::<QUEUE_SIZE>(&mut transport, pages, REQUEST_QUEUE)?;
        let buffer = DmaRegion::new(pages, REQUEST_LENGTH, Zone::Normal).map_err(|_| Error::OutOfMemory)?;
        queue.set_dev_notify(false);
        start(&mut transport);
        let shared = ManuallyDrop::new(Shared { queue, buffer });
        Ok(Self { clock, device: Mutex::new(Device { transport, shared, failed: false }) })
    }
}

impl<T: Transport> Device<T> {
    /// Asks once; gives the number of bytes now in the buffer.
    fn request(&mut self, clock: &impl Clock, wanted: usize) -> Result<usize, NoEntropy> {
        if self.failed {
            return Err(NoEntropy);
        }
        let wanted = wanted.min(REQUEST_LENGTH);
        // SAFETY: the region has at least REQUEST_LENGTH bytes, is ours alone, and is neither read, written nor freed
        // until `pop_used` gave the buffer back: on a time-out `failed` keeps everybody away, and `drop` resets the
        // device before the region goes.
        let buffer =
            unsafe { core::slice::from_raw_parts_mut(self.shared.buffer.pointer().as_ptr(), wanted) };
        // SAFETY: as above.
        let token = unsafe { self.shared.queue.add(&[], &mut [&mut *buffer]) }.map_err(|_| NoEntropy)?;
        self.transport.notify(REQUEST_QUEUE);
        let deadline = clock.now() + ANSWER_DEADLINE;
        while !self.shared.queue.can_pop() {
            if clock.now() > deadline {
                self.failed = true;
                log::error!("virtio-rng: no answer within {ANSWER_DEADLINE:?}; it is not used any more");
                return Err(NoEntropy);
            }
            core::hint::spin_loop();
        }
        // SAFETY: the same buffer that `add` got with this token.
        match unsafe { self.shared.queue.pop_used(token, &[], &mut [buffer]) } {
            Ok(length) if (1..=wanted).contains(&(length as usize)) => Ok(length as usize),
            answer => {
                self.failed = true;
                log::error!("virtio-rng: impossible answer {answer:?} to a request for {wanted} bytes");
                Err(NoEntropy)
            }
        }
    }
}

impl<T: Transport, C: Clock> Entropy for VirtioEntropy<T, C> {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        let mut device = self.device.lock();
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = device.request(&self.clock, rest.len())?;
            let (now, later) = rest.split_at_mut(length);
            device.shared.buffer.read_bytes(0, now);
            // Random bytes are used once.
            device.shared.buffer.fill(0, length, 0);
            rest = later;
        }
        Ok(())
    }
}

impl<T: Transport> Drop for Device<T> {
    fn drop(&mut self) {
        match reset(&mut self.transport) {
            // SAFETY: dropped once, here, and not used afterwards; the device has let go of both.
            Ok(()) => unsafe { ManuallyDrop::drop(&mut self.shared) },
            // The device may still write: its memory is given up rather than reused.
            Err(error) => log::error!("virtio-rng: {error}"),
        }
    }
}
