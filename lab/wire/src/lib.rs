//! The other end of the Ethernet cable: a small host in user space
