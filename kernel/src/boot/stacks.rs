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

/// All stacks, in one piece of memory.
#[repr(C, align(4096))]
pub struct Stacks {
    pub main: MainStack,
    interrupt: InterruptStack,
    exception: ExceptionStack,
    non_maskable: ExceptionStack,
    double_fault: ExceptionStack,
    machine_check: ExceptionStack,
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

/// One of the stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Main,
    Interrupt,
    Exception,
    NonMaskable,
    DoubleFault,
    MachineCheck,
}

impl Which {
    /// The stacks that the processor switches to, in the order of its table.
    pub const ON_INTERRUPT: [Self; 5] =
        [Self::Interrupt, Self::Exception, Self::NonMaskable, Self::DoubleFault, Self::MachineCheck];

    /// The place of the stack in the task state's table, from 0.
    pub const fn table_index(self) -> usize {
        match self {
            Self::Main | Self::Interrupt => 0,
            Self::Exception => 1,
            Self::NonMaskable => 2,
            Self::DoubleFault => 3,
            Self::MachineCheck => 4,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Interrupt => "interrupt",
            Self::Exception => "exception",
            Self::NonMaskable => "non-maskable interrupt",
            Self::DoubleFault => "double fault",
            Self::MachineCheck => "machine check",
        }
    }

    /// Offset and size, guard page included.
    const fn place(self) -> (usize, usize) {
        match self {
            Self::Main => (offset_of!(Stacks, main), size_of::<MainStack>()),
            Self::Interrupt => (offset_of!(Stacks, interrupt), size_of::<InterruptStack>()),
            Self::Exception => (offset_of!(Stacks, exception), size_of::<ExceptionStack>()),
            Self::NonMaskable => (offset_of!(Stacks, non_maskable), size_of::<ExceptionStack>()),
            Self::DoubleFault => (offset_of!(Stacks, double_fault), size_of::<ExceptionStack>()),
            Self::MachineCheck => (offset_of!(Stacks, machine_check), size_of::<ExceptionStack>()),
        }
    }
}

/// The address after a stack's last byte, where the stack pointer starts.
pub fn top(which: Which) -> u64 {
    let (offset, size) = which.place();
    STACKS.0.get() as u64 + (offset + size) as u64
}

/// The name, guard page and stack of each stack, by address.
pub fn regions() -> [(&'static str, Range<u64>, Range<u64>); 6] {
    let [a, b, c, d, e] = Which::ON_INTERRUPT;
    [Which::Main, a, b, c, d, e].map(|which| {
        let end = top(which);
        let start = end - which.place().1 as u64;
        let memory = start + PAGE_SIZE as u64;
        (which.name(), start..memory, memory..end)
    })
}
