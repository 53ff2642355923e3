//! An image that goes wrong as it is told, to show what the kernel makes of it: QEMU's
//! `-fw_cfg name=opt/skiff/fault,string=FAULT` names one of the faults below.
#![no_std]
#![no_main]

use core::arch::asm;
use core::hint::black_box;

use kernel::System;
use kernel::firmware::configuration;

kernel::application!(go_wrong);

async fn go_wrong(_system: System) {
    match configuration::file("opt/skiff/fault").as_deref() {
        Some("panic") => panic!("as it was told"),
        Some("null-read") => null_read(),
        Some("write-to-constants") => write_to(black_box(&CONSTANT)),
        Some("write-to-instructions") => write_to(null_read as *const u32),
        Some("execute-data") => execute_data(),
        Some("stack-overflow") => log::info!("{}", overflow_the_stack(1)),
        Some("invalid-opcode") => invalid_opcode(),
        Some("double-fault") => double_fault(),
        Some("nothing") => log::info!("the application ends"),
        other => log::error!("no such fault: {other:?}"),
    }
}

static CONSTANT: u32 = 1;

#[inline(never)]
fn null_read() {
    // SAFETY: none; the null page is not mapped, and this shows it.
    log::info!("{}", unsafe { black_box(8 as *const u32).read_volatile() });
}

#[inline(never)]
fn write_to(address: *const u32) {
    // SAFETY: none; the address is read-only, and this shows it.
    unsafe { black_box(address).cast_mut().write_volatile(2) };
    log::error!("{address:?} was written");
}

/// Instructions where data is: a return.
static mut DATA: [u8; 4] = [0xc3; 4];

fn execute_data() {
    // SAFETY: none; data cannot be executed, and this shows it.
    let function: extern "C" fn() = unsafe { core::mem::transmute(black_box(&raw const DATA)) };
    function();
    log::error!("data was executed");
}

#[inline(never)]
fn overflow_the_stack(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    if depth == 0 { 0 } else { overflow_the_stack(black_box(depth + 1)) + frame[black_box(3)] }
}

fn invalid_opcode() {
    // SAFETY: none; the instruction is defined to be undefined.
    unsafe { asm!("ud2") }
}

/// A fault while the processor looks for the handler of another one: the table of handlers is cut behind that of double
/// faults, so that the one for page faults is missing.
fn double_fault() {
    const LIMIT: u16 = 9 * 16 - 1;
    let mut table = [0u8; 10];
    // SAFETY: none; the processor loses handlers that it needs, and this shows what happens then.
    unsafe {
        asm!("sidt [{}]", in(reg) &mut table);
        table[..2].copy_from_slice(&LIMIT.to_le_bytes());
        asm!("lidt [{}]", in(reg) &table);
    }
    null_read();
}
