# SPDX-License-Identifier: Apache-2.0
"""What each kernel of the matrix can do, and which way the tools take on it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import TOOLS, Files, Tool
from kernel_code import running
from needs import needs
from switches import switches

from osmia.kernel import features

pytestmark = [pytest.mark.kernel, pytest.mark.vm]
Row = Callable[[str, Any], None]

CALLS = 100
COUNT = """
me = option("-p", type=int)
n = Array[u64](1)

"""
HOOKS = {
    "tracepoint": """
@tracepoint("syscalls:sys_enter_getpgid")
def probe(call):
    if current.tgid == me:
        n[0] += 1
""",
    "raw_tracepoint": """
@raw_tracepoint("sys_enter")
def probe(regs, number):
    if number == 121 and current.tgid == me:
        n[0] += 1
""",
    "tp_btf": """
@tp_btf("sys_enter")
def probe(regs, number):
    if number == 121 and current.tgid == me:
        n[0] += 1
""",
}


@pytest.mark.parametrize("name", sorted(features.PROBES))
def test_feature(name: str, record_property: Row) -> None:
    """Every probe gives an answer, and no only where the kernel is older than the feature."""
    record_property("row", f"feature:{name} ({features.PROBES[name][2]})")
    needs(name)


@pytest.mark.feature("A3 tracepoints", only="[tracepoint")
@pytest.mark.feature("A3 raw tracepoints", only="raw_tracepoint")
@pytest.mark.feature("A3 raw tracepoints with types (tp_btf)", only="tp_btf")
@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_hook_counts_exactly(hook: str, record_property: Row) -> None:
    record_property("row", f"hook:{hook}")
    with running(COUNT + HOOKS[hook], {"me": os.getpid()}) as it:
        link = it.attach("probe")
        for _ in range(CALLS):
            os.getpgid(0)
        link.close()
        os.getpgid(0)
        assert it.module.n[0] == CALLS
    record_property("how", link.how)


@pytest.mark.feature("A4 timed sampling")
def test_hook_perf_event(record_property: Row) -> None:
    """A period of one: every context switch of this process is seen."""
    record_property("row", "hook:perf_event")
    text = COUNT + """
@perf_event("context-switches", period=1)
def probe(ctx):
    n[0] += 1
"""
    import time

    with running(text) as it:
        before = switches()
        link = it.attach("probe", event="context-switches", period=1, pid=os.getpid())
        begun = switches()
        for _ in range(20):
            time.sleep(0.01)
        made = switches() - begun
        link.close()
        assert 0 < made <= it.module.n[0] <= switches() - before
    record_property("how", link.how)


@pytest.mark.feature("A19 iterators")
def test_hook_iterator(record_property: Row) -> None:
    record_property("row", "hook:iter")
    text = COUNT + """
@iterator("task")
def probe(it):
    task = it.task
    if task:
        if task.tgid == me:
            n[0] += 1
"""
    with running(text, {"me": os.getpid()}) as it:
        link = it.attach("probe")
        link.read()  # type: ignore[attr-defined]
        assert it.module.n[0] == len(os.listdir("/proc/self/task"))
    record_property("how", "natively")


@pytest.mark.feature("P1 the next probe of a plan, said with -v")
@pytest.mark.parametrize("tool", TOOLS)
def test_plan_of_a_tool(tool: str, tmp_path: Path, record_property: Row) -> None:
    """Which hooks a tool takes here, from -v; whether its numbers are right is for the tool's own tests."""
    record_property("row", f"tool:{tool}")
    with Files() as files:
        it = Tool(tool, "-v").start()
        files.open(f"{tmp_path}/file", os.O_CREAT | os.O_WRONLY, 0o644)
        subprocess.run(["true"], check=True)
        it.stop()
    assert it.status == 0 and "Traceback" not in it.stderr, it.stderr
    ways = re.findall(r"attached to (\w+):\S* \(([^)]+)\)", it.stderr)
    ways += re.findall(r"attached to [\d,]+ places? in .+? \((\w+),? ([^)]+)\)", it.stderr)
    assert ways, it.stderr
    named = dict.fromkeys(f"{hook} by {how}" if "perf" in how else hook for hook, how in ways)
    record_property("how", ", ".join(named))
