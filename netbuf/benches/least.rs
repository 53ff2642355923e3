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

const BATCHES: usize = 1000;
const COUNT: u64 = 5000;
const BUFFER: usize = 2048;
/// Packets that a driver takes at a time; few enough for all of their memory to stay in the first cache.
const BUDGET: usize = 32;

/// A loop that does something as often as told.
type Loop<'a> = Box<dyn FnMut(u64) + 'a>;

fn repeated<'a>(mut operation: impl FnMut() + 'a) -> Loop<'a> {
    Box::new(move |count| (0..count).for_each(|_| operation()))
}

/// Nanoseconds per operation in the fastest batch of each loop. The loops take turns, so that whatever slows the machine
/// down for a while slows down all of them.
fn least<const N: usize>(mut loops: [Loop<'_>; N]) -> [f64; N] {
    let mut least = [f64::INFINITY; N];
    for _ in 0..BATCHES {
        for (batch, least) in loops.iter_mut().zip(&mut least) {
            let start = Instant::now();
            batch(COUNT);
            *least = least.min(start.elapsed().as_secs_f64() * 1e9 / COUNT as f64);
        }
    }
    least
}

/// Nanoseconds to build one buffer, in the fastest batch of [`BUDGET`], which are freed afterwards. What looking at the
/// clock takes is taken off, for these batches are short.
fn least_of_building(build: impl Fn() -> NetBuf) -> f64 {
    let mut built = Vec::with_capacity(BUDGET);
    let mut least = |count: usize| {
        let times = (0..BATCHES * 50).map(|_| {
            built.clear();
            let start = Instant::now();
            for _ in 0..count {
                built.push(build());
            }
            start.elapsed().as_secs_f64() * 1e9
        });
        times.fold(f64::INFINITY, f64::min)
    };
    (least(BUDGET) - least(0)) / BUDGET as f64
}

/// Prints a row: an operation beside one of the same meaning.
fn row(name: &str, ours: Loop<'_>, peer: &str, theirs: Loop<'_>) {
    let [ours, theirs] = least([ours, theirs]);
    println!("{name:<24} {ours:>8.2} {theirs:>8.2}  {:>5.2}  {peer}", ours / theirs);
}

fn main() {
    let memory = memory();
    let dpdk = dpdk::Dpdk::load().inspect_err(|reason| println!("rte_mbuf is skipped: {reason}")).ok();
    let beside_rte_mbuf = |name: &str, ours: Loop<'_>, pick: fn(&dpdk::Dpdk) -> dpdk::Loop| match &dpdk {
        Some(dpdk) => row(name, ours, "rte_mbuf", Box::new(move |count| pick(dpdk).run(count))),
        None => println!("{name:<24} {:>8.2}", least([ours])[0]),
    };
    let alloc = || repeated(|| drop(black_box(NetBuf::alloc(&memory, BUFFER).unwrap())));
    let receive_alloc = || repeated(|| drop(black_box(NetBuf::rx_alloc(&memory, BUFFER).unwrap())));
    println!("least ns per operation     netbuf   beside  ratio");

    beside_rte_mbuf("alloc+free", alloc(), |dpdk| dpdk.alloc_free);
    row("alloc+free", alloc(), "BytesMut", repeated(|| drop(black_box(BytesMut::with_capacity(BUFFER)))));
    beside_rte_mbuf("rx alloc+free", receive_alloc(), |dpdk| dpdk.alloc_free);

    for (name, alloc) in [
        ("fclone clone+free", NetBuf::alloc_fclone as fn(&Memory, usize) -> Result<NetBuf, OutOfMemory>),
        ("clone+free", NetBuf::alloc),
    ] {
        let mut buffer = alloc(&memory, BUFFER).unwrap();
        buffer.put(1000).unwrap().fill(0x5a);
        let clone = repeated(move || drop(black_box(buffer.clone_buffer().unwrap())));
        beside_rte_mbuf(name, clone, |dpdk| dpdk.clone_free);
    }

    let mut buffer = NetBuf::alloc(&memory, BUFFER).unwrap();
    buffer.reserve(64).unwrap();
    buffer.put(1000).unwrap().fill(0x5a);
    let copied = buffer.copy().unwrap();
    let push_pull = repeated(move || {
        black_box(buffer.push(14).unwrap().as_ptr());
        black_box(buffer.pull(14).unwrap().as_ptr());
    });
    beside_rte_mbuf("push+pull", push_pull, |dpdk| dpdk.prepend_adj);
    let copy = repeated(|| drop(black_box(copied.copy().unwrap())));
    beside_rte_mbuf("copy 1000+free", copy, |dpdk| dpdk.copy_free);

    let mut block = Block::alloc(&memory, 2, Zone::Normal).unwrap();
    block.bytes_mut().fill(0x5a);
    let block = block.share();
    let pattern = ReceivePattern { head_len: 128, copybreak: 128, truesize: None };
    let receive =
        || repeated(|| drop(black_box(NetBuf::receive(&memory, &block, 0, 1500, &pattern).unwrap())));
    let build = least_of_building(|| NetBuf::receive(&memory, &block, 0, 1500, &pattern).unwrap());
    let [beside] = least([alloc()]);
    println!("{:<24} {build:>8.2} {beside:>8.2}  {:>5.2}  our alloc+free", "rx-frag build", build / beside);
    row("rx-frag build+free", receive(), "our alloc+free", alloc());
    row("rx-frag build+free", receive(), "our rx alloc+free", receive_alloc());

    let bytes: Vec<u8> = (0..1400_u32).map(|index| (index * 7) as u8).collect();
    let ours = repeated(|| {
        black_box(netbuf::fold(netbuf::checksum(black_box(&bytes), 0)));
    });
    let smoltcp = repeated(|| {
        black_box(smoltcp::wire::checksum::data(black_box(&bytes)));
    });
    row("checksum 1400", ours, "smoltcp", smoltcp);
}
