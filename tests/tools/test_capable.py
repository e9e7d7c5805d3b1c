# SPDX-License-Identifier: Apache-2.0
"""capable against a child that does what needs capabilities, with and without having them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from harness import Told, Tool, osmia

from osmia.kernel import tracefs
from osmia.tools._checks import options

pytestmark = pytest.mark.kernel

#: Does what a line says, so often: the system call itself, whatever the C library thinks of it.
PROGRAM = """
import ctypes, os, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
other = subprocess.Popen(["sleep", "3600"], user=65534, group=65534)
def stat():
    with open(f"/proc/{other.pid}/stat") as file:
        return len(file.read()) and 0
def raw():
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()
        return 0
    except PermissionError:
        return -1
WHAT = {"chroot": lambda: libc.chroot(b"/"), "hostname": lambda: libc.sethostname(HOST, len(HOST)),
        "setuid": lambda: libc.setuid(os.getuid()), "nobody": lambda: libc.setresuid(65534, 65534, 65534), "raw": raw,
        "memory": lambda: libc.munmap(libc.mmap(0, 4096, 3, 34, -1, 0), 4096), "stat": stat, "none": lambda: 0}
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
HOST = os.uname().nodename.encode()
for line in sys.stdin:
    what, times = line.split()
    print(*[WHAT[what]() for _ in range(int(times))], flush=True)
other.kill()
"""
ROW = re.compile(r"^(\d\d:\d\d:\d\d) +(\d+) +(\d+) +(.{16}) (\d+) +(CAP_\w+) +(\d|N/A)(?: +(-?\d))?$")
CHROOT, SETUID, NET_RAW, SYS_ADMIN, SYS_PTRACE = 18, 7, 13, 21, 19


@pytest.fixture
def child() -> Iterator[Told]:
    with Told(sys.executable, "-c", PROGRAM) as program:
        for what in ("chroot", "setuid", "raw", "memory"):  # what is loaded once, is loaded now
            assert program.tell(f"{what} 1")
        yield program


def rows(tool: Tool) -> list[tuple[int, int, int, str, str]]:
    """UID, PID, CAP, NAME and AUDIT of all rows."""
    assert (tool.status, tool.stderr) == (0, "")
    found = [ROW.match(line) for line in tool.rows()]
    assert all(found), tool.stdout
    return [(int(row[2]), int(row[3]), int(row[5]), row[6], row[7]) for row in found if row]


def of(records: list[dict[str, Any]], cap: int) -> list[dict[str, Any]]:
    return [one for one in records if one.get("cap") == cap]


def test_every_check_has_a_row(child: Told) -> None:
    """In order; what is not for the audit (memory) is not there."""
    tool = Tool("capable", "-p", child.pid).start()
    assert child.tell("chroot 13") == " ".join(["0"] * 13) + "\n"
    assert child.tell("memory 17")
    assert child.tell("raw 7") == " ".join(["0"] * 7) + "\n"
    pid = int(child.pid)
    found = [row for row in rows(tool.stop()) if row[2] != SYS_ADMIN or row[4] != "0"]
    assert tool.stdout.splitlines()[0].split() == ["TIME", "UID", "PID", "COMM", "CAP", "NAME", "AUDIT"]
    assert found == [(0, pid, CHROOT, "CAP_SYS_CHROOT", "1")] * 13 + [(0, pid, NET_RAW, "CAP_NET_RAW", "1")] * 7


def test_all_checks(child: Told) -> None:
    """-v: whoever looks at somebody else's process is asked about CAP_SYS_PTRACE, without audit; 19 of 19."""
    tool = Tool("capable", "-v", "--json", "-p", child.pid).start()
    before = child.tell("none 1"), child.tell("stat 19")
    found = of(tool.stop().records(), SYS_PTRACE)
    assert before[1].split() == ["0"] * 19
    assert len(found) == 19 and {one["audit"] for one in found} == {0}
    assert tool.stderr and all(line.startswith("osmia: ") for line in tool.stderr.splitlines())


def test_what_is_for_setting_ids(child: Told) -> None:
    """INSETID is there for setuid() only; -x shows it, and the thread."""
    shown, tool = Tool("capable", "-x", "-p", child.pid).start(), Tool("capable", "--json", "-p", child.pid).start()
    child.tell("setuid 5")
    child.tell("chroot 3")
    found = tool.stop().records()
    assert [one["insetid"] for one in of(found, SETUID)] == [1] * 5
    assert [one["insetid"] for one in of(found, CHROOT)] == [0] * 3
    assert {(one["pid"], one["tid"]) for one in found} == {(int(child.pid), int(child.pid))}
    heading, *lines = shown.stop().stdout.splitlines()
    assert heading.split() == ["TIME", "UID", "PID", "TID", "COMM", "CAP", "NAME", "AUDIT", "INSETID"]
    assert [line.split()[-2:] for line in lines] == [["1", "1"]] * 5 + [["1", "0"]] * 3


def test_what_was_denied(child: Told) -> None:
    """The same as somebody else: the calls fail, and --denied shows why."""
    every = Tool("capable", "--json", "-p", child.pid).start()
    denied = Tool("capable", "--denied", "-p", child.pid).start()
    child.tell("chroot 3")
    child.tell("nobody 1")
    assert child.tell("chroot 11") == " ".join(["-1"] * 11) + "\n"
    assert child.tell("raw 5") == " ".join(["-1"] * 5) + "\n"
    found = every.stop().records()
    assert [one["ret"] for one in of(found, CHROOT)] == [0] * 3 + [-1] * 11
    assert [one["uid"] for one in of(found, CHROOT)] == [0] * 3 + [65534] * 11
    lines = [line.split() for line in denied.stop().rows()]
    assert [(line[1], line[-3], line[-1]) for line in lines] == [("65534", "CAP_SYS_CHROOT", "-1")] * 11 + [
        ("65534", "CAP_NET_RAW", "-1")
    ] * 5


def test_stacks(child: Told) -> None:
    tool = Tool("capable", "-K", "-p", child.pid).start()
    child.tell("chroot 3")
    text = tool.stop().stdout
    assert text.count("CAP_SYS_CHROOT") == 3
    assert len(re.findall(r"^    \w*sys_chroot(?:\.\w+)?$", text, re.M)) >= 3
    tool = Tool("capable", "-U", "--json", "-p", child.pid).start()
    child.tell("chroot 3")
    found = of(tool.stop().records(), CHROOT)
    assert len(found) == 3 and all(one["user_stack"] for one in found)
    assert {one["user_stack"][0]["label"] for one in found} == {"chroot"}
    assert not any(one["kernel_stack"] for one in found)


def test_unique(child: Told) -> None:
    """Once per process and capability, also where what is not for the audit came first."""
    with Told(sys.executable, "-c", PROGRAM) as other:
        tool = Tool("capable", "--unique", "--json").start()
        for _ in range(3):
            child.tell("memory 5")
            child.tell("hostname 5")
            child.tell("chroot 5")
            other.tell("chroot 5")
        found = tool.stop().records()
    mine = [(one["pid"], one["cap"]) for one in found if one.get("pid") in (int(child.pid), int(other.pid))]
    assert sorted(mine) == sorted([(int(child.pid), SYS_ADMIN), (int(child.pid), CHROOT), (int(other.pid), CHROOT)])


@pytest.mark.parametrize(
    ("words", "count"),
    [(["-n", "python"], 7), (["-n", "nobody"], 0), (["--uid", "0"], 7), (["--uid", "54321"], 0),
     (["-p", str(os.getpid())], 0)],
)  # fmt: skip
def test_filters(child: Told, words: list[str], count: int) -> None:
    tool = Tool("capable", "--json", *words).start()
    child.tell("chroot 7")
    assert len([one for one in of(tool.stop().records(), CHROOT) if one["pid"] == int(child.pid)]) == count


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["cap_capable", "security_capable", "ns_capable", "__x64_sys_chroot"], (1, 0)),
        (["cap_capable", "security_capable", "ns_capable_setid", "__sys_setuid"], (1, 1)),
        (["bpf_prog", "cap_capable", "security_capable", "ns_capable_noaudit", "ptrace_has_cap"], (0, 0)),
        (["cap_capable", "cap_vm_enough_memory", "security_vm_enough_memory_mm", "mmap_region"], (0, 0)),
        (["cap_capable", "security_vm_enough_memory_mm", "mmap_region"], (0, 0)),
        (["cap_capable", "security_capable", "capable", "f", "g", "something_noaudit"], (1, 0)),
    ],
)
def test_options_by_callers(names: list[str], found: tuple[int, int]) -> None:
    assert options(names) == found


@pytest.mark.anywhere
@pytest.mark.parametrize("flag", ["--cgroupmap", "--mntnsmap"])
def test_maps_of_others(flag: str) -> None:
    done = osmia("capable", flag, "/sys/fs/bpf/test01")
    assert (done.returncode, done.stdout) == (2, "") and "use --cgroup PATH" in done.stderr


def test_which_hook_is_taken() -> None:
    """The tracepoint where there is one."""
    done = osmia("capable", "-v", "--duration", "0.1")
    assert done.returncode == 0
    if tracefs.exists("capability", "cap_capable"):
        assert "event: attached to " in done.stderr and "answered" not in done.stderr
    else:
        assert "answered: attached to " in done.stderr and "event" not in done.stderr
