//! Bring-up of RTL8152 (fact sheet rtl8152.md, section 4.2).

use hal::time::Clock;
use usb::{Speed, UsbDevice};

use crate::chip::Chip;
use crate::error::Error;
use crate::regs::*;

impl<D: UsbDevice, C: Clock> Chip<D, C> {
    /// Once after the configuration was chosen.
    pub(crate) async fn initialise_8152(&self) -> Result<(), Error> {
        let registers = &self.registers;
        self.power_phy_up().await?;
        self.aldps_off().await?;
        self.power_cut_off().await?;
        registers.set(PHY_PWR, PHY_PWR_TX10M_PFM).await?;
        registers.modify(MAC_PWR_CTRL, 0x0f0f_0f0f, 0x0701_4f07).await?;
        registers.write(GPHY_INTR_IMR, GPHY_INTR_IMR_ALL).await?;
        self.reset_tally().await?;
        self.configure_aggregation().await
    }

    /// Takes the MAC from the chip's firmware and sets its FIFOs up.
    pub(crate) async fn open_8152(&self) -> Result<(), Error> {
        let registers = &self.registers;
        self.aldps_off().await?;
        self.accept_nothing().await?;
        self.close_receive_gate().await?;
        self.teredo_off().await?;
        registers.write(CRWECR, CRWECR_LOCK).await?;
        registers.write(CR, 0).await?;
        self.leave_out_of_band_mode().await?;
        self.reset_nic().await?;
        registers.write(RXFIFO_CTRL0, 0x0008_0002).await?;
        let (almost_full, almost_empty) = if self.speed == Speed::Full { (0x60, 0x78) } else { (0x38, 0x48) };
        registers.write(RXFIFO_CTRL1, almost_full).await?;
        registers.write(RXFIFO_CTRL2, almost_empty).await?;
        registers.write(TXFIFO_CTRL, 0x0100_0008).await?;
        registers.write(TX_AGG, 3).await?;
        registers.write(RX_BUF_TH, 0x7a12_0180).await?;
        registers.write(TX_DMA, 0x0000_0101).await?;
        self.configure_vlan_strip().await?;
        self.configure_frame_size().await?;
        registers.set(TCR0, TCR0_AUTO_FIFO).await
    }
}
