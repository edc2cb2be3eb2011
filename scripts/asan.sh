#!/usr/bin/env bash
# Builds the static library with AddressSanitizer, by stable Rust, and the C tests with it as well, and runs these.
#
#     scripts/asan.sh [NAME...]   of tests/capi/NAME.c; default: all that need nothing else
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# = 0 ]; then
    set -- run spec process sandbox store commit errors threads first_use forks closed_fds reaper orders
fi

# Sanitizers are in every toolchain's runtime, but only a bootstrap one may ask for them. Its own runtime is for Rust
# programs: what C brings along has the same interface.
target=$(rustc -vV | sed -n 's/^host: //p')
out=build/asan
mkdir -p $out
CARGO_TARGET_DIR=$out/target RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Zexternal-clangrt" cargo rustc --quiet --locked --lib \
    --no-default-features --features capi --crate-type staticlib --target "$target"
library=$out/target/$target/debug/libstockade.a

export ASAN_OPTIONS=detect_leaks=1:detect_odr_violation=0:detect_stack_use_after_return=0:abort_on_error=0
export LSAN_OPTIONS=suppressions=tests/capi/lsan.supp:print_suppressions=0
for name; do
    gcc -std=c99 -D_GNU_SOURCE -g -fsanitize=address -static-libasan -pthread -Iinclude -Itests/capi \
        -o "$out/$name" "tests/capi/$name.c" "$library" -lutil -lrt -lm -ldl
    timeout 300 "$out/$name" >"$out/$name.log" 2>&1 || {
        echo "$name FAILED" >&2
        head -n 40 "$out/$name.log" >&2
        exit 1
    }
    echo "$name: nothing found"
done
