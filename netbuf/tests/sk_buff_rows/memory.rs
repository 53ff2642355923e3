//! Section 4: where the memory comes from.

use netbuf::{Backing, Block, BlockPool, Memory, NetBuf, OutOfMemory, PAGE_SIZE, Zone, host};

#[test]
fn slab_caches_bear_linux_names_and_sizes() {
    let memory = host::memory();
    let caches = memory.caches();
    for size in [64, 128, 256, 512, 1024, 2048, 4096, 8192] {
        let cache = caches.iter().find(|cache| cache.name == format!("kmalloc-{size}")).unwrap();
        assert_eq!(cache.object_size, size);
        let slab = cache.pages_per_slab * PAGE_SIZE;
        assert!(cache.objects_per_slab > 0 && cache.objects_per_slab * size <= slab);
    }
    for name in ["skbuff_head_cache", "skbuff_fclone_cache"] {
        assert!(caches.iter().any(|cache| cache.name == name), "{name}");
    }
}

#[test]
fn head_comes_from_the_smallest_cache_that_holds_it_and_the_shared_info() {
    let memory = host::memory();
    for size in [64, 128, 192, 256, 700, 712, 1024, 1500, 1600, 2048, 4096, 7872] {
        let buffer = NetBuf::alloc(&memory, size).unwrap();
        let needed = size.next_multiple_of(64) + 312;
        let expected = needed.next_power_of_two().max(64);
        let Backing::Slab { cache, object_size } = buffer.inspect().backing else {
            panic!("{size}: no slab")
        };
        assert_eq!((cache, object_size), (format!("kmalloc-{expected}").as_str(), expected), "size {size}");
    }
}

#[test]
fn head_beyond_the_largest_cache_is_a_page_block() {
    let memory = host::memory();
    let buffer = NetBuf::alloc(&memory, 20_000).unwrap();
    assert!(matches!(buffer.inspect().backing, Backing::PageFragment { .. }));
    assert!(buffer.inspect().block.len() >= 20_000);
    assert!(matches!(buffer.copy().unwrap().inspect().backing, Backing::PageFragment { .. }));
    let blocks = memory.statistics().live_blocks;
    drop(buffer);
    assert!(memory.statistics().live_blocks < blocks);
}

#[test]
fn descriptors_come_from_their_own_caches() {
    let memory = host::memory();
    let active = |name| memory.caches().into_iter().find(|cache| cache.name == name).unwrap().active_objects;
    let single = NetBuf::alloc(&memory, 64).unwrap();
    assert_eq!((active("skbuff_head_cache"), active("skbuff_fclone_cache")), (1, 0));
    let pair = NetBuf::alloc_fclone(&memory, 64).unwrap();
    assert_eq!((active("skbuff_head_cache"), active("skbuff_fclone_cache")), (1, 1));
    drop((single, pair));
    assert_eq!((active("skbuff_head_cache"), active("skbuff_fclone_cache")), (0, 0));
}

#[test]
fn received_heads_are_cut_one_after_the_other_from_one_block() {
    let memory = host::memory();
    let heads: Vec<_> = (0..4).map(|_| NetBuf::rx_alloc(&memory, 128).unwrap()).collect();
    let blocks: Vec<_> = heads.iter().map(|buffer| buffer.inspect().block.bus_address).collect();
    assert!(blocks.windows(2).all(|pair| pair[0] == pair[1]), "{blocks:x?}");
    assert_eq!(memory.statistics().live_slab_objects, 0);
}

#[test]
fn blocks_come_from_the_zone_that_was_asked_for() {
    let memory = host::memory();
    for (zone, limit) in [(Zone::Dma, 1 << 24), (Zone::Dma32, 1 << 32), (Zone::Normal, u64::MAX)] {
        for order in 0..4 {
            let block = Block::alloc(&memory, order, zone).unwrap();
            assert_eq!((block.order(), block.len()), (order, PAGE_SIZE << order));
            assert!(block.zone() <= zone, "the zone or a more restricted one");
            assert!(block.bus_address() + block.len() as u64 <= limit, "{zone:?}");
            assert_eq!(block.bus_address() % block.len() as u64, 0);
        }
    }
}

#[test]
fn an_order_that_no_source_has_is_out_of_memory() {
    let memory = host::memory();
    for order in [40, 52, 63, 64, 255] {
        assert!(
            matches!(Block::alloc(&memory, order, Zone::Normal), Err(OutOfMemory { .. })),
            "order {order}"
        );
        if let Ok(pool) = BlockPool::new(&memory, order, Zone::Normal, 1) {
            assert!(pool.take().is_err(), "order {order}");
        }
    }
}

#[test]
fn pool_recycles_and_keeps_no_more_than_it_was_told() {
    let pages = host::HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    let pool = BlockPool::new(&memory, 1, Zone::Normal, 2).unwrap();
    assert_eq!((pool.idle(), pool.out(), pool.block_len()), (0, 0, 8192));
    let blocks: Vec<_> = (0..3).map(|_| pool.take().unwrap()).collect();
    assert_eq!(pool.out(), 3);
    drop(blocks);
    assert_eq!((pool.idle(), pool.out()), (2, 0));
    let allocations = pages.allocations();
    let again = (pool.take().unwrap(), pool.take().unwrap());
    assert_eq!(pages.allocations(), allocations);
    drop(again);
    pool.fill(10).unwrap(); // at most as many as it keeps
    assert_eq!(pool.idle(), 2);
    drop(pool);
    drop(memory);
    assert_eq!(pages.live_blocks(), 0);
}

#[test]
fn pool_without_memory_is_refused_and_what_it_has_stays() {
    let pages = host::HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    let pool = BlockPool::new(&memory, 1, Zone::Normal, 4).unwrap();
    pool.fill(2).unwrap();
    pages.fail_allocations_from(0);
    assert!(pool.fill(4).is_err());
    assert_eq!(pool.idle(), 2);
    let blocks = (pool.take().unwrap(), pool.take().unwrap());
    assert!(matches!(pool.take(), Err(OutOfMemory { bytes: 8192 })));
    pages.heal();
    drop(blocks);
    assert_eq!(pool.idle(), 2);
}

#[test]
fn bookkeeping_outlives_handles_until_the_last_buffer_block_and_pool() {
    let pages = host::HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    let buffer = NetBuf::rx_alloc(&memory, 128).unwrap();
    let block = Block::alloc(&memory, 0, Zone::Normal).unwrap().share();
    let pool = BlockPool::new(&memory, 0, Zone::Normal, 1).unwrap();
    let from_pool = pool.take().unwrap();
    drop(memory);
    assert!(pages.live_blocks() > 0);
    drop(pool);
    drop(from_pool); // its pool is gone
    drop(buffer);
    drop(block);
    assert_eq!(pages.live_blocks(), 0);
}

#[test]
fn a_block_whose_last_reference_dies_in_another_thread_ends_the_memory() {
    let pages = host::HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    let first = Block::alloc(&memory, 0, Zone::Normal).unwrap().share();
    let second = Block::alloc(&memory, 0, Zone::Normal).unwrap();
    drop(memory);
    std::thread::spawn(move || drop(first)).join().unwrap();
    let second = second.share();
    std::thread::spawn(move || drop(second)).join().unwrap();
    assert_eq!(pages.live_blocks(), 0);
}

#[test]
fn shrink_gives_back_what_nobody_uses() {
    let pages = host::HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    let empty = pages.live_blocks();
    let buffers: Vec<_> = (0..200).map(|_| NetBuf::alloc(&memory, 1500).unwrap()).collect();
    let full = pages.live_blocks();
    drop(buffers);
    let returned = memory.shrink();
    assert!(returned > 0);
    assert_eq!(pages.live_blocks(), empty);
    assert!(full > empty);
}

#[test]
fn received_head_comes_from_a_slab_when_there_is_no_block_to_cut_from() {
    let pages = host::HostPages::new();
    let memory = Memory::new(pages.clone()).unwrap();
    drop(NetBuf::alloc(&memory, 1600).unwrap());
    pages.fail_allocations_from(0);
    let buffer = NetBuf::rx_alloc(&memory, 1536).unwrap();
    assert_eq!(buffer.inspect().backing, Backing::Slab { cache: "kmalloc-2048", object_size: 2048 });
    assert_eq!((buffer.headroom(), buffer.tailroom()), (64, 1536));
}
