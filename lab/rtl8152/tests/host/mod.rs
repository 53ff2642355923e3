//! A driver's bare minimum on the model, for tests: configured, engines on, everything let through.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use lab_rtl8152::{Adapter, Config, Version};
use lab_usbredir::{Answer, Device, Setup};

/// The adapter's address.
pub const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x53];
/// Somebody else's.
pub const PEER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x99];

/// A received packet with its descriptor.
pub struct Packet {
    pub options: [u32; 3],
    pub frame: Vec<u8>,
}

/// The host.
pub struct Host {
    pub adapter: Adapter,
    pub now: Duration,
}

impl Host {
    /// Configured, with the link up and frames flowing at once.
    pub fn up(version: Version) -> Self {
        let config = Config { address: MAC, ..Config::new(version) };
        let mut host = Self { adapter: Adapter::new(config).unwrap(), now: Duration::from_secs(1) };
        assert_eq!(host.control(0x00, 9, 1, 0, &[], 0), Answer::Accepted(0));
        // Advertise all there is: 1G, 2.5G. The PHY's page is a000.
        host.write(0x0100, 0xe86c, 0xa000);
        host.write_lanes(0x01cc, 0xb410, 0x0200_0000);
        host.write_lanes(0x0133, 0xb5d4, 0x0080);
        host.write_lanes(0x0133, 0xb400, 0x1200);
        host.wait(Duration::from_secs(1));
        host.write(0x0100, 0xc014, 1522 << 16);
        host.write(0x0100, 0xc010, 0x0000_000f);
        host.write_lanes(0x0188, 0xe810, 0x0c00_0000);
        host
    }

    pub fn control(
        &mut self,
        kind: u8,
        request: u8,
        value: u16,
        index: u16,
        data: &[u8],
        length: u16,
    ) -> Answer {
        let length = if data.is_empty() { length } else { data.len() as u16 };
        let setup = Setup { request_type: kind, request, value, index, length };
        self.adapter.control(setup, data, self.now)
    }

    pub fn read(&mut self, space: u16, address: u16) -> u32 {
        match self.control(0xc0, 5, address, space, &[], 4) {
            Answer::Data(data) => u32::from_le_bytes(data.try_into().unwrap()),
            other => panic!("{other:?}"),
        }
    }

    pub fn write(&mut self, space: u16, address: u16, value: u32) {
        self.write_lanes(space | 0xff, address, value);
    }

    pub fn write_lanes(&mut self, index: u16, address: u16, value: u32) {
        assert_eq!(self.control(0x40, 5, address, index, &value.to_le_bytes(), 4), Answer::Accepted(4));
    }

    pub fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    pub fn bulk_in(&mut self, limit: usize) -> Answer {
        self.adapter.bulk_in(0x81, limit, self.now)
    }

    pub fn bulk_out(&mut self, data: &[u8]) {
        assert_eq!(self.adapter.bulk_out(0x02, data, self.now), Answer::Accepted(data.len()));
    }

    pub fn interrupt(&mut self) -> Option<Vec<u8>> {
        match self.adapter.interrupt_in(0x83, 2, self.now) {
            Answer::Data(data) => Some(data),
            Answer::NotYet => None,
            other => panic!("{other:?}"),
        }
    }

    pub fn sent(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.adapter.take_sent_frame()).collect()
    }

    /// All transfers that are due within a second, joined.
    pub fn receive_stream(&mut self, limit: usize) -> Vec<u8> {
        self.transfers(limit).concat()
    }

    fn transfers(&mut self, limit: usize) -> Vec<Vec<u8>> {
        self.wait(Duration::from_secs(1));
        let mut transfers = Vec::new();
        while let Answer::Data(data) = self.bulk_in(limit) {
            transfers.push(data);
        }
        transfers
    }

    /// All packets that are due within a second; each transfer must hold whole packets.
    pub fn receive_all(&mut self, limit: usize) -> Vec<Packet> {
        let mut packets = Vec::new();
        for transfer in self.transfers(limit) {
            let mut at = 0;
            while at < transfer.len() {
                let word =
                    |i: usize| u32::from_le_bytes(transfer[at + 4 * i..at + 4 * i + 4].try_into().unwrap());
                let length = word(0) as usize & 0x7fff;
                let frame = transfer[at + 24..at + 24 + length - 4].to_vec();
                packets.push(Packet { options: [word(0), word(1), word(2)], frame });
                at = (at + 24 + length).next_multiple_of(8);
            }
        }
        packets
    }
}
