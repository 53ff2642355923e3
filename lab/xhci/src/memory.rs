//! The guest's memory, as the model reaches it.

/// Memory at bus addresses. An access outside of it fails, as a host system error on a real bus.
pub trait GuestMemory {
    /// Reads bytes; false when an address is not memory.
    #[must_use]
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool;

    /// Writes bytes; false when an address is not memory.
    #[must_use]
    fn write(&self, address: u64, bytes: &[u8]) -> bool;
}
