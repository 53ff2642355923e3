//! Receiving into pages: the one function that both kinds of driver call for a packet in a filled block.

use super::NetBuf;
use super::descriptor::Frag;
use crate::error::Error;
use crate::memory::Memory;
use crate::memory::block::{self, SharedBlock};

/// How a packet in a page block becomes a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivePattern {
    /// Bytes copied to the head, so that headers are linear; the rest is referenced.
    pub head_len: usize,
    /// Packets up to this length are copied whole, which frees the block early; `usize::MAX` copies every packet.
    pub copybreak: usize,
    /// Memory that a frag is said to pin: a whole aggregate, or `None` for the frag's length rounded up to the cache
    /// line.
    pub truesize: Option<usize>,
}

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
    pub fn receive(
        memory: &Memory,
        block: &SharedBlock,
        offset: usize,
        len: usize,
        pattern: &ReceivePattern,
    ) -> Result<Self, Error> {
        let end = offset.saturating_add(len);
        let Some(packet) = block.bytes().get(offset..end) else {
            return Err(Error::OutsideBlock { end, block_len: block.len() });
        };
        let head_len = if len <= pattern.copybreak { len } else { len.min(pattern.head_len) };
        let mut buffer = Self::rx_alloc(memory, head_len)?;
        // SAFETY: the buffer is new, linear, and has `head_len` bytes of tailroom.
        unsafe { buffer.put_unchecked(head_len) }.copy_from_slice(&packet[..head_len]);
        let (inner, owner) = buffer.memory_and_owner();
        // SAFETY: the buffer keeps its memory alive.
        let inner = unsafe { inner.as_ref() };
        inner.copied_bytes.add(owner, head_len);
        let rest = len - head_len;
        if rest != 0 {
            let truesize = pattern.truesize.unwrap_or(rest.next_multiple_of(super::CACHE_LINE));
            // SAFETY: `block` keeps header and block alive, the frag lies within the block as checked above and holds
            // the reference taken here; the buffer is new, so its shared info is its own and has room.
            unsafe {
                block::get(inner, block.header, owner);
                let info = buffer.descriptor().shared_info().as_mut();
                info.push_frag(Frag {
                    block: block.header,
                    offset: (offset + head_len) as u32,
                    len: rest as u32,
                });
            }
            let descriptor = buffer.descriptor_mut();
            descriptor.len = len as u32;
            descriptor.data_len = rest as u32;
            descriptor.truesize =
                descriptor.truesize.saturating_add(u32::try_from(truesize).unwrap_or(u32::MAX));
        }
        Ok(buffer)
    }
}
