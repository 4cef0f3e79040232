#!/bin/bash
#
# Looks for inputs that break a target: builds them with libFuzzer, ASan and UBSan (clang) in build-fuzz/ and
# runs each for so many executions, from the corpus in the repository and what earlier runs found.
#
#     tests/fuzz/run.sh RUNS [TARGET…]      # RUNS executions of each target (default: all)
#     tests/fuzz/run.sh --in-long-runs RUNS # the same for tests/run.sh: skipped unless ELS_LONG is set
#
# A finding is written to build-fuzz/crash-…, and the exit status is 1. The last line is the number of executions.

set -euo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
dir=$root/build-fuzz
if [ "${1:-}" = --in-long-runs ]; then
    shift
    if [ -z "${ELS_LONG:-}" ] || ! command -v clang >/dev/null; then
        echo "skipped: fuzzing takes clang and tests/run.sh --long"
        exit 77
    fi
fi
runs=${1:?usage: tests/fuzz/run.sh RUNS [TARGET…]}
shift
export PATH="/usr/bin:/bin:$PATH" UBSAN_OPTIONS=print_stacktrace=1

if [ ! -f "$dir/build.ninja" ]; then
    CC=clang CXX=clang++ meson setup "$dir" "$root" --buildtype=debugoptimized -Dtests=disabled \
        -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false </dev/null >&2
fi
ninja -C "$dir" </dev/null >&2

targets=("$@")
if [ "${#targets[@]}" -eq 0 ]; then
    for corpus in "$root"/tests/fuzz/corpus/*/; do
        targets+=("$(basename "$corpus")")
    done
fi

cd "$dir"
total=0
status=0
for target in "${targets[@]}"; do
    mkdir -p "found/$target"
    nice "tests/fuzz/fuzz_$target" -runs="$runs" -max_len=16384 -timeout=300 -rss_limit_mb=2048 -print_final_stats=1 \
        -verbosity=1 "found/$target" "$root/tests/fuzz/corpus/$target" >"$target.log" 2>&1 || status=1
    n=$(sed -n 's/^stat::number_of_executed_units: *//p' "$target.log")
    printf '%-12s %s executions, %s\n' "$target" "${n:-0}" \
        "$(grep -E 'ERROR|SUMMARY|runtime error' "$target.log" | head -1 || true)"
    total=$((total + ${n:-0}))
done
echo "$total executions"
exit "$status"
