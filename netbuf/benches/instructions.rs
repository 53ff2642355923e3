//! Instructions of the operations that a packet goes through, counted by callgrind: the same on every machine and at
//! every load. Each benchmark runs its operation [`COUNT`] times.
//!
//! Needs valgrind and `gungraun-runner` of the version in the manifest (`cargo install gungraun-runner`). Without them
//! it says so and ends.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot set up has nothing to measure")]

#[path = "peers/dpdk.rs"]
mod dpdk;

/// How often each operation runs.
const COUNT: u64 = 1000;

mod counted {
    use std::hint::black_box;

    use bytes::BytesMut;
    use gungraun::{LibraryBenchmarkConfig, library_benchmark, library_benchmark_group};
    use netbuf::host::memory;
    use netbuf::{Block, Memory, NetBuf, ReceivePattern, SharedBlock, Zone};

    use super::COUNT;
    use super::dpdk::Dpdk;

    fn warm() -> Memory {
        let memory = memory();
        drop(NetBuf::alloc(&memory, 2048).unwrap());
        drop(NetBuf::rx_alloc(&memory, 2048).unwrap());
        memory
    }

    fn packet() -> (Memory, NetBuf) {
        let memory = warm();
        let mut buffer = NetBuf::alloc_fclone(&memory, 2048).unwrap();
        buffer.reserve(64).unwrap();
        buffer.put(1000).unwrap().fill(0x5a);
        drop(buffer.copy().unwrap());
        (memory, buffer)
    }

    fn block() -> (Memory, SharedBlock) {
        let memory = warm();
        let mut block = Block::alloc(&memory, 2, Zone::Normal).unwrap();
        block.bytes_mut().fill(0x5a);
        let block = block.share();
        (memory, block)
    }

    fn payload() -> Vec<u8> {
        (0..1400_u32).map(|index| (index * 7) as u8).collect()
    }

    fn dpdk() -> Option<Dpdk> {
        // Without the library there is nothing to load: this process must not run a compiler.
        std::env::var_os(super::dpdk::LIBRARY).and_then(|_| Dpdk::load().ok())
    }

    #[library_benchmark]
    #[bench::netbuf(warm())]
    fn alloc_free(memory: Memory) -> Memory {
        for _ in 0..COUNT {
            black_box(NetBuf::alloc(&memory, 2048).unwrap().data().as_ptr());
        }
        memory
    }

    #[library_benchmark]
    #[bench::netbuf(warm())]
    fn rx_alloc_free(memory: Memory) -> Memory {
        for _ in 0..COUNT {
            black_box(NetBuf::rx_alloc(&memory, 2048).unwrap().data().as_ptr());
        }
        memory
    }

    #[library_benchmark]
    #[bench::netbuf(packet())]
    fn clone_free((memory, mut buffer): (Memory, NetBuf)) -> (Memory, NetBuf) {
        for _ in 0..COUNT {
            black_box(buffer.clone_buffer().unwrap().data().as_ptr());
        }
        (memory, buffer)
    }

    #[library_benchmark]
    #[bench::netbuf(packet())]
    fn push_pull((memory, mut buffer): (Memory, NetBuf)) -> (Memory, NetBuf) {
        for _ in 0..COUNT {
            black_box(buffer.push(14).unwrap().as_ptr());
            black_box(buffer.pull(14).unwrap().as_ptr());
        }
        (memory, buffer)
    }

    #[library_benchmark]
    #[bench::netbuf(packet())]
    fn copy_free((memory, buffer): (Memory, NetBuf)) -> (Memory, NetBuf) {
        for _ in 0..COUNT {
            black_box(buffer.copy().unwrap().data().as_ptr());
        }
        (memory, buffer)
    }

    #[library_benchmark]
    #[bench::netbuf(block())]
    fn receive_free((memory, block): (Memory, SharedBlock)) -> (Memory, SharedBlock) {
        let pattern = ReceivePattern { head_len: 128, copybreak: 128, truesize: None };
        for _ in 0..COUNT {
            black_box(NetBuf::receive(&memory, &block, 0, 1500, &pattern).unwrap().data().as_ptr());
        }
        (memory, block)
    }

    #[library_benchmark]
    #[bench::netbuf(payload())]
    fn checksum_1400(bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..COUNT {
            black_box(netbuf::fold(netbuf::checksum(black_box(&bytes), 0)));
        }
        bytes
    }

    #[library_benchmark]
    #[bench::smoltcp(payload())]
    fn checksum_1400_peer(bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..COUNT {
            black_box(smoltcp::wire::checksum::data(black_box(&bytes)));
        }
        bytes
    }

    #[library_benchmark]
    #[bench::bytes_mut(0)]
    fn alloc_free_peer(_: u8) {
        for _ in 0..COUNT {
            black_box(BytesMut::with_capacity(2048).as_ptr());
        }
    }

    #[library_benchmark]
    #[bench::rte_mbuf(dpdk())]
    fn alloc_free_dpdk(dpdk: Option<Dpdk>) {
        if let Some(dpdk) = dpdk {
            dpdk.alloc_free.run(COUNT);
        }
    }

    #[library_benchmark]
    #[bench::rte_mbuf(dpdk())]
    fn clone_free_dpdk(dpdk: Option<Dpdk>) {
        if let Some(dpdk) = dpdk {
            dpdk.clone_free.run(COUNT);
        }
    }

    #[library_benchmark]
    #[bench::rte_mbuf(dpdk())]
    fn prepend_adj_dpdk(dpdk: Option<Dpdk>) {
        if let Some(dpdk) = dpdk {
            dpdk.prepend_adj.run(COUNT);
        }
    }

    #[library_benchmark]
    #[bench::rte_mbuf(dpdk())]
    fn copy_free_dpdk(dpdk: Option<Dpdk>) {
        if let Some(dpdk) = dpdk {
            dpdk.copy_free.run(COUNT);
        }
    }

    library_benchmark_group!(
        name = thousand_operations,
        benchmarks = [
            alloc_free,
            alloc_free_dpdk,
            alloc_free_peer,
            rx_alloc_free,
            clone_free,
            clone_free_dpdk,
            push_pull,
            prepend_adj_dpdk,
            copy_free,
            copy_free_dpdk,
            receive_free,
            checksum_1400,
            checksum_1400_peer
        ]
    );

    // The peer's compiler is found by the environment.
    gungraun::main!(
        config = LibraryBenchmarkConfig::default().env_clear(false);
        library_benchmark_groups = thousand_operations
    );

    pub fn run() {
        main();
    }
}

/// Whether the program runs at all.
fn runs(program: &str) -> bool {
    std::process::Command::new(program)
        .arg("--version")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok()
}

fn main() {
    let runner = std::env::var("GUNGRAUN_RUNNER").unwrap_or_else(|_| "gungraun-runner".into());
    // Under the runner this executable runs again as the thing measured: then nothing is to be asked.
    let measured = std::env::args().any(|argument| argument.starts_with("--gungraun-run"));
    if !measured {
        for program in [runner.as_str(), "valgrind"] {
            if !runs(program) {
                println!("instruction counts are skipped: {program} is not installed");
                return;
            }
        }
    }
    if !measured {
        match dpdk::compile() {
            // SAFETY: no other thread runs yet.
            Ok(library) => unsafe { std::env::set_var(dpdk::LIBRARY, library) },
            Err(reason) => println!("rte_mbuf is skipped: {reason}"),
        }
    }
    counted::run();
    if let Some(library) = std::env::var_os(dpdk::LIBRARY).filter(|_| !measured) {
        let _ = std::fs::remove_file(library);
    }
}
