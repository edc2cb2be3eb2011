#!/usr/bin/env bash
# Builds the same sources in two directories and compares what comes out, byte by byte: the helper, which is a second's
# work, and with `all` the wheel, in which it is embedded. This is how releases are built: whoever has the sources and the
# same compiler can check what is inside.
#
#     scripts/reproducible.sh helper|all
set -euo pipefail
cd "$(dirname "$0")/.."
what=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

# Of different length, and one where no path is expected to be.
copies=("$work/one" "$work/another place/of the sources")
for copy in "${copies[@]}"; do
    mkdir -p "$copy"
    git ls-files -z --cached --others --exclude-standard -- . ':!fuzz/corpus' |
        tar --create --null --files-from - | tar --extract -C "$copy"
done

same() { # same WHAT FILE FILE
    if ! cmp "$2" "$3"; then
        echo "$1: two builds are different" >&2
        exit 1
    fi
    echo "$1: the same from both directories: $(sha256sum <"$2" | cut -d ' ' -f 1)"
}

# As cargo would run build.rs, without all that the library needs.
helper() ( # helper DIRECTORY
    cd "$1"
    rustc --edition 2024 -o build-script build.rs
    OUT_DIR=$PWD CARGO_MANIFEST_DIR=$PWD RUSTC=rustc TARGET=$(rustc -vV | sed -n 's/^host: //p') ./build-script >/dev/null
)
for copy in "${copies[@]}"; do
    helper "$copy"
done
same helper "${copies[0]}/stockade-init" "${copies[1]}/stockade-init"
if grep -qaF "$work" "${copies[0]}/stockade-init"; then
    echo "helper: the directory of its sources is in it" >&2
    exit 1
fi
rm -f "${copies[@]/%//stockade-init}"

[ "$what" = all ] || exit 0
maturin=$PWD/build/venv/bin/maturin
python=$PWD/build/venv/bin/python
wheel() ( # wheel DIRECTORY
    cd "$1"
    unset CARGO_TARGET_DIR RUSTFLAGS
    # Its parts are split at this character: paths may have blanks.
    CARGO_ENCODED_RUSTFLAGS=$(printf -- '--remap-path-prefix=%s=stockade\037--remap-path-prefix=%s=cargo' \
        "$PWD" "${CARGO_HOME:-$HOME/.cargo}")
    export CARGO_ENCODED_RUSTFLAGS
    "$maturin" build --quiet --release --locked --interpreter "$python" --out wheels
)
for copy in "${copies[@]}"; do
    wheel "$copy"
done
same wheel "${copies[0]}"/wheels/*.whl "${copies[1]}"/wheels/*.whl
