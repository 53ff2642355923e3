//! A buddy allocator: blocks of a power of two of pages, each aligned to its own size.
//!
//! A free block of order `n` is kept in the list of its order; two free neighbours that form an aligned block of the next
//! order are joined at once. The list links stand in the free pages themselves ([`Links`], reached through [`Storage`]);
//! outside there is one byte for each page. So the allocator itself is plain safe code, and allocating and releasing
//! take time proportional to the number of orders at most.

/// Orders from 0 (one page) to this; 4 KiB pages make the largest block 256 MiB.
pub const MAXIMUM_ORDER: u8 = 16;
const ORDERS: usize = MAXIMUM_ORDER as usize + 1;

/// Ends a list.
const NONE: u64 = u64::MAX;

/// The neighbours of a free block in its list, by the numbers of their first pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    previous: u64,
    next: u64,
}

/// The beginning of free blocks, where their [`Links`] are kept.
pub trait Storage {
    /// What was last written to the free block that begins at this page.
    fn read(&self, page: u64) -> Links;
    /// Writes to the free block that begins at this page.
    fn write(&mut self, page: u64, links: Links);
}

/// Why a block was not taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseError {
    /// The block does not lie in the allocator's pages, or is not aligned to its size.
    NotOurs,
    /// The block is free already.
    Free,
}

/// The allocator for one run of pages (which may have holes: pages that are never inserted).
#[derive(Debug)]
pub struct Buddy<'s> {
    first_page: u64,
    /// For each page: 0, or 1 + order when a free block begins there.
    free_orders: &'s mut [u8],
    heads: [u64; ORDERS],
    counts: [usize; ORDERS],
}

impl<'s> Buddy<'s> {
    /// An allocator for as many pages as there are bytes in `free_orders`, from `first_page` on; none of them is free yet.
    pub fn new(first_page: u64, free_orders: &'s mut [u8]) -> Self {
        free_orders.fill(0);
        Self { first_page, free_orders, heads: [NONE; ORDERS], counts: [0; ORDERS] }
    }

    /// Free blocks of exactly this order.
    #[must_use]
    pub fn free_blocks(&self, order: u8) -> usize {
        self.counts.get(usize::from(order)).copied().unwrap_or(0)
    }

    /// Free pages in blocks of all orders.
    #[must_use]
    pub fn free_pages(&self) -> usize {
        self.counts.iter().enumerate().map(|(order, count)| count << order).sum()
    }

    /// Frees the pages `start..end`, which must not be free yet. Pages outside the allocator's run are left out.
    pub fn insert(&mut self, storage: &mut impl Storage, start: u64, end: u64) {
        let last = self.first_page + self.free_orders.len() as u64;
        let (mut page, end) = (start.max(self.first_page), end.min(last));
        while page < end {
            let aligned = page.trailing_zeros().min(u32::from(MAXIMUM_ORDER));
            let fits = (end - page).ilog2();
            let order = aligned.min(fits) as u8;
            // Cannot fail: the block is aligned and inside.
            let _ = self.release(storage, page, order);
            page += 1 << order;
        }
    }

    /// The first page of a block of `1 << order` pages.
    pub fn allocate(&mut self, storage: &mut impl Storage, order: u8) -> Option<u64> {
        let mut found = (order..=MAXIMUM_ORDER).find(|order| self.heads[usize::from(*order)] != NONE)?;
        let page = self.heads[usize::from(found)];
        self.unlink(storage, page, found);
        while found > order {
            found -= 1;
            self.link(storage, page + (1 << found), found);
        }
        Some(page)
    }

    /// Takes a block back and joins it with its free neighbours.
    ///
    /// # Errors
    ///
    /// [`ReleaseError`]: nothing changed.
    pub fn release(
        &mut self,
        storage: &mut impl Storage,
        mut page: u64,
        mut order: u8,
    ) -> Result<(), ReleaseError> {
        let length = 1u64.checked_shl(u32::from(order)).ok_or(ReleaseError::NotOurs)?;
        let last = self.first_page + self.free_orders.len() as u64;
        let inside = page >= self.first_page && page.checked_add(length).is_some_and(|end| end <= last);
        if !inside || order > MAXIMUM_ORDER || page & (length - 1) != 0 {
            return Err(ReleaseError::NotOurs);
        }
        // Free already: as such, or as part of a larger free block.
        let free = (order..=MAXIMUM_ORDER)
            .any(|larger| self.free_order(page & !((1 << larger) - 1)).is_some_and(|free| free >= larger));
        if free {
            return Err(ReleaseError::Free);
        }
        while order < MAXIMUM_ORDER {
            let neighbour = page ^ (1 << order);
            if self.free_order(neighbour) != Some(order) {
                break;
            }
            self.unlink(storage, neighbour, order);
            page &= neighbour;
            order += 1;
        }
        self.link(storage, page, order);
        Ok(())
    }

    /// The order of the free block that begins at `page`.
    fn free_order(&self, page: u64) -> Option<u8> {
        let index = usize::try_from(page.checked_sub(self.first_page)?).ok()?;
        self.free_orders.get(index)?.checked_sub(1)
    }

    /// `page` lies in the run: callers checked, or took it from a list.
    fn set_free_order(&mut self, page: u64, value: u8) {
        if let Some(byte) = self.free_orders.get_mut((page - self.first_page) as usize) {
            *byte = value;
        }
    }

    fn link(&mut self, storage: &mut impl Storage, page: u64, order: u8) {
        let head = self.heads[usize::from(order)];
        storage.write(page, Links { previous: NONE, next: head });
        if head != NONE {
            let links = storage.read(head);
            storage.write(head, Links { previous: page, ..links });
        }
        self.heads[usize::from(order)] = page;
        self.counts[usize::from(order)] += 1;
        self.set_free_order(page, order + 1);
    }

    fn unlink(&mut self, storage: &mut impl Storage, page: u64, order: u8) {
        let Links { previous, next } = storage.read(page);
        if previous == NONE {
            self.heads[usize::from(order)] = next;
        } else {
            let links = storage.read(previous);
            storage.write(previous, Links { next, ..links });
        }
        if next != NONE {
            let links = storage.read(next);
            storage.write(next, Links { previous, ..links });
        }
        self.counts[usize::from(order)] -= 1;
        self.set_free_order(page, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[derive(Default)]
    struct Fake(HashMap<u64, Links>);

    impl Storage for Fake {
        fn read(&self, page: u64) -> Links {
            self.0[&page]
        }
        fn write(&mut self, page: u64, links: Links) {
            self.0.insert(page, links);
        }
    }

    #[test]
    fn neighbours_join_up_to_the_largest_aligned_block() {
        let (mut bytes, mut fake) = (vec![0; 1024], Fake::default());
        let mut buddy = Buddy::new(512, &mut bytes);
        buddy.insert(&mut fake, 513, 1024);
        assert_eq!(buddy.free_pages(), 511);
        assert_eq!((0..9).map(|order| buddy.free_blocks(order)).collect::<Vec<_>>(), [1; 9]);
        buddy.release(&mut fake, 512, 0).unwrap();
        assert_eq!(buddy.free_blocks(9), 1);
        assert_eq!(buddy.free_pages(), 512);
    }

    #[test]
    fn releasing_twice_or_elsewhere_is_refused() {
        let (mut bytes, mut fake) = (vec![0; 64], Fake::default());
        let mut buddy = Buddy::new(0, &mut bytes);
        buddy.insert(&mut fake, 0, 64);
        let page = buddy.allocate(&mut fake, 3).unwrap();
        buddy.release(&mut fake, page, 3).unwrap();
        assert_eq!(buddy.release(&mut fake, page, 3), Err(ReleaseError::Free));
        assert_eq!(buddy.release(&mut fake, page + 1, 0), Err(ReleaseError::Free));
        assert_eq!(buddy.release(&mut fake, 64, 0), Err(ReleaseError::NotOurs));
        assert_eq!(buddy.release(&mut fake, 1, 1), Err(ReleaseError::NotOurs));
        assert_eq!(buddy.release(&mut fake, 0, 200), Err(ReleaseError::NotOurs));
        assert_eq!(buddy.free_pages(), 64);
    }

    #[test]
    fn orders_beyond_the_largest_are_never_there() {
        let (mut bytes, mut fake) = (vec![0; 4], Fake::default());
        let mut buddy = Buddy::new(0, &mut bytes);
        buddy.insert(&mut fake, 0, 4);
        assert_eq!(buddy.allocate(&mut fake, MAXIMUM_ORDER + 1), None);
        assert_eq!(buddy.free_blocks(200), 0);
    }

    proptest! {
        /// Blocks given out are aligned, lie in the inserted pages and never overlap; when all are back, the free lists
        /// are what they were.
        #[test]
        fn blocks_are_disjoint_and_come_back_whole(
            first in 0u64..100,
            holes in proptest::collection::vec(0u64..300, 0..4),
            steps in proptest::collection::vec((any::<bool>(), 0u8..6, any::<prop::sample::Index>()), 1..200),
        ) {
            let (mut bytes, mut fake) = (vec![0; 300], Fake::default());
            let mut buddy = Buddy::new(first, &mut bytes);
            let mut usable = vec![true; 300];
            for hole in holes {
                usable[hole as usize] = false;
            }
            let mut page = 0;
            while page < 300 {
                let start = page;
                while page < 300 && usable[page] {
                    page += 1;
                }
                buddy.insert(&mut fake, first + start as u64, first + page as u64);
                page += 1;
            }
            let before = (buddy.counts, buddy.free_pages());
            prop_assert_eq!(before.1, usable.iter().filter(|usable| **usable).count());
            let mut taken: Vec<(u64, u8)> = Vec::new();
            for (allocate, order, index) in steps {
                if allocate || taken.is_empty() {
                    let Some(page) = buddy.allocate(&mut fake, order) else { continue };
                    prop_assert_eq!(page % (1 << order), 0);
                    for page in page..page + (1 << order) {
                        let at = (page - first) as usize;
                        prop_assert!(usable[at], "page {} given twice or never free", page);
                        usable[at] = false;
                    }
                    taken.push((page, order));
                } else {
                    let (page, order) = taken.swap_remove(index.index(taken.len()));
                    buddy.release(&mut fake, page, order).unwrap();
                    for page in page..page + (1 << order) {
                        usable[(page - first) as usize] = true;
                    }
                }
                prop_assert_eq!(buddy.free_pages(), usable.iter().filter(|usable| **usable).count());
            }
            for (page, order) in taken {
                buddy.release(&mut fake, page, order).unwrap();
            }
            prop_assert_eq!((buddy.counts, buddy.free_pages()), before);
        }
    }
}
