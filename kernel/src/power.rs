//! Ending: power-off, reset, QEMU's exit device.

use x86_64::instructions::port::Port;

use crate::console;

/// Why the image ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Somebody pressed the power button.
    PowerButton,
    /// The image panicked.
    Panic,
    /// The processor raised an exception.
    Exception,
    /// The application ended.
    Application,
}

impl Reason {
    const fn name(self) -> &'static str {
        match self {
            Self::PowerButton => "power-button",
            Self::Panic => "panic",
            Self::Exception => "exception",
            Self::Application => "application",
        }
    }
}

/// Where QEMU's `isa-debug-exit` sits; a write ends QEMU with status `value * 2 + 1`.
const DEBUG_EXIT_PORT: u16 = 0x501;

/// Says why, and ends the machine.
pub fn exit(reason: Reason, code: u8) -> ! {
    console::event("exit", format_args!(" reason={} code={code}", reason.name()));
    // SAFETY: the port belongs to QEMU's exit device or to nobody.
    unsafe { Port::new(DEBUG_EXIT_PORT).write(code) };
    halt()
}

/// Stops the processor for good.
pub fn halt() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}
