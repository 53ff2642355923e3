//! What can go wrong, with the numbers that explain it.

use core::fmt;

/// The page source has nothing left, or the fault injection of a test says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// Bytes that were asked for.
    pub bytes: usize,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "out of memory: no {} bytes left in the page source", self.bytes)
    }
}

impl core::error::Error for OutOfMemory {}

/// The bytes belong to a clone as well, or the block to another frag: they must not be written.
/// [`NetBuf::unshare`](crate::NetBuf::unshare) makes those in the head private,
/// [`NetBuf::linearize`](crate::NetBuf::linearize) those in frags too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared;

impl fmt::Display for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the bytes are shared with another buffer: unshare before writing")
    }
}

impl core::error::Error for Shared {}

/// Why an operation on a buffer was refused. The packet is as it was before; the buffer is, too, unless it had to get
/// another head before memory ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No memory for a new head, descriptor or block.
    OutOfMemory(OutOfMemory),
    /// The bytes to write are shared with another buffer.
    Shared,
    /// Not enough room in front of the data.
    Headroom {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes there are.
        available: usize,
    },
    /// Not enough room behind the linear data; none at all when the buffer is not linear.
    Tailroom {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes there are.
        available: usize,
    },
    /// The operation reaches past the end of the data (or, for `pull`, of the linear data).
    PastEnd {
        /// First byte after those asked for.
        wanted: usize,
        /// Bytes there are.
        available: usize,
    },
    /// Headroom can be reserved only in an empty buffer; this one has data.
    NotEmpty {
        /// Bytes in the buffer.
        len: usize,
    },
    /// The buffer has frags or a frag list where only a linear one will do.
    NonLinear {
        /// Bytes outside the linear part.
        data_len: usize,
    },
    /// All places for frags are taken.
    TooManyFrags {
        /// Frags in the buffer.
        frags: usize,
    },
    /// A frag list where there may be none: on a buffer that is to go on a frag list, or to be split.
    NestedFragList,
    /// Offset and length do not lie within the block.
    OutsideBlock {
        /// First byte after the range.
        end: usize,
        /// Bytes in the block.
        block_len: usize,
    },
    /// The packet would be longer than a buffer can describe, which is 1 GiB.
    TooLarge {
        /// Bytes that it would have.
        bytes: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory(error) => error.fmt(formatter),
            Self::Shared => Shared.fmt(formatter),
            Self::Headroom { wanted, available } => {
                write!(formatter, "{wanted} bytes of headroom wanted, {available} available")
            }
            Self::Tailroom { wanted, available } => {
                write!(formatter, "{wanted} bytes of tailroom wanted, {available} available")
            }
            Self::PastEnd { wanted, available } => {
                write!(formatter, "the first {wanted} bytes wanted, {available} available")
            }
            Self::NotEmpty { len } => {
                write!(formatter, "cannot reserve headroom: the buffer holds {len} bytes")
            }
            Self::NonLinear { data_len } => {
                write!(formatter, "the buffer is not linear: {data_len} bytes lie outside the head")
            }
            Self::TooManyFrags { frags } => {
                write!(formatter, "the buffer has {frags} frags already, of {} that fit", crate::MAX_FRAGS)
            }
            Self::NestedFragList => formatter.write_str(
                "the buffer has a frag list: it can be neither split nor put on another frag list",
            ),
            Self::OutsideBlock { end, block_len } => {
                write!(formatter, "the frag would end at byte {end} of a block of {block_len} bytes")
            }
            Self::TooLarge { bytes } => {
                write!(formatter, "a packet of {bytes} bytes is more than a buffer can describe")
            }
        }
    }
}

impl core::error::Error for Error {}

impl From<OutOfMemory> for Error {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory(error)
    }
}

impl From<Shared> for Error {
    fn from(_: Shared) -> Self {
        Self::Shared
    }
}
