# SPDX-License-Identifier: Apache-2.0
"""User probes deliver exactly what happened: functions, returns, static probes; FEATURES A2, B1, B2.

The traced programs are ``tests/fixtures/user``; whatever they do is known to
the call.  Ways of attaching that newer kernels do not need are forced.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prebuilt
import pytest
from needs import needs
from test_cli_run import Running, osmia

from osmia import Hash, Str, User, attach_cookie, s16, s32, s64, u8, u64, uprobe, uretprobe, usdt
from osmia.compiler.stages import compile_unit
from osmia.errors import NotFound, NotSupported, UserError
from osmia.kernel import bpf, features
from osmia.lang.probes import Prog
from osmia.lang.unit import Unit
from osmia.lang.user_probes import USDT_MAP
from osmia.link import attach, user_places
from osmia.link import uprobe as uprobe_link
from osmia.link.uprobe import UserLink
from osmia.load.object import LiveObject, load
from osmia.obj import consts, meta
from osmia.obj.elf import parse_object

pytestmark = [pytest.mark.kernel, pytest.mark.vm]

#: Features to turn off for each way of attaching.
WAYS = {
    "as the kernel can": (),
    "one by one": ("uprobe_multi",),
    "one by one, no cookies": ("uprobe_multi", "attach_cookie"),
    "by ioctl": ("uprobe_multi", "attach_cookie", "bpf_link"),
}
LIBRARY = "libtarget"
IN_GUEST = "OSMIA_TEST_PREBUILT" in os.environ
WIDE = 0x1122334455667788

# The kernel halves that the tests attach.  Their targets are replaced by the paths of this run.

counts = Hash[u64, u64]()
eights = Hash[u64, tuple[s64, u64, Str[16], u64, s64, s64, s64, s64]]()
returned = Hash[s64, u64]()
firings = Hash[tuple[u64, u64], s64]()
texts = Hash[Str[16], u64]()


@uprobe("/x:target")
def count(n: u64) -> None:
    counts[attach_cookie()] += 1


@uprobe("/x:target_eight")
def eight(a: s32, b: u8, c: User["char"], d, e: s16, f: s64, g: s64, h: s64):  # type: ignore[no-untyped-def] # noqa: F821,UP037
    counts[1000] += 1
    eights[counts[1000]] = (a, b, c, d, e, f, g, h)


@uretprobe("/x:target_eight")
def leave(ret: s64) -> None:
    returned[ret] += 1


@uretprobe("/x:target_twice")
def leave_twice(ret: s32) -> None:
    returned[ret] += 1


@usdt("/x:target:twice")
def static(n: s64, twice: s64) -> None:
    counts[attach_cookie()] += 1
    returned[n * 1000 + twice] += 1


@usdt("/x:kinds:registers")
def registers(n, wide, name: User["char"]):  # type: ignore[no-untyped-def] # noqa: F821,UP037
    counts[1] += 1
    firings[counts[1], 0], firings[counts[1], 1] = n, wide
    texts[name] += 1


@usdt("/x:kinds:widths")
def widths(a: s64, b: s64, c: s64, d: s64) -> None:
    firings[2000, 0], firings[2000, 1], firings[2000, 2], firings[2000, 3] = a, b, c, d
    counts[2] += 1


@usdt("/x:kinds:constants")
def constants(a: s64, b: s64, c: s64, d: s64) -> None:
    firings[3000, 0], firings[3000, 1], firings[3000, 2], firings[3000, 3] = a, b, c, d
    counts[3] += 1


@usdt("/x:kinds:memory")
def memory(a: s64, b: s64, c: s64, d: s64) -> None:
    counts[4] += 1
    firings[100 + counts[4], 0], firings[100 + counts[4], 1] = a, b
    firings[100 + counts[4], 2], firings[100 + counts[4], 3] = c, d


@usdt("/x:kinds:twelve")
def twelve(a, b, c, d, e, f, g, h, i, j, k, m):  # type: ignore[no-untyped-def]
    counts[5] += 1
    firings[200 + counts[5], 0] = a * 2 + b * 3 + c * 5 + d * 7 + e * 11 + f * 13
    firings[200 + counts[5], 1] = g * 2 + h * 3 + i * 5 + j * 7 + k * 11 + m * 13


@usdt("/x:kinds:guarded")
def guarded(costly: s64) -> None:
    counts[6] += 1
    firings[6000, 0] = costly


@usdt("/x:kinds:spelled")
def spelled(a, b, c, d, e, f, g, h):  # type: ignore[no-untyped-def]
    counts[7] += 1
    firings[300 + counts[7], 0], firings[300 + counts[7], 1], firings[300 + counts[7], 2] = a, b, c
    firings[300 + counts[7], 3], firings[300 + counts[7], 4], firings[300 + counts[7], 5] = d, e, f
    firings[300 + counts[7], 7] = h


@functools.cache
def _object(progs: tuple[Prog, ...]) -> bytes:
    space: dict[str, Any] = {"__name__": "traced", **{prog.name: prog for prog in progs}, **_MAPS}
    return compile_unit(Unit("traced", space), btf=None).object


class Tracer:
    """Programs of this file, loaded and attached; maps are read through the maps above."""

    def __init__(self, *progs: tuple[Prog, str], pid: int = 0) -> None:
        spec = parse_object(_object(tuple(prog for prog, _ in progs)), "traced")
        found = {}
        sizes = {}
        copies = {}
        for prog, target in progs:
            kind = prog.hooks[0].kind
            wanted = prog.function.__code__.co_argcount if kind == "usdt" else 0
            found[prog] = user_places.find(kind, [target], pid=pid, arguments=wanted)
            if uprobe_link.multi(pid):
                spec.progs[prog.name].attach_type = consts.BPF_TRACE_UPROBE_MULTI
            else:
                copies[prog.name] = len(found[prog].places)
            sizes[f"{USDT_MAP}_{prog.name}"] = len(found[prog].places)
        self.live: LiveObject = load(spec, max_entries=sizes, copies=copies)
        self.links: list[UserLink] = []
        self.found = found
        for record in meta.load(spec.meta):
            if record[0] == "map" and record[1] in self.live.maps:
                _MAPS[record[3]].live = self.live.maps[record[1]]
        try:
            for prog, target in progs:
                options: dict[str, Any] = {}
                if prog.hooks[0].kind == "usdt":
                    options["places"] = self.live.maps.get(f"{USDT_MAP}_{prog.name}")
                link = attach(self.live.progs[prog.name], target=target, pid=pid, found=found[prog],
                              copies=self.live.copies.get(prog.name, ()), **options)  # fmt: skip
                assert isinstance(link, UserLink)
                self.links.append(link)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Tracer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.detach()

    def detach(self) -> None:
        for link in self.links:
            link.close()

    def close(self) -> None:
        self.detach()
        for one in _MAPS.values():
            one.live = None
        self.live.close()


_MAPS: dict[str, Any] = {"counts": counts, "eights": eights, "returned": returned, "firings": firings, "texts": texts}
_open: list[Tracer] = []


def tracer(*progs: tuple[Prog, str], pid: int = 0) -> Tracer:
    made = Tracer(*progs, pid=pid)
    _open.append(made)
    return made


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    for one in _open:
        one.close()
    _open.clear()
    features.turn_off()


class Caller:
    """A running ``caller``: does what it is told."""

    def __init__(self, *prefix: str) -> None:
        self.process = subprocess.Popen([*prefix, prebuilt.user("caller")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)  # fmt: skip
        assert self._answer() == "ready"

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.communicate()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __call__(self, command: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._answer()

    @property
    def pid(self) -> int:
        return self.process.pid


@pytest.fixture
def library(tmp_path: Path) -> str:
    """A copy of the library that is this test's own."""
    return str(shutil.copy(prebuilt.user(LIBRARY), tmp_path / "libtarget.so"))


@pytest.fixture
def caller(library: str) -> Iterator[Caller]:
    with Caller() as made:
        assert made(f"load {library}") == "ok"
        yield made


# --- functions ----------------------------------------------------------------------------------------------------


@pytest.mark.feature("A2 user functions: uprobe, uretprobe")
@pytest.mark.parametrize("way", WAYS)
def test_ten_thousand_calls_are_ten_thousand(library: str, caller: Caller, way: str) -> None:
    features.turn_off(*WAYS[way])
    caller("twice 100")
    with tracer((count, f"{library}:target_twice")):
        caller("twice 6000")
        with Caller() as later:  # a process that starts while it is traced
            later(f"load {library}")
            later("twice 4000")
    caller("twice 100")
    assert counts[0] == 10_000


@pytest.mark.feature("A2 user functions: uprobe, uretprobe")
@pytest.mark.parametrize("way", ["as the kernel can", "one by one"])
def test_arguments_and_results(library: str, caller: Caller, way: str) -> None:
    """Registers and stack, every width; what is above a narrow argument's size does not matter."""
    features.turn_off(*WAYS[way])
    with tracer((eight, f"{library}:target_eight"), (leave, f"{library}:target_eight")):
        caller("eight 11")
    found = dict(eights.items())
    assert len(found) == 11
    for n in range(11):
        assert found[n + 1] == (n - 5, 250, "some text", 1 << 63, -2, -3, WIDE, -4)
    assert dict(returned.items()) == {5 - n: 1 for n in range(11)}


@pytest.mark.parametrize("way", WAYS)
def test_a_pattern_counts_by_function(library: str, caller: Caller, way: str) -> None:
    """Cookies say which function it was; two names of one function are one place; static functions are found."""
    features.turn_off(*WAYS[way])
    with tracer((count, f"{library}:target_*")) as run:
        caller("twice 7")
        caller("hidden 5")
        caller("eight 3")
    names = run.links[0].names
    assert len(names) == 5 and ("target_thrice" in names) != ("target_again" in names)
    by_name = {names[cookie]: n for cookie, n in counts.items()}
    assert by_name == {"target_twice": 7, "target_hidden": 5, "target_calls_hidden": 5, "target_eight": 3}


@pytest.mark.parametrize("way", ["as the kernel can", "one by one"])
def test_one_process_only_with_all_its_threads(library: str, caller: Caller, way: str) -> None:
    features.turn_off(*WAYS[way])
    with Caller() as other:
        other(f"load {library}")
        with tracer((count, f"{library}:target_twice"), pid=caller.pid):
            caller("twice 30")
            other("twice 1000")
            caller("thread 400")
    assert counts[0] == 430


@pytest.mark.feature("A2 user functions: uprobe_multi")
def test_one_link_where_the_kernel_has_it(library: str, caller: Caller) -> None:
    needs("uprobe_multi")
    with tracer((count, f"{library}:target_*")) as run:
        assert run.links[0].how == "uprobe multi link" and len(run.links[0].fds) == 1
    needs("uprobe_multi_pid")
    with tracer((count, f"{library}:target_*"), pid=caller.pid) as run:
        assert run.links[0].how == "uprobe multi link"


def test_signed_results_and_offsets(library: str, caller: Caller) -> None:
    with tracer((leave_twice, f"{library}:target_twice"), (count, f"{library}:target_hidden+0")) as run:
        caller("twice 3")
        caller("hidden 2")
    assert dict(returned.items()) == {0: 1, 2: 1, 4: 1}
    assert counts[0] == 2
    assert not run.found[count].warnings


def test_an_offset_inside_of_a_function_is_warned_about(library: str) -> None:
    found = user_places.find("uprobe", [f"{library}:target_eight+1"])
    assert "must be the start of an instruction" in found.warnings[0]
    with pytest.raises(UserError, match="outside of the function"):
        user_places.find("uprobe", [f"{library}:target_eight+4096"])
    with pytest.raises(UserError, match="there is no code at 0x10000000"):
        user_places.find("uprobe", [f"{library}:0x10000000"])
    exact = user_places.find("uprobe", [f"{library}:target_eight"])
    assert not exact.warnings and exact.places[0].offset == found.places[0].offset - 1


@pytest.mark.feature("A2 user functions: uprobe_multi")
@pytest.mark.feature("P4 5,000 user functions")
@pytest.mark.feature("P5 no ceiling on the number of probes")
def test_five_thousand_functions() -> None:
    needs("uprobe_multi")  # one by one it takes minutes to detach them
    program = prebuilt.user("many")
    run = tracer((count, f"{program}:many_*"))
    assert len(run.links[0].names) == 5000
    run.detach()
    started = time.perf_counter()
    found = user_places.find("uprobe", [f"{program}:many_*"])
    link = attach(run.live.progs["count"], target="many", found=found)
    attached = time.perf_counter()
    subprocess.run([program], check=True)
    done = time.perf_counter()
    link.close()
    closed = time.perf_counter()
    assert len(counts) == 5000 and set(counts.values()) == {1}
    if not IN_GUEST:  # emulated guests have other clocks; one by one it would be minutes, on any machine
        assert attached - started < 10, f"{attached - started:.3f} s to attach"
        assert closed - done < 10, f"{closed - done:.3f} s to detach"


def test_forty_functions_one_by_one() -> None:
    features.turn_off("uprobe_multi")
    program = prebuilt.user("many")
    with tracer((count, f"{program}:many_000[0-3]")) as run:
        assert len(run.links[0].names) == 4 and run.links[0].how.startswith("4 uprobes")
        subprocess.run([program], check=True)
    assert dict(counts.items()) == {0: 1, 1: 1, 2: 1, 3: 1}


def test_indirect_functions_lead_to_what_this_machine_runs() -> None:
    """strlen exists once per CPU generation; a probe on the name alone would see one call per process."""
    place = user_places.find("uprobe", ["c:strlen"]).places[0]
    plain = user_places.find("uprobe", ["c:getpid"]).places[0]
    assert plain.name == "getpid" and place.offset != plain.offset
    with tracer((count, "c:strlen")):
        # strlen of an environment of 200 variables, at the very least.
        subprocess.run([shutil.which("env") or "env"], env={f"A{n}": "x" for n in range(200)}, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
    assert counts[0] >= 200


# --- static probes ------------------------------------------------------------------------------------------------

KINDS = [(registers, "registers"), (widths, "widths"), (constants, "constants"), (memory, "memory"),
         (twelve, "twelve"), (guarded, "guarded"), (spelled, "spelled")]  # fmt: skip


@pytest.mark.feature("B1 USDT: arguments", "B1 USDT: processes that start later")
@pytest.mark.parametrize("way", WAYS)
def test_static_probes_deliver_every_kind_of_argument(way: str) -> None:
    """For a process that starts after they were attached; the semaphore makes it compute the costly argument."""
    features.turn_off(*WAYS[way])
    program = prebuilt.user("probes")
    rounds = 23
    with tracer(*[(prog, f"{program}:kinds:{name}") for prog, name in KINDS]) as run:
        out = subprocess.run([program, str(rounds)], check=True, capture_output=True, text=True).stdout
    assert out == f"{rounds} of {rounds}\n"
    assert [counts[n] for n in range(1, 8)] == [rounds] * 7
    for n in range(rounds):
        assert (firings[n + 1, 0], firings[n + 1, 1]) == (n, WIDE)
        assert [firings[101 + n, at] for at in range(4)] == \
            [-123456 + n, -321, (n % 8 + 1) * 10 * (-1) ** n, -77]  # fmt: skip
        assert firings[201 + n, 0] == sum((n + at) * f for at, f in enumerate((2, 3, 5, 7, 11, 13)))
        assert firings[201 + n, 1] == sum((n + 6 + at) * f for at, f in enumerate((2, 3, 5, 7, 11, 13)))
    assert dict(texts.items()) == {"a name": rounds}
    assert [firings[2000, at] for at in range(4)] == [200, -3000, rounds - 1, -WIDE]
    assert [firings[3000, at] for at in range(4)] == [7, -8, ord("x"), 1234567890123]
    assert firings[6000, 0] == 2 * WIDE
    if os.uname().machine == "x86_64":
        table = [10, -20, 30, -40, 50]
        for n in range(rounds):
            at = n & 3
            got = [firings[301 + n, field] for field in range(6)]
            assert got[0] == table[at] and (at == 0 or got[1] == table[at - 1])
            assert got[2:] == [-77, 0x80, 0x8002, 2] and firings[301 + n, 7] == -20
        warnings = run.found[spelled].warnings
        assert len(warnings) == 1 and "floating-point" in warnings[0]


@pytest.mark.feature("B1 USDT: semaphores")
def test_semaphores_go_up_and_down_in_running_processes(tmp_path: Path) -> None:
    program = shutil.copy(prebuilt.user("probes"), tmp_path / "probes")
    process = subprocess.Popen([program, "5", "wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    with tracer((guarded, f"{program}:kinds:guarded")):
        pass
    assert process.communicate("\n")[0] == "0 of 5\n"  # nobody listens any more
    process = subprocess.Popen([program, "5", "wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    with tracer((guarded, f"{program}:kinds:guarded")):
        assert process.communicate("\n")[0] == "5 of 5\n"
    assert counts[6] == 5


def test_a_pattern_of_static_probes() -> None:
    program = prebuilt.user("probes")
    found = user_places.find("usdt", [f"{program}:kinds:*"])
    names = {place.name for place in found.places}
    kinds = ("registers", "widths", "constants", "memory", "text", "twelve", "guarded", "spelled")
    assert names == {f"kinds:{name}" for name in kinds}


@pytest.mark.feature("B2 USDT registered at run time")
@pytest.mark.parametrize("way", ["as the kernel can", "one by one"])
def test_probes_registered_at_run_time(library: str, way: str) -> None:
    """A library that exists in the process's memory only, as libstapsdt makes them: found through its maps."""
    features.turn_off(*WAYS[way])
    with Caller() as caller:
        assert caller(f"memory {library}") == "ok"
        for target in ("*:target:twice", ":target:twice"):
            with tracer((static, target), pid=caller.pid) as run:
                assert "memfd" in run.found[static].places[0].file
                caller("twice 9")
            assert dict(returned.items()) == {n * 1002: 1 for n in range(9)}
            assert counts[0] == 9
            run.close()


@pytest.mark.feature("B1 USDT: arguments", "B1 USDT: processes that start later")
def test_python_tells_of_its_garbage_collections() -> None:
    """A real program's probe: Debian's python3, for a process that starts after attaching."""
    program = "/usr/bin/python3"
    try:
        user_places.find("usdt", [f"{program}:python:gc__start"])
    except (NotFound, UserError):
        pytest.skip("no python3 with static probes here")
    with tracer((gc_start, f"{program}:python:gc__start")):
        subprocess.run([program, "-S", "-E", "-c", "import gc; gc.disable()\n[gc.collect(1) for _ in range(37)]"],
                       check=True)  # fmt: skip
    assert returned[1] == 37


@usdt("/x:python:gc__start")
def gc_start(generation: s32) -> None:
    returned[generation] += 1


# --- faults -------------------------------------------------------------------------------------------------------


@pytest.mark.feature("F4 a library is replaced while it is traced")
def test_a_library_replaced_while_it_is_traced(library: str, caller: Caller) -> None:
    """Who has the old file is still traced, who starts with the new one is not, and that is said."""
    with tracer((count, f"{library}:target_twice")) as run:
        assert run.links[0].notices() == []
        shutil.copy(library, library + ".new")
        os.replace(library + ".new", library)
        caller("twice 20")
        with Caller() as later:
            later(f"load {library}")
            later("twice 3")
        assert run.links[0].notices() == [
            f"{library} was replaced while it was traced: processes that started since then were not seen"
        ]
    assert counts[0] == 20


@pytest.mark.feature("F3 the traced process ends")
def test_the_traced_process_exits(library: str) -> None:
    with Caller() as caller:
        caller(f"load {library}")
        with tracer((count, f"{library}:target_twice"), pid=caller.pid) as run:
            caller("twice 12")
            caller.process.kill()
            caller.process.wait()
            assert run.links[0].notices() == []
        assert counts[0] == 12
    with pytest.raises(NotFound, match=f"there is no process {caller.pid}"):
        tracer((count, f"{library}:target_twice"), pid=caller.pid)


def test_a_file_in_another_mount_namespace(tmp_path: Path, library: str) -> None:
    """The same path is another file for the process: what it sees counts."""
    other = shutil.copy(library, tmp_path / "other.so")
    with open(other, "ab") as file:
        file.write(b"\0")
    inside = Caller("unshare", "-m", "sh", "-c", f'mount --bind {other} {library} && exec "$0"')
    with inside, Caller() as outside:
        for one in (inside, outside):
            assert one(f"load {library}") == "ok"
        with tracer((count, f"{library}:target_twice"), pid=inside.pid) as run:
            assert run.found[count].places[0].inode[1] == os.stat(other).st_ino
            inside("twice 8")
            outside("twice 100")
    assert counts[0] == 8


@pytest.mark.feature("F8 killed with -9")
def test_nothing_stays_after_a_kill(tmp_path: Path, library: str, caller: Caller) -> None:
    file = tmp_path / "killed.py"
    file.write_text(f'''"""Count."""
from osmia import Hash, u64, uprobe, count_table, Col
seen = Hash[u64, u64]()
@uprobe("{library}:target_*")
def killed_one(n):
    seen[n] += 1
tool = count_table(seen, [Col("key", "N", 8), Col("count", "COUNT", 8)])
''')
    tool = Running("run", str(file))
    caller("twice 4")
    assert "killed_one" in _programs()
    tool.end(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while "killed_one" in _programs() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "killed_one" not in _programs()
    assert caller("twice 4") == "ok"


def _programs() -> set[str]:
    out, id = set(), 0
    while id := bpf.prog_get_next_id(id):
        try:
            fd = bpf.prog_get_fd_by_id(id)
        except OSError:
            continue
        try:
            out.add(bpf.obj_get_info(fd, 232)[64:80].split(b"\0")[0].decode())
        finally:
            os.close(fd)
    return out


def test_returns_of_go_programs_are_refused(tmp_path: Path) -> None:
    go = _with_section(tmp_path, ".go.buildinfo")
    with pytest.raises(NotSupported, match="Go program"):
        user_places.find("uretprobe", [f"{go}:main"])
    assert user_places.find("uprobe", [f"{go}:main"]).places


def _with_section(tmp_path: Path, name: str) -> str:
    """A program with one section more, renamed from a section that does not matter: only its name is looked at."""
    raw = bytearray(Path(prebuilt.user("caller")).read_bytes())
    old = b".note.ABI-tag\0"
    assert raw.count(old) == 1 and len(name) < len(old)
    at = raw.index(old)
    raw[at : at + len(old)] = name.encode().ljust(len(old), b"\0")
    path = tmp_path / "program"
    path.write_bytes(raw)
    path.chmod(0o755)
    return str(path)


@pytest.mark.feature("P2 a refusal names the alternative")
def test_errors_name_what_is_near(library: str) -> None:
    program = prebuilt.user("probes")
    for kind, target, words in (
        ("uprobe", f"{library}:target_twise", "did you mean target_twice"),
        ("uprobe", f"{library}:nothing*", "no function matches"),
        ("uprobe", "no-such-library:x", "no library or program no-such-library"),
        ("uprobe", "/no/such/file:x", "no such file"),
        ("uprobe", "/proc/version:x", "not a program or library"),
        ("usdt", f"{program}:kinds:registrs", "it has registers"),
        ("usdt", f"{library}:nobody:*", "there is no probe"),
        ("usdt", f"{prebuilt.user('caller')}:a:b", "no static probes"),
        ("usdt", "*:a:b", "give -p"),
    ):
        with pytest.raises(UserError, match=words):
            user_places.find(kind, [target])
    with pytest.raises(UserError, match="this probe has 1 arguments, and the function takes 2"):
        user_places.find("usdt", [f"{program}:kinds:text"], arguments=2)
    with pytest.raises(NotFound, match="there is no process 4194304"):
        user_places.find("uprobe", [f"{library}:target_twice"], pid=4194304)


def test_one_that_is_missing_does_not_harm_the_others(library: str, caller: Caller) -> None:
    found = user_places.find("uprobe", [f"{library}:absent", f"{library}:target_twice"])
    assert [place.name for place in found.places] == ["target_twice"]
    assert "absent" in str(found.missing[0])


# --- the command line ---------------------------------------------------------------------------------------------

TOOL = '''"""Calls."""
from osmia import Col, Hash, count_table, first_of, s64, u64, uprobe, usdt
from osmia.lang.filters import pid, wanted

seen = Hash[s64, u64]()

@uprobe("{0}:target_twice")
def before(n):
    if wanted():
        seen[100 + n] += 1

@first_of(usdt("{0}:target:absent"), uprobe("{0}:target_twice"))
def call(n):
    if wanted():
        seen[n] += 1

tool = count_table(seen, [Col("key", "N", 8), Col("count", "COUNT", 8)])
'''


@pytest.mark.feature("P1 the next probe of a plan, said with -v")
def test_a_plan_takes_what_the_file_has(tmp_path: Path, library: str, caller: Caller) -> None:
    file = tmp_path / "calls.py"
    file.write_text(TOOL.format(library))
    with Caller() as other:
        other(f"load {library}")
        tool = Running("run", str(file), "-v", "-p", str(caller.pid))
        caller("twice 3")
        caller("twice 2")
        other("twice 50")
        out, err, status = tool.end()
    assert status == 0, err
    rows = sorted(line.split() for line in out.splitlines() if line.strip() and "COUNT" not in line)
    assert rows == [["0", "2"], ["1", "2"], ["100", "2"], ["101", "2"], ["102", "1"], ["2", "1"]]
    assert "there is no probe target:absent" in err and f"attached to 1 place in {library}" in err


def test_a_command_of_its_own(tmp_path: Path) -> None:
    """With -c an empty file name is the command's program."""
    file = tmp_path / "fired.py"
    file.write_text('''"""Fired."""
from osmia import Col, Hash, count_table, s64, u64, usdt
from osmia.lang.filters import pid, wanted
seen = Hash[s64, u64]()
@usdt(":kinds:registers")
def fired(n):
    if wanted():
        seen[n] += 1
tool = count_table(seen, [Col("key", "N", 8), Col("count", "COUNT", 8)])
''')
    tool = Running("run", str(file), "-c", f"{prebuilt.user('probes')} 3")
    out, err, status = tool.wait()
    assert status == 0, err
    rows = sorted(line.split() for line in out.splitlines() if line[:1] == " " and "COUNT" not in line)
    assert rows == [["0", "1"], ["1", "1"], ["2", "1"]]


def test_the_target_may_be_an_option(tmp_path: Path, library: str, caller: Caller) -> None:
    file = tmp_path / "option.py"
    file.write_text('''"""Count calls."""
from osmia import Col, Hash, attach_cookie, count_table, option, u64, uprobe
what = option("-w", "--what", type=str, help="which functions")
seen = Hash[u64, u64]()
@uprobe(what)
def call():
    seen[attach_cookie()] += 1
tool = count_table(seen, [Col("key", "NAME", 24, show=lambda n: call.names[n]), Col("count", "COUNT", 8)])
''')
    tool = Running("run", str(file), "-w", f"{library}:target_*")
    caller("twice 3")
    caller("eight 4")
    out, err, status = tool.end()
    assert status == 0, err
    assert "target_twice" in out and "target_eight" in out, out


def test_doctor_tries_user_probes() -> None:
    done = osmia("doctor")
    lines = [line for line in done.stdout.splitlines() if "hook uprobe" in line or "hook usdt" in line]
    assert len(lines) == 1 and "[ ok ]" in lines[0], done.stdout


def test_struct_of_the_link() -> None:
    """The union in bpf_attr is 48 bytes from its link_create part on; a change of the layout would shift the pid."""
    assert struct.calcsize("<QQQQIIII") == 48


# --- the examples -------------------------------------------------------------------------------------------------

EXAMPLES = Path(prebuilt.TESTS).parent / "examples"


def test_example_mallocs() -> None:
    code = "import ctypes, sys; m = ctypes.CDLL(None).malloc; sys.stdin.readline(); [m(300000) for _ in range(101)]"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    tool = Running("run", str(EXAMPLES / "mallocs.py"), "-p", str(process.pid))
    process.communicate(b"\n")
    out, err, status = tool.end()
    assert status == 0, err
    [row] = [line.split() for line in out.splitlines() if line.split()[:3] == ["262144", "->", "524287"]]
    assert int(row[4]) == 101


def test_example_pygc() -> None:
    try:
        user_places.find("usdt", ["/usr/bin/python3:python:gc__start"])
    except (NotFound, UserError):
        pytest.skip("no python3 with static probes here")
    code = "import gc, sys; gc.disable(); sys.stdin.readline(); [gc.collect(1) for _ in range(29)]"
    process = subprocess.Popen(["/usr/bin/python3", "-S", "-E", "-c", code], stdin=subprocess.PIPE)
    tool = Running("run", str(EXAMPLES / "pygc.py"), "-p", str(process.pid))
    process.communicate(b"\n")
    out, err, status = tool.end()
    assert status == 0, err
    _, _, second = out.partition("generation = 1")
    total = sum(int(line.split()[4]) for line in second.partition("generation")[0].splitlines() if "->" in line)
    assert total == 29, out
