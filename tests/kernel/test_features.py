# SPDX-License-Identifier: Apache-2.0
"""What a tracing language has to have, on every kernel: each row of docs/features.md that no other test is whole for.

Programs here run on a system call that nobody else makes (see
``tests/support/driven.py``), because programs that are run on demand are
newer than the oldest kernel of the matrix.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import time
from typing import Any

import pytest
from driven import as_python, driven
from kernel_code import running

from osmia import machine

pytestmark = [pytest.mark.kernel, pytest.mark.vm, pytest.mark.usefixtures("no_fd_leak")]
BOTH = pytest.mark.parametrize("world", [driven, as_python])

STRINGS = """
calls = Hash[Comm, u64](16)

@probe(11)
def by_name(n):
    calls[current.comm] += 1
    if current.comm == "python-osmia":
        out[0] += 1
    if current.comm != "python-osmia":
        out[1] += 1
    if current.comm.startswith("python-"):
        out[2] += 1
    if "osm" in current.comm:
        out[3] += 1
"""
READ = """
me = option("--me", type=int, default=0)
words = Hash[Str[16], u64](32)
n = Array[u64](4)

@tracepoint("syscalls:sys_enter_chdir")
def enter(call):
    if current.tgid == me:
        words[user_str(call.filename, 16)] += 1
        if user_str(call.filename, 16) == "osmia/17":
            n[0] += 1
"""


@pytest.fixture
def called() -> Any:
    """This thread has a name of its own."""
    own = pathlib.Path("/proc/thread-self/comm")
    before, simulated = own.read_text(encoding="utf-8"), machine.comm
    own.write_text("python-osmia", encoding="utf-8")
    machine.comm = "python-osmia"
    yield
    own.write_text(before.rstrip("\n"), encoding="utf-8")
    machine.comm = simulated


@pytest.mark.feature("A17 strings: compare", "A17 strings: keys")
@BOTH
def test_names_are_compared_and_counted(world: Any, called: None) -> None:
    with world(STRINGS) as run:
        for _ in range(23):
            run.call(11)
        assert run.call(11)[:4] == [24, 0, 24, 24]
        assert dict(run.module.calls.items()) == {"python-osmia": 24}


@pytest.mark.feature("A17 strings: read", "A17 strings: keys", "A17 strings: compare")
def test_strings_of_a_process_are_read() -> None:
    with running(READ, {"me": os.getpid()}) as it:
        it.attach("enter")
        for at in range(53):
            with contextlib.suppress(OSError):
                os.chdir(f"osmia/{at % 20}")
        found = dict(it.module.words.items())
        assert found == {f"osmia/{at}": 2 + (at < 13) for at in range(20)} and it.module.n[0] == 2
        assert it.lost() == {}


LOOPS = """
@probe(11)
def less(n):
    total = 0
    i = 0
    while i < 10:
        total += i
        i += 1
    out[0] = total
    i = 0
    while i <= 10:
        total += i
        i += 1
    out[1] = total
    for i in range(min(n, 1000)):
        total += 1
        if total >= 200:
            break
    out[2] = total

@probe(12)
def many(n):
    total = 0
    for i in range(100):
        if i <= n:
            total += i
    out[3] = total
"""


@pytest.mark.feature("A18 bounded loops, < and <=")
@BOTH
def test_loops_end_where_python_s_do(world: Any) -> None:
    with world(LOOPS) as run:
        assert run.call(11, 7)[:3] == [45, 100, 107]
        assert run.call(11, 1000)[2] == 200
        assert run.call(12, 50)[3] == 1275 and run.call(12, 5000)[3] == 4950


MAPS = """
by_key = Hash[u32, u64](64)
lately = LruHash[u32, u64](64)
each_cpu = PerCpuHash[u32, u64](64)
cells = Array[u64](8)
each_cell = PerCpuArray[u64](8)

@probe(11)
def count(n):
    by_key[n] += 1
    lately[n] = n * 2
    each_cpu[n] += 2
    cells[n] += n
    each_cell[n] += 1
    if n in by_key:
        out[0] = by_key[n]
    out[1] = by_key.get(77, 5)
    if n == 3:
        del by_key[n]
"""


@pytest.mark.feature("A10 maps: hash", "A10 maps: LRU", "A10 maps: per CPU", "A10 maps: array", "A11 frequency counts")
@BOTH
def test_dictionaries_of_every_kind_count(world: Any) -> None:
    with world(MAPS) as run:
        made = run.module
        for at in range(23):
            assert run.call(11, at % 5)[:2] == [at // 5 + 1 if at % 5 != 3 else 1, 5]
        assert dict(made.by_key.items()) == {0: 5, 1: 5, 2: 5, 4: 4}
        assert dict(made.lately.items()) == {at: 2 * at for at in range(5)}
        assert dict(made.each_cpu.items()) == {0: 10, 1: 10, 2: 10, 3: 8, 4: 8}
        assert [made.cells[at] for at in range(6)] == [0, 5, 10, 12, 16, 0]
        assert [made.each_cell[at] for at in range(6)] == [5, 5, 5, 4, 4, 0]
        if run.live is not None:
            assert run.lost() == {}


HISTOGRAMS = """
doubling = log2_hist("n")
even = linear_hist("n", low=0, high=100, step=10)
fine = loglin_hist("n")
keyed = linear_hist("n", low=0, high=10, step=1, key=u32)

@probe(11)
def add(n):
    doubling.add(n)
    even.add(n)
    fine.add(n)
    keyed[n % 2].add(n % 10)
"""


@pytest.mark.feature("A12 histograms: power-of-two", "A12 histograms: linear", "A12 histograms: log-linear")
@BOTH
def test_histograms_hold_each_value_once(world: Any) -> None:
    with world(HISTOGRAMS) as run:
        values = [at * at for at in range(53)]
        for value in values:
            run.call(11, value)
        for name in ("doubling", "even", "fine"):
            hist = getattr(run.module, name)
            shot = hist.snapshots()[None]
            wanted = [0] * hist.slots
            for value in values:
                wanted[hist.slot(value)] += 1
            assert shot.counts == wanted, name
            assert (shot.count, shot.sum, shot.min, shot.max) == (53, sum(values), 0, 2704)
        both = run.module.keyed.snapshots()
        assert {key: shot.count for key, shot in both.items()} == {0: 27, 1: 26}


EVENTS = """
class Point(Event):
    x: u16
    y: s64

class Call(Event):
    who: s32
    comm: Comm
    ratio: u8
    flags: FixedArray[u32, 3]
    at: Point

calls = Ring(Call, 1 << 16)

@probe(11)
def send(n):
    with calls.reserve() as e:
        e.who, e.comm, e.ratio = n, current.comm, n + 300
        e.flags[1] = 7
        e.at.x, e.at.y = n + 65537, -n
"""


@pytest.mark.feature("B4 events as typed objects")
def test_events_are_objects_of_their_class() -> None:
    with driven(EVENTS) as run:
        for at in range(23):
            run.call(11, at - 5)
        assert run.live is not None
        found = run.live.events("calls", 2.0)
        assert [one.who for one in found] == list(range(-5, 18))
        comm = pathlib.Path("/proc/self/comm").read_text(encoding="utf-8").strip()
        assert type(found[0]).__name__ == "Call" and found[0].comm == comm
        assert found[0].ratio == 295 % 256 and list(found[0].flags) == [0, 7, 0]
        assert [(one.at.x, one.at.y) for one in found] == [((at - 5 + 65537) % 65536, 5 - at) for at in range(23)]


EXISTS = """
from osmia.lang.drift import task_state

@probe(11)
def look(n):
    task = current.task
    out[0] = 1 if exists("struct task_struct") else 2
    out[1] = 1 if exists("struct osmia_has_no_such_thing") else 2
    out[2] = 1 if exists(task.pid) else 2
    out[3] = task.tgid
    out[4] = task.real_parent.tgid
    out[5] = 1 if task_state(task) == 0 else 2
    out[6] = sizeof("struct task_struct")
"""


@pytest.mark.feature("B7 kernel structures: tests of existence", "B7 kernel structures: attributes, relocated")
def test_structures_are_read_and_asked_for() -> None:
    with driven(EXISTS) as run:
        found = run.call(11)
        assert found[:6] == [1, 2, 1, os.getpid(), os.getppid(), 1] and found[6] > 1000


DELTAS = """
began = PerThread[u64]()
spent = log2_hist("usecs")

@probe(11)
def enter(n):
    began.value = ktime()

@probe(12)
def leave(n):
    start = began.take()
    if start is not None:
        out[0] = ktime() - start
        spent.add((ktime() - start) // 1000)
"""


@pytest.mark.feature("A13 timestamps and time deltas", "A9 variables: per thread")
def test_time_between_two_events_is_the_clock_s_own() -> None:
    with driven(DELTAS) as run:
        for _ in range(5):
            before = time.monotonic_ns()
            run.call(11)
            inside = time.monotonic_ns()
            time.sleep(0.02)
            middle = time.monotonic_ns()
            found = run.call(12)[0]
            after = time.monotonic_ns()
            assert middle - inside <= found <= after - before
        run.call(12)  # without a beginning
        assert run.module.spent.snapshots()[None].count == 5


LIMIT = """
me = option("--me", type=int, default=0)
only = option("--only", type=int, default=0)
n = Array[u64](2)

@tracepoint("syscalls:sys_enter_getpriority")
def enter(call):
    if current.tgid == me and call.which == 79:
        if only and call.who != only:
            return
        n[0] += 1
"""


@pytest.mark.feature("A6 filters in the kernel", "A3 tracepoints", "B10 arguments of tracepoints by name")
@pytest.mark.parametrize(("only", "wanted"), [(0, 23), (7, 1), (99, 0)])
def test_what_is_filtered_never_leaves_the_kernel(only: int, wanted: int) -> None:
    with running(LIMIT, {"me": os.getpid(), "only": only}) as it:
        it.attach("enter")
        for at in range(23):
            with contextlib.suppress(OSError):
                os.getpriority(79, at)
        assert it.module.n[0] == wanted
