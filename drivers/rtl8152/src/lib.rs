//! Driver for the RTL8152 family of USB Ethernet adapters
