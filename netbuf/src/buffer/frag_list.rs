//! The frag list: other buffers in which the packet continues.

use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};

use super::NetBuf;
use super::descriptor::MAYBE_CLONED;
use super::frags::MAXIMUM_LEN;
use crate::error::Error;

impl NetBuf {
    /// Whether the packet continues in other buffers.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// assert!(!netbuf::NetBuf::alloc(&memory, 64)?.has_frag_list());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn has_frag_list(&self) -> bool {
        self.shared_info().has_list != 0
    }

    /// Continues the packet with another buffer (`skb_frag_list`): so reassembly joins IP fragments without copying.
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
    /// [`Error::NestedFragList`], [`Error::Shared`], [`Error::TooLarge`]; `next` is freed.
    pub fn append_to_frag_list(&mut self, next: Self) -> Result<(), Error> {
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
        let member = next.into_descriptor();
        let mut last = &raw mut info.frag_list;
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
        info.has_list = 1;
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
        let mut next = info.frag_list;
        while let Some(member) = NonNull::new(next) {
            // SAFETY: the chain belongs to this buffer, which is the only user of its shared info and borrowed mutably.
            let mut buffer = unsafe { ManuallyDrop::new(Self::from_descriptor(member)) };
            if rest < buffer.len() {
                return if rest == 0 { Ok(()) } else { Ok(buffer.unshare()?) };
            }
            rest -= buffer.len();
            next = buffer.descriptor().next;
        }
        Ok(())
    }
}
