//! The least time of many short batches: what an operation costs when nothing disturbs it. Where a machine is shared,
//! this repeats when averages do not. Prints one table, with `rte_mbuf` beside where libdpdk is installed.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot set up has nothing to measure")]

#[path = "peers/dpdk.rs"]
mod dpdk;

use std::hint::black_box;
use std::time::Instant;

use bytes::BytesMut;
use netbuf::host::memory;
use netbuf::{Block, Memory, NetBuf, OutOfMemory, ReceivePattern, Zone};

const BATCHES: usize = 500;
const COUNT: u64 = 5000;
const BUFFER: usize = 2048;

/// Nanoseconds per operation in the fastest batch. `batch` runs the operation as often as told.
fn least(mut batch: impl FnMut(u64)) -> f64 {
    let times = (0..BATCHES).map(|_| {
        let start = Instant::now();
        batch(COUNT);
        start.elapsed().as_secs_f64() * 1e9 / COUNT as f64
    });
    times.fold(f64::INFINITY, f64::min)
}

fn row(name: &str, ours: f64, peer: Option<(&str, f64)>) {
    match peer {
        Some((peer, theirs)) => {
            println!("{name:<24} {ours:>8.2} {theirs:>8.2}  {:>5.2}  {peer}", ours / theirs)
        }
        None => println!("{name:<24} {ours:>8.2}"),
    }
}

fn main() {
    let memory = memory();
    let dpdk = dpdk::Dpdk::load().inspect_err(|reason| println!("rte_mbuf is skipped: {reason}")).ok();
    let rte_mbuf = |pick: fn(&dpdk::Dpdk) -> dpdk::Loop| {
        dpdk.as_ref().map(|dpdk| ("rte_mbuf", least(|count| pick(dpdk).run(count))))
    };
    println!("least ns per operation      netbuf     peer  ratio");

    let alloc = least(|count| {
        for _ in 0..count {
            black_box(NetBuf::alloc(&memory, BUFFER).unwrap().data().as_ptr());
        }
    });
    row("alloc+free", alloc, rte_mbuf(|dpdk| dpdk.alloc_free));
    let bytes_mut = least(|count| {
        for _ in 0..count {
            black_box(BytesMut::with_capacity(BUFFER).as_ptr());
        }
    });
    row("alloc+free", alloc, Some(("BytesMut", bytes_mut)));
    let receive_alloc = least(|count| {
        for _ in 0..count {
            black_box(NetBuf::rx_alloc(&memory, BUFFER).unwrap().data().as_ptr());
        }
    });
    row("rx alloc+free", receive_alloc, rte_mbuf(|dpdk| dpdk.alloc_free));

    for (name, alloc) in [
        ("fclone clone+free", NetBuf::alloc_fclone as fn(&Memory, usize) -> Result<NetBuf, OutOfMemory>),
        ("clone+free", NetBuf::alloc),
    ] {
        let mut buffer = alloc(&memory, BUFFER).unwrap();
        buffer.put(1000).unwrap().fill(0x5a);
        let ours = least(|count| {
            for _ in 0..count {
                black_box(buffer.clone_buffer().unwrap().data().as_ptr());
            }
        });
        row(name, ours, rte_mbuf(|dpdk| dpdk.clone_free));
    }

    let mut buffer = NetBuf::alloc(&memory, BUFFER).unwrap();
    buffer.reserve(64).unwrap();
    buffer.put(1000).unwrap().fill(0x5a);
    let ours = least(|count| {
        for _ in 0..count {
            black_box(buffer.push(14).unwrap().as_ptr());
            black_box(buffer.pull(14).unwrap().as_ptr());
        }
    });
    row("push+pull", ours, rte_mbuf(|dpdk| dpdk.prepend_adj));
    let ours = least(|count| {
        for _ in 0..count {
            black_box(buffer.copy().unwrap().data().as_ptr());
        }
    });
    row("copy 1000+free", ours, rte_mbuf(|dpdk| dpdk.copy_free));

    let mut block = Block::alloc(&memory, 2, Zone::Normal).unwrap();
    block.bytes_mut().fill(0x5a);
    let block = block.share();
    let pattern = ReceivePattern { head_len: 128, copybreak: 128, truesize: None };
    let ours = least(|count| {
        for _ in 0..count {
            black_box(NetBuf::receive(&memory, &block, 0, 1500, &pattern).unwrap().data().as_ptr());
        }
    });
    row("rx-frag build+free", ours, Some(("our alloc+free", alloc)));
    row("rx-frag build+free", ours, Some(("our rx alloc+free", receive_alloc)));

    let bytes: Vec<u8> = (0..1400_u32).map(|index| (index * 7) as u8).collect();
    let ours = least(|count| {
        for _ in 0..count {
            black_box(netbuf::fold(netbuf::checksum(black_box(&bytes), 0)));
        }
    });
    let smoltcp = least(|count| {
        for _ in 0..count {
            black_box(smoltcp::wire::checksum::data(black_box(&bytes)));
        }
    });
    row("checksum 1400", ours, Some(("smoltcp", smoltcp)));
}
