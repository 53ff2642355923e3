//! Pieces of memory sent as one transfer: frames, not copied, with zero padding between them.

use alloc::vec::Vec;

use netbuf::NetBuf;

/// What one OUT transfer sends, in order. The frames are owned until the transfer's completion brings them back.
///
/// A finished gather can be [cleared](Gather::clear) and filled again; it keeps its list's memory.
#[derive(Debug, Default)]
pub struct Gather {
    parts: Vec<Part>,
    zero_packet: bool,
}

#[derive(Debug)]
enum Part {
    Frame(NetBuf),
    Padding(u8),
}

impl Gather {
    /// A gather with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the bytes of a frame.
    pub fn push_frame(&mut self, frame: NetBuf) {
        self.parts.push(Part::Frame(frame));
    }

    /// Appends `count` zero bytes, to align what follows or to fill a frame up.
    pub fn push_padding(&mut self, count: u8) {
        if count > 0 {
            self.parts.push(Part::Padding(count));
        }
    }

    /// Whether a zero-length packet follows when the length is a multiple of the endpoint's packet size, so that the
    /// device can tell the end (USB 2.0, 5.8.3). Off unless set.
    pub fn set_zero_packet(&mut self, wanted: bool) {
        self.zero_packet = wanted;
    }

    /// See [`Gather::set_zero_packet`].
    #[must_use]
    pub fn zero_packet(&self) -> bool {
        self.zero_packet
    }

    /// Takes the frames out, in order, and leaves the gather empty.
    pub fn drain_frames(&mut self) -> impl Iterator<Item = NetBuf> {
        self.parts.drain(..).filter_map(|part| match part {
            Part::Frame(frame) => Some(frame),
            Part::Padding(_) => None,
        })
    }

    /// Drops the frames and leaves the gather empty.
    pub fn clear(&mut self) {
        self.parts.clear();
    }
}
