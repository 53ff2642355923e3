//! Slab caches: objects of one size, cut from page blocks.
//!
//! A slab is a page block with a [`SlabHeader`] at its start and objects behind it. Since a block is aligned to its own
//! size, the header is found from an object by masking. Free objects are chained through their first word.
//!
//! Each cache keeps free objects in two places: a *magazine* that belongs to the context that made the memory and needs
//! no atomic instruction, and a *shared* list behind the memory's lock, which serves every other context. An empty
//! magazine is loaded from the shared list, a full one gives half of what it has.

use core::cell::Cell;
use core::ptr::{self, NonNull};

use crate::page_source::{PAGE_SIZE, PageBlock};
use crate::sync::{AtomicU32, Ordering};

/// Index of a cache in [`CACHES`].
pub(crate) type CacheIndex = usize;

/// What a cache is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheKind {
    pub(crate) name: &'static str,
    pub(crate) object_size: usize,
    /// A slab is a block of this order: large enough that the header wastes little.
    pub(crate) slab_order: u8,
}

/// Bytes at the start of a slab in front of the first object; a cache line, so that objects start on one.
pub(crate) const SLAB_HEADER: usize = 64;

impl CacheKind {
    pub(crate) const fn objects_per_slab(&self) -> usize {
        ((PAGE_SIZE << self.slab_order) - SLAB_HEADER) / self.object_size
    }
}

const fn kmalloc(name: &'static str, object_size: usize, slab_order: u8) -> CacheKind {
    CacheKind { name, object_size, slab_order }
}

/// Number of general caches, `kmalloc-64` to `kmalloc-8192`.
pub(crate) const KMALLOC_CACHES: usize = 8;
/// Largest object of the general caches.
pub(crate) const KMALLOC_MAXIMUM: usize = 8192;
pub(crate) const DESCRIPTOR_CACHE: CacheIndex = KMALLOC_CACHES;
pub(crate) const FCLONE_CACHE: CacheIndex = KMALLOC_CACHES + 1;
pub(crate) const BLOCK_HEADER_CACHE: CacheIndex = KMALLOC_CACHES + 2;
pub(crate) const CACHE_COUNT: usize = KMALLOC_CACHES + 3;

const fn round_to_line(bytes: usize) -> usize {
    bytes.next_multiple_of(64)
}

/// All caches of a memory. The names are Linux's.
pub(crate) const CACHES: [CacheKind; CACHE_COUNT] = [
    kmalloc("kmalloc-64", 64, 0),
    kmalloc("kmalloc-128", 128, 0),
    kmalloc("kmalloc-256", 256, 0),
    kmalloc("kmalloc-512", 512, 1),
    kmalloc("kmalloc-1024", 1024, 2),
    kmalloc("kmalloc-2048", 2048, 3),
    kmalloc("kmalloc-4096", 4096, 3),
    kmalloc("kmalloc-8192", 8192, 4),
    kmalloc("skbuff_head_cache", round_to_line(size_of::<crate::buffer::Descriptor>()), 0),
    kmalloc("skbuff_fclone_cache", round_to_line(size_of::<crate::buffer::FclonePair>()), 1),
    kmalloc("page_block", round_to_line(size_of::<super::block::BlockHeader>()), 0),
];

/// The smallest general cache whose objects have `bytes` bytes; `None` when that is more than any has.
#[inline]
pub(crate) const fn kmalloc_index(bytes: usize) -> Option<CacheIndex> {
    if bytes <= 64 {
        return Some(0);
    }
    if bytes > KMALLOC_MAXIMUM {
        return None;
    }
    Some((usize::BITS - (bytes - 1).leading_zeros()) as usize - 6)
}

/// What stands at the start of each slab.
pub(crate) struct SlabHeader {
    next: *mut SlabHeader,
    block: PageBlock,
    /// Scratch for [`shrink`]: free objects counted in this slab.
    free: u32,
}

const _: () = assert!(size_of::<SlabHeader>() <= SLAB_HEADER);

/// Where the slab that holds `object` of `cache` starts.
#[inline]
fn slab_of(cache: CacheIndex, object: *mut u8) -> *mut SlabHeader {
    let size = PAGE_SIZE << CACHES[cache].slab_order;
    object.map_addr(|address| address & !(size - 1)).cast()
}

/// The page block that `object` of `cache` was cut from.
///
/// # Safety
///
/// `object` lies within a live slab of `cache`.
#[inline]
pub(crate) unsafe fn block_of(cache: CacheIndex, object: *mut u8) -> PageBlock {
    // SAFETY: by contract the slab is alive, and its header is written once, before its objects are given out.
    unsafe { (*slab_of(cache, object)).block }
}

/// Free objects that the owner has at hand in each cache; with their number they fill a kilobyte, so that finding a
/// magazine takes a shift.
pub(crate) const MAGAZINE: u32 = 127;

/// Free objects of one cache that only the owner context touches: a magazine, as Bonwick calls it. Taking one and
/// putting one back touches neither the object nor an atomic instruction.
pub(crate) struct Magazine {
    /// Objects in it. Written by the owner alone; an atomic because statistics may read it from elsewhere.
    len: AtomicU32,
    objects: [Cell<*mut u8>; MAGAZINE as usize],
}

impl Magazine {
    pub(crate) fn new() -> Self {
        Self { len: AtomicU32::new(0), objects: [const { Cell::new(ptr::null_mut()) }; MAGAZINE as usize] }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire) as usize
    }

    /// Takes an object out.
    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<NonNull<u8>> {
        let len = (self.len.load(Ordering::Relaxed) as usize).wrapping_sub(1);
        // One comparison: an empty magazine's index is far beyond its end.
        let object = self.objects.get(len)?.get();
        self.len.store(len as u32, Ordering::Relaxed);
        // SAFETY: the first `len` places hold objects.
        Some(unsafe { NonNull::new_unchecked(object) })
    }

    /// How many objects can be [taken](Self::take). Only for the owner.
    #[inline(always)]
    pub(crate) fn at_hand(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// [`pop`](Self::pop) for who knows how many objects there are.
    ///
    /// # Safety
    ///
    /// That many are [at hand](Self::at_hand) now, and at least one.
    #[inline(always)]
    pub(crate) unsafe fn take(&self, at_hand: u32) -> NonNull<u8> {
        let len = at_hand - 1;
        self.len.store(len, Ordering::Relaxed);
        // SAFETY: by contract there is a first object; the first `len` places hold objects.
        unsafe { NonNull::new_unchecked(self.objects.get_unchecked(len as usize).get()) }
    }

    /// Whether it must give objects to the shared list before it can take more.
    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.at_hand() >= MAGAZINE
    }

    /// Puts an object in. The memory may be torn down by another context right afterwards.
    ///
    /// # Safety
    ///
    /// It is not full; `object` belongs to this cache, nobody uses it, and it is not free yet.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, object: NonNull<u8>) {
        // SAFETY: by contract.
        unsafe { self.put(object, self.at_hand()) };
    }

    /// [`push`](Self::push) for who knows how many objects there are.
    ///
    /// # Safety
    ///
    /// As there; `at_hand` are [at hand](Self::at_hand) now.
    #[inline(always)]
    pub(crate) unsafe fn put(&self, object: NonNull<u8>, at_hand: u32) {
        debug_assert!(at_hand < MAGAZINE);
        // SAFETY: by contract there is room.
        unsafe { self.objects.get_unchecked(at_hand as usize) }.set(object.as_ptr());
        // Release: whoever reads this length and finds that nothing is alive any more may tear the memory down.
        self.len.store(at_hand + 1, Ordering::Release);
    }
}

#[cfg(not(feature = "loom"))]
const _: () = assert!(size_of::<Magazine>() == 1024);

/// One cache's part behind the lock: the free objects that anybody may take, and all slabs.
pub(crate) struct SharedCache {
    head: *mut u8,
    len: usize,
    slabs: *mut SlabHeader,
    slab_count: usize,
}

// SAFETY: the pointers lead to memory that belongs to this cache alone; the lock around it orders all access.
unsafe impl Send for SharedCache {}

impl SharedCache {
    pub(crate) const fn new() -> Self {
        Self { head: ptr::null_mut(), len: 0, slabs: ptr::null_mut(), slab_count: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn slab_count(&self) -> usize {
        self.slab_count
    }

    pub(crate) fn pop(&mut self) -> Option<NonNull<u8>> {
        let object = NonNull::new(self.head)?;
        // SAFETY: an object on the list is free memory whose first word is the link.
        self.head = unsafe { object.cast::<*mut u8>().read() };
        self.len -= 1;
        Some(object)
    }

    /// Puts an object on the list.
    ///
    /// # Safety
    ///
    /// `object` belongs to this cache, nobody uses it, and it is not on a list.
    pub(crate) unsafe fn push(&mut self, object: NonNull<u8>) {
        // SAFETY: by contract the object is free memory; a free object's first word is the link.
        unsafe { object.cast::<*mut u8>().write(self.head) };
        self.head = object.as_ptr();
        self.len += 1;
    }

    /// Cuts `block` into objects and puts them on the list.
    ///
    /// # Safety
    ///
    /// `block` was just allocated, has the order of `cache`'s slabs and is given over to this cache.
    pub(crate) unsafe fn add_slab(&mut self, cache: CacheIndex, block: PageBlock) {
        let kind = &CACHES[cache];
        let header = block.pointer.cast::<SlabHeader>();
        // SAFETY: the block is ours, aligned to its size, and a header fits in front of the first object.
        unsafe { header.write(SlabHeader { next: self.slabs, block, free: 0 }) };
        self.slabs = header.as_ptr();
        self.slab_count += 1;
        for index in (0..kind.objects_per_slab()).rev() {
            // SAFETY: `objects_per_slab` objects fit behind the header.
            let object = unsafe { block.pointer.add(SLAB_HEADER + index * kind.object_size) };
            // SAFETY: the object is part of the new slab and not on a list yet.
            unsafe { self.push(object) };
        }
    }

    /// Moves up to `most` objects to the owner's list.
    pub(crate) fn give_to(&mut self, local: &Magazine, most: usize) {
        for _ in 0..most.min(MAGAZINE as usize - local.len()) {
            let Some(object) = self.pop() else { break };
            // SAFETY: it came off the shared list of the same cache, and there is room.
            unsafe { local.push(object) };
        }
    }

    /// Takes up to `most` objects from the owner's list.
    pub(crate) fn take_from(&mut self, local: &Magazine, most: usize) {
        for _ in 0..most {
            let Some(object) = local.pop() else { break };
            // SAFETY: it came off the owner's list of the same cache.
            unsafe { self.push(object) };
        }
    }

    /// Hands every slab to `release`. The cache is empty afterwards.
    ///
    /// # Safety
    ///
    /// No object of this cache is used any more.
    pub(crate) unsafe fn release_all(&mut self, mut release: impl FnMut(PageBlock)) {
        let mut slab = self.slabs;
        while !slab.is_null() {
            // SAFETY: the slab is alive until released right below.
            let SlabHeader { next, block, .. } = unsafe { slab.read() };
            release(block);
            slab = next;
        }
        *self = Self::new();
    }

    /// Releases the slabs all of whose objects are on this list; returns how many there were.
    pub(crate) fn shrink(&mut self, cache: CacheIndex, mut release: impl FnMut(PageBlock)) -> usize {
        let whole = CACHES[cache].objects_per_slab() as u32;
        let mut object = self.head;
        while !object.is_null() {
            let slab = slab_of(cache, object);
            // SAFETY: the object is free memory in a live slab of this cache.
            unsafe {
                (*slab).free += 1;
                object = object.cast::<*mut u8>().read();
            }
        }
        // Keep the objects of slabs that stay.
        let mut rest = core::mem::replace(&mut self.head, ptr::null_mut());
        self.len = 0;
        while let Some(object) = NonNull::new(rest) {
            // SAFETY: as above; the object goes back on the list when its slab stays.
            unsafe {
                rest = object.cast::<*mut u8>().read();
                if (*slab_of(cache, object.as_ptr())).free != whole {
                    self.push(object);
                }
            }
        }
        let mut released = 0;
        let mut slab = core::mem::replace(&mut self.slabs, ptr::null_mut());
        while !slab.is_null() {
            // SAFETY: the slab is alive; it is released or put back on the list of slabs.
            unsafe {
                let next = (*slab).next;
                if (*slab).free == whole {
                    release((*slab).block);
                    released += 1;
                } else {
                    (*slab).free = 0;
                    (*slab).next = self.slabs;
                    self.slabs = slab;
                }
                slab = next;
            }
        }
        self.slab_count -= released;
        released
    }
}
