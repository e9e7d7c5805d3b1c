# SPDX-License-Identifier: Apache-2.0
"""What a module puts into its maps before a run is in the kernel when the first probe fires, whatever the map."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Tool, environment, osmia
from needs import needs
from patience import patient

pytestmark = [pytest.mark.kernel, pytest.mark.vm]

HEAD = """\
from osmia import *

me = option("-p", "--pid", type=int, help="pid")
extra = option("--extra", type=int, default=0, help="a number that is known only now")

class Seen(Event):
    who: u32
    a: u64
    b: u64

seen = Ring(Seen)
"""
TAIL = """
@tracepoint("syscalls:sys_enter_getpriority")
def enter(call):
    if current.tgid == me and call.which == 77:
        BODY
"""
SEND = """with seen.reserve() as e:
            e.who, e.a, e.b = call.who, A, B"""

#: Module level, then the two values that the kernel half reads for `who`, and what they are for who = 1, 2, 3.
MAPS = {
    "Hash": ("m = Hash[u32, u64](16)\nm[1] = 10\nm[2] = 20\nm[2] += 1\ndel m[1]",
             "m[call.who]", "m.get(4, 5)", [(0, 5), (21, 5), (0, 5)]),
    "LruHash": ("m = LruHash[u32, u64](16)\nm[3] = 7", "m[call.who]", "0", [(0, 0), (0, 0), (7, 0)]),
    "structure": ("class Pair(Event):\n    x: u32\n    y: u64\n\n"
                  "m = Hash[u32, Pair](16)\nm[2].y = 9\nm[1] = Pair(x=3, y=4)",
                  "m[call.who].x", "m[call.who].y", [(3, 4), (0, 9), (0, 0)]),
    "Array": ("m = Array[u64](4)\nm[1], m[3] = 5, 6", "m[call.who]", "0", [(5, 0), (0, 0), (6, 0)]),
    "PerCpuArray": ("m = PerCpuArray[u64](4)\nm[2] = 8", "m[call.who]", "0", [(0, 0), (8, 0), (0, 0)]),
    "PerCpuHash": ("m = PerCpuHash[u32, u64](4)\nm[2] = 8", "m[call.who]", "0", [(0, 0), (8, 0), (0, 0)]),
    "LpmTrie": ("m = LpmTrie[u32, u64](16)\nm['0.0.0.0/0'] = 1\nm['2.0.0.0/8'] = 2\nm['2.1.0.0/16'] = 3",
                "m.get(u32(call.who), 99)", "m.get(u32(0x0102), 99)", [(1, 3), (2, 3), (1, 3)]),
    "Queue": ("m = Queue[u64](2)\nm.push(31)\nm.push(32)", "taken()", "0", [(31, 0), (32, 0), (0, 0)]),
    "Stack": ("m = Stack[u64](2)\nm.push(31)\nm.push(32)", "taken()", "0", [(32, 0), (31, 0), (0, 0)]),
    "Bloom": ("m = Bloom[u32](1000, hashes=15)\nm.add(2)", "1 if u32(call.who) in m else 0", "0",
              [(0, 0), (1, 0), (0, 0)]),
    "Global": ("m = Global[u64](3)\nm.value = 4", "m.value", "0", [(4, 0), (4, 0), (4, 0)]),
    "PerThread": ("import os\nm = PerThread[u64]()\nm.by_thread[int(os.environ['TRACED'])] = 17",
                  "m.value", "taken()", [(17, 17), (0, 0), (0, 0)]),
    "ArrayOfMaps": ("outer = ArrayOfMaps(Hash[u32, u64](8), 2)\ninner = outer.new(1)\ninner[2] = 22\nouter[1][3] = 33",
                    "count(call.who, 1)", "count(call.who, 0)", [(0, 99), (22, 99), (33, 99)]),
    "HashOfMaps": ("outer = HashOfMaps[u32](Array[u64](4), 8)\nouter.new(1)[1] = 11\nouter.new(500)[1] = 500",
                   "count(1, call.who)", "count(1, 500)", [(11, 500), (99, 500), (99, 500)]),
}  # fmt: skip
HELPERS = """
def taken():
    found = m.TAKE()
    return 0 if found is None else found
""", """
def count(key, slot):
    found = outer.get(slot)
    if found is None:
        return 99
    return found[key]
"""


def call(*numbers: int) -> None:
    for n in numbers:
        with contextlib.suppress(OSError):
            os.getpriority(77, n)


def program(folder: Path, text: str) -> Path:
    file = folder / "filled.py"
    file.write_text(HEAD + text)
    return file


def rows(folder: Path, text: str, *words: str, wanted: int = 3) -> list[tuple[int, int, int]]:
    """What the program at ``text`` says of three calls."""
    os.environ["TRACED"] = str(os.getpid())
    tool = Tool("run", str(program(folder, text)), "-p", str(os.getpid()), "--json", *words)
    with tool:
        call(*range(1, wanted + 1))
    assert tool.stderr == "" and tool.status == 0
    found = [json.loads(line) for line in tool.stdout.splitlines()]
    return [(row["who"], row["a"], row["b"]) for row in found]


@pytest.mark.feature("A10 maps: filled before the first event")
@pytest.mark.parametrize("name", MAPS)
def test_contents_of_the_module_are_there(name: str, tmp_path: Path) -> None:
    if name == "Bloom":
        needs("bloom_filter")
    setting, a, b, wanted = MAPS[name]
    body = TAIL.replace("BODY", SEND.replace("A,", f"{a},").replace("B", b))
    helpers = HELPERS[1] if "Maps" in name else ""
    if "taken()" in (a, b):
        helpers = HELPERS[0].replace("TAKE", "take" if name == "PerThread" else "pop")
    code = "\n" + setting + "\n" + helpers + body
    for _ in range(2):  # compiled, and from the cache
        assert rows(tmp_path, code) == [(at, *pair) for at, pair in enumerate(wanted, 1)]


HISTOGRAM = """
sizes = log2_hist("bytes")
sizes.add(5)
sizes.add(6)
keyed = log2_hist("bytes", key=u32)
keyed[7].add(100, 3)

@before_attach
def look():
    assert sizes.snapshots()[None].count == 2, sizes.snapshots()
    assert keyed.snapshots()[7].count == 3 and keyed.snapshots()[7].min == 100

@tracepoint("syscalls:sys_enter_getpriority")
def enter(call):
    if current.tgid == me and call.which == 77:
        sizes.add(call.who)
        keyed[7].add(call.who)

tool = histogram(sizes)
"""


def test_a_histogram_goes_on_from_what_it_was_given(tmp_path: Path) -> None:
    with Tool("run", str(program(tmp_path, HISTOGRAM)), "-p", str(os.getpid()), "--json") as tool:
        call(1, 2, 3)
    ((shown,),) = [json.loads(line)["histograms"] for line in tool.stdout.splitlines()]
    assert (shown["count"], shown["sum"], shown["min"], shown["max"]) == (5, 17, 1, 6)


JUMPS = """
@tail_program(tracepoint("syscalls:sys_enter_getpriority"))
def one(call):
    SEND1

@tail_program(tracepoint("syscalls:sys_enter_getpriority"))
def two(call):
    SEND2

steps = ProgArray([one], 4)
steps[2] = two
steps[3] = one
del steps[3]

@before_attach
def choose():
    if extra:
        steps[int(extra)] = two
        del steps[0]
        assert 0 not in steps and steps[int(extra)] is two

@tracepoint("syscalls:sys_enter_getpriority")
def enter(call):
    if current.tgid == me and call.which == 77:
        tail_call(steps, call.who)
""".replace("SEND1", SEND.replace("A,", "1,").replace("B", "0").replace("    e.", "e.")) \
   .replace("SEND2", SEND.replace("A,", "2,").replace("B", "0").replace("    e.", "e."))  # fmt: skip


@pytest.mark.feature("A10 maps: programs to jump to")
@pytest.mark.parametrize(("words", "wanted"), [((), [(0, 1), (2, 2)]), (("--extra", "1"), [(1, 2), (2, 2)])])
def test_programs_to_jump_to_are_chosen_in_python(tmp_path: Path, words: tuple[str, ...],
                                                  wanted: list[tuple[int, int]]) -> None:  # fmt: skip
    with Tool("run", str(program(tmp_path, JUMPS)), "-p", str(os.getpid()), "--json", *words) as tool:
        call(0, 1, 2, 3)
    found = [json.loads(line) for line in tool.stdout.splitlines()]
    assert [(row["who"], row["a"]) for row in found if "who" in row] == wanted
    assert found[-1]["lost"] and "2" in tool.stderr  # two jumps into empty slots


OPTIONS = """
m = Hash[u32, u64](4)
m[1] = 1

@before_attach
def choose():
    assert m[1] == 1  # it is live, and filled
    m[2] = int(extra) * 2

@before_attach
def later():
    m[3] = m[2] + 1
""" + TAIL.replace("BODY", SEND.replace("A,", "m[call.who],").replace("B", "0"))


@pytest.mark.feature("A10 maps: filled before the first event")
def test_a_function_before_attaching_knows_options_and_maps(tmp_path: Path) -> None:
    assert rows(tmp_path, OPTIONS, "--extra", "21") == [(1, 1, 0), (2, 42, 0), (3, 43, 0)]


REFUSED = [
    ("m = Hash[u32, u64](2)\nm[1] = m[2] = m[3] = 1", "osmia: map m is full (2 entries); give it more entries\n"),
    ("m = Hash[u32, u64](2)\nm[1] = 'x'", "osmia: map m: what was put into it does not fit: "),
    ("m = Hash[u32, u64](2)\n\n@before_attach\ndef bad():\n    m[1 // 0] = 1",
     "filled.py:17: bad() failed: ZeroDivisionError: integer division or modulo by zero; OSMIA_DEBUG=1 shows"),
    ("from osmia.errors import UserError\nm = Hash[u32, u64](2)\n\n@before_attach\ndef bad():\n    m[1] = 1\n"
     "    raise UserError('no such network', fix='give another')", "osmia: no such network; give another\n"),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "message"), REFUSED)
def test_what_does_not_fit_is_one_sentence(setting: str, message: str, tmp_path: Path) -> None:
    code = "\n" + setting + "\n" + TAIL.replace("BODY", SEND.replace("A,", "m[call.who],").replace("B", "0"))
    env = {**environment(), "OSMIA_DEBUG": "0"}
    command = [sys.executable, "-m", "osmia.cli.main", "run", str(program(tmp_path, code))]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=patient(60), check=False)
    assert message in done.stderr and done.stderr.count("\n") == 1 and done.returncode not in (0, 70)


PINNED = """
osmia_filled = pinned(Hash[u32, u64](4))
osmia_filled[1] = 100
""" + TAIL.replace("BODY", "osmia_filled[1] += 1\n        osmia_filled[2] += 1")


@pytest.mark.feature("B16 pinned maps")
def test_a_pinned_map_is_filled_once(tmp_path: Path) -> None:
    """The run that makes it fills it; the next one goes on with what it holds."""
    from osmia import Hash, open_map, u32, u64
    from osmia.load.pin import unpin

    where = "/sys/fs/bpf/osmia_filled"
    unpin(where)
    try:
        for total in (103, 106):
            with Tool("run", str(program(tmp_path, PINNED)), "-p", str(os.getpid())):
                call(1, 2, 3)
            held = open_map(Hash[u32, u64](4), where)
            assert held[1] == total and held[2] == total - 100
            held.close()
    finally:
        assert unpin(where)


def test_help_does_not_run_it(tmp_path: Path) -> None:
    code = OPTIONS.replace("    m[3] = m[2] + 1", "    raise SystemExit(9)")
    assert osmia("run", str(program(tmp_path, code)), "--help").returncode == 0
