//! What happens when the image finds a bug in itself.

use core::panic::PanicInfo;

use crate::report::Escaped;
use crate::{console, power};

#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    match information.location() {
        Some(location) => console::event(
            "panic",
            format_args!(" location={} message={}", Escaped(&location), Escaped(&information.message())),
        ),
        None => console::event("panic", format_args!(" message={}", Escaped(&information.message()))),
    }
    power::exit(power::Reason::Panic, 1)
}

/// The pre-built `alloc` refers to it; images abort on panic, so nothing calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    power::halt()
}
