# SPDX-License-Identifier: Apache-2.0
"""mountsnoop against a program that mounts in a namespace of its own, by each of the calls."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness import Tool, osmia
from script import Script

pytestmark = pytest.mark.kernel

#: The numbers of newer calls are the same everywhere.
BEFORE = """
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    return libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
assert libc.unshare(0x20000) == 0
assert libc.mount(None, b"/", None, ctypes.c_ulong(0x44000), None) == 0
os.mkdir("here")
os.mkdir("there")
"""
WORK = """
UL = ctypes.c_ulong
assert libc.mount(b"osmia", b"here", b"tmpfs", UL(1 | 2 | 8), b"size=1m,mode=700") == 0
assert libc.mount(b"osmia", b"here", None, UL(32 | 1), None) == 0
assert libc.mount(b"here", b"there", None, UL(4096 | 16384), None) == 0
assert libc.umount2(b"there", 2) == 0
assert libc.umount2(b"here", 0) == 0
assert libc.mount(b"a\\tb", b"no", b"no-such", UL(0xC0ED0000), None) == -1
assert libc.umount2(b"nowhere", 8) == -1
fs = call(430, b"tmpfs", 0)
assert call(431, fs, 1, b"source", b"osmia", 0) == 0
assert call(431, fs, 0, b"ro", None, 0) == 0
assert call(431, fs, 2, b"bin", b"xyz", 3) == -1
assert call(431, fs, 6, None, None, 0) == 0
mnt = call(432, fs, 1, 2 | 16)
assert call(429, mnt, b"", -100, b"here", 4) == 0
tree = call(428, -100, b"here", 1)
pick = call(433, -100, b"here", 1)
if attributes:
    call(442, -100, b"here", 0x8000, (ctypes.c_uint64 * 4)(8, 0, 1 << 18, 0), 32)
libc.umount2(b"here", 2)
"""
CALLS = [
    'mount("osmia", "here", "tmpfs", MS_RDONLY|MS_NOSUID|MS_NOEXEC, "size=1m,mode=700") = 0',
    'mount("osmia", "here", "", MS_RDONLY|MS_REMOUNT, "") = 0',
    'mount("here", "there", "", MS_BIND|MS_REC, "") = 0',
    'umount("there", MNT_DETACH) = 0',
    'umount("here", 0x0) = 0',
    'mount("a\\tb", "no", "no-such", MS_MGC_VAL, "") = -ENOENT',
    'umount("nowhere", UMOUNT_NOFOLLOW) = -ENOENT',
    'fsopen("tmpfs", 0x0) = N',
    'fsconfig(N, FSCONFIG_SET_STRING, "source", "osmia", 0) = 0',
    'fsconfig(N, FSCONFIG_SET_FLAG, "ro", "", 0) = 0',
    'fsconfig(N, FSCONFIG_SET_BINARY, "bin", "", 3) = -EINVAL',
    'fsconfig(N, FSCONFIG_CMD_CREATE, "", "", 0) = 0',
    "fsmount(N, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID|MOUNT_ATTR_NOATIME) = N",
    'move_mount(N, "", AT_FDCWD, "here", MOVE_MOUNT_F_EMPTY_PATH) = 0',
    'open_tree(AT_FDCWD, "here", OPEN_TREE_CLONE) = N',
    'fspick(AT_FDCWD, "here", FSPICK_CLOEXEC) = N',
    'mount_setattr(AT_FDCWD, "here", AT_RECURSIVE, {set=MOUNT_ATTR_NOEXEC, clear=0x0, propagation=MS_PRIVATE}) = 0',
    'umount("here", MNT_DETACH) = 0',
]


def attributes_known() -> bool:
    """Whether this kernel has mount_setattr (5.12), so that there is a row about it."""
    return os.path.exists("/sys/kernel/tracing/events/syscalls/sys_enter_mount_setattr")


def calls() -> list[str]:
    return [call for call in CALLS if attributes_known() or not call.startswith("mount_setattr")]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(WORK, before=BEFORE + f"attributes = {attributes_known()}", cwd=tmp_path)


def plain(call: str) -> str:
    """Without the numbers of descriptors."""
    return re.sub(r"(?<=\()\d+(?=,)|(?<== )[1-9]\d*$", "N", call)


def test_every_call(script: Script) -> None:
    with script:
        tool = Tool("mountsnoop", "-p", str(script.pid)).start()
        script.go()
        namespace = os.stat(f"/proc/{script.pid}/ns/mnt").st_ino
        tool.stop()
    assert (tool.status, tool.stderr) == (0, "")
    assert tool.stdout.splitlines()[0] == "COMM             PID     TID     MNT_NS      CALL"
    head = f"script           {script.pid:<7} {script.pid:<7} {namespace:<11} "
    assert all(row.startswith(head) for row in tool.rows())
    assert [plain(row.removeprefix(head)) for row in tool.rows()] == [call.replace("\t", "\\t") for call in calls()]


def test_parent(script: Script) -> None:
    with script:
        tool = Tool("mountsnoop", "-P", "-p", str(script.pid)).start()
        script.go()
        tool.stop()
    assert tool.stdout.splitlines()[0].split() == ["COMM", "PID", "TID", "PCOMM", "PPID", "MNT_NS", "CALL"]
    comm = Path("/proc/self/comm").read_text().strip()
    assert all(f" {comm:<16} {os.getpid():<7} " in row for row in tool.rows()) and len(tool.rows()) == len(calls())


def test_json(script: Script) -> None:
    with script:
        tool = Tool("mountsnoop", "--json", "-p", str(script.pid)).start()
        script.go()
        records = tool.stop().records()
    assert [plain(record["written"]) for record in records] == [call.replace("\\t", "\t") for call in calls()]
    assert records[0]["words"] == ["osmia", "here", "tmpfs", "size=1m,mode=700"] and records[0]["arg1"] == 11
    assert {record["ppid"] for record in records} == {os.getpid()}


@pytest.mark.anywhere
def test_others_are_left_out(tmp_path: Path) -> None:
    work = 'for n in range(5):\n    libc.umount2(b"nowhere", 0)'
    with Script(work, cwd=tmp_path, name="one") as one, Script(work, cwd=tmp_path, name="other") as other:
        running = [Tool("mountsnoop", *words).start()
                   for words in (["-p", str(one.pid)], ["-n", "one"], ["--tid", str(other.pid)])]  # fmt: skip
        one.go()
        other.go()
        rows = [tool.stop().rows() for tool in running]
    assert [[row.split()[1] for row in some] for some in rows] == [
        [str(one.pid)] * 5, [str(one.pid)] * 5, [str(other.pid)] * 5
    ]  # fmt: skip


@pytest.mark.anywhere
def test_numbers_without_a_name() -> None:
    from osmia.tools._mounts import answer, number, written

    assert (number(2**32 - 100), number(2**64 - 1), number(7)) == ("AT_FDCWD", "-1", "7")
    assert (answer(-13), answer(-4000), answer(5)) == ("-EACCES", "-4000", "5")
    odd = SimpleNamespace(call=1, words=['a"b'], arg1=0x10, arg2=0, arg3=0, arg4=0, arg5=0, ret=0)
    assert written(odd) == "umount(\"a'b\", 0x10) = 0"


@pytest.mark.anywhere
@pytest.mark.parametrize("flag", ["--cgroupmap", "--mntnsmap"])
def test_maps_of_bcc(flag: str) -> None:
    done = osmia("mountsnoop", flag, "/sys/fs/bpf/x")
    assert done.returncode == 2 and f"{flag} needs a map that bcc has pinned" in done.stderr
