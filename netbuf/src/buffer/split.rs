//! Cutting a packet in two and joining two to one, by moving frags.

use super::descriptor::{Frag, MAX_FRAGS};
use super::frags::MAXIMUM_LEN;
use super::{NetBuf, head};
use crate::error::Error;
use crate::memory::block;

/// One packet cut in two, two joined to one.
impl NetBuf {
    /// Takes everything from byte `offset` on out of the packet, into a new buffer (`skb_split`). Bytes in frags move
    /// by reference, linear ones are copied to a head of the new buffer.
    ///
    /// Metadata stays with this buffer, the new one has none, and nobody is charged for it. Truesize moves by the number
    /// of bytes that moved in frags, and whole when no frag stays.
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
    /// [`Error::PastEnd`]: the packet is shorter. [`Error::NestedFragList`]: the buffer has a frag list.
    /// [`Error::OutOfMemory`]. The packet is as it was.
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
        // What the moved bytes pin is not known frag by frag: their own length is the least it should be, and when no frag
        // stays it is all.
        let all = i64::from(self.descriptor().truesize) - i64::from(self.descriptor().empty_truesize());
        let pinned = if keep == 0 { all } else { all.min(moved as i64) };
        second.change_truesize(pinned);
        self.change_truesize(-pinned);
        self.count_copied(linear);
        Ok(second)
    }

    /// Appends the bytes of `next` and frees it (`skb_try_coalesce`): a linear one is copied if it fits into the tailroom;
    /// of one without linear bytes the frags are moved, with the memory they pin; an empty one has nothing to add. Its metadata is lost.
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
    /// `next`, as it was, when the two cannot be joined so: no tailroom or too many frags, linear bytes before frags, a head
    /// that a clone uses, a frag list on either side.
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
        let pinned = i64::from(next.descriptor().truesize) - i64::from(next.descriptor().empty_truesize());
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
        next.change_truesize(-pinned);
        self.change_truesize(pinned);
        Ok(())
    }

    fn alloc_like(other: &Self, size: usize) -> Result<Self, Error> {
        let owner = other.inner().is_owner();
        let memory = other.descriptor().memory;
        Ok(Self::with_head(memory, head::allocate(memory, size, owner)?, owner)?)
    }
}
