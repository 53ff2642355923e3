//! Transfer blocks of CDC-NCM in their 16-bit form (NCM 1.0, 3): several frames in one bulk transfer.
//!
//! ```text
//! NTH16: "NCMH", header length 12, sequence, block length, index of the first NDP
//! NDP16: "NCM0", length, index of the next NDP, (index, length) of each datagram ..., (0, 0)
//! ```

/// Largest block in either direction, in bytes.
pub const LARGEST_BLOCK: usize = 16 << 10;
/// Smallest limit that a host may set (NCM 1.0, 6.2.7).
pub const SMALLEST_BLOCK: usize = 2048;
/// Largest frame, without frame check sequence but with a VLAN tag.
pub const LARGEST_FRAME: u16 = 1518;

const HEADER: usize = 12;
const TABLE: usize = 8;
const ENTRY: usize = 4;
/// Datagrams start two bytes after a multiple of four, so that what is behind the Ethernet header is aligned.
const DIVISOR: usize = 4;
const REMAINDER: usize = 2;

/// The answer to GET_NTB_PARAMETERS (NCM 1.0, 6.2.1).
pub fn parameters() -> [u8; 28] {
    let mut bytes = [0; 28];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    let size = (LARGEST_BLOCK as u32).to_le_bytes();
    let shape = [DIVISOR as u16, REMAINDER as u16, 4].map(u16::to_le_bytes).concat();
    put(0, &28u16.to_le_bytes());
    // Only 16-bit blocks.
    put(2, &1u16.to_le_bytes());
    put(4, &size);
    put(8, &shape);
    put(16, &size);
    put(20, &shape);
    bytes
}

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// A header is cut short or has not its signature.
    Header {
        /// Where it should be.
        at: usize,
    },
    /// A datagram lies beyond the end of the block.
    Datagram {
        /// Where it starts.
        at: usize,
        /// How long it is.
        length: usize,
    },
    /// The tables form no end.
    Endless,
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    Some(usize::from(u16::from_le_bytes([field[0], field[1]])))
}

/// The frames of a block.
///
/// # Errors
///
/// Nothing of a block with an error is used.
pub fn parse(block: &[u8]) -> Result<Vec<&[u8]>, BlockError> {
    let header = BlockError::Header { at: 0 };
    if block.get(..4) != Some(b"NCMH") || word(block, 4) != Some(HEADER) {
        return Err(header);
    }
    // Zero: the block ends with the transfer.
    let block = match word(block, 8).ok_or(header)? {
        0 => block,
        length => block.get(..length).ok_or(header)?,
    };
    let mut frames = Vec::new();
    let mut table = word(block, 10).ok_or(header)?;
    // More tables than fit a block form a ring.
    for _ in 0..LARGEST_BLOCK / TABLE {
        let wrong = BlockError::Header { at: table };
        let signature = block.get(table..).and_then(|rest| rest.get(..4)).ok_or(wrong)?;
        let length = word(block, table + 4).ok_or(wrong)?;
        if signature != b"NCM0" || length < TABLE + ENTRY {
            return Err(wrong);
        }
        for entry in (table + TABLE..table + length).step_by(ENTRY) {
            let at = word(block, entry).ok_or(wrong)?;
            let length = word(block, entry + 2).ok_or(wrong)?;
            if at == 0 || length == 0 {
                break;
            }
            let frame = block.get(at..at + length).ok_or(BlockError::Datagram { at, length })?;
            frames.push(frame);
        }
        match word(block, table + 6).ok_or(wrong)? {
            0 => return Ok(frames),
            next => table = next,
        }
    }
    Err(BlockError::Endless)
}

/// A block under construction.
#[derive(Debug, Default)]
pub struct Builder {
    frames: Vec<Vec<u8>>,
    /// Length of the datagrams with the gaps before them.
    payload: usize,
}

impl Builder {
    /// The greatest length of the block with one more frame of this length, whatever gaps the frames need.
    pub fn length_with(&self, frame: usize) -> usize {
        let entries = self.frames.len() + 2;
        HEADER + TABLE + ENTRY * entries + self.payload + frame + DIVISOR + REMAINDER
    }

    /// Adds a frame.
    pub fn add(&mut self, frame: Vec<u8>) {
        self.payload += frame.len() + DIVISOR;
        self.frames.push(frame);
    }

    /// The finished block; `None` without frames.
    pub fn finish(self, sequence: u16) -> Option<Vec<u8>> {
        if self.frames.is_empty() {
            return None;
        }
        let table_length = TABLE + ENTRY * (self.frames.len() + 1);
        let mut block = b"NCMH".to_vec();
        block.extend((HEADER as u16).to_le_bytes());
        block.extend(sequence.to_le_bytes());
        block.extend([0; 2]);
        block.extend((HEADER as u16).to_le_bytes());
        block.extend(b"NCM0");
        block.extend((table_length as u16).to_le_bytes());
        block.resize(HEADER + table_length, 0);
        for (i, frame) in self.frames.iter().enumerate() {
            // A gap of three bytes at most.
            let start = (block.len() - REMAINDER).next_multiple_of(DIVISOR) + REMAINDER;
            block.resize(start, 0);
            let entry = HEADER + TABLE + ENTRY * i;
            block[entry..entry + 2].copy_from_slice(&(start as u16).to_le_bytes());
            block[entry + 2..entry + 4].copy_from_slice(&(frame.len() as u16).to_le_bytes());
            block.extend(frame);
        }
        let length = block.len() as u16;
        block[8..10].copy_from_slice(&length.to_le_bytes());
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_come_out_of_a_block_as_they_went_in(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 14..400), 1..30))
        {
            let mut builder = Builder::default();
            let mut expected = 0;
            for frame in &frames {
                expected = builder.length_with(frame.len());
                builder.add(frame.clone());
            }
            let block = builder.finish(7).unwrap();
            prop_assert!(block.len() <= expected);
            prop_assert_eq!(parse(&block).unwrap(), frames);
        }

        #[test]
        fn no_block_is_a_panic(mut block in proptest::collection::vec(any::<u8>(), 0..200), whole: bool) {
            if whole && block.len() > 24 {
                block[..12].copy_from_slice(b"NCMH\x0c\0\0\0\0\0\x0c\0");
                block[12..16].copy_from_slice(b"NCM0");
            }
            let _ = parse(&block);
        }
    }

    #[test]
    fn each_frame_may_need_the_largest_gap() {
        let mut builder = Builder::default();
        // Each ends three bytes before the place where the next one may start.
        for _ in 0..30 {
            builder.add(vec![0; 401]);
        }
        let expected = builder.length_with(401);
        builder.add(vec![0; 401]);
        let block = builder.finish(0).unwrap();
        assert!(block.len() <= expected, "{} bytes, expected {expected}", block.len());
        assert_eq!(parse(&block).unwrap().len(), 31);
    }

    #[test]
    fn tables_that_form_a_ring_are_refused() {
        let mut block = b"NCMH\x0c\0\0\0\0\0\x0c\0NCM0\x10\0\x0c\0".to_vec();
        block.resize(40, 0);
        assert_eq!(parse(&block), Err(BlockError::Endless));
    }
}
