//! An image that answers pings.
#![no_std]
#![no_main]

use kernel as _;
