//! The fact sheet on sk_buff (docs/hardware/sk_buff.md), row by row, against the public interface of the crate: one
//! module for each of the sheet's tables, one test for each fact or bound. Written from the documentation of the
//! crate, not from its source.
#![cfg(not(feature = "loom"))]
#![expect(clippy::unwrap_used, reason = "a test's own set-up")]

mod allocation;
mod charges;
mod checksums;
mod copies;
mod exhaustion;
mod frag_lists;
mod frags;
mod headers;
mod inspection;
mod memory;
mod metadata;
mod parts;
mod queues;
mod receiving;
mod room;
mod sharing;

use netbuf::{Block, Memory, NetBuf, SharedBlock, Zone};

/// `count` bytes that differ from their neighbours, beginning with `first`.
fn bytes(count: usize, first: u8) -> Vec<u8> {
    (0..count).map(|index| first.wrapping_add((index as u8).wrapping_mul(7))).collect()
}

/// A page block of `order` with `content` at `offset`.
fn block(memory: &Memory, order: u8, offset: usize, content: &[u8]) -> SharedBlock {
    let mut block = Block::alloc(memory, order, Zone::Normal).unwrap();
    block.bytes_mut()[offset..offset + content.len()].copy_from_slice(content);
    block.share()
}

/// A buffer with `linear` in its head and each of `frags` in a page of its own, which it pins whole.
fn buffer(memory: &Memory, linear: &[u8], frags: &[&[u8]]) -> NetBuf {
    let mut buffer = NetBuf::rx_alloc(memory, linear.len()).unwrap();
    buffer.put(linear.len()).unwrap().copy_from_slice(linear);
    for content in frags {
        buffer.add_rx_frag(block(memory, 0, 100, content), 100, content.len(), 4096).unwrap();
    }
    buffer
}

/// The whole packet, wherever its bytes lie.
fn content(buffer: &NetBuf) -> Vec<u8> {
    let mut content = vec![0; buffer.len()];
    buffer.copy_bits(0, &mut content).unwrap();
    content
}

/// Everything about a buffer that a refused operation must leave alone.
fn state(buffer: &NetBuf) -> impl PartialEq + std::fmt::Debug + use<> {
    let lengths = (buffer.len(), buffer.data_len(), buffer.headroom(), buffer.tailroom(), buffer.truesize());
    let headers = [buffer.mac_header(), buffer.network_header(), buffer.transport_header()]
        .map(|h| h.map(<[u8]>::to_vec));
    (lengths, buffer.frag_count(), buffer.has_frag_list(), headers, buffer.checksum_status(), content(buffer))
}
