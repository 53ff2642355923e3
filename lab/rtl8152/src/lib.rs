//! A virtual RTL8152-family USB Ethernet adapter
