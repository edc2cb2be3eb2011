//! The setters for the limits.

use super::{set, stockade_spec, unknown};
use crate::capi::ffi::c_text;
use crate::error::Error;
use crate::rates::{DeviceRate, HugePages};
use crate::spec::{Enforce, Overflow, Spec};
use std::ffi::{c_char, c_int};
use std::time::Duration;

/// When the output limit is passed: end the program at once. The default.
pub const STOCKADE_OVERFLOW_KILL: c_int = 0;
/// Let it go on, discarding what is over.
pub const STOCKADE_OVERFLOW_DISCARD: c_int = 1;

/// A limit that nothing on this host can enforce at all is an error before the start. The default.
pub const STOCKADE_ENFORCE_STRICT: c_int = 0;
/// Run without such a limit and say so in the outcome's enforcement.
pub const STOCKADE_ENFORCE_BEST_EFFORT: c_int = 1;

/// Limits the CPU time of the whole process tree, user and system together: nanoseconds. Default: none.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_cpu_time(
    spec: Option<&mut stockade_spec>,
    nanoseconds: u64,
) -> c_int {
    set(spec, |s| {
        s.cpu_time = Some(Duration::from_nanos(nanoseconds));
        Ok(())
    })
}

/// Limits the wall-clock time from the program's start: nanoseconds. Default: none.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_wall_time(
    spec: Option<&mut stockade_spec>,
    nanoseconds: u64,
) -> c_int {
    set(spec, |s| {
        s.wall_time = Some(Duration::from_nanos(nanoseconds));
        Ok(())
    })
}

/// Limits the memory of the whole sandbox (anonymous, page cache, tmpfs, shared): bytes. Default: none.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_memory(spec: Option<&mut stockade_spec>, bytes: u64) -> c_int {
    set(spec, |s| {
        s.memory = Some(bytes);
        Ok(())
    })
}

/// Limits what may be swapped out beyond the memory limit, which must be set too: bytes. Default: 0.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_swap(spec: Option<&mut stockade_spec>, bytes: u64) -> c_int {
    set(spec, |s| {
        s.swap = Some(bytes);
        Ok(())
    })
}

/// Limits how many processors' time the whole sandbox may use, at least 0.01: 1.5 is 150 ms in every 100 ms. It is held
/// back when it has used that. Default: none.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_cpus(spec: Option<&mut stockade_spec>, cpus: f64) -> c_int {
    set(spec, |s| {
        s.cpus = Some(cpus);
        Ok(())
    })
}

/// Sets its share of the processors while others want them too, relative to theirs: 1 to 10,000. What has none has 100.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_cpu_weight(
    spec: Option<&mut stockade_spec>,
    weight: u64,
) -> c_int {
    set(spec, |s| {
        s.cpu_weight = Some(weight);
        Ok(())
    })
}

/// Has it run only when nobody else wants a processor (cpu.idle; SCHED_IDLE, sched(7), where no cgroup can), unless
/// idle is 0. Excludes a CPU weight. Default: 0.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_cpu_idle(
    spec: Option<&mut stockade_spec>,
    idle: c_int,
) -> c_int {
    set(spec, |s| {
        s.cpu_idle = idle != 0;
        Ok(())
    })
}

/// Sets the processors that it may use: a list such as "0-2,4" (cpuset(7)), or "exclusive": as many as
/// stockade_spec_set_cpus says, rounded up (1 without), that no other run of this process which asks for the same has at
/// that time, each of a core of its own. Where there are not enough it shares them, and its enforcement says so.
/// Default: all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_set_cpuset_cpus(
    spec: Option<&mut stockade_spec>,
    list: *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises a NUL-terminated string.
        s.cpuset_cpus = Some(unsafe { c_text(list, "list") }?.into());
        Ok(())
    })
}

/// Sets its nice value (setpriority(2)), 0 to 19: what it yields to the others of its own group and session. Default: the
/// caller's.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_nice(spec: Option<&mut stockade_spec>, nice: c_int) -> c_int {
    set(spec, |s| {
        s.nice = Some(nice);
        Ok(())
    })
}

/// Sets the signal that stockade_process_stop sends, 1 to 64. Default: the image's StopSignal, else SIGTERM.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_stop_signal(
    spec: Option<&mut stockade_spec>,
    signal: c_int,
) -> c_int {
    set(spec, |s| {
        s.stop_signal = Some(signal);
        Ok(())
    })
}

/// Sets how much sooner than others the kernel ends the sandbox when the whole host is out of memory (oom_score_adj,
/// proc(5)): the caller's own value up to 1000. Default: the caller's.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_oom_score_adj(
    spec: Option<&mut stockade_spec>,
    score: c_int,
) -> c_int {
    set(spec, |s| {
        s.oom_score_adj = Some(score);
        Ok(())
    })
}

/// Sets whether the kernel ends the whole run when its memory limit, which must be set too, is used up
/// (memory.oom.group), or only the process that it chooses: then a program that survives and ends well is
/// STOCKADE_VERDICT_OK. It is the former unless group is 0. Default: 1.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_oom_group(
    spec: Option<&mut stockade_spec>,
    group: c_int,
) -> c_int {
    set(spec, |s| {
        s.oom_group = Some(group != 0);
        Ok(())
    })
}

/// Adds a limit on the bytes read from a block device in a second. The device is its path, or its number as "8:0"; a
/// partition stands for its disk. Default: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_add_io_read_bps(
    spec: Option<&mut stockade_spec>,
    device: *const c_char,
    rate: u64,
) -> c_int {
    // SAFETY: C promises a NUL-terminated string.
    add_rate(
        spec,
        || unsafe { c_text(device, "device") },
        rate,
        |s| &mut s.io_read_bps,
    )
}

/// Likewise on the bytes written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_add_io_write_bps(
    spec: Option<&mut stockade_spec>,
    device: *const c_char,
    rate: u64,
) -> c_int {
    // SAFETY: C promises a NUL-terminated string.
    add_rate(
        spec,
        || unsafe { c_text(device, "device") },
        rate,
        |s| &mut s.io_write_bps,
    )
}

/// Likewise on the operations of reading.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_add_io_read_iops(
    spec: Option<&mut stockade_spec>,
    device: *const c_char,
    rate: u64,
) -> c_int {
    // SAFETY: C promises a NUL-terminated string.
    add_rate(
        spec,
        || unsafe { c_text(device, "device") },
        rate,
        |s| &mut s.io_read_iops,
    )
}

/// Likewise on the operations of writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_add_io_write_iops(
    spec: Option<&mut stockade_spec>,
    device: *const c_char,
    rate: u64,
) -> c_int {
    // SAFETY: C promises a NUL-terminated string.
    add_rate(
        spec,
        || unsafe { c_text(device, "device") },
        rate,
        |s| &mut s.io_write_iops,
    )
}

fn add_rate<'c>(
    spec: Option<&mut stockade_spec>,
    device: impl FnOnce() -> Result<&'c str, Error>,
    rate: u64,
    field: impl FnOnce(&mut Spec) -> &mut Vec<DeviceRate>,
) -> c_int {
    set(spec, |s| {
        let device = device()?.into();
        field(s).push(DeviceRate { device, rate });
        Ok(())
    })
}

/// Sets its share of the block devices while others want them too, relative to theirs: 1 to 10,000. What has none has
/// 100.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_io_weight(
    spec: Option<&mut stockade_spec>,
    weight: u64,
) -> c_int {
    set(spec, |s| {
        s.io_weight = Some(weight);
        Ok(())
    })
}

/// Adds a limit on the huge pages of one size, both in bytes (hugetlb.2MB.max). The memory limit does not count them.
/// Default: none.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_add_hugetlb(
    spec: Option<&mut stockade_spec>,
    size: u64,
    limit: u64,
) -> c_int {
    set(spec, |s| {
        s.hugetlb.push(HugePages { size, limit });
        Ok(())
    })
}

/// Limits the processes and threads at one time. Default: none.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_pids(spec: Option<&mut stockade_spec>, count: u64) -> c_int {
    set(spec, |s| {
        s.pids = Some(count);
        Ok(())
    })
}

/// Limits the captured bytes of each of standard output and standard error. Default: 64 MiB.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_output(spec: Option<&mut stockade_spec>, bytes: u64) -> c_int {
    set(spec, |s| {
        s.output = Some(bytes);
        Ok(())
    })
}

/// Sets what to do when the output limit is passed: STOCKADE_OVERFLOW_KILL (default) or STOCKADE_OVERFLOW_DISCARD. The
/// head is kept and the rest counted either way, and the verdict is STOCKADE_VERDICT_OUTPUT_LIMIT.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_output_overflow(
    spec: Option<&mut stockade_spec>,
    overflow: c_int,
) -> c_int {
    set(spec, |s| {
        s.output_overflow = match overflow {
            STOCKADE_OVERFLOW_KILL => Overflow::Kill,
            STOCKADE_OVERFLOW_DISCARD => Overflow::Discard,
            _ => {
                return Err(unknown(
                    "output_overflow",
                    overflow,
                    "STOCKADE_OVERFLOW_KILL, _DISCARD",
                ));
            }
        };
        Ok(())
    })
}

/// Limits the largest file the program may write (RLIMIT_FSIZE): bytes. Default: none.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_file_size(
    spec: Option<&mut stockade_spec>,
    bytes: u64,
) -> c_int {
    set(spec, |s| {
        s.file_size = Some(bytes);
        Ok(())
    })
}

/// Limits the open descriptors of each process (RLIMIT_NOFILE). Default: 1024, or half of this process's own soft limit if
/// that is less.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_open_files(
    spec: Option<&mut stockade_spec>,
    count: u64,
) -> c_int {
    set(spec, |s| {
        s.open_files = Some(count);
        Ok(())
    })
}

/// Limits the stack of each process's main thread (RLIMIT_STACK): bytes. Default: 8 MiB.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_stack(spec: Option<&mut stockade_spec>, bytes: u64) -> c_int {
    set(spec, |s| {
        s.stack = Some(bytes);
        Ok(())
    })
}

/// Limits the bytes in the sandbox's writable file system (/work, /tmp and /dev/shm together). Default: 64 MiB.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_disk(spec: Option<&mut stockade_spec>, bytes: u64) -> c_int {
    set(spec, |s| {
        s.disk = Some(bytes);
        Ok(())
    })
}

/// Limits the files and directories in the same. Default: 65,536.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_inodes(spec: Option<&mut stockade_spec>, count: u64) -> c_int {
    set(spec, |s| {
        s.inodes = Some(count);
        Ok(())
    })
}

/// Sets what to do about a limit that this host cannot enforce: STOCKADE_ENFORCE_STRICT (default) or
/// STOCKADE_ENFORCE_BEST_EFFORT.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_enforce(
    spec: Option<&mut stockade_spec>,
    enforce: c_int,
) -> c_int {
    set(spec, |s| {
        s.enforce = match enforce {
            STOCKADE_ENFORCE_STRICT => Enforce::Strict,
            STOCKADE_ENFORCE_BEST_EFFORT => Enforce::BestEffort,
            _ => {
                return Err(unknown(
                    "enforce",
                    enforce,
                    "STOCKADE_ENFORCE_STRICT, _BEST_EFFORT",
                ));
            }
        };
        Ok(())
    })
}
