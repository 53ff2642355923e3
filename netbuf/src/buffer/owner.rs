//! Accounting: who pays for the memory that a buffer holds.

use alloc::sync::Arc;

use super::NetBuf;
use super::descriptor::CHARGED;

/// Somebody who is charged for buffers: a socket with a budget, say. Linux's `sk` and `destructor`.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// # let memory = netbuf::host::memory();
///
/// struct Socket {
///     receive_memory: AtomicUsize,
/// }
///
/// impl netbuf::MemoryOwner for Socket {
///     fn charge(&self, truesize: usize) {
///         self.receive_memory.fetch_add(truesize, Ordering::Relaxed);
///     }
///     fn discharge(&self, truesize: usize) {
///         self.receive_memory.fetch_sub(truesize, Ordering::Relaxed);
///     }
/// }
///
/// let socket = Arc::new(Socket { receive_memory: AtomicUsize::new(0) });
/// let mut buffer = netbuf::NetBuf::alloc(&memory, 256)?;
/// buffer.set_owner(socket.clone());
/// assert_eq!(socket.receive_memory.load(Ordering::Relaxed), buffer.truesize());
/// drop(buffer);
/// assert_eq!(socket.receive_memory.load(Ordering::Relaxed), 0);
/// # Ok::<(), netbuf::OutOfMemory>(())
/// ```
pub trait MemoryOwner: Send + Sync {
    /// A buffer that holds `truesize` bytes of memory, or holds that many more now, is yours.
    fn charge(&self, truesize: usize);

    /// A buffer that you were charged `truesize` bytes for died, was given to somebody else, or shrank by that much. Of one
    /// that died in an interrupt handler you hear when a task frees it.
    fn discharge(&self, truesize: usize);
}

/// Accounting: who pays for the memory.
impl NetBuf {
    /// Memory held: descriptor, linear area, shared info, what each frag pins, and the same of each buffer on the frag
    /// list. What a slab object or a block of its own is larger than the head does not count, and more than 4 GiB less one
    /// byte are not told.
    ///
    /// What a frag pins is said when it is added, and not noted frag by frag. So when frags are dropped the truesize
    /// falls to what the others can pin at most, which is all of their blocks; without frags it is exact.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// assert_eq!(buffer.truesize(), 192 + 64 + 312);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn truesize(&self) -> usize {
        self.descriptor().truesize as usize
    }

    /// Charges the buffer's [`truesize`](Self::truesize) to somebody, whatever becomes of it: operations that change it
    /// charge or give back the difference. Whoever was charged before gets it back (`skb_set_owner_r`, `skb_set_owner_w`).
    ///
    /// The charge belongs to this one buffer: clones, copies and what is split off are nobody's.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// #[derive(Default)]
    /// struct Socket(AtomicUsize);
    ///
    /// impl netbuf::MemoryOwner for Socket {
    ///     fn charge(&self, truesize: usize) {
    ///         self.0.fetch_add(truesize, Ordering::Relaxed);
    ///     }
    ///     fn discharge(&self, truesize: usize) {
    ///         self.0.fetch_sub(truesize, Ordering::Relaxed);
    ///     }
    /// }
    ///
    /// let socket = Arc::new(Socket::default());
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.set_owner(socket.clone());
    /// buffer.expand_head(0, 1000)?;
    /// assert_eq!(socket.0.load(Ordering::Relaxed), buffer.truesize());
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    pub fn set_owner(&mut self, owner: Arc<dyn MemoryOwner>) {
        self.orphan();
        owner.charge(self.truesize());
        let descriptor = self.descriptor_mut();
        descriptor.flags |= CHARGED;
        descriptor.owner = Some(owner);
    }

    /// Gives the charge back to whoever bears it (`skb_orphan`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.orphan(); // nobody is charged: nothing happens
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn orphan(&mut self) {
        if self.descriptor().owner.is_some() {
            self.give_back_charge();
        }
    }

    /// Adds to the truesize and tells the owner. Descriptor and head are held in any case; more than 4 GiB are not told.
    #[inline]
    pub(super) fn change_truesize(&mut self, by: i64) {
        let descriptor = self.descriptor_mut();
        let old = descriptor.truesize;
        let least = i64::from(descriptor.empty_truesize());
        descriptor.truesize = u32::try_from(i64::from(old).saturating_add(by).max(least)).unwrap_or(u32::MAX);
        if let Some(owner) = &descriptor.owner {
            if descriptor.truesize >= old {
                owner.charge((descriptor.truesize - old) as usize);
            } else {
                owner.discharge((old - descriptor.truesize) as usize);
            }
        }
    }

    /// The truesize of all buffers on the frag list.
    pub(super) fn truesize_of_frag_list(&self) -> usize {
        self.frag_list().map(Self::truesize).sum()
    }

    /// Brings the truesize down after frags or buffers of the frag list were dropped; the latter held
    /// `frag_list_before` bytes together.
    pub(super) fn lower_truesize(&mut self, frag_list_before: usize) {
        let frag_list = self.truesize_of_frag_list();
        let dropped = frag_list_before.saturating_sub(frag_list);
        // SAFETY: each frag holds a reference to its block, so the header is alive.
        let blocks = self.shared_info().frags().iter().map(|frag| unsafe { frag.block.as_ref() }.block.len());
        let at_most = self.descriptor().empty_truesize() as usize + blocks.sum::<usize>() + frag_list;
        let now = self.truesize();
        let lower = now.saturating_sub(dropped).min(at_most);
        self.change_truesize(-((now - lower) as i64));
    }

    #[cold]
    pub(super) fn give_back_charge(&mut self) {
        let truesize = self.truesize();
        let descriptor = self.descriptor_mut();
        descriptor.flags &= !CHARGED;
        if let Some(owner) = descriptor.owner.take() {
            owner.discharge(truesize);
        }
    }
}
