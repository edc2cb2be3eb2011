//! Builds the helper (`src/init`) with one call of rustc and leaves it where `include_bytes!` finds it.
//!
//! It is `core` only, so it needs no target but the one that is being built for, no nested cargo and no C library.
//! `STOCKADE_INIT=path` at build time makes the library use the helper installed at that path (see `src/launch.rs`): for
//! hosts whose policy (SELinux, AppArmor, noexec memfds) wants a file. The helper built here is what to install there.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/init");
    println!("cargo::rerun-if-changed=src/wire.rs");
    println!("cargo::rerun-if-changed=src/wire");
    println!("cargo::rerun-if-env-changed=STOCKADE_INIT");
    println!("cargo::rerun-if-env-changed=RUSTC");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let out =
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("stockade-init");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    if !target.contains("linux") {
        panic!(
            "stockade is for Linux only: it is made of namespaces, cgroups and seccomp (target: {target})"
        );
    }
    let mut command = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    command
        .args([
            "--edition=2024",
            "--crate-type=bin",
            "--crate-name=stockade_init",
        ])
        .args([
            "-Copt-level=2",
            "-Cpanic=abort",
            "-Cdebuginfo=0",
            "-Cstrip=symbols",
            "-Ccodegen-units=1",
        ])
        .args([
            "-Coverflow-checks=off",
            "-Cdebug-assertions=off",
            "-Crelocation-model=static",
            "-Cforce-unwind-tables=no",
        ])
        .args([
            "-Clink-arg=-nostdlib",
            "-Clink-arg=-nostartfiles",
            "-Clink-arg=-static",
        ])
        .args([
            "-Clink-arg=-Wl,--build-id=none",
            "-Clink-arg=-Wl,-z,noexecstack",
            "-Clink-arg=-Wl,--gc-sections",
        ])
        .args(["-Cdefault-linker-libraries=no", "--remap-path-prefix"])
        .arg(format!(
            "{}=",
            env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR")
        ))
        .arg(format!("--target={target}"));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("-Clinker=");
        option.push(linker);
        command.arg(option);
    }
    command
        .arg("-o")
        .arg(&out)
        .arg(Path::new("src/init/main.rs"));
    // Flags meant for the host library (coverage, sanitizers) must not reach a program without a runtime.
    command
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER");
    let status = command.status().expect("rustc can be run");
    assert!(status.success(), "building the helper failed: {command:?}");
}
