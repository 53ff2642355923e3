//! The kernel of a Skiff image: boot, memory, interrupts, time, executor, network
