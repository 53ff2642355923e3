//! Bring-up of RTL8153B and 8153C (fact sheet rtl8152.md, section 4.4).

use hal::time::Clock;
use usb::UsbDevice;

use crate::chip::Chip;
use crate::error::Error;
use crate::regs::*;
use crate::rtl8153a::MTPS_12_KIB;
use crate::version::Generation;

/// 32.76 s in units of 8 ms.
pub(crate) const MSC_TIMER_33_S: u16 = 0x0fff;

/// Largest transmitted frame of 8153C: 10 KiB in units of 64 bytes.
const MTPS_10_KIB: u8 = 0xa0;

/// From this MTU on, 8153C takes a smaller transmit threshold.
const JUMBO_8153C: usize = 8000;

impl<D: UsbDevice, C: Clock> Chip<D, C> {
    /// Once after the configuration was chosen.
    pub(crate) async fn initialise_8153b(&self) -> Result<(), Error> {
        let registers = &self.registers;
        let c = self.generation() == Generation::Rtl8153C;
        self.u1_u2_off().await?;
        if c {
            registers.write(CRWECR, CRWECR_UNLOCK).await?;
            registers.clear(CONFIG5, CONFIG5_SPI_EN).await?;
            registers.set(USB_CBF0, USB_CBF0_8153C).await?;
        }
        self.wait_for_autoload().await?;
        self.wait_for_phy_boot().await?;
        self.power_phy_up().await?;
        self.u2_p3_off().await?;
        registers.write(MSC_TIMER, MSC_TIMER_33_S).await?;
        self.power_cut_off().await?;
        self.ups_off().await?;
        if c {
            self.set_config34_8153c().await?;
        }
        self.queue_wake_off().await?;
        self.wake_up_off().await?;
        self.mirror_link().await?;
        registers.set(MAC_PWR_CTRL2, MAC_PWR_CTRL2_MAC_CLK_SPDWN).await?;
        if c {
            registers.clear(MISC_2, MISC_2_NO_UPS).await?;
        } else {
            registers.clear(MAC_PWR_CTRL3, MAC_PWR_CTRL3_MCU_SPDWN).await?;
        }
        self.configure_aggregation().await?;
        self.reset_tally().await
    }

    /// Takes the MAC from the chip's firmware and sets its FIFOs up.
    pub(crate) async fn open_8153b(&self) -> Result<(), Error> {
        let registers = &self.registers;
        self.begin_open_8153().await?;
        if self.generation() == Generation::Rtl8153C {
            registers.write(MTPS, MTPS_10_KIB).await?;
            registers.write(TXFIFO_CTRL_WORD, 0x0008).await?;
            let jumbo = self.config.maximum_transmission_unit >= JUMBO_8153C;
            registers.write(TXFIFO_FULL, if jumbo { 0x0070 } else { 0x0100 }).await?;
            self.reset_nic().await?;
            registers.write(RXFIFO_CTRL0_LOW, 0x02).await?;
            registers.write(RXFIFO_CTRL0_FULL, 0x08).await?;
        } else {
            registers.write(MTPS, MTPS_12_KIB).await?;
            registers.set(TCR0, TCR0_AUTO_FIFO).await?;
            self.reset_nic().await?;
            registers.write(RXFIFO_CTRL0, 0x0008_0002).await?;
        }
        registers.write(RXFIFO_CTRL1_WORD, 0x00a0).await?;
        registers.write(RXFIFO_CTRL2_WORD, 0x0110).await?;
        if self.generation() == Generation::Rtl8153C {
            registers.write(RX_BUF_TH, 0x0001_0001).await?;
            self.set_config34_8153c().await?;
        } else {
            registers.write(TXFIFO_CTRL, 0x0100_0008).await?;
            registers.write(RX_BUF_TH, 0x0001_0001).await?;
        }
        registers.clear(MAC_PWR_CTRL3, MAC_PWR_CTRL3_MCU_SPDWN).await
    }

    async fn set_config34_8153c(&self) -> Result<(), Error> {
        self.registers.write(CRWECR, CRWECR_UNLOCK).await?;
        self.registers.set(CONFIG34, CONFIG34_8153C).await?;
        self.registers.write(CRWECR, CRWECR_LOCK).await
    }
}
