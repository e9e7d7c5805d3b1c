# SPDX-License-Identifier: Apache-2.0
"""slabratetop, with a process that opens a known number of files and pipes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import Files, Tool, osmia, told

pytestmark = pytest.mark.kernel

OPENS, PIPES = 1009, 211
COMMANDS = (Path(__file__).resolve().parents[1] / "fixtures" / "bcc" / "slabratetop.txt").read_text().splitlines()
#: What the tracepoint tells came with 6.1 (2c1d697fb8ba).
TELLS = "struct trace_event_raw_kmem_cache_alloc"


def tells_the_cache() -> bool:
    from osmia.kernel import btf_source
    from osmia.obj import consts

    btf = btf_source.kernel_btf()
    assert btf is not None
    return bool(btf.find(TELLS.split()[1], (consts.BTF_KIND_STRUCT,)))


def object_size(cache: str) -> int:
    """As the kernel says it."""
    found = re.search(rf"^{cache} +\d+ +\d+ +(\d+) ", Path("/proc/slabinfo").read_text(), re.M)
    assert found, cache
    return int(found[1])


def rows(tool: Tool) -> dict[str, dict[str, Any]]:
    assert tool.status == 0, tool.stderr
    return {row["cache"]: row for record in tool.records() for row in record.get("rows", [])}


@pytest.mark.feature("B13 tools")
def test_open_files() -> None:
    """Each open file is an object of one cache, or an object of its size where the kernel does not tell the cache."""
    with Files() as files, Tool("slabratetop", "--json", "-r", "1000", "-p", str(files.pid), "600") as tool:
        for _ in range(OPENS):
            fd, _error = files.open("/dev/null")
            files.close(fd)
        tool.stop()
    size = object_size("filp")
    if tells_the_cache():
        row = rows(tool)["filp"]
        assert row["count"] == OPENS
    else:
        row = rows(tool)[f"size-{size}"]
        assert row["count"] >= OPENS
    assert row["bytes"] == row["count"] * size


def test_memory_without_a_cache_of_its_own() -> None:
    """A pipe's 16 buffers of 40 bytes come from kmalloc()."""
    code = f"import os, sys\nsys.stdin.readline()\nfor _ in range({PIPES}): [os.close(fd) for fd in os.pipe()]"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True)
    with Tool("slabratetop", "--json", "-r", "1000", "-p", str(process.pid), "600") as tool:
        process.communicate("\n")
        tool.stop()
    row = rows(tool)["kmalloc-1k"]
    assert PIPES <= row["count"] < 2 * PIPES and row["bytes"] == row["count"] * 1024


def test_pages_and_their_rows() -> None:
    """The most bytes come first, and as many rows as were asked for."""
    with Files() as files, Tool("slabratetop", "-C", "-r", "3", "600") as tool:
        for _ in range(OPENS):
            files.close(files.open("/dev/null")[0])
        tool.stop()
    blank, load, _, head, *lines = tool.stdout.splitlines()
    assert not blank and re.match(r"\d\d:\d\d:\d\d loadavg: [\d.]+ ", load)
    assert head.split() == ["CACHE", "ALLOCS", "BYTES"]
    sizes = [int(line.split()[-1]) for line in lines]
    assert len(sizes) == 3 and sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("words", "seen"),
    [(["-n", "files"], True), (["-n", "other"], False), (["-p", "1"], False), (["--uid", "4711"], False)],
)
def test_filters(words: list[str], seen: bool) -> None:
    with Files() as files, Tool("slabratetop", "--json", "-r", "1000", *words, "600") as tool:
        for _ in range(31):
            files.close(files.open("/dev/null")[0])
        tool.stop()
    found = rows(tool)
    if "1" in words:  # the first process may be at work, too
        assert sum(row["count"] for name, row in found.items() if name == "filp") < 31
    else:
        assert bool(found) == seen


@pytest.mark.parametrize("command", COMMANDS)
def test_what_bcc_documents_is_taken(command: str) -> None:
    tool = Tool(*shlex.split(command.replace("181", str(os.getpid())))).start().stop()
    assert tool.status == 0 and not told(tool.stderr)


@pytest.mark.anywhere
def test_wrong_options_are_one_sentence() -> None:
    run = osmia("slabratetop", "-r", "few")
    assert run.returncode == 2 and run.stdout == "" and "few" in run.stderr and len(run.stderr.splitlines()) == 1
