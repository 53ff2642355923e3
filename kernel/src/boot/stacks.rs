//! The stacks of the image, each above a guard page that the final page tables leave unmapped.
//!
//! One core and one executor need one stack for code; everything that interrupts it switches to a stack of its own
//! (the pre-built `core` uses the red zone below the stack pointer, which an interrupt must not overwrite).

use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ops::Range;

use netbuf::PAGE_SIZE;

/// A guard page and, above it, `SIZE` bytes of stack.
#[repr(C, align(4096))]
pub struct Stack<const SIZE: usize> {
    guard: [u8; PAGE_SIZE],
    memory: [u8; SIZE],
}

/// The stack that boot code and all tasks run on.
pub type MainStack = Stack<{ 64 * 1024 }>;
/// Device interrupts only wake tasks.
pub type InterruptStack = Stack<{ 8 * 1024 }>;
/// Exceptions format and print a report.
pub type ExceptionStack = Stack<{ 16 * 1024 }>;

/// All stacks.
#[repr(C, align(4096))]
pub struct Stacks {
    pub main: MainStack,
    pub interrupt: InterruptStack,
    pub exception: ExceptionStack,
    pub non_maskable: ExceptionStack,
    pub double_fault: ExceptionStack,
    pub machine_check: ExceptionStack,
}

/// The memory of the stacks; only the processor's stack pointer ever refers to it.
#[repr(transparent)]
pub struct StackMemory(UnsafeCell<Stacks>);

// SAFETY: Rust code never forms a reference into it.
unsafe impl Sync for StackMemory {}

#[unsafe(link_section = ".bss.stacks")]
pub static STACKS: StackMemory =
    // SAFETY: arrays of bytes; all zeroes is a value.
    StackMemory(UnsafeCell::new(unsafe { core::mem::zeroed() }));

/// The name, guard page and stack of each stack, by address.
#[allow(dead_code, reason = "the final page tables will ask")]
pub fn regions() -> [(&'static str, Range<u64>, Range<u64>); 6] {
    let base = STACKS.0.get() as u64;
    let region = |name, offset: usize, size: usize| {
        let bottom = base + offset as u64;
        let memory = bottom + PAGE_SIZE as u64;
        (name, bottom..memory, memory..bottom + size as u64)
    };
    [
        region("main", offset_of!(Stacks, main), size_of::<MainStack>()),
        region("interrupt", offset_of!(Stacks, interrupt), size_of::<InterruptStack>()),
        region("exception", offset_of!(Stacks, exception), size_of::<ExceptionStack>()),
        region("non-maskable interrupt", offset_of!(Stacks, non_maskable), size_of::<ExceptionStack>()),
        region("double fault", offset_of!(Stacks, double_fault), size_of::<ExceptionStack>()),
        region("machine check", offset_of!(Stacks, machine_check), size_of::<ExceptionStack>()),
    ]
}
