#!/usr/bin/python3
"""Checks that includes point down from room to room, and that no headers include each other in a circle.

    includes.py [ROOT]       lint a checkout; one line a finding, exit status 1 if there is any
    includes.py --self-test  seed three violations in a temporary tree and see each reported

A room may include from itself and from rooms below it. A header named *_internal.h is for its own room.
Every include names the path from the root ("core/engine/pass.h") or, for a public header, "els/bank.h".
"""
import os
import re
import sys
import tempfile

# From the top down. The order is the rule.
ROOMS = """server/cli server/daemon server/api server/types server/jobs server/params server/banks server/store
server/http server/config server/base
core/analysis core/engine core/kernel core/scan core/bank core/theory core/format core/base""".split()

# (file, header) pairs that point up and stay, each with its reason.
ALLOWED = {}

INCLUDE = re.compile(r'^\s*#\s*include\s+("[^"]+"|<[^>]+>)', re.M)

# els.h includes every public header, so it stands above the library's rooms.
UMBRELLA = "core/include/els/els.h"

# Public headers without a .c of their own.
HOMES = {"core/include/els/api.h": "core/base", "core/include/els/shape.h": "core/base",
         "core/include/els/progress.h": "core/base", "core/include/els/cpu.h": "core/kernel"}


def sources(root):
    found = {}
    for top in ("core", "server"):
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in names:
                if name.endswith((".c", ".h", ".cpp")):
                    path = os.path.join(folder, name)
                    with open(path, encoding="utf-8") as file:
                        found[os.path.relpath(path, root)] = INCLUDE.findall(file.read())
    return found


def room_of(path, files):
    """The room of a file; a public header belongs to the room that has the .c of its name."""
    if path == UMBRELLA:
        return "core/analysis"
    if path in HOMES:
        return HOMES[path]
    if path.startswith("core/include/els/"):
        unit = "/" + os.path.basename(path)[:-2] + ".c"
        homes = [f for f in files if f.startswith("core/") and f.endswith(unit)]
        return "/".join(homes[0].split("/")[:2]) if len(homes) == 1 else None
    room = "/".join(path.split("/")[:2])
    return room if room in ROOMS else None


def check(root, allowed=ALLOWED):
    files = sources(root)
    findings, graph = [], {}
    for path in sorted(files):
        targets = graph[path] = []
        mine = room_of(path, files)
        if mine is None:
            findings.append(f"{path}: in no room (see the table in includes.py)")
        for quoted in files[path]:
            name = quoted[1:-1]
            target = next((t for t in (name, "core/include/" + name) if t in files), None)
            if target is None:
                if quoted[0] == '"':
                    findings.append(f"{path}: includes {name}: not a path from the root")
                continue
            targets.append(target)
            theirs = room_of(target, files)
            if mine is None or theirs is None or mine == theirs or (path, target) in allowed:
                continue
            if ROOMS.index(theirs) < ROOMS.index(mine):
                findings.append(f"{path}: includes {name}: {theirs} is above {mine}")
            elif target.endswith("_internal.h"):
                findings.append(f"{path}: includes {name}: internal to {theirs}")
    state, trail = {}, []

    def visit(path):
        state[path] = 1
        trail.append(path)
        for target in graph[path]:
            if state.get(target) == 1:
                findings.append("circle: " + " > ".join(trail[trail.index(target):] + [target]))
            elif target not in state:
                visit(target)
        trail.pop()
        state[path] = 2

    for path in sorted(graph):
        if path not in state:
            visit(path)
    return findings


def self_test():
    clean = {"core/base/mem.c": "", "core/include/els/mem.h": "", "core/engine/pass.h": "", "core/engine/x_internal.h": "",
             "core/analysis/a.c": '#include "core/engine/pass.h"\n#include "els/mem.h"\n',
             "core/base/p.h": "", "core/base/q.h": '#include "core/base/p.h"\n'}
    seeds = {"above": ("core/base/mem.c", '#include "core/engine/pass.h"\n'),
             "internal to": ("core/analysis/a.c", '#include "core/engine/x_internal.h"\n'),
             "circle": ("core/base/p.h", '#include "core/base/q.h"\n')}
    for word, (where, text) in [(None, (None, "")), *seeds.items()]:
        with tempfile.TemporaryDirectory() as root:
            for path, content in clean.items():
                full = os.path.join(root, path)
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with open(full, "w", encoding="utf-8") as file:
                    file.write(content + (text if path == where else ""))
            findings = check(root, {})
        if len(findings) != (word is not None) or (word and word not in findings[0]):
            print(f"self-test: seeded {word!r}, found {findings}")
            return 1
    return 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    findings = check(sys.argv[1] if len(sys.argv) > 1 else ".")
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
