//! The network layer against a device that the tests play, on virtual time. Packets are built and read with
//! etherparse, which shares nothing with the code under test. Row numbers are those of
//! `docs/hardware/icmp-responder.md`.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod addresses;
mod echo;
mod fragments;
mod harness;
mod interfaces;
mod malformed;
