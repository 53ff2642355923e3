//! The other end of the Ethernet cable: a small host in user space.
//!
//! A guest's network card is plugged into a [`Cable`]; at the far end sits a [`Host`] that resolves addresses, leases
//! one by DHCP, answers and sends pings, cuts large ones into fragments, and can put any bytes on the wire. It needs
//! no tap, no root and no network of the machine: with [`Cable::qemu_stream`] QEMU is a child at the end of a
//! socket pair, with [`Cable::channel`] the card is a model in the same process.
//!
//! | module | idea |
//! | --- | --- |
//! | [`cable`] | frames in, frames out: the two halves of a cable, and the channel within a process |
//! | [`qemu`] | cables whose other end is QEMU: `-netdev stream` / `socket` and `-netdev dgram` |
//! | [`tap`] | a cable whose other end is a tap interface of this machine |
//! | [`host`] | the host: ARP, DHCP service, echo replies, raw frames |
//! | [`ping`] | the ping client: paced or pipelined, with round-trip times |
//! | [`dhcp`] | the DHCP server (RFC 2131), one lease |
//! | [`packet`] | frames read and built |
//! | [`fragments`] | IPv4 fragmentation and reassembly (RFC 791) |
//!
//! The host knows nothing of the kernel's network layer, and nothing is shared with it: packets are built and checked
//! with the etherparse crate, so that a mistake on one side cannot hide the same mistake on the other.
#![forbid(unsafe_code)]

pub mod cable;
pub mod dhcp;
pub mod fragments;
pub mod host;
pub mod packet;
pub mod ping;
pub mod qemu;
pub mod tap;

pub use cable::{Cable, FrameReceiver, FrameSender};
pub use host::{Host, HostConfiguration};
pub use ping::{EchoReply, Pace, PingOutcome, PingRequest};
