//! Bring-up of RTL8153 and 8153A (fact sheet rtl8152.md, section 4.3).

use hal::time::Clock;
use usb::UsbDevice;

use crate::chip::Chip;
use crate::error::Error;
use crate::regs::*;

/// Largest transmitted frame: 12 KiB in units of 64 bytes.
pub(crate) const MTPS_12_KIB: u8 = 0xc0;

impl<D: UsbDevice, C: Clock> Chip<D, C> {
    /// Once after the configuration was chosen.
    pub(crate) async fn initialise_8153a(&self) -> Result<(), Error> {
        self.u1_u2_off().await?;
        self.wait_for_autoload().await?;
        self.wait_for_phy_boot().await?;
        self.power_phy_up().await?;
        self.u2_p3_off().await?;
        self.power_cut_off().await?;
        self.wake_up_off().await?;
        self.registers.clear(MAC_PWR_CTRL2, MAC_PWR_CTRL2_MAC_CLK_SPDWN).await?;
        self.configure_aggregation().await?;
        self.reset_tally().await
    }

    /// Takes the MAC from the chip's firmware and sets its FIFOs up.
    pub(crate) async fn open_8153a(&self) -> Result<(), Error> {
        let registers = &self.registers;
        self.begin_open_8153().await?;
        registers.write(MTPS, MTPS_12_KIB).await?;
        registers.set(TCR0, TCR0_AUTO_FIFO).await?;
        self.reset_nic().await?;
        registers.write(RXFIFO_CTRL0, 0x0008_0002).await?;
        registers.write(RXFIFO_CTRL1_WORD, 0x00a0).await?;
        registers.write(RXFIFO_CTRL2_WORD, 0x0110).await?;
        registers.write(TXFIFO_CTRL, 0x0100_0008).await
    }

    /// The part of opening that all 8153 share.
    pub(crate) async fn begin_open_8153(&self) -> Result<(), Error> {
        self.u1_u2_off().await?;
        self.u2_p3_off().await?;
        self.aldps_off().await?;
        self.close_receive_gate().await?;
        self.teredo_off().await?;
        self.accept_nothing().await?;
        self.reset_nic().await?;
        self.reset_bulk_fifos().await?;
        self.leave_out_of_band_mode().await?;
        self.configure_vlan_strip().await?;
        self.configure_frame_size().await
    }
}
