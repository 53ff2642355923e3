//! Random bytes.

use core::fmt;

/// No trusted source of randomness is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEntropy;

impl fmt::Display for NoEntropy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("no trusted source of randomness (neither RDRAND nor virtio-rng)")
    }
}

impl core::error::Error for NoEntropy {}

/// A source of unpredictable bytes, fit for keys.
pub trait Entropy {
    /// Fills `bytes` whole.
    ///
    /// # Errors
    ///
    /// [`NoEntropy`] when there is no trusted source; `bytes` is then not to be used.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy>;
}
