//! Frags: pieces of page blocks that continue the linear part.

use core::ptr::{self, NonNull};

use super::descriptor::{Descriptor, Frag, MAX_FRAGS};
use super::{NetBuf, head};
use crate::error::{Error, Shared};
use crate::memory::block::{self, SharedBlock};

/// Frags: pieces of page blocks that continue the linear part.
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

    /// One more reference to the block of frag `index`, and the byte of it that the frag begins with (`skb_frag_ref`,
    /// `skb_frag_page`, `skb_frag_off`): so another buffer carries the same bytes on.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, NetBuf, Zone};
    /// let mut received = NetBuf::alloc(&memory, 64)?;
    /// received.add_rx_frag(Block::alloc(&memory, 0, Zone::Normal)?.share(), 100, 1000, 4096)?;
    ///
    /// // A relay sends the payload without its first ten bytes on another connection.
    /// let mut sent = NetBuf::alloc(&memory, 64)?;
    /// let (block, offset) = received.frag_block(0).unwrap();
    /// sent.add_rx_frag(block, offset + 10, 990, 4096)?;
    /// assert_eq!(sent.frag(0), received.frag(0).map(|bytes| &bytes[10..]));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[must_use]
    pub fn frag_block(&self, index: usize) -> Option<(SharedBlock, usize)> {
        let frag = self.shared_info().frags().get(index)?;
        // SAFETY: the frag holds a reference, so the header is alive; the handle gets one of its own.
        unsafe { block::get(self.inner(), frag.block, self.inner().is_owner()) };
        Some((SharedBlock { header: frag.block }, frag.offset as usize))
    }

    /// Appends `len` bytes at `offset` of `block` to the packet (`skb_add_rx_frag`), taking over the reference.
    /// `truesize` says how many bytes of memory the frag pins: of a block that several packets share, a part. When the
    /// range continues the last frag, that one grows, and the reference is given up. No bytes are no frag.
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
    /// [`Error::OutsideBlock`]; [`Error::TooManyFrags`]: there are [`MAX_FRAGS`]; [`Error::Shared`]: a clone uses the same
    /// list of frags; [`Error::NonLinear`]: the packet goes on in a frag list, which a frag cannot come behind;
    /// [`Error::TooLarge`]. The reference is given up, the buffer is as it was.
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
        let mut link = &raw mut *info.frag_list_mut();
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
        info.frag_list_changed();
        let descriptor = self.descriptor_mut();
        descriptor.len = count as u32;
        descriptor.data_len = count.saturating_sub(head_len) as u32;
        self.lower_truesize(list_before);
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
        let mut next = *self.shared_info().frag_list();
        let mut all = exclusive(self.descriptor());
        while let Some(member) = NonNull::new(next) {
            // SAFETY: the chain belongs to this buffer's shared info, which is borrowed.
            unsafe {
                all &= !head::is_shared(member) && exclusive(member.as_ref());
                next = member.as_ref().next;
            }
        }
        if all { Ok(()) } else { Err(Shared) }
    }
}

/// More bytes than that a buffer does not describe, so that sums of lengths fit in 32 bits.
pub(super) const MAXIMUM_LEN: usize = 1 << 30;
