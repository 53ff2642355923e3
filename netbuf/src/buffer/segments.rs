//! The pieces of a packet in order: linear part, frags, and the same of each buffer on the frag list.

use core::iter::FusedIterator;
use core::marker::PhantomData;
use core::ptr::NonNull;

use super::NetBuf;
use super::descriptor::{Descriptor, Frag};

/// A piece of a packet for a device to read.
#[derive(Clone, Copy, Debug)]
pub struct DmaSegment<'a> {
    /// Where the device finds the bytes.
    pub bus_address: u64,
    /// Where the processor finds them.
    pub bytes: &'a [u8],
}

/// A stretch of room for a device to write.
#[derive(Debug)]
pub struct DmaSegmentMut<'a> {
    /// Where the device finds the room.
    pub bus_address: u64,
    /// Where the processor finds it.
    pub bytes: &'a mut [u8],
}

/// Where a piece lies.
enum Place<'a> {
    Head(&'a Descriptor),
    Frag(&'a Frag),
}

pub(crate) struct Segment<'a> {
    pub(crate) pointer: NonNull<u8>,
    pub(crate) len: usize,
    place: Place<'a>,
}

impl<'a> Segment<'a> {
    #[inline]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        // SAFETY: a piece lies within a live head or block, whose bytes are initialised and which nobody writes while
        // the buffer is borrowed.
        unsafe { core::slice::from_raw_parts(self.pointer.as_ptr(), self.len) }
    }

    fn bus_address(&self) -> u64 {
        match self.place {
            Place::Frag(frag) => frag.bus_address(),
            Place::Head(descriptor) => {
                let (block, _) = super::head::backing(descriptor);
                block.bus_address + (descriptor.data.as_ptr().addr() - block.pointer.as_ptr().addr()) as u64
            }
        }
    }
}

/// Walks the non-empty pieces of a packet.
pub(crate) struct Segments<'a> {
    descriptor: &'a Descriptor,
    /// 0: the linear part is next; n: frag n - 1 is.
    index: usize,
    /// The buffer of the frag list after this one.
    list: *const Descriptor,
    buffer: PhantomData<&'a NetBuf>,
}

impl<'a> Segments<'a> {
    fn frags(&self) -> &'a [Frag] {
        // SAFETY: the descriptor is alive and borrowed for 'a, and with it its shared info.
        unsafe { self.descriptor.shared_info().as_ref() }.frags()
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    #[inline]
    fn next(&mut self) -> Option<Segment<'a>> {
        loop {
            let index = self.index;
            self.index += 1;
            if index == 0 {
                let len = self.descriptor.head_len();
                if len != 0 {
                    let place = Place::Head(self.descriptor);
                    return Some(Segment { pointer: self.descriptor.data, len, place });
                }
            } else if let Some(frag) = self.frags().get(index - 1) {
                return Some(Segment {
                    pointer: frag.pointer(),
                    len: frag.len as usize,
                    place: Place::Frag(frag),
                });
            } else {
                // SAFETY: the chain belongs to the shared info of the first buffer, which is borrowed for 'a.
                self.descriptor = unsafe { self.list.as_ref()? };
                self.list = self.descriptor.next;
                self.index = 0;
            }
        }
    }
}

/// The pieces of the packet in order, for a device to gather or for reading.
impl NetBuf {
    #[inline]
    pub(crate) fn segments(&self) -> Segments<'_> {
        Segments {
            descriptor: self.descriptor(),
            index: 0,
            list: *self.shared_info().frag_list(),
            buffer: PhantomData,
        }
    }

    /// The pieces of the packet in order, linear part first, as a device gathers them (`skb_to_sgvec`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// # use netbuf::{Block, NetBuf, Zone};
    /// let block = Block::alloc(&memory, 0, Zone::Normal)?;
    /// let address = block.bus_address();
    /// let mut buffer = NetBuf::rx_alloc(&memory, 64)?;
    /// buffer.put(14)?;
    /// buffer.add_rx_frag(block.share(), 100, 1000, 4096)?;
    /// let list: Vec<_> = buffer.scatter_list().collect();
    /// assert_eq!(list.len(), 2);
    /// assert_eq!(list[0].bytes.len(), 14);
    /// assert_eq!((list[1].bus_address, list[1].bytes.len()), (address + 100, 1000));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn scatter_list(&self) -> impl FusedIterator<Item = DmaSegment<'_>> {
        self.segments()
            .map(|segment| DmaSegment { bus_address: segment.bus_address(), bytes: segment.bytes() })
            .fuse()
    }

    /// The pieces of the packet in order, for reading.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.put(2)?.copy_from_slice(b"ab");
    /// assert_eq!(buffer.pieces().collect::<Vec<_>>(), [b"ab"]);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn pieces(&self) -> impl FusedIterator<Item = &[u8]> {
        self.segments().map(|segment| segment.bytes()).fuse()
    }
}
