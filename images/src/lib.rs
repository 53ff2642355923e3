//! The host tool: builds images, boots them in QEMU, pings them, benchmarks them
