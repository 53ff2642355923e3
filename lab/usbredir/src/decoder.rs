//! From a stream of bytes to packets.

use crate::capabilities::Capabilities;
use crate::error::ProtocolError;
use crate::packet::{Body, Packet};

/// The longest packet accepted, in bytes after the header: far more than any transfer descriptor of an xHCI's guest
/// that drives a network adapter, and little enough to hold.
pub const LARGEST_PACKET: usize = 16 << 20;

/// Collects bytes and gives packets. Follows the hello packets by itself: before the peer's hello has been seen, and for
/// that packet, ids have 32 bits; afterwards the layout is that of the capabilities both ends have.
#[derive(Debug)]
pub struct Decoder {
    ours: Capabilities,
    peer: Option<Capabilities>,
    bytes: Vec<u8>,
    /// Where the first unread byte of `bytes` is.
    start: usize,
    failed: bool,
}

impl Decoder {
    /// A decoder for what a peer sends to an end that announces `ours`.
    pub fn new(ours: Capabilities) -> Self {
        Self { ours, peer: None, bytes: Vec::new(), start: 0, failed: false }
    }

    /// The capabilities of both ends; none before the peer's hello.
    pub fn common(&self) -> Capabilities {
        self.peer.map_or(Capabilities::default(), |peer| peer & self.ours)
    }

    /// Takes bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed {
            return;
        }
        if self.start > 0 && self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole packet, or `None` until more bytes have come.
    ///
    /// # Errors
    ///
    /// After a recoverable error the bad packet is skipped; after one that is not, nothing more comes.
    pub fn next_packet(&mut self) -> Option<Result<Packet, ProtocolError>> {
        if self.failed {
            return None;
        }
        let wide = self.common().contains(Capabilities::IDS_64_BITS);
        let header = if wide { 16 } else { 12 };
        let waiting = &self.bytes[self.start..];
        if waiting.len() < header {
            self.forget_read_bytes();
            return None;
        }
        let word =
            |at: usize| u32::from_le_bytes([waiting[at], waiting[at + 1], waiting[at + 2], waiting[at + 3]]);
        let (kind, length) = (word(0), word(4) as usize);
        let id = u64::from(word(8)) | if wide { u64::from(word(12)) << 32 } else { 0 };
        if length > LARGEST_PACKET {
            self.failed = true;
            self.bytes = Vec::new();
            return Some(Err(ProtocolError::TooLong { kind, length, limit: LARGEST_PACKET }));
        }
        if waiting.len() - header < length {
            self.forget_read_bytes();
            return None;
        }
        let body = Body::parse(kind, &waiting[header..header + length], self.common());
        self.start += header + length;
        Some(self.follow_hello(kind, body).map(|body| Packet { id, body }))
    }

    /// Hello is the first packet and no other.
    fn follow_hello(&mut self, kind: u32, body: Result<Body, ProtocolError>) -> Result<Body, ProtocolError> {
        let body = body?;
        match (&body, self.peer) {
            (Body::Hello { capabilities, .. }, None) => self.peer = Some(*capabilities),
            (Body::Hello { .. }, Some(_)) | (_, None) => return Err(ProtocolError::HelloOutOfPlace { kind }),
            _ => {}
        }
        Ok(body)
    }

    /// Moves the incomplete packet to the front, so that the buffer does not grow with the stream.
    fn forget_read_bytes(&mut self) {
        self.bytes.drain(..self.start);
        self.start = 0;
    }
}
