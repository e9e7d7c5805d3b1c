# SPDX-License-Identifier: Apache-2.0
"""Ways out of the kernel besides the ring: perf buffers, flight recorders, the trace pipe."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from driven import as_python, driven
from kernel_code import running
from needs import needs
from patience import patient

from osmia.errors import CompileError, NotSupported
from osmia.events.perfbuf import PerfBuffer
from osmia.events.transport import TRACE_PIPE
from osmia.kernel import features

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("no_fd_leak")]


@pytest.fixture(params=["ring buffer", "perf buffer"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "perf buffer":
        features.turn_off("ringbuf")
    yield request.param
    features.turn_off()


EVENTS = """
class Fixed(Event):
    n: s32
    ts: u64
    cpu: u32

class Texts(Event):
    n: s32
    name: Str[300]

class Many(Event):
    n: s32
    args: Strs[64]

fixed = Ring(Fixed, 64 << 10)
texts = Ring(Texts, 64 << 10)
many = Ring(Many, 64 << 10)

def note(n, comm):
    with fixed.reserve() as e:
        e.n, e.ts, e.cpu = n, ktime(), cpu()
        if n == 13:
            e.discard()

@probe(11)
def send(n):
    note(n, 1)
    with texts.reserve() as e:
        e.n = n
        e.name = current.comm
    with many.reserve() as e:
        e.n = n
        e.args.add("one")
        e.args.add("three")
    print(f"{n} of {current.comm}")

@probe(12)
def nested(n):
    with fixed.reserve() as e:
        e.n = n
        with texts.reserve() as f:
            f.n = n + 1
            f.name = "inner"
"""


@pytest.mark.feature("A8 events: ring buffer", only="ring buffer")
@pytest.mark.feature("A8 events: perf buffer", only="perf buffer")
def test_everything_arrives_in_order(way: str) -> None:
    with driven(EVENTS) as run:
        live = run.live
        assert live is not None
        assert all((name in live.live.perf_rings) == (way == "perf buffer") for name in ("fixed", "texts", "many"))
        assert isinstance(live.ring("fixed"), PerfBuffer) == (way == "perf buffer")
        for cpu in sorted(os.sched_getaffinity(0)):
            os.sched_setaffinity(0, [cpu])
            try:
                for n in range(10, 20):
                    run.call(11, n + 100 * cpu)
            finally:
                os.sched_setaffinity(0, range(os.cpu_count() or 1))
        wanted = [n + 100 * cpu for cpu in sorted(os.sched_getaffinity(0)) for n in range(10, 20)]
        fixed = live.events("fixed")
        assert [e.n for e in fixed] == [n for n in wanted if n != 13]
        assert [e.ts for e in fixed] == sorted(e.ts for e in fixed)
        comm = pathlib.Path("/proc/self/comm").read_text().strip()
        assert [(e.n, e.name) for e in live.events("texts")] == [(n, comm) for n in wanted]
        assert [(e.n, e.args) for e in live.events("many")] == [(n, ["one", "three"]) for n in wanted]
        assert live.printed() == [f"{n} of {comm}" for n in wanted]
        run.call(12, 5)
        assert [e.n for e in live.events("fixed")] == [5]
        assert [(e.n, e.name) for e in live.events("texts")] == [(6, "inner")]
        assert live.lost() == {}


@pytest.mark.feature("F2 a ring overflows")
@pytest.mark.feature("A8 events: ring buffer", only="ring buffer")
@pytest.mark.feature("A8 events: perf buffer", only="perf buffer")
def test_every_loss_is_counted(way: str) -> None:
    with driven(EVENTS.replace("Ring(Fixed, 64 << 10)", "Ring(Fixed, 4096)")) as run:
        live = run.live
        assert live is not None
        for n in range(1000):
            run.call(12, n)
        got = len(live.events("fixed"))
        assert 0 < got < 1000
        assert live.lost()["ring", "fixed"] == 1000 - got
        for n in range(50):  # and it goes on
            run.call(12, n)
        assert [e.n for e in live.events("fixed")] == list(range(50))


def test_a_reader_that_waits_is_woken(way: str) -> None:
    with driven(EVENTS) as run:
        assert run.live is not None
        ring = run.live.ring("fixed")
        assert ring.wait(0.0) is False
        run.call(12, 1)
        start = time.monotonic()
        assert ring.wait(5.0) is True and time.monotonic() - start < 1
        assert ring.take() and not ring.pending()


BYTES = """
class Write(Event):
    size: u64
    got: u32
    data: Data[1000]

writes = Ring(Write, 1 << 17)
want = option("-p", type=int)

@tracepoint("syscalls:sys_enter_write")
def enter(call):
    if current.tgid == want and call.fd == 1000:
        with writes.reserve() as e:
            e.size = call.count
            e.got = e.data.read(call.buf, call.count)

@tracepoint("syscalls:sys_enter_chdir")
def not_there(call):
    if current.tgid == want:
        with writes.reserve() as e:
            e.got = e.data.read(cast(u64(1), "char", user=True), -5) + 7  # less than nothing is nothing
"""


def test_bytes_have_the_length_that_they_have(way: str) -> None:
    """Also those that are zero, none at all, and more than fit; what cannot be read is nothing."""
    libc = ctypes.CDLL(None)
    texts = [b"", b"x", b"\0", b"ab\0\xff\n", *(bytes(range(n % 256)) * 3 for n in range(1, 40)), b"y" * 1000]
    with running(BYTES, {"want": os.getpid()}) as live:
        live.attach("enter")
        live.attach("not_there")
        for text in texts:
            libc.write(1000, text, len(text))
        libc.write(1000, b"z" * 1013, 1013)
        libc.write(1000, ctypes.c_void_p(8), 13)
        with contextlib.suppress(OSError):
            os.chdir("/no/such")
        rows = [(e.size, e.got, e.data) for e in live.events("writes")]
        assert rows[:-3] == [(len(text), len(text), text) for text in texts]
        assert rows[-3:] == [(1013, 1000, b"z" * 1000), (13, 0, b""), (0, 7, b"")]
        assert live.lost() == {}


def test_bytes_are_read_and_not_assigned() -> None:
    for wrong, said in (("e.data = call.buf", "bytes of variable length"), ("e.data.add(call.buf)", "have no add"),
                        ("e.data.read(5, 5)", "address of a program")):  # fmt: skip
        text = BYTES.replace("e.got = e.data.read(call.buf, call.count)", wrong)
        with pytest.raises(CompileError, match=said), running(text, {"want": 1}):
            pass


RECORDER = """
class Step(Event):
    n: s32
    ts: u64

class Named(Event):
    n: s32
    name: Str[256]

steps = FlightRecorder(Step, 4096)
named = FlightRecorder(Named, 8192)

@probe(11)
def step(n):
    with steps.reserve() as e:
        e.n = n
        e.ts = ktime()
    with named.reserve() as e:
        e.n = n
        e.name = current.comm
"""


@pytest.mark.feature("A16 overwriting ring buffers (flight recorder)")
def test_a_recorder_keeps_the_newest() -> None:
    with driven(RECORDER) as run:
        made, cpu = run.module, min(os.sched_getaffinity(0))
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, [cpu])
        try:
            for n in range(20):
                run.call(11, n)
            assert [e.n for e in made.steps.dump()] == list(range(20))
            for n in range(20, 5000):
                run.call(11, n)
        finally:
            os.sched_setaffinity(0, before)
        found = made.steps.dump()
        assert [e.n for e in found] == list(range(5000 - len(found), 5000))
        # header 8, time 8, length 4, event 16, padded to 40: 102 fit in a page, one of them may be cut
        assert len(found) in (101, 102)
        assert [e.ts for e in found] == sorted(e.ts for e in found)
        names = made.named.dump()
        comm = pathlib.Path("/proc/self/comm").read_text().strip()
        assert [e.n for e in names] == list(range(5000 - len(names), 5000)) and {e.name for e in names} == {comm}
        assert len(names) > 100
        time.sleep(0.3)
        run.call(11, 7)
        assert [e.n for e in made.steps.dump(seconds=0.2)] == [7]
        assert run.lost() == {}
    with as_python(RECORDER) as run:
        run.call(11, 3)
        assert [e.n for e in run.module.steps.dump()] == [3]


PRINTK = """
class Point(Event):
    x: u64

points = Hash[u32, Point]()

@probe(11)
def say(n):
    trace_printk(f"osmia-test {n} {n:x}", u64(n))

@probe(12)
def names(n):
    trace_printk(f"osmia-test by {current.comm} ({current.tgid})")

@probe(13)
def many(n):
    trace_printk(f"osmia-test {n} {n + 1} {n + 2} {n + 3} {n + 4} 100%")
"""


def _lines(pipe: Any, count: int) -> list[Any]:
    out: list[Any] = []
    end = time.monotonic() + 5
    while len(out) < count and time.monotonic() < end:
        pipe.wait(0.2)
        out += [line for line in pipe.fields() if line.message.startswith("osmia-test")]
    return out


@pytest.mark.feature("A7 debug output (bpf_trace_printk)", "B3 debug output: raw", "B3 debug output: fields")
def test_the_trace_pipe() -> None:
    text = PRINTK if features.has("trace_vprintk") else PRINTK.partition("@probe(13)")[0]
    with driven(text) as run:
        assert run.live is not None
        pipe = run.live.ring(TRACE_PIPE)
        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        for n in (7, -7):
            run.call(11, n)
        run.call(12)
        comm = pathlib.Path("/proc/self/comm").read_text().strip()
        lines = _lines(pipe, 3)
        assert [line.message for line in lines] == [
            "osmia-test 7 7 7", f"osmia-test -7 {(1 << 64) - 7:x} {(1 << 64) - 7}",
            f"osmia-test by {comm} ({os.getpid()})",
        ]  # fmt: skip
        for line in lines:
            assert line.pid == os.getpid() and line.function == "bpf_trace_printk" and line.task in (comm, "<...>")
            assert 0 <= line.cpu < (os.cpu_count() or 1) and abs(line.timestamp - before) < 600
        if "many" in text:
            run.call(13, 1)
            assert [line.message for line in _lines(pipe, 1)] == ["osmia-test 1 2 3 4 5 100%"]
        run.call(11, 1)
        raw: list[str] = []
        end = time.monotonic() + 5
        while not raw and time.monotonic() < end:
            raw = [line for line in pipe.raw() if "osmia-test" in line]
        assert raw[0].endswith(": bpf_trace_printk: osmia-test 1 1 1")
        assert run.lost() == {}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('trace_printk(f"{n:>5}")', "does not know the format"),
        ('trace_printk("a\\n")', "plain ASCII"),
        ('trace_printk(n, end="")', "no keyword arguments"),
        ("trace_printk(n, n, n, n, n, n, n, n, n, n, n, n, n)", "more than the kernel prints"),
        ('trace_printk(f"{current.comm}x")', "behind a text the kernel prints only a space or a sign, not 'x'"),
    ],
)
def test_what_the_kernel_cannot_print(line: str, wanted: str) -> None:
    text = f"@syscall_prog\ndef f(ctx):\n    n = ctx[0]\n    {line}\n"
    with pytest.raises(CompileError) as caught, running(text):
        pass
    assert wanted in str(caught.value)


#: A line that older kernels cannot print, the feature that it needs, and what is said without it.
DEMANDING = {
    'f"{current.comm} {current.comm}"': ("trace_printk_more", "2 texts", "one text at most, .* 5.13"),
    'f"{n:X}"': ("trace_printk_more", "capital hexadecimal digits", ".* no capital digits .*5.13"),
    'f"{n} 50%"': ("trace_printk_more", "a percent sign", ".* no percent signs .*5.13"),
    'f"{n} {n} {n} {n}"': ("trace_vprintk", "4 values", "three values at most .*5.16"),
}
LINE = """

def say(n):
    trace_printk(LINE)

@tracepoint("syscalls:sys_enter_getpriority")
def plain(call):
    if call.which == 78:
        trace_printk(f"osmia-test plain {call.who}")

@tracepoint("syscalls:sys_enter_getpriority")
def demanding(call):
    if call.which == 78:
        say(call.who)
"""


@pytest.mark.feature("A7 debug output (bpf_trace_printk)")
@pytest.mark.parametrize("line", DEMANDING)
def test_what_an_older_kernel_cannot_print_is_said_before_the_load(line: str) -> None:
    feature, what, can = DEMANDING[line]
    text = LINE.replace("LINE", line)
    features.turn_off(feature)
    try:
        said = rf"^demanding: trace_printk\(\) at .*\.py:\d+ has {what}; this kernel prints {can}\); use print\(\)$"
        with pytest.raises(NotSupported, match=said), running(text):
            pass
        with running(text, only={"plain"}) as it:  # the other program is none the worse for it
            assert list(it.live.progs) == ["plain"]
        with running(text, optional={"demanding"}) as it:
            assert list(it.live.progs) == ["plain"] and what in str(it.live.skipped["demanding"])
    finally:
        features.turn_off()


@pytest.mark.parametrize("line", DEMANDING)
def test_what_an_older_kernel_cannot_print_is_printed_here(line: str) -> None:
    needs(DEMANDING[line][0])
    with running(LINE.replace("LINE", line)) as it:
        it.attach("demanding")
        comm = pathlib.Path("/proc/self/comm").read_text().strip()
        wanted = {'f"{current.comm} {current.comm}"': f"{comm} {comm}", 'f"{n:X}"': "AB", 'f"{n} 50%"': "171 50%",
                  'f"{n} {n} {n} {n}"': "171 171 171 171"}[line]  # fmt: skip
        assert wanted in _messages(it.ring(TRACE_PIPE), wanted)
        assert it.lost() == {}


def _messages(pipe: Any, wanted: str) -> list[str]:
    """Messages of this process, until the wanted one is among them: who else reads the pipe takes lines away."""
    out: list[str] = []
    end = time.monotonic() + patient(10.0)
    while wanted not in out and time.monotonic() < end:
        with contextlib.suppress(OSError):
            os.getpriority(78, 171)
        pipe.wait(0.1)
        out += [line.message for line in pipe.fields() if line.pid == os.getpid()]
    return out
