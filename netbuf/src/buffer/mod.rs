//! The buffer: what it is, and looking at it. What can be done with it has a file for each idea.

mod allocation;
mod checksum;
mod clone;
mod copy;
mod descriptor;
mod frag_list;
mod frags;
mod freeing;
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

use crate::error::Shared;
use crate::memory::Inner;

pub use allocation::RECEIVE_HEADROOM;
pub use checksum::{checksum, combine, fold, update};
pub use clone::SharedNetBuf;
pub use descriptor::MAX_FRAGS;
use descriptor::SharedInfo;
pub(crate) use descriptor::{CACHE_LINE, Descriptor};
pub use inspect::{Backing, BufferInspection, FragInspection};
pub use metadata::{CONTROL_BLOCK_SIZE, ChecksumStatus, PacketType};
pub use owner::MemoryOwner;
pub(crate) use pair::{FclonePair, NotedPairs, settle_pairs};
pub use receive::ReceivePattern;
pub use room::IP_ALIGN;
pub use segments::{DmaSegment, DmaSegmentMut};
pub use shared_fields::Segmentation;

/// A packet buffer: one owning pointer to a descriptor.
///
/// See the [crate page](crate) for what it is made of.
#[repr(transparent)]
pub struct NetBuf {
    descriptor: NonNull<Descriptor>,
}

// SAFETY: the descriptor has one owner. What it points to is either its own, or counted (with atomics, or by the rules of
// `pair`) and read only while shared; its memory may be reached from every context.
unsafe impl Send for NetBuf {}
// SAFETY: through a shared reference everything is read only.
unsafe impl Sync for NetBuf {}

/// Looking at it: lengths, room, and the bytes of the linear part.
impl NetBuf {
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
        // SAFETY: a buffer owns a live descriptor.
        unsafe { head::is_shared(self.descriptor) }
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
