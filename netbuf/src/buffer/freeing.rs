//! The end of a buffer: at once from a task, later from an interrupt handler.

use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use super::descriptor::Descriptor;
use super::{NetBuf, head};
use crate::context;

/// The end of a buffer. Dropping it does what the caller's context allows.
impl NetBuf {
    /// Frees the buffer from a task (`dev_kfree_skb`). In an interrupt handler use [`free_irq`](Self::free_irq), or
    /// [`free_any`](Self::free_any) where both may call; dropping a buffer does the same as `free_any`.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// netbuf::NetBuf::alloc(&memory, 64)?.free();
    /// assert_eq!(memory.statistics().live_descriptors, 0);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    pub fn free(self) {
        drop(self);
    }

    /// Puts the buffer on its memory's list of those that a task frees later (`dev_kfree_skb_irq`): no lock is taken,
    /// nothing is released, the caller's time is bounded.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// netbuf::NetBuf::alloc(&memory, 64)?.free_irq();
    /// assert_eq!(memory.statistics().live_descriptors, 1);
    /// assert_eq!(memory.free_deferred(), 1);
    /// assert_eq!(memory.statistics().live_descriptors, 0);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn free_irq(self) {
        let descriptor = self.into_descriptor();
        // SAFETY: the buffer was ours; the list owns it now.
        unsafe { descriptor.as_ref().memory.as_ref().defer(descriptor) };
    }

    /// Frees the buffer at once from a task, later from an interrupt handler (`dev_kfree_skb_any`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// netbuf::NetBuf::alloc(&memory, 64)?.free_any();
    /// assert_eq!(memory.statistics().live_descriptors, 0);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    pub fn free_any(self) {
        drop(self);
    }
}

impl Drop for NetBuf {
    /// As [`free_any`](Self::free_any).
    #[inline]
    fn drop(&mut self) {
        // The most frequent end in line; all others elsewhere.
        let inner = self.inner();
        if inner.is_owner() && self.descriptor().is_plain() {
            // SAFETY: the buffer owns its descriptor and ends here, and the caller owns the memory.
            if unsafe { head::free_plain(inner, self.descriptor) } {
                return;
            }
        }
        // SAFETY: the buffer ends here.
        unsafe { Self::free_slowly(self.descriptor) };
    }
}

impl NetBuf {
    /// Frees a buffer in whatever way its parts and the context ask for.
    ///
    /// # Safety
    ///
    /// The caller owns the descriptor, and it is not touched again.
    #[inline(never)]
    unsafe fn free_slowly(descriptor: NonNull<Descriptor>) {
        // SAFETY: the descriptor is alive, and keeps its memory alive, until freed below.
        let (this, inner) = unsafe { (descriptor.as_ref(), descriptor.as_ref().memory.as_ref()) };
        // SAFETY: the buffer owns its descriptor and ends here, in the owner's context where that is asked for.
        unsafe {
            if !inner.is_owner() || this.owner.is_some() {
                return Self::free_elsewhere(descriptor);
            }
            head::free_buffer(descriptor, true);
        }
    }

    /// [`free_slowly`](Self::free_slowly) in contexts that do not own the memory, and of buffers that somebody is charged
    /// for.
    ///
    /// # Safety
    ///
    /// As there.
    #[cold]
    #[inline(never)]
    unsafe fn free_elsewhere(descriptor: NonNull<Descriptor>) {
        // SAFETY: as in `free_slowly`; in an interrupt handler the list owns the descriptor from now on.
        unsafe {
            if context::in_interrupt() {
                descriptor.as_ref().memory.as_ref().defer(descriptor);
                return;
            }
            if descriptor.as_ref().owner.is_some() {
                ManuallyDrop::new(Self { descriptor }).give_back_charge();
            }
            // Asked for here: whoever was charged may have dropped the last handle.
            head::free_buffer(descriptor, descriptor.as_ref().memory.as_ref().is_owner());
        }
    }
}
