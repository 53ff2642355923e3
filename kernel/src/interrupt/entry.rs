//! The first instructions of every interrupt and exception.
//!
//! 256 stubs of eight bytes push their vector number and jump to one of two common parts: the lean one of device
//! interrupts, which saves what a function call may change, and the one of exceptions, which saves everything for
//! the report and never returns.

use core::arch::naked_asm;

use super::exception::{Registers, exception};

/// Bytes from one stub to the next.
const STUB_SIZE: u64 = 8;

/// The address of the stub of a vector.
pub fn stub(vector: usize) -> u64 {
    stubs as *const () as u64 + vector as u64 * STUB_SIZE
}

/// Vector numbers are pushed less 128, so that they fit the two-byte form of `push`.
#[unsafe(naked)]
unsafe extern "C" fn stubs() {
    naked_asm!(
        ".balign 8",
        ".set vector, 0",
        ".rept 32",
        ".balign 8",
        "push vector - 128",
        "jmp {exception}",
        ".set vector, vector + 1",
        ".endr",
        ".rept 224",
        ".balign 8",
        "push vector - 128",
        "jmp {interrupt}",
        ".set vector, vector + 1",
        ".endr",
        exception = sym exception_entry,
        interrupt = sym interrupt_entry,
    )
}

/// A device interrupt: on the interrupt stack, whose top is aligned to 16 bytes, are five words of the processor and the
/// vector. With nine registers and 520 bytes for SSE state the stack is aligned again.
#[unsafe(naked)]
unsafe extern "C" fn interrupt_entry() {
    naked_asm!(
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "mov edi, [rsp + 72]",
        "sub rsp, 520",
        "fxsave64 [rsp]",
        "cld",
        "sub edi, -128",
        "call {handler}",
        "fxrstor64 [rsp]",
        "add rsp, 520",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "add rsp, 8",
        "iretq",
        handler = sym super::dispatch::interrupt,
    )
}

/// An exception. The processor pushed an error code for some vectors only (8, 10-14, 17, 21, 29, 30); for the others
/// the vector number is pushed a second time in its place, then all registers, as [`Registers`] has them.
#[unsafe(naked)]
unsafe extern "C" fn exception_entry() {
    naked_asm!(
        "cld",
        // Five words and the vector leave the stack aligned to 16; an error code makes it unaligned.
        "test spl, 8",
        "jnz 2f",
        "push [rsp]",
        "mov qword ptr [rsp + 8], 0",
        "2:",
        "push rax",
        "push rbx",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push rbp",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov rdi, rsp",
        "and rsp, -16",
        "xor ebp, ebp",
        "call {handler}",
        handler = sym exception_handler,
    )
}

/// `Registers` lie on the stack of the exception.
extern "C" fn exception_handler(registers: &Registers) -> ! {
    exception(registers)
}
