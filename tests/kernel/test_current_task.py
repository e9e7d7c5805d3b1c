# SPDX-License-Identifier: Apache-2.0
"""Fields of the current task, where the verifier tracks it and where a helper copies."""

from __future__ import annotations

import os

import pytest
from kernel_code import running

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


@pytest.mark.parametrize("tracked", [True, False])
def test_numbers_and_pointers(tracked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways read the same; the first without a helper for each step."""
    import resource

    if not tracked:  # as on a kernel before 5.11
        monkeypatch.setattr(currenttask, "_ENUMERATOR", "BPF_FUNC_that_no_kernel_has")
    with running(READS.replace("PID", str(os.getpid()))) as it:
        it.attach("enter")
        for _ in range(17):
            with pytest.raises(ProcessLookupError):
                os.getpgid(4242)
        seen = [it.module.seen[number] for number in range(8)]
    me, parent = os.getpid(), os.getppid()
    assert seen == [me, parent, parent, parent, parent, resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1, 17]
