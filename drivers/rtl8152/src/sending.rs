//! The transmit side of the driver: frames gathered into bulk OUT transfers. The descriptor goes into a frame's
//! headroom; payload is never copied.

use core::task::{Context, Poll};

use hal::network::DeviceError;
use hal::time::Clock;
use netbuf::{ChecksumStatus, NetBuf, Queue};
use usb::recovery::Fault;
use usb::transmitter::Refused;
use usb::{Gather, TransferError, UsbDevice};

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
        let mut outcome = Ok(());
        while outcome.is_ok() && !frames.is_empty() && self.has_room() {
            let (gather, count) = self.gather(frames);
            if count == 0 {
                self.transmitter.keep(gather);
                continue;
            }
            let Some(pipes) = &mut self.pipes else { break };
            match self.transmitter.submit(&mut pipes.transmit, &self.chip.registers.clock, gather, count) {
                Ok(()) => {}
                Err(Refused::Full(gather)) => self.take_back(gather, frames),
                // So many frames are too much for an empty ring: fewer share a transfer from now on.
                Err(Refused::Failed(TransferError::TooLarge, gather)) if count > 1 => {
                    self.frames_per_transfer = count / 2;
                    self.take_back(gather, frames);
                }
                Err(Refused::Failed(error, gather)) => {
                    self.counters.tx_dropped_lost += count;
                    self.transmitter.keep(gather);
                    outcome = self.ladder.transfer_failed(Fault::Transmit, error);
                }
            }
        }
        let pipe = self.pipes.as_mut().map(|pipes| &mut pipes.transmit);
        let announced = self.transmitter.announce(pipe, !frames.is_empty());
        self.counters.doorbells += u64::from(announced);
        outcome
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
        self.transmitter.keep(gather);
    }

    fn has_room(&self) -> bool {
        self.link.is_some()
            && !self.ladder.is_faulty()
            && self.pipes.as_ref().is_some_and(|pipes| self.transmitter.has_room(&pipes.transmit))
    }

    /// As many frames as share one transfer, and their number: 0 when none of those that were taken could be sent.
    fn gather(&mut self, frames: &mut Queue) -> (Gather, u64) {
        let mut gather = self.transmitter.gather();
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
            && let Poll::Ready(sent) =
                self.transmitter.poll_sent(&mut pipes.transmit, &self.chip.registers.clock, context)
        {
            match sent.result {
                Ok(length) => {
                    self.ladder.works(Fault::Transmit);
                    self.counters.tx_transfers += 1;
                    self.counters.sent_frames += sent.frames;
                    self.counters.sent_bytes += length as u64;
                    room = true;
                }
                Err(error) => {
                    self.counters.tx_dropped_lost += sent.frames;
                    if error != TransferError::Cancelled {
                        self.counters.tx_transfer_errors += 1;
                        self.ladder.transfer_failed(Fault::Transmit, error)?;
                    }
                }
            }
        }
        Ok(room && self.transmitter.take_wish())
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
