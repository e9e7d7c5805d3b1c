# SPDX-License-Identifier: Apache-2.0
"""shmsnoop against a program that makes each of the calls, and what it was answered."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from harness import Tool, osmia
from script import Script, traced

pytestmark = pytest.mark.kernel

BEFORE = """
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
libc.shmdt.argtypes = [ctypes.c_void_p]
"""
#: Three segments, one of which is attached twice; and a call of each kind that fails.
WORK = """
made = [libc.shmget(0, 5000, 0o1600) for n in range(3)]
addresses = [libc.shmat(made[0], None, 0), libc.shmat(made[0], None, 0o10000)]
for address in addresses:
    libc.shmdt(address)
buffer = ctypes.create_string_buffer(500)
libc.shmctl(made[1], 2, buffer)
for number in made:
    libc.shmctl(number, 0, None)
libc.shmget(0x1234, 1, 0)
libc.shmat(made[0], None, 0)
libc.shmdt(ctypes.c_void_p(4096))
libc.shmctl(made[0], 99, None)
out = os.open("answers", os.O_CREAT | os.O_WRONLY)
import json
os.write(out, json.dumps([made, addresses, ctypes.addressof(buffer)]).encode())
"""
ENOENT, EINVAL, EIDRM = 2, 22, 43


def expected(directory: Path) -> list[tuple[str, int, str]]:
    """SYS, RET and ARGs of all rows."""
    made, (first, second), buffer = json.loads((directory / "answers").read_text())
    a, b, c = made
    return [
        *[("SHMGET", number, "key: 0x0, size: 5000, shmflg: 0x380 (IPC_CREAT|0600)") for number in made],
        ("SHMAT", first, f"shmid: {a:#x}, shmaddr: 0x0, shmflg: 0x0"),
        ("SHMAT", second, f"shmid: {a:#x}, shmaddr: 0x0, shmflg: 0x1000 (SHM_RDONLY)"),
        ("SHMDT", 0, f"shmaddr: {first:#x}"), ("SHMDT", 0, f"shmaddr: {second:#x}"),
        ("SHMCTL", 0, f"shmid: {b:#x}, cmd: 2 (IPC_STAT), buf: {buffer:#x}"),
        *[("SHMCTL", 0, f"shmid: {number:#x}, cmd: 0 (IPC_RMID), buf: 0x0") for number in (a, b, c)],
        ("SHMGET", -ENOENT, "key: 0x1234, size: 1, shmflg: 0x0"),
        ("SHMAT", -EINVAL, f"shmid: {a:#x}, shmaddr: 0x0, shmflg: 0x0"),
        ("SHMDT", -EINVAL, "shmaddr: 0x1000"),
        ("SHMCTL", -EINVAL, f"shmid: {a:#x}, cmd: 99 (0x63), buf: 0x0"),
    ]  # fmt: skip


def test_every_call(tmp_path: Path) -> None:
    tool, pid = traced("shmsnoop", work=WORK, before=BEFORE, cwd=tmp_path)
    assert (tool.status, tool.stderr) == (0, "")
    assert tool.stdout.splitlines()[0] == "PID    COMM                SYS              RET ARGs"
    shown = [(sys, f"{ret:x}" if ret >= 0 else str(ret), args) for sys, ret, args in expected(tmp_path)]
    assert tool.rows() == [f"{pid:<6} script           {sys:>6} {ret:>16} {args}" for sys, ret, args in shown]


@pytest.mark.anywhere
def test_json(tmp_path: Path) -> None:
    tool, pid = traced("shmsnoop", "--json", work=WORK, before=BEFORE, cwd=tmp_path)
    records = tool.records()
    found = [(record["sys"], record["ret"], record["args"]) for record in records]
    alike = [(sys, -EINVAL if ret == -EIDRM else ret, args) for sys, ret, args in found]
    assert alike == expected(tmp_path)
    assert {(record["pid"], record["tid"]) for record in records} == {(pid, pid)}


@pytest.mark.anywhere
def test_times_and_threads(tmp_path: Path) -> None:
    work = """
def get():
    libc.shmget(0x1234, 1, 0)
for n in range(3):
    get()
    thread = threading.Thread(target=get)
    thread.start()
    thread.join()
"""
    with Script(work) as script:
        tool = Tool("shmsnoop", "-T", "-t", str(script.pid)).start()
        script.go()
        rows = tool.stop().rows()
    assert tool.stdout.splitlines()[0].split() == ["TIME(s)", "TID", "COMM", "SYS", "RET", "ARGs"]
    assert len(rows) == 3 and rows[0].startswith("0.000000000    ")
    assert all(re.match(rf"\d+\.\d{{9}} +{script.pid} +script ", row) for row in rows)


@pytest.mark.anywhere
def test_flags_in_words() -> None:
    from osmia.tools.shmsnoop import AT_FLAGS, GET_FLAGS, spelled

    assert spelled(0o1600 | 0o4000 | 21 << 26, GET_FLAGS) == "0x54000b80 (IPC_CREAT|SHM_HUGETLB|SHM_HUGE_2MB|0600)"
    assert spelled(0o4000 | 34 << 26, GET_FLAGS) == "0x88000800 (SHM_HUGETLB|0" + f"{34 << 26:o})"
    assert spelled(0o160000, AT_FLAGS) == "0xe000 (SHM_RND|SHM_REMAP|SHM_EXEC)"


@pytest.mark.anywhere
@pytest.mark.parametrize("words", [["-p", "{one}"], ["-n", "one"], ["-t", "{one}"]])
def test_others_are_left_out(words: list[str]) -> None:
    work = "for n in range(7):\n    libc.shmget(0x1234, 1, 0)"
    with Script(work, name="one") as one, Script(work, name="other") as other:
        tool = Tool("shmsnoop", *[word.format(one=one.pid) for word in words]).start()
        one.go()
        other.go()
        rows = tool.stop().rows()
    assert [row.split()[:3] for row in rows] == [[str(one.pid), "one", "SHMGET"]] * 7


@pytest.mark.anywhere
def test_no_such_thread() -> None:
    done = osmia("shmsnoop", "-t", "4194304")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
