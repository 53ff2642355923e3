//! Every operation that needs memory, with each of its allocations failing in turn: a typed error, the packet as it
//! was, and nothing lost.

use netbuf::host::HostPages;
use netbuf::{BlockPool, Error, Memory, NetBuf, ReceivePattern, Zone, host};

use crate::{block, buffer, bytes, content};

/// An operation on a packet whose clone and tap are alive.
type Operation = fn(&mut NetBuf) -> Result<(), Error>;

const OPERATIONS: [(&str, Operation); 12] = [
    ("clone_buffer", |packet| packet.clone_buffer().map(drop).map_err(Error::from)),
    ("copy", |packet| packet.copy().map(drop).map_err(Error::from)),
    ("copy_head", |packet| packet.copy_head().map(drop).map_err(Error::from)),
    ("expand_head", |packet| packet.expand_head(64, 64).map_err(Error::from)),
    ("cow", |packet| packet.cow(100).map_err(Error::from)),
    ("unshare", |packet| packet.unshare().map_err(Error::from)),
    ("make_writable", |packet| packet.make_writable(150)),
    ("may_pull", |packet| packet.may_pull(150)),
    ("pull_anywhere", |packet| packet.pull_anywhere(150).map(drop)),
    ("linearize", NetBuf::linearize),
    ("trim", |packet| packet.trim(150)),
    ("split", |packet| packet.split(150).map(drop)),
];

/// What is live in `memory`.
fn live(memory: &Memory) -> (usize, usize, usize) {
    let statistics = memory.statistics();
    (statistics.live_descriptors, statistics.live_slab_objects, statistics.live_blocks)
}

#[test]
fn every_operation_without_memory_is_refused_at_each_step_and_leaves_the_packet() {
    for (name, operation) in OPERATIONS {
        for with_list in [false, true] {
            if with_list && name == "split" {
                continue; // refused with a frag list anyway
            }
            let pages = HostPages::new();
            let memory = Memory::unowned(pages.clone()).unwrap();
            let mut failures = 0;
            for step in 0.. {
                let mut packet = buffer(&memory, &bytes(40, 1), &[&bytes(100, 2), &bytes(100, 3)]);
                if with_list {
                    packet.append_to_frag_list(buffer(&memory, &bytes(30, 4), &[&bytes(70, 5)])).unwrap();
                }
                packet.reset_network_header();
                let clone = packet.clone_buffer().unwrap();
                let (before, whole) = (live(&memory), content(&packet));
                pages.fail_object(step);
                let result = operation(&mut packet);
                pages.heal();
                if let Err(error) = result {
                    assert!(matches!(error, Error::OutOfMemory(_)), "{name}, step {step}: {error}");
                    assert_eq!(content(&packet), whole, "{name}, step {step}");
                    assert_eq!(packet.network_header_was_set(), clone.network_header_was_set());
                    failures += 1;
                }
                assert_eq!(content(&clone), whole, "{name}, step {step}");
                drop(clone);
                drop(packet);
                let after = live(&memory);
                assert_eq!(after, (0, 0, 0), "{name}, step {step}; before {before:?}");
                if result.is_ok() {
                    break;
                }
            }
            assert!(failures > 0, "{name} needs memory here");
        }
    }
}

#[test]
fn every_source_of_buffers_and_blocks_says_out_of_memory() {
    let pages = HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    let filled = block(&memory, 0, 0, &bytes(1000, 1));
    let pool = BlockPool::new(&memory, 0, Zone::Dma32, 1).unwrap();
    pages.fail_allocations_from(0);
    // What is in stock may still be had.
    let mut held = Vec::new();
    while let Ok(buffer) = NetBuf::alloc(&memory, 100) {
        held.push(buffer);
    }
    while let Ok(buffer) = NetBuf::rx_alloc(&memory, 100) {
        held.push(buffer);
    }
    let pattern = ReceivePattern { head_len: 64, copybreak: 0, truesize: None };
    assert!(matches!(NetBuf::receive(&memory, &filled, 0, 500, &pattern), Err(Error::OutOfMemory(_))));
    assert!(NetBuf::alloc_fclone(&memory, 100).is_err());
    assert!(pool.take().is_err() && pool.fill(1).is_err());
    assert!(netbuf::Block::alloc(&memory, 0, Zone::Normal).is_err());
    assert!(Memory::new(pages.clone()).is_err());
    pages.heal();
    drop(held);
    assert!(NetBuf::receive(&memory, &filled, 0, 500, &pattern).is_ok());
    drop((filled, pool));
    assert_eq!(live(&memory), (0, 0, 0));
}

#[test]
fn other_contexts_allocate_too() {
    let memory = host::memory();
    {
        let _interrupt = netbuf::context::enter_interrupt();
        let buffer = NetBuf::rx_alloc(&memory, 500).unwrap();
        assert_eq!((buffer.headroom(), buffer.tailroom()), (64, 512));
        assert!(matches!(buffer.inspect().backing, netbuf::Backing::Slab { cache: "kmalloc-1024", .. }));
        buffer.free_irq();
    }
    assert_eq!(memory.free_deferred(), 1);
    let there = memory.clone();
    let buffer = std::thread::spawn(move || NetBuf::rx_alloc(&there, 500).unwrap()).join().unwrap();
    assert!(matches!(buffer.inspect().backing, netbuf::Backing::Slab { .. }));
    drop(buffer);
    assert_eq!(memory.statistics().live_descriptors, 0);
}
