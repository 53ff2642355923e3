//! The order in which the machine comes up.

use super::loader::Information;
use crate::{console, power};

/// Called once by the entry code, on the main stack, with the first GiB mapped onto itself.
pub(super) extern "C" fn start(start_info: u32, entry_time_stamp: u64) -> ! {
    console::initialise();
    console::event("entry", format_args!(" version={}", env!("CARGO_PKG_VERSION")));
    let _ = entry_time_stamp;
    // SAFETY: the address is what the loader left in ebx.
    if let Some(information) = unsafe { Information::from_pvh(start_info) } {
        log::info!("command line: {:?}", core::str::from_utf8(information.command_line()));
        log::info!("ACPI root pointer: {:x?}", information.root_pointer());
        for region in information.memory_map() {
            log::info!("memory {:#x} + {:#x} type {}", region.addr, region.size, region.ty);
        }
    }
    power::exit(power::Reason::Application, 0)
}
