# SPDX-License-Identifier: Apache-2.0
"""The command lines that bcc documents for trace and argdist, each taken as it is: parsed, compiled, loaded.

What only the machine had on which they were written (processes, a cgroup) is
replaced by what there is here.  Loading is what the verifier says of the
programs; functions of the kernel need not be there for that.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from needs import needs

from osmia.cli.common import Common, parser_of
from osmia.cli.objects import compile_now
from osmia.errors import CompileError, UserError
from osmia.lang import filters
from osmia.lang.unit import Unit
from osmia.load.object import load
from osmia.obj.elf import parse_object
from osmia.tools import argdist, trace

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from harness import bpffs

pytestmark = pytest.mark.kernel

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "bcc"
COMMANDS = [line for name in ("trace", "argdist") for line in (FIXTURES / f"{name}.txt").read_text().splitlines()]
TOOLS: dict[str, ModuleType] = {"trace": trace, "argdist": argdist}
#: Commands that cannot mean anything on a kernel, and what is said of them: (a part of the command, the sentence,
#: whether this kernel is such a one).  docs/specifications.md has the reasons.
EXCEPTIONS = [
    ("GFP_ATOMIC", "nothing here is called 'GFP_ATOMIC'", lambda: not has_enumerator("___GFP_HIGH_BIT")),
]


def kernel_types() -> Any:
    from osmia.compiler.ktypes import Kernel
    from osmia.kernel import btf_source

    return Kernel(btf_source.kernel_btf())


def has_enumerator(name: str) -> bool:
    from osmia.compiler.enumerators import constant

    return constant(kernel_types(), name) is not None


def words_of(command: str) -> tuple[str, list[str]]:
    """The tool and its words, with what this machine has in place of what theirs had."""
    tool, *words = shlex.split(command.replace("$(pidof irb)", str(os.getpid())))
    if "-p" in words:
        words[words.index("-p") + 1] = str(os.getpid())
    if tool == "trace" and "-c" in words:  # a cgroup is a constant of programs that are the same without
        at = words.index("-c")
        del words[at : at + 2]
    return tool, words


@pytest.fixture(autouse=True)
def _options_back() -> Iterator[None]:
    yield
    for option in (filters.pid, filters.tid, filters.uid, filters.name, filters.cgroup):
        option.value, option.given = option.default, False


def spec_of(tool: str, words: list[str], file: Path | None = None) -> Any:
    """What the command line's programs compile to; the object is kept in ``file``."""
    unit = Unit(tool, vars(TOOLS[tool]))
    parser_of(unit, Common()).parse(words)
    template: Any = unit.template
    template.prepare()
    unit.declare(*template.declares())
    made = compile_now(unit)[0]
    if file is not None:
        file.write_bytes(made)
    return parse_object(made, tool)


@pytest.fixture
def any_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions of other kernels are as good as this one's: what is compiled depends on the signature that is typed."""
    for tool in TOOLS.values():
        monkeypatch.setattr(tool, "check", lambda probes: None)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.usefixtures("any_function")
def test_a_documented_command_becomes_programs_that_the_verifier_takes(command: str) -> None:
    expected = [sentence for part, sentence, here in EXCEPTIONS if part in command and here()]
    tool, words = words_of(command)
    if expected:
        with pytest.raises(UserError) as caught:
            spec_of(tool, words)
        assert expected[0] in str(caught.value)
        assert isinstance(caught.value, CompileError) and caught.value.source in " ".join(words)
        return
    spec = spec_of(tool, words)
    made = TOOLS[tool].tool.probes
    assert made and {prog.name for one in made for prog in one.probe.progs} <= set(spec.progs)
    with load(spec) as live:
        assert set(live.progs) == set(spec.progs)


@pytest.mark.parametrize("command", [
    'argdist -C t:sched:sched_switch():int,char*:args->prev_pid,args->next_comm -H r:c:malloc():u64:$latency',
    'trace -U "c:open (STRCMP(\\"a\\", arg1)) \\"%s\\", arg1" "t:sched:sched_switch \\"%s\\", $task->comm"',
])  # fmt: skip
def test_objects_are_such_that_other_loaders_take_them(command: str, tmp_path: Path) -> None:
    if "STRCMP" in command:
        needs("bpf_loop")  # the address of a loop's body, which older kernels know nothing of: ours takes it out
    made = tmp_path / "unit.bpf.o"
    tool, words = words_of(command)
    spec = spec_of(tool, words, made)
    with bpffs() as place:
        done = subprocess.run(
            ["bpftool", "prog", "loadall", str(made), f"{place}/progs"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert len(os.listdir(f"{place}/progs")) == len(spec.progs)


def test_nearly_all_commands_are_taken() -> None:
    """95 in 100, whatever the kernel."""
    assert len(COMMANDS) > 70
    refused = [command for command in COMMANDS if any(part in command for part, _, _ in EXCEPTIONS)]
    assert len(refused) <= len(COMMANDS) * 5 // 100


def test_an_unknown_function_is_named_with_those_that_are_near() -> None:
    with pytest.raises(UserError) as caught:
        spec_of("trace", ['do_sys_openat "%s", arg2', 'r::do_sys_openat "ret:%d", retval'])
    assert "no function do_sys_openat" in str(caught.value) and "do_sys_openat2" in str(caught.value)
