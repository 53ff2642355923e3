//! The processor's descriptor tables: segments, the task state with its interrupt stacks, and the interrupt gates.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, Segment};
use x86_64::instructions::tables::{lidt, load_tss};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

use super::entry;
use crate::boot::stacks::{self, Which};

/// Present, ring 0, 64-bit interrupt gate: interrupts stay off in the handler.
const INTERRUPT_GATE: u128 = 0x8e00;

const NON_MASKABLE: usize = 2;
const DOUBLE_FAULT: usize = 8;
const MACHINE_CHECK: usize = 18;

/// One gate of the interrupt descriptor table (AMD64 manual volume 2, 4.8.3). `stack` counts from 1.
const fn gate(handler: u64, selector: u16, stack: u16) -> u128 {
    let handler = handler as u128;
    (handler & 0xffff)
        | (selector as u128) << 16
        | (stack as u128) << 32
        | INTERRUPT_GATE << 32
        | (handler >> 16 & 0xffff) << 48
        | (handler >> 32) << 64
}

/// The stack that a vector enters on: its index in the task state's table.
const fn stack_of(vector: usize) -> Which {
    match vector {
        NON_MASKABLE => Which::NonMaskable,
        DOUBLE_FAULT => Which::DoubleFault,
        MACHINE_CHECK => Which::MachineCheck,
        0..32 => Which::Exception,
        _ => Which::Interrupt,
    }
}

struct Tables {
    segments: GlobalDescriptorTable,
    task_state: TaskStateSegment,
    gates: [u128; 256],
}

struct TablesCell(UnsafeCell<MaybeUninit<Tables>>);

// SAFETY: written once by `load`, before interrupts are on; the processor reads it afterwards.
unsafe impl Sync for TablesCell {}

static TABLES: TablesCell = TablesCell(UnsafeCell::new(MaybeUninit::uninit()));

/// Fills the tables and makes the processor use them.
///
/// # Safety
///
/// Called once, with interrupts off, after the stacks have their final mapping.
pub unsafe fn load() {
    // SAFETY: called once, so this is the only reference, and from here on it is only read.
    let tables: &'static mut MaybeUninit<Tables> = unsafe { &mut *TABLES.0.get() };
    let tables = tables.write(Tables {
        segments: GlobalDescriptorTable::new(),
        task_state: TaskStateSegment::new(),
        gates: [0; 256],
    });
    for which in Which::ON_INTERRUPT {
        tables.task_state.interrupt_stack_table[which.table_index()] = VirtAddr::new(stacks::top(which));
    }
    let code = tables.segments.append(Descriptor::kernel_code_segment());
    tables.segments.append(Descriptor::kernel_data_segment());
    let task_state = tables.segments.append(Descriptor::tss_segment(&tables.task_state));
    for (vector, slot) in tables.gates.iter_mut().enumerate() {
        // The hardware counts stacks from 1.
        let stack = stack_of(vector).table_index() as u16 + 1;
        *slot = gate(entry::stub(vector), code.0, stack);
    }
    tables.segments.load();
    // SAFETY: the selectors were just made for this table; the gates point to the stubs and to stacks that exist.
    unsafe {
        CS::set_reg(code);
        load_tss(task_state);
        lidt(&DescriptorTablePointer {
            limit: (size_of_val(&tables.gates) - 1) as u16,
            base: VirtAddr::from_ptr(&raw const tables.gates),
        });
    }
}
