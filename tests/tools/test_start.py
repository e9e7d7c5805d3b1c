# SPDX-License-Identifier: Apache-2.0
"""What a warm start of opensnoop imports: exactly this, so that growth is noticed.

A module of our own costs a tenth of a millisecond where it comes from the
pack and three times that otherwise; one of Python's up to ten.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import REPO
from prebuilt import installed

pytestmark = [pytest.mark.kernel, pytest.mark.anywhere]

#: Modules of osmia, and what they take of Python's own (not all of it where the interpreter has it already).
OWN = {
    "cli", "cli.ahead", "cli.args", "cli.catalog", "cli.common", "cli.image", "cli.main", "cli.objects",
    "cli.plans", "cli.session", "cli.signals", "cli.table", "cli.templates", "errors", "events",
    "events.decode", "events.loss", "events.missed", "events.prints", "events.ring", "events.transport",
    "kernel", "kernel.bpf", "kernel.btf_source", "kernel.cache", "kernel.cpus", "kernel.door",
    "kernel.features", "kernel.named", "kernel.perf", "kernel.proc", "kernel.tracefs", "lang", "lang.builtins",
    "lang.codec", "lang.drift", "lang.filters", "lang.function_probes", "lang.hist", "lang.maps",
    "lang.membership", "lang.options", "lang.pidns", "lang.probes", "lang.templates", "lang.types", "lang.unit",
    "lang.user_probes", "link", "link.base", "link.detach", "link.tracepoint", "load", "load.assemble",
    "load.bind", "load.btf", "load.cookies", "load.core", "load.map", "load.object", "load.program",
    "load.rings", "obj", "obj.consts", "obj.meta", "obj.spec", "tools", "tools._paths", "tools._pinned",
    "tools._show",
    "tools.opensnoop", "version", "views", "views.columns", "views.escape", "views.output", "views.table",
}  # fmt: skip
PYTHONS = {
    "__future__", "_collections_abc", "_ctypes", "_stat", "_struct", "errno", "gc", "genericpath", "mmap", "os",
    "os.path", "posixpath", "select", "stat", "struct", "zlib",
}  # fmt: skip
WATCH = """
import sys
before = set(sys.modules)
from osmia.cli import main
import os
leave = os._exit
def told(status):
    os.write(FD, "\\n".join(set(sys.modules) - before).encode())
    leave(status)
os._exit = told
sys.argv[0] = "osmia"
main.entry()
"""


def imports(cache: Path) -> set[str]:
    """The modules that a run of the installed opensnoop imports, without what Python's start-up hooks do."""
    read, write = os.pipe()
    env = {**os.environ, "PYTHONPATH": str(installed()), "OSMIA_CACHE": str(cache)}
    code = WATCH.replace("FD", str(write))
    command = [sys.executable, "-S", "-c", code, "opensnoop", "--duration", "0.1"]
    subprocess.run(command, env=env, pass_fds=(write,), check=True, capture_output=True, cwd=REPO)
    os.close(write)
    with os.fdopen(read) as file:
        return set(file.read().split())


def test_a_warm_start_imports_these_and_no_others(tmp_path: Path) -> None:
    cold, warm = imports(tmp_path / "cache"), imports(tmp_path / "cache")
    own = {name.removeprefix("osmia.") for name in warm if name.startswith("osmia.")}
    assert own == OWN
    assert {name for name in warm if name.partition(".")[0] != "osmia"} <= PYTHONS
    # A first start reads an object file besides, and has no compiler in it either.
    assert {name for name in cold - warm if name.startswith("osmia.")} == {
        "osmia.cli.shipped", "osmia.obj.elf", "osmia.obj.elffile", "osmia.obj.btf", "osmia.obj.btf_ext",
        "osmia.obj.maps", "osmia.obj.sections",
    }  # fmt: skip
