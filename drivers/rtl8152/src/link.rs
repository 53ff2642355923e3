//! Link up and link down (fact sheet rtl8152.md, sections 4.6 and 4.7).
//!
//! The interrupt endpoint only says that something may have changed: the PHY status register decides.

use hal::time::{Clock, Duration, sleep};
use usb::{Speed, UsbDevice};

use crate::chip::{Chip, tolerate};
use crate::config::Coalescing;
use crate::error::Error;
use crate::registers::Wait;
use crate::regs::*;
use crate::version::{Generation, Version};

/// What the PHY status register says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkStatus(u16);

impl LinkStatus {
    pub fn is_up(self) -> bool {
        self.0 & PHYSTATUS_LINK != 0
    }

    /// Megabits per second; 0 when the link is down or the chip does not tell.
    pub fn speed(self) -> u32 {
        const SPEEDS: [(u16, u32); 6] = [
            (PHYSTATUS_2500, 2500),
            (PHYSTATUS_1250, 1250),
            (PHYSTATUS_1000, 1000),
            (PHYSTATUS_500, 500),
            (PHYSTATUS_100, 100),
            (PHYSTATUS_10, 10),
        ];
        let speed = SPEEDS.iter().find(|(bit, _)| self.0 & bit != 0).map_or(0, |&(_, speed)| speed);
        if self.is_up() { speed } else { 0 }
    }

    fn is_slow_half_duplex(self) -> bool {
        self.0 & PHYSTATUS_FULL_DUPLEX == 0 && self.speed() <= 100
    }

    fn pauses_both_ways(self) -> bool {
        const BOTH: u16 = PHYSTATUS_RX_FLOW | PHYSTATUS_TX_FLOW;
        self.0 & BOTH == BOTH
    }
}

/// Aggregation times in units of 8 ns.
struct AggregationTimes {
    early: u16,
    /// 8153B and later.
    extra: Option<u16>,
}

/// 1 us: the first frame of a burst hardly waits. Shorter than what other drivers program.
const TIME_LATENCY: u16 = 125;

impl<D: UsbDevice, C: Clock> Chip<D, C> {
    pub async fn link_status(&self) -> Result<LinkStatus, Error> {
        self.registers.read(PHYSTATUS).await.map(LinkStatus)
    }

    /// Starts both directions for the link that `status` describes. Frames arrive from the end of this on.
    pub async fn enable(&self, status: LinkStatus) -> Result<(), Error> {
        let registers = &self.registers;
        let generation = self.generation();
        if generation == Generation::Rtl8156A {
            self.pause_thresholds_8156().await?;
        }
        let ten = if status.speed() == 10 { EEEP_CR_EEEP_TX } else { 0 };
        registers.modify(EEEP_CR, EEEP_CR_EEEP_TX, ten).await?;
        self.configure_receive_aggregates().await?;
        if generation != Generation::Rtl8152 {
            self.configure_inter_frame_gap(status).await?;
        }
        if matches!(generation, Generation::Rtl8156A | Generation::Rtl8156B) {
            self.configure_power_for_speed_8156(status).await?;
        }
        if matches!(generation, Generation::Rtl8153C | Generation::Rtl8156A | Generation::Rtl8156B)
            || self.version == Version::V6010
        {
            registers.clear(FW_TASK, FW_TASK_FC_PATCH).await?;
            sleep(&registers.clock, Duration::from_millis(1)).await;
            registers.set(FW_TASK, FW_TASK_FC_PATCH).await?;
        }
        registers.clear(FMC, FMC_FCR_MCU_EN).await?;
        registers.set(FMC, FMC_FCR_MCU_EN).await?;
        registers.set(CR, CR_RE | CR_TE).await?;
        if !matches!(generation, Generation::Rtl8152 | Generation::Rtl8153A) {
            registers.write(UPT_RXDMA_OWN, UPT_RXDMA_OWN_UPDATE_CLEAR).await?;
        }
        self.open_receive_gate().await?;
        let filter = self.filter.borrow().clone();
        self.configure_filter(&filter).await
    }

    /// When a receive transfer completes: by time and by size. The size follows from the buffers that are posted.
    async fn configure_receive_aggregates(&self) -> Result<(), Error> {
        let registers = &self.registers;
        let Some(size) = self.early_size() else { return Ok(()) };
        if self.generation() == Generation::Rtl8156B {
            registers.clear(RX_AGGR_NUM, RX_AGGR_NUM_MASK).await?;
        }
        let times = self.aggregation_times();
        registers.write(RX_EARLY_TIMEOUT, times.early).await?;
        if let Some(extra) = times.extra {
            registers.write(RX_EXTRA_AGGR_TMR, extra).await?;
        }
        registers.write(RX_EARLY_SIZE, size).await
    }

    fn aggregation_times(&self) -> AggregationTimes {
        let latency = self.config.coalescing == Coalescing::Latency;
        match self.generation() {
            Generation::Rtl8152 | Generation::Rtl8153A => AggregationTimes {
                early: match self.speed {
                    _ if latency => TIME_LATENCY,
                    Speed::Low | Speed::Full => 0xffff,
                    Speed::High => 0x7a12,
                    Speed::Super | Speed::SuperPlus => 0x2981,
                },
                extra: None,
            },
            generation => {
                let b53 = matches!(generation, Generation::Rtl8153B | Generation::Rtl8153C);
                let extra = if latency { TIME_LATENCY } else { 0x0753 };
                AggregationTimes { early: if b53 { 0x0010 } else { 0x0050 }, extra: Some(extra) }
            }
        }
    }

    async fn configure_inter_frame_gap(&self, status: LinkStatus) -> Result<(), Error> {
        let half = status.is_slow_half_duplex();
        let gap = if half { TCR1_IFG_144 } else { TCR1_IFG_96 };
        self.registers.modify(TCR1, TCR1_IFG, gap).await?;
        let idle = if half { 0 } else { MAC_PWR_CTRL4_TX10M_IDLE };
        self.registers.modify(MAC_PWR_CTRL4, MAC_PWR_CTRL4_TX10M_IDLE, idle).await
    }

    async fn configure_power_for_speed_8156(&self, status: LinkStatus) -> Result<(), Error> {
        let registers = &self.registers;
        let slow = if status.speed() == 2500 { 0 } else { MAC_PWR_CTRL4_IDLE_SPDWN };
        registers.modify(MAC_PWR_CTRL4, MAC_PWR_CTRL4_IDLE_SPDWN, slow).await?;
        if self.generation() == Generation::Rtl8156A {
            match status.speed() {
                1000 => registers.write(EEE_TXTWSYS, 0x0011).await?,
                500 => registers.write(EEE_TXTWSYS, 0x003d).await?,
                _ => {}
            }
        }
        if self.speed == Speed::High {
            let delay = if status.pauses_both_ways() { 0x000f } else { 0x0001 };
            registers.modify(L1_CTRL, L1_CTRL_MASK, delay).await?;
        }
        Ok(())
    }

    /// Stops accepting frames: the first half of a link-down, after which the transmit pipe is to be emptied.
    pub async fn stop_accepting(&self) -> Result<(), Error> {
        if self.generation() == Generation::Rtl8156A {
            self.registers.write(RX_FIFO_FULL, 0).await?;
            self.registers.write(RX_FIFO_EMPTY, 0).await?;
        }
        self.accept_nothing().await
    }

    /// Lets the FIFOs run empty: the second half, after which the receive pipe is to be emptied.
    pub async fn drain(&self) -> Result<(), Error> {
        self.close_receive_gate().await?;
        let empty = |value| value & OOB_CTRL_FIFO_EMPTY == OOB_CTRL_FIFO_EMPTY;
        tolerate(self.registers.poll(OOB_CTRL, "FIFOs empty", Wait::MAC, empty).await)?;
        let sent = |value| value & TCR0_TX_EMPTY != 0;
        tolerate(self.registers.poll(TCR0, "transmitter empty", Wait::MAC, sent).await)
    }

    /// Clears what is left of the session, so that nothing stale begins the next one.
    pub async fn reset_data_path(&self) -> Result<(), Error> {
        self.reset_nic().await?;
        if self.generation() == Generation::Rtl8152 { Ok(()) } else { self.reset_bulk_fifos().await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_tells_speed_and_duplex() {
        assert_eq!(LinkStatus(0x0013).speed(), 1000);
        assert_eq!(LinkStatus(0x0403).speed(), 2500);
        assert_eq!(LinkStatus(0x000b).speed(), 100);
        assert_eq!(LinkStatus(0x0008).speed(), 0, "speed bits mean nothing without a link");
        assert!(LinkStatus(0x000a).is_slow_half_duplex());
        assert!(!LinkStatus(0x0012).is_slow_half_duplex());
    }
}
