//! A window of device registers.

/// A window of memory-mapped device registers. Offsets are in bytes from the start of the window; values are in the
/// processor's byte order (a device's registers are little-endian, and so is x86-64).
///
/// Nothing here panics: offsets often come from the device itself (capability pointers). A read that is misaligned or
/// leaves the window gives all ones, as a bus without a device does; such a write is dropped.
pub trait Mmio {
    /// Bytes in the window.
    fn len(&self) -> usize;

    /// Whether the window has no registers at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads one byte.
    fn read_u8(&self, offset: usize) -> u8;
    /// Reads two bytes.
    fn read_u16(&self, offset: usize) -> u16;
    /// Reads four bytes.
    fn read_u32(&self, offset: usize) -> u32;
    /// Writes one byte.
    fn write_u8(&self, offset: usize, value: u8);
    /// Writes two bytes.
    fn write_u16(&self, offset: usize, value: u16);
    /// Writes four bytes.
    fn write_u32(&self, offset: usize, value: u32);

    /// Reads eight bytes as two accesses, the lower half first (what xHCI 5.1 and virtio 4.1.3.1 ask of a driver).
    fn read_u64(&self, offset: usize) -> u64 {
        let low = self.read_u32(offset);
        let high = self.read_u32(offset.wrapping_add(4));
        u64::from(high) << 32 | u64::from(low)
    }

    /// Writes eight bytes as two accesses, the lower half first.
    fn write_u64(&self, offset: usize, value: u64) {
        self.write_u32(offset, value as u32);
        self.write_u32(offset.wrapping_add(4), (value >> 32) as u32);
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<M: Mmio + ?Sized> Mmio for $pointer {
            fn len(&self) -> usize { (**self).len() }
            fn read_u8(&self, offset: usize) -> u8 { (**self).read_u8(offset) }
            fn read_u16(&self, offset: usize) -> u16 { (**self).read_u16(offset) }
            fn read_u32(&self, offset: usize) -> u32 { (**self).read_u32(offset) }
            fn write_u8(&self, offset: usize, value: u8) { (**self).write_u8(offset, value) }
            fn write_u16(&self, offset: usize, value: u16) { (**self).write_u16(offset, value) }
            fn write_u32(&self, offset: usize, value: u32) { (**self).write_u32(offset, value) }
            fn read_u64(&self, offset: usize) -> u64 { (**self).read_u64(offset) }
            fn write_u64(&self, offset: usize, value: u64) { (**self).write_u64(offset, value) }
        }
    )*};
}
forward!(&M, alloc::boxed::Box<M>, alloc::rc::Rc<M>, alloc::sync::Arc<M>);

/// The part of a window that starts at `offset` and has `len` bytes, cut to what the window holds.
#[derive(Clone, Debug)]
pub struct SubWindow<M> {
    window: M,
    offset: usize,
    len: usize,
}

impl<M: Mmio> SubWindow<M> {
    /// A view of `len` bytes at `offset`; empty when `offset` lies outside.
    pub fn new(window: M, offset: usize, len: usize) -> Self {
        let offset = offset.min(window.len());
        let len = len.min(window.len() - offset);
        Self { window, offset, len }
    }

    fn place(&self, offset: usize, size: usize) -> Option<usize> {
        let end = offset.checked_add(size)?;
        (end <= self.len).then_some(self.offset + offset)
    }
}

impl<M: Mmio> Mmio for SubWindow<M> {
    fn len(&self) -> usize {
        self.len
    }
    fn read_u8(&self, offset: usize) -> u8 {
        self.place(offset, 1).map_or(u8::MAX, |at| self.window.read_u8(at))
    }
    fn read_u16(&self, offset: usize) -> u16 {
        self.place(offset, 2).map_or(u16::MAX, |at| self.window.read_u16(at))
    }
    fn read_u32(&self, offset: usize) -> u32 {
        self.place(offset, 4).map_or(u32::MAX, |at| self.window.read_u32(at))
    }
    fn write_u8(&self, offset: usize, value: u8) {
        if let Some(at) = self.place(offset, 1) {
            self.window.write_u8(at, value);
        }
    }
    fn write_u16(&self, offset: usize, value: u16) {
        if let Some(at) = self.place(offset, 2) {
            self.window.write_u16(at, value);
        }
    }
    fn write_u32(&self, offset: usize, value: u32) {
        if let Some(at) = self.place(offset, 4) {
            self.window.write_u32(at, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Plain bytes that behave as the trait asks.
    struct Bytes(RefCell<Vec<u8>>);

    impl Bytes {
        fn get<const N: usize>(&self, offset: usize) -> [u8; N] {
            let bytes = self.0.borrow();
            bytes.get(offset..offset + N).map_or([0xff; N], |part| part.try_into().unwrap())
        }
        fn set<const N: usize>(&self, offset: usize, value: [u8; N]) {
            if let Some(part) = self.0.borrow_mut().get_mut(offset..offset + N) {
                part.copy_from_slice(&value);
            }
        }
    }

    impl Mmio for Bytes {
        fn len(&self) -> usize {
            self.0.borrow().len()
        }
        fn read_u8(&self, offset: usize) -> u8 {
            u8::from_le_bytes(self.get(offset))
        }
        fn read_u16(&self, offset: usize) -> u16 {
            u16::from_le_bytes(self.get(offset))
        }
        fn read_u32(&self, offset: usize) -> u32 {
            u32::from_le_bytes(self.get(offset))
        }
        fn write_u8(&self, offset: usize, value: u8) {
            self.set(offset, value.to_le_bytes());
        }
        fn write_u16(&self, offset: usize, value: u16) {
            self.set(offset, value.to_le_bytes());
        }
        fn write_u32(&self, offset: usize, value: u32) {
            self.set(offset, value.to_le_bytes());
        }
    }

    fn counting(len: u8) -> Bytes {
        Bytes(RefCell::new((0..len).collect()))
    }

    #[test]
    fn a_wide_read_takes_the_lower_half_first() {
        assert_eq!(counting(16).read_u64(4), 0x0b0a_0908_0706_0504);
    }

    #[test]
    fn a_sub_window_starts_at_its_offset() {
        let window = SubWindow::new(counting(32), 8, 8);
        assert_eq!((window.len(), window.read_u16(2)), (8, 0x0b0a));
        window.write_u32(4, 0xdead_beef);
        assert_eq!(window.read_u32(4), 0xdead_beef);
    }

    #[test]
    fn an_access_past_a_sub_window_reads_ones_and_writes_nothing() {
        let bytes = counting(32);
        let window = SubWindow::new(&bytes, 8, 8);
        window.write_u32(6, 0);
        window.write_u8(usize::MAX, 0);
        assert_eq!(
            (window.read_u32(6), window.read_u8(8), window.read_u16(usize::MAX)),
            (u32::MAX, u8::MAX, u16::MAX)
        );
        assert_eq!(bytes.0.into_inner(), (0..32).collect::<Vec<u8>>());
    }

    #[test]
    fn a_sub_window_is_cut_to_what_is_there() {
        assert_eq!(SubWindow::new(counting(16), 12, 100).len(), 4);
        assert!(SubWindow::new(counting(16), 100, 4).is_empty());
    }
}
