#!/bin/bash
#
# Every test, from a clean clone, in one command:
#
#     tests/run.sh                    # bounded: 15 minutes on two cores
#     tests/run.sh --long             # also what takes long (ELS_LONG=1 for the tests): hours
#     tests/run.sh --long thread …    # only these parts
#
# Installs what the tests need; each part has a build and a build directory of its own:
#
#     sanitizer   AddressSanitizer and UBSan, every suite (build-tests/)
#     release     NDEBUG, the suites that compute (build-tests-release/); with --long
#                 also kills and churn
#     thread      ThreadSanitizer, what threads share (build-tsan/); only with --long
#     valgrind    the unit tests (build-valgrind/); only with --long
#
# --long also kills the daemon a hundred times, lets 200 clients churn for ten minutes, fails every
# allocation, and fuzzes for 10 million executions.
# The last line counts single tests (Check's and pytest's cases): N passed, N failed, N skipped.
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
RELEASE_SUITES=(--suite unit --suite golden --suite theory --suite browser)

LONG_PACKAGES=(clang libclang-rt-14-dev valgrind)
# What threads share: queue, pool, streams, reload, keys, the store.
THREAD_TESTS=(
    events http job log pool queue quota store
    service_{bounds,client,crash,denoise,events,http,idle,jobs,keys,life,metrics,queue,reload,sharing,soak,store_faults}
)

# The system's own Python has the packages above, whatever else the caller has in front.
export PATH="/usr/bin:/bin:/usr/sbin:/sbin:$PATH"
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
unset ELS_LONG

minutes=15
scale=1
parts=(sanitizer release)
if [ "${1:-}" = --long ]; then
    export ELS_LONG=1
    minutes=240
    scale=12
    parts+=(thread valgrind)
    shift
fi
for part; do
    [[ " ${parts[*]} " == *" $part "* ]] || {
        echo "usage: tests/run.sh [--long] [sanitizer|release|thread|valgrind]…" >&2
        exit 2
    }
done
[ $# -eq 0 ] || parts=("$@")
deadline=$((SECONDS + minutes * 60))

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

# run DIR SUITE-OPTION…: a failed test does not end the run; the count at the end tells.
run() {
    local dir=$root/$1 left=$((deadline - SECONDS))
    shift
    [ "$left" -gt 30 ] || left=30
    rm -f "$dir"/meson-logs/testlog*.json
    timeout -k 30 "$left" meson test -C "$dir" --no-rebuild --print-errorlogs \
        --num-processes "$(nproc)" --timeout-multiplier "$scale" "$@" </dev/null || true
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
unpack_tools "$root/build-tools" prometheus nginx
need_browser
[ -z "${ELS_LONG:-}" ] || need_packages "${LONG_PACKAGES[@]}"

built=yes
builds=()

# build_and_run DIR OPTION… -- RUN-OPTION…: one build, and its tests.
build_and_run() {
    local dir=$1 options=()
    shift
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    echo "== $dir/"
    builds+=("$root/$dir")
    if build "$dir" -Dtests=enabled -Dwerror=true "${options[@]}"; then
        run "$dir" "$@"
    else
        built=no
    fi
}

part_sanitizer() {
    build_and_run build-tests --buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false --
}

part_release() {
    local endurance=()
    [ -z "${ELS_LONG:-}" ] || endurance=(--suite endurance)
    build_and_run build-tests-release --buildtype=release -- "${RELEASE_SUITES[@]}" "${endurance[@]}"
}

part_thread() {
    build_and_run build-tsan --buildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false -- \
        "${THREAD_TESTS[@]}"
}

part_valgrind() {
    build_and_run build-valgrind --buildtype=debugoptimized -- --setup valgrind --suite unit
}

for part in "${parts[@]}"; do
    "part_$part"
done
if [ "$built" = no ]; then
    echo "The build failed."
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi
python3 "$root/tests/count.py" "${builds[@]}"
