#!/bin/bash
#
# The browser tests: the real daemon, Debian's Chromium, playwright-core and axe-core.
#
#     tests/browser/run.sh BUILD_DIR [PART…]      # TAP on stdout; screenshots in BUILD_DIR/tests/browser/pictures
#     tests/browser/run.sh BUILD_DIR --readme     # renews docs/pictures/page*.png instead
#
# Run by `meson test` as the suite `browser`. What is missing is said, and the tests are skipped (status 77);
# `npm ci` in this folder gets the two packages.

set -euo pipefail

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
ELS_BUILD_DIR=$(readlink -f "${1:-${ELS_BUILD_DIR:?which build directory?}}")
export ELS_BUILD_DIR
export ELS_CHROMIUM=${ELS_CHROMIUM:-/usr/bin/chromium}

skip() {
    echo "skipped: $*"
    exit 77
}

command -v node >/dev/null || skip "node is not installed"
[ -x "$ELS_CHROMIUM" ] || skip "$ELS_CHROMIUM is not there"
for package in playwright-core axe-core; do
    [ -d "$here/node_modules/$package" ] || skip "$package is not there; run npm ci in tests/browser"
done

cd "$here"
if [ "${2:-}" = --readme ]; then
    mkdir -p ../../docs/pictures
    exec node readme.js
fi
exec node --test-reporter=tap all.js "${@:2}"
