//! Registers of the RTL8152 family, with their data-sheet names (fact sheet rtl8152.md, section 3).
//!
//! Two independent address spaces of 64 KiB: [`Space::Pla`] (MAC and PHY side) and [`Space::Usb`] (bus side).
//! Values are little-endian on the wire. A register of 16 bits never crosses a dword.

use core::fmt;
use core::marker::PhantomData;

/// One of the two register spaces: the upper byte of `wIndex` in a register request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// MAC and PHY side.
    Pla,
    /// Bus side.
    Usb,
}

impl Space {
    /// What `wIndex` holds in its upper byte.
    pub(crate) const fn index(self) -> u16 {
        match self {
            Self::Pla => 0x0100,
            Self::Usb => 0x0000,
        }
    }
}

impl fmt::Display for Space {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pla => "PLA",
            Self::Usb => "USB",
        })
    }
}

/// A register of width `W` (`u8`, `u16` or `u32`).
#[derive(Debug)]
pub(crate) struct Register<W> {
    pub space: Space,
    pub address: u16,
    width: PhantomData<W>,
}

impl<W> Clone for Register<W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Register<W> {}

/// The plain integer that a register holds.
pub(crate) trait Word: Copy + 'static {
    /// Bytes.
    const SIZE: u16;
    /// The value from the low bytes of a dword.
    fn from_dword(dword: u32) -> Self;
    /// The value in the low bytes of a dword.
    fn to_dword(self) -> u32;
}

macro_rules! words {
    ($($word:ty),*) => {$(
        impl Word for $word {
            const SIZE: u16 = size_of::<$word>() as u16;
            fn from_dword(dword: u32) -> Self { dword as Self }
            fn to_dword(self) -> u32 { self.into() }
        }
    )*};
}
words!(u8, u16, u32);

const fn pla<W>(address: u16) -> Register<W> {
    Register { space: Space::Pla, address, width: PhantomData }
}

const fn usb<W>(address: u16) -> Register<W> {
    Register { space: Space::Usb, address, width: PhantomData }
}

/// A word of the PHY window (section 2.6): the page is chosen beforehand.
pub(crate) const fn phy_window(address: u16) -> Register<u16> {
    pla(PHY_WINDOW | address & 0x0fff)
}

const PHY_WINDOW: u16 = 0xb000;

// ---- PLA space ------------------------------------------------------------------------------------------------

/// Station address, 6 bytes; writable while [`CRWECR`] is unlocked.
pub(crate) const IDR: u16 = 0xc000;
/// Multicast hash, 64 bits, big-endian.
pub(crate) const MAR: u16 = 0xcd00;
/// Factory copy of the station address, 6 bytes and 2 of padding.
pub(crate) const BACKUP: u16 = 0xd000;
/// Hardware counters, 64 bytes.
pub(crate) const TALLYCNT: u16 = 0xe890;

/// Receive configuration. Never written blind: FreeBSD-SA-20:27.
pub(crate) const RCR: Register<u32> = pla(0xc010);
/// Promiscuous.
pub(crate) const RCR_AAP: u32 = 1 << 0;
/// Accept frames to the own address.
pub(crate) const RCR_APM: u32 = 1 << 1;
/// Accept multicast frames that match [`MAR`].
pub(crate) const RCR_AM: u32 = 1 << 2;
/// Accept broadcast frames.
pub(crate) const RCR_AB: u32 = 1 << 3;
/// The four accept bits.
pub(crate) const RCR_ACCEPT: u32 = 0xf;
/// Low word of RCR: bit 11 chooses receive slots (8156B).
pub(crate) const RCR0: Register<u16> = pla(0xc010);
pub(crate) const RCR0_SLOT_EN: u16 = 1 << 11;
/// High word of RCR.
pub(crate) const RCR1: Register<u16> = pla(0xc012);
/// Inner and outer VLAN tag strip (8156).
pub(crate) const RCR1_VLAN_STRIP: u16 = 1 << 7 | 1 << 6;
/// Largest received frame, with its check sequence.
pub(crate) const RMS: Register<u16> = pla(0xc016);
pub(crate) const RXFIFO_CTRL0: Register<u32> = pla(0xc0a0);
pub(crate) const RXFIFO_CTRL0_LOW: Register<u8> = pla(0xc0a0);
pub(crate) const RXFIFO_CTRL0_FULL: Register<u8> = pla(0xc0a2);
pub(crate) const RXFIFO_FULL: Register<u16> = pla(0xc0a2);
pub(crate) const RXFIFO_FULL_MASK: u16 = 0x0fff;
pub(crate) const RXFIFO_CTRL1: Register<u32> = pla(0xc0a4);
pub(crate) const RXFIFO_CTRL1_WORD: Register<u16> = pla(0xc0a4);
/// Pause-on level in units of 16 bytes (8156).
pub(crate) const RX_FIFO_FULL: Register<u16> = pla(0xc0a6);
pub(crate) const RXFIFO_CTRL2: Register<u32> = pla(0xc0a8);
pub(crate) const RXFIFO_CTRL2_WORD: Register<u16> = pla(0xc0a8);
/// Pause-off level in units of 16 bytes (8156).
pub(crate) const RX_FIFO_EMPTY: Register<u16> = pla(0xc0aa);
/// Clearing and setting bit 0 restarts the packet filter.
pub(crate) const FMC: Register<u16> = pla(0xc0b4);
pub(crate) const FMC_FCR_MCU_EN: u16 = 1 << 0;
pub(crate) const CFG_WOL: Register<u16> = pla(0xc0b6);
pub(crate) const CFG_WOL_MAGIC: u16 = 1 << 0;
pub(crate) const TEREDO_CFG: Register<u16> = pla(0xc0bc);
/// Select, restart event and out-of-band enable of the Teredo offload.
pub(crate) const TEREDO_ENABLES: u16 = 0x80ff;
/// On 8153B and later the low byte is write-one-to-clear.
pub(crate) const TEREDO_CFG_CLEAR: Register<u8> = pla(0xc0bc);
pub(crate) const TEREDO_TIMER: Register<u32> = pla(0xd2cc);
pub(crate) const REALWOW_TIMER: Register<u16> = pla(0xd2e8);
pub(crate) const SUSPEND_FLAG: Register<u8> = pla(0xd38a);
pub(crate) const SUSPEND_FLAG_LINK_CHG_EVENT: u8 = 1 << 0;
pub(crate) const INDICATE_FLAG: Register<u8> = pla(0xd38c);
pub(crate) const INDICATE_FLAG_UPCOMING_RUNTIME_D3: u8 = 1 << 0;
/// The driver mirrors the PHY's link here.
pub(crate) const EXTRA_STATUS: Register<u16> = pla(0xd398);
pub(crate) const EXTRA_STATUS_CUR_LINK_OK: u16 = 1 << 15;
pub(crate) const EXTRA_STATUS_LINK_CHANGE: u16 = 1 << 8;
pub(crate) const EXTRA_STATUS_POLL_LINK_CHG: u16 = 1 << 0;
/// Whether the PHY takes its code from flash (8156B).
pub(crate) const PLA_GPHY_CTRL: Register<u16> = pla(0xd3ae);
pub(crate) const PLA_GPHY_CTRL_FLASH: u16 = 1 << 1;
pub(crate) const POL_GPIO: Register<u16> = pla(0xdc6a);
pub(crate) const POL_GPIO_DACK_DET_EN: u16 = 1 << 15;
/// Bit 8: the MAC is idle after ALDPS went off.
pub(crate) const MAC_IDLE: Register<u16> = pla(0xe000);
pub(crate) const MAC_IDLE_ALDPS: u16 = 1 << 8;
pub(crate) const BOOT_CTRL: Register<u16> = pla(0xe004);
pub(crate) const BOOT_CTRL_AUTOLOAD_DONE: u16 = 1 << 1;
pub(crate) const GPHY_INTR_IMR: Register<u16> = pla(0xe022);
pub(crate) const GPHY_INTR_IMR_ALL: u16 = 0x000f;
pub(crate) const EEE_CR: Register<u16> = pla(0xe040);
/// Energy-efficient Ethernet in both directions.
pub(crate) const EEE_CR_RX_TX: u16 = 0x0003;
pub(crate) const EEE_TXTWSYS: Register<u16> = pla(0xe04c);
pub(crate) const EEEP_CR: Register<u16> = pla(0xe080);
pub(crate) const EEEP_CR_EEEP_TX: u16 = 1 << 1;
pub(crate) const MAC_PWR_CTRL: Register<u32> = pla(0xe0c0);
pub(crate) const MAC_PWR_CTRL_WORD: Register<u16> = pla(0xe0c0);
pub(crate) const MAC_PWR_CTRL2: Register<u16> = pla(0xe0ca);
pub(crate) const MAC_PWR_CTRL2_MAC_CLK_SPDWN: u16 = 1 << 15;
pub(crate) const MAC_PWR_CTRL2_RATIO: u16 = 0x00ff;
pub(crate) const MAC_PWR_CTRL3: Register<u16> = pla(0xe0cc);
pub(crate) const MAC_PWR_CTRL3_MCU_SPDWN: u16 = 1 << 14;
pub(crate) const MAC_PWR_CTRL4: Register<u16> = pla(0xe0ce);
pub(crate) const MAC_PWR_CTRL4_TX10M_IDLE: u16 = 1 << 8;
pub(crate) const MAC_PWR_CTRL4_IDLE_SPDWN: u16 = 1 << 6;
pub(crate) const WDT6_CTRL: Register<u16> = pla(0xe428);
pub(crate) const WDT6_CTRL_SET_MODE: u16 = 0x0010;
pub(crate) const TCR0: Register<u16> = pla(0xe610);
pub(crate) const TCR0_TX_EMPTY: u16 = 1 << 11;
pub(crate) const TCR0_AUTO_FIFO: u16 = 1 << 7;
/// TCR0 below, TCR1 with the chip version above.
pub(crate) const TCR: Register<u32> = pla(0xe610);
pub(crate) const TCR1: Register<u16> = pla(0xe612);
/// Inter-frame gap.
pub(crate) const TCR1_IFG: u16 = 0x0308;
/// 96 bit times.
pub(crate) const TCR1_IFG_96: u16 = 0x0300;
/// 144 bit times, for half duplex at 10 and 100 Mb/s.
pub(crate) const TCR1_IFG_144: u16 = 0x0200;
/// Largest transmitted frame in units of 64 bytes.
pub(crate) const MTPS: Register<u8> = pla(0xe615);
pub(crate) const TXFIFO_CTRL: Register<u32> = pla(0xe618);
pub(crate) const TXFIFO_CTRL_WORD: Register<u16> = pla(0xe618);
pub(crate) const TXFIFO_FULL: Register<u16> = pla(0xe61a);
pub(crate) const RSTTALLY: Register<u16> = pla(0xe800);
pub(crate) const RSTTALLY_CLEAR: u16 = 1 << 0;
/// Command.
pub(crate) const CR: Register<u8> = pla(0xe813);
/// Software reset; clears itself.
pub(crate) const CR_RST: u8 = 1 << 4;
pub(crate) const CR_RE: u8 = 1 << 3;
pub(crate) const CR_TE: u8 = 1 << 2;
/// Write protection of the configuration registers.
pub(crate) const CRWECR: Register<u8> = pla(0xe81c);
pub(crate) const CRWECR_UNLOCK: u8 = 0xc0;
pub(crate) const CRWECR_LOCK: u8 = 0x00;
pub(crate) const CONFIG34: Register<u16> = pla(0xe820);
pub(crate) const CONFIG34_LINK_OFF_WAKE: u16 = 1 << 3;
pub(crate) const CONFIG34_LINK_ON_WAKE: u16 = 1 << 4;
/// Set on 8153C; the data sheet's name is not public.
pub(crate) const CONFIG34_8153C: u16 = 1 << 8;
pub(crate) const CONFIG5: Register<u16> = pla(0xe822);
/// Unicast, multicast, broadcast and LAN wake.
pub(crate) const CONFIG5_WAKE: u16 = 0x0072;
pub(crate) const CONFIG5_SPI_EN: u16 = 1 << 3;
pub(crate) const PHY_PWR: Register<u16> = pla(0xe84c);
/// 10 Mb/s transmit idle and PFM/PWM switch.
pub(crate) const PHY_PWR_TX10M_PFM: u16 = 0x00c0;
pub(crate) const OOB_CTRL: Register<u8> = pla(0xe84f);
pub(crate) const OOB_CTRL_NOW_IS_OOB: u8 = 1 << 7;
pub(crate) const OOB_CTRL_FIFO_EMPTY: u8 = 1 << 5 | 1 << 4;
pub(crate) const OOB_CTRL_LINK_LIST_READY: u8 = 1 << 1;
pub(crate) const CPCR: Register<u16> = pla(0xe854);
pub(crate) const CPCR_RX_VLAN: u16 = 1 << 6;
/// Flow-control enable (8156B).
pub(crate) const CPCR_FLOW_CONTROL: u16 = 1 << 0;
pub(crate) const MISC_1: Register<u16> = pla(0xe85a);
/// 1: received frames are held back from the USB side.
pub(crate) const MISC_1_RXDY_GATED: u16 = 1 << 3;
/// PHY page: the top nibble of the PHY address.
pub(crate) const OCP_GPHY_BASE: Register<u16> = pla(0xe86c);
pub(crate) const SFF_STS_7: Register<u16> = pla(0xe8de);
pub(crate) const SFF_STS_7_RE_INIT_LL: u16 = 1 << 15;
pub(crate) const SFF_STS_7_MCU_BORW_EN: u16 = 1 << 14;
pub(crate) const PHYSTATUS: Register<u16> = pla(0xe908);
pub(crate) const PHYSTATUS_FULL_DUPLEX: u16 = 1 << 0;
pub(crate) const PHYSTATUS_LINK: u16 = 1 << 1;
pub(crate) const PHYSTATUS_10: u16 = 1 << 2;
pub(crate) const PHYSTATUS_100: u16 = 1 << 3;
pub(crate) const PHYSTATUS_1000: u16 = 1 << 4;
pub(crate) const PHYSTATUS_RX_FLOW: u16 = 1 << 5;
pub(crate) const PHYSTATUS_TX_FLOW: u16 = 1 << 6;
pub(crate) const PHYSTATUS_500: u16 = 1 << 8;
pub(crate) const PHYSTATUS_1250: u16 = 1 << 9;
pub(crate) const PHYSTATUS_2500: u16 = 1 << 10;

// ---- USB space ------------------------------------------------------------------------------------------------

/// Six bytes: all ones lets the link enter U1 and U2, all zeroes forbids it (8153A).
pub(crate) const TOLERANCE: u16 = 0xd490;

pub(crate) const L1_CTRL: Register<u16> = usb(0xb45e);
pub(crate) const L1_CTRL_MASK: u16 = 0x000f;
pub(crate) const U2P3_CTRL: Register<u16> = usb(0xb460);
pub(crate) const U2P3_CTRL_ENABLE: u16 = 1 << 0;
pub(crate) const U2P3_CTRL_RX_DETECT8: u16 = 1 << 3;
/// Set on 8153C; the data sheet's name is not public.
pub(crate) const USB_CBF0: Register<u16> = usb(0xcbf0);
pub(crate) const USB_CBF0_8153C: u16 = 1 << 1;
/// In units of 8 ms.
pub(crate) const MSC_TIMER: Register<u16> = usb(0xcbfc);
pub(crate) const LPM_CONFIG: Register<u16> = usb(0xcfd8);
pub(crate) const LPM_CONFIG_U1U2: u16 = 1 << 0;
pub(crate) const ECM_OPTION: Register<u16> = usb(0xcfee);
pub(crate) const ECM_OPTION_BYPASS_MAC_RESET: u16 = 1 << 5;
pub(crate) const MISC_2: Register<u8> = usb(0xcfff);
pub(crate) const MISC_2_UPS_FORCE_PWR_DOWN: u8 = 1 << 0;
pub(crate) const MISC_2_NO_UPS: u8 = 1 << 7;
pub(crate) const ECM_OP: Register<u8> = usb(0xd26b);
pub(crate) const ECM_OP_ALL_SPEED: u8 = 1 << 0;
pub(crate) const USB_GPHY_CTRL: Register<u16> = usb(0xd284);
pub(crate) const USB_GPHY_CTRL_PATCH_DONE: u16 = 1 << 2;
pub(crate) const USB_GPHY_CTRL_BYPASS_FLASH: u16 = 1 << 5;
pub(crate) const SPEED_OPTION: Register<u16> = usb(0xd32a);
pub(crate) const SPEED_OPTION_POWER_DOWN: u16 = 0x0300;
pub(crate) const FW_CTRL: Register<u16> = usb(0xd334);
pub(crate) const FW_CTRL_FLOW_PATCH2: u16 = 1 << 8;
pub(crate) const FW_CTRL_AUTO_SPEEDUP: u16 = 1 << 3;
pub(crate) const FC_TIMER: Register<u16> = usb(0xd340);
/// Enabled, 75 units of 8 ms.
pub(crate) const FC_TIMER_600_MS: u16 = 0x804b;
/// Aggregation and zero-length packets of the bulk IN endpoint. Read, modified, written.
pub(crate) const USB_CTRL: Register<u16> = usb(0xd406);
pub(crate) const USB_CTRL_CDC_ECM: u16 = 1 << 3;
pub(crate) const USB_CTRL_RX_AGG_DISABLE: u16 = 1 << 4;
pub(crate) const USB_CTRL_RX_ZERO_EN: u16 = 1 << 7;
pub(crate) const TX_AGG: Register<u8> = usb(0xd40a);
pub(crate) const RX_BUF_TH: Register<u32> = usb(0xd40c);
/// Aggregation time-out in units of 8 ns.
pub(crate) const RX_EARLY_TIMEOUT: Register<u16> = usb(0xd42c);
/// Aggregation size in units that depend on the generation.
pub(crate) const RX_EARLY_SIZE: Register<u16> = usb(0xd42e);
/// 8152: bit 0 is the resume indication. 8153B and later: second aggregation timer, 8 ns.
pub(crate) const PM_CTRL_STATUS: Register<u16> = usb(0xd432);
pub(crate) const PM_CTRL_STATUS_RESUME_INDICATE: u16 = 1 << 0;
pub(crate) const RX_EXTRA_AGGR_TMR: Register<u16> = usb(0xd432);
pub(crate) const TX_DMA: Register<u32> = usb(0xd434);
/// Latches new aggregation settings (8153B and later).
pub(crate) const UPT_RXDMA_OWN: Register<u8> = usb(0xd437);
pub(crate) const UPT_RXDMA_OWN_UPDATE_CLEAR: u8 = 0x03;
pub(crate) const BMU_RESET: Register<u8> = usb(0xd4b0);
pub(crate) const BMU_RESET_WORD: Register<u16> = usb(0xd4b0);
pub(crate) const BMU_RESET_EP_IN: u16 = 1 << 0;
pub(crate) const BMU_RESET_EP_IN_OUT: u8 = 0x03;
pub(crate) const BMU_CONFIG: Register<u16> = usb(0xd4b4);
pub(crate) const BMU_CONFIG_ACT_ODMA: u16 = 1 << 1;
/// In microseconds.
pub(crate) const U1U2_TIMER: Register<u16> = usb(0xd4da);
pub(crate) const FW_TASK: Register<u16> = usb(0xd4e8);
pub(crate) const FW_TASK_FC_PATCH: u16 = 1 << 1;
pub(crate) const RX_AGGR_NUM: Register<u16> = usb(0xd4ee);
pub(crate) const RX_AGGR_NUM_MASK: u16 = 0x01ff;
/// 8152: bit 8 cuts the power.
pub(crate) const UPS_CTRL: Register<u16> = usb(0xd800);
pub(crate) const UPS_CTRL_POWER_CUT: u16 = 1 << 8;
pub(crate) const POWER_CUT: Register<u16> = usb(0xd80a);
pub(crate) const POWER_CUT_PWR_EN: u16 = 1 << 0;
pub(crate) const POWER_CUT_PHASE2: u16 = 1 << 3;
pub(crate) const POWER_CUT_BYTE: Register<u8> = usb(0xd80a);
/// UPS enable and pre-wake.
pub(crate) const POWER_CUT_UPS: u8 = 0x30;
pub(crate) const MISC_0: Register<u16> = usb(0xd81a);
/// The chip is coming back from a power cut.
pub(crate) const MISC_0_PCUT_STATUS: u16 = 1 << 0;

// ---- PHY (OCP) ------------------------------------------------------------------------------------------------

/// A 16-bit PHY register behind the OCP window: page in the top nibble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Phy(pub u16);

/// 8152: link-down power saving.
pub(crate) const PHY_ALDPS_CONFIG: Phy = Phy(0x2010);
/// Its value with power saving off.
pub(crate) const PHY_ALDPS_CONFIG_OFF: u16 = 0x0310;
/// MII register 0.
pub(crate) const PHY_BMCR: Phy = Phy(0xa400);
pub(crate) const BMCR_RESET: u16 = 1 << 15;
pub(crate) const BMCR_AUTONEGOTIATE: u16 = 1 << 12;
pub(crate) const BMCR_POWER_DOWN: u16 = 1 << 11;
pub(crate) const BMCR_RESTART: u16 = 1 << 9;
/// MII register 4.
pub(crate) const PHY_ADVERTISE: Phy = Phy(0xa408);
pub(crate) const ADVERTISE_10_100: u16 = 0x01e0;
pub(crate) const ADVERTISE_PAUSE: u16 = 0x0c00;
/// MII register 9.
pub(crate) const PHY_CTRL1000: Phy = Phy(0xa412);
pub(crate) const CTRL1000_FULL: u16 = 1 << 9;
pub(crate) const PHY_STATUS: Phy = Phy(0xa420);
pub(crate) const PHY_STATUS_MASK: u16 = 0x0007;
pub(crate) const PHY_STATUS_LAN_ON: u16 = 3;
pub(crate) const PHY_STATUS_POWER_DOWN: u16 = 5;
pub(crate) const PHY_STATUS_EXTERNAL_INIT: u16 = 2;
pub(crate) const PHY_POWER_CFG: Phy = Phy(0xa430);
pub(crate) const PHY_POWER_CFG_EN_ALDPS: u16 = 1 << 2;
pub(crate) const PHY_EEE_CFG: Phy = Phy(0xa432);
pub(crate) const PHY_EEE_CFG_EEE10: u16 = 1 << 4;
pub(crate) const PHY_POWER_STATE_A: Phy = Phy(0xa466);
pub(crate) const PHY_POWER_STATE_B: Phy = Phy(0xa468);
/// Force-mode select: bit 15 chooses MMD over MDIO (8156).
pub(crate) const PHY_FORCE_MODE: Phy = Phy(0xa5b4);
pub(crate) const PHY_FORCE_MODE_MMD: u16 = 1 << 15;
/// MMD 7.60: what energy-efficient Ethernet is advertised.
pub(crate) const PHY_EEE_ADVERTISE: Phy = Phy(0xa5d0);
pub(crate) const EEE_ADVERTISE_100_1000: u16 = 0x0006;
/// MMD 7.32.
pub(crate) const PHY_10GBT_CTRL: Phy = Phy(0xa5d4);
pub(crate) const PHY_10GBT_CTRL_2500: u16 = 1 << 7;
