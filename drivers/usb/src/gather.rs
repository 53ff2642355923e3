//! Pieces of memory sent as one transfer: frames, not copied, with zero padding between them.

use alloc::vec::Vec;

use netbuf::{DmaSegment, NetBuf};

/// Most zero bytes in one piece of padding. A host controller keeps so many zeros ready.
pub const MAXIMUM_PADDING: usize = u8::MAX as usize;

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

/// A contiguous piece of a [`Gather`].
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// Bytes of a frame.
    Memory(DmaSegment<'a>),
    /// So many zero bytes, at most [`MAXIMUM_PADDING`], from wherever the host controller keeps them.
    Zeros(usize),
}

impl Piece<'_> {
    /// Bytes in the piece.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(segment) => segment.bytes.len(),
            Self::Zeros(count) => *count,
        }
    }

    /// Whether the piece has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
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

    /// Bytes in all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        let length = |part: &Part| match part {
            Part::Frame(frame) => frame.len(),
            Part::Padding(count) => usize::from(*count),
        };
        self.parts.iter().map(length).sum()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frames in the gather.
    #[must_use]
    pub fn frame_count(&self) -> usize {
        self.parts.iter().filter(|part| matches!(part, Part::Frame(_))).count()
    }

    /// The pieces in order, as a device gathers them: those of the frames with their bus addresses. None is empty.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        self.parts.iter().flat_map(|part| {
            let (frame, zeros) = match part {
                Part::Frame(frame) => (Some(frame), None),
                Part::Padding(count) => (None, Some(Piece::Zeros(usize::from(*count)))),
            };
            frame
                .into_iter()
                .flat_map(|frame| frame.scatter_list().map(Piece::Memory))
                .chain(zeros)
                .filter(|piece| !piece.is_empty())
        })
    }

    /// All bytes in order, copied: for a device that is not reached by DMA.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        for piece in self.pieces() {
            match piece {
                Piece::Memory(segment) => bytes.extend_from_slice(segment.bytes),
                Piece::Zeros(count) => bytes.resize(bytes.len() + count, 0),
            }
        }
        bytes
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
