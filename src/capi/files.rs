//! Files and trees into a live sandbox and out of it.

use super::error::stockade_error;
use super::ffi::{byte_string, c_text, call, required};
use super::sandbox::stockade_sandbox;
use crate::error::Error;
use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;

/// The mode of a file where none is given.
const DEFAULT_MODE: u32 = 0o644;

/// Makes a file in the sandbox, with its parents, or replaces the one that is there; never through a symbolic link. A
/// relative path is below /work. mode: permission bits; 0 means 0644.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_sandbox_put(
    sandbox: Option<&stockade_sandbox>,
    path: *const c_char,
    content: *const c_void,
    length: usize,
    mode: u32,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || {
        let sandbox = required(sandbox, "sandbox")?.inner();
        let mode = if mode == 0 { DEFAULT_MODE } else { mode };
        // SAFETY: C promises a NUL-terminated string and `length` bytes.
        let (path, content) = unsafe {
            (
                c_text(path, "path")?,
                byte_string(content, length, "content")?,
            )
        };
        sandbox.put(path, content, Some(mode))
    })
}

/// The content of a regular file in the sandbox, at most 64 MiB, never through a symbolic link: content and length are
/// set. Free the content with stockade_bytes_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_sandbox_get(
    sandbox: Option<&stockade_sandbox>,
    path: *const c_char,
    content: Option<&mut MaybeUninit<*mut c_void>>,
    length: Option<&mut MaybeUninit<usize>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || {
        let content = required(content, "content")?.write(std::ptr::null_mut());
        let length = required(length, "length")?.write(0);
        let sandbox = required(sandbox, "sandbox")?.inner();
        // SAFETY: C promises a NUL-terminated string.
        let bytes = sandbox.get(unsafe { c_text(path, "path") }?)?;
        // SAFETY: a plain allocation, of at least one byte, whose failure is looked at.
        let copy = unsafe { libc::malloc(bytes.len().max(1)) };
        if copy.is_null() {
            let cause = std::io::Error::from_raw_os_error(libc::ENOMEM);
            return Err(Error::system("getting a file", cause));
        }
        // SAFETY: both are that long, and one was just made.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy.cast(), bytes.len()) };
        (*content, *length) = (copy, bytes.len());
        Ok(())
    })
}

/// Frees what stockade_sandbox_get gave.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_bytes_free(content: *mut c_void) {
    // SAFETY: C promises that it came from stockade_sandbox_get, which allocates so, or is NULL.
    unsafe { libc::free(content) };
}

/// Copies a directory of the host into the sandbox as the directory path, over what is there: directories, regular files
/// and symbolic links, with their permission bits. Anything else is left out. Symbolic links in host itself are followed,
/// those that are found in it never, so it may be one that programs can write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_sandbox_put_tree(
    sandbox: Option<&stockade_sandbox>,
    path: *const c_char,
    host: *const c_char,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || {
        let sandbox = required(sandbox, "sandbox")?.inner();
        // SAFETY: C promises NUL-terminated strings.
        let (path, host) = unsafe { (c_text(path, "path")?, c_text(host, "host")?) };
        sandbox.put_tree(path, host)
    })
}

/// Copies a directory of the sandbox to host, which must not be there yet: directories, regular files and symbolic links,
/// with their permission bits; holes stay holes, and a file with several names has them in the copy, too. Anything else is
/// left out. Links are made as they are and can lead anywhere: do not follow them. Programs that run meanwhile can have
/// more copied than there is at any one time, without end: pause them, or copy when none runs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_sandbox_get_tree(
    sandbox: Option<&stockade_sandbox>,
    path: *const c_char,
    host: *const c_char,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || {
        let sandbox = required(sandbox, "sandbox")?.inner();
        // SAFETY: C promises NUL-terminated strings.
        let (path, host) = unsafe { (c_text(path, "path")?, c_text(host, "host")?) };
        sandbox.get_tree(path, host)
    })
}
