//! Control requests: the standard ones (USB 2.0, 9.4), the vendor's one, those of the classes.

use std::time::Duration;

use lab_usbredir::{Answer, Setup};

use crate::adapter::Adapter;
use crate::chip::Framing;
use crate::ncm;
use crate::register_file::Space;
use crate::trace::Access;

/// Reads and writes registers (fact sheet 2.1).
const VENDOR_REQUEST: u8 = 0x05;

impl Adapter {
    /// What the bulk pipes carry in this configuration.
    pub(super) fn framing_of(&self, configuration: u8) -> Framing {
        let (interfaces, _) = self.descriptors.tables(configuration, &self.alternates);
        match interfaces.first().map(|interface| interface.class) {
            Some([0xff, ..]) => Framing::Vendor,
            Some([0x02, 0x06, _]) if self.alternates[1] == 1 => Framing::Ecm,
            Some([0x02, 0x0d, _]) if self.alternates[1] == 1 => Framing::Ncm,
            _ => Framing::None,
        }
    }

    /// A configuration or alternate setting was chosen, or the bus was reset.
    pub(super) fn apply_settings(&mut self) {
        let framing = if self.as_storage() { Framing::None } else { self.framing_of(self.configuration) };
        self.halted.clear();
        self.notifications.clear();
        self.chip.set_framing(framing);
        if framing != Framing::None {
            self.chip.phy().tell_again();
        }
    }

    fn standard_request(&mut self, setup: Setup) -> Answer {
        let Setup { request_type, request, value, index, .. } = setup;
        let configured = self.configuration != 0;
        match (request_type, request) {
            (0x80..=0x82, 0x00) => {
                let halted = request_type == 0x82 && self.halted.contains(&(index as u8));
                Answer::Data(vec![u8::from(halted), 0])
            }
            (0x00..=0x02, 0x01 | 0x03) => {
                if (request_type, request, value) == (0x02, 0x01, 0) {
                    self.halted.retain(|endpoint| u16::from(*endpoint) != index);
                }
                Answer::Accepted(0)
            }
            // The address, exit latencies and isochronous delay are the bus's business.
            (0x00, 0x05 | 0x30 | 0x31) => Answer::Accepted(setup.length.into()),
            (0x80, 0x06) => {
                let [kind, at] = value.to_be_bytes();
                self.descriptors.get(kind, at, self.config.speed).map_or(Answer::Stall, Answer::Data)
            }
            (0x80, 0x08) => Answer::Data(vec![self.configuration]),
            (0x00, 0x09) => {
                let value = value as u8;
                if value != 0 && self.descriptors.configuration(value).is_none() {
                    return Answer::Stall;
                }
                self.configuration = value;
                self.alternates = [0; 2];
                self.apply_settings();
                Answer::Accepted(0)
            }
            (0x81, 0x0a) if configured => match self.alternates.get(usize::from(index)) {
                Some(alternate) => Answer::Data(vec![*alternate]),
                None => Answer::Stall,
            },
            (0x01, 0x0b) if configured => {
                let (number, alternate) = (index as u8, value as u8);
                let mut wanted = self.alternates;
                let Some(slot) = wanted.get_mut(usize::from(number)) else { return Answer::Stall };
                *slot = alternate;
                let (interfaces, _) = self.descriptors.tables(self.configuration, &wanted);
                if interfaces.iter().all(|interface| interface.number != number) {
                    return Answer::Stall;
                }
                self.alternates = wanted;
                self.apply_settings();
                Answer::Accepted(0)
            }
            _ => Answer::Stall,
        }
    }

    /// The vendor's one request: registers. Answered in the address state too.
    fn register_request(&mut self, setup: Setup, data: &[u8], now: Duration) -> Answer {
        let Setup { request_type, value: address, index, length, .. } = setup;
        let write = request_type & 0x80 == 0;
        let longest = if write { 512 } else { 64 };
        let Some(space) = Space::of_index(index) else { return Answer::Stall };
        if address & 3 != 0 || length == 0 || length & 3 != 0 || length > longest {
            return Answer::Stall;
        }
        let enables = index as u8;
        let (data, answer) = if write {
            self.chip.write(space, address, enables, data, now);
            (data.to_vec(), Answer::Accepted(data.len()))
        } else {
            let data = self.chip.read(space, address, length.into());
            (data.clone(), Answer::Data(data))
        };
        if let Some(log) = &mut self.log {
            log.push(Access { write, space, address, enables, data });
        }
        answer
    }

    /// A request on endpoint zero.
    pub(super) fn request(&mut self, setup: Setup, data: &[u8], now: Duration) -> Answer {
        let to_host = setup.request_type & 0x80 != 0;
        if !to_host && data.len() != usize::from(setup.length) {
            return Answer::Stall;
        }
        match (setup.request_type, setup.request) {
            (0x40 | 0xc0, VENDOR_REQUEST) if !self.as_storage() => self.register_request(setup, data, now),
            // Mass storage: reset, number of the last unit.
            (0x21, 0xff) if self.as_storage() => {
                self.storage.clear();
                Answer::Accepted(0)
            }
            (0xa1, 0xfe) if self.as_storage() => Answer::Data(vec![0]),
            // CDC: SET_ETHERNET_MULTICAST_FILTERS, SET_ETHERNET_PACKET_FILTER. The CDC modes let everything through.
            (0x21, 0x40 | 0x43) if self.configuration > 1 => Answer::Accepted(data.len()),
            (0x21 | 0xa1, 0x80..=0x8a) if self.configuration > 1 => self.block_request(setup, data),
            (kind, _) if kind & 0x60 == 0 => self.standard_request(setup),
            _ => Answer::Stall,
        }
    }

    /// CDC-NCM's requests about its transfer blocks (NCM 1.0, 6.2).
    fn block_request(&mut self, setup: Setup, data: &[u8]) -> Answer {
        match setup.request {
            0x80 => Answer::Data(ncm::parameters().to_vec()),
            // The format is the 16-bit one, without checksums.
            0x83 | 0x89 => Answer::Data(vec![0; 2]),
            0x84 | 0x8a if setup.value == 0 => Answer::Accepted(0),
            0x85 => Answer::Data((self.block_limit as u32).to_le_bytes().to_vec()),
            0x86 => match data.first_chunk::<4>().map(|size| u32::from_le_bytes(*size) as usize) {
                Some(size) if (ncm::SMALLEST_BLOCK..=ncm::LARGEST_BLOCK).contains(&size) => {
                    self.block_limit = size;
                    Answer::Accepted(data.len())
                }
                _ => Answer::Stall,
            },
            0x87 => Answer::Data(ncm::LARGEST_FRAME.to_le_bytes().to_vec()),
            0x88 => Answer::Accepted(data.len()),
            _ => Answer::Stall,
        }
    }
}
