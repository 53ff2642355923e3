//! The receive side of the driver: frames out of the aggregates that come back from the bulk IN pipe, and link events from
//! the interrupt pipe.

use core::task::{Context, Poll};

use hal::network::DeviceError;
use hal::time::Clock;
use netbuf::{ChecksumStatus, NetBuf, Queue, ReceivePattern};
use usb::recovery::Fault;
use usb::{Pipe, Transfer, TransferError, UsbDevice};

use crate::aggregate::{Cursor, Packet};
use crate::driver::{Aggregate, Rtl8152};

/// Link up, in a link event (fact sheet rtl8152.md, section 4.9).
const EVENT_LINK_UP: u16 = 1 << 2;

/// So many unusable aggregates in a row are a fault: the device lost the frame boundaries for good.
const BAD_AGGREGATES_LIMIT: u32 = 8;

impl<D, C> Rtl8152<D, C>
where
    D: UsbDevice + 'static,
    C: Clock + 'static,
{
    /// Appends at most `budget` frames to `received`, and keeps the pipe supplied with blocks. Gives the number of
    /// frames appended.
    pub(crate) fn poll_received(
        &mut self,
        context: &mut Context<'_>,
        received: &mut Queue,
        budget: usize,
    ) -> Result<usize, DeviceError> {
        let mut appended = 0;
        while !self.ladder.is_faulty() {
            self.take_apart(received, budget, &mut appended);
            if self.aggregate.is_some() {
                break;
            }
            let Some(pipes) = &mut self.pipes else { break };
            let Poll::Ready(completion) = pipes.receive.poll_completion(context) else { break };
            let Transfer::In { block, length: posted } = completion.transfer else { continue };
            match completion.result {
                Ok(0) => {}
                Ok(length) => {
                    self.counters.rx_transfers += 1;
                    let cursor = Cursor::new(self.chip.maximum_frame());
                    // What the pipe says is not believed beyond what was posted.
                    let length = length.min(posted).min(block.len());
                    self.aggregate = Some(Aggregate { block: block.share(), length, cursor });
                }
                Err(TransferError::Cancelled) => {}
                Err(error) => {
                    self.counters.rx_transfer_errors += 1;
                    self.ladder.transfer_failed(Fault::Receive, error)?;
                }
            }
        }
        self.post_blocks()?;
        Ok(appended)
    }

    /// Makes buffers of the frames of the current aggregate, as far as the budget goes.
    fn take_apart(&mut self, received: &mut Queue, budget: usize, appended: &mut usize) {
        let Some(mut aggregate) = self.aggregate.take() else { return };
        while *appended < budget {
            let bytes = aggregate.block.bytes().get(..aggregate.length).unwrap_or_default();
            match aggregate.cursor.next(bytes) {
                None => return,
                Some(Err(error)) => {
                    self.counters.rx_bad_aggregates += 1;
                    if self.counters.rx_bad_aggregates.is_power_of_two() {
                        log::warn!(
                            "{}: dropped the rest of a receive transfer: {error} ({} so far)",
                            self.chip.version.name(),
                            self.counters.rx_bad_aggregates
                        );
                    }
                    self.bad_aggregates += 1;
                    if self.bad_aggregates >= BAD_AGGREGATES_LIMIT {
                        self.bad_aggregates = 0;
                        self.ladder.fail(Fault::Receive);
                    }
                    return;
                }
                Some(Ok(packet)) => {
                    self.bad_aggregates = 0;
                    self.ladder.works(Fault::Receive);
                    if let Some(frame) = self.make_buffer(&aggregate, &packet) {
                        received.push_back(frame);
                        *appended += 1;
                    }
                }
            }
        }
        self.aggregate = Some(aggregate);
    }

    /// One frame of an aggregate as a buffer: headers copied, payload referenced.
    fn make_buffer(&mut self, aggregate: &Aggregate, packet: &Packet) -> Option<NetBuf> {
        if packet.descriptor.has_crc_error() {
            self.counters.rx_crc_errors += 1;
            return None;
        }
        let pattern = ReceivePattern {
            head_len: self.chip.config.rx_head_length,
            copybreak: self.chip.config.rx_copybreak,
            truesize: None,
        };
        let frame = &packet.frame;
        let buffer = NetBuf::receive(&self.memory, &aggregate.block, frame.start, frame.len(), &pattern);
        let Ok(mut buffer) = buffer else {
            self.counters.rx_dropped_no_memory += 1;
            return None;
        };
        if self.chip.version.receive_checksum()
            && packet.descriptor.checksum_verified()
            && !is_ipv4_fragment(buffer.data())
        {
            buffer.set_checksum_status(ChecksumStatus::Unnecessary);
        }
        buffer.set_vlan(packet.descriptor.vlan_tag());
        self.counters.received_frames += 1;
        self.counters.received_bytes += frame.len() as u64;
        Some(buffer)
    }

    /// Keeps receive transfers in flight while there is a link.
    fn post_blocks(&mut self) -> Result<(), DeviceError> {
        if self.link.is_none() || self.ladder.is_faulty() {
            return Ok(());
        }
        let Some(pipes) = &mut self.pipes else { return Ok(()) };
        let replenished = self.supply.replenish(&mut pipes.receive);
        self.counters.doorbells += u64::from(replenished.started);
        self.counters.rx_blocks_missing += u64::from(replenished.block_missing);
        replenished.error.map_or(Ok(()), |error| self.ladder.transfer_failed(Fault::Receive, error))
    }

    /// Takes link events in.
    pub(crate) fn poll_events(&mut self, context: &mut Context<'_>) -> Result<(), DeviceError> {
        while let Some(pipes) = &mut self.pipes
            && let Some(pipe) = &mut pipes.interrupt
            && let Poll::Ready(event) = self.events.poll_message(pipe, context)
        {
            if let Some(event) = event?.bytes().first_chunk() {
                self.counters.link_events += 1;
                let up = u16::from_le_bytes(*event) & EVENT_LINK_UP != 0;
                self.link_changed |= up != self.link.is_some();
            }
        }
        Ok(())
    }
}

/// Whether the frame is a fragment of an IPv4 packet: the hardware cannot have checked a whole transport checksum.
fn is_ipv4_fragment(frame: &[u8]) -> bool {
    const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
    const FRAGMENT: u16 = 0x3fff;
    frame.get(12..14) == Some(&ETHERTYPE_IPV4)
        && frame
            .get(20..)
            .and_then(|rest| rest.first_chunk())
            .is_some_and(|field| u16::from_be_bytes(*field) & FRAGMENT != 0)
}
