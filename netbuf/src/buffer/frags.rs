//! Frags and the frag list: adding, moving into the head, cutting, splitting and joining.

use core::ptr::{self, NonNull};

use super::descriptor::{Descriptor, Frag, MAX_FRAGS, SharedInfo};
use super::{NetBuf, head};
use crate::error::{Error, Shared};
use crate::memory::block::{self, SharedBlock};

impl SharedInfo {
    /// Appends a frag, whose reference the shared info owns from now on. There must be room.
    pub(super) fn push_frag(&mut self, frag: Frag) {
        self.frags[self.frag_count as usize].write(frag);
        self.frag_count += 1;
    }

    /// Removes the first `count` frags, whose references the caller has dealt with.
    fn drop_first(&mut self, count: usize) {
        self.frags_mut().copy_within(count.., 0);
        self.frag_count -= count as u8;
    }
}

impl NetBuf {
    /// Frags in the buffer.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// assert_eq!(netbuf::NetBuf::alloc(&memory, 64)?.frag_count(), 0);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn frag_count(&self) -> usize {
        self.shared_info().frag_count as usize
    }

    /// The bytes of frag `index` (`kmap_skb_frag`; in one address space nothing needs mapping).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, NetBuf, Zone};
    /// let mut buffer = NetBuf::alloc(&memory, 64)?;
    /// buffer.add_rx_frag(Block::alloc(&memory, 0, Zone::Normal)?.share(), 10, 20, 4096)?;
    /// assert_eq!(buffer.frag(0).unwrap().len(), 20);
    /// assert!(buffer.frag(1).is_none());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[must_use]
    pub fn frag(&self, index: usize) -> Option<&[u8]> {
        let frag = self.shared_info().frags().get(index)?;
        // SAFETY: the frag holds a reference to its block and lies within it; a shared block is read only.
        Some(unsafe { core::slice::from_raw_parts(frag.pointer().as_ptr(), frag.len as usize) })
    }

    /// Appends `len` bytes at `offset` of `block` to the packet (`skb_add_rx_frag`), taking over the reference.
    /// `truesize` says how much memory the frag pins. When the range continues the last frag, that one grows.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, NetBuf, Zone};
    /// let block = Block::alloc(&memory, 1, Zone::Normal)?.share();
    /// let mut buffer = NetBuf::alloc(&memory, 64)?;
    /// let before = buffer.truesize();
    /// buffer.add_rx_frag(block.clone(), 0, 1500, 4096)?;
    /// assert_eq!((buffer.len(), buffer.truesize()), (1500, before + 4096));
    /// assert!(buffer.add_rx_frag(block, 8000, 1500, 4096).is_err()); // past the end of the block
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::OutsideBlock`], [`Error::TooManyFrags`], [`Error::Shared`], [`Error::TooLarge`]; the reference is given
    /// up, the buffer is as it was.
    pub fn add_rx_frag(
        &mut self,
        block: SharedBlock,
        offset: usize,
        len: usize,
        truesize: usize,
    ) -> Result<(), Error> {
        let end = offset.saturating_add(len);
        if end > block.len() {
            return Err(Error::OutsideBlock { end, block_len: block.len() });
        }
        let total = self.len().saturating_add(len);
        if total > MAXIMUM_LEN {
            return Err(Error::TooLarge { bytes: total });
        }
        let has_list = self.has_frag_list();
        let info = self.shared_info_mut()?;
        if len == 0 {
            return Ok(());
        }
        if has_list {
            // The list continues the packet; a frag would come before it.
            return Err(Error::NonLinear { data_len: self.data_len() });
        }
        let grown = match info.frags_mut().last_mut() {
            Some(last)
                if last.block == block.header && last.offset as usize + last.len as usize == offset =>
            {
                last.len += len as u32;
                true
            }
            _ => false,
        };
        if !grown {
            let frags = info.frag_count as usize;
            if frags == MAX_FRAGS {
                return Err(Error::TooManyFrags { frags });
            }
            let header = block.header;
            core::mem::forget(block);
            info.push_frag(Frag { block: header, offset: offset as u32, len: len as u32 });
        }
        let descriptor = self.descriptor_mut();
        descriptor.len += len as u32;
        descriptor.data_len += len as u32;
        self.change_truesize(i64::try_from(truesize).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Makes sure that the first `count` bytes are linear, moving bytes from the frags to the end of the head where
    /// needed (`pskb_may_pull`). After that, headers up to there can be read from [`data`](Self::data).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, NetBuf, Zone};
    /// let mut block = Block::alloc(&memory, 0, Zone::Normal)?;
    /// block.bytes_mut()[..6].copy_from_slice(b"header");
    /// let mut buffer = NetBuf::alloc(&memory, 64)?;
    /// buffer.add_rx_frag(block.share(), 0, 100, 4096)?;
    /// assert_eq!(buffer.data(), b"");
    /// buffer.may_pull(6)?;
    /// assert_eq!(buffer.data(), b"header");
    /// assert_eq!(buffer.len(), 100);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::PastEnd`]: the packet is shorter. [`Error::OutOfMemory`]: a larger head was needed.
    #[inline]
    pub fn may_pull(&mut self, count: usize) -> Result<(), Error> {
        if count <= self.head_len() {
            return Ok(());
        }
        self.pull_tail(count)
    }

    #[cold]
    fn pull_tail(&mut self, count: usize) -> Result<(), Error> {
        self.check_range(0, count)?;
        let head_len = self.head_len();
        let more = count - head_len;
        if self.is_cloned() || self.descriptor().room_behind() < more {
            self.expand_head(0, more.saturating_sub(self.descriptor().room_behind()))?;
        }
        self.unshare_member_at(count)?;
        let descriptor = self.descriptor();
        // SAFETY: there are `more` bytes behind the linear data, the head is this buffer's alone, and no piece of the
        // packet lies there.
        let target = unsafe { core::slice::from_raw_parts_mut(descriptor.data.as_ptr().add(head_len), more) };
        self.copy_bits(head_len, target)?;
        self.drop_from_front_of_frags(more)?;
        self.descriptor_mut().data_len -= more as u32;
        Ok(())
    }

    /// Moves everything into the head (`skb_linearize`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, NetBuf, Zone};
    /// let mut buffer = NetBuf::alloc(&memory, 64)?;
    /// buffer.add_rx_frag(Block::alloc(&memory, 0, Zone::Normal)?.share(), 0, 100, 4096)?;
    /// buffer.linearize()?;
    /// assert_eq!((buffer.head_len(), buffer.data_len()), (100, 0));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`]: the buffer is as it was.
    pub fn linearize(&mut self) -> Result<(), Error> {
        self.may_pull(self.len())
    }

    /// Drops the first `count` bytes behind the linear part. The head is not shared and there are that many bytes.
    fn drop_from_front_of_frags(&mut self, count: usize) -> Result<(), Shared> {
        let list_before = self.truesize_of_frag_list();
        let (memory, owner) = self.memory_and_owner();
        let info = self.shared_info_mut()?;
        let mut rest = count;
        let mut whole = 0;
        for frag in info.frags_mut() {
            if rest == 0 {
                break;
            }
            let take = rest.min(frag.len as usize);
            frag.offset += take as u32;
            frag.len -= take as u32;
            rest -= take;
            if frag.len == 0 {
                // SAFETY: the frag held a reference, and is taken off below.
                unsafe { block::put(memory.as_ref(), frag.block, owner) };
                whole += 1;
            }
        }
        info.drop_first(whole);
        while rest != 0 {
            let Some(member) = NonNull::new(info.frag_list) else { break };
            // SAFETY: the list owns its members; a member that is used up is taken off and freed. One that is not is
            // cut by its own means, without needing memory: what its head has is pulled, then its frags are shortened.
            unsafe {
                let len = (*member.as_ptr()).len as usize;
                if len <= rest {
                    info.set_frag_list((*member.as_ptr()).next);
                    (*member.as_ptr()).next = ptr::null_mut();
                    drop(Self::from_descriptor(member));
                    rest -= len;
                } else {
                    let mut buffer = core::mem::ManuallyDrop::new(Self::from_descriptor(member));
                    let linear = rest.min(buffer.head_len());
                    buffer.pull_unchecked(linear);
                    rest -= linear;
                    if rest != 0 {
                        buffer.drop_from_front_of_frags(rest)?;
                        let descriptor = buffer.descriptor_mut();
                        descriptor.len -= rest as u32;
                        descriptor.data_len -= rest as u32;
                        rest = 0;
                    }
                }
            }
        }
        self.lower_truesize(list_before);
        Ok(())
    }

    /// [`trim`](Self::trim) of a buffer with frags that is longer than `count`.
    #[cold]
    pub(super) fn trim_frags(&mut self, count: usize) -> Result<(), Error> {
        self.unshare()?;
        self.unshare_member_at(count)?;
        let list_before = self.truesize_of_frag_list();
        let head_len = self.head_len();
        let mut rest = count.saturating_sub(head_len);
        let (memory, owner) = self.memory_and_owner();
        let info = self.shared_info_mut()?;
        let mut keep = 0;
        for frag in info.frags_mut() {
            if rest == 0 {
                // SAFETY: the frag held a reference, and is taken off below.
                unsafe { block::put(memory.as_ref(), frag.block, owner) };
                continue;
            }
            keep += 1;
            frag.len = frag.len.min(rest as u32);
            rest -= frag.len as usize;
        }
        info.frag_count = keep;
        let mut link = &raw mut info.frag_list;
        // SAFETY: the chain belongs to this buffer, which is the only user of its shared info.
        unsafe {
            while rest != 0 {
                let Some(member) = NonNull::new(*link) else { break };
                let mut buffer = core::mem::ManuallyDrop::new(Self::from_descriptor(member));
                if rest < buffer.len() {
                    buffer.trim(rest)?;
                }
                rest -= buffer.len();
                link = &raw mut (*member.as_ptr()).next;
            }
            head::release_list(core::mem::replace(&mut *link, ptr::null_mut()));
        }
        info.has_list = u8::from(!info.frag_list.is_null());
        let descriptor = self.descriptor_mut();
        descriptor.len = count as u32;
        descriptor.data_len = count.saturating_sub(head_len) as u32;
        self.lower_truesize(list_before);
        Ok(())
    }

    /// Takes everything from byte `offset` on out of the packet, into a new buffer (`skb_split`). Bytes in frags move
    /// by reference, linear ones are copied.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut first = netbuf::NetBuf::alloc(&memory, 64)?;
    /// first.put(9)?.copy_from_slice(b"head body");
    /// let second = first.split(5)?;
    /// assert_eq!((first.data(), second.data()), (&b"head "[..], &b"body"[..]));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::PastEnd`], [`Error::OutOfMemory`], and [`Error::NestedFragList`] when the buffer has a frag list;
    /// the buffer is as it was.
    pub fn split(&mut self, offset: usize) -> Result<Self, Error> {
        self.check_range(offset, 0)?;
        if self.has_frag_list() {
            return Err(Error::NestedFragList);
        }
        self.unshare()?;
        let linear = self.head_len().saturating_sub(offset);
        let mut second = Self::alloc_like(self, linear)?;
        second.put(linear)?.copy_from_slice(&self.data()[self.head_len() - linear..]);
        let mut before = offset.saturating_sub(self.head_len());
        let mut moved = 0;
        let (memory, owner) = self.memory_and_owner();
        let info = self.shared_info_mut()?;
        let mut keep = 0;
        for frag in info.frags_mut() {
            let stays = before.min(frag.len as usize);
            before -= stays;
            let goes = frag.len as usize - stays;
            if goes != 0 {
                let piece = Frag { block: frag.block, offset: frag.offset + stays as u32, len: goes as u32 };
                if stays != 0 {
                    // SAFETY: the frag holds a reference, so its block is alive.
                    unsafe { block::get(memory.as_ref(), frag.block, owner) };
                }
                second.shared_info_mut()?.push_frag(piece);
                moved += goes;
            }
            frag.len = stays as u32;
            keep += u8::from(stays != 0);
        }
        info.frag_count = keep;
        let descriptor = self.descriptor_mut();
        descriptor.len -= (linear + moved) as u32;
        descriptor.data_len -= moved as u32;
        let descriptor = second.descriptor_mut();
        descriptor.len += moved as u32;
        descriptor.data_len += moved as u32;
        // What the moved bytes pin is not known frag by frag: their own length is the least it can be, and when no frag
        // stays it is all.
        let pinned = match keep {
            0 => i64::from(self.descriptor().truesize) - i64::from(self.descriptor().empty_truesize()),
            _ => moved as i64,
        };
        second.change_truesize(pinned);
        self.change_truesize(-pinned);
        self.count_copied(linear);
        Ok(second)
    }

    /// Appends the bytes of `next` by moving its frags, or by copying a linear one into the tailroom
    /// (`skb_try_coalesce`). When neither is possible, `next` comes back.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, NetBuf, Zone};
    /// let mut first = NetBuf::alloc(&memory, 64)?;
    /// first.put(5)?.copy_from_slice(b"head ");
    /// let mut second = NetBuf::alloc(&memory, 64)?;
    /// second.put(4)?.copy_from_slice(b"body");
    /// assert!(first.try_coalesce(second).is_ok());
    /// assert_eq!(first.data(), b"head body");
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `next`, when the buffers cannot be joined so.
    pub fn try_coalesce(&mut self, mut next: Self) -> Result<(), Self> {
        if self.is_cloned() || next.is_cloned() || self.has_frag_list() || next.has_frag_list() {
            return Err(next);
        }
        let len = next.len();
        if self.len() + len > MAXIMUM_LEN {
            return Err(next);
        }
        if len == 0 {
            return Ok(());
        }
        if !next.is_nonlinear() && len <= self.tailroom() {
            if let Ok(room) = self.put(len) {
                room.copy_from_slice(next.data());
                self.count_copied(len);
                return Ok(());
            }
            return Err(next);
        }
        let frags = self.frag_count() + next.frag_count();
        if next.head_len() != 0 || frags > MAX_FRAGS {
            return Err(next);
        }
        let pinned = next.truesize() - (next.descriptor().empty_truesize() as usize).min(next.truesize());
        if let (Ok(mine), Ok(its)) = (self.shared_info_mut(), next.shared_info_mut()) {
            for frag in its.frags() {
                mine.push_frag(*frag);
            }
            its.frag_count = 0;
        }
        let descriptor = next.descriptor_mut();
        descriptor.len = 0;
        descriptor.data_len = 0;
        let descriptor = self.descriptor_mut();
        descriptor.len += len as u32;
        descriptor.data_len += len as u32;
        next.change_truesize(-(pinned as i64));
        self.change_truesize(pinned as i64);
        Ok(())
    }

    /// Makes sure that the blocks of all frags have no other reference, those of the frag list included.
    pub(super) fn require_exclusive_frags(&self) -> Result<(), Shared> {
        let exclusive = |descriptor: &Descriptor| {
            // SAFETY: a live descriptor keeps its shared info, and that the blocks of its frags, alive.
            let frags = unsafe { descriptor.shared_info().as_ref() }.frags();
            // SAFETY: as above.
            frags.iter().all(|frag| unsafe { block::references(frag.block) } == 1)
        };
        let mut next: *const Descriptor = self.shared_info().frag_list;
        let mut all = exclusive(self.descriptor());
        // SAFETY: the chain belongs to this buffer's shared info.
        while let Some(member) = unsafe { next.as_ref() } {
            all &= !head::is_shared(member) && exclusive(member);
            next = member.next;
        }
        if all { Ok(()) } else { Err(Shared) }
    }

    fn alloc_like(other: &Self, size: usize) -> Result<Self, Error> {
        let owner = other.inner().is_owner();
        let memory = other.descriptor().memory;
        Ok(Self::with_head(memory, head::allocate(memory, size, owner)?, owner)?)
    }
}

/// More bytes than that a buffer does not describe, so that sums of lengths fit in 32 bits.
pub(super) const MAXIMUM_LEN: usize = 1 << 30;
