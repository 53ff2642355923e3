//! The transmit ring: netbufs to send go in, sent ones come out.

use alloc::boxed::Box;

use hal::dma::Pages;
use netbuf::{NetBuf, Queue};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;

use super::{HEADER_LENGTH, Layout, Misbehaviour, RING_SIZE, TRANSMIT_QUEUE};
use crate::Error;
use crate::dma;
use crate::transport::set_up_queue;

/// A header without offloads, for buffers that have no room for one.
static ZERO_HEADER: [u8; HEADER_LENGTH] = [0; HEADER_LENGTH];
/// Header, linear part and all frags that a netbuf can have.
const MOST_PIECES: usize = 2 + 17;
/// Emptied buffers that are kept for receiving; the rest is freed.
const MOST_SPARE: usize = RING_SIZE;

/// The ring and the buffers in it.
#[derive(Debug)]
pub(super) struct TransmitRing {
    queue: Box<VirtQueue<dma::Memory, RING_SIZE>>,
    /// By token: the buffers that the device has.
    sent: Box<[Option<Sent>; RING_SIZE]>,
    layout: Layout,
    /// Frames dropped because they have more pieces than the ring takes.
    pub unsendable: u64,
}

/// A buffer in the ring.
#[derive(Debug)]
struct Sent {
    frame: NetBuf,
    /// The header lies in the buffer, in front of the frame.
    own_header: bool,
}

impl TransmitRing {
    pub fn new(transport: &mut impl Transport, pages: &Pages, layout: Layout) -> Result<Self, Error> {
        let mut queue = set_up_queue(transport, pages, TRANSMIT_QUEUE)?;
        queue.set_dev_notify(false);
        Ok(Self {
            queue: Box::new(queue),
            sent: Box::new([const { None }; RING_SIZE]),
            layout,
            unsendable: 0,
        })
    }

    /// Takes frames from the front of `frames` while there is room; gives their number.
    pub fn send(&mut self, frames: &mut Queue, spare: &mut Queue) -> Result<usize, Misbehaviour> {
        let mut sent = 0;
        while let Some(frame) = frames.pop_front() {
            if let Err(frame) = self.add(frame) {
                if self.reclaim(spare)? == 0 {
                    frames.push_front(frame);
                    break;
                }
                frames.push_front(frame);
                continue;
            }
            sent += 1;
        }
        Ok(sent)
    }

    /// Hands a frame to the device, or gives it back for want of room.
    fn add(&mut self, mut frame: NetBuf) -> Result<(), NetBuf> {
        let header = self.layout.header;
        if self.queue.available_desc() < MOST_PIECES {
            return Err(frame);
        }
        let own_header = match frame.push(header) {
            Ok(bytes) => {
                bytes.fill(0);
                true
            }
            // No headroom, or somebody else sees the bytes in front of the frame.
            Err(_) => false,
        };
        let queue = &mut self.queue;
        // SAFETY: the bytes belong to `frame` (or are static), which goes into `sent` and is neither changed nor freed
        // until `pop_used` returned its token or the device was reset. A clone of it may read them meanwhile, and so
        // does the device.
        let token =
            with_pieces(&frame, own_header, self.layout, |pieces| unsafe { queue.add(pieces, &mut []) });
        match token {
            Some(Ok(token)) => {
                if let Some(slot) = self.sent.get_mut(usize::from(token)) {
                    *slot = Some(Sent { frame, own_header });
                }
            }
            // There was room for every frame that a netbuf can be: this one is not one.
            _ => self.unsendable += 1,
        }
        Ok(())
    }

    /// Takes back what the device has sent; emptied receive buffers go to `spare`. Gives the number taken back.
    pub fn reclaim(&mut self, spare: &mut Queue) -> Result<usize, Misbehaviour> {
        let mut count = 0;
        while let Some(token) = self.queue.peek_used() {
            let slot = self.sent.get_mut(usize::from(token));
            let Some(Sent { mut frame, own_header }) = slot.and_then(Option::take) else {
                return Err(Misbehaviour::UnknownBuffer { queue: TRANSMIT_QUEUE, token });
            };
            let queue = &mut self.queue;
            // SAFETY: the same bytes that `add` got when it gave this token: the frame was not changed.
            let popped = with_pieces(&frame, own_header, self.layout, |pieces| unsafe {
                queue.pop_used(token, pieces, &mut [])
            });
            if !matches!(popped, Some(Ok(_))) {
                // The device may still have it.
                self.sent[usize::from(token)] = Some(Sent { frame, own_header });
                return Err(Misbehaviour::InconsistentRing { queue: TRANSMIT_QUEUE });
            }
            count += 1;
            if spare.len() < MOST_SPARE && !frame.is_cloned() && !frame.is_nonlinear() {
                let _ = frame.trim(0);
                if frame.tailroom() >= self.layout.buffer {
                    spare.push_back(frame);
                }
            }
        }
        Ok(count)
    }

    /// Whether any frame fits.
    pub fn has_room(&self) -> bool {
        self.queue.available_desc() >= MOST_PIECES
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

/// Calls `call` with the pieces of a frame that get a descriptor each, the same ones each time as long as the frame
/// does not change. `None`: more pieces than a netbuf can have.
fn with_pieces<R>(
    frame: &NetBuf,
    own_header: bool,
    layout: Layout,
    call: impl FnOnce(&[&[u8]]) -> R,
) -> Option<R> {
    let linear = frame.data();
    if own_header && !layout.split_header && !frame.is_nonlinear() {
        return Some(call(&[linear]));
    }
    let mut pieces: [&[u8]; MOST_PIECES] = [&[]; MOST_PIECES];
    let mut count = 0;
    let mut add = |piece| {
        // The crate takes no empty pieces.
        if <[u8]>::is_empty(piece) {
            return Some(());
        }
        *pieces.get_mut(count)? = piece;
        count += 1;
        Some(())
    };
    let (header, rest) = if own_header {
        linear.split_at_checked(layout.header)?
    } else {
        (&ZERO_HEADER[..layout.header], linear)
    };
    if own_header && !layout.split_header {
        add(linear)?;
    } else {
        add(header)?;
        add(rest)?;
    }
    for segment in frame.scatter_list().skip(usize::from(!linear.is_empty())) {
        add(segment.bytes)?;
    }
    Some(call(&pieces[..count]))
}
