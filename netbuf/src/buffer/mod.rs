//! The buffer: allocation, freeing, and looking at it.

mod checksum;
mod clone;
mod copy;
mod descriptor;
mod frag_list;
mod frags;
pub(crate) mod head;
mod headers;
mod inspect;
mod linear;
mod metadata;
mod owner;
mod pair;
mod receive;
mod room;
mod segments;
mod shared_fields;
mod split;

use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use crate::context;
use crate::error::{OutOfMemory, Shared};
use crate::memory::slab::DESCRIPTOR_CACHE;
use crate::memory::{Inner, Memory};

pub use checksum::{checksum, combine, fold, update};
pub use clone::SharedNetBuf;
pub use descriptor::MAX_FRAGS;
pub(crate) use descriptor::{CACHE_LINE, Descriptor};
use descriptor::{Contents, DescriptorKind, SharedInfo, round_to_line};
use head::Head;
pub use inspect::{Backing, BufferInspection, FragInspection};
pub use metadata::{CONTROL_BLOCK_SIZE, ChecksumStatus, PacketType};
pub use owner::MemoryOwner;
pub(crate) use pair::{FclonePair, NotedPairs, settle_pairs};
pub use receive::ReceivePattern;
pub use room::IP_ALIGN;
pub use segments::{DmaSegment, DmaSegmentMut};
pub use shared_fields::Segmentation;

/// Headroom of received buffers (`NET_SKB_PAD`): room for the headers that a reply or a tunnel pushes.
pub const RECEIVE_HEADROOM: usize = 64;

/// A packet buffer: one owning pointer to a descriptor.
///
/// See the [crate page](crate) for what it is made of.
#[repr(transparent)]
pub struct NetBuf {
    descriptor: NonNull<Descriptor>,
}

// SAFETY: the descriptor has one owner. What it points to is either its own, or counted with atomics and read only
// while shared; its memory may be reached from every context.
unsafe impl Send for NetBuf {}
// SAFETY: through a shared reference everything is read only.
unsafe impl Sync for NetBuf {}

impl NetBuf {
    /// A buffer with a linear area of `size` bytes, rounded up to the cache line, all of it tailroom (`alloc_skb`).
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
    /// [`OutOfMemory`]: neither head nor descriptor leaks.
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
    unsafe fn at(
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
    /// (`alloc_skb_fclone`). For packets that are kept while a clone travels, as TCP's.
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
    fn with_head(memory: NonNull<Inner>, head: Head, owner: bool) -> Result<Self, OutOfMemory> {
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

    /// The buffer of a descriptor.
    ///
    /// # Safety
    ///
    /// The descriptor is alive and the caller owns it; the returned buffer does from now on.
    #[inline]
    pub(crate) unsafe fn from_descriptor(descriptor: NonNull<Descriptor>) -> Self {
        Self { descriptor }
    }

    /// The descriptor, which the caller owns from now on.
    #[inline]
    pub(crate) fn into_descriptor(self) -> NonNull<Descriptor> {
        ManuallyDrop::new(self).descriptor
    }

    #[inline]
    pub(crate) fn descriptor(&self) -> &Descriptor {
        // SAFETY: a buffer owns a live descriptor.
        unsafe { self.descriptor.as_ref() }
    }

    #[inline]
    pub(crate) fn descriptor_mut(&mut self) -> &mut Descriptor {
        // SAFETY: a buffer owns a live descriptor, and the buffer is borrowed mutably.
        unsafe { self.descriptor.as_mut() }
    }

    #[inline]
    pub(crate) fn inner(&self) -> &Inner {
        // SAFETY: a live descriptor keeps its memory alive.
        unsafe { self.descriptor().memory.as_ref() }
    }

    #[inline]
    pub(crate) fn shared_info(&self) -> &SharedInfo {
        // SAFETY: a live descriptor keeps its head and shared info alive; nobody writes it while it is borrowed: only
        // the sole user of the head does, through a mutable borrow.
        unsafe { self.descriptor().shared_info().as_ref() }
    }

    /// The memory, for use while something else of the buffer is borrowed, and whether the caller owns it.
    #[inline]
    pub(crate) fn memory_and_owner(&self) -> (NonNull<Inner>, bool) {
        (self.descriptor().memory, self.inner().is_owner())
    }

    /// The shared info, when this buffer is its only user.
    #[inline]
    pub(crate) fn shared_info_mut(&mut self) -> Result<&mut SharedInfo, Shared> {
        if self.is_cloned() {
            return Err(Shared);
        }
        // SAFETY: this buffer is the only user of the head and is borrowed mutably.
        Ok(unsafe { self.descriptor().shared_info().as_mut() })
    }

    /// Bytes in the packet: linear part, frags and frag list (`skb->len`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 100)?;
    /// buffer.put(60)?;
    /// assert_eq!(buffer.len(), 60);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.descriptor().len as usize
    }

    /// Whether there is no byte in the packet.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// assert!(netbuf::NetBuf::alloc(&memory, 100)?.is_empty());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.descriptor().len == 0
    }

    /// Bytes outside the linear part (`skb->data_len`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, NetBuf, Zone};
    /// let mut buffer = NetBuf::alloc(&memory, 100)?;
    /// buffer.put(14)?;
    /// buffer.add_rx_frag(Block::alloc(&memory, 0, Zone::Normal)?.share(), 0, 1000, 4096)?;
    /// assert_eq!((buffer.len(), buffer.data_len(), buffer.head_len()), (1014, 1000, 14));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn data_len(&self) -> usize {
        self.descriptor().data_len as usize
    }

    /// Bytes in the linear part (`skb_headlen`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 100)?;
    /// buffer.put(60)?;
    /// assert_eq!(buffer.head_len(), 60);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn head_len(&self) -> usize {
        self.descriptor().head_len()
    }

    /// Whether some of the bytes lie in frags or the frag list (`skb_is_nonlinear`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// assert!(!netbuf::NetBuf::alloc(&memory, 100)?.is_nonlinear());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn is_nonlinear(&self) -> bool {
        self.descriptor().data_len != 0
    }

    /// Bytes in front of the data (`skb_headroom`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 100)?;
    /// buffer.reserve(16)?;
    /// assert_eq!(buffer.headroom(), 16);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.descriptor().headroom()
    }

    /// Bytes behind the data; none when the buffer is not linear (`skb_tailroom`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.put(14)?;
    /// assert_eq!(buffer.tailroom(), 50);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn tailroom(&self) -> usize {
        if self.is_nonlinear() { 0 } else { self.descriptor().room_behind() }
    }

    /// The bytes of the linear part.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.put(4)?.copy_from_slice(b"head");
    /// assert_eq!(buffer.data(), b"head");
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn data(&self) -> &[u8] {
        let descriptor = self.descriptor();
        #[cfg(feature = "loom")]
        self.shared_info().bytes.with(|_| ());
        // SAFETY: `data .. data + head_len` lies within the head, whose bytes are initialised, and nobody writes them:
        // not this buffer, for it is borrowed, and not another, for heads in use by several are read only.
        unsafe { core::slice::from_raw_parts(descriptor.data.as_ptr(), descriptor.head_len()) }
    }

    /// The bytes of the linear part, to be written.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.put(4)?.copy_from_slice(b"head");
    /// buffer.data_mut()?[0] = b'r';
    /// assert_eq!(buffer.data(), b"read");
    ///
    /// let clone = buffer.clone_buffer()?;
    /// assert_eq!(buffer.data_mut(), Err(netbuf::Shared));
    /// drop(clone);
    /// assert!(buffer.data_mut().is_ok());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Shared`]: a clone uses the same head; see [`unshare`](Self::unshare).
    #[inline]
    pub fn data_mut(&mut self) -> Result<&mut [u8], Shared> {
        if self.is_cloned() {
            return Err(Shared);
        }
        let descriptor = self.descriptor();
        #[cfg(feature = "loom")]
        self.shared_info().bytes.with_mut(|_| ());
        // SAFETY: as in `data`; this buffer is the only user of the head and is borrowed mutably.
        Ok(unsafe { core::slice::from_raw_parts_mut(descriptor.data.as_ptr(), descriptor.head_len()) })
    }

    /// Whether another buffer uses the same head (`skb_cloned`), so that it must not be written.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// assert!(!buffer.is_cloned());
    /// let clone = buffer.clone_buffer()?;
    /// assert!(buffer.is_cloned() && clone.is_cloned());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn is_cloned(&self) -> bool {
        head::is_shared(self.descriptor())
    }

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
    /// The most frequent end in line; all others elsewhere.
    #[inline]
    fn drop(&mut self) {
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

impl fmt::Debug for NetBuf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NetBuf")
            .field("headroom", &self.headroom())
            .field("head_len", &self.head_len())
            .field("data_len", &self.data_len())
            .field("tailroom", &self.tailroom())
            .field("frags", &self.frag_count())
            .field("cloned", &self.is_cloned())
            .field("truesize", &self.truesize())
            .finish()
    }
}
