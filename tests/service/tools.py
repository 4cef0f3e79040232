"""Programs that read what we ship, but that nobody needs to build or run the daemon: promtool, nginx, systemd-analyze.

tests/run.sh unpacks those that the machine lacks (tests/tools.sh); where one is missing all the same, its test is
skipped and says so.
"""
import os
import shutil

import pytest


def tool(name):
    unpacked = os.path.join(os.environ["ELS_SOURCE_DIR"], "build-tools", "usr")
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", unpacked + "/bin", unpacked + "/sbin"])
    found = shutil.which(name, path=path)
    if not found:
        pytest.skip(f"skipped: {name} is not installed")
    return found
