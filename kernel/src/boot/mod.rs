//! From the first instruction to the application.

#[cfg(feature = "boot")]
mod embedded;
#[cfg(feature = "boot")]
mod entry;
#[cfg(feature = "boot")]
mod loader;
mod memory_functions;
#[cfg(feature = "boot")]
pub mod stacks;
#[cfg(feature = "boot")]
mod start;

#[cfg(feature = "boot")]
use start::start;
