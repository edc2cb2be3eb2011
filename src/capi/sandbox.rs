//! `stockade_sandbox`.

use super::error::stockade_error;
use super::ffi::{call, free, give, required};
use super::outcome::stockade_outcome;
use super::process::stockade_process;
use super::spec::stockade_spec;
use crate::sandbox::Sandbox;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// A live sandbox, in which programs run one after another or side by side; what they leave in its writable file
/// system stays until it is closed, what they leave running is killed when the last of them ends. Every call may be made from any thread, also at the same time.
pub struct stockade_sandbox(Sandbox);

impl stockade_sandbox {
    pub(super) fn inner(&self) -> &Sandbox {
        &self.0
    }
}

/// Starts a sandbox. The program in spec is not run and may be empty. Free the sandbox with stockade_sandbox_free.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_sandbox_start(
    spec: Option<&stockade_spec>,
    sandbox: Option<&mut MaybeUninit<*mut stockade_sandbox>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((sandbox, "sandbox"), null_mut(), error, || {
        let sandbox = Sandbox::start(stockade_spec::usable(spec)?)?;
        Ok(Box::into_raw(Box::new(stockade_sandbox(sandbox))))
    })
}

/// Runs a program in the sandbox and waits for its end. The fields of spec that describe the sandbox itself (image,
/// store, rootfs, overlay, read_only, upper_dir, volumes, tmpfs, network, user, hostname, uptime, disk, inodes,
/// cgroup_parent, enforce) must equal those it was started with: use stockade_spec_clone. Free the outcome with stockade_outcome_free.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_sandbox_run(
    sandbox: Option<&stockade_sandbox>,
    spec: Option<&stockade_spec>,
    outcome: Option<&mut MaybeUninit<*mut stockade_outcome>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((outcome, "outcome"), null_mut(), error, || {
        let sandbox = required(sandbox, "sandbox")?;
        Ok(stockade_outcome::raw(
            sandbox.0.run(stockade_spec::usable(spec)?)?,
        ))
    })
}

/// Starts a program in the sandbox, as stockade_sandbox_run does, without waiting. Free the process with
/// stockade_process_free, before or after the sandbox.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_sandbox_spawn(
    sandbox: Option<&stockade_sandbox>,
    spec: Option<&stockade_spec>,
    process: Option<&mut MaybeUninit<*mut stockade_process>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((process, "process"), null_mut(), error, || {
        let sandbox = required(sandbox, "sandbox")?;
        Ok(stockade_process::raw(
            sandbox.0.spawn(stockade_spec::usable(spec)?)?,
        ))
    })
}

/// Ends everything in the sandbox and removes it; the handle stays. Closing again does nothing; running in it again
/// is a STOCKADE_ERROR_STATE.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_sandbox_close(
    sandbox: Option<&stockade_sandbox>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || required(sandbox, "sandbox")?.0.close())
}

/// Closes a sandbox and frees it.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_sandbox_free(sandbox: Option<Box<stockade_sandbox>>) {
    free(sandbox);
}
