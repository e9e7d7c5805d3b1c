# SPDX-License-Identifier: Apache-2.0
"""Fields of the current task, where the verifier tracks it and where a helper copies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kernel_code import Running, running
from needs import needs

from osmia.compiler import currenttask

pytestmark = [pytest.mark.kernel, pytest.mark.vm]

READS = """
seen = Array[u64](8)

def parent_of(task):
    return task.real_parent.tgid

@tracepoint("syscalls:sys_enter_getpgid")
def enter(call):
    if current.tgid != PID or call.pid != 4242:
        return
    seen[0] = current.task.tgid
    seen[1] = current.task.real_parent.tgid
    seen[2] = current.task.group_leader.real_parent.group_leader.tgid
    seen[3] = parent_of(current.task)
    seen[4] = parent_of(current.task.group_leader)
    seen[5] = current.task.signal.rlim[7].rlim_cur
    leader = current.task.group_leader
    seen[6] = 1 if leader and leader.pid == current.task.pid else 0
    seen[7] += 1
"""


IN_A_LOOP = """
seen = Array[u64](3)

@tracepoint("syscalls:sys_enter_getpgid")
def enter(call):
    if current.tgid != PID or call.pid != 4242:
        return
    up, leader, ids = current.task.real_parent, current.task.group_leader, current.task.fs
    for i in range(10_000):
        if not up.pid or up == leader or not ids.users:
            break
        seen[0] = up.tgid
        seen[1] += 1
        up = up.real_parent
    seen[2] += 1
"""


def after(it: Running, calls: int) -> list[int]:
    """What the program has noted when this process has made so many calls."""
    it.attach("enter")
    for _ in range(calls):
        with pytest.raises(ProcessLookupError):
            os.getpgid(4242)
    return [it.module.seen[number] for number in range(it.module.seen.max_entries)]


def ancestors() -> list[int]:
    """Of this process, the nearest first; threads that started one count with their process."""
    found, pid = [], os.getppid()
    while pid:
        found.append(pid)
        status = Path(f"/proc/{pid}/status").read_text()
        pid = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:"))
    return found


def test_pointers_in_a_loop() -> None:
    """What starts as a pointer of the current task's, read or changed by the rounds."""
    needs("bpf_loop")  # ten thousand of them are walked one by one before
    with running(IN_A_LOOP.replace("PID", str(os.getpid()))) as it:
        seen = after(it, 7)
    up = ancestors()
    assert seen == [up[-1], 7 * len(up), 7]


@pytest.mark.parametrize("tracked", [True, False])
def test_numbers_and_pointers(tracked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways read the same; the first without a helper for each step."""
    import resource

    if not tracked:  # as on a kernel before 5.11
        monkeypatch.setattr(currenttask, "_ENUMERATOR", "BPF_FUNC_that_no_kernel_has")
    with running(READS.replace("PID", str(os.getpid()))) as it:
        seen = after(it, 17)
    me, parent = os.getpid(), os.getppid()
    assert seen == [me, parent, parent, parent, parent, resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1, 17]
