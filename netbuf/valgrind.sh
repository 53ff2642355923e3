#!/bin/sh
# Runs the test suite under valgrind's memcheck: no invalid access, no use of uninitialised bytes, no leak.
# (Miri and the sanitizers need a nightly toolchain.) Needs valgrind; takes a few minutes.
#
#   netbuf/valgrind.sh [test filter]
set -eu
cd "$(dirname "$0")"
command -v valgrind >/dev/null || { echo "valgrind is not installed" >&2; exit 1; }

# Property tests run fewer cases here: memcheck makes everything some thirty times slower.
export PROPTEST_CASES="${PROPTEST_CASES:-12}"

executables=$(cargo test -p skiff-netbuf --lib --tests --no-run 2>&1 | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
[ -n "$executables" ] || { echo "no test executables: does the crate build?" >&2; exit 1; }

root=$(cargo locate-project --workspace --message-format plain)
for executable in $executables; do
    case "$executable" in
    /*) ;;
    *) executable="$(dirname "$root")/$executable" ;;
    esac
    echo "== $(basename "$executable")"
    valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect \
        --errors-for-leak-kinds=definite,indirect --num-callers=30 \
        "$executable" --test-threads=1 "$@"
done
echo "valgrind found nothing"
