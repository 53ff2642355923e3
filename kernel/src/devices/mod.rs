//! Devices: reaching the PCI bus, windows of registers, interrupts, and which driver gets which function.
//!
//! | module | what |
//! | --- | --- |
//! | `configuration_space` | PCI configuration space, memory-mapped or by ports |
//! | `window` | device registers as [`hal::mmio::Mmio`] |
//! | [`routing`] | interrupt lines of chipsets whose firmware did not wire them |
//! | `bus` | the functions found, and what a driver needs of them |
//! | `binding`, `usb_host` | which driver gets which function, which USB device |
//! | `search` | until when a network device may still be found |
//! | `network` | a network device of any driver |
//! | `entropy` | random bytes |

pub mod adapters;
#[cfg(feature = "boot")]
pub mod binding;
#[cfg(feature = "boot")]
pub mod bus;
#[cfg(feature = "boot")]
pub mod configuration_space;
#[cfg(feature = "boot")]
pub mod entropy;
#[cfg(feature = "boot")]
mod network;
pub mod routing;
#[cfg(feature = "boot")]
mod search;
#[cfg(all(feature = "boot", feature = "usb"))]
mod usb_host;
#[cfg(feature = "boot")]
pub mod window;
