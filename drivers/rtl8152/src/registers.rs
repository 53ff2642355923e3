//! Access to the chip's registers over the control pipe (fact sheet rtl8152.md, section 2).
//!
//! One vendor request reads and writes both register spaces in dwords; a write carries byte enables, so that bytes
//! and words are written without reading their neighbours first.
//!
//! A read that fails or comes back short is an error and never a value: [`Registers::modify`] can therefore not
//! write back what was never read.

use alloc::boxed::Box;
use core::cell::Cell;
use core::future::Future;
use core::pin::Pin;

use hal::time::{Clock, Duration, sleep};
use usb::{Request, UsbDevice};

use crate::error::Error;
use crate::regs::{self, Phy, Register, Space, Word, phy_window};

/// The only request that the chip knows.
const REQUEST_REGISTERS: u8 = 0x05;
/// `bmRequestType` without its direction: vendor request to the device.
const KIND_VENDOR_DEVICE: u8 = 0x40;

/// Low byte of `wIndex` for whole dwords.
const BYTES_ALL: u16 = 0xff;
/// Low byte of `wIndex` for the last two bytes of six: the lower half of one dword.
const BYTES_LOW_WORD: u16 = 0x33;

/// An access under way. Boxed, because the initialisation sequences await hundreds of them: a sequence then holds one
/// pointer and no copy of the access's own state, which makes the driver a third smaller. Accesses take a turn on the
/// bus each, so that the allocation does not count.
pub(crate) type Access<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + 'a>>;

/// The registers of one adapter.
#[derive(Debug)]
pub(crate) struct Registers<D, C> {
    pub device: D,
    pub clock: C,
    /// How long one access may take. The chip answers late while its microcontroller is busy.
    deadline: Duration,
    /// The PHY page that the window shows; unknown while a selection is under way or after a reset.
    page: Cell<Option<u16>>,
}

impl<D: UsbDevice, C: Clock> Registers<D, C> {
    pub fn new(device: D, clock: C, deadline: Duration) -> Self {
        Self { device, clock, deadline, page: Cell::new(None) }
    }

    /// Forgets the selected PHY page: the chip was reset.
    pub fn forget_page(&self) {
        self.page.set(None);
    }

    /// Reads `bytes.len()` bytes, a multiple of four, from `address`, a multiple of four.
    pub async fn read_bytes(&self, space: Space, address: u16, bytes: &mut [u8]) -> Result<(), Error> {
        let request = Request {
            kind: KIND_VENDOR_DEVICE,
            request: REQUEST_REGISTERS,
            value: address,
            index: space.index(),
        };
        let wanted = bytes.len();
        match self.device.control_in(request, bytes, self.deadline).await {
            Ok(length) if length == wanted => Ok(()),
            Ok(length) => Err(Error::ShortRead { space, address, length }),
            Err(error) => Err(Error::Register { space, address, write: false, error }),
        }
    }

    async fn write_bytes(&self, space: Space, address: u16, enables: u16, bytes: &[u8]) -> Result<(), Error> {
        let request = Request {
            kind: KIND_VENDOR_DEVICE,
            request: REQUEST_REGISTERS,
            value: address,
            index: space.index() | enables,
        };
        self.device.control_out(request, bytes, self.deadline).await.map_err(|error| Error::Register {
            space,
            address,
            write: true,
            error,
        })
    }

    /// Writes whole dwords.
    pub async fn write_dwords(&self, space: Space, address: u16, bytes: &[u8]) -> Result<(), Error> {
        self.write_bytes(space, address, BYTES_ALL, bytes).await
    }

    /// Writes six bytes as a dword and half a dword, which every chip takes (section 2.3).
    pub async fn write_six(&self, space: Space, address: u16, bytes: [u8; 6]) -> Result<(), Error> {
        let [a, b, c, d, e, f] = bytes;
        self.write_bytes(space, address, BYTES_ALL, &[a, b, c, d]).await?;
        self.write_bytes(space, address + 4, BYTES_LOW_WORD, &[e, f, 0, 0]).await
    }

    async fn read_dword(&self, space: Space, address: u16) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.read_bytes(space, address & !3, &mut bytes).await?;
        Ok(u32::from_le_bytes(bytes) >> (u32::from(address & 3) * 8))
    }

    /// Writes the low `size` bytes of `value`, and only those.
    async fn write_lanes(&self, space: Space, address: u16, size: u16, value: u32) -> Result<(), Error> {
        let lane = address & 3;
        let enables = ((1 << size) - 1) << lane;
        let kept = u32::MAX >> (32 - 8 * size);
        let dword = (value & kept) << (lane * 8);
        self.write_bytes(space, address & !3, enables | enables << 4, &dword.to_le_bytes()).await
    }

    fn modify_lanes(&self, space: Space, address: u16, size: u16, clear: u32, set: u32) -> Access<'_, ()> {
        Box::pin(async move {
            let old = self.read_dword(space, address).await?;
            self.write_lanes(space, address, size, old & !clear | set).await
        })
    }

    /// Reads a register.
    pub fn read<W: Word>(&self, register: Register<W>) -> Access<'_, W> {
        let Register { space, address, .. } = register;
        Box::pin(async move { self.read_dword(space, address).await.map(W::from_dword) })
    }

    /// Writes a register, and only its bytes.
    pub fn write<W: Word>(&self, register: Register<W>, value: W) -> Access<'_, ()> {
        let Register { space, address, .. } = register;
        Box::pin(self.write_lanes(space, address, W::SIZE, value.to_dword()))
    }

    /// Clears and then sets bits of a register.
    pub fn modify<W: Word>(&self, register: Register<W>, clear: W, set: W) -> Access<'_, ()> {
        self.modify_lanes(register.space, register.address, W::SIZE, clear.to_dword(), set.to_dword())
    }

    /// Sets bits of a register.
    pub fn set<W: Word>(&self, register: Register<W>, bits: W) -> Access<'_, ()> {
        self.modify(register, W::from_dword(0), bits)
    }

    /// Clears bits of a register.
    pub fn clear<W: Word>(&self, register: Register<W>, bits: W) -> Access<'_, ()> {
        self.modify(register, bits, W::from_dword(0))
    }

    /// Reads a register again and again until `reached` likes its value.
    ///
    /// # Errors
    ///
    /// [`Error::NotReached`], with the last value, once `limit` has passed.
    pub fn poll<W: Word>(
        &self,
        register: Register<W>,
        state: &'static str,
        wait: Wait,
        reached: fn(W) -> bool,
    ) -> Access<'_, W> {
        Box::pin(async move {
            let start = self.clock.now();
            loop {
                let value = self.read(register).await?;
                if reached(value) {
                    return Ok(value);
                }
                if self.clock.now() - start >= wait.limit {
                    return Err(Error::NotReached { state, value: value.to_dword(), after: wait.limit });
                }
                sleep(&self.clock, wait.interval).await;
            }
        })
    }

    /// Makes the window show the page of a PHY register; gives the place of the register in the window.
    async fn select(&self, register: Phy) -> Result<Register<u16>, Error> {
        let page = register.0 & 0xf000;
        if self.page.get() != Some(page) {
            self.page.set(None);
            self.write(regs::OCP_GPHY_BASE, page).await?;
            self.page.set(Some(page));
        }
        Ok(phy_window(register.0))
    }

    /// Reads a PHY register.
    pub fn phy_read(&self, register: Phy) -> Access<'_, u16> {
        Box::pin(async move {
            let window = self.select(register).await?;
            self.read(window).await
        })
    }

    /// Writes a PHY register.
    pub fn phy_write(&self, register: Phy, value: u16) -> Access<'_, ()> {
        Box::pin(async move {
            let window = self.select(register).await?;
            self.write(window, value).await
        })
    }

    /// Clears and then sets bits of a PHY register.
    pub fn phy_modify(&self, register: Phy, clear: u16, set: u16) -> Access<'_, ()> {
        Box::pin(async move {
            let window = self.select(register).await?;
            self.modify(window, clear, set).await
        })
    }

    /// As [`Registers::poll`], of a PHY register.
    pub fn phy_poll(
        &self,
        register: Phy,
        state: &'static str,
        wait: Wait,
        reached: fn(u16) -> bool,
    ) -> Access<'_, u16> {
        Box::pin(async move {
            let window = self.select(register).await?;
            self.poll(window, state, wait, reached).await
        })
    }
}

/// How often and how long to look at a register (fact sheet, section 3.6).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// Time between two looks.
    pub interval: Duration,
    /// Time after which to give up.
    pub limit: Duration,
}

impl Wait {
    /// For the chip's boot and its PHY: seconds after a power cycle.
    pub const BOOT: Self = Self { interval: Duration::from_millis(20), limit: Duration::from_secs(10) };
    /// For link lists and FIFOs.
    pub const MAC: Self = Self { interval: Duration::from_millis(1), limit: Duration::from_secs(1) };
    /// For the software reset.
    pub const RESET: Self = Self { interval: Duration::from_micros(100), limit: Duration::from_secs(1) };
    /// For the MAC after power saving went off; not reached on every chip.
    pub const POWER_SAVING: Self =
        Self { interval: Duration::from_millis(1), limit: Duration::from_millis(20) };
    /// For the PHY's reset.
    pub const PHY_RESET: Self = Self { interval: Duration::from_millis(20), limit: Duration::from_secs(1) };
}
