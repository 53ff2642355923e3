//! The usbredir protocol: a codec and the device side of a connection
