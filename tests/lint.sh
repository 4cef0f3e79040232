#!/bin/bash
#
# What a reviewer should not have to look for. Run by `meson test` as the suite `lint`, or by hand from anywhere.
# Prints one line per fault, file:line first, and exits with 1 when there is any.

set -uo pipefail

cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." || exit 1

# The tracked files, or in a tarball every file outside the build trees.
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    mapfile -t files < <(git ls-files --cached --others --exclude-standard)
else
    mapfile -t files < <(find . \( -path './build*' -o -name node_modules \) -prune -o -type f -printf '%P\n')
fi
existing=()
for f in "${files[@]}"; do
    [ -f "$f" ] && existing+=("$f")
done
files=("${existing[@]}")

select_files() {
    printf '%s\n' "${files[@]}" | grep -E "$1" || true
}
mapfile -t c_files < <(select_files '\.(c|h|cpp|hpp)$')
mapfile -t source_files < <(select_files '\.(c|h|cpp|hpp|py|js|css|html|sh|build|toml|md|yml)$|^\.ci/run$')
mapfile -t scripts < <(select_files '\.sh$|^\.ci/run$')
mapfile -t python < <(select_files '\.py$')

faults=0
# fault_if_any TITLE: every line on standard input is a fault.
fault_if_any() {
    local lines
    lines=$(cat)
    [ -n "$lines" ] || return 0
    printf '%s:\n%s\n' "$1" "$lines"
    faults=$((faults + 1))
}

# C with comments and string literals blanked, so that prose may name what code may not call.
bare_c() {
    python3 - "$@" <<'PY'
import re, sys
token = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
blank = lambda m: re.sub(r'[^\n]', ' ', m.group(0))
for name in sys.argv[1:]:
    text = token.sub(blank, open(name, encoding='utf-8').read())
    for number, line in enumerate(text.split('\n'), 1):
        print(f'{name}:{number}:{line}')
PY
}

banned='\b(v?sprintf|strcpy|strcat|gets|atoi|atol|atoll|atof|strtok|localtime|gmtime|s?rand|alloca)[[:space:]]*\('
fault_if_any "banned functions" < <(bare_c "${c_files[@]}" | grep -E "$banned")

# A .c or .cpp says first what it is for: a comment of at least three lines, before any code.
essays() {
    local f
    for f in "${c_files[@]}"; do
        case $f in
        *.c | *.cpp) ;;
        *) continue ;;
        esac
        [ "$(head -c 2 "$f")" = '/*' ] &&
            [ "$(awk '{n++} /\*\//{print n; exit}' "$f")" -ge 3 ] || echo "$f:1: does not open with an essay"
    done
}
fault_if_any "opening comments" < <(essays)

fault_if_any "files over 700 lines" < <(
    for f in "${source_files[@]}"; do
        lines=$(wc -l <"$f")
        [ "$lines" -le 700 ] || echo "$f:1: $lines lines"
    done
)
fault_if_any "includes between rooms" < <(python3 tests/includes.py --self-test; python3 tests/includes.py)
fault_if_any "trailing white space" < <(
    printf '%s\0' "${source_files[@]}" | xargs -0 grep -nE '[[:space:]]+$' /dev/null)
fault_if_any "tabs in source" < <(
    printf '%s\0' "${c_files[@]}" "${python[@]}" | xargs -0 grep -nP '\t' /dev/null)
fault_if_any "no newline at the end" < <(
    for f in "${source_files[@]}"; do
        [ ! -s "$f" ] || [ -z "$(tail -c 1 "$f")" ] || echo "$f"
    done
)
# Spelt so that this line does not find itself.
hosts='(pypi\.or''g|files\.pythonhosted|registry\.npm''js|cra''tes\.io|proxy\.golan''g|deb\.debia''n\.org|rubygem''s\.org)'
fault_if_any "package registry hosts" < <(printf '%s\0' "${files[@]}" | xargs -0 grep -nIE "$hosts" /dev/null)
fault_if_any "conflict markers" < <(
    printf '%s\0' "${source_files[@]}" | xargs -0 grep -nE '^(<{7}|>{7}) ' /dev/null)

if command -v shellcheck >/dev/null; then
    fault_if_any "shellcheck" < <(shellcheck -x -f gcc "${scripts[@]}")
else
    echo "shellcheck is not installed: scripts are not checked"
fi
if command -v pyflakes3 >/dev/null && [ "${#python[@]}" -gt 0 ]; then
    fault_if_any "pyflakes" < <(pyflakes3 "${python[@]}" 2>&1)
else
    echo "pyflakes3 is not installed: Python is not checked"
fi

[ "$faults" -eq 0 ] && echo "${#files[@]} files, no faults"
exit $((faults > 0))
