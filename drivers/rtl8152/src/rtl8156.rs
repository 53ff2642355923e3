//! Bring-up of RTL8156, 8156A, 8156B and 8153D (fact sheet rtl8152.md, section 4.5).

use hal::time::Clock;
use usb::UsbDevice;

use crate::chip::{Chip, saturate};
use crate::error::Error;
use crate::registers::Wait;
use crate::regs::*;
use crate::rtl8153a::MTPS_12_KIB;
use crate::rtl8153b::MSC_TIMER_33_S;
use crate::version::{Generation, Version};

/// In microseconds.
const U1U2_TIMER_500_US: u16 = 500;

/// Pause frames are sent from this fill above the largest frame on, in bytes.
const PAUSE_ON: usize = 6144;
/// And taken back below this fill above the largest frame.
const PAUSE_OFF: usize = 14336;

impl<D: UsbDevice, C: Clock> Chip<D, C> {
    /// Once after the configuration was chosen.
    pub(crate) async fn initialise_8156(&self) -> Result<(), Error> {
        let registers = &self.registers;
        let b = self.generation() == Generation::Rtl8156B;
        registers.clear(ECM_OP, ECM_OP_ALL_SPEED).await?;
        registers.write(SPEED_OPTION, 0).await?;
        registers.set(ECM_OPTION, ECM_OPTION_BYPASS_MAC_RESET).await?;
        if b {
            registers.set(U2P3_CTRL, U2P3_CTRL_RX_DETECT8).await?;
        }
        self.u1_u2_off().await?;
        if b && self.version != Version::V7400 {
            self.wait_for_flash().await?;
        }
        self.wait_for_autoload().await?;
        if self.wait_for_phy_boot().await? == PHY_STATUS_EXTERNAL_INIT {
            registers.phy_modify(PHY_POWER_STATE_B, 0x000a, 0).await?;
            if b {
                registers.phy_modify(PHY_POWER_STATE_A, 0x0001, 0).await?;
            }
        }
        self.power_phy_up().await?;
        self.u2_p3_off().await?;
        registers.write(MSC_TIMER, MSC_TIMER_33_S).await?;
        registers.write(U1U2_TIMER, U1U2_TIMER_500_US).await?;
        self.power_cut_off().await?;
        self.ups_off().await?;
        self.queue_wake_off().await?;
        self.wake_up_off().await?;
        if b {
            self.flow_control_8156b().await?;
        }
        registers.write(MAC_PWR_CTRL_WORD, 0x0403).await?;
        let clock = MAC_PWR_CTRL2_MAC_CLK_SPDWN | 0x0003;
        registers.modify(MAC_PWR_CTRL2, MAC_PWR_CTRL2_RATIO, clock).await?;
        registers.clear(MAC_PWR_CTRL3, MAC_PWR_CTRL3_MCU_SPDWN).await?;
        self.mirror_link().await?;
        self.configure_aggregation().await?;
        if !b {
            registers.set(BMU_CONFIG, BMU_CONFIG_ACT_ODMA).await?;
        }
        registers.phy_modify(PHY_FORCE_MODE, PHY_FORCE_MODE_MMD, 0).await?;
        self.reset_tally().await
    }

    /// Waits for the PHY's code, where it comes from flash.
    async fn wait_for_flash(&self) -> Result<(), Error> {
        let registers = &self.registers;
        let from_flash = registers.read(PLA_GPHY_CTRL).await? & PLA_GPHY_CTRL_FLASH != 0;
        if !from_flash || registers.read(USB_GPHY_CTRL).await? & USB_GPHY_CTRL_BYPASS_FLASH != 0 {
            return Ok(());
        }
        let done = |value| value & USB_GPHY_CTRL_PATCH_DONE != 0;
        registers.poll(USB_GPHY_CTRL, "PHY code loaded from flash", Wait::MAC, done).await.map(drop)
    }

    async fn flow_control_8156b(&self) -> Result<(), Error> {
        let registers = &self.registers;
        registers.clear(RCR0, RCR0_SLOT_EN).await?;
        registers.set(CPCR, CPCR_FLOW_CONTROL).await?;
        registers.write(FC_TIMER, FC_TIMER_600_MS).await?;
        let detects = registers.read(POL_GPIO).await? & POL_GPIO_DACK_DET_EN != 0;
        let patch = if detects { 0 } else { FW_CTRL_FLOW_PATCH2 };
        registers.modify(FW_CTRL, FW_CTRL_AUTO_SPEEDUP, patch).await?;
        registers.set(FW_TASK, FW_TASK_FC_PATCH).await
    }

    /// Takes the MAC from the chip's firmware and sets its FIFOs up.
    pub(crate) async fn open_8156(&self) -> Result<(), Error> {
        let registers = &self.registers;
        self.begin_open_8153().await?;
        registers.write(MTPS, MTPS_12_KIB).await?;
        self.pause_thresholds_8156().await?;
        registers.write(TXFIFO_CTRL_WORD, 0x0008).await?;
        let full = (self.maximum_frame() + 8).next_multiple_of(1024) / 16;
        registers.write(TXFIFO_FULL, saturate(full)).await?;
        if self.generation() == Generation::Rtl8156A {
            registers.set(BMU_CONFIG, BMU_CONFIG_ACT_ODMA).await?;
        }
        registers.modify(RXFIFO_FULL, RXFIFO_FULL_MASK, 0x0008).await?;
        registers.clear(MAC_PWR_CTRL3, MAC_PWR_CTRL3_MCU_SPDWN).await?;
        registers.clear(SPEED_OPTION, SPEED_OPTION_POWER_DOWN).await?;
        registers.write(RX_BUF_TH, 0x0060_0400).await
    }

    /// When to ask the link partner for a pause.
    pub(crate) async fn pause_thresholds_8156(&self) -> Result<(), Error> {
        let frame = self.maximum_frame().next_multiple_of(1024);
        self.registers.write(RX_FIFO_FULL, saturate((frame + PAUSE_ON) / 16)).await?;
        self.registers.write(RX_FIFO_EMPTY, saturate((frame + PAUSE_OFF) / 16)).await
    }
}
