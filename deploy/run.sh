#!/bin/bash
#
# From a clean clone on Debian 12 to a running daemon, in one command:
#
#     deploy/run.sh                 # installs, builds, starts elsd with the built-in banks on port 8080
#     deploy/run.sh --port 0        # every argument goes to elsd
#
# Stays in the foreground. Ctrl-C or SIGTERM ends the daemon, which first lets its running step finish. The
# exit status is the daemon's.

set -euo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
# shellcheck source=deploy/packages.sh
. "$root/deploy/packages.sh"

# The system's own Python runs Meson, whatever else the caller has in front.
export PATH="/usr/bin:/bin:/usr/sbin:/sbin:$PATH"

build() {
    if [ ! -f "$root/build/build.ninja" ]; then
        meson setup "$root/build" "$root" --buildtype=release </dev/null
    fi
    ninja -C "$root/build" </dev/null
}

# The daemon's log, line by line to stderr; when the line with the address comes by, waits until
# the daemon answers that it is ready and says how to use it. Ends when the daemon closes its log.
follow_log() {
    local line url=""

    while IFS= read -r line || [ -n "$line" ]; do
        printf '%s\n' "$line" >&2
        if [ -z "$url" ] && [[ $line =~ listening.*(http://[^[:space:]\"]+) ]]; then
            url=${BASH_REMATCH[1]%/}
            announce "$url" &
        fi
    done
    wait
}

announce() {
    local url=$1

    while ! curl -fs --max-time 5 -o /dev/null "$url/readyz"; do
        kill -0 "$daemon_pid" 2>/dev/null || return 0
        sleep 0.1
    done
    printf '\n%s\n\nA first picture:\n\n' "$url"
    printf "    curl --json '{\"num_images\": 4}' -H 'Accept: image/png' -o picture.png %s/v1/samples\n\n" "$url"
}

need_packages "${BUILD_PACKAGES[@]}"
build >&2

log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
mkfifo "$log/fifo"
"$root/build/server/elsd" "$@" </dev/null 2>"$log/fifo" &
daemon_pid=$!
# The reader must outlive the signals that end the daemon, or its last lines would be lost.
(trap '' INT TERM HUP; follow_log) <"$log/fifo" &
reader_pid=$!
signalled=no
trap 'signalled=yes; kill -TERM "$daemon_pid" 2>/dev/null || true' INT TERM
trap 'signalled=yes; kill -HUP "$daemon_pid" 2>/dev/null || true' HUP

# A trapped signal ends `wait` early with a status of its own: then wait again for the daemon's.
status=0
while :; do
    signalled=no
    wait "$daemon_pid" && status=0 || status=$?
    [ "$signalled" = yes ] || break
done
wait "$reader_pid" || true
exit "$status"
