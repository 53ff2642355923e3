//! Section 4: what a diagnostic can tell of a live buffer, and the tables.

use netbuf::{Backing, NetBuf, Zone, host};

use crate::{block, buffer, bytes};

#[test]
fn head_of_a_received_buffer_is_a_page_fragment_and_that_of_its_copy_kmalloc_1024() {
    let memory = host::memory();
    // An echo request of ping: 14 + 20 + 8 + 56 bytes, in a head for a whole frame, would be larger; 500 do.
    let mut received = NetBuf::rx_alloc(&memory, 512).unwrap();
    received.put(500).unwrap();
    let copy = received.copy().unwrap();
    let Backing::PageFragment { references } = received.inspect().backing else { panic!("no page fragment") };
    assert!(references >= 1);
    assert_eq!(copy.inspect().backing, Backing::Slab { cache: "kmalloc-1024", object_size: 1024 });
    assert!(!received.inspect().to_string().contains("kmalloc"));
    assert!(copy.inspect().to_string().contains("kmalloc-1024"));
}

#[test]
fn inspection_tells_zone_references_and_truesize_of_head_and_frags() {
    let memory = host::memory();
    let page = block(&memory, 3, 500, &bytes(200, 1));
    let mut packet = buffer(&memory, b"head", &[b"small"]);
    packet.add_rx_frag(page.clone(), 500, 200, 4096).unwrap();
    let clone = packet.clone_buffer().unwrap();
    let inspection = packet.inspect();
    assert_eq!((inspection.truesize, inspection.data_references), (packet.truesize(), 2));
    assert_eq!(inspection.block.zone, Zone::Normal);
    let frags: Vec<_> = inspection.frags().collect();
    assert_eq!(frags.len(), 2);
    assert_eq!((frags[0].block.order, frags[0].references, frags[0].offset, frags[0].len), (0, 1, 100, 5));
    assert_eq!((frags[1].block.order, frags[1].references, frags[1].offset, frags[1].len), (3, 2, 500, 200));
    let text = inspection.to_string();
    assert!(text.contains("Normal"), "{text}");
    drop(clone);
    assert_eq!(packet.inspect().data_references, 1);
}

#[test]
fn inspection_sees_the_buffers_of_a_frag_list() {
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[b"one"]);
    packet.append_to_frag_list(buffer(&memory, b"list", &[b"two"])).unwrap();
    let members: Vec<_> = packet.frag_list().map(|member| member.inspect().frags().count()).collect();
    assert_eq!(members, [1]);
    let text = packet.inspect().to_string();
    assert_eq!(text.lines().filter(|line| line.contains("head:")).count(), 2, "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("frag 0:")).count(), 2, "{text}");
}

#[test]
fn tables_show_each_cache_and_zone() {
    let memory = host::memory();
    let _buffers: Vec<_> = (0..5).map(|_| NetBuf::alloc(&memory, 1500).unwrap()).collect();
    let tables = memory.tables().to_string();
    for cache in memory.caches() {
        let line = tables.lines().find(|line| line.split_whitespace().next() == Some(cache.name)).unwrap();
        let numbers: Vec<usize> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert_eq!(numbers[..3], [cache.active_objects, cache.total_objects, cache.object_size], "{line}");
    }
    for zone in ["DMA", "DMA32", "Normal"] {
        assert!(
            tables.lines().any(|line| line.starts_with("Node 0, zone") && line.contains(zone)),
            "{tables}"
        );
    }
}
