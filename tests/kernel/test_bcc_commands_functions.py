# SPDX-License-Identifier: Apache-2.0
"""The command lines that bcc documents for its tools on functions, each taken as it is: parsed, prepared, loaded.

Processes, programs and libraries are those of the machine on which they were
written: a process is replaced by this one; what a command names that is not
here must be what the error says, and nothing else.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from osmia.cli import plans
from osmia.cli.common import Common, parser_of
from osmia.cli.main import tool_unit
from osmia.cli.objects import compile_now
from osmia.errors import CompileError, NotFound, UserError
from osmia.kernel import tracefs
from osmia.lang import filters
from osmia.load.object import load
from osmia.obj.elf import parse_object

pytestmark = pytest.mark.kernel

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "bcc"
FIXED = ("funccount", "funclatency", "funcslower", "funcinterval", "stackcount")
TOOLS = (*FIXED, "tplist", "bpflist", "inject", "ksnoop")
COMMANDS = [line for name in TOOLS for line in (FIXTURES / f"{name}.txt").read_text().splitlines()]
#: Those that are not taken, and why: statements within an expression are a language of their own.
EXCEPTIONS = ("({struct gendisk",)


@pytest.fixture(autouse=True)
def _options_back() -> Iterator[None]:
    yield
    for option in (filters.pid, filters.tid, filters.uid, filters.name, filters.cgroup):
        option.value, option.given = option.default, False
    for name in TOOLS:
        for one in tool_unit(name).options:
            one.value, one.given = one.default, False


def words_of(command: str) -> tuple[str, list[str]]:
    """The tool and its words, with a process that there is."""
    tool, *words = shlex.split(re.sub(r"`[^`]*`|\$\([^)]*\)", "1", command))
    for at, word in enumerate(words):
        if re.fullmatch(r"-\w*p", word):
            words[at + 1] = str(os.getpid())
    return tool, words


def prepared(command: str) -> Any:
    """The unit after its options are parsed and it is prepared."""
    tool, words = words_of(command)
    unit = tool_unit(tool)
    parser_of(unit, Common()).parse(words)
    if unit.template is not None and unit.template.prepare is not None:
        unit.template.prepare()
    return unit


def is_there(command: str) -> bool:
    """Whether this machine has what the command names, as far as that can be missing."""
    for word in words_of(command)[1]:
        found = re.fullmatch(r"t:(\w+):(\w+)", word)
        if found and not tracefs.exists(found[1], found[2]):
            return False
    return True


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.split()[0] in FIXED])
def test_a_documented_command_is_prepared(command: str) -> None:
    try:
        unit = prepared(command)
    except NotFound as err:
        assert not is_there(command), err
        return
    chosen = [prog for prog in unit.progs if not prog.optional and prog.name not in ("forked", "executed")]
    said = [prog.hooks[0].params.get("where", prog.hooks[0].params.get("patterns")) for prog in chosen]
    assert said and all(plans.told(one) for one in said)


@pytest.mark.parametrize("tool", FIXED)
def test_their_programs_load(tool: str) -> None:
    spec = parse_object(compile_now(tool_unit(tool))[0], tool)
    with load(spec) as live:
        assert set(live.progs) == set(spec.progs) and live.progs


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.split()[0] in ("tplist", "bpflist")])
def test_a_documented_list(command: str) -> None:
    try:
        unit: Any = prepared(command)
        list(unit.template.records())
    except NotFound as err:
        assert any(word in str(err) for word in ("basic_usdt", "pthread", "matches")), err


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.split()[0] in ("inject", "ksnoop")])
def test_a_documented_command_becomes_programs_that_the_verifier_takes(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from osmia.tools import inject

    monkeypatch.setattr(inject, "check_injectable", lambda bottom: None)
    if any(part in command for part in EXCEPTIONS):
        with pytest.raises(CompileError):
            declared(prepared(command))
        return
    try:
        unit = prepared(command)
    except SystemExit:  # info
        return
    spec = declared(unit)
    assert spec.progs
    # The one that makes a function fail needs that function, and trampolines.
    with load(spec, only={name for name in spec.progs if name != "fail"}) as live:
        assert live.progs


def declared(unit: Any) -> Any:
    made, text = unit.template.declares()
    made = {name: one for name, one in made.items() if name != "fail"}
    unit.declare(made, text)
    return parse_object(compile_now(unit)[0], unit.name)


def test_nearly_all_commands_are_taken() -> None:
    """95 in 100; the others are in docs/coming-from-bcc.md, with the reasons."""
    refused = [command for command in COMMANDS if any(part in command for part in EXCEPTIONS)]
    assert len(COMMANDS) > 100 and len(refused) <= len(COMMANDS) * 5 // 100


def test_what_this_kernel_lacks_is_named_with_what_is_near() -> None:
    if tracefs.exists("sched", "sched_fork"):
        pytest.skip("this kernel has what no kernel has")
    with pytest.raises(UserError, match="did you mean sched:"):
        prepared("funccount t:sched:sched_fork")
