# Sourced by deploy/run.sh and tests/run.sh: which Debian packages they need, and how to get them.
# shellcheck shell=bash

# What `meson setup build && ninja -C build` needs, and curl to ask the daemon.
# shellcheck disable=SC2034  # used by those who source this
BUILD_PACKAGES=(
    gcc g++ libc6-dev meson ninja-build pkg-config
    libmicrohttpd-dev libjansson-dev nettle-dev libpng-dev libjpeg62-turbo-dev zlib1g-dev
    libsqlite3-dev libtomlplusplus-dev curl
)

# need_packages NAME…: installs those that dpkg does not have. Without network and with all of them
# present it does nothing at all.
need_packages() {
    local package missing=() as_root=()

    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || {
            echo "Missing packages: ${missing[*]}. Install them, or run this as root or with sudo." >&2
            return 1
        }
        as_root=(sudo)
    fi
    echo "Installing ${missing[*]}" >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -o DPkg::Lock::Timeout=300 update </dev/null >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends \
        "${missing[@]}" </dev/null >&2
}
