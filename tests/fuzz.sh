#!/bin/sh
# Runs the fuzz targets of all crates under libFuzzer, which follows the branches taken, one after the other; with a
# filter only those whose name contains it. Stable Rust; needs a C++ compiler.
#
#   tests/fuzz.sh SECONDS [filter]
#
# Inputs that led somewhere new are kept in target/fuzz/corpus and taken up again by the next run, those that failed in
# target/fuzz/crashes.
#
# Not by cargo-bolero: it builds a crate's other tests for the fuzzer, too, and on stable Rust those do not link, as the
# counters are in libFuzzer, which only a fuzz target brings along.
set -eu
seconds="${1:?usage: tests/fuzz.sh SECONDS [filter]}"
filter="${2:-}"
cd "$(dirname "$0")/.."
command -v c++ >/dev/null || { echo "a C++ compiler is missing: libFuzzer is built with it" >&2; exit 1; }

# What cargo-bolero gives the compiler: counters on every edge and comparison.
RUSTFLAGS="--cfg fuzzing --cfg fuzzing_libfuzzer -Cpasses=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares stack-depth; do
    RUSTFLAGS="$RUSTFLAGS -Cllvm-args=-sanitizer-coverage-$option"
done
export RUSTFLAGS
target=$(rustc -vV | sed -n 's/^host: //p')

# With --target the counters stay out of build scripts, which could not be linked with them either.
build() {
    cargo test --profile fuzz --target "$target" --target-dir target/fuzz --no-run "$@"
}

fuzz() {
    corpus="target/fuzz/corpus/$2"
    crashes="target/fuzz/crashes/$2"
    mkdir -p "$corpus" "$crashes"
    echo "== $2"
    arguments="$corpus $crashes -artifact_prefix=$crashes/ -max_total_time=$seconds -timeout=60 -print_final_stats=1"
    BOLERO_TEST_NAME="$2" BOLERO_LIBTEST_HARNESS=1 BOLERO_LIBFUZZER_ARGS="$arguments" \
        "$1" "$2" --exact --nocapture --test-threads=1
}

for file in netbuf/tests/fuzz*.rs drivers/*/tests/fuzz*.rs lab/*/tests/fuzz*.rs; do
    package=${file%/tests/*}
    test=$(basename "$file" .rs)
    build --quiet --manifest-path "$package/Cargo.toml" --test "$test"
    executable=$(build --manifest-path "$package/Cargo.toml" --test "$test" 2>&1 |
        sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
    names=$("$executable" --list --format terse | sed -n 's/: test$//p')
    [ -n "$names" ] || { echo "$file has no fuzz target" >&2; exit 1; }
    for name in $names; do
        case "$name" in *"$filter"*) fuzz "$executable" "$name" ;; esac
    done
done
echo "the fuzzer found nothing"
