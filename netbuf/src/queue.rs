//! Queues of buffers: Linux's `sk_buff_head`.
//!
//! The links lie in the descriptors, so that nothing is allocated and everything but walking is O(1). Buffers in a queue
//! can be looked at in place, and changed by taking them out and putting them back.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use crate::buffer::{Descriptor, NetBuf};

/// A doubly linked list of buffers, in order. It owns them: dropping it frees them.
///
/// ```
/// # let memory = netbuf::host::memory();
/// use netbuf::{NetBuf, Queue};
/// let mut queue = Queue::new();
/// queue.push_back(NetBuf::alloc(&memory, 64)?);
/// queue.push_back(NetBuf::alloc(&memory, 128)?);
/// assert_eq!(queue.len(), 2);
/// assert_eq!(queue.pop_front().unwrap().tailroom(), 64);
/// # Ok::<(), netbuf::Error>(())
/// ```
pub struct Queue {
    pub(crate) first: *mut Descriptor,
    pub(crate) last: *mut Descriptor,
    len: usize,
}

// SAFETY: the queue owns its buffers, which may move between contexts.
unsafe impl Send for Queue {}
// SAFETY: through a shared reference the queue and its buffers are read only.
unsafe impl Sync for Queue {}

impl Queue {
    /// An empty queue (`skb_queue_head_init`).
    ///
    /// ```
    /// assert!(netbuf::Queue::new().is_empty());
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        Self { first: ptr::null_mut(), last: ptr::null_mut(), len: 0 }
    }

    /// Buffers in the queue (`skb_queue_len`).
    ///
    /// ```
    /// assert_eq!(netbuf::Queue::new().len(), 0);
    /// ```
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none (`skb_queue_empty`).
    ///
    /// ```
    /// assert!(netbuf::Queue::new().is_empty());
    /// ```
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Links `descriptor` between two neighbours, either of which may be null.
    ///
    /// # Safety
    ///
    /// The descriptor is the caller's; the neighbours are neighbours in this queue.
    #[inline]
    pub(crate) unsafe fn link(
        &mut self,
        descriptor: NonNull<Descriptor>,
        previous: *mut Descriptor,
        next: *mut Descriptor,
    ) {
        // SAFETY: by contract; the queue owns its descriptors.
        unsafe {
            (*descriptor.as_ptr()).previous = previous;
            (*descriptor.as_ptr()).next = next;
            match previous.is_null() {
                true => self.first = descriptor.as_ptr(),
                false => (*previous).next = descriptor.as_ptr(),
            }
            match next.is_null() {
                true => self.last = descriptor.as_ptr(),
                false => (*next).previous = descriptor.as_ptr(),
            }
        }
        self.len += 1;
    }

    /// Takes `descriptor` out.
    ///
    /// # Safety
    ///
    /// The descriptor is in this queue.
    #[inline]
    pub(crate) unsafe fn unlink(&mut self, descriptor: NonNull<Descriptor>) -> NetBuf {
        // SAFETY: by contract; the queue owns its descriptors, and gives this one away.
        unsafe {
            let (previous, next) = ((*descriptor.as_ptr()).previous, (*descriptor.as_ptr()).next);
            match previous.is_null() {
                true => self.first = next,
                false => (*previous).next = next,
            }
            match next.is_null() {
                true => self.last = previous,
                false => (*next).previous = previous,
            }
            (*descriptor.as_ptr()).previous = ptr::null_mut();
            (*descriptor.as_ptr()).next = ptr::null_mut();
            self.len -= 1;
            NetBuf::from_descriptor(descriptor)
        }
    }

    /// Adds a buffer at the end (`__skb_queue_tail`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut queue = netbuf::Queue::new();
    /// queue.push_back(netbuf::NetBuf::alloc(&memory, 64)?);
    /// assert_eq!(queue.len(), 1);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    pub fn push_back(&mut self, buffer: NetBuf) {
        // SAFETY: the descriptor was the caller's and is ours now.
        unsafe { self.link(buffer.into_descriptor(), self.last, ptr::null_mut()) };
    }

    /// Adds a buffer at the front (`__skb_queue_head`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut queue = netbuf::Queue::new();
    /// queue.push_front(netbuf::NetBuf::alloc(&memory, 64)?);
    /// assert_eq!(queue.len(), 1);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    pub fn push_front(&mut self, buffer: NetBuf) {
        // SAFETY: the descriptor was the caller's and is ours now.
        unsafe { self.link(buffer.into_descriptor(), ptr::null_mut(), self.first) };
    }

    /// Takes the first buffer (`__skb_dequeue`).
    ///
    /// ```
    /// assert!(netbuf::Queue::new().pop_front().is_none());
    /// ```
    #[inline]
    pub fn pop_front(&mut self) -> Option<NetBuf> {
        // SAFETY: the first descriptor is in this queue.
        NonNull::new(self.first).map(|first| unsafe { self.unlink(first) })
    }

    /// Takes the last buffer (`__skb_dequeue_tail`).
    ///
    /// ```
    /// assert!(netbuf::Queue::new().pop_back().is_none());
    /// ```
    #[inline]
    pub fn pop_back(&mut self) -> Option<NetBuf> {
        // SAFETY: the last descriptor is in this queue.
        NonNull::new(self.last).map(|last| unsafe { self.unlink(last) })
    }

    /// Looks at the first buffer (`skb_peek`).
    ///
    /// ```
    /// assert!(netbuf::Queue::new().front().is_none());
    /// ```
    #[inline]
    #[must_use]
    pub fn front(&self) -> Option<&NetBuf> {
        self.iter().next()
    }

    /// Looks at the last buffer (`skb_peek_tail`).
    ///
    /// ```
    /// assert!(netbuf::Queue::new().back().is_none());
    /// ```
    #[inline]
    #[must_use]
    pub fn back(&self) -> Option<&NetBuf> {
        if self.last.is_null() {
            return None;
        }
        // SAFETY: a buffer is nothing but the pointer to its descriptor; the queue owns it and is borrowed.
        Some(unsafe { &*(&raw const self.last).cast::<NetBuf>() })
    }

    /// Moves all of `other` to the end of this queue (`skb_queue_splice_tail_init`), in O(1).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{NetBuf, Queue};
    /// let (mut queue, mut other) = (Queue::new(), Queue::new());
    /// other.push_back(NetBuf::alloc(&memory, 64)?);
    /// queue.append(&mut other);
    /// assert_eq!((queue.len(), other.len()), (1, 0));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn append(&mut self, other: &mut Self) {
        let Self { first, last, len } = *core::mem::ManuallyDrop::new(core::mem::take(other));
        if first.is_null() {
            return;
        }
        if self.last.is_null() {
            self.first = first;
        } else {
            // SAFETY: both ends are in queues that are ours.
            unsafe {
                (*self.last).next = first;
                (*first).previous = self.last;
            }
        }
        self.last = last;
        self.len += len;
    }

    /// Moves all of `other` in front of this queue (`skb_queue_splice_init`), in O(1).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{NetBuf, Queue};
    /// let (mut queue, mut other) = (Queue::new(), Queue::new());
    /// other.push_back(NetBuf::alloc(&memory, 64)?);
    /// queue.prepend(&mut other);
    /// assert_eq!((queue.len(), other.len()), (1, 0));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn prepend(&mut self, other: &mut Self) {
        core::mem::swap(self, other);
        self.append(other);
    }

    /// Frees every buffer in the queue (`skb_queue_purge`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut queue = netbuf::Queue::new();
    /// queue.push_back(netbuf::NetBuf::alloc(&memory, 64)?);
    /// queue.clear();
    /// assert!(queue.is_empty());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn clear(&mut self) {
        while self.pop_front().is_some() {}
    }

    /// Walks the queue from the front (`skb_queue_walk`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut queue = netbuf::Queue::new();
    /// queue.push_back(netbuf::NetBuf::alloc(&memory, 64)?);
    /// assert_eq!(queue.iter().map(netbuf::NetBuf::tailroom).sum::<usize>(), 64);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        // SAFETY: the queue owns its buffers, and its links stay as they are while it is borrowed.
        unsafe { Iter::new(&self.first) }
    }
}

/// Walks a chain of buffers: from [`Queue::iter`] or [`NetBuf::frag_list`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    /// Where the pointer to the next descriptor lies.
    next: *const *mut Descriptor,
    chain: PhantomData<&'a NetBuf>,
}

impl<'a> Iter<'a> {
    /// Walks from the buffer that `first` points to, if it is not null.
    ///
    /// # Safety
    ///
    /// For `'a` the chain keeps its links, and its buffers live and are only read.
    pub(crate) unsafe fn new(first: &'a *mut Descriptor) -> Self {
        Self { next: first, chain: PhantomData }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a NetBuf;

    fn next(&mut self) -> Option<&'a NetBuf> {
        // SAFETY: the links stay as they are, as promised to `new`. A buffer is nothing but the pointer to its
        // descriptor, and such a pointer, not null, lies at `place`.
        unsafe {
            let place = self.next;
            if (*place).is_null() {
                return None;
            }
            self.next = &raw const (**place).next;
            Some(&*place.cast::<NetBuf>())
        }
    }
}

impl<'a> IntoIterator for &'a Queue {
    type Item = &'a NetBuf;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Extend<NetBuf> for Queue {
    fn extend<T: IntoIterator<Item = NetBuf>>(&mut self, buffers: T) {
        for buffer in buffers {
            self.push_back(buffer);
        }
    }
}

impl FromIterator<NetBuf> for Queue {
    fn from_iter<T: IntoIterator<Item = NetBuf>>(buffers: T) -> Self {
        let mut queue = Self::new();
        queue.extend(buffers);
        queue
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self).finish()
    }
}
