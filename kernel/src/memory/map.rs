//! The memory map: which physical addresses are usable memory.
//!
//! Firmware maps come unsorted, overlap and end anywhere within a page. Here they become a short list of disjoint,
//! ascending ranges of whole pages; where two entries disagree, the more careful one wins.

use core::fmt;
use core::ops::Range;

use netbuf::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE as u64;

/// Most ranges that a map keeps; firmware maps have about a dozen.
pub const CAPACITY: usize = 64;

/// No room for another range: some memory stays unused, or a range could not be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRanges;

impl fmt::Display for TooManyRanges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the memory map has more than {CAPACITY} ranges")
    }
}

impl core::error::Error for TooManyRanges {}

/// Disjoint ascending ranges of physical addresses, each a whole number of pages.
#[derive(Clone, Debug)]
pub struct MemoryMap {
    ranges: [(u64, u64); CAPACITY],
    count: usize,
}

impl Default for MemoryMap {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryMap {
    /// An empty map.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: [(0, 0); CAPACITY], count: 0 }
    }

    /// The usable memory of a firmware map, given as (first address, bytes, whether usable) in any order.
    ///
    /// # Errors
    ///
    /// [`TooManyRanges`]; the entries are then too many to trust any of them.
    pub fn from_entries(
        entries: impl Iterator<Item = (u64, u64, bool)> + Clone,
    ) -> Result<Self, TooManyRanges> {
        let mut map = Self::new();
        for (start, length, _) in entries.clone().filter(|entry| entry.2) {
            // Inwards to whole pages.
            let end = start.saturating_add(length) / PAGE * PAGE;
            map.insert(start.next_multiple_of_page()..end)?;
        }
        for (start, length, _) in entries.filter(|entry| !entry.2) {
            map.remove(start..start.saturating_add(length))?;
        }
        Ok(map)
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + Clone + '_ {
        self.ranges[..self.count].iter().map(|(start, end)| *start..*end)
    }

    /// Bytes in all ranges.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.ranges().map(|range| range.end - range.start).sum()
    }

    /// Whether any address of `range` is in the map.
    #[must_use]
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        self.ranges().any(|own| own.start < range.end && range.start < own.end)
    }

    /// Adds a range of whole pages, joining what it touches.
    ///
    /// # Errors
    ///
    /// [`TooManyRanges`]: nothing was added.
    pub fn insert(&mut self, range: Range<u64>) -> Result<(), TooManyRanges> {
        let (mut start, mut end) = (range.start, range.end);
        if start >= end {
            return Ok(());
        }
        let mut joined = Self::new();
        for own in self.ranges() {
            if own.end < start || end < own.start {
                joined.append(own)?;
            } else {
                start = start.min(own.start);
                end = end.max(own.end);
            }
        }
        joined.append(start..end)?;
        joined.ranges[..joined.count].sort_unstable();
        *self = joined;
        Ok(())
    }

    /// Takes every page that `range` touches out.
    ///
    /// # Errors
    ///
    /// [`TooManyRanges`]: nothing was taken out.
    pub fn remove(&mut self, range: Range<u64>) -> Result<(), TooManyRanges> {
        if range.start >= range.end {
            return Ok(());
        }
        // Outwards to whole pages.
        let (start, end) = (range.start / PAGE * PAGE, range.end.next_multiple_of_page());
        let mut rest = Self::new();
        for own in self.ranges() {
            if own.end <= start || end <= own.start {
                rest.append(own)?;
                continue;
            }
            if own.start < start {
                rest.append(own.start..start)?;
            }
            if end < own.end {
                rest.append(end..own.end)?;
            }
        }
        *self = rest;
        Ok(())
    }

    /// Takes `bytes`, rounded up to whole pages, out of the lowest range that has them between `floor` and `ceiling`.
    pub fn take(&mut self, bytes: u64, floor: u64, ceiling: u64) -> Option<Range<u64>> {
        let bytes = bytes.next_multiple_of_page();
        let start = self
            .ranges()
            .map(|range| range.start.max(floor)..range.end.min(ceiling))
            .find(|range| range.end.saturating_sub(range.start) >= bytes)?
            .start;
        self.remove(start..start + bytes).ok()?;
        Some(start..start + bytes)
    }

    fn append(&mut self, range: Range<u64>) -> Result<(), TooManyRanges> {
        *self.ranges.get_mut(self.count).ok_or(TooManyRanges)? = (range.start, range.end);
        self.count += 1;
        Ok(())
    }
}

/// Rounding up to whole pages; past the end of the address space, down to its last page.
trait NextPage {
    fn next_multiple_of_page(self) -> u64;
}

impl NextPage for u64 {
    fn next_multiple_of_page(self) -> u64 {
        self.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX / PAGE * PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reserved_entries_win_over_usable_ones() {
        let entries = [(0x9fc00, 0x400, false), (0, 0xa0000, true), (0x10_0000, 0x70_0000, true)];
        let map = MemoryMap::from_entries(entries.into_iter()).unwrap();
        assert_eq!(map.ranges().collect::<Vec<_>>(), [0..0x9f000, 0x10_0000..0x80_0000]);
    }

    #[test]
    fn entries_that_run_past_the_address_space_are_cut() {
        let entries = [(u64::MAX - 0x1800, u64::MAX, true), (0xffff_f000, 0x2000, true)];
        let map = MemoryMap::from_entries(entries.into_iter()).unwrap();
        assert!(map.ranges().all(|range| range.start < range.end));
        assert!(map.overlaps(&(0x1_0000_0000..0x1_0000_0001)));
    }

    #[test]
    fn taken_memory_is_not_given_twice() {
        let mut map = MemoryMap::new();
        map.insert(0x1000..0x5000).unwrap();
        assert_eq!(map.take(0x1001, 0x2000, u64::MAX), Some(0x2000..0x4000));
        assert_eq!(map.take(0x1001, 0, u64::MAX), None);
        assert_eq!(map.ranges().collect::<Vec<_>>(), [0x1000..0x2000, 0x4000..0x5000]);
    }

    proptest! {
        /// Against the plainest model: one boolean per page.
        #[test]
        fn a_map_is_the_pages_that_are_usable_and_not_reserved(
            entries in proptest::collection::vec((0u64..0x2_0000, 0u64..0x8000, any::<bool>()), 0..20),
        ) {
            let map = MemoryMap::from_entries(entries.iter().copied()).unwrap();
            for page in 0..0x40u64 {
                let (start, end) = (page * PAGE, (page + 1) * PAGE);
                // A page is usable only if a single entry has it whole.
                let usable = entries.iter().any(|(at, length, usable)| *usable && *at <= start && end <= at + length);
                let reserved = entries.iter()
                    .any(|(at, length, usable)| !usable && *length > 0 && *at < end && start < at + length);
                prop_assert_eq!(map.overlaps(&(start..end)), usable && !reserved, "page {}", page);
            }
            let ranges: Vec<_> = map.ranges().collect();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }

        #[test]
        fn any_entries_at_all_give_whole_ascending_pages(
            entries in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<bool>()), 0..70),
        ) {
            if let Ok(map) = MemoryMap::from_entries(entries.into_iter()) {
                let mut last = 0;
                for range in map.ranges() {
                    prop_assert!(last <= range.start && range.start < range.end);
                    prop_assert_eq!((range.start % PAGE, range.end % PAGE), (0, 0));
                    last = range.end;
                }
            }
        }
    }
}
