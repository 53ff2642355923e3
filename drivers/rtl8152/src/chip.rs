//! One chip and the procedures that all generations share (fact sheet rtl8152.md, section 4.1).
//!
//! Power saving that other drivers switch on again after bring-up (ALDPS, U1/U2, U2P3) stays off here: an appliance
//! does not sleep, and these are what fails in the field.

use core::cell::RefCell;

use hal::time::{Clock, Duration, sleep};
use usb::{Speed, UsbDevice};

use crate::config::{Config, Filter};
use crate::error::Error;
use crate::registers::{Registers, Wait};
use crate::regs::*;
use crate::version::{FRAME_OVERHEAD, Generation, Version, is_super_speed};

/// A chip whose version is known.
#[derive(Debug)]
pub(crate) struct Chip<D, C> {
    pub registers: Registers<D, C>,
    pub version: Version,
    pub speed: Speed,
    pub config: Config,
    /// The filter in force or soon to be: the one of the configuration until it is changed.
    pub filter: RefCell<Filter>,
}

impl<D: UsbDevice, C: Clock> Chip<D, C> {
    pub fn new(registers: Registers<D, C>, version: Version, config: Config) -> Self {
        let speed = registers.device.information().speed;
        let filter = RefCell::new(config.filter.clone());
        Self { registers, version, speed, config, filter }
    }

    pub fn generation(&self) -> Generation {
        self.version.generation()
    }

    pub fn super_speed(&self) -> bool {
        is_super_speed(self.speed)
    }

    /// Largest frame with VLAN tag and check sequence, in bytes: what the receive-size register takes.
    pub fn maximum_frame(&self) -> usize {
        self.config.maximum_transmission_unit + FRAME_OVERHEAD
    }

    /// What the aggregation size register has to hold so that one more largest frame always fits the buffer
    /// (section 4.6).
    pub fn early_size(&self) -> Option<u16> {
        const DESCRIPTORS: usize = 24 + 8;
        let unit = self.version.early_size_unit()?;
        let room = self.version.receive_buffer(self.speed).saturating_sub(self.maximum_frame() + DESCRIPTORS);
        u16::try_from(room / unit).ok()
    }

    /// Waits until the chip has loaded its settings.
    pub async fn wait_for_autoload(&self) -> Result<(), Error> {
        let done = |value| value & BOOT_CTRL_AUTOLOAD_DONE != 0;
        self.registers.poll(BOOT_CTRL, "settings loaded", Wait::BOOT, done).await.map(drop)
    }

    /// Waits until the PHY has booted; gives its state.
    pub async fn wait_for_phy_boot(&self) -> Result<u16, Error> {
        let booted = |value: u16| {
            matches!(
                value & PHY_STATUS_MASK,
                PHY_STATUS_LAN_ON | PHY_STATUS_POWER_DOWN | PHY_STATUS_EXTERNAL_INIT
            )
        };
        let status = self.registers.phy_poll(PHY_STATUS, "PHY booted", Wait::BOOT, booted).await?;
        Ok(status & PHY_STATUS_MASK)
    }

    /// Takes the PHY out of power-down; where the PHY reports its state, waits until it is on.
    pub async fn power_phy_up(&self) -> Result<(), Error> {
        if self.registers.phy_read(PHY_BMCR).await? & BMCR_POWER_DOWN != 0 {
            self.registers.phy_modify(PHY_BMCR, BMCR_POWER_DOWN, 0).await?;
        }
        if self.generation() != Generation::Rtl8152 {
            let on = |value: u16| value & PHY_STATUS_MASK == PHY_STATUS_LAN_ON;
            self.registers.phy_poll(PHY_STATUS, "PHY on", Wait::BOOT, on).await?;
        }
        Ok(())
    }

    /// Software reset of the MAC: empties its FIFOs and stops both directions.
    pub async fn reset_nic(&self) -> Result<(), Error> {
        let registers = &self.registers;
        if self.generation() == Generation::Rtl8156A {
            registers.clear(CR, CR_TE).await?;
            registers.clear(BMU_RESET_WORD, BMU_RESET_EP_IN).await?;
            registers.set(USB_CTRL, USB_CTRL_CDC_ECM).await?;
            registers.clear(CR, CR_RE).await?;
            registers.set(BMU_RESET_WORD, BMU_RESET_EP_IN).await?;
            return registers.clear(USB_CTRL, USB_CTRL_CDC_ECM).await;
        }
        registers.write(CR, CR_RST).await?;
        let reset = |value| value & CR_RST == 0;
        registers.poll(CR, "MAC reset done", Wait::RESET, reset).await.map(drop)
    }

    /// Empties the bulk endpoints' FIFOs (8153 and later).
    pub async fn reset_bulk_fifos(&self) -> Result<(), Error> {
        self.registers.clear(BMU_RESET, BMU_RESET_EP_IN_OUT).await?;
        self.registers.set(BMU_RESET, BMU_RESET_EP_IN_OUT).await
    }

    /// Holds received frames back from the USB side.
    pub async fn close_receive_gate(&self) -> Result<(), Error> {
        self.registers.set(MISC_1, MISC_1_RXDY_GATED).await
    }

    /// Lets received frames through to the USB side.
    pub async fn open_receive_gate(&self) -> Result<(), Error> {
        self.registers.clear(MISC_1, MISC_1_RXDY_GATED).await
    }

    /// Stops accepting frames.
    pub async fn accept_nothing(&self) -> Result<(), Error> {
        self.registers.clear(RCR, RCR_ACCEPT).await
    }

    /// Leaves the mode in which the chip's firmware owns the MAC, and rebuilds its lists of buffers.
    pub async fn leave_out_of_band_mode(&self) -> Result<(), Error> {
        self.registers.clear(OOB_CTRL, OOB_CTRL_NOW_IS_OOB).await?;
        self.registers.clear(SFF_STS_7, SFF_STS_7_MCU_BORW_EN).await?;
        if matches!(self.generation(), Generation::Rtl8156A | Generation::Rtl8156B) {
            return Ok(());
        }
        self.wait_for_link_list().await?;
        self.registers.set(SFF_STS_7, SFF_STS_7_RE_INIT_LL).await?;
        self.wait_for_link_list().await
    }

    async fn wait_for_link_list(&self) -> Result<(), Error> {
        let ready = |value| value & OOB_CTRL_LINK_LIST_READY != 0;
        self.registers.poll(OOB_CTRL, "buffer list ready", Wait::MAC, ready).await.map(drop)
    }

    /// Switches link-down power saving off.
    pub async fn aldps_off(&self) -> Result<(), Error> {
        if self.generation() == Generation::Rtl8152 {
            self.registers.phy_write(PHY_ALDPS_CONFIG, PHY_ALDPS_CONFIG_OFF).await?;
            sleep(&self.registers.clock, Duration::from_millis(20)).await;
            return Ok(());
        }
        self.registers.phy_modify(PHY_POWER_CFG, PHY_POWER_CFG_EN_ALDPS, 0).await?;
        let idle = |value| value & MAC_IDLE_ALDPS != 0;
        tolerate(self.registers.poll(MAC_IDLE, "MAC idle", Wait::POWER_SAVING, idle).await)
    }

    /// Forbids the link power states U1 and U2.
    pub async fn u1_u2_off(&self) -> Result<(), Error> {
        match self.generation() {
            Generation::Rtl8152 => Ok(()),
            Generation::Rtl8153A => self.registers.write_six(Space::Usb, TOLERANCE, [0; 6]).await,
            _ => self.registers.clear(LPM_CONFIG, LPM_CONFIG_U1U2).await,
        }
    }

    /// Forbids the PHY power state P3 in U2.
    pub async fn u2_p3_off(&self) -> Result<(), Error> {
        self.registers.clear(U2P3_CTRL, U2P3_CTRL_ENABLE).await
    }

    /// Forbids cutting the chip's power.
    pub async fn power_cut_off(&self) -> Result<(), Error> {
        let registers = &self.registers;
        match self.generation() {
            Generation::Rtl8152 => {
                registers.clear(UPS_CTRL, UPS_CTRL_POWER_CUT).await?;
                registers.clear(PM_CTRL_STATUS, PM_CTRL_STATUS_RESUME_INDICATE).await
            }
            Generation::Rtl8153A => {
                registers.clear(POWER_CUT, POWER_CUT_PWR_EN | POWER_CUT_PHASE2).await?;
                registers.clear(MISC_0, MISC_0_PCUT_STATUS).await
            }
            _ => {
                registers.clear(POWER_CUT, POWER_CUT_PWR_EN).await?;
                registers.clear(MISC_0, MISC_0_PCUT_STATUS).await
            }
        }
    }

    /// Leaves the deep suspend of 8153B and later.
    pub async fn ups_off(&self) -> Result<(), Error> {
        self.registers.clear(POWER_CUT_BYTE, POWER_CUT_UPS).await?;
        self.registers.clear(MISC_2, MISC_2_UPS_FORCE_PWR_DOWN).await?;
        if self.registers.read(MISC_0).await? & MISC_0_PCUT_STATUS != 0 {
            // The chip lost its power: it boots once more. Its PHY is configured later in any case.
            self.wait_for_autoload().await?;
            self.registers.clear(MISC_0, MISC_0_PCUT_STATUS).await?;
        }
        Ok(())
    }

    /// Forgets what the chip was to do in runtime suspend.
    pub async fn queue_wake_off(&self) -> Result<(), Error> {
        self.registers.clear(INDICATE_FLAG, INDICATE_FLAG_UPCOMING_RUNTIME_D3).await?;
        self.registers.clear(SUSPEND_FLAG, SUSPEND_FLAG_LINK_CHG_EVENT).await?;
        self.registers.clear(EXTRA_STATUS, EXTRA_STATUS_LINK_CHANGE).await
    }

    /// Tells the chip's firmware the state of the link, and to watch it.
    pub async fn mirror_link(&self) -> Result<(), Error> {
        let up = self.registers.read(PHYSTATUS).await? & PHYSTATUS_LINK != 0;
        let link = if up { EXTRA_STATUS_CUR_LINK_OK } else { 0 };
        self.registers.modify(EXTRA_STATUS, EXTRA_STATUS_CUR_LINK_OK, link | EXTRA_STATUS_POLL_LINK_CHG).await
    }

    /// No frame and no link change wakes the host.
    pub async fn wake_up_off(&self) -> Result<(), Error> {
        self.registers.write(CRWECR, CRWECR_UNLOCK).await?;
        self.registers.clear(CONFIG34, CONFIG34_LINK_ON_WAKE | CONFIG34_LINK_OFF_WAKE).await?;
        self.registers.clear(CONFIG5, CONFIG5_WAKE).await?;
        self.registers.write(CRWECR, CRWECR_LOCK).await?;
        self.registers.clear(CFG_WOL, CFG_WOL_MAGIC).await
    }

    /// Switches the Teredo and RealWoW proxies off, which would answer in our place.
    pub async fn teredo_off(&self) -> Result<(), Error> {
        match self.generation() {
            Generation::Rtl8152 | Generation::Rtl8153A => {
                self.registers.clear(TEREDO_CFG, TEREDO_ENABLES).await?;
            }
            _ => self.registers.write(TEREDO_CFG_CLEAR, 0xff).await?,
        }
        self.registers.write(WDT6_CTRL, WDT6_CTRL_SET_MODE).await?;
        self.registers.write(REALWOW_TIMER, 0).await?;
        self.registers.write(TEREDO_TIMER, 0).await
    }

    /// Aggregation of received frames as configured; no zero-length packets from the chip.
    pub async fn configure_aggregation(&self) -> Result<(), Error> {
        let disable = if self.config.receive_aggregation { 0 } else { USB_CTRL_RX_AGG_DISABLE };
        self.registers.modify(USB_CTRL, USB_CTRL_RX_AGG_DISABLE | USB_CTRL_RX_ZERO_EN, disable).await
    }

    /// Starts the hardware's counters at zero.
    pub async fn reset_tally(&self) -> Result<(), Error> {
        self.registers.set(RSTTALLY, RSTTALLY_CLEAR).await
    }

    /// VLAN tag strip as configured.
    pub async fn configure_vlan_strip(&self) -> Result<(), Error> {
        if matches!(self.generation(), Generation::Rtl8156A | Generation::Rtl8156B) {
            let strip = if self.config.vlan_strip { RCR1_VLAN_STRIP } else { 0 };
            return self.registers.modify(RCR1, RCR1_VLAN_STRIP, strip).await;
        }
        let strip = if self.config.vlan_strip { CPCR_RX_VLAN } else { 0 };
        self.registers.modify(CPCR, CPCR_RX_VLAN, strip).await
    }

    /// The largest frame to accept.
    pub async fn configure_frame_size(&self) -> Result<(), Error> {
        self.registers.write(RMS, saturate(self.maximum_frame())).await
    }
}

/// A state that some chips never reach and none depends on: not reaching it is no error, a failed read is.
pub(crate) fn tolerate<T>(outcome: Result<T, Error>) -> Result<(), Error> {
    match outcome {
        Err(Error::NotReached { state, value, after }) => {
            log::debug!(
                "the chip did not reach \"{state}\" within {after:?} (register {value:#x}); going on"
            );
            Ok(())
        }
        other => other.map(drop),
    }
}

/// A size for a register of 16 bits; sizes were checked to fit when the MTU was.
pub(crate) fn saturate(size: usize) -> u16 {
    u16::try_from(size).unwrap_or(u16::MAX)
}
