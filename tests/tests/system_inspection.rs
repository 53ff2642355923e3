//! What `inspect=` prints in the image: where the memory of live buffers comes from, as `skb_test` and `/proc` show it
//! in Linux (`docs/hardware/sk_buff.md`, section 4).
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use images::guest::GuestConfiguration;
use images::nic::Nic;
use skiff_tests::guest::{boot, configuration, ping};

/// The lines of the console after `echoes` pings of `size` bytes and an orderly end.
fn console_lines(nic: Nic, command_line: &str, echoes: u64, size: usize) -> Vec<String> {
    let configuration = GuestConfiguration { command_line: command_line.into(), ..configuration(&[nic]) };
    let mut guest = boot(&configuration);
    ping(&mut guest, echoes, size, 1);
    guest.shut_down().unwrap();
    guest.guest.transcript().lines().map(str::to_owned).collect()
}

/// The lines that contain `what`.
fn with<'a>(lines: &'a [String], what: &str) -> Vec<&'a str> {
    lines.iter().map(String::as_str).filter(|line| line.contains(what)).collect()
}

#[test]
fn echo_requests_show_page_fragments_their_copies_slabs_and_the_tables_both() {
    let lines = console_lines(Nic::Virtio, "inspect=icmp,memory", 5, 56);
    let (requests, copies) = (with(&lines, "[skb] "), with(&lines, "[skb2] "));
    assert_eq!((requests.len(), copies.len()), (5, 5), "one line each: {lines:#?}");
    for request in requests {
        assert!(request.contains("head: page fragment") && request.contains("zone: DMA32"), "{request}");
        assert!(request.contains("data references: 1, truesize: "), "{request}");
        assert!(!request.contains("kmem_cache"), "{request}");
    }
    // The head of a whole frame and the shared info behind it: 0x800 bytes.
    for copy in copies {
        assert!(copy.contains("head: kmem_cache name: kmalloc-2048, size: 800, zone: DMA32"), "{copy}");
    }

    // Once with the address, once at the end.
    for cache in
        ["kmalloc-64 ", "kmalloc-2048 ", "kmalloc-8192 ", "skbuff_head_cache ", "skbuff_fclone_cache "]
    {
        let rows = with(&lines, cache);
        let rows: Vec<_> = rows.iter().filter(|row| row.starts_with(cache)).collect();
        assert_eq!(rows.len(), 2, "{cache}: {lines:#?}");
        for row in rows {
            let numbers: Vec<u64> =
                row.split_whitespace().skip(1).map(|number| number.parse().unwrap()).collect();
            let [active, total, _, per_slab, _, slabs] = numbers[..] else { panic!("{row}") };
            assert!(active <= total && total == per_slab * slabs, "{row}");
        }
    }
    // The copies went through a cache that was empty before.
    assert!(with(&lines, "kmalloc-2048 ")[0].ends_with(" 0"), "{lines:#?}");
    assert!(lines.iter().filter(|line| line.starts_with("kmalloc-2048 ")).any(|line| !line.ends_with(" 0")));
    for zone in ["DMA", "DMA32", "Normal"] {
        let rows = with(&lines, "Node 0, zone");
        let rows: Vec<_> = rows.iter().filter(|row| row.split_whitespace().nth(3) == Some(zone)).collect();
        assert_eq!(rows.len(), 2, "{zone}: {lines:#?}");
        assert!(rows.iter().all(|row| row.split_whitespace().count() == 4 + 11), "orders 0 to 10: {rows:?}");
    }
}

#[test]
fn a_request_from_an_aggregate_shows_its_frag_and_the_copy_kmalloc_1024() {
    let lines = console_lines(Nic::Rtl8153, "inspect=icmp", 3, 500);
    let requests: Vec<_> = lines.iter().enumerate().filter(|(_, line)| line.contains("[skb] ")).collect();
    assert_eq!(requests.len(), 3, "{lines:#?}");
    for (index, request) in requests {
        assert!(request.contains("head: page fragment"), "{request}");
        let frag = &lines[index + 1];
        assert!(frag.starts_with("frag 0: page block, order: ") && frag.contains(", zone: DMA32"), "{frag}");
        let copy = &lines[index + 2];
        assert!(copy.contains("[skb2] head: kmem_cache name: kmalloc-1024, size: 400"), "{copy}");
    }
}
