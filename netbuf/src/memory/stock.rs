//! References to a block kept in stock, so that most of them are taken and given up without an atomic instruction.

use core::ptr::{self, NonNull};

use super::block::{BlockHeader, retire};
use crate::sync::{AtomicPtr, AtomicUsize, Ordering};

/// References taken at once for the stock: more than can ever be handed out.
const STOCK: usize = 1 << (usize::BITS - 2);

/// References to one block that the owner context took at once, so that it can hand them out and take them back without
/// atomic instructions. Two of them exist: one for the block that heads are cut from, and one for the block that was
/// shared last, which is the one whose packets are being received and freed.
///
/// References in stock count as references: when the block has no others, nobody uses it. Others may come and go past
/// the stock, in other contexts, so only the block's own count tells that for sure.
pub(crate) struct Stock {
    block: AtomicPtr<BlockHeader>,
    /// References handed out and not come back.
    out: AtomicUsize,
}

/// What became of a reference offered to a [`Stock`].
pub(crate) enum Offer {
    /// It is in stock, and others are out.
    Kept,
    /// It is in stock, as are all others that were handed out.
    Last,
    /// The stock is of another block: the reference is still the caller's.
    Refused,
}

impl Stock {
    pub(crate) fn new() -> Self {
        Self { block: AtomicPtr::new(ptr::null_mut()), out: AtomicUsize::new(0) }
    }

    /// The block it is of. From contexts other than the owner this is only a hint.
    #[inline]
    pub(crate) fn block(&self) -> Option<NonNull<BlockHeader>> {
        NonNull::new(self.block.load(Ordering::Acquire))
    }

    /// [`block`](Self::block) for the owner, who knows that there is one.
    ///
    /// # Safety
    ///
    /// The stock is of a block.
    #[inline(always)]
    pub(crate) unsafe fn block_unchecked(&self) -> NonNull<BlockHeader> {
        // SAFETY: by contract.
        unsafe { NonNull::new_unchecked(self.block.load(Ordering::Relaxed)) }
    }

    #[inline(always)]
    fn out(&self) -> usize {
        self.out.load(Ordering::Relaxed)
    }

    /// References in stock.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        STOCK - self.out()
    }

    /// Fills an empty stock with all references to a block that nobody else knows, `out` of which are the caller's. Only
    /// for the owner, as all that follows.
    pub(crate) fn fill(&self, header: NonNull<BlockHeader>, out: usize) {
        // SAFETY: whoever knows a block keeps its header alive.
        unsafe { header.as_ref() }.set_references(STOCK);
        self.out.store(out, Ordering::Relaxed);
        self.block.store(header.as_ptr(), Ordering::Release);
    }

    /// Whether it is of this block.
    #[inline(always)]
    pub(crate) fn is_of(&self, header: NonNull<BlockHeader>) -> bool {
        self.block.load(Ordering::Relaxed) == header.as_ptr()
    }

    /// Takes a reference out.
    #[inline(always)]
    pub(crate) fn take(&self) {
        self.out.store(self.out() + 1, Ordering::Relaxed);
    }

    /// Takes back a reference that was handed out.
    #[inline(always)]
    pub(crate) fn put(&self) {
        debug_assert!(self.out() != 0);
        self.out.store(self.out() - 1, Ordering::Relaxed);
    }

    /// Offers a reference that the caller owns.
    #[inline(always)]
    pub(crate) fn offer(&self, header: NonNull<BlockHeader>) -> Offer {
        if !self.is_of(header) {
            return Offer::Refused;
        }
        self.put();
        if self.out() == 0 { Offer::Last } else { Offer::Kept }
    }

    /// [`offer`](Self::offer)s a reference if that is all there is to be done: it is of this block, and others are out.
    #[inline(always)]
    pub(crate) fn keep(&self, header: NonNull<BlockHeader>) -> bool {
        if !self.is_of(header) {
            return false;
        }
        // Loaded once: it is the path of every received packet.
        let out = self.out() - 1;
        if out != 0 {
            self.out.store(out, Ordering::Relaxed);
        }
        out != 0
    }

    /// Whether nobody but this stock references its block.
    pub(crate) fn has_all(&self) -> bool {
        // SAFETY: the stock holds references, so the header is alive.
        self.block().is_some_and(|header| unsafe { header.as_ref() }.references() == self.count())
    }

    /// Empties the stock: block and references are the caller's.
    pub(crate) fn empty(&self) -> Option<(NonNull<BlockHeader>, usize)> {
        let header = NonNull::new(self.block.swap(ptr::null_mut(), Ordering::Acquire))?;
        Some((header, self.count()))
    }

    /// Gives up everything in stock; the block is retired if those were all of its references.
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
