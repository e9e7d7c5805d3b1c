# SPDX-License-Identifier: Apache-2.0
"""Each entry of ``lang/drift.py`` gives the truth on this kernel, and the matrix has a kernel on either side of it."""

from __future__ import annotations

import ast
import inspect
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kernel_code import running, wait_for
from needs import older_than
from patience import patient

from osmia.kernel import btf_source, features
from osmia.lang import drift
from osmia.obj import consts

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from harness import loop_device, workload

pytestmark = [pytest.mark.kernel]
Row = Callable[[str, Any], None]

STRUCT = (consts.BTF_KIND_STRUCT,)


def has(struct: str, member: str = "") -> bool:
    """Whether this kernel's types have a structure (with a member)."""
    btf = btf_source.kernel_btf()
    assert btf is not None
    found = btf.find(struct, STRUCT)
    return bool(found) and (not member or btf.find_member(found, member) is not None)


def entries() -> list[str]:
    """The functions that tools call."""
    return [name for name, value in vars(drift).items() if inspect.isfunction(value) and not name.startswith("_")
            and value.__module__ == drift.__name__]  # fmt: skip


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process that sleeps, as its state says once it does."""
    process = subprocess.Popen(["sleep", "60"])
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        time.sleep(0.01)
    yield process.pid
    process.kill()
    process.wait()


def test_task_state(sleeper: int, record_property: Row) -> None:
    """A running task has state 0, a sleeping one 1 (TASK_INTERRUPTIBLE)."""
    with running("""
from osmia.lang.drift import task_state
states = Hash[u32, u64]()

@iterator("task")
def look(it):
    task = it.task
    if task:
        states[task.pid] = task_state(task) + 1
""") as it:
        link = it.attach("look")
        link.read()  # type: ignore[attr-defined]
        states = it.module.states
        assert states[os.getpid()] == 1
        assert states[sleeper] - 1 & 0xFF == 1  # bits above say that it may be frozen, since 6.1
    newer = has("task_struct", "__state")
    assert newer != has("task_struct", "state")
    side(record_property, "task_state", newer)


def test_cpu_of_a_task(sleeper: int, record_property: Row) -> None:
    """It is what /proc/PID/stat says (field 39), on each CPU to which the process is sent."""
    with running("""
from osmia.lang.drift import task_cpu
cpus = Hash[u32, u64]()

@iterator("task")
def look(it):
    task = it.task
    if task:
        cpus[task.pid] = task_cpu(task) + 1
""") as it:
        link = it.attach("look")
        pinned = max(os.sched_getaffinity(0))
        with subprocess.Popen(["taskset", "-c", str(pinned), "sleep", "60"]) as process:
            while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
                time.sleep(0.01)
            link.read()  # type: ignore[attr-defined]
            process.kill()
        assert it.module.cpus[process.pid] == pinned + 1
        said = Path(f"/proc/{sleeper}/stat").read_text().rpartition(")")[2].split()[36]
        assert it.module.cpus[sleeper] == int(said) + 1
    side(record_property, "task_cpu", not has("task_struct", "cpu"))


def test_block_requests(record_property: Row) -> None:
    """A request's disk is the one that was read from, whichever way leads there; the request is a request."""
    with loop_device() as name, running("""
from osmia.lang.drift import disk_of, queue_comes_first, request_disk
disks = Hash[u64, u64]()
names = Hash[Comm, u64]()
strange = Array[u64](1)

@first_of(tp_btf("block_rq_issue"), raw_tracepoint("block_rq_issue"))
def issue(rq):
    if queue_comes_first(rq):
        strange[0] += 1
    else:
        disks[request_disk(rq)] += 1
        names[kernel_str(disk_of(rq).disk_name, 16)] += 1
""", only=["issue__tp_btf"]) as it:
        it.attach("issue__tp_btf")
        read_directly(f"/dev/{name}", 23)
        number = os.stat(f"/dev/{name}").st_rdev
        mine = os.major(number) << 20 | os.minor(number)
        assert it.module.disks[mine] == it.module.names[name] == 23 and it.module.strange[0] == 0
    newer = not has("request", "rq_disk")
    assert newer <= has("request_queue", "disk")
    side(record_property, "request_disk", newer)
    side(record_property, "disk_of", newer)
    side(record_property, "queue_comes_first", not has("hd_struct"))


def test_what_a_worker_works_at(record_property: Row) -> None:
    """The name of the workqueue, which threads of theirs have in ps(1), too."""
    with running("""
from osmia.lang.drift import current_work
works = Hash[Comm, u64]()

@raw_tracepoint("workqueue_execute_start")
def start(work):
    works[kernel_str(current_work(), 16)] += 1
""") as it:
        it.attach("start")
        assert wait_for(lambda: any(name.startswith(b"events") for name in map(bytes_of, it.module.works)))
        assert all(re.fullmatch(rb"[\w.:/+-]+", bytes_of(name)) for name in it.module.works)
    side(record_property, "current_work", has("task_struct", "worker_private"))


def bytes_of(name: object) -> bytes:
    return name if isinstance(name, bytes) else str(name).encode()


def test_victims(record_property: Row) -> None:
    """The tracepoint has a task where its record has the memory."""
    with running("""
from osmia.lang.drift import victim_is_told
n = Array[u64](1)

@raw_tracepoint("sys_enter")
def enter(regs, number):
    n[0] = 2 if victim_is_told(regs) else 1
""") as it:
        it.attach("enter")
        os.getpgid(0)
        assert it.module.n[0] == (2 if has("trace_event_raw_mark_victim", "total_vm") else 1)
    side(record_property, "victim_is_told", has("trace_event_raw_mark_victim", "total_vm"))


def test_a_compaction(record_property: Row) -> None:
    """All memory is compacted, zone by zone; the control says which zone, or there is the number of a page."""
    with running("""
from osmia.lang.drift import compaction_of
zones = Hash[Str[16], u64]()
n = Array[u64](2)

@raw_tracepoint("mm_compaction_begin")
def begin(first):
    if current.tgid == PID:
        control = compaction_of(first)
        if control:
            n[1] += 1
            zones[kernel_str(cast(control, "struct compact_control").zone.name, 16)] += 1
        else:
            n[0] += 1
""".replace("PID", str(os.getpid()))) as it:
        it.attach("begin")
        Path("/proc/sys/vm/compact_memory").write_text("1")
        pages, told = it.module.n[0], it.module.n[1]
        assert (pages == 0) != (told == 0)
        assert not told or any(it.module.zones[name] for name in ("DMA32", "Normal"))
    side(record_property, "compaction_of", told > 0)


def test_a_slab_cache(record_property: Row) -> None:
    """The cache of open files is among those that give something out when files are opened."""
    with running("""
from osmia.lang.drift import cache_is_told
names = Hash[Str[32], u64]()
n = Array[u64](1)

@raw_tracepoint("kmem_cache_alloc")
def allocated(call_site, ptr, cache):
    n[0] = 2 if cache_is_told() else 1
    if cache_is_told():
        names[kernel_str(cast(cache, "struct kmem_cache").name, 32)] += 1
""") as it:
        it.attach("allocated")
        for _ in range(23):
            Path("/dev/null").read_bytes()
        told = it.module.n[0] == 2
        assert not told or it.module.names["filp"] >= 23
    assert told == has("trace_event_raw_kmem_cache_alloc")
    side(record_property, "cache_is_told", told)


def test_pages_of_files(record_property: Row) -> None:
    """Pages that are read one by one, the last first, have the places that were asked for."""
    with loop_device() as name, running("""
from osmia.lang.drift import page_index
wanted = Array[u64](1)
places = Hash[u64, u64]()

@tp_btf("mm_filemap_add_to_page_cache")
def added(page):
    if page.mapping.host.i_rdev == wanted[0]:
        places[page_index(page)] += 1
""", only=["added"]) as it:
        number = os.stat(f"/dev/{name}").st_rdev
        it.module.wanted[0] = os.major(number) << 20 | os.minor(number)
        fd = os.open(f"/dev/{name}", os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        it.attach("added")
        for place in reversed(range(101, 124)):
            os.pread(fd, 4096, place * 4096)
        os.close(fd)
        assert [it.module.places.get(place, 0) for place in range(90, 130)] == [0] * 11 + [1] * 23 + [0] * 6
    side(record_property, "page_index", not has("page", "index"))


def test_loops(record_property: Row) -> None:
    """What the types say of the helper is what loading a program that calls it shows."""
    with running("""
from osmia.lang.drift import loops_are_long
n = Array[u64](1)

@raw_tracepoint("sys_enter")
def enter(regs, number):
    n[0] = 2 if loops_are_long() else 1
""") as it:
        it.attach("enter")
        os.getpgid(0)
        assert it.module.n[0] == (2 if features.has("bpf_loop") else 1)
    side(record_property, "loops_are_long", features.has("bpf_loop") is True)


def test_sleepers_in_a_run_queue(record_property: Row) -> None:
    """Who goes to sleep before it would be its turn again stays queued, on kernels that do that; never are there more.

    While threads are switched the queue's numbers stand still, so they have to agree.
    """
    with running("""
from osmia.lang.drift import asleep_but_queued
seen = Array[u64](1)
wrong = Array[u64](1)

@tp_btf("sched_switch")
def switch(preempt, prev, next):
    queue = next.se.cfs_rq.rq
    asleep = asleep_but_queued(queue)
    if asleep > 0:
        seen[0] += 1
    if asleep < 0 or asleep > queue.nr_running:
        wrong[0] += 1
""") as it:
        it.attach("switch")
        pair = [subprocess.Popen(["taskset", "-c", "0", workload("sleeper"), *words], stdin=subprocess.PIPE)
                for words in (["1", "0", "1500000"], ["300", "500", "2500"])]  # fmt: skip
        for process in pair:
            process.communicate(b"\n")
        seen, wrong = it.module.seen[0], it.module.wrong[0]
    newer = has("cfs_rq", "h_nr_runnable") or has("cfs_rq", "h_nr_delayed")
    assert wrong == 0 and (seen > 0) == newer
    side(record_property, "asleep_but_queued", newer)


def test_cgroups(record_property: Row) -> None:
    """A task is in its own cgroup and in those above, and in no other."""
    place = cgroup_root()
    below = place / f"osmia-drift-{os.getpid()}"
    inner, other = below / "inner", place / f"osmia-drift-other-{os.getpid()}"
    for folder in (below, inner, other):
        folder.mkdir()
    process = subprocess.Popen(["sh", "-c", "read word; kill -0 $$; read word"], stdin=subprocess.PIPE, text=True)
    (inner / "cgroup.procs").write_text(str(process.pid))
    try:
        ids = {"own": inner, "above": below, "root": place, "other": other}
        text = f"pid = {process.pid}\n" + IN_CGROUP
        for at, folder in enumerate(ids.values()):
            text += f"        n[{at}] = 2 if in_cgroup({folder.stat().st_ino}) else 1\n"
        with running(text) as it:
            it.attach("enter")
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            wait_for(lambda: it.module.n[3])
            assert [it.module.n[at] for at in range(4)] == [2, 2, 2, 1]
    finally:
        process.communicate("\n")
        for folder in (inner, below, other):
            wait_for(lambda folder=folder: gone(folder))
    side(record_property, "in_cgroup", not older_than("5.15"))


IN_CGROUP = """
from osmia.lang.drift import in_cgroup
n = Array[u64](4)

@raw_tracepoint("sys_enter")
def enter(regs, number):
    if current.tgid == pid:
"""


def cgroup_root() -> Path:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return next(Path(words[1]) for words in mounts if words[2] == "cgroup2" and words[1].startswith("/sys/fs/cgroup"))


RETRANSMITS = """
from osmia.lang.drift import tells_failures

n = Array[u64](2)

@raw_tracepoint("tcp_retransmit_skb")
def retransmitted(sk, skb, err=0):
    if sk.__sk_common.skc_num == PORT:
        failed = 0
        if tells_failures(sk):
            failed = 1 if err else 0
        n[failed] += 1
"""


def test_tells_failures(record_property: Row) -> None:
    """One that a cable lost is sent again; without the cable that fails, which is an event in newer kernels."""
    from tunnel import FAR, cable

    newer = has("trace_event_raw_tcp_retransmit_skb", "err")
    side(record_property, "tells_failures", newer)
    with cable() as wire:
        with wire.net.other_end():
            server = socket.create_server((FAR, 7009))
        with server, socket.create_connection((FAR, 7009)) as client, server.accept()[0] as other:
            port = client.getsockname()[1]
            with running(RETRANSMITS.replace("PORT", str(port))) as live:
                live.attach("retransmitted")
                wire.lose(1, lambda segment: segment.size > 0)
                client.sendall(b"1")
                other.recv(1)
                assert live.module.n[0] >= 1 and live.module.n[1] == 0
                wire.lose(100, lambda segment: segment.size > 0)
                client.sendall(b"2")
                subprocess.run(["ip", "-n", wire.net.name, "link", "set", "wire0", "down"], check=True)
                if newer:
                    wait_for(lambda: live.module.n[1])
                else:
                    time.sleep(patient(0.7))
                assert bool(live.module.n[1]) == newer


DROPS = """
from osmia.lang.drift import tells_receiver

n = Array[u64](2)

@raw_tracepoint("kfree_skb")
def freed(skb, location, reason=0, rx_sk=0):
    if tells_receiver(skb):
        sk = cast(rx_sk, "struct sock")
        if sk:
            if sk.__sk_common.skc_num == 7011:
                n[sk.__sk_common.skc_state == 1] += 1
"""


def test_tells_receiver(record_property: Row) -> None:
    """Segments that come twice are dropped by the socket that has them already, which newer kernels say."""
    from tunnel import FAR, cable

    newer = has("trace_event_raw_kfree_skb", "rx_sk")
    side(record_property, "tells_receiver", newer)
    with cable() as wire:
        with wire.net.other_end():
            server = socket.create_server((FAR, 7011))
        client = socket.create_connection((FAR, 7011))
        with server, client, server.accept()[0] as other, running(DROPS) as live:
            live.attach("freed")
            wire.deliver = lambda segment: [segment.data] * (2 if segment.outward and segment.size else 1)
            for _ in range(5):
                client.sendall(b"1")
                other.recv(1)
                time.sleep(patient(0.05))
            assert live.module.n[1] >= 5 * newer and live.module.n[0] == 0


def gone(folder: Path) -> bool:
    """A cgroup can be removed once its last process is gone for good."""
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def read_directly(path: str, times: int) -> None:
    """Read so many blocks past the page cache."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        import mmap

        page = mmap.mmap(-1, 4096)
        for at in range(times):
            assert os.preadv(fd, [page], at * 4096) == 4096
    finally:
        os.close(fd)


IP_OPTIONS = {1: 15, 2: 19, 4: 24}  # IP_FREEBIND, IP_TRANSPARENT, IP_BIND_ADDRESS_NO_PORT: include/uapi/linux/in.h


def test_options_of_a_socket_for_bind(record_property: Row) -> None:
    """Each of them alone, and all together; others, the neighbours of their bits among them, are none of these."""
    text = f"pid = {os.getpid()}\n" + """
from osmia.lang.drift import bind_flags
from osmia.tools._sockets import socket_of
flags = Array[u64](1)
calls = Array[u64](1)

@tracepoint("syscalls:sys_enter_listen")
def enter(call):
    if current.tgid == pid:
        flags[0] = bind_flags(socket_of(call.fd).sk)
        calls[0] += 1
"""
    others = [(0, 11), (0, 34), (0, 49), (1, 2)]  # IP_RECVERR, IP_MULTICAST_LOOP, IP_MULTICAST_ALL, SO_REUSEADDR
    with running(text) as it:
        it.attach("enter")
        for number, chosen in enumerate(([], [1], [2], [4], [1, 2, 4])):
            for value in (0, 1):
                with socket.socket() as one:
                    for level, option in others:
                        with suppress(OSError):  # some are for datagrams only
                            one.setsockopt(level, option, value)
                    for flag in chosen:
                        one.setsockopt(0, IP_OPTIONS[flag], 1)
                    one.listen(1)
                wait_for(lambda count=2 * number + value + 1: it.module.calls[0] == count)
                assert it.module.flags[0] == sum(chosen)
    side(record_property, "bind_flags", has("inet_sock", "inet_flags"))


def side(record_property: Row, entry: str, newer: bool) -> None:
    """Tell the matrix which side of the change this kernel is on."""
    record_property("row", f"drift:{entry}")
    record_property("how", "since" if newer else "before")


def test_each_change_cites_its_commit() -> None:
    """Twelve digits of the commit, in the entry's own text or in that of a flavour it uses."""
    tree = ast.parse(inspect.getsource(drift))
    texts = {node.name: ast.get_docstring(node) or "" for node in tree.body
             if isinstance(node, (ast.FunctionDef, ast.ClassDef))}  # fmt: skip
    for name in entries():
        used = [name, *[n for n in texts if "___" in n and n in inspect.getsource(getattr(drift, name))]]
        assert any(re.search(r"\b[0-9a-f]{12}\b", texts[n]) for n in used), f"{name} cites no commit"


def test_each_entry_is_tested_here() -> None:
    source = Path(__file__).read_text()
    for name in entries():
        assert f"import {name}" in source or f", {name}" in source, f"no test calls {name}"
