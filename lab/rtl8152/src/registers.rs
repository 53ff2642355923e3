//! Addresses and bits of the registers that do more than hold what was written (fact sheet 3.1, 3.2, 3.7).

/// Registers of the MAC and PHY side.
pub mod pla {
    /// Station address, six bytes; locked unless [`CRWECR`] says otherwise.
    pub const IDR: u16 = 0xc000;
    /// Receive filter, 32 bits.
    pub const RCR: u16 = 0xc010;
    /// Promiscuous.
    pub const RCR_AAP: u32 = 1 << 0;
    /// Unicast to the station address.
    pub const RCR_APM: u32 = 1 << 1;
    /// Multicast by hash.
    pub const RCR_AM: u32 = 1 << 2;
    /// Broadcast.
    pub const RCR_AB: u32 = 1 << 3;
    /// RTL8156: strip the inner VLAN tag (bit 6 of the upper word).
    pub const RCR_INNER_VLAN: u32 = 1 << 22;
    /// RTL8156: strip the outer VLAN tag.
    pub const RCR_OUTER_VLAN: u32 = 1 << 23;
    /// Largest frame to receive, frame check sequence included.
    pub const RMS: u16 = 0xc016;
    /// Teredo configuration; write-1-to-clear on the RTL8153B and later.
    pub const TEREDO_CFG: u16 = 0xc0bc;
    /// Multicast hash, eight bytes, big endian.
    pub const MAR: u16 = 0xcd00;
    /// Factory station address, eight bytes with padding.
    pub const BACKUP: u16 = 0xd000;
    /// POL_GPIO: bit 4 is cleared by the chip.
    pub const POL_GPIO: u16 = 0xdc6a;
    /// Bit 8: MAC idle after ALDPS went off.
    pub const MAC_IDLE: u16 = 0xe000;
    /// Bit 1: configuration loaded.
    pub const BOOT_CTRL: u16 = 0xe004;
    /// Bit 11: transmitter empty.
    pub const TCR0: u16 = 0xe610;
    /// Version and inter-frame gap.
    pub const TCR1: u16 = 0xe612;
    /// The version bits of [`TCR1`].
    pub const VERSION_MASK: u16 = 0x7cf0;
    /// Bit 0: clear the tally counters.
    pub const RSTTALLY: u16 = 0xe800;
    /// Command register.
    pub const CR: u16 = 0xe813;
    /// Software reset, clears itself.
    pub const CR_RST: u8 = 1 << 4;
    /// Receiver on.
    pub const CR_RE: u8 = 1 << 3;
    /// Transmitter on.
    pub const CR_TE: u8 = 1 << 2;
    /// 0xc0 unlocks the configuration registers.
    pub const CRWECR: u16 = 0xe81c;
    /// The unlocking value.
    pub const UNLOCKED: u8 = 0xc0;
    /// Out-of-band control.
    pub const OOB_CTRL: u16 = 0xe84f;
    /// The MAC belongs to the chip's firmware.
    pub const NOW_IS_OOB: u8 = 1 << 7;
    /// Transmit FIFO empty, receive FIFO empty, link list ready: what drivers poll.
    pub const OOB_STATUS: u8 = 0x32;
    /// Bit 6: strip VLAN tags (RTL8152, 8153).
    pub const CPCR: u16 = 0xe854;
    /// The bit.
    pub const CPCR_RX_VLAN: u8 = 1 << 6;
    /// Bit 3: hold received frames back from USB.
    pub const MISC_1: u16 = 0xe85a;
    /// The bit.
    pub const RXDY_GATED: u8 = 1 << 3;
    /// Page of the PHY window, in its top four bits.
    pub const OCP_BASE: u16 = 0xe86c;
    /// The PHY window.
    pub const OCP_WINDOW: std::ops::RangeInclusive<u16> = 0xb000..=0xbfff;
    /// Tally counters, 64 bytes.
    pub const TALLY: u16 = 0xe890;
    /// Link state.
    pub const PHYSTATUS: u16 = 0xe908;
}

/// Registers of the bus side.
pub mod usb {
    /// Bits 2:1: 0 high speed, 1 full speed.
    pub const DEV_STAT: u16 = 0xb808;
    /// USB control.
    pub const USB_CTRL: u16 = 0xd406;
    /// One packet per bulk IN transfer.
    pub const RX_AGG_DISABLE: u8 = 1 << 4;
    /// RTL8152: receive buffer threshold; the upper half is a timer in 8 ns units.
    pub const RX_BUF_TH: u16 = 0xd40c;
    /// Aggregation time-out, 8 ns units.
    pub const RX_EARLY_TIMEOUT: u16 = 0xd42c;
    /// Aggregation size.
    pub const RX_EARLY_SIZE: u16 = 0xd42e;
    /// RTL8153B and later: second aggregation timer, 8 ns units.
    pub const RX_EXTRA_AGGR_TMR: u16 = 0xd432;
    /// Bits 1:0: latch new aggregation settings (RTL8153B and later).
    pub const UPT_RXDMA_OWN: u16 = 0xd437;
    /// Bits 1:0: bulk OUT and bulk IN engines on.
    pub const BMU_RESET: u16 = 0xd4b0;
}

/// PHY registers (OCP addresses).
pub mod phy {
    /// Basic mode control.
    pub const BMCR: u16 = 0xa400;
    /// Basic mode status.
    pub const BMSR: u16 = 0xa402;
    /// Identifier words.
    pub const PHYSID1: u16 = 0xa404;
    /// Identifier words.
    pub const PHYSID2: u16 = 0xa406;
    /// Advertised abilities.
    pub const ADVERTISE: u16 = 0xa408;
    /// The partner's.
    pub const LPA: u16 = 0xa40a;
    /// Expansion.
    pub const EXPANSION: u16 = 0xa40c;
    /// Advertised gigabit abilities.
    pub const CTRL1000: u16 = 0xa412;
    /// The partner's.
    pub const STAT1000: u16 = 0xa414;
    /// MMD address and function (RTL8152).
    pub const MMD_ADDRESS: u16 = 0xa41a;
    /// MMD data (RTL8152).
    pub const MMD_DATA: u16 = 0xa41c;
    /// Extended status.
    pub const ESTATUS: u16 = 0xa41e;
    /// Bits 2:0: state of the PHY.
    pub const PHY_STATUS: u16 = 0xa420;
    /// SRAM address.
    pub const SRAM_ADDRESS: u16 = 0xa436;
    /// SRAM data.
    pub const SRAM_DATA: u16 = 0xa438;
    /// Energy-efficient Ethernet abilities.
    pub const EEE_ABILITY: u16 = 0xa5c4;
    /// 2.5 Gbit/s advertised in bit 7.
    pub const CTRL2500: u16 = 0xa5d4;
    /// The partner's in bit 5.
    pub const STAT2500: u16 = 0xa5d6;
    /// Negotiation state.
    pub const PHY_STATE: u16 = 0xa708;
    /// Bit 6 mirrors the request.
    pub const PATCH_STATUS: u16 = 0xb800;
    /// Bit 4: request.
    pub const PATCH_COMMAND: u16 = 0xb820;
    /// Second parameter port: address.
    pub const PARAMETER_ADDRESS: u16 = 0xb87c;
    /// Second parameter port: data.
    pub const PARAMETER_DATA: u16 = 0xb87e;
    /// SRAM word: version of the PHY's firmware.
    pub const SRAM_FIRMWARE_VERSION: u16 = 0x801e;
}
