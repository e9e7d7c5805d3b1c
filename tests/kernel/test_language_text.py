# SPDX-License-Identifier: Apache-2.0
"""Text, print and options in kernel code, run on this kernel."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from kernel_code import Running, running
from sources import module

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("no_fd_leak")]


def body(*lines: str, before: str = "") -> str:
    """A module with a program ``p`` of these lines."""
    return before + "\n@syscall_prog\ndef p(ctx):\n" + "".join(f"    {line}\n" for line in lines)


TEXTS = """
class Row(Event):
    name: Str[16]
    other: Str[32]

names = Hash[u32, Str[16]](8)
counts = Hash[Str[16], u64](8)
rows = Ring(Row, 4096)

@syscall_prog
def p(ctx):
    name = names.get(0)
    other = names.get(1)
    if name is None or other is None:
        return
    ctx[10] = name == "python"
    ctx[11] = name != "python"
    ctx[12] = name == other
    ctx[13] = name.startswith("pyt")
    ctx[14] = "tho" in name
    ctx[15] = other in name
    ctx[16] = name.startswith("")
    ctx[17] = name == ""
    ctx[18] = "python3.11-config-and-more" == name
    counts[name] += 1
    with rows.reserve() as e:
        e.name = name
        e.other = other
    ctx[19] = 1 if name else 0
    ctx[20] = 1 if "q" not in name else 0
"""


@pytest.mark.feature("A17 strings: compare", "A17 strings: keys")
@pytest.mark.parametrize(("name", "other"), [
    ("python", "python"), ("python3", "thon"), ("", ""), ("pyt", "python"), ("xpyth", "pyth"), ("tho", "o"),
    ("a" * 15, "a" * 14), ("größe", "ö"), ("ttho", "tth"), ("q", "z"),
])  # fmt: skip
def test_text(name: str, other: str) -> None:
    with running(TEXTS) as live:
        live.module.names[0], live.module.names[1] = name, other
        words = live.words("p")
        want: list[Any] = [
            name == "python", name != "python", name == other, name.startswith("pyt"), "tho" in name, other in name,
            True, name == "", False, bool(name), "q" not in name,
        ]
        assert words[10:21] == [int(w) for w in want]
        assert dict(live.module.counts.items()) == {name: 1}
        (row,) = live.events("rows")
        assert (row.name.removesuffix("..."), row.other) == (name, other)


# --------------------------------------------------------------------------
# print


@pytest.mark.feature("B18 formatted prints")
def test_print() -> None:
    text = body(
        'print(f"a {ctx[0]} b {u64(ctx[0])} c {ctx[0] > 0} {ctx[1]:x} {ctx[1]:>6} {{}} {WORD}", ctx[0] + 1, "end")',
        'print("plain")',
        'print(current.comm)',
        before='WORD = "wörd"\n',
    )
    with running(text) as live:
        live.run("p", -1, 255)
        with open("/proc/self/comm", encoding="utf-8") as stream:
            comm = stream.read().strip()
        want = f"a -1 b {(1 << 64) - 1} c False ff    255 {{}} wörd 0 end"
        assert live.printed() == [want, "plain", comm]


VARIABLES = """
names = Hash[u32, Str[16]](16)

@syscall_prog
def p(ctx):
    name = current.comm
    other = name
    name = "x"
    names[0] = name
    names[1] = other
    before = "none"
    for i in range(3):
        now = current.comm if i == 1 else "y"
        if i == 2:
            names[2] = before
            names[3] = now
        before = now
    maybe = names.get(9)
    if maybe is None:
        maybe = "nobody"
    names[4] = maybe
    if ctx[1] == 0:
        name = kernel_str(current.task.comm, 8)
    names[5] = name
    ctx[10] = other == current.comm
"""


def test_text_has_a_name() -> None:
    """A variable holds what it was given, whatever becomes of the text that it was given."""
    comm = pathlib.Path("/proc/self/comm").read_text().rstrip("\n")
    with running(VARIABLES) as live:
        assert live.words("p")[10] == 1
        found = dict(live.module.names.items())
    assert found == {0: "x", 1: comm, 2: comm, 3: "y", 4: "nobody", 5: comm[:7]}


OPTIONS = """
limit = option("--limit", type=int, default=5)
wide = option("--wide", type=u64)
switch = option("-x")
name = option("-n", type=Str[16])

@syscall_prog
def p(ctx):
    ctx[28] = limit
    ctx[29] = wide
    ctx[30] = 1 if switch else 0
    ctx[31] = name == "abc"
    if name:
        ctx[27] = 1
"""


def test_options() -> None:
    with running(OPTIONS) as live:
        assert live.words("p")[27:] == [0, 5, 0, 0, 0]
    chosen = {"limit": -3, "wide": 1 << 63, "switch": True, "name": "abc"}
    with running(OPTIONS, chosen) as live:
        assert live.words("p")[27:] == [1, (1 << 64) - 3, 1 << 63, 1, 1]


def _insns(live: Running) -> int:
    return live.live.progs["p"].info().xlated_size


def test_an_option_that_is_off_costs_nothing() -> None:
    text = body("if deep:", "    for i in range(50):", "        hits[i] += ctx[1]", "        hits[63 - i] += 1",
                "ctx[31] = 1", before='deep = option("--deep")\nhits = Array[u64](64)\n')
    with running(text) as off, running(module(text), {"deep": True}) as on:
        assert _insns(off) * 3 < _insns(on), "the verifier removes the branch that the option rules out"
