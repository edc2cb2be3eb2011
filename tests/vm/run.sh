#!/bin/bash
# Builds the Rust tests and their guest program, makes the machines' images if they are missing, and runs every lane.
# Called by `make test-vm`.
#
#     tests/vm/run.sh "KERNEL..." "SHAPE..." [TEST_ARGUMENT...]
#
# With STOCKADE_VM_TRUTH=DIRECTORY what is said of each limit is kept there, for truth.py.
set -euo pipefail
kernels=$1 shapes=$2
shift 2
here=$(dirname "$0")

# shellcheck disable=SC2086 # a list of words
"$here/build-image.sh" $kernels
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cargo test --locked --features capi --lib --test suite --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/deps\/[^"]*\)".*/\1/p' |
    while read -r program; do
        name=$(basename "$program")
        strip -o "$out/${name%-*}" "$program"
    done
# What the lanes of the ladder and of AppArmor run.
cargo build --locked --features capi --bin stockade
strip -o "$out/stockade-cli" "${CARGO_TARGET_DIR:-target}/debug/stockade"
cp -r "$here/../../contrib/data/share/stockade/apparmor" "$out/apparmor"
mkdir "$out/python"
case " $shapes " in
*" apparmor"*)
    make -s -C "$here/../.." wheel
    "${PYTHON:-python3}" -m zipfile -e "$here"/../../build/wheels/*.whl "$out/python"
    ;;
esac
mkdir "$out/guest"
"${CC:-gcc}" -static -O2 -pthread -o "$out/guest/guest" "$here"/../guest/*.c
lanes=
for kernel in $kernels; do
    lanes="$lanes --kernel $kernel"
done
for shape in $shapes; do
    lanes="$lanes --shape $shape"
done
# shellcheck disable=SC2086 # a list of words
"${PYTHON:-python3}" -B "$here/lanes.py" --programs "$out" ${STOCKADE_VM_TRUTH:+--truth "$STOCKADE_VM_TRUTH"} $lanes -- "$@"
