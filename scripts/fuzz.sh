#!/usr/bin/env bash
# Builds the targets in fuzz/ with stable Rust and AddressSanitizer, and runs them, as many at once as there are
# processors. What they find is in build/fuzz: inputs that crash, and those that reach new code.
#
#     scripts/fuzz.sh check [TARGET...]   every input of the corpora in fuzz/corpus, then $SECONDS_EACH of new ones (3)
#     scripts/fuzz.sh run [TARGET...]     $SECONDS_EACH of new ones (60), beginning with what was found before
#     scripts/fuzz.sh keep [TARGET...]    puts what was found into fuzz/corpus, as few inputs as reach the same code
set -euo pipefail
cd "$(dirname "$0")/.."
what=$1
shift
if [ $# = 0 ]; then
    set -- $(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | tail -n +2)
fi
case $what in
check) seconds=${SECONDS_EACH:-3} ;;
run) seconds=${SECONDS_EACH:-60} ;;
keep) seconds=0 ;;
*)
    echo "check, run or keep" >&2
    exit 2
    ;;
esac

# What cargo-fuzz would set. Sanitizers are in every toolchain's runtime, but only a bootstrap one may ask for them.
target=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares"
CARGO_TARGET_DIR=$PWD/build/fuzz/target RUSTC_BOOTSTRAP=1 RUSTFLAGS="--cfg fuzzing -Zsanitizer=address ${coverage//$'\n'/ }" \
    cargo build --quiet --release --locked --manifest-path fuzz/Cargo.toml --target "$target" --bins
programs=build/fuzz/target/$target/release

# In memory: some targets unpack each input.
TMPDIR=$(mktemp -d "$(test -w /dev/shm && echo /dev/shm || echo /tmp)/stockade-fuzz.XXXXXX")
trap 'chmod -R u+rwx "$TMPDIR"; rm -rf "$TMPDIR"' EXIT
export TMPDIR what seconds programs ASAN_OPTIONS=detect_odr_violation=0:quarantine_size_mb=8:malloc_context_size=8 RUST_BACKTRACE=1

fuzz() {
    name=$1 kept=fuzz/corpus/$1 found=build/fuzz/found/$1 crashes=build/fuzz/crashes/$1 log=build/fuzz/$1.log
    mkdir -p "$kept" "$found" "$crashes"
    run() { # run ARGUMENT...
        "$programs/$name" -timeout=20 -rss_limit_mb=2048 -max_len=65536 "-artifact_prefix=$crashes/" "$@" >"$log" 2>&1 || {
            echo "$name FAILED: $log; the input is in $crashes" >&2
            grep -aE -m 1 -A 1 'panicked at|ERROR: ' "$log" >&2 || tail -n 5 "$log" >&2
            return 1
        }
    }
    case $what in
    check)
        run -runs=0 "$kept" && run "-max_total_time=$seconds" "$found" "$kept"
        ;;
    run) run "-max_total_time=$seconds" "$found" "$kept" ;;
    keep)
        fewer=$(mktemp -d)
        run -set_cover_merge=1 -use_counters=0 "$fewer" "$kept" "$found" && rm -r "$kept" && cp -r "$fewer" "$kept" && chmod 755 "$kept"
        ;;
    esac || return 1
    runs=$(sed -n 's/^Done \([0-9]*\) runs.*/\1 runs, /p' "$log" | tail -n 1)
    echo "$name: ${runs}$(find "$kept" -type f | wc -l) inputs kept"
}
export -f fuzz
printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -euo pipefail -c 'fuzz {}'
