//! Heads: taking the linear area with its shared info, and giving it up.

use core::ptr::{self, NonNull};

use super::RECEIVE_HEADROOM;
use super::descriptor::{
    Descriptor, DescriptorKind, HAS_LIST, IN_BLOCK, MAYBE_CLONED, SharedInfo, head_bytes, round_to_line,
};
use super::pair;
use crate::error::OutOfMemory;
use crate::memory::Inner;
use crate::memory::block::{self, BlockHeader};
use crate::memory::fragment::FRAGMENT_MAXIMUM;
use crate::memory::slab::{CacheIndex, DESCRIPTOR_CACHE, KMALLOC_MAXIMUM, MAGAZINE, kmalloc_index};
use crate::page_source::{PAGE_SIZE, Zone};
use crate::sync::{Ordering, look};

/// The largest linear area, so that all lengths fit in 32 bits with room to spare.
pub(crate) const MAXIMUM: usize = 1 << 24;

/// The largest linear area of a fragment.
pub(super) const FRAGMENT_HEAD_MAXIMUM: usize = FRAGMENT_MAXIMUM - head_bytes(0);

/// A linear area with initialised shared info behind it.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub(crate) pointer: NonNull<u8>,
    pub(crate) end: u32,
    pub(crate) source: u8,
}

impl Head {
    /// A head of `end` bytes in an object of a slab cache.
    ///
    /// # Safety
    ///
    /// The object is the caller's and has room for `end` bytes and the shared info.
    #[inline(always)]
    unsafe fn in_object(pointer: NonNull<u8>, end: usize, cache: CacheIndex) -> Self {
        let head = Self { pointer, end: end as u32, source: cache as u8 };
        // SAFETY: by contract.
        unsafe { SharedInfo::initialise(head.shared_info()) };
        head
    }

    /// A head of `end` bytes in a block, with one reference to it.
    ///
    /// # Safety
    ///
    /// The bytes at `pointer` are the caller's and have room for `end` bytes and the shared info.
    #[inline(always)]
    unsafe fn in_block(pointer: NonNull<u8>, end: usize, block: NonNull<BlockHeader>) -> Self {
        let head = Self { pointer, end: end as u32, source: IN_BLOCK };
        // SAFETY: by contract.
        unsafe { SharedInfo::initialise_in_block(head.shared_info(), block) };
        head
    }

    /// The head of a descriptor.
    pub(crate) fn of(descriptor: &Descriptor) -> Self {
        Self { pointer: descriptor.head, end: descriptor.end, source: descriptor.head_source }
    }

    /// The shared info behind the linear area.
    #[inline(always)]
    pub(crate) fn shared_info(&self) -> NonNull<SharedInfo> {
        // SAFETY: the head has `end` bytes and the shared info right behind them.
        unsafe { self.pointer.add(self.end as usize).cast() }
    }
}

/// A head with room for `size` bytes from a general slab cache, or from a block of its own when no cache has objects
/// that large.
#[inline]
pub(crate) fn allocate(memory: NonNull<Inner>, size: usize, owner: bool) -> Result<Head, OutOfMemory> {
    if size > MAXIMUM {
        return Err(OutOfMemory { bytes: size });
    }
    let end = round_to_line(size);
    let Some(cache) = kmalloc_index(head_bytes(end)) else {
        return allocate_block(memory, end);
    };
    // SAFETY: whoever allocates keeps the memory alive.
    let pointer = unsafe { memory.as_ref() }.allocate(cache, owner)?;
    // SAFETY: the object has room for `end` bytes and the shared info.
    Ok(unsafe { Head::in_object(pointer, end, cache) })
}

/// A buffer's head and place, if the owner's magazines have both. Only for the owner.
#[inline(always)]
pub(crate) fn take_with_descriptor(inner: &Inner, size: usize) -> Option<(Head, NonNull<Descriptor>)> {
    if size > KMALLOC_MAXIMUM {
        return None;
    }
    let end = round_to_line(size);
    let cache = kmalloc_index(head_bytes(end))?;
    let (heads, descriptors) = (inner.magazine(cache), inner.magazine(DESCRIPTOR_CACHE));
    let (head_count, descriptor_count) = (heads.at_hand(), descriptors.at_hand());
    if head_count == 0 || descriptor_count == 0 {
        return None;
    }
    // SAFETY: both have objects; that for the head has room for `end` bytes and the shared info.
    unsafe {
        let pointer = heads.take(head_count);
        let descriptor = descriptors.take(descriptor_count).cast();
        Some((Head::in_object(pointer, end, cache), descriptor))
    }
}

/// A received buffer's head with `end` bytes, a multiple of the cache line and at least the receive headroom, and its
/// place, if the current fragment block and the owner's magazine have both. Only for the owner.
#[inline(always)]
pub(crate) fn cut_with_descriptor(inner: &Inner, end: usize) -> Option<(Head, NonNull<Descriptor>)> {
    debug_assert!(end >= RECEIVE_HEADROOM && end == round_to_line(end));
    let descriptors = inner.magazine(DESCRIPTOR_CACHE);
    let descriptor_count = descriptors.at_hand();
    if descriptor_count == 0 {
        return None;
    }
    let pointer = inner.fragments.room_for(head_bytes(end))?;
    // SAFETY: there is room for `end` bytes and the shared info, and a descriptor.
    unsafe {
        let block = inner.fragments.cut(pointer);
        let descriptor = descriptors.take(descriptor_count).cast();
        Some((Head::in_block(pointer, end, block), descriptor))
    }
}

/// A head with room for `size` bytes cut from the fragment allocator, for received packets. From contexts that do not
/// own the memory, and when no fragment block is to be had, it comes from a slab cache.
#[inline]
pub(crate) fn allocate_fragment(
    memory: NonNull<Inner>,
    size: usize,
    owner: bool,
) -> Result<Head, OutOfMemory> {
    if !owner || size > FRAGMENT_HEAD_MAXIMUM {
        return allocate(memory, size, owner);
    }
    let end = round_to_line(size);
    // SAFETY: whoever allocates keeps the memory alive.
    let inner = unsafe { memory.as_ref() };
    // SAFETY: the caller is the owner, and the size was checked.
    let Ok((pointer, block)) = (unsafe { inner.fragments.allocate(memory, head_bytes(end)) }) else {
        return allocate(memory, size, owner);
    };
    // SAFETY: the fragment has room for `end` bytes and the shared info.
    Ok(unsafe { Head::in_block(pointer, end, block) })
}

#[cold]
fn allocate_block(memory: NonNull<Inner>, end: usize) -> Result<Head, OutOfMemory> {
    let pages = head_bytes(end).div_ceil(PAGE_SIZE).next_power_of_two();
    let block = block::allocate(memory, pages.trailing_zeros() as u8, Zone::Normal, ptr::null_mut())?;
    // SAFETY: the header is alive, and its block has room for `end` bytes and the shared info.
    Ok(unsafe { Head::in_block(block.as_ref().block.pointer, end, block) })
}

/// Gives a head up that never got a descriptor.
///
/// # Safety
///
/// The head is the caller's and is not used any more; the memory is kept alive by something else.
#[cold]
pub(crate) unsafe fn discard(memory: NonNull<Inner>, head: &Head, owner: bool) {
    // SAFETY: by contract; the shared info says that there is one user and no frag.
    unsafe { put(memory, *head, owner) };
}

/// Whether anybody else uses the head of a descriptor.
///
/// It is asked for by pointer: a reference to one half of a pair would not lead to what both halves know of each other.
///
/// # Safety
///
/// The descriptor is alive, and its owner has lent it.
#[inline]
pub(crate) unsafe fn is_shared(descriptor: NonNull<Descriptor>) -> bool {
    // SAFETY: by contract.
    unsafe { descriptor.as_ref().flags & MAYBE_CLONED != 0 && is_really_shared(descriptor) }
}

/// # Safety
///
/// As for [`is_shared`].
unsafe fn is_really_shared(descriptor: NonNull<Descriptor>) -> bool {
    // SAFETY: a descriptor keeps its head alive; the kind says that it is half of a pair.
    unsafe {
        let this = descriptor.as_ref();
        this.shared_info().as_ref().users() != 1
            || this.kind != DescriptorKind::Single && pair::is_shared(descriptor)
    }
}

/// Gives up one user of a head; with the last one its frags, its frag list and the head itself go.
///
/// # Safety
///
/// The head is alive, the caller gives up one count of its `dataref`, and something else keeps the memory alive.
#[inline]
pub(crate) unsafe fn put(memory: NonNull<Inner>, head: Head, owner: bool) {
    // SAFETY: by contract.
    unsafe {
        let shared = head.shared_info();
        let dataref = &(*shared.as_ptr()).dataref;
        // No atomic write when nobody else is left to see it.
        if look(dataref) != 1 {
            if dataref.fetch_sub(1, Ordering::Release) != 1 {
                return;
            }
            dataref.load(Ordering::Acquire);
        }
        let shared = shared.as_ref();
        #[cfg(feature = "loom")]
        shared.bytes.with_mut(|_| ());
        release_frags(memory.as_ref(), shared, owner);
        if shared.parts & HAS_LIST != 0 {
            release_list(*shared.frag_list());
        }
        if head.source == IN_BLOCK {
            let block = NonNull::new_unchecked(shared.head_block);
            memory.as_ref().fragments.free(block, head.pointer, head_bytes(head.end as usize), owner);
        } else {
            Inner::free(memory, head.source as usize, head.pointer, owner);
        }
    }
}

/// Gives up the references of all frags.
///
/// # Safety
///
/// The shared info has no user any more, and its frags are not touched again.
#[inline(always)]
unsafe fn release_frags(memory: &Inner, shared: &SharedInfo, owner: bool) {
    for frag in shared.frags() {
        // SAFETY: each frag holds one reference; the head, which is freed later, keeps the memory alive.
        unsafe { block::put(memory, frag.block, owner) };
    }
}

/// Frees a chain of buffers.
///
/// # Safety
///
/// The chain is the caller's.
pub(crate) unsafe fn release_list(mut next: *mut Descriptor) {
    while let Some(descriptor) = NonNull::new(next) {
        // SAFETY: by contract; the link is read before the buffer is freed.
        unsafe {
            next = (*descriptor.as_ptr()).next;
            (*descriptor.as_ptr()).next = ptr::null_mut();
            drop(crate::NetBuf::from_descriptor(descriptor));
        }
    }
}

/// Gives up the user of the head that `descriptor` is, because the descriptor gets another head.
///
/// # Safety
///
/// The caller owns the descriptor and replaces its head before anybody looks at it again.
pub(crate) unsafe fn leave(descriptor: NonNull<Descriptor>, owner: bool) {
    // SAFETY: by contract the descriptor is alive and owned.
    unsafe {
        let this = descriptor.as_ref();
        if this.kind != DescriptorKind::Single {
            return pair::leave(descriptor, owner);
        }
        put(this.memory, Head::of(this), owner);
    }
}

/// Frees a [plain](Descriptor::is_plain) buffer in the owner context, if all that it is made of goes where there is
/// room; otherwise nothing happens.
///
/// # Safety
///
/// As for [`free_buffer`]; the caller is the owner of `memory`, which is the buffer's.
#[inline(always)]
pub(crate) unsafe fn free_plain(memory: &Inner, descriptor: NonNull<Descriptor>) -> bool {
    // SAFETY: by contract descriptor and head are the caller's until they are put on a free list here.
    unsafe {
        let this = descriptor.as_ref();
        let (head, end) = (this.head, this.end as usize);
        let shared = this.shared_info().as_ref();
        let descriptors = memory.magazine(DESCRIPTOR_CACHE);
        let descriptor_count = descriptors.at_hand();
        if shared.parts & HAS_LIST != 0 || descriptor_count >= MAGAZINE {
            return false;
        }
        #[cfg(feature = "loom")]
        shared.bytes.with_mut(|_| ());
        if this.head_source == IN_BLOCK {
            let block = NonNull::new_unchecked(shared.head_block);
            if !memory.fragments.is_current(block) || !keep_frag(memory, shared) {
                return false;
            }
            memory.fragments.take_back(head, head_bytes(end));
        } else {
            let heads = memory.magazine(this.head_source as usize);
            let head_count = heads.at_hand();
            if head_count >= MAGAZINE || !keep_frag(memory, shared) {
                return false;
            }
            heads.put(head, head_count);
        }
        descriptors.put(descriptor.cast(), descriptor_count);
    }
    true
}

/// Whether there is no frag, or one whose reference went in stock.
///
/// # Safety
///
/// As for [`free_plain`]. If there was a frag, it is not touched any more.
#[inline(always)]
unsafe fn keep_frag(memory: &Inner, shared: &SharedInfo) -> bool {
    match shared.frags() {
        [] => true,
        [frag] => memory.shared_last.keep(frag.block),
        _ => false,
    }
}

/// Frees a descriptor together with its user of the head.
///
/// # Safety
///
/// The caller owns the descriptor, nobody else has a handle to it, and it is not touched again; `owner` tells whether
/// the caller is the memory's owner.
#[inline(always)]
pub(crate) unsafe fn free_buffer(descriptor: NonNull<Descriptor>, owner: bool) {
    // SAFETY: by contract the descriptor is alive and owned; it keeps memory and head alive until freed here.
    unsafe {
        let this = descriptor.as_ref();
        if this.kind != DescriptorKind::Single {
            return pair::free(descriptor, owner);
        }
        let memory = this.memory;
        put(memory, Head::of(this), owner);
        Inner::free(memory, DESCRIPTOR_CACHE, descriptor.cast(), owner);
    }
}

/// The page block that the head lies in, and the name of its slab cache if it is in one.
pub(crate) fn backing(descriptor: &Descriptor) -> (crate::PageBlock, Option<NonNull<BlockHeader>>) {
    // SAFETY: a descriptor keeps its head, and so its slab or block, alive.
    unsafe {
        if descriptor.head_source == IN_BLOCK {
            let header = NonNull::new_unchecked(descriptor.shared_info().as_ref().head_block);
            (header.as_ref().block, Some(header))
        } else {
            (crate::memory::slab::block_of(descriptor.head_source as usize, descriptor.head.as_ptr()), None)
        }
    }
}
