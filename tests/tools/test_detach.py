# SPDX-License-Identifier: Apache-2.0
"""However a tool ends, nothing of it stays in the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from harness import TOOLS, Files, Tool, each_kind, environment, eventually, osmia_command, program_ids, programs_of
from patience import patient

pytestmark = pytest.mark.kernel


def ids_of(tool: Tool) -> set[int]:
    """The programs that ``tool`` has loaded."""
    ours = programs_of(tool.pid)
    assert ours and ours <= program_ids(), "the tool holds no program"
    return ours


def gone(ours: set[int]) -> bool:
    return not program_ids() & ours


@pytest.mark.parametrize("name", each_kind(TOOLS))
@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda s: s.name)
def test_signals_leave_nothing_attached(name: str, sig: signal.Signals) -> None:
    tool = Tool(name).start()
    ours = ids_of(tool)
    tool.stop(sig)
    assert eventually(lambda: gone(ours)), f"still loaded: {program_ids() & ours}"
    assert tool.status == (-signal.SIGKILL if sig == signal.SIGKILL else 0)


def test_closed_pipe_ends_the_tool_quietly() -> None:
    read, write = os.pipe()
    tool = Tool("opensnoop", stdout=write).start()
    os.close(write)
    ours = ids_of(tool)
    os.close(read)
    with Files() as files:
        end = time.monotonic() + 5
        while tool.process and tool.process.poll() is None and time.monotonic() < end:
            files.openat("/nonexistent")
            time.sleep(0.02)
    tool.wait(patient(1))
    assert tool.stderr == "" and tool.status is not None and tool.status in (0, 141, -signal.SIGPIPE)
    assert eventually(lambda: gone(ours))


def test_exit_is_quick() -> None:
    """Closing a tracepoint takes the kernel 50 ms and more each; users do not wait for it."""
    times = []
    for _ in range(3):
        tool = Tool("opensnoop").start()
        start = time.monotonic()
        tool.stop()
        times.append(time.monotonic() - start)
    assert sorted(times)[1] < patient(0.1), times


def test_two_tools_at_once_do_not_disturb_each_other() -> None:
    with Files() as files:
        one = Tool("opensnoop", "-p", str(files.pid)).start()
        two = Tool("opensnoop", "-x", "-p", str(files.pid)).start()
        files.openat("/")
        files.openat("/nonexistent")
        one.stop()
        files.openat("/nonexistent")
        two.stop()
    assert len(one.rows()) == 2 and len(two.rows()) == 2


def test_command_is_traced_and_ends_the_run() -> None:
    """-c: the command is traced from its first system call, and the tool ends with it."""
    run = subprocess.run(
        osmia_command("opensnoop", "-c", "cat /etc/hostname"), env=environment(), capture_output=True, text=True,
        timeout=patient(30), check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    paths = [line.split()[-1] for line in run.stdout.splitlines() if line.split()[1:2] == ["cat"]]
    assert paths[-1] == "/etc/hostname"
