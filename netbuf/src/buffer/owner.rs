//! Accounting: who pays for the memory that a buffer holds.

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

    /// A buffer that you were charged `truesize` bytes for died, was given to somebody else, or shrank by that much.
    fn discharge(&self, truesize: usize);
}
