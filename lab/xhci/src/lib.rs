//! An in-process model of an xHCI host controller
