//! Making and taking room: `reserve`, `put`, `push`, `pull`, `trim` and their unchecked twins.

use super::NetBuf;
use crate::error::{Error, Shared};

/// Bytes to [reserve](NetBuf::reserve) before an Ethernet frame is received, so that the IP header behind its 14 bytes is
/// aligned to 16 (`NET_IP_ALIGN`).
pub const IP_ALIGN: usize = 2;

/// Room at both ends: reserve, put, push, pull, trim, and a device that fills the tailroom.
impl NetBuf {
    /// Opens `count` bytes of headroom in an empty buffer (`skb_reserve`), beside what it has already.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 128)?;
    /// buffer.reserve(32)?;
    /// assert_eq!((buffer.headroom(), buffer.tailroom()), (32, 96));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`]: there is data already, linear or not. [`Error::Tailroom`]: there is not that much room.
    #[inline]
    pub fn reserve(&mut self, count: usize) -> Result<(), Error> {
        if !self.is_empty() {
            return Err(Error::NotEmpty { len: self.len() });
        }
        let available = self.tailroom();
        if count > available {
            return Err(Error::Tailroom { wanted: count, available });
        }
        // SAFETY: just checked.
        unsafe { self.reserve_unchecked(count) };
        Ok(())
    }

    /// [`reserve`](Self::reserve) without checks.
    ///
    /// # Safety
    ///
    /// The buffer is empty and has `count` bytes of tailroom.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 128)?;
    /// // SAFETY: the buffer is new and has 128 bytes.
    /// unsafe { buffer.reserve_unchecked(32) };
    /// assert_eq!(buffer.headroom(), 32);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    pub unsafe fn reserve_unchecked(&mut self, count: usize) {
        let descriptor = self.descriptor_mut();
        // SAFETY: by contract the result lies within the head.
        descriptor.data = unsafe { descriptor.data.add(count) };
    }

    /// Appends `count` bytes and returns them to be written (`skb_put`). Until then they are whatever lay there.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 128)?;
    /// buffer.put(5)?.copy_from_slice(b"hello");
    /// assert_eq!(buffer.data(), b"hello");
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NonLinear`]: the packet goes on in frags, so its end is not in the head. [`Error::Tailroom`]: there is not
    /// that much. [`Error::Shared`]: a clone uses the same head.
    #[inline]
    pub fn put(&mut self, count: usize) -> Result<&mut [u8], Error> {
        if self.is_nonlinear() {
            return Err(Error::NonLinear { data_len: self.data_len() });
        }
        let available = self.descriptor().room_behind();
        if count > available {
            return Err(Error::Tailroom { wanted: count, available });
        }
        if self.is_cloned() {
            return Err(Error::Shared);
        }
        // SAFETY: just checked.
        Ok(unsafe { self.put_unchecked(count) })
    }

    /// [`put`](Self::put) without checks (`__skb_put`).
    ///
    /// # Safety
    ///
    /// The buffer is linear, not cloned, and has `count` bytes of tailroom.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 128)?;
    /// // SAFETY: the buffer is new and has 128 bytes.
    /// unsafe { buffer.put_unchecked(2) }.copy_from_slice(b"ab");
    /// assert_eq!(buffer.data(), b"ab");
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    pub unsafe fn put_unchecked(&mut self, count: usize) -> &mut [u8] {
        let descriptor = self.descriptor_mut();
        let old_len = descriptor.len as usize;
        descriptor.len += count as u32;
        // SAFETY: by contract the bytes lie within the head and are this buffer's alone; they are initialised.
        unsafe { core::slice::from_raw_parts_mut(descriptor.data.as_ptr().add(old_len), count) }
    }

    /// Prepends `count` bytes and returns them to be written (`skb_push`). Until then they are whatever lay there: after a
    /// [`pull`](Self::pull), what was pulled off.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 128)?;
    /// buffer.reserve(16)?;
    /// buffer.put(4)?.copy_from_slice(b"body");
    /// buffer.push(5)?.copy_from_slice(b"head ");
    /// assert_eq!(buffer.data(), b"head body");
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Headroom`]: there is not that much. [`Error::Shared`]: a clone uses the same head.
    #[inline]
    pub fn push(&mut self, count: usize) -> Result<&mut [u8], Error> {
        let available = self.headroom();
        if count > available {
            return Err(Error::Headroom { wanted: count, available });
        }
        if self.is_cloned() {
            return Err(Error::Shared);
        }
        // SAFETY: just checked.
        Ok(unsafe { self.push_unchecked(count) })
    }

    /// [`push`](Self::push) without checks (`__skb_push`).
    ///
    /// # Safety
    ///
    /// The buffer is not cloned and has `count` bytes of headroom.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::rx_alloc(&memory, 128)?;
    /// // SAFETY: the buffer is new and has 64 bytes of headroom.
    /// unsafe { buffer.push_unchecked(2) }.copy_from_slice(b"ab");
    /// assert_eq!(buffer.data(), b"ab");
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    pub unsafe fn push_unchecked(&mut self, count: usize) -> &mut [u8] {
        let descriptor = self.descriptor_mut();
        descriptor.len += count as u32;
        // SAFETY: by contract the bytes lie within the head and are this buffer's alone; they are initialised.
        unsafe {
            descriptor.data = descriptor.data.sub(count);
            core::slice::from_raw_parts_mut(descriptor.data.as_ptr(), count)
        }
    }

    /// Takes `count` bytes off the front of the linear part, which become headroom (`skb_pull`), and returns the bytes
    /// that follow. Where the bytes may lie in frags, call [`may_pull`](Self::may_pull) before.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 128)?;
    /// buffer.put(9)?.copy_from_slice(b"head body");
    /// assert_eq!(buffer.pull(5)?, b"body");
    /// assert_eq!(buffer.headroom(), 5);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::PastEnd`]: the linear part is shorter.
    #[inline]
    pub fn pull(&mut self, count: usize) -> Result<&[u8], Error> {
        let available = self.head_len();
        if count > available {
            return Err(Error::PastEnd { wanted: count, available });
        }
        // SAFETY: just checked.
        unsafe { self.pull_unchecked(count) };
        Ok(self.data())
    }

    /// [`pull`](Self::pull) without checks (`__skb_pull`).
    ///
    /// # Safety
    ///
    /// The linear part has `count` bytes.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 128)?;
    /// buffer.put(3)?.copy_from_slice(b"abc");
    /// // SAFETY: three bytes were put.
    /// unsafe { buffer.pull_unchecked(2) };
    /// assert_eq!(buffer.data(), b"c");
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    pub unsafe fn pull_unchecked(&mut self, count: usize) {
        let descriptor = self.descriptor_mut();
        descriptor.len -= count as u32;
        // SAFETY: by contract the result lies within the head.
        descriptor.data = unsafe { descriptor.data.add(count) };
    }

    /// Takes `count` bytes off the front wherever they are, moving bytes of frags into the head first where needed
    /// (`pskb_pull`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, NetBuf, Zone};
    /// let mut block = Block::alloc(&memory, 0, Zone::Normal)?;
    /// block.bytes_mut()[..4].copy_from_slice(b"abcd");
    /// let mut buffer = NetBuf::alloc(&memory, 64)?;
    /// buffer.add_rx_frag(block.share(), 0, 4, 4096)?;
    /// buffer.pull_anywhere(3)?;
    /// assert_eq!(buffer.len(), 1);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::PastEnd`]: the packet is shorter. [`Error::OutOfMemory`]: a larger head was needed. The packet is as it was.
    pub fn pull_anywhere(&mut self, count: usize) -> Result<&[u8], Error> {
        self.may_pull(count)?;
        self.pull(count)
    }

    /// Cuts the packet down to its first `count` bytes, dropping or shortening frags; does nothing when it is not
    /// longer (`pskb_trim`). Clones keep their length: one with frags gets a private head first.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 128)?;
    /// buffer.put(9)?.copy_from_slice(b"head body");
    /// buffer.trim(4)?;
    /// assert_eq!(buffer.data(), b"head");
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`]: the buffer shares its frags with a clone, and there is no memory to list them anew.
    #[inline]
    pub fn trim(&mut self, count: usize) -> Result<(), Error> {
        if count >= self.len() {
            return Ok(());
        }
        if self.is_nonlinear() {
            return self.trim_frags(count);
        }
        // SAFETY: the buffer is linear and longer.
        unsafe { self.trim_unchecked(count) };
        Ok(())
    }

    /// [`trim`](Self::trim) of a linear buffer without checks (`__skb_trim`).
    ///
    /// # Safety
    ///
    /// The buffer is linear and has at least `count` bytes.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 128)?;
    /// buffer.put(3)?.copy_from_slice(b"abc");
    /// // SAFETY: three bytes were put in a linear buffer.
    /// unsafe { buffer.trim_unchecked(1) };
    /// assert_eq!(buffer.data(), b"a");
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    pub unsafe fn trim_unchecked(&mut self, count: usize) {
        self.descriptor_mut().len = count as u32;
    }

    /// The tailroom as a device may fill it: bus address and bytes. `None` when the buffer is not linear, is cloned or
    /// has no tailroom. When the device is done, [`put_received`](Self::put_received) takes the bytes in.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::rx_alloc(&memory, 1536)?;
    /// let space = buffer.receive_space().unwrap();
    /// assert_eq!(space.bytes.len(), 1536);
    /// space.bytes[..4].copy_from_slice(b"data"); // the device does this, at `space.bus_address`
    /// buffer.put_received(4)?;
    /// assert_eq!(buffer.data(), b"data");
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn receive_space(&mut self) -> Option<super::DmaSegmentMut<'_>> {
        let count = self.tailroom();
        if count == 0 || self.is_cloned() {
            return None;
        }
        let bus_address = self.bus_address_of(self.head_len());
        let descriptor = self.descriptor();
        // SAFETY: the tailroom lies within the head, its bytes are initialised, and this buffer alone uses the head.
        let bytes = unsafe {
            core::slice::from_raw_parts_mut(descriptor.data.as_ptr().add(descriptor.head_len()), count)
        };
        Some(super::DmaSegmentMut { bus_address, bytes })
    }

    /// Takes `count` bytes that a device wrote to the [`receive_space`](Self::receive_space) into the packet.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::rx_alloc(&memory, 1536)?;
    /// buffer.put_received(60)?;
    /// assert_eq!(buffer.len(), 60);
    /// assert!(buffer.put_received(1600).is_err());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put): a device's length is checked here.
    #[inline]
    pub fn put_received(&mut self, count: usize) -> Result<(), Error> {
        self.put(count).map(drop)
    }

    /// Bus address of the byte `offset` bytes behind the start of the linear data.
    pub(crate) fn bus_address_of(&self, offset: usize) -> u64 {
        let descriptor = self.descriptor();
        let (block, _) = super::head::backing(descriptor);
        let data = descriptor.data.as_ptr().addr();
        block.bus_address + (data + offset - block.pointer.as_ptr().addr()) as u64
    }

    /// Makes sure that the head may be written.
    pub(crate) fn require_unshared(&self) -> Result<(), Shared> {
        if self.is_cloned() { Err(Shared) } else { Ok(()) }
    }
}
