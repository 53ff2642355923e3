//! The PHY: its registers behind the OCP window, its SRAM, negotiation and the link (fact sheet 2.6, 2.7, 3.3, 3.4).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::registers::phy::*;
use crate::version::{Generation, Version};

/// Ethernet speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkSpeed {
    /// 10 Mbit/s.
    M10,
    /// 100 Mbit/s.
    M100,
    /// 1 Gbit/s.
    M1000,
    /// 2.5 Gbit/s.
    M2500,
}

/// A link that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its speed.
    pub speed: LinkSpeed,
    /// Not half duplex.
    pub full_duplex: bool,
    /// Both ends advertise pause frames.
    pub pause: bool,
}

const BMCR_RESET: u16 = 1 << 15;
const BMCR_AUTONEGOTIATION: u16 = 1 << 12;
const BMCR_POWER_DOWN: u16 = 1 << 11;
const BMCR_RESTART: u16 = 1 << 9;

/// The PHY of one chip.
#[derive(Clone, Debug)]
pub struct Phy {
    generation: Generation,
    fastest: LinkSpeed,
    words: Vec<u16>,
    sram: BTreeMap<u16, u16>,
    parameters: BTreeMap<u16, u16>,
    mmd: BTreeMap<(u16, u16), u16>,
    mmd_register: u16,
    /// What the other end of the cable can do at most; none while no cable is plugged in.
    partner: Option<LinkSpeed>,
    /// How long a negotiation takes.
    negotiation: Duration,
    /// When the negotiation under way is over.
    ready_at: Option<Duration>,
    link: Option<Link>,
    /// Changes of the link not yet told to the host, oldest first.
    changes: VecDeque<bool>,
}

impl Phy {
    /// A PHY after power-on, with a cable to a partner of at most `partner` (or none), negotiating since `now`.
    pub fn new(version: &Version, partner: Option<LinkSpeed>, negotiation: Duration, now: Duration) -> Self {
        let mut phy = Self {
            generation: version.generation,
            fastest: version.fastest,
            words: vec![0; 1 << 15],
            sram: BTreeMap::new(),
            parameters: BTreeMap::new(),
            mmd: BTreeMap::new(),
            mmd_register: 0,
            partner,
            negotiation,
            ready_at: None,
            link: None,
            changes: VecDeque::new(),
        };
        phy.set(BMCR, phy.reset_bmcr());
        phy.set(PHYSID1, 0x001c);
        phy.set(PHYSID2, 0xc800);
        phy.set(ADVERTISE, 0x01e1);
        phy.set(EXPANSION, 0x000f);
        if version.fastest >= LinkSpeed::M1000 {
            phy.set(ESTATUS, 0x2000);
        }
        phy.set(EEE_ABILITY, 0x0006);
        phy.set(PHY_STATE, 1);
        // The firmware of the PHY counts as newer than any that a driver brings.
        phy.sram.insert(SRAM_FIRMWARE_VERSION, 0xffff);
        phy.restart(now);
        phy
    }

    fn reset_bmcr(&self) -> u16 {
        if self.fastest >= LinkSpeed::M1000 { 0x1140 } else { 0x1000 }
    }

    fn get(&self, address: u16) -> u16 {
        self.words[usize::from(address >> 1)]
    }

    fn set(&mut self, address: u16, value: u16) {
        self.words[usize::from(address >> 1)] = value;
    }

    /// The link, if it is up.
    pub fn link(&self) -> Option<Link> {
        self.link
    }

    /// The oldest change of the link that has not been told: true for up.
    pub fn take_change(&mut self) -> Option<bool> {
        self.changes.pop_front()
    }

    /// Whether there is one.
    pub fn has_change(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Makes the present state news again: the host has reset the MAC and may have missed it.
    pub fn tell_again(&mut self) {
        self.changes.clear();
        self.changes.push_back(self.link.is_some());
    }

    /// When the negotiation under way will be over.
    pub fn next_timer(&self) -> Option<Duration> {
        self.ready_at
    }

    /// Plugs the cable in or out.
    pub fn set_partner(&mut self, partner: Option<LinkSpeed>, now: Duration) {
        if self.partner != partner {
            self.partner = partner;
            self.restart(now);
        }
    }

    /// Lets the negotiation finish.
    pub fn advance(&mut self, now: Duration) {
        if self.ready_at.is_some_and(|at| at <= now) {
            self.ready_at = None;
            self.finish_negotiation();
        }
    }

    /// Drops the link and negotiates anew.
    fn restart(&mut self, now: Duration) {
        if self.link.take().is_some() {
            self.changes.push_back(false);
        }
        self.set(LPA, 0);
        self.set(STAT1000, 0);
        self.set(STAT2500, 0);
        let can = self.partner.is_some() && self.get(BMCR) & BMCR_POWER_DOWN == 0;
        self.ready_at = can.then_some(now + self.negotiation);
        self.advance(now);
    }

    fn finish_negotiation(&mut self) {
        let Some(partner) = self.partner else { return };
        self.link = self.resolve(partner);
        if self.get(BMCR) & BMCR_AUTONEGOTIATION != 0 {
            self.set(LPA, 0xcde1);
            if self.fastest >= LinkSpeed::M1000 && partner >= LinkSpeed::M1000 {
                self.set(STAT1000, 0x3800);
            }
            if self.fastest >= LinkSpeed::M2500 && partner >= LinkSpeed::M2500 {
                self.set(STAT2500, 0x0020);
            }
        }
        if self.link.is_some() {
            self.changes.push_back(true);
        }
    }

    /// The best that both ends offer, or what is forced if the partner can do it.
    fn resolve(&self, partner: LinkSpeed) -> Option<Link> {
        let control = self.get(BMCR);
        if control & BMCR_AUTONEGOTIATION == 0 {
            let speed = match (control & 1 << 6 != 0, control & 1 << 13 != 0) {
                (true, false) => LinkSpeed::M1000,
                (false, true) => LinkSpeed::M100,
                (false, false) => LinkSpeed::M10,
                (true, true) => return None,
            };
            let link = Link { speed, full_duplex: control & 1 << 8 != 0, pause: false };
            return (speed <= partner && speed <= self.fastest).then_some(link);
        }
        let (basic, gigabit, multi) = (self.get(ADVERTISE), self.get(CTRL1000), self.get(CTRL2500));
        let pause = basic & 0x0400 != 0;
        [
            (multi & 1 << 7 != 0, LinkSpeed::M2500, true),
            (gigabit & 1 << 9 != 0, LinkSpeed::M1000, true),
            (basic & 1 << 8 != 0, LinkSpeed::M100, true),
            (basic & 1 << 7 != 0, LinkSpeed::M100, false),
            (basic & 1 << 6 != 0, LinkSpeed::M10, true),
            (basic & 1 << 5 != 0, LinkSpeed::M10, false),
        ]
        .into_iter()
        .find(|(offered, speed, _)| *offered && *speed <= partner && *speed <= self.fastest)
        .map(|(_, speed, full_duplex)| Link { speed, full_duplex, pause: pause && full_duplex })
    }

    /// Contents of the register at an even OCP address. Reading changes nothing.
    pub fn read(&self, address: u16) -> u16 {
        let value = self.get(address);
        match address {
            BMSR => {
                let abilities = if self.fastest >= LinkSpeed::M1000 { 0x7949 } else { 0x7849 };
                let complete = if self.ready_at.is_none() && self.partner.is_some() { 1 << 5 } else { 0 };
                let link = if self.link.is_some() { 1 << 2 } else { 0 };
                abilities | complete | link
            }
            PHY_STATUS => {
                let powered_down = self.get(BMCR) & BMCR_POWER_DOWN != 0;
                value & !7 | if powered_down { 5 } else { 3 }
            }
            PATCH_STATUS => value & !(1 << 6) | (self.get(PATCH_COMMAND) & 1 << 4) << 2,
            SRAM_DATA => self.sram.get(&self.get(SRAM_ADDRESS)).copied().unwrap_or(0),
            PARAMETER_DATA => self.parameters.get(&self.get(PARAMETER_ADDRESS)).copied().unwrap_or(0),
            MMD_DATA if self.generation == Generation::R8152 => {
                let device = self.get(MMD_ADDRESS) & 0x1f;
                match self.get(MMD_ADDRESS) >> 14 {
                    0 => self.mmd_register,
                    _ => self.mmd.get(&(device, self.mmd_register)).copied().unwrap_or(0),
                }
            }
            _ => value,
        }
    }

    /// Writes the register at an even OCP address.
    pub fn write(&mut self, address: u16, value: u16, now: Duration) {
        match address {
            BMCR => self.write_control(value, now),
            // Status and identity do not follow the host.
            BMSR | PHYSID1 | PHYSID2 | LPA | EXPANSION | STAT1000 | ESTATUS | STAT2500 | EEE_ABILITY => {}
            SRAM_DATA => {
                let at = self.get(SRAM_ADDRESS);
                self.sram.insert(at, value);
                self.set(SRAM_ADDRESS, at.wrapping_add(2));
            }
            PARAMETER_DATA => {
                let at = self.get(PARAMETER_ADDRESS);
                self.parameters.insert(at, value);
                self.set(PARAMETER_ADDRESS, at.wrapping_add(2));
            }
            MMD_DATA if self.generation == Generation::R8152 => {
                let device = self.get(MMD_ADDRESS) & 0x1f;
                if self.get(MMD_ADDRESS) >> 14 == 0 {
                    self.mmd_register = value;
                } else {
                    self.mmd.insert((device, self.mmd_register), value);
                }
            }
            _ => self.set(address, value),
        }
    }

    fn write_control(&mut self, value: u16, now: Duration) {
        let old = self.get(BMCR);
        // Reset does not undo what the same write asks for: drivers set both reset and negotiation.
        self.set(BMCR, value & !(BMCR_RESET | BMCR_RESTART));
        if value & (BMCR_RESET | BMCR_RESTART) != 0 || self.get(BMCR) != old {
            self.restart(now);
        }
    }
}
