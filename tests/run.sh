#!/bin/bash
#
# Every test, from a clean clone, in one command:
#
#     tests/run.sh            # bounded: 15 minutes on two cores
#     tests/run.sh --long     # also what takes long (ELS_LONG=1 for the tests)
#
# Installs what the tests need, builds with AddressSanitizer and UBSan in build-tests/ and runs every suite
# there; then builds a release with NDEBUG in build-tests-release/ and runs the suites that compute.
# --long also kills the daemon a hundred times, lets 200 clients churn for ten minutes, fails every
# allocation, fuzzes for 10 million executions, and runs what threads share under ThreadSanitizer.
# The last line counts single tests (Check's and pytest's cases): N passed, N failed, N skipped.
# Exit status 0 only when none failed.

set -euo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
# shellcheck source=deploy/packages.sh
. "$root/deploy/packages.sh"
# shellcheck source=tests/tools.sh
. "$root/tests/tools.sh"

TEST_PACKAGES=(
    check jupyter-nbconvert mypy openssl python3 python3-ipykernel python3-numpy python3-pytest
    python3-requests pyflakes3 shellcheck
)
RELEASE_SUITES=(--suite unit --suite golden --suite theory --suite browser)

LONG_PACKAGES=(clang libclang-rt-14-dev)
# What threads share: queue, pool, streams, reload, keys.
THREAD_TESTS=(
    queue pool events http job log quota store
    service_idle service_keys service_life service_metrics service_reload
)

# The system's own Python has the packages above, whatever else the caller has in front.
export PATH="/usr/bin:/bin:/usr/sbin:/sbin:$PATH"
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
unset ELS_LONG

minutes=15
scale=1
case "${1:-}" in
--long)
    export ELS_LONG=1
    minutes=180
    scale=12
    ;;
"") ;;
*)
    echo "usage: tests/run.sh [--long]" >&2
    exit 2
    ;;
esac
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
    rm -f "$dir/meson-logs/testlog.json"
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
builds=(build-tests build-tests-release)
echo "== Sanitizer build (build-tests/)"
build build-tests --buildtype=debugoptimized -Dtests=enabled -Dwerror=true \
    -Db_sanitize=address,undefined -Db_lundef=false || built=no
[ "$built" = no ] || run build-tests

echo "== Release build with NDEBUG (build-tests-release/)"
build build-tests-release --buildtype=release -Dtests=enabled -Dwerror=true || built=no
[ "$built" = no ] || run build-tests-release "${RELEASE_SUITES[@]}"

if [ -n "${ELS_LONG:-}" ]; then
    echo "== ThreadSanitizer build (build-tsan/)"
    builds+=(build-tsan)
    build build-tsan --buildtype=debugoptimized -Dtests=enabled -Dwerror=true \
        -Db_sanitize=thread -Db_lundef=false || built=no
    [ "$built" = no ] || run build-tsan "${THREAD_TESTS[@]}"
fi

if [ "$built" = no ]; then
    echo "The build failed."
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi
python3 "$root/tests/count.py" "${builds[@]/#/$root/}"
