//! xHCI host controller driver
