//! Frames between the bulk pipes and the network layer, one frame a transfer, and notifications.

use core::task::{Context, Poll};

use hal::network::DeviceError;
use hal::time::Clock;
use netbuf::{ChecksumStatus, NetBuf, Queue, ReceivePattern};
use usb::recovery::Fault;
use usb::transmitter::Refused;
use usb::{Pipe, Transfer, TransferError, UsbDevice};

use crate::driver::CdcEcm;
use crate::function::HEADER;
use crate::notification::Notification;

impl<D, C> CdcEcm<D, C>
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
        while appended < budget && !self.ladder.is_faulty() {
            let Some(pipes) = &mut self.pipes else { break };
            let Poll::Ready(completion) = pipes.receive.poll_completion(context) else { break };
            let Transfer::In { block, length: posted } = completion.transfer else { continue };
            match completion.result {
                // The end of a frame whose length was a multiple of the packet size.
                Ok(0) => {}
                Ok(length) => {
                    self.ladder.works(Fault::Receive);
                    let length = length.min(posted).min(block.len());
                    if !(HEADER..=self.service.function.segment).contains(&length) {
                        self.counters.rx_bad_length += 1;
                        continue;
                    }
                    let pattern = ReceivePattern {
                        head_len: self.service.config.rx_head_length,
                        copybreak: self.service.config.rx_copybreak,
                        truesize: None,
                    };
                    match NetBuf::receive(&self.memory, &block.share(), 0, length, &pattern) {
                        Ok(frame) => {
                            self.counters.received_frames += 1;
                            self.counters.received_bytes += length as u64;
                            received.push_back(frame);
                            appended += 1;
                        }
                        Err(_) => self.counters.rx_dropped_no_memory += 1,
                    }
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

    /// Keeps receive transfers in flight.
    fn post_blocks(&mut self) -> Result<(), DeviceError> {
        if self.ladder.is_faulty() {
            return Ok(());
        }
        let Some(pipes) = &mut self.pipes else { return Ok(()) };
        let replenished = self.supply.replenish(&mut pipes.receive);
        self.counters.doorbells += u64::from(replenished.started);
        self.counters.rx_blocks_missing += u64::from(replenished.block_missing);
        replenished.error.map_or(Ok(()), |error| self.ladder.transfer_failed(Fault::Receive, error))
    }

    /// Moves frames into transfers as long as there is room, and tells the pipe once.
    pub(crate) fn send(&mut self, frames: &mut Queue) -> Result<(), DeviceError> {
        let mut outcome = Ok(());
        while outcome.is_ok()
            && !frames.is_empty()
            && self.has_room()
            && let Some(frame) = frames.pop_front()
        {
            if !self.is_fit(&frame) {
                self.counters.tx_dropped_unfit += 1;
                continue;
            }
            let Some(pipes) = &mut self.pipes else { break };
            let mut gather = self.transmitter.gather();
            gather.push_frame(frame);
            gather.set_zero_packet(true);
            match self.transmitter.submit(&mut pipes.transmit, &self.service.clock, gather, 1) {
                Ok(()) => {}
                Err(Refused::Full(mut gather)) => {
                    gather.drain_frames().for_each(|frame| frames.push_front(frame));
                    self.transmitter.keep(gather);
                }
                Err(Refused::Failed(error, gather)) => {
                    self.counters.tx_dropped_lost += 1;
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

    /// Whether a frame fits and is complete: there is no offload here.
    fn is_fit(&self, frame: &NetBuf) -> bool {
        (HEADER..=self.service.function.segment).contains(&frame.len())
            && frame.vlan().is_none()
            && !matches!(frame.checksum_status(), ChecksumStatus::Partial { .. })
    }

    fn has_room(&self) -> bool {
        self.link_up
            && !self.ladder.is_faulty()
            && self.pipes.as_ref().is_some_and(|pipes| self.transmitter.has_room(&pipes.transmit))
    }

    /// Takes finished transfers in. True when room came free that the network layer waits for.
    pub(crate) fn poll_transmitted(&mut self, context: &mut Context<'_>) -> Result<bool, DeviceError> {
        let mut room = false;
        while let Some(pipes) = &mut self.pipes
            && let Poll::Ready(sent) =
                self.transmitter.poll_sent(&mut pipes.transmit, &self.service.clock, context)
        {
            match sent.result {
                Ok(length) => {
                    self.ladder.works(Fault::Transmit);
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

    /// Takes notifications in.
    pub(crate) fn poll_notifications(&mut self, context: &mut Context<'_>) -> Result<(), DeviceError> {
        while let (Some(pipes), Some(listener)) = (&mut self.pipes, &mut self.notifications)
            && let Some(pipe) = &mut pipes.interrupt
            && let Poll::Ready(message) = listener.poll_message(pipe, context)
        {
            self.take_notification(message?.bytes());
        }
        Ok(())
    }

    fn take_notification(&mut self, bytes: &[u8]) {
        self.counters.notifications += 1;
        match Notification::parse(bytes) {
            Some(Notification::Connection(up)) => self.link_up = up,
            Some(Notification::Speed { down, .. }) => self.speed = down / 1_000_000,
            Some(Notification::Other(_)) | None => {}
        }
    }
}
