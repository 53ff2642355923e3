//! From a configured USB device to a MAC that waits for its link: version, initialisation, station address, PHY,
//! out of out-of-band mode.

use hal::time::Clock;
use usb::UsbDevice;

use crate::chip::Chip;
use crate::error::Error;
use crate::registers::{Registers, Wait};
use crate::regs::*;
use crate::version::{Generation, VERSION_REGISTER, Version};

/// Least MTU: what IPv4 asks of every link (RFC 791).
const LEAST_MTU: usize = 68;

/// Reads which chip it is. Works in the Address state already.
pub(crate) async fn read_version<D: UsbDevice, C: Clock>(
    registers: &Registers<D, C>,
) -> Result<Version, Error> {
    Version::from_tcr(registers.read(VERSION_REGISTER).await?).map_err(Error::UnknownVersion)
}

impl<D: UsbDevice, C: Clock> Chip<D, C> {
    /// Brings the chip up to where it waits for the link; gives its station address.
    pub async fn bring_up(&self) -> Result<[u8; 6], Error> {
        let range = (LEAST_MTU, self.version.maximum_mtu());
        let mtu = self.config.maximum_transmission_unit;
        if !(range.0..=range.1).contains(&mtu) {
            return Err(Error::BadMtu { mtu, range });
        }
        self.registers.forget_page();
        match self.generation() {
            Generation::Rtl8152 => self.initialise_8152().await?,
            Generation::Rtl8153A => self.initialise_8153a().await?,
            Generation::Rtl8153B | Generation::Rtl8153C => self.initialise_8153b().await?,
            Generation::Rtl8156A | Generation::Rtl8156B => self.initialise_8156().await?,
        }
        let address = self.configure_station_address().await?;
        self.configure_energy_efficient_ethernet().await?;
        self.autonegotiate().await?;
        match self.generation() {
            Generation::Rtl8152 => self.open_8152().await?,
            Generation::Rtl8153A => self.open_8153a().await?,
            Generation::Rtl8153B | Generation::Rtl8153C => self.open_8153b().await?,
            Generation::Rtl8156A | Generation::Rtl8156B => self.open_8156().await?,
        }
        Ok(address)
    }

    /// Chooses the station address and makes it the one that the receive filter knows.
    async fn configure_station_address(&self) -> Result<[u8; 6], Error> {
        let address = match self.config.mac_address {
            Some(address) if is_station_address(address) => address,
            Some(address) => return Err(Error::BadStationAddress(address)),
            None => self.permanent_address().await?,
        };
        self.registers.write(CRWECR, CRWECR_UNLOCK).await?;
        self.registers.write_six(Space::Pla, IDR, address).await?;
        self.registers.write(CRWECR, CRWECR_LOCK).await?;
        Ok(address)
    }

    /// The address that the adapter was made with (section 1.7).
    async fn permanent_address(&self) -> Result<[u8; 6], Error> {
        let place = if self.version == Version::V4c00 { IDR } else { BACKUP };
        let mut bytes = [0; 8];
        self.registers.read_bytes(Space::Pla, place, &mut bytes).await?;
        let [a, b, c, d, e, f, _, _] = bytes;
        let address = [a, b, c, d, e, f];
        if is_station_address(address) { Ok(address) } else { Err(Error::NoStationAddress(address)) }
    }

    /// Energy-efficient Ethernet as configured. On RTL8152 only the MAC's part is switched.
    async fn configure_energy_efficient_ethernet(&self) -> Result<(), Error> {
        let wanted = self.config.energy_efficient_ethernet;
        let set = if wanted { EEE_CR_RX_TX } else { 0 };
        self.registers.modify(EEE_CR, EEE_CR_RX_TX, set).await?;
        if self.generation() == Generation::Rtl8152 {
            return Ok(());
        }
        let set = if wanted { PHY_EEE_CFG_EEE10 } else { 0 };
        self.registers.phy_modify(PHY_EEE_CFG, PHY_EEE_CFG_EEE10, set).await?;
        let advertised = if wanted { EEE_ADVERTISE_100_1000 } else { 0 };
        self.registers.phy_write(PHY_EEE_ADVERTISE, advertised).await
    }

    /// Advertises every speed of the chip, and pause, and starts negotiation afresh.
    async fn autonegotiate(&self) -> Result<(), Error> {
        let registers = &self.registers;
        registers.phy_modify(PHY_ADVERTISE, 0, ADVERTISE_10_100 | ADVERTISE_PAUSE).await?;
        if self.version.gigabit() {
            registers.phy_modify(PHY_CTRL1000, 0, CTRL1000_FULL).await?;
        }
        if self.version.two_and_a_half_gigabit() {
            // At high speed the bus is slower than the wire already.
            let advertise = if self.super_speed() { PHY_10GBT_CTRL_2500 } else { 0 };
            registers.phy_modify(PHY_10GBT_CTRL, PHY_10GBT_CTRL_2500, advertise).await?;
        }
        registers.phy_write(PHY_BMCR, BMCR_RESET | BMCR_AUTONEGOTIATE | BMCR_RESTART).await?;
        let reset = |value| value & BMCR_RESET == 0;
        registers.phy_poll(PHY_BMCR, "PHY reset done", Wait::PHY_RESET, reset).await.map(drop)
    }
}

/// Whether a station may have this address: not zero, not a group.
fn is_station_address(address: [u8; 6]) -> bool {
    address != [0; 6] && address[0] & 1 == 0
}
