#!/bin/sh
# Runs rustfmt and clippy on the helper, which cargo never sees: build.rs compiles it with one call of rustc.
set -eu
rustfmt --edition 2024 --check src/init/main.rs
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
clippy-driver --edition=2024 --crate-type=bin --crate-name=stockade_init -Cpanic=abort --emit=metadata \
    -W clippy::all -W clippy::undocumented_unsafe_blocks -W unsafe_op_in_unsafe_fn -D warnings \
    --out-dir "$out" src/init/main.rs
