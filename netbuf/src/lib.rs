//! Packet buffers with the semantics of Linux's `sk_buff`.
//!
//! A packet should be touched once. A device writes it to memory, layers look at its headers and take them off, an
//! answer gets new headers in front of the *same* payload, and a device reads the pieces from where they lie. What
//! makes that possible is a buffer that is more than a vector of bytes: it has room at both ends, it can share its
//! bytes with other buffers, and it can refer to bytes that lie elsewhere.
//!
//! # The three parts of a buffer
//!
//! ```text
//!   NetBuf (one pointer)
//!     │
//!     v
//!   descriptor ─ 192 bytes ─────────┐        one owner
//!   │ next, previous   (queue)      │
//!   │ head, data, end, len, ...     │
//!   │ header offsets, protocol, ... │
//!   │ control block (48 bytes)      │
//!   └──────┬──────┬─────────────────┘
//!     head │      │ data                     tail            end
//!          v      v                           v               v
//!          ┌──────┬───────────────────────────┬───────────────┬─────────────────────┐
//!          │ head │ linear data               │   tailroom    │ shared info         │   shared by clones,
//!          │ room │ (head_len bytes)          │               │ dataref, frags[17], │   read only then
//!          └──────┴───────────────────────────┴───────────────┤ frag list           │
//!           <push                     put>                    └──┬──────────┬───────┘
//!            pull>                   <trim                       │          │
//!                                                                v          v
//!                                              block ┌──────┬────────┬──────────┬──────────┐
//!                                  (page blocks with │      │ frag 0 │          │  frag 1  │   shared by any
//!                                 a reference count) └──────┴────────┴──────────┴──────────┘   number of frags
//! ```
//!
//! - The **descriptor** says where things are and what is known about them. It belongs to one [`NetBuf`], or to
//!   several [`SharedNetBuf`] handles that only read it.
//! - The **linear data** lies between [headroom](NetBuf::headroom) and [tailroom](NetBuf::tailroom), so that headers
//!   are added and removed by moving a pointer. The **shared info** lies right behind the tailroom. From `head` to its
//!   end it is all one piece, the *head*, which [clones](NetBuf::clone_buffer) share; `dataref` counts them.
//! - **Frags** refer to pieces of page blocks, where the device put them. A block lives as long as anybody refers to it.
//!   The **frag list** leads to further buffers in which the packet continues: so
//!   [fragments of IP](NetBuf::append_to_frag_list) become one packet.
//!
//! These hold at all times: `head <= data <= tail <= end`, where `tail` is not stored, but is where the linear data ends;
//! [`len`](NetBuf::len) is the packet, `head_len` the linear part of it and `data_len` the rest;
//! [`truesize`](NetBuf::truesize) is the memory that is held for it.
//!
//! # A packet's life
//!
//! ```
//! use std::sync::Arc;
//! use netbuf::{BlockPool, Memory, NetBuf, ReceivePattern, Zone, host::HostPages};
//!
//! // Memory draws on a page source: a kernel's frames, or the host's allocator.
//! let memory = Memory::new(HostPages::new())?;
//!
//! // A driver lends a block to its device, which writes packets to it.
//! let pool = BlockPool::new(&memory, 2, Zone::Dma32, 16)?;
//! let mut block = pool.take()?;
//! block.bytes_mut()[..34].copy_from_slice(b"ethernet. hdrIP header, 20 bytes..");
//!
//! // The block is filled: from now on it is read only, until the last packet in it is gone. One call makes a buffer
//! // with the headers linear and the payload left where it is.
//! let block = block.share();
//! let pattern = ReceivePattern { head_len: 34, copybreak: 0, truesize: None };
//! let mut buffer = NetBuf::receive(&memory, &block, 0, 1034, &pattern)?;
//! drop(block);
//! assert_eq!((buffer.head_len(), buffer.data_len()), (34, 1000));
//!
//! // Layers take their headers off; the bytes become headroom.
//! buffer.reset_mac_header();
//! buffer.pull(14)?;
//! buffer.reset_network_header();
//! buffer.pull(20)?;
//!
//! // The answer: new headers in front of the same payload.
//! buffer.push(20)?.fill(0);
//! buffer.push(14)?.fill(0xff);
//!
//! // A device gathers the pieces by their bus addresses.
//! let pieces: Vec<_> = buffer.scatter_list().map(|segment| segment.bytes.len()).collect();
//! assert_eq!(pieces, [34, 1000]);
//!
//! // The last reference brings the block back to the pool. Nothing was copied but the headers.
//! drop(buffer);
//! assert_eq!(pool.idle(), 1);
//! assert_eq!(memory.statistics().copied_bytes, 34);
//! # Ok::<(), netbuf::Error>(())
//! ```
//!
//! # Who may write
//!
//! A head with several users is read only: [`data_mut`](NetBuf::data_mut), `put` and `push` of a cloned buffer are
//! refused with [`Shared`], and [`unshare`](NetBuf::unshare), [`cow`](NetBuf::cow) or
//! [`expand_head`](NetBuf::expand_head) make a private copy of the linear part (frags stay shared). That goes for headers
//! in front of a clone, too: a queue for retransmission keeps payload in frags and calls `cow` on each clone that it sends,
//! which copies no payload. A block is written
//! only through [`Block`], which has one owner; [shared](Block::share), it is read only until the last reference dies.
//! So what a device may write is never what somebody reads, unless a driver hands the bus address of a block to a
//! device and then gives the block away: a driver keeps the block in its ring entry until the device is done.
//!
//! | to get | from a buffer | costs |
//! | --- | --- | --- |
//! | a second view of the same bytes | [`clone_buffer`](NetBuf::clone_buffer) | a descriptor; nothing after [`alloc_fclone`](NetBuf::alloc_fclone) |
//! | private headers, shared payload | [`copy_head`](NetBuf::copy_head), [`unshare`](NetBuf::unshare) | a head; copies the linear part |
//! | private everything | [`copy`](NetBuf::copy) | a head; copies all |
//! | headers in one piece | [`may_pull`](NetBuf::may_pull) | copies what is missing |
//! | all in one piece | [`linearize`](NetBuf::linearize) | copies the frags |
//!
//! # Linux's names
//!
//! | Linux | here |
//! | --- | --- |
//! | `alloc_skb`, `dev_alloc_skb`, `alloc_skb_fclone` | [`NetBuf::alloc`], [`NetBuf::rx_alloc`], [`NetBuf::alloc_fclone`] |
//! | `kfree_skb`, `consume_skb`, `dev_kfree_skb`, `_irq`, `_any` | dropping, [`NetBuf::free`], [`free_irq`](NetBuf::free_irq), [`free_any`](NetBuf::free_any), [`Memory::free_deferred`] |
//! | `skb_reserve`, `skb_put`, `skb_push`, `skb_pull`, `skb_trim` | [`reserve`](NetBuf::reserve), [`put`](NetBuf::put), [`push`](NetBuf::push), [`pull`](NetBuf::pull), [`trim`](NetBuf::trim) |
//! | `__skb_put`, `__skb_push`, `__skb_pull`, `__skb_trim` | [`put_unchecked`](NetBuf::put_unchecked), and so on |
//! | `pskb_may_pull`, `pskb_pull`, `pskb_trim`, `skb_linearize` | [`may_pull`](NetBuf::may_pull), [`pull_anywhere`](NetBuf::pull_anywhere), [`trim`](NetBuf::trim), [`linearize`](NetBuf::linearize) |
//! | `skb_headroom`, `skb_tailroom`, `skb_headlen`, `skb_is_nonlinear` | [`headroom`](NetBuf::headroom), [`tailroom`](NetBuf::tailroom), [`head_len`](NetBuf::head_len), [`is_nonlinear`](NetBuf::is_nonlinear) |
//! | `skb_clone`, `skb_copy`, `pskb_copy` | [`clone_buffer`](NetBuf::clone_buffer), [`copy`](NetBuf::copy), [`copy_head`](NetBuf::copy_head) |
//! | `pskb_expand_head`, `skb_cow`, `skb_unshare` | [`expand_head`](NetBuf::expand_head), [`cow`](NetBuf::cow), [`unshare`](NetBuf::unshare) |
//! | `skb_get`, `skb_shared`, `skb_share_check` | [`NetBuf::share`], [`SharedNetBuf::users`], [`SharedNetBuf::share_check`] |
//! | `skb_ensure_writable` | [`make_writable`](NetBuf::make_writable) |
//! | `skb_copy_bits`, `skb_store_bits`, `skb_header_pointer` | [`copy_bits`](NetBuf::copy_bits), [`store_bits`](NetBuf::store_bits), [`header_pointer`](NetBuf::header_pointer) |
//! | `skb_add_rx_frag`, `kmap_skb_frag`, `skb_frag_ref`, `skb_split`, `skb_try_coalesce` | [`add_rx_frag`](NetBuf::add_rx_frag), [`frag`](NetBuf::frag), [`frag_block`](NetBuf::frag_block), [`split`](NetBuf::split), [`try_coalesce`](NetBuf::try_coalesce) |
//! | `skb_shinfo(skb)->frag_list`, `skb_walk_frags` | [`append_to_frag_list`](NetBuf::append_to_frag_list), [`frag_list`](NetBuf::frag_list) |
//! | `skb_to_sgvec` | [`scatter_list`](NetBuf::scatter_list) |
//! | `ip_summed`, `csum`, `csum_start`, `csum_offset` | [`checksum_status`](NetBuf::checksum_status) |
//! | `skb_checksum`, `csum_fold`, `csum_block_add`, `csum_replace2` | [`NetBuf::checksum`], [`fold`], [`combine`], [`update`] |
//! | `skb_checksum_help`, `skb_pull_rcsum`, `skb_push_rcsum`, `pskb_trim_rcsum` | [`complete_checksum`](NetBuf::complete_checksum), [`pull_checksummed`](NetBuf::pull_checksummed), [`push_checksummed`](NetBuf::push_checksummed), [`trim_checksummed`](NetBuf::trim_checksummed) |
//! | `skb_mac_header`, `_was_set`, `_reset`, `_set`, `_unset`, `skb_mac_offset` | [`mac_header`](NetBuf::mac_header), [`mac_header_was_set`](NetBuf::mac_header_was_set), [`reset_mac_header`](NetBuf::reset_mac_header), [`set_mac_header`](NetBuf::set_mac_header), [`unset_mac_header`](NetBuf::unset_mac_header), [`mac_offset`](NetBuf::mac_offset); the same for `network` and `transport` |
//! | `protocol`, `pkt_type`, `priority`, `mark`, `hash`, `tstamp`, `queue_mapping`, `peeked`, `mac_len` | methods of these names, but [`packet_type`](NetBuf::packet_type), [`timestamp`](NetBuf::timestamp), [`is_peeked`](NetBuf::is_peeked) |
//! | `dev` and `iif`, `vlan_tci`, `nohdr`, `hdr_len` | [`interface`](NetBuf::interface), [`vlan`](NetBuf::vlan), [`is_payload_only`](NetBuf::is_payload_only), [`header_len`](NetBuf::header_len) |
//! | `cb` | [`control_block`](NetBuf::control_block) |
//! | `sk`, `destructor`, `truesize`, `skb_orphan` | [`set_owner`](NetBuf::set_owner), [`MemoryOwner`], [`truesize`](NetBuf::truesize), [`orphan`](NetBuf::orphan) |
//! | `struct page`, `get_page`, `put_page` | [`Block`], [`SharedBlock`] and its clones |
//! | `sk_buff_head`, `__skb_queue_head`, `__skb_queue_tail`, `__skb_dequeue`, `__skb_dequeue_tail`, `skb_peek`, `skb_peek_tail` | [`Queue`], [`push_front`](Queue::push_front), [`push_back`](Queue::push_back), [`pop_front`](Queue::pop_front), [`pop_back`](Queue::pop_back), [`front`](Queue::front), [`back`](Queue::back) |
//! | `__skb_insert`, `__skb_append`, `__skb_unlink`, `skb_queue_walk_safe`, `skb_queue_reverse_walk` | [`Cursor`]: [`insert_before`](Cursor::insert_before), [`insert_after`](Cursor::insert_after), [`remove`](Cursor::remove), [`advance`](Cursor::advance), [`retreat`](Cursor::retreat) |
//! | `skb_queue_splice_init`, `skb_queue_splice_tail_init`, `__skb_queue_purge`, `skb_queue_walk` | [`prepend`](Queue::prepend), [`append`](Queue::append), [`clear`](Queue::clear), [`iter`](Queue::iter) |
//! | the same without `__`, under the queue's lock | [`LockedQueue`] |
//! | `/proc/slabinfo`, `/proc/buddyinfo` | [`Memory::tables`] |
//!
//! # Where the memory comes from
//!
//! ```text
//!   NetBuf::alloc, copy        NetBuf::rx_alloc, receive          Block, BlockPool
//!          │                             │                              │
//!          v                             v                              │
//!   slab caches:                  page fragments:                       │
//!   kmalloc-64 ... kmalloc-8192   heads cut one after the               │
//!   skbuff_head_cache             other from 32 KiB blocks              │
//!   skbuff_fclone_cache                  │                              │
//!          │                             │                              │
//!          └─────────────┬───────────────┴──────────────────────────────┘
//!                        v
//!      PageSource: power-of-two blocks of pages, by zone
//! ```
//!
//! Everything that is given back is kept for the next one, so that in steady state the page source is not called at
//! all: [`Statistics::allocator_calls`] stands still. [`Memory::shrink`] gives back what nobody uses. Exhaustion is
//! [`OutOfMemory`], never a panic, and leaves everything as it was. A head that is too large for `kmalloc-8192` gets a
//! block of its own.
//!
//! A [`Memory`] belongs to the context that made it (see [`context`]), which works without atomic instructions; other
//! threads go through a lock, and interrupt handlers leave what they free to a task.
//!
//! # Sizes
//!
//! | | here | Linux |
//! | --- | --- | --- |
//! | descriptor | 192 bytes: three cache lines | 232 |
//! | shared info | 312 bytes: 40 and 17 frags of 16 | 320 |
//!
//! A head has room for 16 MiB at most; more is [`OutOfMemory`]. A packet with its frags has 1 GiB at most; more is
//! [`Error::TooLarge`].
//!
//! The first cache line of the descriptor holds what `put`, `push`, `pull`, queues and freeing need; the second the
//! metadata; the third the control block. A frag is a pointer, an offset and a length. Both sizes are asserted when
//! the crate is compiled.
//!
//! # Where it differs from Linux
//!
//! - What Linux answers with a panic or a null pointer is an [`Error`] with the numbers that explain it, and the packet is
//!   as it was.
//! - That nobody writes a shared head is a convention there. Here it is refused, and a clone that drops frags gets a list
//!   of its own first.
//! - A descriptor with several users is a [`SharedNetBuf`], which only reads. All others have one owner.
//! - [`truesize`](NetBuf::truesize) falls when frags are dropped or pulled into the head. A buffer that is appended to a
//!   frag list counts there, and its own charge is given back.
//! - A buffer in a queue is looked at in place, and taken out to be changed.
//! - `dev` and `iif` are one number. NUMA nodes are not told apart.
//! - Segmentation offload is described (segment size, count) but not done. A buffer on a frag list has no frag list of its
//!   own. [Joining](NetBuf::try_coalesce) does not turn the head of the second buffer into a frag of the first.
//!
//! # Features
//!
//! Without any the crate needs `core` and `alloc`: a kernel implements [`PageSource`] and calls
//! [`context::declare_single_core`]. With **`host`** there is the module [`host`], a page source on the system allocator
//! for tests and for programs on an operating system, and threads are told apart; the examples need it. **`loom`** puts
//! loom's atomics in place of the processor's, for this crate's own tests.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod buffer;
pub mod context;
mod cursor;
mod error;
#[cfg(any(feature = "host", doc))]
pub mod host;
mod locked_queue;
mod memory;
mod page_source;
mod queue;
mod sync;

pub use buffer::{
    Backing, BufferInspection, CONTROL_BLOCK_SIZE, ChecksumStatus, DmaSegment, DmaSegmentMut, FragInspection,
    IP_ALIGN, MAX_FRAGS, MemoryOwner, NetBuf, PacketType, RECEIVE_HEADROOM, ReceivePattern, Segmentation,
    SharedNetBuf, checksum, combine, fold, update,
};
pub use cursor::Cursor;
pub use error::{Error, OutOfMemory, Shared};
pub use locked_queue::LockedQueue;
pub use memory::block::{Block, SharedBlock};
pub use memory::pool::BlockPool;
pub use memory::{CacheInformation, Memory, MemoryTables, Statistics};
pub use page_source::{PAGE_SIZE, PageBlock, PageSource, Zone};
pub use queue::{Iter, Queue};
