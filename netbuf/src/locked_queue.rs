//! Queues that several contexts use: Linux's `sk_buff_head` with its lock.

use core::fmt;

use crate::buffer::NetBuf;
use crate::queue::Queue;
use crate::sync::SpinLock;

/// A [`Queue`] behind a spin lock. While the lock is held interrupts are off, where the kernel
/// [declared](crate::context::declare_single_core) how; elsewhere it is not for interrupt handlers.
///
/// The methods have Linux's locked meanings; [`with`](Self::with) runs several unlocked ones under one hold.
///
/// ```
/// # let memory = netbuf::host::memory();
/// use netbuf::{LockedQueue, NetBuf};
/// let queue = LockedQueue::new();
/// std::thread::scope(|scope| {
///     scope.spawn(|| queue.push_back(NetBuf::alloc(&memory, 64).unwrap()));
/// });
/// assert_eq!(queue.pop_front().unwrap().tailroom(), 64);
/// ```
pub struct LockedQueue {
    queue: SpinLock<Queue>,
}

impl LockedQueue {
    /// An empty queue (`skb_queue_head_init`).
    ///
    /// ```
    /// use netbuf::LockedQueue;
    /// static BACKLOG: LockedQueue = LockedQueue::new();
    /// assert!(BACKLOG.is_empty());
    /// ```
    #[cfg(not(feature = "loom"))]
    #[must_use]
    pub const fn new() -> Self {
        Self { queue: SpinLock::new(Queue::new()) }
    }

    /// An empty queue. With loom's lock it cannot be a constant.
    ///
    /// ```
    /// assert!(netbuf::LockedQueue::new().is_empty());
    /// ```
    #[cfg(feature = "loom")]
    #[must_use]
    pub fn new() -> Self {
        Self { queue: SpinLock::new(Queue::new()) }
    }

    /// Buffers in the queue at the moment (`skb_queue_len`).
    ///
    /// ```
    /// assert_eq!(netbuf::LockedQueue::new().len(), 0);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.lock().len()
    }

    /// Whether there is none at the moment (`skb_queue_empty`).
    ///
    /// ```
    /// assert!(netbuf::LockedQueue::new().is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.lock().is_empty()
    }

    /// Adds a buffer at the end (`skb_queue_tail`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let queue = netbuf::LockedQueue::new();
    /// queue.push_back(netbuf::NetBuf::alloc(&memory, 64)?);
    /// assert_eq!(queue.len(), 1);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn push_back(&self, buffer: NetBuf) {
        self.queue.lock().push_back(buffer);
    }

    /// Adds a buffer at the front (`skb_queue_head`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let queue = netbuf::LockedQueue::new();
    /// queue.push_front(netbuf::NetBuf::alloc(&memory, 64)?);
    /// assert_eq!(queue.len(), 1);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn push_front(&self, buffer: NetBuf) {
        self.queue.lock().push_front(buffer);
    }

    /// Takes the first buffer (`skb_dequeue`).
    ///
    /// ```
    /// assert!(netbuf::LockedQueue::new().pop_front().is_none());
    /// ```
    pub fn pop_front(&self) -> Option<NetBuf> {
        self.queue.lock().pop_front()
    }

    /// Takes the last buffer (`skb_dequeue_tail`).
    ///
    /// ```
    /// assert!(netbuf::LockedQueue::new().pop_back().is_none());
    /// ```
    pub fn pop_back(&self) -> Option<NetBuf> {
        self.queue.lock().pop_back()
    }

    /// Moves all of `other` to the end (`skb_queue_splice_tail_init` under the lock).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// use netbuf::{LockedQueue, NetBuf, Queue};
    /// let queue = LockedQueue::new();
    /// let mut batch = Queue::from_iter([NetBuf::alloc(&memory, 64)?, NetBuf::alloc(&memory, 64)?]);
    /// queue.append(&mut batch);
    /// assert_eq!((queue.len(), batch.len()), (2, 0));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn append(&self, other: &mut Queue) {
        self.queue.lock().append(other);
    }

    /// Moves all of `other` to the front (`skb_queue_splice_init` under the lock).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// use netbuf::{LockedQueue, NetBuf, Queue};
    /// let queue = LockedQueue::new();
    /// queue.prepend(&mut Queue::from_iter([NetBuf::alloc(&memory, 64)?]));
    /// assert_eq!(queue.len(), 1);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn prepend(&self, other: &mut Queue) {
        self.queue.lock().prepend(other);
    }

    /// Takes everything at once: the lock is held for a moment, however many there are.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let queue = netbuf::LockedQueue::new();
    /// queue.push_back(netbuf::NetBuf::alloc(&memory, 64)?);
    /// assert_eq!(queue.take().len(), 1);
    /// assert!(queue.is_empty());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[must_use]
    pub fn take(&self) -> Queue {
        core::mem::take(&mut *self.queue.lock())
    }

    /// Frees every buffer (`skb_queue_purge`), without the lock.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let queue = netbuf::LockedQueue::new();
    /// queue.push_back(netbuf::NetBuf::alloc(&memory, 64)?);
    /// queue.clear();
    /// assert!(queue.is_empty());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn clear(&self) {
        drop(self.take());
    }

    /// Runs `work` on the queue under the lock: for peeking, walking, inserting and unlinking. Keep it short, and do not
    /// use this queue in it, nor allocate from or free to a memory whose source might wait.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let queue = netbuf::LockedQueue::new();
    /// queue.push_back(netbuf::NetBuf::alloc(&memory, 64)?);
    /// assert_eq!(queue.with(|queue| queue.front().map(netbuf::NetBuf::len)), Some(0));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn with<R>(&self, work: impl FnOnce(&mut Queue) -> R) -> R {
        work(&mut self.queue.lock())
    }
}

impl Default for LockedQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LockedQueue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LockedQueue").field("len", &self.len()).finish()
    }
}
