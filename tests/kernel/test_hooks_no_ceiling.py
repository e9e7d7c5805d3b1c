# SPDX-License-Identifier: Apache-2.0
"""There is no ceiling on the number of probes but the kernel's and the machine's own, and those are said in words."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import prebuilt
import pytest
from kernel_code import running
from needs import needs
from test_cli_run import osmia

from osmia.errors import UserError
from osmia.kernel import bpf, features, perf
from osmia.link import attach, user_places
from osmia.link import uprobe as uprobe_link
from osmia.obj import consts

pytestmark = [pytest.mark.kernel, pytest.mark.vm, pytest.mark.usefixtures("no_fd_leak")]

COUNT = """
n = Array[u64](2)
by_place = Hash[u64, u64](8192)

@HOOK
def count(ARGUMENT):
    n[0] += 1
    n[1] += NUMBER
    by_place[attach_cookie()] += 1
"""


@pytest.fixture
def few_files() -> Iterator[int]:
    """The soft limit of open files leaves room for eight more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = set(map(int, os.listdir("/proc/self/fd")))
    free = [fd for fd in range(len(used) + 9) if fd not in used]
    limit = free[8]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    yield limit
    features.turn_off()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.feature("P5 no ceiling on the number of probes", "B1 USDT: arguments")
def test_a_static_probe_at_a_thousand_places(tmp_path: Path) -> None:
    """More places than the table for their arguments is compiled for."""
    needs("uprobe_multi")
    program = prebuilt.user("places")
    script = tmp_path / "places.py"
    text = COUNT.replace("HOOK", f'usdt("{program}:osmia:place")').replace("ARGUMENT", "number: s64")
    script.write_text(f"from osmia import *\n{text.replace('NUMBER', 'number')}\nrun()\n")
    done = osmia("run", str(script), "-v", "--json", "-c", program)
    assert done.returncode == 0 and "attached to 1000 places" in done.stderr, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    shown = {row["name"]: {entry["key"]: entry["value"] for entry in row["entries"]} for row in rows}
    assert shown["n"] == {0: 1000, 1: sum(range(1000))}
    assert shown["by_place"] == dict.fromkeys(range(1000), 1)


@pytest.mark.feature("P5 no ceiling on the number of probes", "A2 user functions: uprobe, uretprobe")
def test_single_user_probes_beyond_the_limit_of_open_files(few_files: int) -> None:
    """Where the kernel has no link for many, each probe takes a descriptor: the soft limit is raised."""
    features.turn_off("uprobe_multi")
    program = prebuilt.user("many")
    targets = [f"{program}:many_000?", f"{program}:many_001[01]"]
    found = user_places.find("uprobe", targets)
    assert len(found.places) == 12
    text = COUNT.replace("HOOK", f'uprobe("{targets[0]}")').replace("ARGUMENT", "").replace("NUMBER", "1")
    with running(text, copies={"count": 12}) as it:
        link = attach(it.live.progs["count"], target="many", found=found, copies=it.live.copies.get("count", ()))
        it.links.append(link)
        assert isinstance(link, uprobe_link.UserLink) and len(link.fds) == 12
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > few_files
        subprocess.run([program], check=True)
        assert it.module.n[0] == 12 and len(it.module.by_place) == 12


@pytest.mark.feature("P5 no ceiling on the number of probes")
def test_single_kernel_probes_beyond_the_limit_of_open_files(few_files: int) -> None:
    needs("kprobe")
    features.turn_off("kprobe_multi")
    text = '@kprobe_multi("tcp_*")\ndef count():\n    return\n'
    with running(text) as it:
        link = it.attach("count", patterns=["vfs_r*", "vfs_w*", "vfs_s*"])
        assert len(link.fds) > 10 and resource.getrlimit(resource.RLIMIT_NOFILE)[0] > few_files


FULL = """
n = Array[u64](1)

@tracepoint("syscalls:sys_enter_getpgid")
def count(call):
    n[0] += 1
"""
#: Each a program of its own: until 6.10 (d4dfc5700e86) a raw tracepoint takes a program once only.
MANY_RAW = "n = Array[u64](1)\n" + "".join(
    f'@raw_tracepoint("sched_process_exec")\ndef raw{number}(task, pid, program):\n    n[0] += 1\n'
    for number in range(70)
)


@pytest.mark.feature("P2 a refusal names the alternative")
@pytest.mark.parametrize("way", ["", "bpf_link"])
def test_a_tracepoint_that_is_full(way: str) -> None:
    """64 programs on one (BPF_TRACE_MAX_PROGS); the kernel's answer is made up, since detaching 64 takes long."""

    def full(command: int, attr: bytearray) -> int:
        return -errno.E2BIG if command == consts.BPF_LINK_CREATE else bpf._kernel(command, attr)

    features.turn_off(way)
    said = r"^count \(syscalls:sys_enter_getpgid\): 64 programs are attached there, .*; use raw_tracepoint\(\)"
    with running(FULL) as it, bpf.override(full), pytest.MonkeyPatch.context() as patch:
        patch.setattr(perf, "set_bpf", lambda event, prog: (_ for _ in ()).throw(OSError(errno.E2BIG, "full")))
        with pytest.raises(UserError, match=said):
            it.attach("count")
    features.turn_off()


@pytest.mark.feature("P5 no ceiling on the number of probes")
def test_raw_tracepoints_are_never_full() -> None:
    with running(MANY_RAW) as it:
        for number in range(70):
            it.attach(f"raw{number}")
        subprocess.run(["true"], check=True)
        assert it.module.n[0] >= 70
