//! Tests that see drivers and models: in process on a virtual clock, and images under QEMU
