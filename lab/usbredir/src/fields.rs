//! Little-endian fields one after the other: a reader that cannot run over the end.

use crate::error::ProtocolError;

/// Reads the fixed fields of one packet.
pub(crate) struct Fields<'a> {
    kind: u32,
    length: usize,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(kind: u32, bytes: &'a [u8]) -> Self {
        Self { kind, length: bytes.len(), rest: bytes }
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let (field, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(ProtocolError::TooShort { kind: self.kind, length: self.length })?;
        self.rest = rest;
        Ok(*field)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ProtocolError> {
        Ok(u8::from_le_bytes(self.bytes()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ProtocolError> {
        Ok(u16::from_le_bytes(self.bytes()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ProtocolError> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    /// All that is left: the data of a data packet.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Checks that nothing is left.
    pub(crate) fn end(self) -> Result<(), ProtocolError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(ProtocolError::TrailingBytes { kind: self.kind, left: self.rest.len() })
        }
    }
}
