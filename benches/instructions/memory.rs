//! Allocations, and bytes copied or filled: counted here, because what the C library does for them depends on its version and on the machine.
//!
//! The functions of the C library that copy are replaced, for this program, by ones that count and are the same on every x86-64 machine. Elsewhere
//! nothing is replaced, and the baseline does not apply.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// Functions of this program whose instructions are not counted: what they do is counted in bytes.
pub const UNCOUNTED: &[&str] = &["memcpy", "memmove", "memset"];

#[derive(Clone, Copy)]
pub struct Counts {
    pub allocations: u64,
    pub bytes: u64,
}

/// Since the program began.
pub fn counts() -> Counts {
    Counts { allocations: ALLOCATIONS.load(Ordering::Relaxed), bytes: BYTES.load(Ordering::Relaxed) }
}

/// The system's allocator, counting.
struct Counting;

// SAFETY: everything is the system allocator's; counting allocates nothing and cannot fail.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[cfg(target_arch = "x86_64")]
mod copying {
    use std::arch::asm;
    use std::sync::atomic::Ordering;

    use super::BYTES;

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
        BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
        // SAFETY: the caller of `memcpy` has promised that both are valid for so many bytes; the direction flag is clear by the ABI.
        unsafe {
            asm!(
                "rep movsq", "mov rcx, {rest}", "rep movsb",
                rest = in(reg) bytes % 8, inout("rcx") bytes / 8 => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags)
            );
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
        if to.addr().wrapping_sub(from.addr()) >= bytes {
            // SAFETY: as promised by the caller; nothing is overwritten before it has been read.
            return unsafe { memcpy(to, from, bytes) };
        }
        BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
        // SAFETY: as for `memcpy`, from the last byte to the first; the flag is clear again behind it.
        unsafe {
            asm!(
                "std", "rep movsb", "cld",
                inout("rcx") bytes => _, inout("rdi") to.wrapping_add(bytes).wrapping_sub(1) => _,
                inout("rsi") from.wrapping_add(bytes).wrapping_sub(1) => _,
                options(nostack)
            );
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8 {
        BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
        // SAFETY: the caller of `memset` has promised that it is valid for so many bytes; the direction flag is clear by the ABI.
        unsafe {
            asm!(
                "rep stosb", in("al") value as u8, inout("rcx") bytes => _, inout("rdi") to => _,
                options(nostack, preserves_flags)
            );
        }
        to
    }
}

/// What code that looks at the processor finds; under valgrind, what that emulates.
pub fn features() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return "avx2";
    }
    "no avx2"
}
