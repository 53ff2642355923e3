//! What the image says about its stack when it ends by a bug: candidate return addresses, and the raw stack, from
//! which the host tool unwinds with the tables in the unstripped file.

use core::fmt;

use crate::boot::stacks;
use crate::console;
use crate::memory::address_space;

/// Bytes of stack that are printed.
const WINDOW: u64 = 4096;
/// Bytes on one line.
const LINE: u64 = 64;
/// Most candidate return addresses.
const CANDIDATES: usize = 32;

/// Prints the stack from `stack_pointer` up, as far as it lies in one of the image's stacks.
pub fn report_stack(stack_pointer: u64) {
    let Some((_, _, memory)) = stacks::regions()
        .into_iter()
        .find(|(_, guard, memory)| guard.start <= stack_pointer && stack_pointer < memory.end)
    else {
        log::error!("the stack pointer {stack_pointer:#x} is in none of the stacks");
        return;
    };
    // After an overflow the pointer is in the guard page below.
    let start = stack_pointer.max(memory.start) & !7;
    let end = memory.end.min(start + WINDOW);
    let mut candidates = 0;
    for address in (start..memory.end).step_by(8) {
        // SAFETY: the address lies in a stack, which is mapped; nothing else runs that could write there.
        let value = unsafe { (address as *const u64).read_volatile() };
        if address_space::is_text(value) {
            console::line(format_args!("return-address {value:#x}"));
            candidates += 1;
            if candidates == CANDIDATES {
                break;
            }
        }
    }
    for line in (start..end).step_by(LINE as usize) {
        let bytes = Bytes { start: line, end: end.min(line + LINE) };
        console::line(format_args!("stack address={line:#x} bytes={bytes}"));
    }
}

/// Bytes of memory in hexadecimal, in ascending order of address.
struct Bytes {
    start: u64,
    end: u64,
}

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for address in self.start..self.end {
            // SAFETY: as in `report_stack`.
            let byte = unsafe { (address as *const u8).read_volatile() };
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}
