//! What the compiler expects of a C library, and views of plain data as bytes.

use core::arch::asm;

/// A view of plain data as bytes.
pub fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: T is Copy and, in all uses, a repr(C) struct of integers without padding.
    unsafe { core::slice::from_raw_parts((value as *const T).cast(), size_of::<T>()) }
}

/// Plain data from the start of `bytes`.
pub fn read_of<T: Copy>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: long enough, and in all uses T is a repr(C) struct of integers, for which any bytes are a value.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// A value of which there is one, used by one thread at a time.
pub struct Global<T>(core::cell::UnsafeCell<T>);

// SAFETY: the child of a vfork runs while who started it waits. The one thread that the helper ever starts (`domain`) works
// while init's own waits for it, and touches none of these then (`sandbox/meanwhile.rs`).
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    pub const fn new(value: T) -> Self {
        Global(core::cell::UnsafeCell::new(value))
    }
    /// The value. Each caller hands it down and keeps nothing of it, so that no two references live at a time.
    #[allow(clippy::mut_from_ref)]
    pub fn take(&self) -> &mut T {
        // SAFETY: one thread at a time, and whoever takes it is done with it before anyone takes it again, as promised above.
        unsafe { &mut *self.0.get() }
    }
}

/// # Safety
/// As memcpy(3).
#[cfg_attr(not(fuzzing), unsafe(no_mangle))]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise; `rep movsb` writes n bytes.
    unsafe {
        asm!("rep movsb", inout("rcx") n => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    for i in 0..n {
        // SAFETY: the caller's promise. Volatile keeps this from being compiled to a call of itself.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
    to
}

/// # Safety
/// As memmove(3).
#[cfg_attr(not(fuzzing), unsafe(no_mangle))]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= n {
        // SAFETY: going forward never overwrites what is still to be read.
        return unsafe { memcpy(to, from, n) };
    }
    for i in (0..n).rev() {
        // SAFETY: the caller's promise. Volatile keeps this from being compiled to a call of itself.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
    to
}

/// # Safety
/// As memset(3).
#[cfg_attr(not(fuzzing), unsafe(no_mangle))]
pub unsafe extern "C" fn memset(to: *mut u8, value: i32, n: usize) -> *mut u8 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise; `rep stosb` writes n bytes.
    unsafe {
        asm!("rep stosb", inout("rcx") n => _, inout("rdi") to => _, in("al") value as u8, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    for i in 0..n {
        // SAFETY: the caller's promise. Volatile keeps this from being compiled to a call of itself.
        unsafe { to.add(i).write_volatile(value as u8) };
    }
    to
}

/// # Safety
/// As memcmp(3).
#[cfg_attr(not(fuzzing), unsafe(no_mangle))]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    for i in 0..n {
        // SAFETY: the caller's promise. Volatile keeps this from being compiled to a call of itself.
        let (x, y) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

/// # Safety
/// As bcmp(3).
#[cfg_attr(not(fuzzing), unsafe(no_mangle))]
pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { memcmp(a, b, n) }
}

#[cfg(not(any(test, fuzzing)))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    crate::sys::exit(101)
}

/// Named by the precompiled `core`, which is built to unwind; with panic=abort nothing ever calls it.
#[cfg_attr(not(fuzzing), unsafe(no_mangle))]
pub extern "C" fn rust_eh_personality() {}
