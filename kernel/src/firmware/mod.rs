//! What the firmware tells about the machine: ACPI tables, and QEMU's firmware configuration device.

#[cfg(feature = "boot")]
pub mod configuration;
pub mod interrupt_map;
pub mod sleep;
#[cfg(feature = "boot")]
pub mod tables;
