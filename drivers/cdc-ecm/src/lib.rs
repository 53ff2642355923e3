//! USB CDC Ethernet Control Model class driver
