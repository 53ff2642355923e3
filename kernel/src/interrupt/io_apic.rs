//! The I/O APICs (Intel 82093AA data sheet): they turn interrupt lines into vectors.

use alloc::vec::Vec;

use spin::Mutex;
use x86_64::instructions::interrupts::without_interrupts;

use crate::firmware::interrupt_map::{self, Signal};
use crate::memory::address_space;
use crate::memory::page_table::Access;

/// Registers are reached through a window: the index goes here,
const SELECT: u64 = 0x00;
/// and the value is here.
const WINDOW: u64 = 0x10;
const REGISTERS_LENGTH: u64 = 0x20;

const VERSION: u32 = 0x01;
/// The low half of the first input's redirection entry; the high half follows.
const FIRST_INPUT: u32 = 0x10;

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;

struct IoApic {
    base: u64,
    first_interrupt: u32,
    inputs: u32,
}

/// The controllers; only touched with interrupts off, so the lock is never waited for.
static IO_APICS: Mutex<Vec<IoApic>> = Mutex::new(Vec::new());

impl IoApic {
    fn read(&self, register: u32) -> u32 {
        // SAFETY: `initialise` mapped the registers there.
        unsafe {
            ((self.base + SELECT) as *mut u32).write_volatile(register);
            ((self.base + WINDOW) as *const u32).read_volatile()
        }
    }

    fn write(&self, register: u32, value: u32) {
        // SAFETY: as in `read`.
        unsafe {
            ((self.base + SELECT) as *mut u32).write_volatile(register);
            ((self.base + WINDOW) as *mut u32).write_volatile(value);
        }
    }
}

/// Finds the controllers and masks all their inputs.
pub fn initialise(described: &[interrupt_map::IoApic]) {
    let mut found = Vec::new();
    for described in described {
        let base = u64::from(described.address);
        if let Err(error) = address_space::open(base, REGISTERS_LENGTH, Access::Device) {
            log::error!("I/O APIC at {base:#x} cannot be used: {error}");
            continue;
        }
        let mut io_apic = IoApic { base, first_interrupt: described.first_interrupt, inputs: 0 };
        io_apic.inputs = (io_apic.read(VERSION) >> 16 & 0xff) + 1;
        for input in 0..io_apic.inputs {
            io_apic.write(FIRST_INPUT + 2 * input, MASKED);
        }
        found.push(io_apic);
    }
    without_interrupts(|| *IO_APICS.lock() = found);
}

/// Runs `action` with the controller of a global interrupt and the register of its entry's low half.
fn with_input<T>(interrupt: u32, action: impl FnOnce(&IoApic, u32) -> T) -> Option<T> {
    without_interrupts(|| {
        let io_apics = IO_APICS.lock();
        let io_apic = io_apics.iter().find(|io_apic| {
            interrupt.checked_sub(io_apic.first_interrupt).is_some_and(|input| input < io_apic.inputs)
        })?;
        Some(action(io_apic, FIRST_INPUT + 2 * (interrupt - io_apic.first_interrupt)))
    })
}

/// Lets a global interrupt raise `vector` on processor `destination`; false when no controller has such an input.
pub fn route(interrupt: u32, signal: Signal, vector: u8, destination: u8) -> bool {
    let level = if signal.level { LEVEL } else { 0 };
    let polarity = if signal.active_low { ACTIVE_LOW } else { 0 };
    with_input(interrupt, |io_apic, register| {
        io_apic.write(register + 1, u32::from(destination) << 24);
        io_apic.write(register, u32::from(vector) | level | polarity);
    })
    .is_some()
}

/// Keeps a global interrupt from being raised, or lets it be raised again.
pub fn set_masked(interrupt: u32, masked: bool) {
    with_input(interrupt, |io_apic, register| {
        let value = io_apic.read(register);
        io_apic.write(register, if masked { value | MASKED } else { value & !MASKED });
    });
}
