#!/usr/bin/env bash
# How programs and libraries are protected against their own faults, ours beside bubblewrap's, and a failure if ours lack
# what they should have. A helper (`stockade-init`) is loaded where it was linked: it is static, without a loader that
# could move it.
#
#     scripts/hardening.sh FILE...
set -euo pipefail

# yes or no to each: at random addresses; relocations read-only, all of them; no stack or segment that can be written and
# executed; no code that is patched at load; no search path of its own; guarded stack frames.
look() { # look FILE
    local headers dynamic symbols
    headers=$(readelf -Wlh "$1")
    dynamic=$(readelf -Wd "$1")
    # Not of its debug symbols, which name what was left out.
    symbols=$(readelf -W --dyn-syms "$1")
    says() { if grep -qE "$2" <<<"$1"; then echo yes; else echo no; fi; }
    not() { if [ "$1" = yes ]; then echo no; else echo yes; fi; }
    pie=$(says "$headers" 'Type: +DYN')
    relro=$(says "$headers" GNU_RELRO)
    now=$(says "$dynamic" 'BIND_NOW|FLAGS.* NOW')
    nx=$(not "$(says "$headers" '(GNU_STACK|LOAD).* (RWE|WE|W E) ')")
    grep -q GNU_STACK <<<"$headers" || nx=no
    clean=$(not "$(says "$dynamic" 'TEXTREL|RPATH|RUNPATH')")
    canary=$(says "$symbols" __stack_chk_fail)
}

faults() { # faults FILE: what it lacks
    look "$1"
    case $(basename "$1") in
    # Nothing is relocated in it, before or after it starts.
    stockade-init*) local lacks= ;;
    *) local lacks="$([ $pie = yes ] || echo ' pie')$([ $relro$now = yesyes ] || echo ' full-relro')" ;;
    esac
    [ $nx = yes ] || lacks+=' nx'
    [ $clean = yes ] || lacks+=' textrel-or-rpath'
    echo "$lacks"
}

# What it is for: a program that lacks everything is seen to.
bad=$(mktemp)
trap 'rm -f "$bad"' EXIT
echo 'int main(void) { return 0; }' |
    cc -x c - -o "$bad" -no-pie -Wl,-z,execstack -Wl,-z,norelro -Wl,-z,lazy -Wl,-rpath,/nowhere 2>/dev/null
if [ "$(faults "$bad")" != ' pie full-relro nx textrel-or-rpath' ]; then
    echo "this script sees only$(faults "$bad") of what an unprotected program lacks" >&2
    exit 1
fi

printf '%-28s %-5s %-6s %-9s %-4s %-14s %s\n' file pie relro bind-now nx 'no rpath etc.' canary
status=0
for file in "$@" $(command -v bwrap || true); do
    look "$file"
    printf '%-28s %-5s %-6s %-9s %-4s %-14s %s\n' "$(basename "$file")" $pie $relro $now $nx $clean $canary
done
for file in "$@"; do
    lacks=$(faults "$file")
    if [ -n "$lacks" ]; then
        echo "$file lacks:$lacks" >&2
        status=1
    fi
done
exit $status
