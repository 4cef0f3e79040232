#!/usr/bin/env bash
# Builds the engine for 64-bit ARM and compares its NEON kernel with its C kernel, under emulation on other machines.
# Exit status 77 (skipped) where there is no compiler or emulator for it: Debian's gcc-aarch64-linux-gnu,
# libc6-dev-arm64-cross and qemu-user.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

if [ "$(uname -m)" = aarch64 ]; then
    compiler=${CC:-cc} emulator=
else
    compiler=aarch64-linux-gnu-gcc emulator=qemu-aarch64
fi
for program in $compiler $emulator; do
    if ! command -v "$program" >/dev/null; then
        echo "skipped: $program is not there"
        exit 77
    fi
done

# All that els_evaluate needs; the bank is the test's own.
sources=("$root"/core/engine/{effort,engine,pass,pass_plan}.c "$root"/core/kernel/{kernel,kernel_c,rounding,units}.c
    "$root"/core/kernel/arm/*.c "$root"/core/theory/{geometry,machine,noise,posterior}.c
    "$root"/core/base/{error,mem,pool,utf8}.c)
"$compiler" -std=gnu17 -O2 -D_GNU_SOURCE -ffp-contract=off -Wall -Wextra -Werror -Wno-unused-parameter \
    -I"$root" -I"$root/core/include" -static -o "$out/neon" "$root/tests/neon/neon.c" "${sources[@]}" -lm -lpthread
$emulator "$out/neon"
