# Sourced by tests/run.sh: programs that only check files of deploy/.
# shellcheck shell=bash

# unpack_tools DIR PACKAGE…: unpacks Debian packages below DIR without installing them, because nginx
# and prometheus would start to serve on whoever's machine runs the tests. What cannot be fetched is
# left out; the tests that want it are then skipped and say so.
unpack_tools() {
    local dir=$1 package
    shift
    mkdir -p "$dir"
    for package in "$@"; do
        [ ! -f "$dir/$package.done" ] || continue
        if (cd "$dir" && rm -f "$package"_*.deb && apt-get -q download "$package" >/dev/null 2>&1 &&
            dpkg -x "$package"_*.deb . && rm -f "$package"_*.deb); then
            touch "$dir/$package.done"
        else
            echo "$package cannot be fetched: the tests that need it will be skipped" >&2
        fi
    done
}
