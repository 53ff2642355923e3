//! The processor's own interrupt controller (Intel SDM volume 3, chapter 12): acknowledges interrupts and has the timer.
//!
//! Its registers are in memory, or, where the processor has x2APIC, in model-specific registers, which are quicker.

use core::arch::x86_64::__cpuid;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::registers::model_specific::Msr;

use crate::memory::address_space::{self, OpenError};
use crate::memory::page_table::Access;

const BASE_MSR: u32 = 0x1b;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// x2APIC registers begin here, one for each 16 bytes of the memory form.
const X2APIC_MSR: u32 = 0x800;
const REGISTERS_LENGTH: u64 = 4096;

// Registers, by their offset in the memory form.
const ID: u32 = 0x20;
const TASK_PRIORITY: u32 = 0x80;
const END_OF_INTERRUPT: u32 = 0xb0;
const SPURIOUS_VECTOR: u32 = 0xf0;
const LOCAL_TIMER: u32 = 0x320;
const LOCAL_LINE_0: u32 = 0x350;
const LOCAL_LINE_1: u32 = 0x360;
const LOCAL_ERROR: u32 = 0x370;
const TIMER_INITIAL_COUNT: u32 = 0x380;
const TIMER_CURRENT_COUNT: u32 = 0x390;
const TIMER_DIVIDE: u32 = 0x3e0;

const MASKED: u32 = 1 << 16;
const NON_MASKABLE: u32 = 0b100 << 8;
const SOFTWARE_ENABLE: u32 = 1 << 8;
/// The timer counts once each 16 cycles of its clock.
const DIVIDE_BY_16: u32 = 0b0011;

/// Where the registers are: 0 not set up, 1 model-specific registers, else their address in memory.
static REGISTERS: AtomicU64 = AtomicU64::new(0);
const IN_MODEL_SPECIFIC_REGISTERS: u64 = 1;

fn read(register: u32) -> u32 {
    match REGISTERS.load(Ordering::Relaxed) {
        0 => 0,
        // SAFETY: an x2APIC register that exists.
        IN_MODEL_SPECIFIC_REGISTERS => unsafe { Msr::new(X2APIC_MSR + (register >> 4)).read() as u32 },
        // SAFETY: `initialise` mapped the registers there.
        base => unsafe { ((base + u64::from(register)) as *const u32).read_volatile() },
    }
}

#[inline]
fn write(register: u32, value: u32) {
    match REGISTERS.load(Ordering::Relaxed) {
        0 => {}
        // SAFETY: as in `read`; the values written are valid for the registers of this module.
        IN_MODEL_SPECIFIC_REGISTERS => unsafe {
            Msr::new(X2APIC_MSR + (register >> 4)).write(u64::from(value));
        },
        // SAFETY: as in `read`.
        base => unsafe { ((base + u64::from(register)) as *mut u32).write_volatile(value) },
    }
}

/// The local APIC cannot be used.
#[derive(Clone, Copy, Debug)]
pub struct Unavailable {
    address: u64,
    reason: OpenError,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the local APIC at {:#x} cannot be used: {}", self.address, self.reason)
    }
}

impl core::error::Error for Unavailable {}

/// Switches the controller on, with all its own sources masked but the non-maskable line.
///
/// # Errors
///
/// [`Unavailable`].
pub fn initialise(spurious_vector: u8) -> Result<(), Unavailable> {
    const X2APIC: u32 = 1 << 21;
    let mut base = Msr::new(BASE_MSR);
    // SAFETY: every x86-64 processor has this register; enabling the controller has no effect on memory.
    let value = unsafe { base.read() } | BASE_ENABLE;
    if __cpuid(1).ecx & X2APIC != 0 {
        // SAFETY: as above; the processor says that it has the mode.
        unsafe { base.write(value | BASE_X2APIC) };
        REGISTERS.store(IN_MODEL_SPECIFIC_REGISTERS, Ordering::Relaxed);
    } else {
        let address = value & BASE_ADDRESS;
        address_space::open(address, REGISTERS_LENGTH, Access::Device)
            .map_err(|reason| Unavailable { address, reason })?;
        // SAFETY: as above.
        unsafe { base.write(value) };
        REGISTERS.store(address, Ordering::Relaxed);
    }
    for source in [LOCAL_TIMER, LOCAL_LINE_0, LOCAL_ERROR] {
        write(source, MASKED);
    }
    write(LOCAL_LINE_1, NON_MASKABLE);
    write(TASK_PRIORITY, 0);
    write(SPURIOUS_VECTOR, SOFTWARE_ENABLE | u32::from(spurious_vector));
    Ok(())
}

/// Whether the registers are model-specific ones.
pub fn is_x2apic() -> bool {
    REGISTERS.load(Ordering::Relaxed) == IN_MODEL_SPECIFIC_REGISTERS
}

/// This processor's number, as the destination of interrupt messages.
pub fn id() -> u8 {
    if is_x2apic() { read(ID) as u8 } else { (read(ID) >> 24) as u8 }
}

/// Tells that the interrupt being handled is done.
#[inline]
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Makes the timer raise `vector` each time that its count reaches zero.
pub fn initialise_timer(vector: u8) {
    write(TIMER_DIVIDE, DIVIDE_BY_16);
    write(LOCAL_TIMER, u32::from(vector));
}

/// Starts the timer at this count, once; 0 stops it.
#[inline]
pub fn start_timer(count: u32) {
    write(TIMER_INITIAL_COUNT, count);
}

/// The timer's count now.
pub fn timer_count() -> u32 {
    read(TIMER_CURRENT_COUNT)
}
