//! Receiving into pages: the one function that both kinds of driver call for a packet in a filled block.

use core::ptr::NonNull;

use super::descriptor::{CACHE_LINE, Contents, Descriptor, Frag, SharedInfo, round_to_line};
use super::{NetBuf, RECEIVE_HEADROOM, head};
use crate::error::Error;
use crate::memory::Memory;
use crate::memory::block::SharedBlock;

/// How a packet in a page block becomes a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivePattern {
    /// Bytes copied to the head, so that headers are linear; the rest is referenced.
    pub head_len: usize,
    /// Packets up to this length are copied whole, which frees the block early; `usize::MAX` copies every packet.
    pub copybreak: usize,
    /// Memory that a frag is said to pin: a whole aggregate, or `None` for the frag's length rounded up to the cache
    /// line. More than 2 GiB count as 2 GiB.
    pub truesize: Option<usize>,
}

impl ReceivePattern {
    /// How many of a packet's `len` bytes are copied.
    #[inline(always)]
    fn head_len(&self, len: usize) -> usize {
        if len <= self.copybreak { len } else { len.min(self.head_len) }
    }

    /// How much memory a frag of `len` bytes is said to pin.
    #[inline(always)]
    fn pinned(&self, len: usize) -> u32 {
        match self.truesize {
            Some(truesize) => truesize.min(1 << 31) as u32,
            None => round_to_line(len) as u32,
        }
    }
}

/// A packet in a page block becomes a buffer.
impl NetBuf {
    /// A buffer for the packet of `len` bytes at `offset` of a filled block: headers copied behind
    /// [`RECEIVE_HEADROOM`](crate::RECEIVE_HEADROOM) bytes of headroom, payload referenced, short packets copied whole.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// use netbuf::{BlockPool, NetBuf, ReceivePattern, Zone};
    ///
    /// let pattern = ReceivePattern { head_len: 128, copybreak: 256, truesize: None };
    /// let pool = BlockPool::new(&memory, 2, Zone::Dma32, 4)?;
    /// let mut block = pool.take()?;
    /// block.bytes_mut().fill(7); // the device did that
    /// let block = block.share();
    ///
    /// let long = NetBuf::receive(&memory, &block, 0, 1500, &pattern)?;
    /// assert_eq!((long.head_len(), long.data_len()), (128, 1372));
    /// let short = NetBuf::receive(&memory, &block, 1536, 60, &pattern)?;
    /// assert_eq!((short.head_len(), short.data_len()), (60, 0));
    ///
    /// drop(block);
    /// assert_eq!(pool.idle(), 0); // `long` still reads it
    /// drop(long);
    /// assert_eq!(pool.idle(), 1);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::OutsideBlock`]: offset and length, which come from the device, do not lie within the block.
    /// [`Error::OutOfMemory`].
    #[inline(always)]
    pub fn receive(
        memory: &Memory,
        block: &SharedBlock,
        offset: usize,
        len: usize,
        pattern: &ReceivePattern,
    ) -> Result<Self, Error> {
        let end = offset.saturating_add(len);
        if end > block.len() {
            return Err(Error::OutsideBlock { end, block_len: block.len() });
        }
        let inner = memory.inner();
        let head_len = pattern.head_len(len);
        let copied_len = round_to_line(head_len);
        // Whole cache lines are copied: as much as the new head has room for.
        if copied_len <= SHORT_HEAD
            && inner.is_owner()
            && offset + copied_len <= block.len()
            && inner.shared_last.is_of(block.header)
            && let Some((head, place)) = head::cut_with_descriptor(inner, RECEIVE_HEADROOM + copied_len)
        {
            // SAFETY: place and head are ours, the head with `copied_len` bytes behind the headroom. `block` keeps header
            // and block alive, and there is a reference for the frag, which lies within the block.
            unsafe {
                copy_cache_lines(
                    block.first_byte().add(offset),
                    head.pointer.add(RECEIVE_HEADROOM),
                    copied_len,
                );
                inner.copied_bytes.add(true, head_len);
                let frag_len = len - head_len;
                let mut contents =
                    Contents { headroom: RECEIVE_HEADROOM, len: len as u32, ..Contents::EMPTY };
                if frag_len != 0 {
                    inner.shared_last.take();
                    let frag = Frag {
                        block: block.header,
                        offset: (offset + head_len) as u32,
                        len: frag_len as u32,
                    };
                    SharedInfo::initialise_frag(head.shared_info(), frag);
                    contents.data_len = frag_len as u32;
                    contents.pinned = pattern.pinned(frag_len);
                }
                let buffer = Self::at(place, memory.inner_pointer(), &head, contents);
                // In place of the four narrower stores above, which the compiler leaves out then.
                Descriptor::write_lengths(place, head.end, contents);
                return Ok(buffer);
            }
        }
        Self::receive_slowly(memory, block, offset, len, pattern)
    }

    /// [`receive`](Self::receive) when nothing allows a shorter way. The packet lies within the block.
    #[cold]
    #[inline(never)]
    fn receive_slowly(
        memory: &Memory,
        block: &SharedBlock,
        offset: usize,
        len: usize,
        pattern: &ReceivePattern,
    ) -> Result<Self, Error> {
        let head_len = pattern.head_len(len);
        let frag_len = len - head_len;
        let mut buffer = Self::rx_alloc(memory, head_len)?;
        buffer.put(head_len)?.copy_from_slice(&block.bytes()[offset..offset + head_len]);
        buffer.count_copied(head_len);
        if frag_len != 0 {
            buffer.add_rx_frag(
                block.clone(),
                offset + head_len,
                frag_len,
                pattern.pinned(frag_len) as usize,
            )?;
        }
        Ok(buffer)
    }
}

/// Copies `count` bytes, a multiple of the cache line and at most [`SHORT_HEAD`]: headers, for which calling `memcpy` would
/// take as long as all the rest.
///
/// # Safety
///
/// Both places have that many bytes, which do not overlap.
#[inline(always)]
unsafe fn copy_cache_lines(source: NonNull<u8>, target: NonNull<u8>, count: usize) {
    for offset in (0..SHORT_HEAD).step_by(CACHE_LINE) {
        if offset >= count {
            break;
        }
        // SAFETY: by contract.
        unsafe {
            let line = source.add(offset).cast::<[u64; CACHE_LINE / 8]>().read_unaligned();
            target.add(offset).cast::<[u64; CACHE_LINE / 8]>().write(line);
        }
    }
}

/// Heads up to this length are copied line by line.
const SHORT_HEAD: usize = 256;
