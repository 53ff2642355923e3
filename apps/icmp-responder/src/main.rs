//! An image that answers pings.
#![no_std]
#![no_main]

use kernel::System;

kernel::application!(respond);

async fn respond(_system: System) {
    core::future::pending().await
}
