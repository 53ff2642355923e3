//! Wire formats: checked views over the bytes of a frame, one module per protocol.
//!
//! Each module has two levels. The lower one is a `#[repr(C)]` header of big-endian fields that lies over the bytes in
//! place; getting one is a single bounds check, after which reading and writing fields cannot fail. The upper one is
//! what the bytes *mean*: a `check` function or a small struct that says whether the header is consistent with itself
//! and with the frame around it, and names what is wrong when it is not.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmpv4;
pub mod ipv4;
