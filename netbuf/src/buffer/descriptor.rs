//! The descriptor and the shared info: how a buffer lies in memory.

use alloc::sync::Arc;
use core::ptr::{self, NonNull};

use super::head::Head;
use super::owner::MemoryOwner;
use crate::memory::Inner;
use crate::memory::block::BlockHeader;
use crate::sync::{AtomicU32, Ordering};

/// Frags in one buffer at most (`MAX_SKB_FRAGS` with pages of 4 KiB): a packet of 64 KiB in pages, and one page more
/// because it need not begin on a page's first byte.
pub const MAX_FRAGS: usize = 17;

/// Bytes of a cache line; heads begin on one and are rounded up to one.
pub(crate) const CACHE_LINE: usize = 64;

/// A header offset that was never set.
pub(crate) const UNSET: u32 = 0;

/// The value of `head_source` of a head that lies in a page block; any other value is the index of a slab cache.
pub(crate) const IN_BLOCK: u8 = u8::MAX;

/// What a buffer holds beside its linear area: descriptor and shared info.
const TRUESIZE_BESIDE_HEAD: u32 = (size_of::<Descriptor>() + size_of::<SharedInfo>()) as u32;

/// Flag: the head may have other users. While it is clear there are none, and the shared info need not be asked.
pub(crate) const MAYBE_CLONED: u8 = 1 << 6;
/// Flag: somebody is charged for the buffer.
pub(crate) const CHARGED: u8 = 1 << 7;

/// Where the descriptor was allocated.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum DescriptorKind {
    /// On its own, in `skbuff_head_cache`.
    Single,
    /// The first of a pair in `skbuff_fclone_cache`.
    Original,
    /// The second of a pair.
    Clone,
}

/// What a new buffer begins with.
#[derive(Clone, Copy)]
pub(crate) struct Contents {
    /// Bytes reserved in front of the data.
    pub(crate) headroom: usize,
    /// All bytes of the packet.
    pub(crate) len: u32,
    /// Those of them in frags.
    pub(crate) data_len: u32,
    /// Memory that the frags pin, cut off at 2 GiB, so that the truesize fits its 32 bits.
    pub(crate) pinned: u32,
}

impl Contents {
    pub(crate) const EMPTY: Self = Self { headroom: 0, len: 0, data_len: 0, pinned: 0 };
}

/// The descriptor: the `struct sk_buff` of this crate.
///
/// The first cache line holds all that taking room, walking a queue and freeing need. The second one holds metadata
/// that layers hand to each other; the third the control block of whoever owns the buffer now.
#[repr(C, align(64))]
pub(crate) struct Descriptor {
    // Links first, as in Linux: a queue touches nothing else.
    pub(crate) next: *mut Descriptor,
    pub(crate) previous: *mut Descriptor,
    pub(crate) head: NonNull<u8>,
    pub(crate) data: NonNull<u8>,
    /// Offset of the shared info from `head`.
    pub(crate) end: u32,
    /// All bytes of the packet.
    pub(crate) len: u32,
    /// Those of them outside the linear part.
    pub(crate) data_len: u32,
    pub(crate) truesize: u32,
    pub(crate) memory: NonNull<Inner>,
    pub(crate) head_source: u8,
    pub(crate) kind: DescriptorKind,
    pub(crate) packet_type: u8,
    /// Bits of this module ([`MAYBE_CLONED`], [`CHARGED`]) and of the metadata.
    pub(crate) flags: u8,
    /// Handles to the descriptor; more than one only under `SharedNetBuf`.
    pub(crate) users: AtomicU32,

    // Second cache line. It starts as zeros, as does the third; the field above does not, so that the compiler clears
    // the two lines with aligned stores.
    /// Offsets of the headers from `head`, plus one; [`UNSET`] until they are known.
    pub(crate) mac_header: u32,
    pub(crate) network_header: u32,
    pub(crate) transport_header: u32,
    pub(crate) mac_len: u16,
    pub(crate) header_len: u16,
    /// Ethernet type, host byte order.
    pub(crate) protocol: u16,
    pub(crate) vlan_tci: u16,
    pub(crate) queue_mapping: u16,
    pub(crate) checksum_status: u8,
    pub(crate) reserved: u8,
    /// The sum of a complete checksum, or the start of a partial one as offset from `head`.
    pub(crate) checksum: u32,
    pub(crate) checksum_offset: u32,
    pub(crate) priority: u32,
    pub(crate) mark: u32,
    pub(crate) hash: u32,
    pub(crate) interface: u32,
    pub(crate) timestamp: u64,
    /// Room for what comes; keeps the third part on its own cache line.
    pub(crate) spare: u64,

    // Third cache line.
    pub(crate) owner: Option<Arc<dyn MemoryOwner>>,
    pub(crate) control_block: [u64; 6],
}

impl Descriptor {
    /// A descriptor for a new buffer with this head.
    ///
    /// # Safety
    ///
    /// The head has room for the headroom.
    #[inline(always)]
    pub(crate) unsafe fn new(
        memory: NonNull<Inner>,
        kind: DescriptorKind,
        head: &Head,
        contents: Contents,
    ) -> Self {
        Self {
            next: ptr::null_mut(),
            previous: ptr::null_mut(),
            head: head.pointer,
            // SAFETY: by contract.
            data: unsafe { head.pointer.add(contents.headroom) },
            end: head.end,
            len: contents.len,
            data_len: contents.data_len,
            truesize: TRUESIZE_BESIDE_HEAD + head.end + contents.pinned,
            memory,
            head_source: head.source,
            kind,
            packet_type: 0,
            flags: 0,
            users: AtomicU32::new(1),
            mac_header: UNSET,
            network_header: UNSET,
            transport_header: UNSET,
            mac_len: 0,
            header_len: 0,
            protocol: 0,
            vlan_tci: 0,
            queue_mapping: 0,
            checksum_status: 0,
            reserved: 0,
            checksum: 0,
            checksum_offset: 0,
            priority: 0,
            mark: 0,
            hash: 0,
            interface: 0,
            timestamp: 0,
            spare: 0,
            owner: None,
            control_block: [0; 6],
        }
    }

    /// Writes the lengths of a new buffer, as whole words.
    ///
    /// # Safety
    ///
    /// `place` has a descriptor with this head, and is the caller's.
    #[inline(always)]
    pub(crate) unsafe fn write_lengths(place: NonNull<Self>, end: u32, contents: Contents) {
        let truesize = TRUESIZE_BESIDE_HEAD + end + contents.pinned;
        // SAFETY: by contract; the four lengths lie one behind the other, as asserted below.
        unsafe {
            let lengths = (&raw mut (*place.as_ptr()).end).cast::<u64>();
            lengths.write(two_words(end, contents.len));
            lengths.add(1).write(two_words(contents.data_len, truesize));
        }
    }

    /// Whether the buffer is one of the most frequent kind: a descriptor of its own, a head that nobody else uses, nobody
    /// charged.
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        self.kind == DescriptorKind::Single && self.flags & (MAYBE_CLONED | CHARGED) == 0
    }

    /// The truesize of a buffer with this head and without frags.
    #[inline]
    pub(crate) fn empty_truesize(&self) -> u32 {
        TRUESIZE_BESIDE_HEAD + self.end
    }

    /// Bytes in the linear part.
    #[inline]
    pub(crate) fn head_len(&self) -> usize {
        (self.len - self.data_len) as usize
    }

    /// Bytes in front of the data.
    #[inline]
    pub(crate) fn headroom(&self) -> usize {
        self.data.as_ptr().addr() - self.head.as_ptr().addr()
    }

    /// Bytes behind the linear data.
    #[inline]
    pub(crate) fn room_behind(&self) -> usize {
        self.end as usize - self.headroom() - self.head_len()
    }

    #[inline]
    pub(crate) fn shared_info(&self) -> NonNull<SharedInfo> {
        // SAFETY: the head has `end` bytes and the shared info right behind them.
        unsafe { self.head.add(self.end as usize).cast() }
    }
}

/// A piece of a page block.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Frag {
    pub(crate) block: NonNull<BlockHeader>,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

impl Frag {
    /// The first byte.
    #[inline]
    pub(crate) fn pointer(&self) -> NonNull<u8> {
        // SAFETY: a frag holds a reference to its block and lies within it.
        unsafe { self.block.as_ref().block.pointer.add(self.offset as usize) }
    }

    #[inline]
    pub(crate) fn bus_address(&self) -> u64 {
        // SAFETY: a frag holds a reference to its block.
        unsafe { self.block.as_ref().block.bus_address + u64::from(self.offset) }
    }
}

/// What lies right behind the linear area and is shared by clones together with it: `skb_shared_info`.
///
/// Its first word says what of the rest there is, so that the life of a head begins with writing one word and ends with
/// reading one. There is no padding in it: its bytes may become packet bytes when a head of another size takes its place.
#[repr(C)]
pub(crate) struct SharedInfo {
    /// Users of head and frags: clones, with a joint pair counting as one.
    pub(crate) dataref: AtomicU32,
    pub(crate) frag_count: u8,
    /// [`HAS_LIST`], [`HAS_FIELDS`].
    pub(crate) parts: u8,
    /// The protocol of segmentation; here because there is room.
    pub(crate) segment_type: u16,
    /// The block that a head outside the slab caches lies in.
    pub(crate) head_block: *mut BlockHeader,
    /// First of a chain of buffers that continue the packet, if there is one.
    frag_list: *mut Descriptor,
    /// If they were set.
    fields: PacketFields,
    frags: [core::mem::MaybeUninit<Frag>; MAX_FRAGS],
    /// Stands for the head's bytes, so that loom sees who reads and who writes them.
    #[cfg(feature = "loom")]
    pub(crate) bytes: loom::cell::UnsafeCell<()>,
}

/// There is a frag list.
pub(crate) const HAS_LIST: u8 = 1;
/// The [`PacketFields`] were set.
const HAS_FIELDS: u8 = 2;

/// What is known of the packet as a whole.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct PacketFields {
    pub(crate) hardware_timestamp: u64,
    pub(crate) transmit_flags: u32,
    pub(crate) segment_size: u16,
    pub(crate) segments: u16,
}

impl SharedInfo {
    /// Begins the life of the shared info at `place`: one user, no frags.
    ///
    /// # Safety
    ///
    /// `place` has room for a shared info and is the caller's.
    #[inline(always)]
    pub(crate) unsafe fn initialise(place: NonNull<Self>) {
        // SAFETY: by contract.
        unsafe { Self::initialise_with(place, 0) };
    }

    /// [`initialise`](Self::initialise) with a number of frags, which the caller writes.
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    unsafe fn initialise_with(place: NonNull<Self>, frag_count: u8) {
        let place = place.as_ptr();
        // SAFETY: by contract. All else stays whatever initialised bytes it was.
        unsafe {
            (&raw mut (*place).dataref).write(AtomicU32::new(1));
            (&raw mut (*place).frag_count).write(frag_count);
            (&raw mut (*place).parts).write(0);
            (&raw mut (*place).segment_type).write(0);
            #[cfg(feature = "loom")]
            (&raw mut (*place).bytes).write(loom::cell::UnsafeCell::new(()));
        }
    }

    /// [`initialise`](Self::initialise) for a head in a block.
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    pub(crate) unsafe fn initialise_in_block(place: NonNull<Self>, head_block: NonNull<BlockHeader>) {
        // SAFETY: by contract.
        unsafe {
            Self::initialise(place);
            (&raw mut (*place.as_ptr()).head_block).write(head_block.as_ptr());
        }
    }

    /// Gives a shared info that was just initialised its first frag.
    ///
    /// # Safety
    ///
    /// As for [`initialise`](Self::initialise).
    #[inline(always)]
    pub(crate) unsafe fn initialise_frag(place: NonNull<Self>, frag: Frag) {
        // SAFETY: by contract. Written as whole words: a processor's stores are what bounds a packet's time.
        unsafe {
            Self::initialise_with(place, 1);
            let first = (&raw mut (*place.as_ptr()).frags).cast::<Frag>();
            (&raw mut (*first).block).write(frag.block);
            (&raw mut (*first).offset).cast::<u64>().write(two_words(frag.offset, frag.len));
        }
    }

    /// Appends a frag, whose reference the shared info owns from now on. There must be room.
    pub(crate) fn push_frag(&mut self, frag: Frag) {
        self.frags[self.frag_count as usize].write(frag);
        self.frag_count += 1;
    }

    /// The frags in use.
    #[inline]
    pub(crate) fn frags(&self) -> &[Frag] {
        // SAFETY: the first `frag_count` frags are always written.
        unsafe { core::slice::from_raw_parts(self.frags.as_ptr().cast(), self.frag_count as usize) }
    }

    #[inline]
    pub(crate) fn frags_mut(&mut self) -> &mut [Frag] {
        // SAFETY: the first `frag_count` frags are always written.
        unsafe { core::slice::from_raw_parts_mut(self.frags.as_mut_ptr().cast(), self.frag_count as usize) }
    }

    /// Where the pointer to the first buffer of the frag list stands; a null pointer if there is no list.
    #[inline]
    pub(crate) fn frag_list(&self) -> &*mut Descriptor {
        if self.parts & HAS_LIST == 0 { &ptr::null_mut() } else { &self.frag_list }
    }

    /// The same, to be changed; [`frag_list_changed`](Self::frag_list_changed) is to be called afterwards.
    pub(crate) fn frag_list_mut(&mut self) -> &mut *mut Descriptor {
        if self.parts & HAS_LIST == 0 {
            self.frag_list = ptr::null_mut();
        }
        &mut self.frag_list
    }

    /// Notes whether there is a list.
    pub(crate) fn frag_list_changed(&mut self) {
        self.parts &= !HAS_LIST;
        if !self.frag_list.is_null() {
            self.parts |= HAS_LIST;
        }
    }

    /// Replaces the frag list.
    pub(crate) fn set_frag_list(&mut self, first: *mut Descriptor) {
        self.frag_list = first;
        self.frag_list_changed();
    }

    /// What is known of the packet as a whole.
    pub(crate) fn fields(&self) -> PacketFields {
        if self.parts & HAS_FIELDS == 0 { PacketFields::default() } else { self.fields }
    }

    pub(crate) fn fields_mut(&mut self) -> &mut PacketFields {
        if self.parts & HAS_FIELDS == 0 {
            self.fields = PacketFields::default();
            self.parts |= HAS_FIELDS;
        }
        &mut self.fields
    }

    /// Takes over what is known of the packet as a whole.
    pub(crate) fn copy_fields(&mut self, other: &Self) {
        self.segment_type = other.segment_type;
        if other.parts & HAS_FIELDS != 0 {
            *self.fields_mut() = other.fields;
        }
    }

    /// Users of this head as far as `dataref` knows.
    #[inline]
    pub(crate) fn users(&self) -> u32 {
        self.dataref.load(Ordering::Acquire)
    }
}

/// A size of a linear area, at most [`usize::MAX`] minus a cache line, rounded up to whole cache lines.
#[inline(always)]
pub(crate) const fn round_to_line(bytes: usize) -> usize {
    (bytes + (CACHE_LINE - 1)) & !(CACHE_LINE - 1)
}

/// Two words that lie one behind the other in memory, to be written at once.
#[inline(always)]
pub(crate) const fn two_words(first: u32, second: u32) -> u64 {
    let (low, high) = if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
    (high as u64) << 32 | low as u64
}

/// Bytes that a head of `end` bytes takes together with its shared info.
#[inline]
pub(crate) const fn head_bytes(end: usize) -> usize {
    end + size_of::<SharedInfo>().next_multiple_of(CACHE_LINE)
}

#[cfg(not(feature = "loom"))]
mod layout {
    use super::*;
    use core::mem::offset_of;

    // Linux: 232 and 320 bytes.
    const _: () = assert!(size_of::<Descriptor>() == 192);
    const _: () = assert!(size_of::<SharedInfo>() == 312);
    // All that taking room and freeing need, in the first cache line; metadata in the second.
    const _: () = assert!(offset_of!(Descriptor, users) == 60);
    const _: () = assert!(offset_of!(Descriptor, mac_header) == 64);
    // What a clone copies are the lines before the owner, and the control block.
    const _: () = assert!(offset_of!(Descriptor, owner) == 128);
    // The counts and the first frag, in the first cache line of the shared info.
    const _: () = assert!(offset_of!(SharedInfo, frags) == 40);
    // No padding.
    const _: () =
        assert!(offset_of!(SharedInfo, frags) + MAX_FRAGS * size_of::<Frag>() == size_of::<SharedInfo>());
    const _: () = assert!(size_of::<Frag>() == 16);
}
