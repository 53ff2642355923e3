//! Exceptions: always a bug of the image (or broken hardware), reported so that the host tool can symbolise and
//! unwind, and then handled as a panic is.

use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::registers::control::Cr2;

use crate::boot::stacks;
use crate::{console, crash, power};

/// What an exception's entry code leaves on the stack, lowest address first.
#[derive(Debug)]
#[repr(C)]
pub struct Registers {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    /// Less 128.
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

const PAGE_FAULT: u64 = 14;

/// Names as in the AMD64 manual volume 2, 8.2.
const NAMES: [&str; 32] = [
    "divide-by-zero",
    "debug",
    "non-maskable-interrupt",
    "breakpoint",
    "overflow",
    "bound-range",
    "invalid-opcode",
    "device-not-available",
    "double-fault",
    "coprocessor-segment-overrun",
    "invalid-tss",
    "segment-not-present",
    "stack",
    "general-protection",
    "page-fault",
    "reserved",
    "x87-floating-point",
    "alignment-check",
    "machine-check",
    "simd-floating-point",
    "reserved",
    "control-protection",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "hypervisor-injection",
    "vmm-communication",
    "security",
    "reserved",
];

/// Set by the first exception: another one while it is reported ends the report.
static REPORTING: AtomicBool = AtomicBool::new(false);

/// Reports an exception and ends the image as the option `panic=` says.
pub(super) fn exception(registers: &Registers) -> ! {
    let vector = registers.vector.wrapping_add(128);
    let name = NAMES.get(vector as usize).copied().unwrap_or("unknown");
    let Registers { error, rip, rsp, rbp, rax, rbx, rcx, rdx, rsi, rdi, .. } = registers;
    let Registers { r8, r9, r10, r11, r12, r13, r14, r15, cs, ss, rflags, .. } = registers;
    let cr2 = Cr2::read_raw();
    console::line(format_args!(
        "exception vector={vector} name={name} error={error:#x} rip={rip:#x} rsp={rsp:#x} rbp={rbp:#x} cr2={cr2:#x} \
             rax={rax:#x} rbx={rbx:#x} rcx={rcx:#x} rdx={rdx:#x} rsi={rsi:#x} rdi={rdi:#x} r8={r8:#x} r9={r9:#x} \
             r10={r10:#x} r11={r11:#x} r12={r12:#x} r13={r13:#x} r14={r14:#x} r15={r15:#x} \
             cs={cs:#x} ss={ss:#x} rflags={rflags:#x}"
    ));
    if REPORTING.swap(true, Ordering::Relaxed) {
        power::give_up(power::Reason::Exception);
    }
    if vector == PAGE_FAULT {
        explain_page_fault(cr2, *error);
    }
    crash::report_stack(*rsp);
    power::give_up(power::Reason::Exception)
}

/// Says in words what was touched.
fn explain_page_fault(address: u64, error: u64) {
    let guard = stacks::regions().into_iter().find(|(_, guard, _)| guard.contains(&address));
    let action = match error {
        error if error & 1 << 4 != 0 => "execute",
        error if error & 1 << 1 != 0 => "write to",
        _ => "read from",
    };
    match guard {
        Some((name, ..)) => {
            log::error!("stack overflow: the {name} stack reached its guard page at {address:#x}")
        }
        None if address < 4096 => log::error!("attempt to {action} address {address:#x} in the null page"),
        None => log::error!("attempt to {action} {address:#x}, where that is not allowed"),
    }
}
