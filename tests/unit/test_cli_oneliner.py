# SPDX-License-Identifier: Apache-2.0
"""Programs on the command line: where lines end, what is known by name, and mistakes shown where they were typed."""

from __future__ import annotations

import pytest

from osmia.cli import oneliner
from osmia.errors import CompileError, OptionError, UserError

RAN = '@tracepoint("sched:sched_process_exec") def ran(r): print(f"{r.pid}")'


@pytest.mark.parametrize(
    ("typed", "split"),
    [
        ("a = 1; b = 2", "a = 1; b = 2"),
        ("@p def f(): pass", "@p\ndef f(): pass"),
        ("@p(1, 2)  def f(): pass", "@p(1, 2) \ndef f(): pass"),
        ("a = 1; @p def f(): x; y", "a = 1 \n@p\ndef f(): x; y"),
        ("a = 1;@p def f(): x", "a = 1\n@p\ndef f(): x"),
        ("@p def f(): x;   @q def g(): y", "@p\ndef f(): x   \n@q\ndef g(): y"),
        ("@a @b def f(): x", "@a\n@b\ndef f(): x"),
        ('s = "; @p def f"; @p def f(): x', 's = "; @p def f" \n@p\ndef f(): x'),
        ("x = (a @ b); y = a @ b", "x = (a @ b); y = a @ b"),
        ("@p\ndef f():\n    x; y\n", "@p\ndef f():\n    x; y\n"),
        ("def f(): pass", "def f(): pass"),
        ("x = (1", "x = (1"),
    ],
)
def test_where_lines_end(typed: str, split: str) -> None:
    assert oneliner.split(typed) == split and len(split) == len(typed)


def test_only_names_that_are_used_are_there() -> None:
    unit = oneliner.unit_of('n = PerCpuArray[u64](1); @tracepoint("sched:sched_switch") def f(r): n[0] += fls(7)')
    assert {"PerCpuArray", "u64", "tracepoint", "fls"} <= set(unit.namespace)
    assert "Stacks" not in unit.namespace and "opensnoop" not in unit.namespace
    assert [prog.name for prog in unit.progs] == ["f"] and list(unit.maps) == ["n"]


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        (
            "n = Hsh[u32, u64]()",
            "-e:1:5: error: name 'Hsh' is not defined\n    n = Hsh[u32, u64]()\n        ^~~\nhint: did you mean Hash?",
        ),
        (
            "n = Hash[u32](",
            "-e:1:14: error: not valid Python: '(' was never closed\n    n = Hash[u32](\n                 ^",
        ),
        (
            f"{RAN}; {RAN}",
            "-e:1:116: error: there is a function ran already, and this one would replace it\n    "
            f"{RAN}; {RAN}\n    {' ' * 115}^~~\nhint: give it another name",
        ),
        (
            'x = 1\ny = tracepoint("no colon")',
            '-e:2:5: error: tracepoint("no colon"): the name is "category:event", as in /sys/kernel/tracing/events\n'
            '    y = tracepoint("no colon")\n        ^~~~~~~~~~~~~~~~~~~~~~',
        ),
    ],
)
def test_mistakes_are_shown_where_they_were_typed(program: str, shown: str) -> None:
    with pytest.raises(CompileError) as caught:
        try:
            oneliner.unit_of(program)
        except CompileError as err:
            raise oneliner._in_place(err, program) from None
    shown_here = caught.value.render()
    if hasattr((lambda: 0).__code__, "co_positions"):
        assert shown_here == shown
    else:  # Python 3.10 knows the line only
        assert shown_here.split("\n")[0].split(" error: ")[1] == shown.split("\n")[0].split(" error: ")[1]


def test_what_is_no_program() -> None:
    with pytest.raises(UserError, match="there is no kernel function in it"):
        oneliner.unit_of("x = 1")
    with pytest.raises(OptionError, match="the program is missing"):
        oneliner.run([], False)
