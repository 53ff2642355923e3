//! What happens when the image finds a bug in itself.

use core::arch::asm;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::interrupts;

use crate::report::Escaped;
use crate::{console, crash, power};

/// Set by the first panic: another one while it is reported ends the report.
static REPORTING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    interrupts::disable();
    if REPORTING.swap(true, Ordering::Relaxed) {
        power::give_up(power::Reason::Panic);
    }
    let (rip, rsp, rbp): (u64, u64, u64);
    // SAFETY: only reads registers.
    unsafe {
        asm!(
            "lea {rip}, [rip]",
            "mov {rsp}, rsp",
            "mov {rbp}, rbp",
            rip = out(reg) rip,
            rsp = out(reg) rsp,
            rbp = out(reg) rbp,
            options(nomem, nostack, preserves_flags),
        );
    }
    let message = information.message();
    let (file, line, column) = information
        .location()
        .map_or(("unknown", 0, 0), |place| (place.file(), place.line(), place.column()));
    console::line(format_args!(
        "panic location={}:{line}:{column} message={} rip={rip:#x} rsp={rsp:#x} rbp={rbp:#x}",
        Escaped(file),
        Escaped(&message),
    ));
    crash::report_stack(rsp);
    power::give_up(power::Reason::Panic)
}

/// The pre-built `alloc` refers to it; images abort on panic, so nothing calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    power::halt()
}
