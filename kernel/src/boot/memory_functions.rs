//! `memcpy` and its family: the only things that the pre-built `core` and `alloc` want from a C library.
//!
//! Written in assembly, so that the compiler cannot recognise a loop as the very function that it implements. Blocks
//! of 16 bytes move through SSE registers; a block that ends with the last byte covers what the loop leaves over. Under an
//! emulator every iteration of `rep movsb` counts as an instruction, so string instructions are not used.

use core::arch::naked_asm;

/// Copies `count` bytes from `source` to `destination` and returns `destination`.
///
/// # Safety
///
/// As C asks: both valid for `count` bytes. (They may overlap: this is [`memmove`] under another name.)
#[cfg_attr(feature = "boot", unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memcpy(destination: *mut u8, source: *const u8, count: usize) -> *mut u8 {
    naked_asm!("jmp {memmove}", memmove = sym memmove)
}

/// Copies `count` bytes from `source` to `destination`, which may overlap, and returns `destination`.
///
/// # Safety
///
/// Both are valid for `count` bytes.
#[cfg_attr(feature = "boot", unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memmove(destination: *mut u8, source: *const u8, count: usize) -> *mut u8 {
    // rdi destination, rsi source, rdx count. Short copies load everything before they store anything, and so does
    // the piece at the far end of a long one: overlap is harmless.
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "jb 5f",
        "cmp rdx, 32",
        "ja 2f",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + rdx - 16], xmm1",
        "ret",
        "2:",
        "mov rcx, rdi",
        "sub rcx, rsi",
        "cmp rcx, rdx",
        "jb 4f",
        // Forwards, 32 bytes at a time; the last 32 bytes were loaded first.
        "movups xmm2, [rsi + rdx - 32]",
        "movups xmm3, [rsi + rdx - 16]",
        "lea rdx, [rdi + rdx - 32]",
        "3:",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "add rsi, 32",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "add rdi, 32",
        "cmp rdi, rdx",
        "jb 3b",
        "movups [rdx], xmm2",
        "movups [rdx + 16], xmm3",
        "ret",
        // Backwards: the destination begins inside the source.
        "4:",
        "movups xmm2, [rsi]",
        "movups xmm3, [rsi + 16]",
        "6:",
        "movups xmm0, [rsi + rdx - 16]",
        "movups xmm1, [rsi + rdx - 32]",
        "movups [rdi + rdx - 16], xmm0",
        "movups [rdi + rdx - 32], xmm1",
        "sub rdx, 32",
        "cmp rdx, 32",
        "ja 6b",
        "movups [rdi], xmm2",
        "movups [rdi + 16], xmm3",
        "ret",
        // Below 16 bytes: two overlapping halves.
        "5:",
        "cmp edx, 8",
        "jb 7f",
        "mov rcx, [rsi]",
        "mov r8, [rsi + rdx - 8]",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], r8",
        "ret",
        "7:",
        "cmp edx, 4",
        "jb 8f",
        "mov ecx, [rsi]",
        "mov r8d, [rsi + rdx - 4]",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], r8d",
        "ret",
        "8:",
        "cmp edx, 2",
        "jb 9f",
        "movzx ecx, word ptr [rsi]",
        "movzx r8d, byte ptr [rsi + rdx - 1]",
        "mov [rdi], cx",
        "mov [rdi + rdx - 1], r8b",
        "ret",
        "9:",
        "test edx, edx",
        "jz 10f",
        "movzx ecx, byte ptr [rsi]",
        "mov [rdi], cl",
        "10:",
        "ret",
    )
}

/// Sets `count` bytes at `destination` to the low byte of `value` and returns `destination`.
///
/// # Safety
///
/// `destination` is valid for `count` bytes.
#[cfg_attr(feature = "boot", unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memset(destination: *mut u8, value: i32, count: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "movzx ecx, sil",
        "mov r8, 0x0101010101010101",
        "imul rcx, r8",
        "cmp rdx, 16",
        "jb 4f",
        "movq xmm0, rcx",
        "punpcklqdq xmm0, xmm0",
        "cmp rdx, 32",
        "jbe 3f",
        "lea rcx, [rdi + rdx - 32]",
        "2:",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm0",
        "add rdi, 32",
        "cmp rdi, rcx",
        "jb 2b",
        "movups [rcx], xmm0",
        "movups [rcx + 16], xmm0",
        "ret",
        "3:",
        "movups [rdi], xmm0",
        "movups [rdi + rdx - 16], xmm0",
        "ret",
        "4:",
        "cmp edx, 8",
        "jb 5f",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], rcx",
        "ret",
        "5:",
        "cmp edx, 4",
        "jb 6f",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], ecx",
        "ret",
        "6:",
        "test edx, edx",
        "jz 7f",
        "mov [rdi], cl",
        "mov [rdi + rdx - 1], cl",
        "shr edx, 1",
        "mov [rdi + rdx], cl",
        "7:",
        "ret",
    )
}

/// Compares `count` bytes as unsigned numbers: negative, zero or positive as `left` is below, equal to or above `right`.
///
/// # Safety
///
/// Both are valid for `count` bytes.
#[cfg_attr(feature = "boot", unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    naked_asm!(
        "xor ecx, ecx",
        // Eight bytes at a time while they are equal; the first difference decides as big-endian numbers.
        "2:",
        "lea r8, [rcx + 8]",
        "cmp r8, rdx",
        "ja 3f",
        "mov rax, [rdi + rcx]",
        "mov r9, [rsi + rcx]",
        "mov rcx, r8",
        "cmp rax, r9",
        "je 2b",
        "bswap rax",
        "bswap r9",
        "cmp rax, r9",
        "sbb eax, eax",
        "or eax, 1",
        "ret",
        "3:",
        "cmp rcx, rdx",
        "jae 4f",
        "movzx eax, byte ptr [rdi + rcx]",
        "movzx r9d, byte ptr [rsi + rcx]",
        "inc rcx",
        "sub eax, r9d",
        "jz 3b",
        "ret",
        "4:",
        "xor eax, eax",
        "ret",
    )
}

/// Compares `count` bytes: zero when they are equal.
///
/// # Safety
///
/// As for [`memcmp`].
#[cfg_attr(feature = "boot", unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn copies_move_exactly_the_bytes_named_even_when_they_overlap(
            from in 0usize..200, to in 0usize..200, count in 0usize..200, seed: u8,
        ) {
            let mut bytes: Vec<u8> = (0..400).map(|index| (index as u8).wrapping_mul(31) ^ seed).collect();
            let mut expected = bytes.clone();
            expected.copy_within(from..from + count, to);
            let base = bytes.as_mut_ptr();
            // SAFETY: both ranges lie inside the vector.
            let returned = unsafe { super::memmove(base.add(to), base.add(from), count) };
            prop_assert_eq!(returned, base.wrapping_add(to));
            prop_assert_eq!(&bytes, &expected);
            let mut copied = vec![0; count];
            // SAFETY: both are `count` bytes long.
            unsafe { super::memcpy(copied.as_mut_ptr(), bytes[to..].as_ptr(), count) };
            prop_assert_eq!(&copied, &bytes[to..to + count]);
        }

        #[test]
        fn fills_set_exactly_the_bytes_named(at in 0usize..100, count in 0usize..200, value: u8) {
            let mut bytes = vec![0x5a; 300];
            let mut expected = bytes.clone();
            expected[at..at + count].fill(value);
            // SAFETY: the range lies inside the vector.
            unsafe { super::memset(bytes.as_mut_ptr().add(at), i32::from(value), count) };
            prop_assert_eq!(bytes, expected);
        }

        #[test]
        fn comparisons_order_as_slices_do(
            left in proptest::collection::vec(0u8..3, 0..40), right in proptest::collection::vec(0u8..3, 0..40),
        ) {
            let count = left.len().min(right.len());
            // SAFETY: both are at least `count` bytes long.
            let (order, differs) = unsafe {
                (super::memcmp(left.as_ptr(), right.as_ptr(), count), super::bcmp(left.as_ptr(), right.as_ptr(), count))
            };
            prop_assert_eq!(order.cmp(&0), left[..count].cmp(&right[..count]));
            prop_assert_eq!(differs != 0, left[..count] != right[..count]);
        }

        #[test]
        fn long_equal_runs_compare_to_their_last_byte(len in 1usize..100, at in 0usize..100, value: u8) {
            let left = vec![value; len];
            let mut right = left.clone();
            let at = at % len;
            right[at] = value.wrapping_add(1);
            // SAFETY: both are `len` bytes long.
            let order = unsafe { super::memcmp(left.as_ptr(), right.as_ptr(), len) };
            prop_assert_eq!(order.cmp(&0), left.cmp(&right));
        }
    }
}
