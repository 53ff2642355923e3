//! From the loader's 32-bit jump to the first Rust function.
//!
//! PVH ("x86/HVM direct boot ABI") enters with paging off, flat 32-bit segments, interrupts off and the physical
//! address of the start info in `ebx`. The code here maps the first GiB onto itself, switches on what the pre-built
//! `core` and `alloc` take for granted (long mode, SSE2), and calls [`super::start`] on the main stack.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

use super::stacks::{STACKS, Stacks};

pvh::xen_elfnote_phys32_entry!(pvh_entry);

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const HUGE: u64 = 1 << 7;

/// A page table filled in by the entry code, in use until [`crate::memory`] has built the final ones.
#[repr(C, align(4096))]
struct EarlyTable(UnsafeCell<[u64; 512]>);

// SAFETY: written only by the entry code, before any Rust code runs.
unsafe impl Sync for EarlyTable {}

impl EarlyTable {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; 512]))
    }
}

static EARLY_LEVEL_4: EarlyTable = EarlyTable::new();
static EARLY_LEVEL_3: EarlyTable = EarlyTable::new();
static EARLY_LEVEL_2: EarlyTable = EarlyTable::new();

/// First physical address that is not mapped until the final page tables are in use.
pub const EARLY_MAP_END: u64 = 1 << 30;

/// Null descriptor, 64-bit code, data.
static EARLY_DESCRIPTORS: [u64; 3] = [0, 0x00af_9a00_0000_ffff, 0x00cf_9200_0000_ffff];

/// What `lgdt` reads.
#[repr(C, packed)]
struct DescriptorTablePointer {
    limit: u16,
    base: &'static [u64; 3],
}

static EARLY_DESCRIPTOR_POINTER: DescriptorTablePointer =
    DescriptorTablePointer { limit: size_of::<[u64; 3]>() as u16 - 1, base: &EARLY_DESCRIPTORS };

/// The PVH entry point.
///
/// # Safety
///
/// Only a loader may jump here, in the state that PVH describes.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
#[unsafe(no_mangle)]
unsafe extern "C" fn pvh_entry() -> ! {
    naked_asm!(
        ".code32",
        "cli",
        "cld",
        // The time stamp of entry waits in edi:ebp, the start info in ebx.
        "rdtsc",
        "mov edi, edx",
        "mov ebp, eax",
        // Level 4 -> level 3 -> level 2, whose 512 pages of 2 MiB map the first GiB onto itself.
        "lea eax, [{level_3} + {table_flags}]",
        "mov [{level_4}], eax",
        "lea eax, [{level_2} + {table_flags}]",
        "mov [{level_3}], eax",
        "xor ecx, ecx",
        "mov eax, {page_flags}",
        "2:",
        "mov [{level_2} + ecx * 8], eax",
        "add eax, 0x200000",
        "inc ecx",
        "cmp ecx, 512",
        "jne 2b",
        // CR4: PAE, OSFXSR and OSXMMEXCPT (SSE); never OSXSAVE.
        "mov eax, 0x620",
        "mov cr4, eax",
        "lea eax, [{level_4}]",
        "mov cr3, eax",
        // EFER: long mode, no-execute.
        "mov ecx, 0xc0000080",
        "rdmsr",
        "or eax, 0x900",
        "wrmsr",
        // CR0: paging, write protection in ring 0, native FPU errors, monitor co-processor, protected mode.
        "mov eax, 0x80010033",
        "mov cr0, eax",
        "lgdt [{descriptor_pointer}]",
        "lea esp, [{stacks} + {stack_top}]",
        "push 0x08",
        "lea eax, [3f]",
        "push eax",
        "retf",
        ".code64",
        "3:",
        "mov eax, 0x10",
        "mov ss, eax",
        "mov ds, eax",
        "mov es, eax",
        "xor eax, eax",
        "mov fs, eax",
        "mov gs, eax",
        "lea rsp, [{stacks} + {stack_top}]",
        "fninit",
        // start(start_info, entry_time_stamp); a zero return address and frame pointer end every back trace.
        "mov esi, edi",
        "shl rsi, 32",
        "mov eax, ebp",
        "or rsi, rax",
        "mov edi, ebx",
        "xor ebp, ebp",
        "push 0",
        "jmp {start}",
        level_4 = sym EARLY_LEVEL_4,
        level_3 = sym EARLY_LEVEL_3,
        level_2 = sym EARLY_LEVEL_2,
        table_flags = const PRESENT | WRITABLE,
        page_flags = const PRESENT | WRITABLE | HUGE,
        descriptor_pointer = sym EARLY_DESCRIPTOR_POINTER,
        stacks = sym STACKS,
        stack_top = const offset_of!(Stacks, main) + size_of::<super::stacks::MainStack>(),
        start = sym super::start,
    )
}
