# SPDX-License-Identifier: Apache-2.0
"""Programs that the front end takes and that LLVM or the verifier refuses: the Python line is named."""

from __future__ import annotations

import os
import re

import pytest
from kernel_code import compile_module, running
from sources import module

from osmia.compiler.emit import settle
from osmia.errors import UserError, VerifierError

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("no_fd_leak")]

GOOD = "@syscall_prog\ndef p(ctx):\n    ctx[31] = ctx[0] + 1\n"

ENDLESS = """
@syscall_prog
def p(ctx):
    x = ctx[0]
    while x != 1:
        x = x * 3 + 1
    ctx[31] = x
"""
DEEP = """
class Big(Event):
    a: Str[200]

h = Hash[u32, Big](4)

@subprogram
def first(x):
    h[x] = Big(a="xyz")
    return second(x)

@subprogram
def second(x):
    h[x] = Big(a="xyzz")
    return third(x)

@subprogram
def third(x):
    h[x] = Big(a="xyzzz")
    return x + 1

@syscall_prog
def p(ctx):
    ctx[31] = first(ctx[0])
"""


@pytest.mark.parametrize(("text", "lines", "what"), [
    (ENDLESS, (5, 6), "the kernel rejects program p: (?:too complex|a loop without a visible end)"),  # as 7.2 sees it
    (DEEP, range(7, 25), r"the kernel rejects program p: \d+ bytes of stack in 4 nested functions"),
])  # fmt: skip
def test_the_verifier_points_at_a_python_line(text: str, lines: range, what: str) -> None:
    made = module(text)
    with pytest.raises(VerifierError) as caught, running(made):
        pass
    err = caught.value
    assert re.match(what, err.what), err.what
    place = re.match(rf"{re.escape(made.__file__ or '')}:(\d+): (.*)", err.where)
    assert place, err.where
    number = int(place[1])
    assert number in lines
    assert place[2] == text.splitlines()[number - 1].strip()
    assert err.fix and "\n" not in str(err)
    assert "processed" in err.log, "the whole log is there for those who want it"


STACKS = {
    "texts": """
@tracepoint("syscalls:sys_enter_openat")
def p(call):
    name = call.filename
    if user_str(name, 200) == "a" or user_str(name, 201) == "b" or user_str(name, 202) == "c":
        print("found")
""",
    "keys and values": """
class Big(Event):
    a: Str[250]

h = Hash[u32, Big](4)
k = Hash[Str[240], u64](4)
g = Hash[u32, tuple[u32, Str[200]]](4)

@tracepoint("syscalls:sys_enter_openat")
def p(call):
    g[1] = (1, user_str(call.filename, 100))
    h[1] = Big(a=user_str(call.filename, 200))
    k[user_str(call.filename, 230)] += 1
""",
}


def children() -> set[str]:
    """The processes that this one has started and not waited for."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as listed:
        return set(listed.read().split())


@pytest.mark.parametrize("name", STACKS)
def test_what_llvm_refuses_is_an_error_and_no_more(name: str) -> None:
    made = module(STACKS[name])
    settle()
    before = children()
    with pytest.raises(UserError) as caught:
        compile_module(made)
    err = caught.value
    assert err.what == "p uses more than 512 bytes of stack"
    assert err.fix.startswith("keep large structures and strings in a map or in the event")
    place = re.fullmatch(rf"{re.escape(made.__file__ or '')}:(\d+):\d+", err.where)
    assert place and made.__file__
    with open(made.__file__, encoding="utf-8") as stream:
        assert stream.read().splitlines()[int(place[1]) - 1].startswith(("def p", "@tracepoint"))
    assert children() <= before  # the child that LLVM ended is not left behind
    with running(GOOD) as live:  # and this process goes on compiling
        assert live.run("p", 41) == 42


def test_a_function_named_as_its_section() -> None:
    with pytest.raises(UserError, match="'syscall' is the name of an ELF section of the program, too"):
        compile_module(module(GOOD.replace("p(ctx)", "syscall(ctx)")))
