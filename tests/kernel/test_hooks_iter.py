# SPDX-License-Identifier: Apache-2.0
"""Iterators see what /proc and the kernel's own lists show, no more and no less."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kernel_code import running
from needs import needs

from osmia.errors import CompileError
from osmia.kernel import bpf
from osmia.lang.probes import iterator

pytestmark = [pytest.mark.kernel, pytest.mark.vm, pytest.mark.usefixtures("no_fd_leak")]
Row = Callable[[str, Any], None]


TASKS = """
class Row(Event):
    tgid: u32
    tid: u32
    comm: Comm

me = option("-p", type=int)
rows = Ring(Row, 1 << 20)

@iterator("task")
def each(record):
    task = record.task
    if task:
        if task.tgid == me or not me:
            with rows.reserve() as e:
                e.tgid, e.tid, e.comm = task.tgid, task.pid, task.comm
"""


def first_process_is_hidden() -> bool:
    """Whether this machine keeps process 1 from root, as sandboxes do."""
    try:
        os.readlink("/proc/1/ns/pid")
    except PermissionError:
        return True
    return False


@pytest.mark.feature("A19 iterators")
def test_task(record_property: Row) -> None:
    """The threads of this process by name, and all processes of the machine."""
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait, daemon=True) for _ in range(7)]
    for thread in threads:
        thread.start()
    try:
        with running(TASKS, {"me": os.getpid()}) as it:
            it.attach("each").read()  # type: ignore[attr-defined]
            rows = {(row.tid, row.comm) for row in it.events("rows")}
            shown = {
                (int(tid), Path(f"/proc/self/task/{tid}/comm").read_text().rstrip("\n"))
                for tid in os.listdir("/proc/self/task")
            }
            assert rows == shown and len(rows) >= 8
            assert it.lost() == {}
    finally:
        stop.set()
    with running(TASKS, {"me": 0}) as it:
        link = it.attach("each")
        before = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        link.read()  # type: ignore[attr-defined]
        after = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        found = {row.tgid for row in it.events("rows")}
        unseen = (before & after) - found  # what was there before and after
        assert not unseen or (unseen == {1} and first_process_is_hidden())
    record_property("row", "hook:iter/task")
    record_property("how", link.how)


def test_tasks_of_one_process() -> None:
    """Since 6.1 the kernel itself goes through one process only."""
    needs("iterator_pid")
    with running(TASKS, {"me": 0}) as it:
        it.attach("each", pid=os.getpid()).read()  # type: ignore[attr-defined]
        assert {row.tid for row in it.events("rows")} == {int(tid) for tid in os.listdir("/proc/self/task")}
        it.attach("each", tid=os.getpid()).read()  # type: ignore[attr-defined]
        assert [row.tid for row in it.events("rows")] == [os.getpid()]


FILES = """
class Row(Event):
    fd: u32
    inode: u64

me = option("-p", type=int)
rows = Ring(Row, 1 << 20)

@iterator("task_file")
def each(record):
    task, file = record.task, record.file
    if task and file:
        if task.pid == me:
            with rows.reserve() as e:
                e.fd = record.fd
                e.inode = file.f_inode.i_ino
"""


@pytest.mark.feature("A19 iterators")
def test_task_file(record_property: Row, tmp_path: Path) -> None:
    """The open files of a child that holds twenty of them: numbers and inodes as /proc/PID/fd shows them."""
    files = f"files = [open('{tmp_path}/f%d' % n, 'w') for n in range(20)]"
    code = f"import sys\n{files}\nprint(flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout and child.stdout.readline()
    shown = {(int(fd), os.stat(f"/proc/{child.pid}/fd/{fd}").st_ino) for fd in os.listdir(f"/proc/{child.pid}/fd")}
    with running(FILES, {"me": child.pid}) as it:
        link = it.attach("each")
        link.read()  # type: ignore[attr-defined]
        rows = [(row.fd, row.inode) for row in it.events("rows")]
        assert sorted(rows) == sorted(shown) and len(rows) == 23
    child.communicate()
    record_property("row", "hook:iter/task_file")
    record_property("how", link.how)


ELEMENTS = """
class Entry(Event):
    calls: u64
    worst: u64

numbers = Hash[u32, u64](256)
pairs = Hash[(u32, u32), Entry](256)
names = Hash[Comm, s32](16)
n = Array[s64](8)

@iterator("bpf_map_elem", map=numbers)
def add(element):
    key, value = element.key, element.value
    if key is not None and value is not None:
        n[0] += 1
        n[1] += key * value
    else:
        n[2] += 1

@iterator("bpf_map_elem", map=pairs)
def add_pairs(element):
    value = element.value
    key = element.key
    if value is not None and key is not None:
        a, b = key
        n[3] += a * b
        n[4] += value.calls
        n[5] += value.worst

@iterator("bpf_map_elem", map=names)
def add_names(element):
    key, value = element.key, element.value
    if key is not None and value is not None:
        if key == "python":
            n[6] += value
"""


@pytest.mark.feature("A19 iterators")
def test_bpf_map_elem(record_property: Row) -> None:
    """Every element of a map of ours once, with its types; the map may be walked again."""
    needs("iterator_bpf_map_elem")
    with running(ELEMENTS) as it:
        made, n = it.module, it.module.n
        for key in range(200):
            made.numbers[key] = key * key
        link = it.attach("add", map_fd=made.numbers.live.fd)
        link.read()  # type: ignore[attr-defined]
        assert (n[0], n[1], n[2]) == (200, sum(k**3 for k in range(200)), 1)
        del made.numbers[7]
        link.read()  # type: ignore[attr-defined]
        assert (n[0], n[1]) == (399, 2 * sum(k**3 for k in range(200)) - 343)
        for key in range(50):
            made.pairs[key, key + 1] = made.Entry(calls=key, worst=1000 - key)
        it.attach("add_pairs", map_fd=made.pairs.live.fd).read()  # type: ignore[attr-defined]
        assert n[3] == sum(k * (k + 1) for k in range(50))
        assert (n[4], n[5]) == (sum(range(50)), sum(1000 - k for k in range(50)))
        made.names["python"], made.names["perl"] = -5, 9
        it.attach("add_names", map_fd=made.names.live.fd).read()  # type: ignore[attr-defined]
        assert n[6] == -5
    record_property("row", "hook:iter/bpf_map_elem")
    record_property("how", link.how)


def test_which_map_is_said() -> None:
    for arguments in (("bpf_map_elem",), ("task", {})):
        with pytest.raises(TypeError, match="walks the map m"):
            iterator(*arguments)
    text = "m = PerCpuHash[u32, u64](8)\n@iterator('bpf_map_elem', map=m)\ndef f(e):\n    x = e.value\n"
    with pytest.raises(CompileError, match="values of a per-CPU map are read on the user side"), running(text):
        pass


def test_a_walk_on_the_command_line(tmp_path: Path) -> None:
    """The map comes from the decorator; what the iterator prints is the tool's output."""
    needs("iterator_bpf_map_elem")
    script = tmp_path / "walk.py"
    script.write_text("""
from osmia import *
seen = Hash[u32, u64](1024)

@tracepoint("sched:sched_switch")
def switch(record):
    seen[77] = 5

@iterator("bpf_map_elem", map=seen)
def show(element):
    key, value = element.key, element.value
    if key is not None and value is not None:
        print(f"{key} has {value}")
run()
""")
    done = subprocess.run(
        [sys.executable, str(script), "-d", "1"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines().count("77 has 5") == 1, done.stdout
    assert done.stderr == ""


IDS = """
ids = Hash[u32, u64](4096)

@iterator("{kind}")
def each(record):
    one = record.{field}
    if one:
        ids[{id}] = 1
"""


@pytest.mark.parametrize(
    ("kind", "field", "id", "following"),
    [
        ("bpf_map", "map", "one.id", bpf.map_get_next_id),
        ("bpf_prog", "prog", "one.aux.id", bpf.prog_get_next_id),
        ("bpf_link", "link", "one.id", bpf.link_get_next_id),
    ],
)
def test_objects_of_bpf(
    kind: str, field: str, id: str, following: Callable[[int], int], record_property: Row
) -> None:
    """The ids that the kernel lists by BPF_*_GET_NEXT_ID."""
    needs(f"iterator_{kind}")

    def listed() -> set[int]:
        found, at = set(), 0
        while at := following(at):
            found.add(at)
        return found

    text = IDS.replace("{kind}", kind).replace("{field}", field).replace("{id}", id)
    with running(text) as it:
        link = it.attach("each")
        before = listed()
        link.read()  # type: ignore[attr-defined]
        after = listed()
        found = {key for key, _ in it.module.ids.items()}
        assert before & after <= found <= before | after and found
    record_property("row", f"hook:iter/{kind}")
    record_property("how", link.how)


COUNTS = """
n = Array[u64](4)
me = option("-p", type=int)
port = option("-P", type=int)

"""
SYMBOLS = COUNTS + """
@iterator("ksym")
def each(record):
    symbol = record.ksym
    if symbol:
        n[0] += 1
        if symbol.value == wanted:
            n[1] += 1
"""


def test_ksym(record_property: Row) -> None:
    needs("iterator_ksym")
    with open("/proc/kallsyms", encoding="ascii") as stream:
        lines = stream.read().splitlines()
    address = next(int(line.split()[0], 16) for line in lines if line.endswith(" vfs_read"))
    same = sum(1 for line in lines if int(line.split()[0], 16) == address)
    with running(f"wanted = {address}\n" + SYMBOLS) as it:
        link = it.attach("each")
        link.read()  # type: ignore[attr-defined]
        assert it.module.n[1] == same
        # Others' programs come and go meanwhile, and each is a symbol.
        assert abs(it.module.n[0] - len(lines)) <= 64
    record_property("row", "hook:iter/ksym")
    record_property("how", link.how)


AREAS = COUNTS + """
@iterator("task_vma")
def each(record):
    task, area = record.task, record.vma
    if task and area:
        if task.pid == me:
            n[0] += 1
            n[1] += area.vm_end - area.vm_start
"""


def test_task_vma(record_property: Row) -> None:
    """A sleeping child's memory areas: number and bytes as /proc/PID/maps shows them."""
    needs("iterator_task_vma")
    child = subprocess.Popen(["sleep", "60"])
    try:
        while Path(f"/proc/{child.pid}/wchan").read_text() in ("", "0") and b"sleep" not in Path(
            f"/proc/{child.pid}/cmdline"
        ).read_bytes():
            pass
        shown = _areas(child.pid)
        while shown != (shown := _areas(child.pid)) or not shown:
            pass
        with running(AREAS, {"me": child.pid}) as it:
            link = it.attach("each")
            link.read()  # type: ignore[attr-defined]
            ends = [tuple(int(word, 16) for word in area.split("-")) for area in _areas(child.pid)]
            assert it.module.n[0] == len(ends)
            assert it.module.n[1] == sum(end - start for start, end in ends)
            assert it.module.n[1] % mmap.PAGESIZE == 0
    finally:
        child.kill()
        child.wait()
    record_property("row", "hook:iter/task_vma")
    record_property("how", link.how)


def _areas(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line.split()[0] for line in lines if not line.endswith(("[vsyscall]",))]


SOCKETS = COUNTS + """
@iterator("tcp")
def each(record):
    common = record.sk_common
    if common:
        if common.skc_num == port:
            n[common.skc_state == 10] += 1
"""


def test_tcp(record_property: Row) -> None:
    """A listening socket, and the three connections that came in through it."""
    needs("iterator_tcp")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        others = [server.accept()[0] for _ in range(3)]
        with running(SOCKETS, {"port": port}) as it:
            link = it.attach("each")
            link.read()  # type: ignore[attr-defined]
            assert (it.module.n[0], it.module.n[1]) == (3, 1)
        for one in clients + others:
            one.close()
    record_property("row", "hook:iter/tcp")
    record_property("how", link.how)
