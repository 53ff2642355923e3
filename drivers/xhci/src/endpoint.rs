//! One endpoint: its transfer ring, what is in the ring, and what came back.
//!
//! A transfer's buffer lives in its `Record` from submission on. It leaves it in two ways only: a completion event
//! names the transfer, or the endpoint stands still (Stop Endpoint or Reset Endpoint completed and the dequeue pointer
//! moved past it, the slot disabled, the controller reset). Who waits for the transfer may be gone long before.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::RefCell;

use hal::dma::{DmaRegion, OutOfDmaMemory, Pages};
use netbuf::Zone;
use usb::gather::Piece;
use usb::waiting::Waiters;
use usb::{Transfer, TransferError};

use crate::ring::{ProducerRing, Span};
use crate::trb::{CHAIN, DataStage, INTERRUPT_ON_COMPLETION, INTERRUPT_ON_SHORT, Trb, code, kind};

/// The buffer of a transfer.
#[derive(Debug)]
pub enum Payload {
    /// Of a pipe.
    Pipe(Transfer),
    /// The data stage of a control transfer.
    Control(DmaRegion),
}

/// A transfer in the ring, or one that came back and was not taken yet.
#[derive(Debug)]
struct Record {
    payload: Payload,
    sequence: u64,
    span: Span,
    length: usize,
    /// A control transfer's data stage was short by so much.
    short: Option<usize>,
    /// The bytes travel through this memory, because the buffer's own lies above what the controller can address.
    bounce: Option<Box<DmaRegion>>,
    /// How it went, when it came back.
    result: Result<usize, TransferError>,
}

/// A transfer that came back.
pub type Finished = (Payload, Result<usize, TransferError>);

/// What an event meant to its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A transfer came back, or made progress.
    Noted,
    /// The event names no transfer in the ring.
    Stray,
    /// An interval of a periodic endpoint passed without service; nothing came back.
    Missed,
}

/// An endpoint, shared by its slot, its pipe and the event handling.
#[derive(Debug)]
pub struct EndpointCell {
    /// The slot.
    pub slot: u8,
    /// The device context index.
    pub index: u8,
    /// Who waits for a completion.
    pub waiters: Waiters,
    /// Everything that changes.
    pub state: RefCell<Endpoint>,
}

/// See [`EndpointCell`].
#[derive(Debug)]
pub struct Endpoint {
    ring: ProducerRing,
    /// In the order of submission: first those that came back, then those in the ring.
    transfers: VecDeque<Record>,
    /// How many came back.
    returned: usize,
    packet_size: u16,
    pieces: Vec<(u64, u32)>,
    sequence: u64,
    /// Why nothing can be submitted any more.
    pub dead: Option<TransferError>,
    /// A pipe to it exists.
    pub open: bool,
    /// Something was put into the ring that the doorbell was not rung for.
    pub unannounced: bool,
    /// Who waits is woken only for so many transfers that came back, or for a failed one.
    pub announce_after: usize,
}

/// The memory that the endpoint's transfers may lie in.
#[derive(Clone)]
pub struct Reach {
    /// For rings and bounce buffers.
    pub pages: Pages,
    /// What the controller can address.
    pub zone: Zone,
    /// Memory of zero bytes for padding, [`usb::gather::MAXIMUM_PADDING`] of them.
    pub zeros: u64,
}

impl Reach {
    /// Whether the controller can address these bytes.
    fn covers(&self, address: u64, length: usize) -> bool {
        self.zone == Zone::Normal || address + length as u64 <= 1 << 32
    }
}

impl Endpoint {
    /// An endpoint with an empty ring.
    pub fn new(reach: &Reach, packet_size: u16) -> Result<Self, OutOfDmaMemory> {
        Ok(Self {
            ring: ProducerRing::new(&reach.pages, reach.zone)?,
            transfers: VecDeque::new(),
            returned: 0,
            packet_size: packet_size.max(1),
            pieces: Vec::new(),
            sequence: 0,
            dead: None,
            open: false,
            unannounced: false,
            announce_after: 1,
        })
    }

    /// The ring's next place, for contexts and Set TR Dequeue Pointer.
    pub fn enqueue_pointer(&self) -> u64 {
        self.ring.enqueue_pointer()
    }

    /// Bytes per packet.
    pub fn packet_size(&self) -> u16 {
        self.packet_size
    }

    /// Sets the packet size of the control endpoint.
    pub fn set_packet_size(&mut self, bytes: u16) {
        self.packet_size = bytes.max(1);
    }

    /// Transfers in the ring or waiting to be taken.
    pub fn outstanding(&self) -> usize {
        self.transfers.len()
    }

    /// Whether transfers are in the ring.
    pub fn busy(&self) -> bool {
        self.transfers.len() > self.returned
    }

    /// Whether who waits is to be woken for what came back.
    pub fn is_announced(&self) -> bool {
        self.returned >= self.announce_after
            || self.transfers.iter().take(self.returned).any(|record| record.result.is_err())
    }

    /// Takes the oldest transfer that came back.
    pub fn take_finished(&mut self) -> Option<Finished> {
        self.returned = self.returned.checked_sub(1)?;
        self.transfers.pop_front().map(|record| (record.payload, record.result))
    }

    /// Whether a transfer came back that was not taken yet.
    pub fn has_finished(&self) -> bool {
        self.returned > 0
    }

    /// Puts a control transfer into the ring (4.11.2.2). `buffer` holds `length` bytes, to send or to fill.
    pub fn put_control(
        &mut self,
        request: [u8; 8],
        buffer: DmaRegion,
        length: usize,
        inward: bool,
    ) -> Result<(), TransferError> {
        if let Some(error) = self.dead {
            return Err(error);
        }
        let stage = DataStage { inward, address: buffer.bus_address(), length: length as u32 };
        let data = (length > 0).then_some(stage);
        let trbs = [Trb::setup(request, data), Trb::data(stage), Trb::status(data)];
        let count = if data.is_some() { 3 } else { 2 };
        let span = self.ring.put(count, |index| if index + 1 == count { trbs[2] } else { trbs[index] });
        let span = span.ok_or(TransferError::TooLarge)?;
        let payload = Payload::Control(buffer);
        self.record(payload, span, length, None);
        Ok(())
    }

    fn record(&mut self, payload: Payload, span: Span, length: usize, bounce: Option<Box<DmaRegion>>) {
        let sequence = self.sequence;
        self.sequence += 1;
        let record = Record { payload, sequence, span, length, short: None, bounce, result: Ok(0) };
        self.transfers.push_back(record);
    }

    /// Divides the transfers that are in the ring now from those that come later; see [`Endpoint::flush`].
    pub fn mark(&self) -> u64 {
        self.sequence
    }

    /// Puts a bulk or interrupt transfer into the ring; gives it back when it does not fit. True when its bytes have to
    /// travel through other memory.
    pub fn put(&mut self, transfer: Transfer, reach: &Reach) -> Result<bool, (TransferError, Transfer)> {
        if let Some(error) = self.dead {
            return Err((error, transfer));
        }
        match self.try_put(&transfer, reach) {
            Ok((span, length, bounce)) => {
                let (payload, bounced) = (Payload::Pipe(transfer), bounce.is_some());
                self.record(payload, span, length, bounce);
                self.unannounced = true;
                Ok(bounced)
            }
            Err(error) => Err((error, transfer)),
        }
    }

    fn try_put(
        &mut self,
        transfer: &Transfer,
        reach: &Reach,
    ) -> Result<(Span, usize, Option<Box<DmaRegion>>), TransferError> {
        self.pieces.clear();
        let (mut length, mut reachable) = (0, true);
        let mut flags = INTERRUPT_ON_COMPLETION;
        let mut zero_packet = false;
        match transfer {
            Transfer::In { block, length: wanted } => {
                if *wanted > block.len() {
                    return Err(TransferError::TooLarge);
                }
                length = *wanted;
                flags |= INTERRUPT_ON_SHORT;
                reachable = reach.covers(block.bus_address(), length);
                split(&mut self.pieces, block.bus_address(), length);
            }
            Transfer::Out(gather) => {
                // Not a loop: nested iterators run faster from inside.
                gather.pieces().for_each(|piece| {
                    let (address, bytes) = match piece {
                        Piece::Memory(segment) => (segment.bus_address, segment.bytes.len()),
                        Piece::Zeros(count) => (reach.zeros, count),
                    };
                    length += bytes;
                    reachable &= reach.covers(address, bytes);
                    split(&mut self.pieces, address, bytes);
                });
                zero_packet =
                    gather.zero_packet() && length > 0 && length.is_multiple_of(self.packet_size.into());
            }
        }
        let bounce = if reachable { None } else { Some(self.bounce(transfer, length, reach)?) };
        if self.pieces.is_empty() {
            self.pieces.push((reach.zeros, 0));
        }
        let span = self.put_pieces(length, flags, zero_packet).ok_or(TransferError::TooLarge)?;
        Ok((span, length, bounce))
    }

    /// Memory below 4 GiB to carry the transfer's bytes, for a controller that addresses 32 bits.
    fn bounce(
        &mut self,
        transfer: &Transfer,
        length: usize,
        reach: &Reach,
    ) -> Result<Box<DmaRegion>, TransferError> {
        let region =
            DmaRegion::new(&reach.pages, length, reach.zone).map_err(|_| TransferError::OutOfMemory)?;
        if let Transfer::Out(gather) = transfer {
            let mut offset = 0;
            for piece in gather.pieces() {
                if let Piece::Memory(segment) = piece {
                    region.write_bytes(offset, segment.bytes);
                }
                offset += piece.len();
            }
        }
        self.pieces.clear();
        split(&mut self.pieces, region.bus_address(), length);
        Ok(Box::new(region))
    }

    fn put_pieces(&mut self, length: usize, flags: u32, zero_packet: bool) -> Option<Span> {
        let (pieces, packet) = (&self.pieces, usize::from(self.packet_size));
        let count = pieces.len() + usize::from(zero_packet);
        let mut sent = 0;
        self.ring.put(count, |index| {
            let Some((address, bytes)) = pieces.get(index).copied() else {
                // The packet of no bytes is a transfer descriptor of its own (4.11.2.4).
                return Trb::normal(0, 0, 0, INTERRUPT_ON_COMPLETION);
            };
            sent += bytes as usize;
            let last = index + 1 == pieces.len();
            // TD Size: packets that remain when this TRB is done, 0 in the last one (4.11.2.4).
            let remaining = if last { 0 } else { (length.div_ceil(packet) - sent / packet).min(31) as u32 };
            let trb_flags = match (last, zero_packet) {
                (false, _) => CHAIN | flags & INTERRUPT_ON_SHORT,
                (true, false) => flags,
                (true, true) => 0,
            };
            Trb::normal(address, bytes, remaining, trb_flags)
        })
    }

    /// Handles a transfer event for this endpoint (4.10.1).
    pub fn handle_event(&mut self, event: Trb) -> Outcome {
        let completion = event.completion_code();
        match completion {
            // The TRB pointer of these is not valid, or names no transfer that ended.
            code::RING_UNDERRUN | code::RING_OVERRUN | code::MISSED_SERVICE => return Outcome::Missed,
            // The endpoint was stopped in the middle of a transfer, which comes back when the command completes.
            code::STOPPED | code::STOPPED_LENGTH_INVALID | code::STOPPED_SHORT_PACKET => {
                return Outcome::Noted;
            }
            _ => {}
        }
        let Some(index) = self.ring.index_of(event.parameter) else { return Outcome::Stray };
        let mut in_ring = self.returned..self.transfers.len();
        let Some(ended) = in_ring.find(|at| self.transfers[*at].span.contains(index)) else {
            return Outcome::Stray;
        };
        // Transfers of an endpoint finish in order: if there are older ones, their events were lost.
        while self.returned < ended {
            self.finish_first(Err(TransferError::Controller(code::EVENT_RING_FULL)));
        }
        let Some(record) = self.transfers.get_mut(self.returned) else { return Outcome::Stray };
        let at_end = index == record.span.last;
        let moved = match event.residue() {
            0 if at_end => record.length,
            residue => moved_bytes(&self.ring, record, index, residue),
        };
        match (&record.payload, completion) {
            (Payload::Control(_), code::SUCCESS) if at_end => {
                let moved = record.short.unwrap_or(record.length);
                self.finish_first(Ok(moved));
            }
            // The data stage; the status stage follows and ends the transfer. Some controllers report a short packet
            // as a success with a residue.
            (Payload::Control(_), code::SUCCESS | code::SHORT_PACKET) if !at_end => {
                record.short = Some(moved);
            }
            (Payload::Pipe(_), code::SUCCESS) if !at_end => {}
            (_, code::SUCCESS | code::SHORT_PACKET) => self.finish_first(Ok(moved)),
            (_, other) => self.finish_first(Err(error_of(other))),
        }
        Outcome::Noted
    }

    /// The controller's dequeue pointer is past everything up to `mark`: those transfers come back.
    pub fn flush(&mut self, mark: u64, reason: TransferError) {
        while self.transfers.get(self.returned).is_some_and(|record| record.sequence < mark) {
            self.finish_first(Err(reason));
        }
    }

    /// The controller does not know the ring any more: all transfers come back.
    pub fn flush_all(&mut self, reason: TransferError) {
        self.flush(u64::MAX, reason);
    }

    fn finish_first(&mut self, result: Result<usize, TransferError>) {
        let Some(record) = self.transfers.get_mut(self.returned) else { return };
        self.returned += 1;
        record.result = result;
        self.ring.release(record.span);
        if let (Some(bounce), Payload::Pipe(Transfer::In { block, .. }), Ok(moved)) =
            (&record.bounce, &mut record.payload, result)
        {
            let end = moved.min(block.len());
            bounce.read_bytes(0, &mut block.bytes_mut()[..end]);
        }
    }
}

/// Bytes moved when the TRB at `index` was left with `residue` bytes to go: TRBs before it are done (4.10.1.1).
fn moved_bytes(ring: &ProducerRing, record: &Record, index: usize, residue: u32) -> usize {
    let bytes = |index: usize| match ring.trb(index) {
        trb if matches!(trb.kind(), kind::NORMAL | kind::DATA) => (trb.status & 0x1_ffff) as usize,
        _ => 0,
    };
    let before: usize = (record.span.first..index).map(bytes).sum();
    (before + bytes(index).saturating_sub(residue as usize)).min(record.length)
}

/// Cuts a piece of memory where it crosses a multiple of 64 KiB: no TRB may (6.4.1).
fn split(pieces: &mut Vec<(u64, u32)>, mut address: u64, mut length: usize) {
    const BOUNDARY: u64 = 0x1_0000;
    while length > 0 {
        let room = BOUNDARY - address % BOUNDARY;
        let part = room.min(length as u64);
        pieces.push((address, part as u32));
        address += part;
        length -= part as usize;
    }
}

/// What an unsuccessful completion code means to the owner of the transfer.
fn error_of(completion: u8) -> TransferError {
    match completion {
        code::STALL => TransferError::Stall,
        code::TRANSACTION | code::SPLIT_TRANSACTION => TransferError::Transaction,
        code::BABBLE => TransferError::Babble,
        other => TransferError::Controller(other),
    }
}
