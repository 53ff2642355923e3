//! The frag list: other buffers in which the packet continues.

use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};

use super::NetBuf;
use super::descriptor::MAYBE_CLONED;
use super::frags::MAXIMUM_LEN;
use crate::error::Error;
use crate::queue::Iter;

/// The frag list: other buffers in which the packet continues.
impl NetBuf {
    /// Whether the packet continues in other buffers (`skb_has_frag_list`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// assert!(!netbuf::NetBuf::alloc(&memory, 64)?.has_frag_list());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn has_frag_list(&self) -> bool {
        !self.shared_info().frag_list().is_null()
    }

    /// The buffers in which the packet continues, in order (`skb_walk_frags`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::NetBuf;
    /// let mut first = NetBuf::alloc(&memory, 64)?;
    /// for part in [&b"body"[..], b"end"] {
    ///     let mut next = NetBuf::alloc(&memory, 64)?;
    ///     next.put(part.len())?.copy_from_slice(part);
    ///     first.append_to_frag_list(next)?;
    /// }
    /// assert_eq!(first.frag_list().map(NetBuf::data).collect::<Vec<_>>(), [&b"body"[..], b"end"]);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[must_use]
    pub fn frag_list(&self) -> Iter<'_> {
        // SAFETY: the chain belongs to this buffer's shared info, which stays as it is while it is borrowed.
        unsafe { Iter::new(self.shared_info().frag_list()) }
    }

    /// Continues the packet with another buffer (`frag_list`): so reassembly joins IP fragments without copying.
    ///
    /// `next` belongs to the packet from now on: its truesize counts in this buffer's, and whoever was charged for it
    /// gets it back. It is freed with the packet, or as soon as its last byte is trimmed off or pulled into the head. An
    /// empty one is freed at once.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::NetBuf;
    /// let mut first = NetBuf::alloc(&memory, 64)?;
    /// first.put(5)?.copy_from_slice(b"head ");
    /// let mut second = NetBuf::alloc(&memory, 64)?;
    /// second.put(4)?.copy_from_slice(b"body");
    /// first.append_to_frag_list(second)?;
    /// first.linearize()?;
    /// assert_eq!(first.data(), b"head body");
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NestedFragList`]: `next` has a frag list itself. [`Error::Shared`]: a clone uses this buffer's head, and
    /// with it the list. [`Error::TooLarge`]. The packet is as it was; `next` is freed.
    pub fn append_to_frag_list(&mut self, mut next: Self) -> Result<(), Error> {
        if next.has_frag_list() {
            return Err(Error::NestedFragList);
        }
        let (len, truesize) = (next.len(), next.truesize());
        let total = self.len() + len;
        if total > MAXIMUM_LEN {
            return Err(Error::TooLarge { bytes: total });
        }
        let info = self.shared_info_mut()?;
        if len == 0 {
            return Ok(());
        }
        next.orphan();
        let member = next.into_descriptor();
        let mut last = &raw mut *info.frag_list_mut();
        // SAFETY: the chain belongs to this buffer, which is the only user of its shared info; the new member is ours.
        unsafe {
            while let Some(descriptor) = NonNull::new(*last) {
                last = &raw mut (*descriptor.as_ptr()).next;
            }
            *last = member.as_ptr();
            // When this buffer is cloned, its members are, without being marked then.
            (*member.as_ptr()).flags |= MAYBE_CLONED;
            (*member.as_ptr()).next = ptr::null_mut();
        }
        info.frag_list_changed();
        let descriptor = self.descriptor_mut();
        descriptor.len += len as u32;
        descriptor.data_len += len as u32;
        self.change_truesize(truesize as i64);
        Ok(())
    }

    /// Makes the buffer of the frag list that byte `count` of the packet falls in private, so that cutting it there
    /// cannot fail.
    pub(super) fn unshare_member_at(&mut self, count: usize) -> Result<(), Error> {
        let info = self.shared_info();
        let in_frags: usize = info.frags().iter().map(|frag| frag.len as usize).sum();
        let mut rest = count.saturating_sub(self.head_len() + in_frags);
        let mut next = *info.frag_list();
        while let Some(member) = NonNull::new(next) {
            // SAFETY: the chain belongs to this buffer, which is the only user of its shared info and borrowed mutably.
            let mut buffer = unsafe { ManuallyDrop::new(Self::from_descriptor(member)) };
            if rest < buffer.len() {
                if rest != 0 {
                    buffer.unshare()?;
                    // A new head is marked as one buffer's; on a list it may be shared again without being marked.
                    buffer.descriptor_mut().flags |= MAYBE_CLONED;
                }
                return Ok(());
            }
            rest -= buffer.len();
            next = buffer.descriptor().next;
        }
        Ok(())
    }
}
