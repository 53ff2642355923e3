//! Section 3: the receive pattern. Copy the headers, reference the rest.

use netbuf::{
    Block, BlockPool, Error, Memory, NetBuf, Queue, RECEIVE_HEADROOM, ReceivePattern, SharedBlock, Zone, host,
};

use crate::{bytes, content};

/// What a buffer costs besides its frag.
fn linear_truesize(buffer: &NetBuf) -> usize {
    192 + 312 + 64 + buffer.head_len().next_multiple_of(64)
}

/// A block that a device filled with several packets.
fn filled(memory: &Memory) -> SharedBlock {
    let mut block = Block::alloc(memory, 2, Zone::Dma32).unwrap();
    block.bytes_mut().copy_from_slice(&bytes(16_384, 1));
    block.share()
}

#[test]
fn head_is_the_smaller_of_packet_and_head_copy() {
    let memory = host::memory();
    let block = filled(&memory);
    let pattern = ReceivePattern { head_len: 128, copybreak: 0, truesize: None };
    for (len, head_len) in [(0, 0), (1, 1), (127, 127), (128, 128), (129, 128), (1514, 128)] {
        let copied = memory.statistics().copied_bytes;
        let buffer = NetBuf::receive(&memory, &block, 100, len, &pattern).unwrap();
        assert_eq!((buffer.len(), buffer.head_len()), (len, head_len), "packet of {len}");
        assert_eq!(memory.statistics().copied_bytes - copied, head_len as u64, "only those bytes are copied");
        assert_eq!(buffer.headroom(), RECEIVE_HEADROOM);
        assert_eq!(content(&buffer), &bytes(16_384, 1)[100..100 + len]);
    }
}

#[test]
fn rest_is_one_frag_of_the_block_and_holds_one_reference() {
    let memory = host::memory();
    let block = filled(&memory);
    let pattern = ReceivePattern { head_len: 128, copybreak: 0, truesize: None };
    let buffer = NetBuf::receive(&memory, &block, 3000, 1500, &pattern).unwrap();
    let frag = buffer.inspect().frags().next().unwrap();
    assert_eq!((frag.offset, frag.len), (3128, 1372));
    assert_eq!(
        frag.block.bus_address,
        block.bus_address(),
        "the block's first page, not the one of the bytes"
    );
    assert_eq!((buffer.frag_count(), block.references()), (1, 2));
    assert_eq!(buffer.frag(0).unwrap().as_ptr(), block.bytes()[3128..].as_ptr());

    let whole = NetBuf::receive(&memory, &block, 0, 128, &pattern).unwrap();
    assert_eq!((whole.frag_count(), block.references()), (0, 2), "nothing is left to reference");
}

#[test]
fn truesize_of_the_frag_is_the_aggregate_or_the_rounded_length() {
    let memory = host::memory();
    let block = filled(&memory);
    // mt7663s: each packet is charged with the whole aggregate.
    let pattern = ReceivePattern { head_len: 128, copybreak: 0, truesize: Some(16_384) };
    let buffer = NetBuf::receive(&memory, &block, 0, 1500, &pattern).unwrap();
    assert_eq!(buffer.truesize(), linear_truesize(&buffer) + 16_384);
    // r8152: with the frag's length, rounded up to the cache line.
    let pattern = ReceivePattern { truesize: None, ..pattern };
    let buffer = NetBuf::receive(&memory, &block, 0, 1500, &pattern).unwrap();
    assert_eq!(buffer.truesize(), linear_truesize(&buffer) + 1372usize.next_multiple_of(64));
}

#[test]
fn copybreak_copies_short_packets_whole() {
    let memory = host::memory();
    let block = filled(&memory);
    let pattern = ReceivePattern { head_len: 128, copybreak: 256, truesize: None };
    for (len, linear) in [(60, 60), (255, 255), (256, 256), (257, 128)] {
        let buffer = NetBuf::receive(&memory, &block, 0, len, &pattern).unwrap();
        assert_eq!((buffer.len(), buffer.head_len()), (len, linear), "packet of {len}");
    }
}

#[test]
fn copybreak_without_limit_is_the_4_14_form_everything_copied() {
    let memory = host::memory();
    let block = filled(&memory);
    let pattern = ReceivePattern { head_len: 128, copybreak: usize::MAX, truesize: None };
    let buffer = NetBuf::receive(&memory, &block, 7, 9000, &pattern).unwrap();
    assert!(!buffer.is_nonlinear());
    assert_eq!(buffer.data(), &bytes(16_384, 1)[7..9007]);
    assert_eq!(block.references(), 1);
}

#[test]
fn lengths_that_a_device_made_up_are_refused_and_leak_nothing() {
    let memory = host::memory();
    let block = filled(&memory);
    for copybreak in [0, 256, usize::MAX] {
        let pattern = ReceivePattern { head_len: 128, copybreak, truesize: None };
        for (offset, len) in [(0, 16_385), (16_384, 1), (16_000, 400), (usize::MAX, 1), (1, usize::MAX)] {
            let error = NetBuf::receive(&memory, &block, offset, len, &pattern).unwrap_err();
            assert!(
                matches!(error, Error::OutsideBlock { block_len: 16_384, .. }),
                "{offset} {len}: {error}"
            );
        }
    }
    assert_eq!((block.references(), memory.statistics().live_descriptors), (1, 0));
}

#[test]
fn block_goes_back_to_the_hardware_only_when_no_packet_references_it() {
    let memory = host::memory();
    let pool = BlockPool::new(&memory, 2, Zone::Dma32, 8).unwrap();
    let block = pool.take().unwrap();
    let address = block.bus_address();
    let block = block.share();
    let pattern = ReceivePattern { head_len: 64, copybreak: 0, truesize: None };
    let packets: Vec<_> =
        (0..3).map(|index| NetBuf::receive(&memory, &block, index * 2048, 1500, &pattern).unwrap()).collect();
    drop(block);
    assert_eq!((pool.idle(), pool.out()), (0, 1));
    let fresh = pool.take().unwrap(); // a fresh one takes its place
    assert_ne!(fresh.bus_address(), address);
    for (index, packet) in packets.into_iter().enumerate() {
        assert_eq!(pool.idle(), 0, "{index} packets gone");
        drop(packet);
    }
    assert_eq!((pool.idle(), pool.out()), (1, 1));
    assert_eq!(pool.take().unwrap().bus_address(), address);
}

#[test]
fn receiving_without_memory_is_refused_at_every_step_and_leaks_nothing() {
    let pages = host::HostPages::new();
    let memory = Memory::unowned(pages.clone()).unwrap();
    let block = filled(&memory);
    let live = memory.statistics().live_blocks;
    let mut failures = 0;
    for copybreak in [0, usize::MAX] {
        let pattern = ReceivePattern { head_len: 128, copybreak, truesize: None };
        for step in 0..8 {
            pages.fail_object(step);
            match NetBuf::receive(&memory, &block, 0, 1500, &pattern) {
                Ok(_) => {}
                Err(error) => {
                    assert!(matches!(error, Error::OutOfMemory(_)));
                    failures += 1;
                }
            }
            pages.heal();
            let statistics = memory.statistics();
            assert_eq!((statistics.live_descriptors, statistics.live_slab_objects), (0, 0));
            assert_eq!((statistics.live_blocks, block.references()), (live, 1));
        }
    }
    assert!(failures >= 2, "the descriptor at least, each time");
}

#[test]
fn echo_path_asks_nothing_of_the_page_source_in_steady_state() {
    let pages = host::HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    let pool = BlockPool::new(&memory, 2, Zone::Dma32, 8).unwrap();
    let pattern = ReceivePattern { head_len: 128, copybreak: 128, truesize: None };
    let mut ring: Vec<NetBuf> = Vec::new();
    let mut echo = |packets: usize| {
        let mut received = Queue::new();
        let block = pool.take().unwrap().share();
        for packet in 0..packets {
            received.push_back(NetBuf::receive(&memory, &block, packet * 1536, 1442, &pattern).unwrap());
            // The way of a device with linear buffers: one for each packet.
            let mut linear = NetBuf::rx_alloc(&memory, 1536).unwrap();
            linear.put_received(98).unwrap();
            received.push_back(linear);
        }
        drop(block);
        while let Some(mut buffer) = received.pop_front() {
            buffer.pull(34).unwrap();
            buffer.push(34).unwrap().fill(0);
            ring.push(buffer);
        }
        // The device is done with what was sent a while ago.
        let done = ring.len().saturating_sub(40);
        ring.drain(..done);
    };
    (0..50).for_each(|_| echo(10));
    let (before, calls) = (memory.statistics(), pages.allocations() + pages.releases());
    (0..1000).for_each(|_| echo(10));
    let after = memory.statistics();
    assert_eq!(after.allocator_calls, before.allocator_calls);
    assert_eq!(pages.allocations() + pages.releases(), calls);
    // Of each frame in the block the head was copied, of the others nothing.
    assert_eq!(after.copied_bytes - before.copied_bytes, 1000 * 10 * 128);
}
