//! A window of device registers, in memory or of I/O ports.

use core::ptr::NonNull;

use hal::mmio::Mmio;
use safe_mmio::UniqueMmioPointer;
use safe_mmio::fields::ReadWrite;
use x86_64::instructions::port::Port;

use crate::memory::address_space::{self, OpenError};
use crate::memory::page_table::Access;

/// A window that is open: copies of it reach the same registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    kind: Kind,
    length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Mapped from this byte on.
    Memory(NonNull<u8>),
    /// From this port on.
    Ports(u16),
}

// SAFETY: a window is an address of registers, not of memory that belongs to a context.
unsafe impl Send for Window {}

impl Window {
    /// Opens a range of physical addresses.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: among others when the range is memory, whatever a device says.
    pub fn memory(address: u64, length: u64) -> Result<Self, OpenError> {
        address_space::open(address, length, Access::Device)?;
        // `open` refuses what does not fit the address space, and page 0.
        let first = NonNull::new(address as *mut u8).ok_or(OpenError::Memory)?;
        Ok(Self { kind: Kind::Memory(first), length: length as usize })
    }

    /// A range of ports; `None` when it leaves the 64 Ki that there are, or begins among those of the main board.
    pub fn ports(first: u64, length: u64) -> Option<Self> {
        /// The main board's own devices (timers, interrupt controllers, serial ports) lie below.
        const FIRST_FREE: u64 = 0x500;
        let inside = first >= FIRST_FREE && first.checked_add(length).is_some_and(|end| end <= 1 << 16);
        inside.then_some(Self { kind: Kind::Ports(first as u16), length: length as usize })
    }

    /// Whether an access lies in the window and is aligned.
    #[inline]
    fn holds<T>(&self, offset: usize) -> bool {
        offset.is_multiple_of(size_of::<T>())
            && offset.checked_add(size_of::<T>()).is_some_and(|end| end <= self.length)
    }
}

/// The register `offset` bytes behind `first`, for one access.
///
/// # Safety
///
/// The register lies in an open window and is aligned.
#[inline]
unsafe fn register<T>(first: NonNull<u8>, offset: usize) -> UniqueMmioPointer<'static, ReadWrite<T>> {
    // SAFETY: by contract. There is one processor, and the pointer does not outlive its one access.
    unsafe { UniqueMmioPointer::new(first.add(offset).cast()) }
}

macro_rules! access {
    ($read:ident, $write:ident, $integer:ty) => {
        #[inline]
        fn $read(&self, offset: usize) -> $integer {
            if !self.holds::<$integer>(offset) {
                return <$integer>::MAX;
            }
            match self.kind {
                // SAFETY: `memory` opened the window, and the access was just checked to be in it and aligned.
                Kind::Memory(first) => unsafe { register::<$integer>(first, offset) }.read(),
                // SAFETY: the port belongs to the device whose window this is.
                Kind::Ports(first) => unsafe { Port::new(first + offset as u16).read() },
            }
        }

        #[inline]
        fn $write(&self, offset: usize, value: $integer) {
            if !self.holds::<$integer>(offset) {
                return;
            }
            match self.kind {
                // SAFETY: as for reading.
                Kind::Memory(first) => unsafe { register::<$integer>(first, offset) }.write(value),
                // SAFETY: as for reading.
                Kind::Ports(first) => unsafe { Port::new(first + offset as u16).write(value) },
            }
        }
    };
}

impl Mmio for Window {
    fn len(&self) -> usize {
        self.length
    }
    access!(read_u8, write_u8, u8);
    access!(read_u16, write_u16, u16);
    access!(read_u32, write_u32, u32);
}
