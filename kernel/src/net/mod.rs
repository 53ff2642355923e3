//! The network layer: interfaces, the echo path on netbufs, and smoltcp behind a seam for everything else.

pub mod wire;
