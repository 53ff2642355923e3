//! Copying: whole buffers, and ranges in and out at any offset.

use core::ptr::NonNull;

use super::{NetBuf, head};
use crate::error::{Error, OutOfMemory};
use crate::memory::block;
use crate::memory::slab::DESCRIPTOR_CACHE;

use super::clone::{clone_list, write_copy};
use super::descriptor::{Descriptor, DescriptorKind, MAYBE_CLONED, UNSET};

/// Copies: whole buffers, and ranges in and out at any offset.
impl NetBuf {
    /// Everything copied into one new linear buffer with the same headroom and metadata (`skb_copy`). Headers that were
    /// pulled off but whose offsets are known lie in the copy's headroom too. The copy is charged to nobody, and nothing
    /// is asked of a device for it ([`transmit_flags`](Self::transmit_flags)).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, NetBuf, Zone};
    /// let mut buffer = NetBuf::alloc(&memory, 64)?;
    /// buffer.put(5)?.copy_from_slice(b"head ");
    /// let mut block = Block::alloc(&memory, 0, Zone::Normal)?;
    /// block.bytes_mut()[..4].copy_from_slice(b"body");
    /// buffer.add_rx_frag(block.share(), 0, 4, 4096)?;
    /// let copy = buffer.copy()?;
    /// assert!(!copy.is_nonlinear());
    /// assert_eq!(copy.data(), b"head body");
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`].
    pub fn copy(&self) -> Result<Self, OutOfMemory> {
        let headroom = self.headroom();
        let size = (self.descriptor().end as usize)
            .checked_add(self.data_len())
            .ok_or(OutOfMemory { bytes: usize::MAX })?;
        let (mut copy, owner) = self.new_with_metadata(size, headroom)?;
        let len = self.len();
        copy.descriptor_mut().len = len as u32;
        let mut target = copy.descriptor().data;
        self.copy_headers_in_front(target);
        for segment in self.segments() {
            // SAFETY: the new head has room for `len` bytes behind the headroom, and the pieces are `len` bytes in all.
            unsafe {
                target.copy_from_nonoverlapping(segment.pointer, segment.len);
                target = target.add(segment.len);
            }
        }
        self.inner().copied_bytes.add(owner, len);
        Ok(copy)
    }

    /// A private copy of the linear part; the frags are shared by reference (`pskb_copy`), and a frag list by clones.
    /// Otherwise as [`copy`](Self::copy).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, NetBuf, Zone};
    /// let mut buffer = NetBuf::alloc(&memory, 64)?;
    /// buffer.put(5)?.copy_from_slice(b"head ");
    /// let block = Block::alloc(&memory, 0, Zone::Normal)?.share();
    /// buffer.add_rx_frag(block.clone(), 0, 4, 4096)?;
    /// let mut copy = buffer.copy_head()?;
    /// assert!(copy.data_mut().is_ok());
    /// assert_eq!(block.references(), 3);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`].
    pub fn copy_head(&self) -> Result<Self, OutOfMemory> {
        let owner = self.inner().is_owner();
        let list = clone_list(*self.shared_info().frag_list(), owner)?;
        let mut copy = match self.new_with_metadata(self.descriptor().end as usize, self.headroom()) {
            Ok((copy, _)) => copy,
            Err(error) => {
                // SAFETY: the clones are ours.
                unsafe { head::release_list(list) };
                return Err(error);
            }
        };
        self.copy_headers_in_front(copy.descriptor().data);
        let head_len = self.head_len();
        // SAFETY: the new head is as large as the old one, with the data at the same offset; it has one user.
        unsafe {
            copy.descriptor()
                .data
                .as_ptr()
                .copy_from_nonoverlapping(self.descriptor().data.as_ptr(), head_len);
            let info = copy.descriptor().shared_info().as_mut();
            info.set_frag_list(list);
            for frag in self.shared_info().frags() {
                block::get(self.inner(), frag.block, owner);
                info.push_frag(*frag);
            }
        }
        let (len, data_len) = (self.descriptor().len, self.descriptor().data_len);
        let truesize = self.descriptor().truesize;
        let descriptor = copy.descriptor_mut();
        descriptor.len = len;
        descriptor.data_len = data_len;
        // The frags' memory is pinned by the copy as well.
        descriptor.truesize = truesize;
        self.count_copied(head_len);
        Ok(copy)
    }

    /// Copies the headers that layers have taken off already, but whose offsets are known, in front of `target`: the data
    /// of a new head with the same headroom.
    #[inline]
    fn copy_headers_in_front(&self, target: NonNull<u8>) {
        let descriptor = self.descriptor();
        let offsets = [descriptor.mac_header, descriptor.network_header, descriptor.transport_header];
        if offsets == [UNSET; 3] {
            return;
        }
        let headroom = self.headroom();
        let first = offsets.iter().filter_map(|offset| (*offset as usize).checked_sub(1)).min();
        let count = headroom - first.unwrap_or(headroom).min(headroom);
        // SAFETY: both heads have the same headroom, of which `count` bytes lie right in front of the data.
        unsafe { target.sub(count).copy_from_nonoverlapping(descriptor.data.sub(count), count) };
    }

    /// A new empty buffer with room for `size` bytes, `headroom` of them reserved, and this one's metadata; and whether
    /// the caller owns the memory.
    #[inline]
    fn new_with_metadata(&self, size: usize, headroom: usize) -> Result<(Self, bool), OutOfMemory> {
        let owner = self.inner().is_owner();
        let memory = self.descriptor().memory;
        let new = head::allocate(memory, size, owner)?;
        let object = match self.inner().allocate(DESCRIPTOR_CACHE, owner) {
            Ok(object) => object,
            Err(error) => {
                // SAFETY: the head was just allocated; this buffer keeps the memory alive.
                unsafe { head::discard(memory, &new, owner) };
                return Err(error);
            }
        };
        let place = object.cast::<Descriptor>();
        // SAFETY: the object has room for a descriptor. What the copy has of the old head is replaced at once.
        unsafe {
            write_copy(self.descriptor(), place, DescriptorKind::Single);
            let descriptor = &mut *place.as_ptr();
            descriptor.head = new.pointer;
            // The new head is at least as large as the old one, whose headroom this is.
            descriptor.data = new.pointer.add(headroom);
            descriptor.end = new.end;
            descriptor.len = 0;
            descriptor.data_len = 0;
            descriptor.truesize = descriptor.empty_truesize();
            descriptor.head_source = new.source;
            descriptor.flags &= !MAYBE_CLONED;
            let info = descriptor.shared_info().as_mut();
            info.copy_fields(self.shared_info());
            // A device is asked to do with the packet what it was asked, not with copies.
            if info.fields().transmit_flags != 0 {
                info.fields_mut().transmit_flags = 0;
            }
            Ok((Self::from_descriptor(place), owner))
        }
    }

    /// Copies the bytes from `offset` on into `target` (`skb_copy_bits`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.put(9)?.copy_from_slice(b"head body");
    /// let mut target = [0; 4];
    /// buffer.copy_bits(5, &mut target)?;
    /// assert_eq!(&target, b"body");
    /// assert!(buffer.copy_bits(6, &mut target).is_err());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::PastEnd`]: nothing was copied.
    pub fn copy_bits(&self, offset: usize, target: &mut [u8]) -> Result<(), Error> {
        self.check_range(offset, target.len())?;
        let mut skip = offset;
        let mut done = 0;
        for segment in self.segments() {
            if done == target.len() {
                break;
            }
            let bytes = &segment.bytes()[skip.min(segment.len)..];
            skip -= segment.len - bytes.len();
            let count = bytes.len().min(target.len() - done);
            target[done..done + count].copy_from_slice(&bytes[..count]);
            done += count;
        }
        self.count_copied(target.len());
        Ok(())
    }

    /// The bytes from `offset` on, as many as `scratch` has: where they lie if they are linear, otherwise copied to
    /// `scratch` (`skb_header_pointer`). For looking at a header without changing the buffer, as a packet tap must.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, NetBuf, Zone};
    /// let mut block = Block::alloc(&memory, 0, Zone::Normal)?;
    /// block.bytes_mut()[..4].copy_from_slice(b"body");
    /// let mut buffer = NetBuf::alloc(&memory, 64)?;
    /// buffer.put(5)?.copy_from_slice(b"head ");
    /// buffer.add_rx_frag(block.share(), 0, 4, 4096)?;
    /// assert_eq!(buffer.header_pointer(0, &mut [0; 4])?, b"head");
    /// assert_eq!(buffer.header_pointer(3, &mut [0; 4])?, b"d bo");
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::PastEnd`]: the packet is shorter.
    #[inline]
    pub fn header_pointer<'a>(&'a self, offset: usize, scratch: &'a mut [u8]) -> Result<&'a [u8], Error> {
        let linear = self.data().get(offset..).and_then(|rest| rest.get(..scratch.len()));
        match linear {
            Some(bytes) => Ok(bytes),
            None => {
                self.copy_bits(offset, scratch)?;
                Ok(scratch)
            }
        }
    }

    /// Overwrites the bytes from `offset` on with `source` (`skb_store_bits`). Where they lie in frags, the blocks must
    /// have no other reference.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.put(9)?.copy_from_slice(b"head body");
    /// buffer.store_bits(5, b"tail")?;
    /// assert_eq!(buffer.data(), b"head tail");
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::PastEnd`], [`Error::Shared`]: nothing was written.
    pub fn store_bits(&mut self, offset: usize, source: &[u8]) -> Result<(), Error> {
        self.check_range(offset, source.len())?;
        if source.is_empty() {
            return Ok(());
        }
        self.require_unshared()?;
        let head_len = self.head_len();
        let in_head = head_len.saturating_sub(offset).min(source.len());
        if in_head < source.len() {
            self.require_exclusive_frags()?;
        }
        let mut skip = offset;
        let mut done = 0;
        for segment in self.segments() {
            if done == source.len() {
                break;
            }
            let hidden = skip.min(segment.len);
            skip -= hidden;
            let count = (segment.len - hidden).min(source.len() - done);
            // SAFETY: the piece belongs to this buffer alone, as just checked: its head has one user, and the blocks
            // of its frags have one reference each. The borrow is mutable.
            unsafe {
                let target = segment.pointer.as_ptr().add(hidden);
                target.copy_from_nonoverlapping(source.as_ptr().add(done), count);
            }
            done += count;
        }
        self.count_copied(source.len());
        Ok(())
    }

    /// Checks that `len` bytes at `offset` lie within the packet.
    pub(crate) fn check_range(&self, offset: usize, len: usize) -> Result<(), Error> {
        let wanted = offset.saturating_add(len);
        if wanted > self.len() {
            return Err(Error::PastEnd { wanted, available: self.len() });
        }
        Ok(())
    }

    pub(crate) fn count_copied(&self, bytes: usize) {
        let inner = self.inner();
        inner.copied_bytes.add(inner.is_owner(), bytes);
    }
}
