//! The chip behind its vendor requests: registers with their side effects, and the frames (fact sheet 3.6, 3.7).

use std::collections::VecDeque;
use std::time::Duration;

use lab_usbredir::Speed;

use crate::headers::ETHERNET;
use crate::ncm;
use crate::phy::{LinkSpeed, Phy};
use crate::receive::{Aggregation, Fifo, Filter};
use crate::register_file::{RegisterFile, Space, enabled_lanes, merge};
use crate::registers::{pla, usb};
use crate::tally::Tally;
use crate::transmit::{TransmitError, Transmitter};
use crate::version::{Generation, Version};

/// What the timers of the aggregation count.
const TICK: Duration = Duration::from_nanos(8);
/// Where an aggregate is closed as long as no size is programmed.
const DEFAULT_AGGREGATE: usize = 8 << 10;
/// Largest aggregate where the host's buffers have 16 KiB and the size cannot be programmed (RTL8152).
const FIXED_AGGREGATE: usize = (16 << 10) - 1522 - 64;

/// What the bulk pipes carry: it follows the USB configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No data pipes.
    #[default]
    None,
    /// The vendor's descriptors and aggregates.
    Vendor,
    /// CDC-ECM: one frame per transfer.
    Ecm,
    /// CDC-NCM: blocks of frames.
    Ncm,
}

/// A register that a fault holds at a value: space, dword address, mask, value.
pub type Stuck = (Space, u16, u32, u32);

/// One chip since its power-on.
#[derive(Clone, Debug)]
pub struct Chip {
    version: Version,
    registers: RegisterFile,
    phy: Phy,
    fifo: Fifo,
    transmitter: Transmitter,
    tally: Tally,
    /// Aggregation size and timers, as they were when the chip last looked.
    latched: [u16; 3],
    framing: Framing,
    /// Blocks of CDC-NCM sent to the host.
    blocks: u16,
    stuck: Vec<Stuck>,
    sent: VecDeque<Vec<u8>>,
    last_transmit_error: Option<TransmitError>,
}

/// What a chip starts with.
#[derive(Clone, Copy, Debug)]
pub struct PowerOn {
    /// Which chip.
    pub version: Version,
    /// Factory address.
    pub address: [u8; 6],
    /// Bus speed.
    pub bus: Speed,
    /// The other end of the cable, if one is plugged in.
    pub partner: Option<LinkSpeed>,
    /// How long a negotiation takes.
    pub negotiation: Duration,
}

impl Chip {
    /// A chip that has just been powered.
    pub fn new(start: &PowerOn, now: Duration) -> Self {
        let mut registers = RegisterFile::new();
        registers.set(Space::Pla, pla::IDR, &start.address);
        registers.set(Space::Pla, pla::BACKUP, &start.address);
        registers.set(Space::Pla, pla::TCR1, &start.version.code.to_le_bytes());
        registers.set(Space::Pla, pla::BOOT_CTRL, &[0x02]);
        registers.set(Space::Pla, pla::MAC_IDLE, &[0x00, 0x01]);
        registers.set(Space::Usb, usb::BMU_RESET, &[0x03]);
        if start.bus == Speed::Full {
            registers.set(Space::Usb, usb::DEV_STAT, &[0x02]);
        }
        Self {
            version: start.version,
            registers,
            phy: Phy::new(&start.version, start.partner, start.negotiation, now),
            fifo: Fifo::default(),
            transmitter: Transmitter::default(),
            tally: Tally::default(),
            latched: [0; 3],
            framing: Framing::None,
            blocks: 0,
            stuck: Vec::new(),
            sent: VecDeque::new(),
            last_transmit_error: None,
        }
    }

    /// The PHY and its link.
    pub fn phy(&mut self) -> &mut Phy {
        &mut self.phy
    }

    /// The hardware's counters.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Why the last packet that was not sent was not sent; given once.
    pub fn take_transmit_error(&mut self) -> Option<TransmitError> {
        self.last_transmit_error.take()
    }

    /// Holds bits of a register at a value from now on.
    pub fn stick(&mut self, stuck: Stuck) {
        self.stuck.push(stuck);
    }

    /// Changes what the bulk pipes carry, and empties them.
    pub fn set_framing(&mut self, framing: Framing) {
        self.framing = framing;
        self.fifo.clear();
        self.transmitter.clear();
    }

    /// When the chip will do something by itself.
    pub fn next_timer(&self) -> Option<Duration> {
        let waits = self.framing == Framing::Vendor && self.receives();
        let due = if waits { self.fifo.due(&self.aggregation()) } else { None };
        [self.phy.next_timer(), due].into_iter().flatten().min()
    }

    // Registers.

    /// Answers a vendor read.
    pub fn read(&self, space: Space, address: u16, length: usize) -> Vec<u8> {
        let first = address & !3;
        let dwords = length.div_ceil(4) + 1;
        let mut bytes = Vec::with_capacity(dwords * 4);
        for i in 0..dwords {
            bytes.extend(self.read_dword(space, first.wrapping_add(4 * i as u16)).to_le_bytes());
        }
        let start = usize::from(address & 3);
        bytes[start..start + length].to_vec()
    }

    fn read_dword(&self, space: Space, address: u16) -> u32 {
        let mut value = match (space, address) {
            (Space::Pla, _) if pla::OCP_WINDOW.contains(&address) => {
                let low = self.phy.read(self.ocp_address(address));
                let high = self.phy.read(self.ocp_address(address | 2));
                u32::from(high) << 16 | u32::from(low)
            }
            (Space::Pla, _) if (pla::TALLY..pla::TALLY + 64).contains(&address) => {
                let bytes = self.tally.to_bytes();
                let at = usize::from(address - pla::TALLY);
                u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
            }
            (Space::Pla, pla::PHYSTATUS) => {
                self.registers.dword(space, address) & 0xffff_0000 | u32::from(self.link_bits())
            }
            // The transmitter sends at once and the FIFO hands over at once: always empty.
            (Space::Pla, pla::TCR0) => self.registers.dword(space, address) | 0x0800,
            (Space::Pla, OOB_DWORD) => {
                self.registers.dword(space, address) | u32::from(pla::OOB_STATUS) << 24
            }
            _ => self.registers.dword(space, address),
        };
        for (stuck_space, stuck_address, mask, bits) in &self.stuck {
            if (*stuck_space, *stuck_address) == (space, address) {
                value = value & !mask | bits & mask;
            }
        }
        value
    }

    /// The `PHYSTATUS` word.
    fn link_bits(&self) -> u16 {
        let Some(link) = self.phy.link() else { return 0 };
        let speed = match link.speed {
            LinkSpeed::M10 => 1 << 2,
            LinkSpeed::M100 => 1 << 3,
            LinkSpeed::M1000 => 1 << 4,
            LinkSpeed::M2500 => 1 << 10,
        };
        let pause = if link.pause { 0b11 << 5 } else { 0 };
        1 << 1 | speed | pause | u16::from(link.full_duplex)
    }

    /// The PHY's address behind an address of the window.
    fn ocp_address(&self, address: u16) -> u16 {
        self.registers.word(Space::Pla, pla::OCP_BASE) & 0xf000 | address & 0x0ffe
    }

    /// Takes a vendor write; `enables` is the low byte of `wIndex`.
    pub fn write(&mut self, space: Space, address: u16, enables: u8, data: &[u8], now: Duration) {
        let (dwords, _) = data.as_chunks::<4>();
        for (i, (dword, lanes)) in dwords.iter().zip(enabled_lanes(enables, dwords.len())).enumerate() {
            let address = (address & !3).wrapping_add(4 * i as u16);
            self.write_dword(space, address, lanes, u32::from_le_bytes(*dword), now);
        }
    }

    fn write_dword(&mut self, space: Space, address: u16, lanes: u8, value: u32, now: Duration) {
        let old = self.registers.dword(space, address);
        let mut new = merge(old, value, lanes);
        let touched = |byte: u16| byte & !3 == address && lanes & 1 << (byte & 3) != 0;
        match space {
            Space::Pla if pla::OCP_WINDOW.contains(&address) => {
                for (half, lanes) in [(0u16, lanes & 3), (2, lanes >> 2)] {
                    if lanes != 0 {
                        let at = self.ocp_address(address | half);
                        let word = merge(self.phy.read(at).into(), value >> (8 * half), lanes);
                        self.phy.write(at, word as u16, now);
                    }
                }
                return;
            }
            Space::Pla => match address {
                IDR_FIRST | IDR_SECOND if self.registers.byte(space, pla::CRWECR) != pla::UNLOCKED => {
                    return;
                }
                BACKUP_FIRST | BACKUP_SECOND => return,
                TEREDO_DWORD if self.version.latches_aggregation() => {
                    // Write-1-to-clear.
                    new = merge(old, old & !value, lanes);
                }
                pla::TCR0 => {
                    let version = u32::from(pla::VERSION_MASK) << 16;
                    new = old & version | new & !version;
                }
                POL_GPIO_DWORD => new &= !(1 << (16 + 4)),
                pla::RSTTALLY if touched(pla::RSTTALLY) && new & 1 != 0 => {
                    self.tally = Tally::default();
                    new &= !1;
                }
                CR_DWORD if touched(pla::CR) => {
                    let command = (new >> 24) as u8;
                    if command & pla::CR_RST != 0 {
                        self.software_reset();
                        new &= !(u32::from(pla::CR_RST | pla::CR_RE | pla::CR_TE) << 24);
                    }
                }
                OOB_DWORD => {
                    let was_out_of_band = old >> 24 & u32::from(pla::NOW_IS_OOB) != 0;
                    if was_out_of_band && new >> 24 & u32::from(pla::NOW_IS_OOB) == 0 {
                        // Whoever opens the MAC starts to listen now. Not all generations do a software reset there.
                        self.phy.tell_again();
                    }
                }
                _ => {}
            },
            Space::Usb => match address {
                usb::BMU_RESET if new & 1 == 0 || new & 2 == 0 => {
                    self.fifo.clear();
                    self.transmitter.clear();
                }
                UPDATE_DWORD if touched(usb::UPT_RXDMA_OWN) => {
                    if new >> 24 & 3 != 0 {
                        self.latch_aggregation();
                    }
                    new &= !(3 << 24);
                }
                _ => {}
            },
        }
        self.registers.set(space, address, &new.to_le_bytes());
    }

    /// NIC reset: queues dropped, engines off. The host may not have heard of the link, so it is told again.
    fn software_reset(&mut self) {
        self.fifo.clear();
        self.transmitter.clear();
        self.phy.tell_again();
    }

    fn latch_aggregation(&mut self) {
        self.latched = [usb::RX_EARLY_SIZE, usb::RX_EARLY_TIMEOUT, usb::RX_EXTRA_AGGR_TMR]
            .map(|address| self.registers.word(Space::Usb, address));
    }

    fn aggregation(&self) -> Aggregation {
        let disabled = self.registers.byte(Space::Usb, usb::USB_CTRL) & usb::RX_AGG_DISABLE != 0;
        let word = |address| self.registers.word(Space::Usb, address);
        let (size, ticks) = match self.version.aggregation_unit() {
            None => (FIXED_AGGREGATE, word(usb::RX_BUF_TH | 2)),
            Some(unit) => {
                let [size, early, extra] = if self.version.latches_aggregation() {
                    self.latched
                } else {
                    [word(usb::RX_EARLY_SIZE), word(usb::RX_EARLY_TIMEOUT), 0]
                };
                let size = if size == 0 { DEFAULT_AGGREGATE } else { usize::from(size) * unit };
                (size, early.max(extra))
            }
        };
        Aggregation { disabled, size, timeout: TICK * ticks.into() }
    }

    // Frames.

    fn filter(&self) -> Filter {
        let rcr = self.registers.dword(Space::Pla, pla::RCR);
        let mut filter = Filter {
            promiscuous: rcr & pla::RCR_AAP != 0,
            unicast: rcr & pla::RCR_APM != 0,
            multicast: rcr & pla::RCR_AM != 0,
            broadcast: rcr & pla::RCR_AB != 0,
            ..Filter::default()
        };
        for (i, byte) in filter.station.iter_mut().enumerate() {
            *byte = self.registers.byte(Space::Pla, pla::IDR + i as u16);
        }
        for (i, byte) in filter.hash.iter_mut().enumerate() {
            *byte = self.registers.byte(Space::Pla, pla::MAR + i as u16);
        }
        filter
    }

    fn strips_tags(&self) -> bool {
        match self.version.generation {
            Generation::R8156 | Generation::R8156B => {
                self.registers.dword(Space::Pla, pla::RCR) & pla::RCR_INNER_VLAN != 0
            }
            _ => self.registers.byte(Space::Pla, pla::CPCR) & pla::CPCR_RX_VLAN != 0,
        }
    }

    fn command(&self) -> u8 {
        self.registers.byte(Space::Pla, pla::CR)
    }

    /// Whether received frames are handed to the host.
    fn receives(&self) -> bool {
        let gated = self.registers.byte(Space::Pla, pla::MISC_1) & pla::RXDY_GATED != 0;
        let out_of_band = self.registers.byte(Space::Pla, pla::OOB_CTRL) & pla::NOW_IS_OOB != 0;
        let engine = self.registers.byte(Space::Usb, usb::BMU_RESET) & 1 != 0;
        match self.framing {
            Framing::None => false,
            Framing::Vendor => self.command() & pla::CR_RE != 0 && !gated && !out_of_band && engine,
            Framing::Ecm | Framing::Ncm => true,
        }
    }

    /// A frame arrives from the wire, without frame check sequence.
    pub fn receive_frame(&mut self, frame: &[u8], now: Duration) {
        if self.phy.link().is_none() || frame.len() < ETHERNET {
            return;
        }
        let vendor = self.framing == Framing::Vendor;
        if self.framing == Framing::None || vendor && self.command() & pla::CR_RE == 0 {
            return;
        }
        let mut destination = [0; 6];
        destination.copy_from_slice(&frame[..6]);
        if vendor && !self.filter().passes(destination) {
            return;
        }
        let limit = match self.registers.word(Space::Pla, pla::RMS) {
            programmed if vendor => self.version.largest_frame().min(programmed.into()),
            _ => 1522,
        };
        if frame.len() + 4 > limit {
            self.tally.rx_errors = self.tally.rx_errors.saturating_add(1);
            return;
        }
        if !self.fifo.push(frame.to_vec(), vendor && self.strips_tags(), now) {
            self.tally.rx_missed = self.tally.rx_missed.saturating_add(1);
            return;
        }
        self.tally.rx_packets += 1;
        match destination {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => self.tally.rx_broadcast += 1,
            [first, ..] if first & 1 != 0 => {
                self.tally.rx_multicast = self.tally.rx_multicast.saturating_add(1);
            }
            _ => self.tally.rx_unicast += 1,
        }
    }

    /// The next bulk IN transfer of at most `limit` bytes; `None`: NAK. Blocks of CDC-NCM have at most `block_limit`.
    pub fn take_transfer(&mut self, limit: usize, block_limit: usize, now: Duration) -> Option<Vec<u8>> {
        if !self.receives() {
            return None;
        }
        match self.framing {
            Framing::None => None,
            Framing::Vendor => {
                let aggregation = self.aggregation();
                self.fifo.take_transfer(limit, &aggregation, now)
            }
            Framing::Ecm => self.fifo.take_frame(),
            Framing::Ncm => {
                let mut block = ncm::Builder::default();
                while self
                    .fifo
                    .next_frame_length()
                    .is_some_and(|n| block.length_with(n) <= block_limit.min(limit))
                {
                    self.fifo.take_frame().into_iter().for_each(|frame| block.add(frame));
                }
                self.blocks = self.blocks.wrapping_add(1);
                block.finish(self.blocks)
            }
        }
    }

    /// Whether a transfer of `limit` bytes would be answered with more.
    pub fn would_overrun(&self, limit: usize, now: Duration) -> bool {
        self.framing == Framing::Vendor
            && self.receives()
            && self.fifo.would_overrun(limit, &self.aggregation(), now)
    }

    /// Takes a bulk OUT transfer.
    pub fn transmit(&mut self, data: &[u8], max_packet: usize) {
        let frames = match self.framing {
            Framing::None => return,
            Framing::Ecm if data.len() >= ETHERNET => vec![data.to_vec()],
            Framing::Ecm => return,
            Framing::Ncm if data.is_empty() => return,
            Framing::Ncm => match ncm::parse(data) {
                Ok(frames) => {
                    frames.into_iter().filter(|frame| frame.len() >= ETHERNET).map(<[u8]>::to_vec).collect()
                }
                Err(_) => {
                    self.tally.tx_errors += 1;
                    return;
                }
            },
            Framing::Vendor => {
                let (frames, errors) = self.transmitter.transfer(data, max_packet);
                self.tally.tx_errors += errors.len() as u64;
                self.last_transmit_error = errors.last().copied().or(self.last_transmit_error);
                if self.command() & pla::CR_TE == 0 {
                    return;
                }
                frames
            }
        };
        for frame in frames {
            if self.phy.link().is_none() {
                self.tally.tx_aborted = self.tally.tx_aborted.saturating_add(1);
                continue;
            }
            self.tally.tx_packets += 1;
            self.sent.push_back(frame);
        }
    }

    /// The next frame that goes out on the wire.
    pub fn take_sent(&mut self) -> Option<Vec<u8>> {
        self.sent.pop_front()
    }
}

// Dwords that contain registers with side effects.
const IDR_FIRST: u16 = pla::IDR;
const IDR_SECOND: u16 = pla::IDR + 4;
const BACKUP_FIRST: u16 = pla::BACKUP;
const BACKUP_SECOND: u16 = pla::BACKUP + 4;
const TEREDO_DWORD: u16 = pla::TEREDO_CFG;
const POL_GPIO_DWORD: u16 = pla::POL_GPIO & !3;
const CR_DWORD: u16 = pla::CR & !3;
const OOB_DWORD: u16 = pla::OOB_CTRL & !3;
const UPDATE_DWORD: u16 = usb::UPT_RXDMA_OWN & !3;
