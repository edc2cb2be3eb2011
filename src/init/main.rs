//! Stockade's helper: the supervisor of a host process's sandboxes, and each sandbox's init.
//!
//! It is started by the library from a sealed memfd and knows no policy: it executes the steps of plans (`wire.rs`)
//! and reports. `core` only, static, single-threaded; no allocation, no floating point, no panics in reach.
#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn)]

mod attributes;
mod calls;
mod copy;
mod descent;
mod domain;
mod files;
mod groups;
mod mem;
mod plan;
mod program;
mod remove;
mod run;
mod sample;
mod sandbox;
mod servant;
mod serve;
mod supervisor;
mod sys;
mod table;
mod tally;
mod template;
#[path = "../wire.rs"]
#[allow(dead_code)]
mod wire;

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym start,
);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "bl {main}",
    "brk #1",
    main = sym start,
);

extern "C" fn start() -> ! {
    supervisor::main()
}
