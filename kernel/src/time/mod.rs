//! Time: the time stamp counter, calibrated against a clock of known rate, and a one-shot timer for wake-ups.

pub mod rate;
#[cfg(feature = "boot")]
mod system;
pub mod timers;

#[cfg(feature = "boot")]
pub use system::{SystemClock, initialise};
#[cfg(feature = "boot")]
pub(crate) use system::{has_fired, run_expired, timer_fired};
