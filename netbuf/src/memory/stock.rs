//! References to a block kept in stock, so that most of them are taken and given up without an atomic instruction.

use core::ptr::{self, NonNull};

use super::block::{BlockHeader, retire};
use crate::sync::{AtomicPtr, AtomicU32, Ordering};

/// References to one block that the owner context holds in reserve, so that it can hand them out and take them back
/// without atomic instructions. Two of them exist: one for the block that heads are cut from, and one for the block
/// that was shared last, which is the one whose packets are being received and freed.
///
/// References in stock count as references. When *all* of a block's are in stock, nobody uses the block.
pub(crate) struct Stock {
    block: AtomicPtr<BlockHeader>,
    count: AtomicU32,
}

/// What became of a reference offered to a [`Stock`].
pub(crate) enum Offer {
    /// It is in stock.
    Kept,
    /// It is in stock, as are all other references to the block.
    Last,
    /// The stock is of another block: the reference is still the caller's.
    Refused,
}

impl Stock {
    pub(crate) fn new() -> Self {
        Self { block: AtomicPtr::new(ptr::null_mut()), count: AtomicU32::new(0) }
    }

    /// The block it is of. From contexts other than the owner this is only a hint.
    #[inline]
    pub(crate) fn block(&self) -> Option<NonNull<BlockHeader>> {
        NonNull::new(self.block.load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Fills an empty stock with `count` references that the caller owns. Only for the owner, as all that follows.
    pub(crate) fn fill(&self, header: NonNull<BlockHeader>, count: u32) {
        self.count.store(count, Ordering::Relaxed);
        self.block.store(header.as_ptr(), Ordering::Release);
    }

    /// Adds references that the caller owns.
    #[inline]
    pub(crate) fn add(&self, count: u32) {
        self.count.store(self.count().wrapping_add(count), Ordering::Relaxed);
    }

    /// Takes a reference to `header` out, if it is of this block and has one to spare; it keeps the last one.
    #[inline]
    pub(crate) fn take(&self, header: NonNull<BlockHeader>) -> bool {
        let count = self.count();
        if self.block.load(Ordering::Relaxed) != header.as_ptr() || count < 2 {
            return false;
        }
        self.count.store(count - 1, Ordering::Relaxed);
        true
    }

    /// Offers a reference that the caller owns.
    #[inline]
    pub(crate) fn offer(&self, header: NonNull<BlockHeader>) -> Offer {
        if self.block.load(Ordering::Relaxed) != header.as_ptr() {
            return Offer::Refused;
        }
        let count = self.count() + 1;
        self.count.store(count, Ordering::Relaxed);
        // SAFETY: the caller owns a reference, so the header is alive.
        if unsafe { header.as_ref() }.references() == count { Offer::Last } else { Offer::Kept }
    }

    /// Whether nobody but this stock references its block.
    pub(crate) fn has_all(&self) -> bool {
        // SAFETY: the stock holds references, so the header is alive.
        self.block().is_some_and(|header| unsafe { header.as_ref() }.references() == self.count())
    }

    /// Empties the stock: block and references are the caller's.
    pub(crate) fn empty(&self) -> Option<(NonNull<BlockHeader>, u32)> {
        let header = NonNull::new(self.block.swap(ptr::null_mut(), Ordering::Acquire))?;
        Some((header, self.count.swap(0, Ordering::Relaxed)))
    }

    /// Gives up everything in stock; the block is retired if that was all of its references.
    #[cold]
    pub(crate) fn flush(&self) {
        if let Some((header, count)) = self.empty() {
            // SAFETY: the stock's references are ours; without references the block is nobody's.
            unsafe {
                if header.as_ref().drop_references(count) {
                    retire(header);
                }
            }
        }
    }
}
