//! Where a live buffer's memory comes from: what one asks `virt_to_head_page` and the page's slab in Linux.

use core::fmt;

use super::descriptor::IN_BLOCK;
use super::{NetBuf, head};
use crate::memory::block;
use crate::memory::slab::CACHES;
use crate::page_source::PageBlock;

/// What a head lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// An object of a slab cache.
    Slab {
        /// The cache's name.
        cache: &'static str,
        /// Bytes of its objects.
        object_size: usize,
    },
    /// A piece of a page block that the fragment allocator cut, or a block of its own.
    PageFragment {
        /// References to the block, the stock of the fragment allocator included.
        references: u32,
    },
}

/// What backs a buffer: from [`NetBuf::inspect`].
///
/// Prints one line for the head and one for each frag, and the same for each buffer on the frag list; the sizes of slab
/// objects in hexadecimal:
///
/// ```
/// # let memory = netbuf::host::memory();
/// # use netbuf::{Block, NetBuf, Zone};
/// let mut buffer = NetBuf::alloc(&memory, 500)?;
/// buffer.add_rx_frag(Block::alloc(&memory, 2, Zone::Dma32)?.share(), 100, 1400, 1408)?;
/// assert_eq!(
///     buffer.inspect().to_string(),
///     "head: kmem_cache name: kmalloc-1024, size: 400, zone: Normal, data references: 1, truesize: 2424\n\
///      frag 0: page block, order: 2, references: 1, zone: DMA32, offset: 100, len: 1400",
/// );
/// # Ok::<(), netbuf::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct BufferInspection<'a> {
    buffer: &'a NetBuf,
    /// What the head lies in.
    pub backing: Backing,
    /// The slab's or fragment's page block.
    pub block: PageBlock,
    /// Users of the head; a pair from `alloc_fclone` counts once.
    pub data_references: u32,
    /// Memory really held.
    pub truesize: usize,
}

/// What backs a frag: from [`BufferInspection::frags`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FragInspection {
    /// The page block.
    pub block: PageBlock,
    /// References to the block.
    pub references: u32,
    /// First byte within the block.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
}

/// What backs the buffer.
impl NetBuf {
    /// Which slab cache or page fragment backs the head, and which page blocks back the frags; with zone, reference
    /// counts and truesize.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// use netbuf::{Backing, NetBuf};
    /// let received = NetBuf::rx_alloc(&memory, 500)?;
    /// assert!(matches!(received.inspect().backing, Backing::PageFragment { .. }));
    /// let copy = received.copy()?;
    /// assert_eq!(copy.inspect().backing, Backing::Slab { cache: "kmalloc-1024", object_size: 1024 });
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[must_use]
    pub fn inspect(&self) -> BufferInspection<'_> {
        let descriptor = self.descriptor();
        let (block, header) = head::backing(descriptor);
        let backing = match header {
            Some(header) => {
                debug_assert_eq!(descriptor.head_source, IN_BLOCK);
                // SAFETY: the head holds a reference to its block, so the header is alive.
                Backing::PageFragment { references: unsafe { block::references(header) } }
            }
            None => {
                let kind = &CACHES[descriptor.head_source as usize];
                Backing::Slab { cache: kind.name, object_size: kind.object_size }
            }
        };
        BufferInspection {
            buffer: self,
            backing,
            block,
            data_references: self.shared_info().users(),
            truesize: self.truesize(),
        }
    }
}

impl BufferInspection<'_> {
    /// What backs each frag of this buffer. Buffers on its [frag list](NetBuf::frag_list) are inspected one by one.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, NetBuf, Zone};
    /// let mut buffer = NetBuf::alloc(&memory, 64)?;
    /// buffer.add_rx_frag(Block::alloc(&memory, 2, Zone::Dma32)?.share(), 100, 20, 4096)?;
    /// let frag = buffer.inspect().frags().next().unwrap();
    /// assert_eq!((frag.block.order, frag.block.zone), (2, Zone::Dma32));
    /// assert_eq!((frag.references, frag.offset, frag.len), (1, 100, 20));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn frags(&self) -> impl Iterator<Item = FragInspection> {
        self.buffer.shared_info().frags().iter().map(|frag| {
            // SAFETY: the frag holds a reference to its block, so the header is alive.
            let header = unsafe { frag.block.as_ref() };
            FragInspection {
                block: header.block,
                // SAFETY: as above.
                references: unsafe { block::references(frag.block) },
                offset: frag.offset as usize,
                len: frag.len as usize,
            }
        })
    }
}

impl fmt::Display for BufferInspection<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "head: ")?;
        match self.backing {
            Backing::Slab { cache, object_size } => {
                write!(formatter, "kmem_cache name: {cache}, size: {object_size:x}")?;
            }
            Backing::PageFragment { references } => {
                write!(formatter, "page fragment, order: {}, references: {references}", self.block.order)?;
            }
        }
        write!(
            formatter,
            ", zone: {}, data references: {}, truesize: {}",
            self.block.zone.name(),
            self.data_references,
            self.truesize
        )?;
        for (index, frag) in self.frags().enumerate() {
            write!(
                formatter,
                "\nfrag {index}: page block, order: {}, references: {}, zone: {}, offset: {}, len: {}",
                frag.block.order,
                frag.references,
                frag.block.zone.name(),
                frag.offset,
                frag.len
            )?;
        }
        for (index, member) in self.buffer.frag_list().enumerate() {
            write!(formatter, "\nfrag list, buffer {index}: {}", member.inspect())?;
        }
        Ok(())
    }
}
