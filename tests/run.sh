#!/bin/bash
#
# Every test, from a clean clone, in one command:
#
#     tests/run.sh                    # everything: minutes on two cores
#     tests/run.sh --quick            # what to run at every save: unit, lint, one pass of the service
#     tests/run.sh --long             # also what takes long (ELS_LONG=1 for the tests): hours
#     tests/run.sh --long thread …    # only these parts
#     tests/run.sh --minutes 10       # what fits into ten minutes of testing; the rest is counted as not run
#     tests/run.sh --minutes 10 --all # and fails when anything was not run
#
# Installs what the tests need; each part has a build and a build directory of its own:
#
#     release     NDEBUG, the suites that compute, the browser (build-tests-release/); with --long
#                 also kills, churn and the hostile hour
#     sanitizer   AddressSanitizer and UBSan, the suites where memory is at stake (build-tests/). It links
#                 the release build's SIMD kernels, so that they are compiled once
#     thread      ThreadSanitizer, what threads share (build-tsan/); only with --long
#     valgrind    the unit tests (build-valgrind/); only with --long
#
# The tests of the release build run while the sanitizer build compiles and beside its first tests. A test that
# hangs is ended by a limit of its own (see the meson.build files; multiplied below), far above what a slow machine
# needs. The run as a whole has no limit.
#
# --long also kills the daemon a hundred times, lets 200 clients churn for ten minutes, attacks it for ten
# (ELS_HOSTILE_SECONDS), fails every allocation, and fuzzes for 10 million executions.
# The last line counts single tests (Check's and pytest's cases): N passed, N failed, N skipped. Before it stand
# the ten slowest programs and the time that installing, building and testing took.
# Exit status 0 only when none failed.

set -euo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
# shellcheck source=deploy/packages.sh
. "$root/deploy/packages.sh"
# shellcheck source=tests/tools.sh
. "$root/tests/tools.sh"

TEST_PACKAGES=(
    check gcc-aarch64-linux-gnu jupyter-nbconvert libc6-dev-arm64-cross mypy openssl python3 python3-ipykernel
    python3-numpy python3-pytest python3-requests pyflakes3 qemu-user shellcheck
)
LONG_PACKAGES=(clang libclang-rt-14-dev valgrind)

# Numbers, and what does not depend on the build, in the release build; memory in the sanitizer build. The unit tests
# run in both: with assertions and checks, and as they are shipped.
RELEASE_SUITES=(--suite unit --suite golden --suite theory --suite browser --suite neon --suite lint)
SANITIZER_SUITES=(--suite unit --suite service --suite cli --suite fuzz)
# What threads share: queue, pool, streams, reload, keys, the store.
THREAD_TESTS=(
    account events http job log pool queue quota store
    service_{bounds,client,crash,denoise,events,hostile,http,idle,jobs,keys,life,metrics,queue,reload,sharing,soak,store_faults}
)
QUICK_SUITES=(--suite lint --suite unit --suite quick)

# The system's own Python has the packages above, whatever else the caller has in front.
export PATH="/usr/bin:/bin:/usr/sbin:/sbin:$PATH"
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
unset ELS_LONG

usage() {
    echo "usage: tests/run.sh [--quick] [--long] [--minutes N [--all]] [release|sanitizer|thread|valgrind]…" >&2
    exit 2
}

minutes=""
quick=""
scale=4
parts=()
count_options=()
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=yes ;;
    --long)
        export ELS_LONG=1
        scale=12
        ;;
    --minutes)
        minutes=${2:-}
        [[ $minutes =~ ^[0-9]+$ ]] || usage
        shift
        ;;
    --all) count_options+=(--all) ;;
    release | sanitizer | thread | valgrind) parts+=("$1") ;;
    *) usage ;;
    esac
    shift
done
if [ "${#parts[@]}" -eq 0 ]; then
    parts=(release sanitizer)
    [ -z "${ELS_LONG:-}" ] || parts+=(thread valgrind)
fi

# build DIR OPTION…: sets up once, and follows changed options afterwards.
build() {
    local dir=$root/$1
    shift
    if [ -f "$dir/build.ninja" ]; then
        meson setup --reconfigure "$dir" "$root" "$@" </dev/null >"$dir/reconfigure.log" ||
            meson setup --wipe "$dir" "$root" "$@" </dev/null
    else
        meson setup "$dir" "$root" "$@" </dev/null
    fi
    ninja -C "$dir" </dev/null
}

# run DIR PROCESSES OPTION…: a failed test does not end the run; the count at the end tells. What was chosen is
# written down, so that what did not run can be counted.
run() {
    local dir=$root/$1 processes=$2 limit=()
    shift 2
    rm -f "$dir"/meson-logs/testlog*.json
    meson test -C "$dir" --no-rebuild --list "$@" </dev/null 2>/dev/null >"$dir/meson-logs/chosen.txt"
    if [ -n "$deadline" ]; then
        limit=(timeout -k 30 "$((deadline > SECONDS ? deadline - SECONDS : 1))")
    fi
    "${limit[@]}" meson test -C "$dir" --no-rebuild --print-errorlogs --num-processes "$processes" \
        --timeout-multiplier "$scale" "$@" </dev/null || true
}

# The browser's tests need more than the others; where it cannot be had they say so and are skipped.
need_browser() {
    local here=$root/tests/browser packages=(chromium fonts-dejavu-core)

    command -v npm >/dev/null || packages+=(nodejs npm)
    need_packages "${packages[@]}" || return 0
    if [ "$here/package-lock.json" -nt "$here/node_modules/.package-lock.json" ]; then
        npm --prefix "$here" ci --ignore-scripts --no-audit --no-fund </dev/null >&2 || true
    fi
}

need_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
if [ -z "$quick" ]; then
    unpack_tools "$root/build-tools" prometheus nginx
    need_browser
fi
[ -z "${ELS_LONG:-}" ] || need_packages "${LONG_PACKAGES[@]}"
installed=$SECONDS
building=0
deadline=""
[ -z "$minutes" ] || deadline=$((SECONDS + minutes * 60))

built=yes
builds=()
background=""

# make DIR OPTION…: builds, and remembers what for the count.
make() {
    local began=$SECONDS

    echo "== $1/"
    builds+=("$root/$1")
    build "$1" -Dtests=enabled -Dwerror=true "${@:2}" || built=no
    building=$((building + SECONDS - began))
    [ "$built" = yes ]
}

wait_for_background() {
    [ -n "$background" ] || return 0
    wait "$background"
    cat "$root/build-tests-release/run.log"
    background=""
}

part_release() {
    local endurance=()

    [ -z "${ELS_LONG:-}" ] || endurance=(--suite endurance)
    make build-tests-release --buildtype=release || return 0
    # Beside what else is built; the long ones come first, so few are left when that is done.
    run build-tests-release "$(nproc)" "${RELEASE_SUITES[@]}" "${endurance[@]}" \
        >"$root/build-tests-release/run.log" 2>&1 &
    background=$!
}

part_sanitizer() {
    local kernels=()

    if [ -f "$root/build-tests-release/build.ninja" ]; then
        kernels=("-Dkernels_of=$root/build-tests-release")
    fi
    if make build-tests --buildtype=debugoptimized -Doptimization=1 -Dc_args=-g1 -Db_sanitize=address,undefined \
        -Db_lundef=false "${kernels[@]}"; then
        run build-tests "$(nproc)" "${SANITIZER_SUITES[@]}"
    fi
}

part_thread() {
    if make build-tsan --buildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false; then
        run build-tsan "$(nproc)" "${THREAD_TESTS[@]}"
    fi
}

part_valgrind() {
    if make build-valgrind --buildtype=debugoptimized; then
        run build-valgrind "$(nproc)" --setup valgrind --suite unit
    fi
}

if [ -n "$quick" ]; then
    if make build-tests-release --buildtype=release; then
        run build-tests-release "$(nproc)" "${QUICK_SUITES[@]}"
    fi
else
    for part in "${parts[@]}"; do
        "part_$part"
    done
    wait_for_background
fi
if [ "$built" = no ]; then
    echo "The build failed."
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi
echo "installing $installed s, building $building s (tests of the release build beside it)," \
    "all $SECONDS s, on $(nproc) cores"
python3 "$root/tests/count.py" "${count_options[@]}" "${builds[@]}"
