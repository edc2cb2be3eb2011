//! The setters for the program: what runs, its streams and its files.

use super::{set, stockade_spec, unknown};
use crate::bytes::Bytes;
use crate::capi::ffi::{byte_string, c_bytes, c_text};
use crate::error::Error;
use crate::spec::{File, Stdio};
use std::ffi::{c_char, c_int, c_void};

/// Standard streams: /dev/null.
pub const STOCKADE_STDIO_NULL: c_int = 0;
/// A pipe whose other end the process hands out.
pub const STOCKADE_STDIO_PIPE: c_int = 1;
/// Kept, up to the output limit, for the outcome. Not for standard input.
pub const STOCKADE_STDIO_CAPTURE: c_int = 2;
/// Standard error only: the same as standard output.
pub const STOCKADE_STDIO_STDOUT: c_int = 3;

/// Adds one to the program's arguments, the first of which is the program. A name without a slash is looked up,
/// inside the sandbox, in the PATH of its environment, or in /usr/local/bin:/usr/bin:/bin if that has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_add_arg(
    spec: Option<&mut stockade_spec>,
    arg: *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises a NUL-terminated string.
        s.args.push(Bytes::from(unsafe { c_bytes(arg, "arg") }?));
        Ok(())
    })
}

/// Sets the program and all its arguments: an array that ends with NULL, as execv(3) takes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_set_args(
    spec: Option<&mut stockade_spec>,
    args: *const *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises an array of NUL-terminated strings that ends with NULL.
        s.args = unsafe { c_array(args, "args") }?;
        Ok(())
    })
}

/// The strings of an array that ends with NULL.
///
/// # Safety
/// It is one, or NULL, which is refused.
pub(super) unsafe fn c_array(array: *const *const c_char, name: &str) -> Result<Vec<Bytes>, Error> {
    if array.is_null() {
        return Err(Error::invalid(format!("argument `{name}` is NULL")));
    }
    let mut all = Vec::new();
    let mut next = array;
    // SAFETY: `next` has not passed the array's end.
    while let text = unsafe { *next }
        && !text.is_null()
    {
        // SAFETY: NUL-terminated, by the caller's word.
        all.push(Bytes::from(unsafe { c_bytes(text, name) }?));
        // SAFETY: this was not the NULL at the end, so there is one more.
        next = unsafe { next.add(1) };
    }
    Ok(all)
}

/// Sets one variable of the program's environment, which is empty at first: nothing is inherited from the host.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_set_env(
    spec: Option<&mut stockade_spec>,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises NUL-terminated strings.
        let (name, value) = unsafe { (c_bytes(name, "name")?, c_bytes(value, "value")?) };
        s.env.insert(Bytes::from(name), Bytes::from(value));
        Ok(())
    })
}

/// Sets the working directory, inside the sandbox. Default: /work.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_set_cwd(
    spec: Option<&mut stockade_spec>,
    path: *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises a NUL-terminated string.
        s.cwd = Some(unsafe { c_text(path, "path") }?.into());
        Ok(())
    })
}

/// Has everything that the kernel and interpreters otherwise choose anew for each run chosen the same, unless
/// deterministic is 0: addresses are not randomised, and PYTHONHASHSEED, PERL_HASH_SEED and PERL_PERTURB_KEYS are 0 where
/// the environment does not name them. Random numbers and the time of day stay as they are. Default: 0.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_deterministic(
    spec: Option<&mut stockade_spec>,
    deterministic: c_int,
) -> c_int {
    set(spec, |s| {
        s.deterministic = deterministic != 0;
        Ok(())
    })
}

/// Sets what the program reads from standard input; the bytes are copied. Default: nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_set_input(
    spec: Option<&mut stockade_spec>,
    data: *const c_void,
    length: usize,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises that many bytes.
        s.input = Some(Bytes::from(unsafe { byte_string(data, length, "data") }?));
        Ok(())
    })
}

/// Sets where standard input comes from: STOCKADE_STDIO_NULL or STOCKADE_STDIO_PIPE. Default: the input, if given,
/// else STOCKADE_STDIO_NULL.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_stdin(spec: Option<&mut stockade_spec>, stdio: c_int) -> c_int {
    set(spec, |s| {
        s.stdin = Some(match stdio {
            STOCKADE_STDIO_NULL => Stdio::Null,
            STOCKADE_STDIO_PIPE => Stdio::Pipe,
            _ => return Err(unknown("stdin", stdio, "STOCKADE_STDIO_NULL, _PIPE")),
        });
        Ok(())
    })
}

/// Sets where standard output goes: STOCKADE_STDIO_NULL, _PIPE or _CAPTURE. Default: STOCKADE_STDIO_CAPTURE.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_stdout(
    spec: Option<&mut stockade_spec>,
    stdio: c_int,
) -> c_int {
    set(spec, |s| {
        s.stdout = Some(match stdio {
            STOCKADE_STDIO_NULL => Stdio::Null,
            STOCKADE_STDIO_PIPE => Stdio::Pipe,
            STOCKADE_STDIO_CAPTURE => Stdio::Capture,
            _ => {
                return Err(unknown(
                    "stdout",
                    stdio,
                    "STOCKADE_STDIO_NULL, _PIPE, _CAPTURE",
                ));
            }
        });
        Ok(())
    })
}

/// Sets where standard error goes: STOCKADE_STDIO_NULL, _PIPE, _CAPTURE or _STDOUT. Default: STOCKADE_STDIO_CAPTURE.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_stderr(
    spec: Option<&mut stockade_spec>,
    stdio: c_int,
) -> c_int {
    set(spec, |s| {
        s.stderr = Some(match stdio {
            STOCKADE_STDIO_NULL => Stdio::Null,
            STOCKADE_STDIO_PIPE => Stdio::Pipe,
            STOCKADE_STDIO_CAPTURE => Stdio::Capture,
            STOCKADE_STDIO_STDOUT => Stdio::Stdout,
            _ => {
                return Err(unknown(
                    "stderr",
                    stdio,
                    "STOCKADE_STDIO_NULL, _PIPE, _CAPTURE, _STDOUT",
                ));
            }
        });
        Ok(())
    })
}

/// Gives the program a pipe or socket of the caller's as standard input; any other kind of descriptor is refused at
/// the start. It stays the caller's and must stay open until the program is started.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_stdin_fd(spec: Option<&mut stockade_spec>, fd: c_int) -> c_int {
    set(spec, |s| descriptor(fd).map(|fd| s.stdin = Some(fd)))
}

/// The same as standard output.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_stdout_fd(
    spec: Option<&mut stockade_spec>,
    fd: c_int,
) -> c_int {
    set(spec, |s| descriptor(fd).map(|fd| s.stdout = Some(fd)))
}

/// The same as standard error.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_stderr_fd(
    spec: Option<&mut stockade_spec>,
    fd: c_int,
) -> c_int {
    set(spec, |s| descriptor(fd).map(|fd| s.stderr = Some(fd)))
}

fn descriptor(fd: c_int) -> Result<Stdio, Error> {
    match fd {
        0.. => Ok(Stdio::Fd(fd)),
        _ => Err(Error::invalid(format!(
            "argument `fd`: {fd} is not a descriptor"
        ))),
    }
}

/// Makes a file before the program starts, with these permission bits (0644); the bytes are copied. A relative path is
/// below /work; an absolute one must lie in a writable directory of the sandbox. Parent directories are made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_add_file(
    spec: Option<&mut stockade_spec>,
    path: *const c_char,
    data: *const c_void,
    length: usize,
    mode: u32,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises a NUL-terminated string and that many bytes.
        let (path, content) =
            unsafe { (c_text(path, "path")?, byte_string(data, length, "data")?) };
        s.files.insert(
            path.into(),
            File {
                content: Bytes::from(content),
                mode: Some(mode),
            },
        );
        Ok(())
    })
}

/// Collects a file when the program has ended: regular files only, never through a symbolic link. A relative path is
/// below /work.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_add_output(
    spec: Option<&mut stockade_spec>,
    path: *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises a NUL-terminated string.
        s.outputs.push(unsafe { c_text(path, "path") }?.into());
        Ok(())
    })
}

/// Sets the most bytes to collect of one output file. Default: 64 MiB.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_output_file_size(
    spec: Option<&mut stockade_spec>,
    bytes: u64,
) -> c_int {
    set(spec, |s| {
        s.output_file_size = Some(bytes);
        Ok(())
    })
}
