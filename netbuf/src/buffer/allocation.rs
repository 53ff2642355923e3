//! New buffers.

use core::ptr::NonNull;

use super::descriptor::{Contents, Descriptor, DescriptorKind, round_to_line};
use super::head::{self, Head};
use super::{NetBuf, pair};
use crate::error::OutOfMemory;
use crate::memory::slab::DESCRIPTOR_CACHE;
use crate::memory::{Inner, Memory};

/// Headroom of received buffers (`NET_SKB_PAD`): room for the headers that a reply or a tunnel pushes.
pub const RECEIVE_HEADROOM: usize = 64;

/// New buffers: with a head of a slab cache, with one of a page fragment for receiving, and in pairs.
impl NetBuf {
    /// A buffer with a linear area of `size` bytes, rounded up to the cache line, all of it tailroom (`alloc_skb`).
    /// It has no headroom until some is [reserved](Self::reserve).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let buffer = netbuf::NetBuf::alloc(&memory, 100)?;
    /// assert_eq!((buffer.len(), buffer.headroom(), buffer.tailroom()), (0, 0, 128));
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`], for more than 16 MiB in any case: neither head nor descriptor leaks.
    #[inline]
    pub fn alloc(memory: &Memory, size: usize) -> Result<Self, OutOfMemory> {
        if memory.inner().is_owner()
            && let Some((head, place)) = head::take_with_descriptor(memory.inner(), size)
        {
            // SAFETY: the place has room for a descriptor and is ours.
            return Ok(unsafe { Self::at(place, memory.inner_pointer(), &head, Contents::EMPTY) });
        }
        Self::alloc_slowly(memory, size)
    }

    #[cold]
    #[inline(never)]
    fn alloc_slowly(memory: &Memory, size: usize) -> Result<Self, OutOfMemory> {
        let owner = memory.inner().is_owner();
        let head = head::allocate(memory.inner_pointer(), size, owner)?;
        Self::with_head(memory.inner_pointer(), head, owner)
    }

    /// A buffer with its descriptor at `place`.
    ///
    /// # Safety
    ///
    /// `place` has room for a descriptor and came from the descriptor cache of `memory`; the head is the buffer's, and
    /// has what `contents` says.
    #[inline(always)]
    pub(super) unsafe fn at(
        place: NonNull<Descriptor>,
        memory: NonNull<Inner>,
        head: &Head,
        contents: Contents,
    ) -> Self {
        // SAFETY: by contract.
        unsafe { place.write(Descriptor::new(memory, DescriptorKind::Single, head, contents)) };
        Self { descriptor: place }
    }

    /// A buffer for receiving: `size` bytes of tailroom behind [`RECEIVE_HEADROOM`] bytes of headroom, in a page
    /// fragment (`dev_alloc_skb`).
    ///
    /// From a context that does not own the memory, or when no block is to be had to cut fragments from, the head comes
    /// from a slab cache.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let buffer = netbuf::NetBuf::rx_alloc(&memory, 1536)?;
    /// assert_eq!((buffer.len(), buffer.headroom(), buffer.tailroom()), (0, 64, 1536));
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]: neither head nor descriptor leaks.
    #[inline]
    pub fn rx_alloc(memory: &Memory, size: usize) -> Result<Self, OutOfMemory> {
        if memory.inner().is_owner()
            && size <= head::FRAGMENT_HEAD_MAXIMUM - RECEIVE_HEADROOM
            && let Some((head, place)) =
                head::cut_with_descriptor(memory.inner(), RECEIVE_HEADROOM + round_to_line(size))
        {
            let contents = Contents { headroom: RECEIVE_HEADROOM, ..Contents::EMPTY };
            // SAFETY: the place has room for a descriptor and is ours; the head has at least the headroom.
            return Ok(unsafe { Self::at(place, memory.inner_pointer(), &head, contents) });
        }
        Self::rx_alloc_slowly(memory, size)
    }

    #[cold]
    #[inline(never)]
    fn rx_alloc_slowly(memory: &Memory, size: usize) -> Result<Self, OutOfMemory> {
        let owner = memory.inner().is_owner();
        let bytes = size.checked_add(RECEIVE_HEADROOM).ok_or(OutOfMemory { bytes: size })?;
        let head = head::allocate_fragment(memory.inner_pointer(), bytes, owner)?;
        let mut buffer = Self::with_head(memory.inner_pointer(), head, owner)?;
        // SAFETY: the head has at least that many bytes, and the buffer is empty.
        unsafe { buffer.reserve_unchecked(RECEIVE_HEADROOM) };
        Ok(buffer)
    }

    /// A buffer whose first [clone](Self::clone_buffer) needs no allocator: its descriptor comes with a second one
    /// (`alloc_skb_fclone`). For packets that are kept while a clone travels, as TCP's. In the context that owns the memory
    /// that clone also costs no atomic instruction; other contexts take a lock.
    ///
    /// Original and clone share the head, so that headers cannot be pushed in front of either before the clone has a head
    /// of its own: see [`cow`](Self::cow).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc_fclone(&memory, 100)?;
    /// let live = memory.statistics().live_descriptors;
    /// let clone = buffer.clone_buffer()?;
    /// assert_eq!(memory.statistics().live_descriptors, live);
    /// # drop(clone);
    /// # Ok::<(), netbuf::OutOfMemory>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]: neither head nor descriptors leak.
    pub fn alloc_fclone(memory: &Memory, size: usize) -> Result<Self, OutOfMemory> {
        let inner = memory.inner_pointer();
        let owner = memory.inner().is_owner();
        let head = head::allocate(inner, size, owner)?;
        match pair::allocate(inner, head, owner) {
            Ok(descriptor) => Ok(Self { descriptor }),
            Err(error) => {
                // SAFETY: the head was just allocated, and `memory` is alive.
                unsafe { head::discard(inner, &head, owner) };
                Err(error)
            }
        }
    }

    /// A buffer with its descriptor in the general descriptor cache.
    #[inline]
    pub(super) fn with_head(memory: NonNull<Inner>, head: Head, owner: bool) -> Result<Self, OutOfMemory> {
        // SAFETY: whoever allocates keeps the memory alive.
        match unsafe { memory.as_ref() }.allocate(DESCRIPTOR_CACHE, owner) {
            // SAFETY: the object has room for a descriptor.
            Ok(object) => Ok(unsafe { Self::at(object.cast(), memory, &head, Contents::EMPTY) }),
            Err(error) => {
                // SAFETY: the head was just allocated, and the memory is alive.
                unsafe { head::discard(memory, &head, owner) };
                Err(error)
            }
        }
    }
}
