#!/usr/bin/env bash
# Installs the library into a folder of its own and builds the program that els.h begins with against it, with nothing
# but pkg-config: in C and in C++, shared and static. Each must draw the picture that the command line draws.
#
#     library.sh BUILD SOURCE
set -eu

build=$1 source=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

meson install -C "$build" --no-rebuild --quiet --destdir "$out/root" >/dev/null
found=$(find "$out/root" -name els.pc)
[ -n "$found" ] || { echo "no els.pc was installed"; exit 1; }
export PKG_CONFIG_PATH=${found%/*} PKG_CONFIG_SYSROOT_DIR=$out/root
library=$(find "$out/root" -name 'libels.so' -printf '%h')

# The example, without the comment around it; the picture's first values are printed, so that something is compared.
sed -n '/^ \*     #include/,/^ \*     }$/s/^ \*\( \{5\}\|$\)//p' "$source/core/include/els/els.h" >"$out/example.c"
grep -q 'int main' "$out/example.c" || { echo "els.h has no example"; exit 1; }
sed 's|^ *// els_sampler_x(s).*|    printf("%s %.6f %.6f\\n", els_version(), (double)els_sampler_x(s)[0], (double)els_sampler_x(s)[600]);|' \
    "$out/example.c" >"$out/print.c"
cp "$out/print.c" "$out/print.cpp"

read -ra flags <<<"$(pkg-config --cflags els)"
read -ra shared <<<"$(pkg-config --libs els)"
read -ra static <<<"$(pkg-config --libs --static els)"
for name in "${static[@]}"; do
    [ "$name" != -lels ] || name=-l:libels.a
    archive+=("$name")
done
cc=${CC:-cc} cxx=${CXX:-c++}
"$cc" -std=c17 -Wall -Wextra -Werror "${flags[@]}" -o "$out/c" "$out/print.c" "${shared[@]}"
"$cxx" -std=c++17 -Wall -Wextra -Werror -Wno-missing-field-initializers "${flags[@]}" -o "$out/cpp" "$out/print.cpp" "${shared[@]}"
"$cc" -std=c17 -Wall -Wextra -Werror "${flags[@]}" -o "$out/static" "$out/print.c" "${archive[@]}"
want=$(LD_LIBRARY_PATH=$library "$out/c")
echo "$want"
grep -qE '^[0-9]+\.[0-9]+\.[0-9]+ -?[01]\.[0-9]{6} -?[01]\.[0-9]{6}$' <<<"$want"
[ "$(LD_LIBRARY_PATH=$library "$out/cpp")" = "$want" ] || { echo "C++ draws another picture"; exit 1; }
[ "$("$out/static")" = "$want" ] || { echo "the static library draws another picture"; exit 1; }

# What is exported is what the headers mark, and nothing else.
nm -D --defined-only "$library/libels.so" | awk '{print $3}' | grep -v '^_' | sort >"$out/exported"
grep -hoE '^ELS_API .*\bels_\w+\(|^ *\bels_\w+\(' "$out/root"/usr/*/include/els/*.h "$out/root"/usr/include/els/*.h 2>/dev/null |
    grep '^ELS_API' | grep -oE 'els_\w+\($' | tr -d '(' | sort -u >"$out/marked"
diff "$out/marked" "$out/exported" || { echo "< is marked ELS_API, > is exported"; exit 1; }
