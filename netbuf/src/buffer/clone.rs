//! Sharing: clones of a buffer, private copies of shared heads, and handles to one descriptor.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::{self, NonNull};

use super::descriptor::{CHARGED, Descriptor, DescriptorKind, MAYBE_CLONED, SharedInfo, UNSET};
use super::{CACHE_LINE, NetBuf, head, pair};
use crate::error::OutOfMemory;
use crate::memory::block;
use crate::memory::slab::DESCRIPTOR_CACHE;
use crate::sync::{AtomicU32, Ordering, look};

/// Writes a copy of `source` to `place`, as a buffer of its own kind without links and owner.
///
/// # Safety
///
/// `place` has room for a descriptor and is the caller's; the caller accounts for the new user of the head.
#[inline(always)]
pub(super) unsafe fn write_copy(source: &Descriptor, place: NonNull<Descriptor>, kind: DescriptorKind) {
    let place = place.as_ptr();
    // SAFETY: by contract. The first two cache lines hold plain values and pointers; the owner is not copied.
    unsafe {
        #[cfg(not(feature = "loom"))]
        {
            // All but the eighth word: other handles may be counting `users`, which lies there too, at this moment.
            const { assert!(core::mem::offset_of!(Descriptor, head_source) == 56) };
            let (from, to) = (ptr::from_ref(source).cast::<u64>(), place.cast::<u64>());
            to.cast::<[u64; 7]>().write(from.cast::<[u64; 7]>().read());
            to.add(8).cast::<[u64; 8]>().write(from.add(8).cast::<[u64; 8]>().read());
        }
        #[cfg(feature = "loom")]
        ptr::copy_nonoverlapping(source, place, 1);
        // Source of the head, kind, packet type and flags in one store. Freeing loads them in one, and a processor cannot
        // hand such a load what four narrower stores have still under way: it would wait for them.
        let kept = u32::from_ne_bytes([0xff, 0, 0xff, !CHARGED]);
        let own = u32::from_ne_bytes([0, kind as u8, 0, MAYBE_CLONED]);
        let offset = core::mem::offset_of!(Descriptor, head_source);
        let word = ptr::from_ref(source).byte_add(offset).cast::<u32>().read() & kept | own;
        place.byte_add(offset).cast::<u32>().write(word);
        (*place).control_block = source.control_block;
        (&raw mut (*place).owner).write(None);
        (*place).next = ptr::null_mut();
        (*place).previous = ptr::null_mut();
        (&raw mut (*place).users).write(AtomicU32::new(1));
    }
}

/// A clone with a descriptor of its own, when other contexts may be cloning or freeing users of the head.
fn clone_single(source: &Descriptor, owner: bool) -> Result<NetBuf, OutOfMemory> {
    // SAFETY: a live descriptor keeps its memory alive.
    let object = unsafe { source.memory.as_ref() }.allocate(DESCRIPTOR_CACHE, owner)?;
    let descriptor = object.cast::<Descriptor>();
    // SAFETY: the object is new; the new user is counted right below, while `source` keeps the head alive.
    unsafe {
        write_copy(source, descriptor, DescriptorKind::Single);
        (*source.shared_info().as_ptr()).dataref.fetch_add(1, Ordering::Relaxed);
        Ok(NetBuf::from_descriptor(descriptor))
    }
}

/// Sharing: clones on the same bytes, private heads, and several handles to one descriptor.
impl NetBuf {
    /// A second buffer with a descriptor of its own on the same head and frags (`skb_clone`). The bytes are read only
    /// while both live; lengths, offsets and metadata are each one's own. The first clone of a buffer from
    /// [`alloc_fclone`](Self::alloc_fclone) needs no allocator. The owner to whom the buffer is charged stays with it.
    ///
    /// It takes `&mut self` because it notes in this buffer that the head is shared now.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.put(9)?.copy_from_slice(b"head body");
    /// let mut clone = buffer.clone_buffer()?;
    /// clone.pull(5)?;
    /// assert_eq!((buffer.data(), clone.data()), (&b"head body"[..], &b"body"[..]));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]: no descriptor left.
    pub fn clone_buffer(&mut self) -> Result<Self, OutOfMemory> {
        let clone = self.clone_unmarked()?;
        // After the copy, and only once: a byte just written would delay reading the words around it.
        if self.descriptor().flags & MAYBE_CLONED == 0 {
            self.descriptor_mut().flags |= MAYBE_CLONED;
        }
        Ok(clone)
    }

    fn clone_unmarked(&mut self) -> Result<Self, OutOfMemory> {
        let owner = self.inner().is_owner();
        if self.descriptor().kind == DescriptorKind::Original {
            // SAFETY: the kind says that it is half of a pair; a place that is taken is ours.
            unsafe {
                if let Some(place) = pair::take_clone(self.descriptor, owner) {
                    write_copy(self.descriptor(), place, DescriptorKind::Clone);
                    return Ok(Self::from_descriptor(place));
                }
            }
        }
        if self.is_cloned() {
            return clone_single(self.descriptor(), owner);
        }
        let object = self.inner().allocate(DESCRIPTOR_CACHE, owner)?;
        let descriptor = object.cast::<Descriptor>();
        // SAFETY: the object is new. This buffer is the only user of the head, so nobody else writes the count.
        unsafe {
            write_copy(self.descriptor(), descriptor, DescriptorKind::Single);
            (*self.descriptor().shared_info().as_ptr()).dataref.store(2, Ordering::Relaxed);
            Ok(Self::from_descriptor(descriptor))
        }
    }

    /// A private head with `headroom` more bytes in front and `tailroom` more behind, the same data and frags
    /// (`pskb_expand_head`). Header offsets, checksum state and metadata stay right. Slices of the old head, which in C one
    /// must remember to fetch anew, end before, since they borrow the buffer.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.put(4)?.copy_from_slice(b"body");
    /// let clone = buffer.clone_buffer()?;
    /// buffer.expand_head(16, 0)?;
    /// buffer.push(5)?.copy_from_slice(b"head ");
    /// assert_eq!(buffer.data(), b"head body");
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]: the buffer is as it was.
    pub fn expand_head(&mut self, headroom: usize, tailroom: usize) -> Result<(), OutOfMemory> {
        let owner = self.inner().is_owner();
        let memory = self.descriptor().memory;
        let old_end = self.descriptor().end as usize;
        let size = [headroom, tailroom, old_end].iter().try_fold(0_usize, |sum, part| sum.checked_add(*part));
        let new = head::allocate(memory, size.ok_or(OutOfMemory { bytes: usize::MAX })?, owner)?;
        let used = self.headroom() + self.head_len();
        // SAFETY: both heads have that many bytes, the new one behind `headroom` more.
        unsafe {
            ptr::copy_nonoverlapping(
                self.descriptor().head.as_ptr(),
                new.pointer.as_ptr().add(headroom),
                used,
            );
        }
        // SAFETY: nobody else knows the new head.
        let new_info = unsafe { new.shared_info().as_mut() };
        if let Err(error) = self.move_shared_info(new_info, owner) {
            // SAFETY: the head was just allocated; this buffer keeps the memory alive.
            unsafe { head::discard(memory, &new, owner) };
            return Err(error);
        }
        // What lay in the headroom was copied, too, but it is not part of the packet and does not count.
        self.inner().copied_bytes.add(owner, self.head_len());
        let data_offset = self.headroom() + headroom;
        // SAFETY: this buffer owns its descriptor, whose head is replaced right below.
        unsafe { head::leave(self.descriptor, owner) };
        let descriptor = self.descriptor_mut();
        descriptor.head = new.pointer;
        // SAFETY: the old offset plus `headroom` lies within the new head.
        descriptor.data = unsafe { new.pointer.add(data_offset) };
        descriptor.end = new.end;
        descriptor.head_source = new.source;
        descriptor.flags &= !MAYBE_CLONED;
        for offset in
            [&mut descriptor.mac_header, &mut descriptor.network_header, &mut descriptor.transport_header]
        {
            if *offset != UNSET {
                *offset += headroom as u32;
            }
        }
        if descriptor.checksum_status == super::metadata::PARTIAL {
            descriptor.checksum += headroom as u32;
        }
        self.change_truesize(i64::from(new.end) - old_end as i64);
        Ok(())
    }

    /// Moves frags and list to the shared info of a new head; copies the references when clones keep the old one.
    fn move_shared_info(&mut self, new: &mut SharedInfo, owner: bool) -> Result<(), OutOfMemory> {
        let cloned = self.is_cloned();
        let old_place = self.descriptor().shared_info();
        // SAFETY: this buffer keeps its shared info alive; it is read only while shared.
        let old = unsafe { old_place.as_ref() };
        let list = if cloned { clone_list(*old.frag_list(), owner)? } else { *old.frag_list() };
        new.set_frag_list(list);
        new.copy_fields(old);
        for frag in old.frags() {
            if cloned {
                // SAFETY: the frag holds a reference, so its block is alive.
                unsafe { block::get(self.inner(), frag.block, owner) };
            }
            new.push_frag(*frag);
        }
        if !cloned {
            // List and references changed hands.
            // SAFETY: this buffer is the only user.
            let old = unsafe { &mut *old_place.as_ptr() };
            old.set_frag_list(ptr::null_mut());
            old.frag_count = 0;
        }
        Ok(())
    }

    /// Makes the head private if a clone uses it too (`skb_unshare`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.put(1)?;
    /// let clone = buffer.clone_buffer()?;
    /// assert!(buffer.data_mut().is_err());
    /// buffer.unshare()?;
    /// assert!(buffer.data_mut().is_ok());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]: the buffer is as it was.
    pub fn unshare(&mut self) -> Result<(), OutOfMemory> {
        if self.is_cloned() { self.expand_head(0, 0) } else { Ok(()) }
    }

    /// Makes sure of a private head with at least `headroom` bytes in front of the data (`skb_cow`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// // What is kept for retransmission has its payload in frags; each transmission gets headers of its own.
    /// # use netbuf::{Block, Error, NetBuf, Zone};
    /// let mut kept = NetBuf::alloc_fclone(&memory, 0)?;
    /// kept.add_rx_frag(Block::alloc(&memory, 0, Zone::Normal)?.share(), 0, 1460, 4096)?;
    /// let mut sent = kept.clone_buffer()?;
    /// assert_eq!(sent.push(20), Err(Error::Headroom { wanted: 20, available: 0 }));
    /// sent.cow(20)?;
    /// sent.push(20)?.fill(0);
    /// assert_eq!((kept.len(), sent.len(), memory.copied_bytes()), (1460, 1480, 0));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]: the buffer is as it was.
    pub fn cow(&mut self, headroom: usize) -> Result<(), OutOfMemory> {
        let more = headroom.saturating_sub(self.headroom());
        if more == 0 && !self.is_cloned() {
            return Ok(());
        }
        let more = more.checked_next_multiple_of(CACHE_LINE).ok_or(OutOfMemory { bytes: usize::MAX })?;
        self.expand_head(more, 0)
    }

    /// Makes this one of several handles to the same descriptor (`skb_get`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let shared = netbuf::NetBuf::alloc(&memory, 64)?.share();
    /// let second = shared.clone();
    /// assert_eq!(shared.users(), 2);
    /// drop(second);
    /// let mut buffer = shared.share_check()?; // the only handle: the same buffer
    /// buffer.put(1)?;
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[must_use]
    pub fn share(self) -> SharedNetBuf {
        let mut buffer = self;
        // Handles clone the buffer without being able to mark it.
        buffer.descriptor_mut().flags |= MAYBE_CLONED;
        SharedNetBuf { descriptor: buffer.into_descriptor() }
    }
}

/// Clones of a chain of buffers.
pub(super) fn clone_list(mut next: *const Descriptor, owner: bool) -> Result<*mut Descriptor, OutOfMemory> {
    let mut first: *mut Descriptor = ptr::null_mut();
    let mut last: *mut Descriptor = ptr::null_mut();
    // SAFETY: the chain belongs to a shared info that the caller keeps alive; it is read only while shared.
    while let Some(member) = unsafe { next.as_ref() } {
        next = member.next;
        match clone_single(member, owner) {
            Ok(clone) => {
                let clone = clone.into_descriptor().as_ptr();
                if last.is_null() {
                    first = clone;
                } else {
                    // SAFETY: the clones so far are ours.
                    unsafe { (*last).next = clone };
                }
                last = clone;
            }
            Err(error) => {
                // SAFETY: the clones so far are ours.
                unsafe { head::release_list(first) };
                return Err(error);
            }
        }
    }
    Ok(first)
}

/// Counts of handles from here on are not trusted to come back: see [`SharedNetBuf::users`].
const TOO_MANY: u32 = 1 << 31;
/// What such a count is set to, far from both ends of its range.
const SATURATED: u32 = 3 << 30;

/// One of several handles to the same descriptor: readable by all, writable by none. Linux's `users` count.
///
/// It is what a packet tap gets: the very buffer, as long as it does not change it.
///
/// ```
/// # let memory = netbuf::host::memory();
/// let mut received = netbuf::NetBuf::rx_alloc(&memory, 64)?;
/// received.put(5)?.copy_from_slice(b"hello");
/// let packet = received.share();
/// let tap = packet.clone();
/// let mut buffer = packet.share_check()?; // the stack's: a clone, for the tap has the descriptor
/// buffer.pull(5)?;
/// assert_eq!(tap.data(), b"hello"); // everything that only reads is at hand
/// # Ok::<(), netbuf::Error>(())
/// ```
pub struct SharedNetBuf {
    descriptor: NonNull<Descriptor>,
}

// SAFETY: the count is atomic, and through the handles everything is read only.
unsafe impl Send for SharedNetBuf {}
// SAFETY: as above.
unsafe impl Sync for SharedNetBuf {}

impl SharedNetBuf {
    fn descriptor(&self) -> &Descriptor {
        // SAFETY: a handle keeps the descriptor alive.
        unsafe { self.descriptor.as_ref() }
    }

    /// How many handles there are.
    ///
    /// Handles that are forgotten are never given up. Should they be 2^31, the count stays there, and the buffer is never
    /// freed: as with Linux's `refcount_t`, a leak and nothing worse.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// assert_eq!(netbuf::NetBuf::alloc(&memory, 64)?.share().users(), 1);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[must_use]
    pub fn users(&self) -> u32 {
        self.descriptor().users.load(Ordering::Acquire)
    }

    /// A buffer to work with (`skb_share_check`): the very buffer if this is the only handle, a clone otherwise.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let shared = netbuf::NetBuf::alloc(&memory, 64)?.share();
    /// let tap = shared.clone();
    /// let buffer = shared.share_check()?;
    /// assert!(buffer.is_cloned()); // the tap still reads the head
    /// # drop(tap);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]: no descriptor for the clone. The handle is gone then, as in Linux.
    pub fn share_check(self) -> Result<NetBuf, OutOfMemory> {
        if self.users() == 1 {
            let descriptor = ManuallyDrop::new(self).descriptor;
            // SAFETY: this was the only handle.
            return Ok(unsafe { NetBuf::from_descriptor(descriptor) });
        }
        // SAFETY: a handle keeps memory and descriptor alive.
        let owner = unsafe { self.descriptor().memory.as_ref() }.is_owner();
        clone_single(self.descriptor(), owner)
    }
}

impl Deref for SharedNetBuf {
    type Target = NetBuf;

    fn deref(&self) -> &NetBuf {
        // SAFETY: a buffer is nothing but the pointer to its descriptor, and so is this handle; shared references to
        // a buffer are read only.
        unsafe { &*(&raw const self.descriptor).cast::<NetBuf>() }
    }
}

impl Clone for SharedNetBuf {
    fn clone(&self) -> Self {
        let users = &self.descriptor().users;
        if users.fetch_add(1, Ordering::Relaxed) >= TOO_MANY {
            users.store(SATURATED, Ordering::Relaxed);
        }
        Self { descriptor: self.descriptor }
    }
}

impl Drop for SharedNetBuf {
    fn drop(&mut self) {
        let users = &self.descriptor().users;
        // No atomic write when nobody else is left to see it.
        if look(users) != 1 {
            let before = users.fetch_sub(1, Ordering::AcqRel);
            if before >= TOO_MANY {
                users.store(SATURATED, Ordering::Relaxed);
            }
            if before != 1 {
                return;
            }
            users.store(1, Ordering::Relaxed);
        }
        // SAFETY: that was the last handle.
        drop(unsafe { NetBuf::from_descriptor(self.descriptor) });
    }
}

impl fmt::Debug for SharedNetBuf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

#[cfg(all(test, feature = "host", not(feature = "loom")))]
mod tests {
    use crate::NetBuf;
    use crate::sync::Ordering;

    #[test]
    fn more_handles_than_can_be_counted_keep_the_buffer() {
        let memory = crate::host::memory();
        let first = NetBuf::alloc(&memory, 64).map(NetBuf::share).expect("memory");
        // As if all others had been forgotten.
        first.descriptor().users.store(u32::MAX, Ordering::Relaxed);
        let handles = [(); 3].map(|()| first.clone());
        drop(handles);
        assert!(first.users() >= super::TOO_MANY);
        assert_eq!(memory.statistics().live_descriptors, 1);
        first.descriptor().users.store(1, Ordering::Relaxed);
    }
}
