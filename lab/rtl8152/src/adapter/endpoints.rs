//! The adapter's endpoints as the USB host uses them.

use std::time::Duration;

use lab_usbredir::{Answer, Attachment, Device, Endpoint, Interface, Setup};

use crate::adapter::{Adapter, Presence};
use crate::chip::Framing;
use crate::descriptors::bulk_size;
use crate::faults::{Action, Counted, corrupt_received};
use crate::phy::LinkSpeed;

const BULK_IN: u8 = 0x81;
const BULK_OUT: u8 = 0x02;
const INTERRUPT_IN: u8 = 0x83;
/// How long the virtual drive stays after it was ejected, so that the host gets its answer.
const EJECT_DELAY: Duration = Duration::from_millis(50);

impl Adapter {
    /// What the interrupt endpoint has to say, in the form of the current configuration.
    fn next_notification(&mut self) -> Option<Vec<u8>> {
        if self.notifications.is_empty()
            && let Some(up) = self.chip.phy().take_change()
        {
            match self.framing_of(self.configuration) {
                Framing::Vendor => self.notifications.push_back(vec![if up { 4 } else { 0 }, 0]),
                Framing::Ecm | Framing::Ncm => {
                    self.notifications.push_back(vec![0xa1, 0x00, u8::from(up), 0, 0, 0, 0, 0]);
                    if let Some(link) = self.chip.phy().link() {
                        let rate: u32 = match link.speed {
                            LinkSpeed::M10 => 10_000_000,
                            LinkSpeed::M100 => 100_000_000,
                            LinkSpeed::M1000 => 1_000_000_000,
                            LinkSpeed::M2500 => 2_500_000_000,
                        };
                        let mut speed = vec![0xa1, 0x2a, 0, 0, 0, 0, 8, 0];
                        speed.extend([rate.to_le_bytes(), rate.to_le_bytes()].concat());
                        self.notifications.push_back(speed);
                    }
                }
                Framing::None => {}
            }
        }
        self.notifications.pop_front()
    }

    /// Whether a data transfer can take place at all; else its answer.
    fn endpoint_ready(&self, endpoint: u8, expected: u8) -> Result<(), Answer> {
        if !matches!(self.presence, Presence::Plugged { .. }) {
            Err(Answer::Error)
        } else if endpoint != expected || self.configuration == 0 || self.halted.contains(&endpoint) {
            Err(Answer::Stall)
        } else {
            Ok(())
        }
    }
}

impl Device for Adapter {
    fn attachment(&mut self, now: Duration) -> Option<Attachment> {
        self.advance(now);
        if !matches!(self.presence, Presence::Plugged { .. }) {
            return None;
        }
        let word =
            |at: usize| u16::from_le_bytes([self.descriptors.device[at], self.descriptors.device[at + 1]]);
        Some(Attachment {
            plugged: self.plugged,
            speed: self.config.speed,
            vendor: word(8),
            product: word(10),
            version: word(12),
        })
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        self.descriptors.tables(self.configuration, &self.alternates).1
    }

    fn interfaces(&self) -> Vec<Interface> {
        self.descriptors.tables(self.configuration, &self.alternates).0
    }

    fn reset(&mut self, now: Duration) {
        self.advance(now);
        self.transfers.reset += 1;
        self.configuration = 0;
        self.alternates = [0; 2];
        self.storage.clear();
        // The registers survive: a host that was up before may go on with its link-up sequence alone.
        self.apply_settings();
    }

    fn control(&mut self, setup: Setup, data: &[u8], now: Duration) -> Answer {
        self.advance(now);
        if !matches!(self.presence, Presence::Plugged { .. }) {
            return Answer::Error;
        }
        let fault = self.count(Counted::Control, now);
        if let Some(answer) = self.faulty_answer(fault.as_ref(), 0) {
            return answer;
        }
        let mut answer = self.request(setup, data, now);
        if let Answer::Data(data) = &mut answer {
            data.truncate(setup.length.into());
            if let Some(Action::Short(to)) = fault {
                data.truncate(to.unwrap_or(data.len() / 2));
            }
        }
        answer
    }

    fn bulk_out(&mut self, endpoint: u8, data: &[u8], now: Duration) -> Answer {
        self.advance(now);
        if let Err(answer) = self.endpoint_ready(endpoint, BULK_OUT) {
            return answer;
        }
        let fault = self.count(Counted::BulkOut, now);
        if let Some(answer) = self.faulty_answer(fault.as_ref(), endpoint) {
            return answer;
        }
        let taken = match fault {
            Some(Action::Short(to)) => to.unwrap_or(data.len() / 2).min(data.len()),
            _ => data.len(),
        };
        let data = &data[..taken];
        if self.as_storage() {
            if self.storage.bulk_out(data) {
                self.eject_at = Some(now + EJECT_DELAY);
            }
        } else {
            self.chip.transmit(data, bulk_size(self.config.speed).into());
        }
        Answer::Accepted(taken)
    }

    fn bulk_in(&mut self, endpoint: u8, limit: usize, now: Duration) -> Answer {
        self.advance(now);
        if let Err(answer) = self.endpoint_ready(endpoint, BULK_IN) {
            return answer;
        }
        let packet = usize::from(bulk_size(self.config.speed));
        let overrun =
            !self.as_storage() && !limit.is_multiple_of(packet) && self.chip.would_overrun(limit, now);
        let data = if self.as_storage() {
            self.storage.bulk_in()
        } else {
            self.chip.take_transfer(limit, self.block_limit, now)
        };
        let Some(mut data) = data else { return Answer::NotYet };
        let fault = self.count(Counted::BulkIn, now);
        if let Some(answer) = self.faulty_answer(fault.as_ref(), endpoint) {
            return answer;
        }
        if overrun || data.len() > limit {
            return Answer::Babble;
        }
        match fault {
            Some(Action::Short(to)) => data.truncate(to.unwrap_or(data.len() / 2)),
            Some(Action::Corrupt { field, value }) => corrupt_received(&mut data, &field, value),
            _ => {}
        }
        Answer::Data(data)
    }

    fn interrupt_in(&mut self, endpoint: u8, limit: usize, now: Duration) -> Answer {
        self.advance(now);
        if let Err(answer) = self.endpoint_ready(endpoint, INTERRUPT_IN) {
            return answer;
        }
        let Some(mut data) = self.next_notification() else { return Answer::NotYet };
        let fault = self.count(Counted::Interrupt, now);
        if let Some(answer) = self.faulty_answer(fault.as_ref(), endpoint) {
            return answer;
        }
        if data.len() > limit {
            return Answer::Babble;
        }
        if let Some(Action::Short(to)) = fault {
            data.truncate(to.unwrap_or(data.len() / 2));
        }
        Answer::Data(data)
    }

    fn next_timer(&self) -> Option<Duration> {
        let (back, chip) = match self.presence {
            Presence::Away { back_at, .. } => (back_at, None),
            Presence::Plugged { .. } => (None, self.chip.next_timer()),
        };
        let fault = self.by_time.front().map(|(at, _)| *at);
        // What is due already waits for the host, not for the clock.
        let times = [back, fault, self.link_back_at, self.eject_at, chip];
        times.into_iter().flatten().filter(|at| *at > self.now).min()
    }
}
