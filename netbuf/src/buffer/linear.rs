//! Moving bytes of frags and frag list into the head.

use core::ptr::{self, NonNull};

use super::NetBuf;
use super::descriptor::SharedInfo;
use crate::error::{Error, Shared};
use crate::memory::block;

impl SharedInfo {
    /// Removes the first `count` frags, whose references the caller has dealt with.
    fn drop_first(&mut self, count: usize) {
        self.frags_mut().copy_within(count.., 0);
        self.frag_count -= count as u8;
    }
}

/// Bytes of frags and frag list moved into the head.
impl NetBuf {
    /// Makes sure that the first `count` bytes are linear, moving bytes from the frags to the end of the head where
    /// needed (`pskb_may_pull`). After that, headers up to there can be read from [`data`](Self::data).
    ///
    /// A clone gets a private head for that, and other clones keep theirs.
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
    /// [`Error::PastEnd`]: the packet is shorter. [`Error::OutOfMemory`]: a larger head was needed. The packet is as it was.
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
        // The lengths first: what follows calls the owner, who may panic.
        self.descriptor_mut().data_len -= more as u32;
        Ok(self.drop_from_front_of_frags(more)?)
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
    /// [`Error::OutOfMemory`], for packets of more than 16 MiB in any case: the packet is as it was.
    pub fn linearize(&mut self) -> Result<(), Error> {
        self.may_pull(self.len())
    }

    /// Makes sure that the first `count` bytes are linear and this buffer's alone (`skb_ensure_writable`), so that headers
    /// up to there can be written through [`data_mut`](Self::data_mut).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.put(4)?.copy_from_slice(b"head");
    /// let clone = buffer.clone_buffer()?;
    /// buffer.make_writable(4)?;
    /// buffer.data_mut()?[0] = b'r';
    /// assert_eq!((buffer.data(), clone.data()), (&b"read"[..], &b"head"[..]));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`may_pull`](Self::may_pull).
    pub fn make_writable(&mut self, count: usize) -> Result<(), Error> {
        self.may_pull(count)?;
        Ok(self.unshare()?)
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
            let Some(member) = NonNull::new(*info.frag_list()) else { break };
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
}
