//! The transmit side of the driver: frames gathered into bulk OUT transfers. The descriptor goes into a frame's
//! headroom; payload is never copied.

use core::task::{Context, Poll};

use hal::network::DeviceError;
use hal::time::Clock;
use netbuf::{ChecksumStatus, NetBuf, Queue};
use usb::recovery::Fault;
use usb::{Gather, Pipe, Transfer, TransferError, UsbDevice};

use crate::driver::Rtl8152;
use crate::transmit::{ALIGNMENT, DESCRIPTOR_LENGTH, Network, Offload, Transport, descriptor};

/// A frame's Ethernet header with VLAN tag: what the MTU does not count.
const HEADER: usize = 18;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;

/// Where TCP (RFC 9293) and UDP (RFC 768) keep their checksum: this far into their header.
const TCP_CHECKSUM_OFFSET: usize = 16;
const UDP_CHECKSUM_OFFSET: usize = 6;

impl<D, C> Rtl8152<D, C>
where
    D: UsbDevice + 'static,
    C: Clock + 'static,
{
    /// Moves frames into transfers as long as there is room, and tells the pipe once.
    pub(crate) fn send(&mut self, frames: &mut Queue) -> Result<(), DeviceError> {
        let mut submitted = false;
        let mut outcome = Ok(());
        self.wants_room = false;
        while !frames.is_empty() {
            if !self.has_room() {
                self.wants_room = true;
                break;
            }
            let (gather, count) = self.gather(frames);
            if count == 0 {
                self.spare_gathers.push(gather);
                continue;
            }
            let now = self.chip.registers.clock.now();
            let Some(pipes) = &mut self.pipes else { break };
            if pipes.transmit.in_flight() == 0 {
                self.transmitting_since = now;
            }
            match pipes.transmit.submit(Transfer::Out(gather)) {
                Ok(()) => {
                    self.frames_under_way += count;
                    submitted = true;
                }
                Err((TransferError::TooLarge, Transfer::Out(gather))) if self.shrink(count) => {
                    self.take_back(gather, frames);
                }
                Err((error, transfer)) => {
                    self.counters.tx_dropped_lost += count;
                    self.recycle(transfer);
                    outcome = self.ladder.transfer_failed(Fault::Transmit, error);
                    break;
                }
            }
        }
        if let Some(pipes) = &mut self.pipes {
            // What was sent is of interest only when its room is.
            let enough = if self.wants_room { 1 } else { self.chip.config.transmit_transfers };
            pipes.transmit.announce_after(enough);
            if submitted {
                self.counters.doorbells += 1;
                pipes.transmit.start();
            }
        }
        outcome
    }

    /// The host controller has no room for a transfer of `count` frames: while others are under way the frames wait
    /// for them, else fewer frames share a transfer from now on. False when even one frame is too much.
    fn shrink(&mut self, count: u64) -> bool {
        if self.pipes.as_ref().is_some_and(|pipes| pipes.transmit.in_flight() > 0) {
            self.ring_full = true;
            return true;
        }
        self.frames_per_transfer = (count / 2).max(1);
        count > 1
    }

    /// Puts frames that could not be sent back where they came from, as they were.
    fn take_back(&mut self, mut gather: Gather, frames: &mut Queue) {
        let mut back = Queue::new();
        for mut frame in gather.drain_frames() {
            match frame.pull(DESCRIPTOR_LENGTH) {
                Ok(_) => back.push_back(frame),
                Err(_) => self.counters.tx_dropped_lost += 1,
            }
        }
        frames.prepend(&mut back);
        self.spare_gathers.push(gather);
    }

    fn has_room(&self) -> bool {
        self.link.is_some()
            && !self.ladder.is_faulty()
            && !self.ring_full
            && self
                .pipes
                .as_ref()
                .is_some_and(|pipes| pipes.transmit.in_flight() < self.chip.config.transmit_transfers.max(1))
    }

    /// As many frames as share one transfer, and their number: 0 when none of those that were taken could be sent.
    fn gather(&mut self, frames: &mut Queue) -> (Gather, u64) {
        let mut gather = self.spare_gathers.pop().unwrap_or_default();
        let mut length = 0_usize;
        let mut count = 0;
        while count < self.frames_per_transfer
            && let Some(frame) = frames.pop_front()
        {
            let start = length.next_multiple_of(ALIGNMENT);
            let end = start + DESCRIPTOR_LENGTH + frame.len();
            if count > 0 && end > self.chip.config.transmit_aggregate_bytes {
                frames.push_front(frame);
                break;
            }
            let Some(frame) = self.encapsulate(frame) else { continue };
            gather.push_padding((start - length) as u8);
            gather.push_frame(frame);
            length = end;
            count += 1;
        }
        (gather, count)
    }

    /// Puts the transmit descriptor in front of a frame.
    fn encapsulate(&mut self, mut frame: NetBuf) -> Option<NetBuf> {
        let fits = frame.len() <= self.chip.config.maximum_transmission_unit + HEADER;
        let descriptor = offload(&frame)
            .and_then(|offload| descriptor(frame.len(), frame.vlan(), offload))
            .filter(|_| fits && !frame.is_empty());
        let Some(descriptor) = descriptor else {
            self.counters.tx_dropped_unfit += 1;
            return None;
        };
        if frame.push(DESCRIPTOR_LENGTH).map(|place| place.copy_from_slice(&descriptor)).is_ok() {
            return Some(frame);
        }
        // The head is shared or has no headroom: a head of its own, with the same payload behind it.
        let own = frame.cow(DESCRIPTOR_LENGTH).is_ok()
            && frame.push(DESCRIPTOR_LENGTH).map(|place| place.copy_from_slice(&descriptor)).is_ok();
        if !own {
            self.counters.tx_dropped_no_memory += 1;
            return None;
        }
        self.counters.tx_heads_copied += 1;
        Some(frame)
    }

    /// Takes finished transfers in. True when room came free that the network layer waits for.
    pub(crate) fn poll_transmitted(&mut self, context: &mut Context<'_>) -> Result<bool, DeviceError> {
        let mut room = false;
        while let Some(pipes) = &mut self.pipes
            && pipes.transmit.in_flight() > 0
            && let Poll::Ready(completion) = pipes.transmit.poll_completion(context)
        {
            self.transmitting_since = self.chip.registers.clock.now();
            self.ring_full = false;
            let count = self.recycle(completion.transfer);
            self.frames_under_way = self.frames_under_way.saturating_sub(count);
            match completion.result {
                Ok(length) => {
                    self.ladder.works(Fault::Transmit);
                    self.counters.tx_transfers += 1;
                    self.counters.sent_frames += count;
                    self.counters.sent_bytes += length as u64;
                    room = true;
                }
                Err(error) => {
                    self.counters.tx_dropped_lost += count;
                    if error != TransferError::Cancelled {
                        self.counters.tx_transfer_errors += 1;
                        self.ladder.transfer_failed(Fault::Transmit, error)?;
                    }
                }
            }
        }
        Ok(room && core::mem::take(&mut self.wants_room))
    }

    /// Frees the frames of a transfer and keeps its lists; gives the number of frames.
    fn recycle(&mut self, transfer: Transfer) -> u64 {
        let Transfer::Out(mut gather) = transfer else { return 0 };
        let count = gather.drain_frames().count() as u64;
        if self.spare_gathers.len() < self.chip.config.transmit_transfers {
            self.spare_gathers.push(gather);
        }
        count
    }
}

/// What the chip has to do with a frame beyond sending it; `None` when the chip cannot.
fn offload(frame: &NetBuf) -> Option<Offload> {
    let ChecksumStatus::Partial { start, offset } = frame.checksum_status() else {
        return Some(Offload::None);
    };
    let network = match network_protocol(frame.data())? {
        ETHERTYPE_IPV4 => Network::Ipv4,
        ETHERTYPE_IPV6 => Network::Ipv6,
        _ => return None,
    };
    let transport = match offset {
        TCP_CHECKSUM_OFFSET => Transport::Tcp,
        UDP_CHECKSUM_OFFSET => Transport::Udp,
        _ => return None,
    };
    Some(Offload::Checksum { network, transport, offset: start })
}

/// The Ethernet type of the payload, behind a VLAN tag if there is one in the frame.
fn network_protocol(frame: &[u8]) -> Option<u16> {
    let at = |offset: usize| Some(u16::from_be_bytes(*frame.get(offset..)?.first_chunk()?));
    match at(12)? {
        ETHERTYPE_VLAN => at(16),
        ethertype => Some(ethertype),
    }
}
