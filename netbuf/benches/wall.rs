//! Wall-clock time of the operations that a packet goes through, with peers side by side in the same run: DPDK's
//! `rte_mbuf` (where libdpdk is installed), `bytes::BytesMut`, and smoltcp's checksum.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot set up has nothing to measure")]

#[path = "peers/dpdk.rs"]
mod dpdk;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use criterion::{Criterion, criterion_group, criterion_main};
use netbuf::host::memory;
use netbuf::{Block, BlockPool, NetBuf, ReceivePattern, Zone};

/// Tail room of DPDK's default buffer: what the peers allocate.
const BUFFER: usize = 2048;

fn dpdk() -> Option<&'static dpdk::Dpdk> {
    static DPDK: std::sync::OnceLock<Option<dpdk::Dpdk>> = std::sync::OnceLock::new();
    DPDK.get_or_init(|| match dpdk::Dpdk::load() {
        Ok(dpdk) => Some(dpdk),
        Err(reason) => {
            println!("rte_mbuf is skipped: {reason}");
            None
        }
    })
    .as_ref()
}

fn time(a_loop: dpdk::Loop, count: u64) -> Duration {
    let start = Instant::now();
    a_loop.run(count);
    start.elapsed()
}

fn alloc_free(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("alloc+free");
    let memory = memory();
    group.bench_function("netbuf", |bencher| {
        bencher.iter(|| {
            let buffer = NetBuf::alloc(&memory, BUFFER).unwrap();
            black_box(buffer.data().as_ptr());
        });
    });
    group.bench_function("netbuf rx", |bencher| {
        bencher.iter(|| {
            let buffer = NetBuf::rx_alloc(&memory, BUFFER).unwrap();
            black_box(buffer.data().as_ptr());
        });
    });
    if let Some(dpdk) = dpdk() {
        group.bench_function("rte_mbuf", |bencher| bencher.iter_custom(|count| time(dpdk.alloc_free, count)));
    }
    group.bench_function("BytesMut", |bencher| {
        bencher.iter(|| {
            let buffer = BytesMut::with_capacity(BUFFER);
            black_box(buffer.as_ptr());
        });
    });
    group.finish();
}

fn clone_free(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("clone+free");
    let memory = memory();
    group.bench_function("netbuf fclone", |bencher| {
        let mut buffer = NetBuf::alloc_fclone(&memory, BUFFER).unwrap();
        buffer.put(1000).unwrap().fill(0x5a);
        bencher.iter(|| {
            let clone = buffer.clone_buffer().unwrap();
            black_box(clone.data().as_ptr());
        });
    });
    group.bench_function("netbuf", |bencher| {
        let mut buffer = NetBuf::alloc(&memory, BUFFER).unwrap();
        buffer.put(1000).unwrap().fill(0x5a);
        bencher.iter(|| {
            let clone = buffer.clone_buffer().unwrap();
            black_box(clone.data().as_ptr());
        });
    });
    if let Some(dpdk) = dpdk() {
        group.bench_function("rte_mbuf", |bencher| bencher.iter_custom(|count| time(dpdk.clone_free, count)));
    }
    group.bench_function("Bytes", |bencher| {
        let buffer = BytesMut::zeroed(1000).freeze();
        bencher.iter(|| {
            let clone = buffer.clone();
            black_box(clone.as_ptr());
        });
    });
    group.finish();
}

fn push_pull(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("push+pull");
    let memory = memory();
    group.bench_function("netbuf", |bencher| {
        let mut buffer = NetBuf::rx_alloc(&memory, BUFFER).unwrap();
        buffer.put(1000).unwrap().fill(0x5a);
        bencher.iter(|| {
            black_box(buffer.push(14).unwrap().as_ptr());
            black_box(buffer.pull(14).unwrap().as_ptr());
        });
    });
    if let Some(dpdk) = dpdk() {
        group
            .bench_function("rte_mbuf", |bencher| bencher.iter_custom(|count| time(dpdk.prepend_adj, count)));
    }
    group.finish();
}

fn copy_free(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("copy 1000+free");
    let memory = memory();
    group.bench_function("netbuf", |bencher| {
        let mut buffer = NetBuf::rx_alloc(&memory, BUFFER).unwrap();
        buffer.put(1000).unwrap().fill(0x5a);
        bencher.iter(|| {
            let copy = buffer.copy().unwrap();
            black_box(copy.data().as_ptr());
        });
    });
    if let Some(dpdk) = dpdk() {
        group.bench_function("rte_mbuf", |bencher| bencher.iter_custom(|count| time(dpdk.copy_free, count)));
    }
    group.bench_function("BytesMut", |bencher| {
        let buffer = BytesMut::zeroed(1000);
        bencher.iter(|| {
            let mut copy = BytesMut::with_capacity(BUFFER);
            copy.put_slice(buffer.chunk());
            black_box(copy.as_ptr());
        });
    });
    group.finish();
}

fn receive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rx-frag build+free");
    let memory = memory();
    let pattern = ReceivePattern { head_len: 128, copybreak: 128, truesize: None };
    group.bench_function("netbuf", |bencher| {
        let mut block = Block::alloc(&memory, 2, Zone::Normal).unwrap();
        block.bytes_mut().fill(0x5a);
        let block = block.share();
        bencher.iter(|| {
            let buffer = NetBuf::receive(&memory, &block, 0, 1500, &pattern).unwrap();
            black_box(buffer.data().as_ptr());
        });
    });
    group.bench_function("netbuf, a block from the pool for each", |bencher| {
        let pool = BlockPool::new(&memory, 0, Zone::Normal, 4).unwrap();
        bencher.iter(|| {
            let block = pool.take().unwrap().share();
            let buffer = NetBuf::receive(&memory, &block, 0, 1500, &pattern).unwrap();
            black_box(buffer.data().as_ptr());
        });
    });
    group.finish();
}

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum 1400");
    let bytes: Vec<u8> = (0..1400_u32).map(|index| (index * 7) as u8).collect();
    assert_eq!(netbuf::fold(netbuf::checksum(&bytes, 0)), !smoltcp::wire::checksum::data(&bytes));
    group.bench_function("netbuf", |bencher| {
        bencher.iter(|| netbuf::fold(netbuf::checksum(black_box(&bytes), 0)));
    });
    group.bench_function("smoltcp", |bencher| {
        bencher.iter(|| smoltcp::wire::checksum::data(black_box(&bytes)));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .without_plots();
    targets = alloc_free, clone_free, push_pull, copy_free, receive, checksum
}
criterion_main!(benches);
