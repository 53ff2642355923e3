//! The receive ring: empty netbufs with the device, full ones out.

use alloc::boxed::Box;

use hal::dma::Pages;
use netbuf::{Memory, NetBuf, Queue};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;

use super::{Layout, Misbehaviour, RECEIVE_QUEUE, RING_SIZE};
use crate::Error;
use crate::dma;
use crate::transport::set_up_queue;

/// The ring and the buffers in it.
#[derive(Debug)]
pub(super) struct ReceiveRing {
    queue: Box<VirtQueue<dma::Memory, RING_SIZE>>,
    /// By token: the buffers that the device has.
    posted: Box<[Option<NetBuf>; RING_SIZE]>,
    /// Empty buffers of the right size, ready to be posted.
    pub spare: Queue,
    memory: Memory,
    layout: Layout,
    /// Frames dropped because the device told an impossible length.
    pub bad_lengths: u64,
    /// Frames dropped because there was no buffer to take their place.
    pub no_memory: u64,
}

impl ReceiveRing {
    pub fn new(
        transport: &mut impl Transport,
        pages: &Pages,
        memory: &Memory,
        layout: Layout,
    ) -> Result<Self, Error> {
        let queue = set_up_queue(transport, pages, RECEIVE_QUEUE)?;
        Ok(Self {
            queue: Box::new(queue),
            posted: Box::new([const { None }; RING_SIZE]),
            spare: Queue::new(),
            memory: memory.clone(),
            layout,
            bad_lengths: 0,
            no_memory: 0,
        })
    }

    /// Buffers that the ring holds when it is full.
    fn capacity(&self) -> usize {
        if self.layout.split_header { RING_SIZE / 2 } else { RING_SIZE }
    }

    /// Posts buffers until the ring is full.
    pub fn fill(&mut self) -> Result<(), Error> {
        for _ in 0..self.capacity() {
            let buffer = self.empty_buffer().ok_or(Error::OutOfMemory)?;
            self.post(buffer).map_err(|()| Error::OutOfMemory)?;
        }
        Ok(())
    }

    fn empty_buffer(&mut self) -> Option<NetBuf> {
        self.spare.pop_front().or_else(|| NetBuf::rx_alloc(&self.memory, self.layout.buffer).ok())
    }

    /// Hands a buffer to the device.
    fn post(&mut self, mut buffer: NetBuf) -> Result<(), ()> {
        let space = buffer.receive_space().ok_or(())?;
        // What `Hal::share` takes for granted.
        if space.bus_address != space.bytes.as_ptr().addr() as u64 || space.bytes.len() < self.layout.buffer {
            return Err(());
        }
        // SAFETY: the bytes belong to `buffer`, which goes into `posted` and stays there, not looked at, until
        // `pop_used` returned its token or the device was reset.
        let token = unsafe {
            match header_apart(space.bytes, self.layout) {
                (header, []) => self.queue.add(&[], &mut [header]),
                (header, frame) => self.queue.add(&[], &mut [header, frame]),
            }
        };
        let token = token.map_err(|_| ())?;
        if let Some(slot) = self.posted.get_mut(usize::from(token)) {
            *slot = Some(buffer);
        }
        Ok(())
    }

    /// Appends at most `budget` received frames to `received` and posts as many buffers anew; gives the number of
    /// buffers that came back from the device.
    pub fn take(&mut self, received: &mut Queue, budget: usize) -> Result<usize, Misbehaviour> {
        let mut taken = 0;
        while taken < budget {
            let Some(token) = self.queue.peek_used() else { break };
            taken += 1;
            let slot = self.posted.get_mut(usize::from(token));
            let Some(mut buffer) = slot.and_then(Option::take) else {
                return Err(Misbehaviour::UnknownBuffer { queue: RECEIVE_QUEUE, token });
            };
            let mut written = None;
            if let Some(space) = buffer.receive_space() {
                let room = space.bytes.len();
                // SAFETY: the same bytes that `add` got when it gave this token: the buffer was not touched.
                let popped = unsafe {
                    match header_apart(space.bytes, self.layout) {
                        (header, []) => self.queue.pop_used(token, &[], &mut [header]),
                        (header, frame) => self.queue.pop_used(token, &[], &mut [header, frame]),
                    }
                };
                written = popped.ok().map(|length| (length as usize, room));
            }
            let Some((length, room)) = written else {
                // The device may still have it.
                self.posted[usize::from(token)] = Some(buffer);
                return Err(Misbehaviour::InconsistentRing { queue: RECEIVE_QUEUE });
            };
            let header = self.layout.header;
            let plausible = length > header && length <= room;
            let replacement = if plausible { self.empty_buffer() } else { None };
            let Some(replacement) = replacement else {
                // The frame is lost, its buffer goes straight back: the ring stays full.
                if plausible {
                    self.no_memory += 1;
                } else {
                    self.bad_lengths += 1;
                }
                let _ = self.post(buffer);
                continue;
            };
            let _ = self.post(replacement);
            if buffer.put_received(length).is_ok() && buffer.pull(header).is_ok() {
                received.push_back(buffer);
            }
        }
        Ok(taken)
    }

    pub fn has_used(&self) -> bool {
        self.queue.can_pop()
    }

    pub fn should_notify(&self) -> bool {
        self.queue.should_notify()
    }

    pub fn set_interrupts(&mut self, on: bool) {
        self.queue.set_dev_notify(on);
    }
}

/// The pieces of a receive buffer that get a descriptor each; the second one is empty unless the device wants the
/// header in a descriptor of its own.
fn header_apart(bytes: &mut [u8], layout: Layout) -> (&mut [u8], &mut [u8]) {
    let first = if layout.split_header { layout.header.min(bytes.len()) } else { bytes.len() };
    bytes.split_at_mut(first)
}
