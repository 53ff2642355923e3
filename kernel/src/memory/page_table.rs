//! Four-level page tables (AMD64 manual volume 2, 5.3), built with the largest pages that fit.
//!
//! One operation: give a range of addresses, mapped onto itself, some access rights, or none. Whatever was there before is
//! overwritten; a large page of which only a part changes is split.

use core::fmt;
use core::ops::Range;

/// Entries in a table of any level.
pub const ENTRIES: usize = 512;
/// A table.
pub type Table = [u64; ENTRIES];

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Addresses below this are in the lower canonical half, which an identity map can reach.
pub const ADDRESS_LIMIT: u64 = 1 << 47;

/// What may be done with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Instructions: read, execute.
    Execute,
    /// Constants, firmware tables: read.
    Read,
    /// Data: read, write.
    Write,
    /// Device registers: read, write, uncached.
    Device,
}

impl Access {
    const fn bits(self) -> u64 {
        PRESENT
            | match self {
                Self::Execute => 0,
                Self::Read => NO_EXECUTE,
                Self::Write => NO_EXECUTE | WRITABLE,
                Self::Device => NO_EXECUTE | WRITABLE | CACHE_DISABLE | WRITE_THROUGH,
            }
    }
}

/// Why a range was not (wholly) mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// An end is not on a page boundary, or the range leaves the lower canonical half.
    BadRange {
        /// First address.
        start: u64,
        /// Address after the last.
        end: u64,
    },
    /// No page left for a table.
    OutOfMemory,
}

impl fmt::Display for MapError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRange { start, end } => write!(formatter, "cannot map {start:#x}..{end:#x}"),
            Self::OutOfMemory => formatter.write_str("no memory left for a page table"),
        }
    }
}

impl core::error::Error for MapError {}

/// The memory that tables live in.
pub trait Tables {
    /// The physical address of a new table, all zeroes.
    fn allocate(&mut self) -> Option<u64>;
    /// The table at a physical address that [`Tables::allocate`] gave.
    fn table(&mut self, address: u64) -> &mut Table;
}

/// Bytes that one entry of a table of this level covers: 4 KiB at level 1, then 2 MiB, 1 GiB, 512 GiB.
const fn entry_size(level: u32) -> u64 {
    1 << (12 + 9 * (level - 1))
}

/// An address space under construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageTable {
    root: u64,
    largest_level: u32,
}

impl PageTable {
    /// An address space with nothing in it. `gigabyte_pages`: the processor has pages of 1 GiB.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfMemory`].
    pub fn new(tables: &mut impl Tables, gigabyte_pages: bool) -> Result<Self, MapError> {
        let root = tables.allocate().ok_or(MapError::OutOfMemory)?;
        Ok(Self { root, largest_level: if gigabyte_pages { 3 } else { 2 } })
    }

    /// The physical address of the top table, for CR3.
    #[must_use]
    pub const fn root(&self) -> u64 {
        self.root
    }

    /// Maps `range` onto itself with these rights, or unmaps it.
    ///
    /// # Errors
    ///
    /// [`MapError`]; after [`MapError::OutOfMemory`] a part of the range may have changed.
    pub fn set(
        &self,
        tables: &mut impl Tables,
        range: Range<u64>,
        access: Option<Access>,
    ) -> Result<(), MapError> {
        let page = entry_size(1);
        if range.start > range.end
            || range.end > ADDRESS_LIMIT
            || !range.start.is_multiple_of(page)
            || !range.end.is_multiple_of(page)
        {
            return Err(MapError::BadRange { start: range.start, end: range.end });
        }
        self.set_level(tables, self.root, 4, range, access.map_or(0, Access::bits))
    }

    fn set_level(
        &self,
        tables: &mut impl Tables,
        table: u64,
        level: u32,
        range: Range<u64>,
        bits: u64,
    ) -> Result<(), MapError> {
        let size = entry_size(level);
        let mut start = range.start;
        while start < range.end {
            let entry_start = start / size * size;
            let end = (entry_start + size).min(range.end);
            let index = (start / size) as usize % ENTRIES;
            let whole = start == entry_start && end == entry_start + size;
            let entry = tables.table(table)[index];
            let unmapped = entry & PRESENT == 0;
            let is_page = level == 1 || entry & LARGE != 0;
            // A table that is already below stays, so that no processor ever walks a freed one.
            let whole_page = level == 1 || (level <= self.largest_level && (unmapped || is_page));
            if whole && whole_page {
                let large = if level == 1 || bits == 0 { 0 } else { LARGE };
                let address = if bits == 0 { 0 } else { entry_start };
                tables.table(table)[index] = address | bits | large;
            } else if !(unmapped && bits == 0) {
                let below = if unmapped || is_page {
                    let below = tables.allocate().ok_or(MapError::OutOfMemory)?;
                    if !unmapped {
                        split(tables.table(below), entry, level - 1);
                    }
                    tables.table(table)[index] = below | PRESENT | WRITABLE;
                    below
                } else {
                    entry & ADDRESS
                };
                self.set_level(tables, below, level - 1, start..end, bits)?;
            }
            start = end;
        }
        Ok(())
    }

    /// The entry that decides over an address: its rights, and the size of its page in bytes.
    #[must_use]
    pub fn look_up(&self, tables: &mut impl Tables, address: u64) -> Option<(Access, u64)> {
        let mut table = self.root;
        for level in (1..=4).rev() {
            let size = entry_size(level);
            let entry = tables.table(table)[(address / size) as usize % ENTRIES];
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 1 || entry & LARGE != 0 {
                let access = [Access::Execute, Access::Read, Access::Write, Access::Device]
                    .into_iter()
                    .find(|access| access.bits() == entry & !(ADDRESS | LARGE | ACCESSED_DIRTY))?;
                return Some((access, size));
            }
            table = entry & ADDRESS;
        }
        None
    }
}

/// Set by the processor.
const ACCESSED_DIRTY: u64 = 0b11 << 5;

/// Fills a table with what `entry`, a large page one level up, said.
fn split(table: &mut Table, entry: u64, level: u32) {
    let start = entry & ADDRESS;
    let bits = if level == 1 { entry & !(ADDRESS | LARGE) } else { entry & !ADDRESS };
    for (index, piece) in table.iter_mut().enumerate() {
        *piece = (start + index as u64 * entry_size(level)) | bits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Fake {
        tables: Vec<Table>,
        limit: usize,
    }

    impl Tables for Fake {
        fn allocate(&mut self) -> Option<u64> {
            if self.tables.len() == self.limit {
                return None;
            }
            self.tables.push([0; ENTRIES]);
            Some(self.tables.len() as u64 * 4096)
        }
        fn table(&mut self, address: u64) -> &mut Table {
            &mut self.tables[address as usize / 4096 - 1]
        }
    }

    fn fake() -> Fake {
        Fake { tables: Vec::new(), limit: usize::MAX }
    }

    const MEBIBYTE: u64 = 1 << 20;
    const GIBIBYTE: u64 = 1 << 30;

    #[test]
    fn the_largest_pages_that_fit_are_used() {
        for (gigabyte_pages, size, tables) in [(true, GIBIBYTE, 2), (false, 2 * MEBIBYTE, 8)] {
            let mut fake = fake();
            let table = PageTable::new(&mut fake, gigabyte_pages).unwrap();
            table.set(&mut fake, 0..6 * GIBIBYTE, Some(Access::Write)).unwrap();
            assert_eq!(table.look_up(&mut fake, 5 * GIBIBYTE + 12345), Some((Access::Write, size)));
            assert_eq!(fake.tables.len(), tables);
        }
    }

    #[test]
    fn rights_of_a_part_split_the_page_and_keep_the_rest() {
        let mut fake = fake();
        let table = PageTable::new(&mut fake, true).unwrap();
        table.set(&mut fake, 0..GIBIBYTE, Some(Access::Write)).unwrap();
        table.set(&mut fake, 0..4096, None).unwrap();
        table.set(&mut fake, MEBIBYTE..MEBIBYTE + 0x3000, Some(Access::Execute)).unwrap();
        assert_eq!(table.look_up(&mut fake, 0), None);
        assert_eq!(table.look_up(&mut fake, 4096), Some((Access::Write, 4096)));
        assert_eq!(table.look_up(&mut fake, MEBIBYTE + 0x2fff), Some((Access::Execute, 4096)));
        assert_eq!(table.look_up(&mut fake, MEBIBYTE + 0x3000), Some((Access::Write, 4096)));
        assert_eq!(table.look_up(&mut fake, 2 * MEBIBYTE), Some((Access::Write, 2 * MEBIBYTE)));
    }

    #[test]
    fn bad_ranges_are_refused() {
        let mut fake = fake();
        let table = PageTable::new(&mut fake, true).unwrap();
        for range in [1..4096, 0..4095, 0..ADDRESS_LIMIT + 4096] {
            let expected = MapError::BadRange { start: range.start, end: range.end };
            assert_eq!(table.set(&mut fake, range, Some(Access::Read)), Err(expected));
        }
    }

    #[test]
    fn running_out_of_tables_is_an_error() {
        let mut fake = Fake { tables: Vec::new(), limit: 2 };
        let table = PageTable::new(&mut fake, false).unwrap();
        assert_eq!(table.set(&mut fake, 0..4096, Some(Access::Read)), Err(MapError::OutOfMemory));
    }

    fn access() -> impl Strategy<Value = Option<Access>> {
        prop_oneof![
            Just(None),
            Just(Some(Access::Execute)),
            Just(Some(Access::Read)),
            Just(Some(Access::Write)),
            Just(Some(Access::Device)),
        ]
    }

    proptest! {
        /// The last setting of a page decides, whatever was split or joined on the way.
        #[test]
        fn the_last_setting_of_each_page_holds(
            gigabyte_pages: bool,
            steps in proptest::collection::vec((0u64..1100, 0u64..1100, access()), 1..12),
        ) {
            let mut fake = fake();
            let table = PageTable::new(&mut fake, gigabyte_pages).unwrap();
            // Around the end of the first GiB, so that all page sizes meet.
            let base = GIBIBYTE - 2 * MEBIBYTE;
            let mut expected = vec![None; 2200];
            for (start, length, access) in steps {
                let range = base + start * 4096..base + (start + length) * 4096;
                table.set(&mut fake, range, access).unwrap();
                expected[start as usize..(start + length) as usize].fill(access);
            }
            for (page, expected) in expected.into_iter().enumerate() {
                let found = table.look_up(&mut fake, base + page as u64 * 4096);
                prop_assert_eq!(found.map(|found| found.0), expected, "page {}", page);
            }
        }
    }
}
