//! Working in the middle of a queue: `skb_insert`, `skb_append`, `skb_unlink`, and walks in both directions that may
//! remove what they meet.

use core::fmt;
use core::ptr::NonNull;

use crate::buffer::{Descriptor, NetBuf};
use crate::queue::Queue;

/// A place in a queue: at a buffer, or past the end.
///
/// ```
/// # let memory = netbuf::host::memory();
/// use netbuf::{NetBuf, Queue};
/// // Keep a queue sorted by priority.
/// let mut queue = Queue::new();
/// for priority in [3, 1, 2] {
///     let mut buffer = NetBuf::alloc(&memory, 64)?;
///     buffer.set_priority(priority);
///     let mut cursor = queue.cursor();
///     while cursor.current().is_some_and(|other| other.priority() < priority) {
///         cursor.advance();
///     }
///     cursor.insert_before(buffer);
/// }
/// assert_eq!(queue.iter().map(NetBuf::priority).collect::<Vec<_>>(), [1, 2, 3]);
/// # Ok::<(), netbuf::Error>(())
/// ```
pub struct Cursor<'a> {
    queue: &'a mut Queue,
    /// Null: past the end.
    current: *mut Descriptor,
}

impl Queue {
    /// A cursor at the first buffer.
    ///
    /// ```
    /// assert!(netbuf::Queue::new().cursor().current().is_none());
    /// ```
    pub fn cursor(&mut self) -> Cursor<'_> {
        let current = self.first;
        Cursor { queue: self, current }
    }

    /// A cursor at the last buffer, to walk backwards (`skb_queue_reverse_walk`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{NetBuf, Queue};
    /// let mut queue = Queue::from_iter([NetBuf::alloc(&memory, 64)?, NetBuf::alloc(&memory, 128)?]);
    /// let mut cursor = queue.cursor_back();
    /// assert_eq!(cursor.current().map(|buffer| buffer.tailroom()), Some(128));
    /// cursor.retreat();
    /// assert_eq!(cursor.current().map(|buffer| buffer.tailroom()), Some(64));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn cursor_back(&mut self) -> Cursor<'_> {
        let current = self.last;
        Cursor { queue: self, current }
    }
}

impl Cursor<'_> {
    /// The buffer here; `None` past the end.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{NetBuf, Queue};
    /// let mut queue = Queue::from_iter([NetBuf::alloc(&memory, 64)?]);
    /// assert_eq!(queue.cursor().current().map(|buffer| buffer.tailroom()), Some(64));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[must_use]
    pub fn current(&self) -> Option<&NetBuf> {
        if self.current.is_null() {
            return None;
        }
        // SAFETY: a buffer is nothing but the pointer to its descriptor, which the queue owns and keeps while the
        // cursor is borrowed. It is lent for reading only: whoever could replace it would unlink it behind the queue's
        // back.
        Some(unsafe { &*(&raw const self.current).cast::<NetBuf>() })
    }

    /// Goes to the next buffer; behind the last one it is past the end, and stays there.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{NetBuf, Queue};
    /// let mut queue = Queue::from_iter([NetBuf::alloc(&memory, 64)?]);
    /// let mut cursor = queue.cursor();
    /// cursor.advance();
    /// assert!(cursor.current().is_none());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn advance(&mut self) {
        if let Some(current) = NonNull::new(self.current) {
            // SAFETY: the descriptor is in the queue.
            self.current = unsafe { (*current.as_ptr()).next };
        }
    }

    /// Goes to the previous buffer; from past the end to the last one. In front of the first there is none: the cursor is
    /// past the end then.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{NetBuf, Queue};
    /// let mut queue = Queue::from_iter([NetBuf::alloc(&memory, 64)?]);
    /// let mut cursor = queue.cursor();
    /// cursor.retreat();
    /// assert!(cursor.current().is_none());
    /// cursor.retreat();
    /// assert!(cursor.current().is_some());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn retreat(&mut self) {
        self.current = match NonNull::new(self.current) {
            // SAFETY: the descriptor is in the queue.
            Some(current) => unsafe { (*current.as_ptr()).previous },
            None => self.queue.last,
        };
    }

    /// Adds a buffer in front of this place (`skb_insert`); at the end of the queue when the cursor is past it.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{NetBuf, Queue};
    /// let mut queue = Queue::from_iter([NetBuf::alloc(&memory, 128)?]);
    /// queue.cursor().insert_before(NetBuf::alloc(&memory, 64)?);
    /// assert_eq!(queue.iter().map(NetBuf::tailroom).collect::<Vec<_>>(), [64, 128]);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn insert_before(&mut self, buffer: NetBuf) {
        let previous = match NonNull::new(self.current) {
            // SAFETY: the descriptor is in the queue.
            Some(current) => unsafe { (*current.as_ptr()).previous },
            None => self.queue.last,
        };
        // SAFETY: the new descriptor is ours; the other two are neighbours in the queue.
        unsafe { self.queue.link(buffer.into_descriptor(), previous, self.current) };
    }

    /// Adds a buffer behind this place (`skb_append`); at the front of the queue when the cursor is past the end.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{NetBuf, Queue};
    /// let mut queue = Queue::from_iter([NetBuf::alloc(&memory, 128)?]);
    /// queue.cursor().insert_after(NetBuf::alloc(&memory, 64)?);
    /// assert_eq!(queue.iter().map(NetBuf::tailroom).collect::<Vec<_>>(), [128, 64]);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn insert_after(&mut self, buffer: NetBuf) {
        let next = match NonNull::new(self.current) {
            // SAFETY: the descriptor is in the queue.
            Some(current) => unsafe { (*current.as_ptr()).next },
            None => self.queue.first,
        };
        // SAFETY: the new descriptor is ours; the other two are neighbours in the queue.
        unsafe { self.queue.link(buffer.into_descriptor(), self.current, next) };
    }

    /// Takes the buffer here out of the queue (`skb_unlink`) and goes to the next one: so a walk may remove what it
    /// meets (`skb_queue_walk_safe`). `None` past the end.
    ///
    /// To change a buffer in the queue, take it out, change it, and put it back with
    /// [`insert_before`](Self::insert_before).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{NetBuf, Queue};
    /// let mut queue = Queue::from_iter([NetBuf::alloc(&memory, 64)?, NetBuf::alloc(&memory, 128)?]);
    /// let mut cursor = queue.cursor();
    /// assert_eq!(cursor.remove().map(|buffer| buffer.tailroom()), Some(64));
    /// assert_eq!(cursor.current().map(|buffer| buffer.tailroom()), Some(128));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn remove(&mut self) -> Option<NetBuf> {
        let current = NonNull::new(self.current)?;
        // SAFETY: the descriptor is in the queue.
        unsafe {
            self.current = (*current.as_ptr()).next;
            Some(self.queue.unlink(current))
        }
    }
}

impl fmt::Debug for Cursor<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cursor").field("current", &self.current()).finish()
    }
}
