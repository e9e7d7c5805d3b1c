# SPDX-License-Identifier: Apache-2.0
"""The programs of inject: whether a thread is within a chain of calls, from the outermost function inwards.

``SPEC := FRAME [=> FRAME…]``, innermost first; ``FRAME := FUNCTION(SIGNATURE)[(PREDICATE)]``, or
``(PREDICATE)`` alone for the function that is to fail.  A thread's number in
``reached`` says how many functions of the chain it is in, counted from the
outermost.  A function that calls itself counts once: ``marks`` has at which of
its calls the chain went on.
"""

from __future__ import annotations

import re

from osmia.compiler import syntax as ast
from osmia.errors import NotFound, NotSupported, OptionError
from osmia.lang.builtins import current, random
from osmia.lang.maps import Array, Hash
from osmia.lang.options import option
from osmia.lang.probes import Hook, Prog
from osmia.lang.types import u32, u64
from osmia.probespec.statements import statement
from osmia.tools._probes import Probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Set before the load: functions in the chain, whether the innermost has a predicate, how often at most (0: always),
#: and of 2**32 chances those that fail.
length = option("length", type=u32)
asks = option("asks")
most = option("most", type=u64)
chances = option("chances", type=u64, default=1 << 32)

reached = Hash[u32, u32](32768)
depths = Hash[tuple[u32, u32], u32](32768)  # thread, function -> its calls under way
marks = Hash[tuple[u32, u32], u32](32768)
passed = Hash[u32, u32](32768)  # threads for which the innermost predicate has just held
failed = Array[u64](1)


def enters(number, holds):
    """The current thread calls function ``number`` of the chain; ``holds``: the predicate."""
    thread = current.pid
    depth = depths[thread, number] + 1
    depths[thread, number] = depth
    if holds and reached[thread] == number and (number or random() < chances):
        reached[thread] = number + 1
        marks[thread, number] = depth


def leaves(number):
    """It returns from there."""
    thread = current.pid
    depth = depths.get((thread, number))
    if depth is None:
        return
    if reached[thread] == number + 1 and marks[thread, number] == depth:
        if number:
            reached[thread] = number
        else:
            del reached[thread]
        del marks[thread, number]
    if depth > 1:
        depths[thread, number] = depth - 1
    else:
        del depths[thread, number]


def verdict(code):
    """What the function that is to fail returns: ``code``, or 0 to let it go on."""
    if length and reached[current.pid] != length:
        return 0
    if asks and passed.pop(current.pid) is None:
        return 0
    if not length and random() >= chances:
        return 0
    if most and failed[0] >= most:
        return 0
    failed[0] += 1
    return code


def check_injectable(bottom: str) -> None:
    """Whether this kernel lets the function fail: it must be on the list of those that allow it."""
    from osmia.kernel import functions

    if not functions.has_types(bottom):
        raise NotFound(f"this kernel has no function {bottom}: it was built without the fault injection of its kind",
                       where="inject", fix="CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC and CONFIG_FAIL_MAKE_REQUEST")
    listed = functions.injectable()
    if listed is not None and bottom not in listed:
        raise NotSupported(f"this kernel does not let {bottom} fail", where="inject",
                           fix="it must be built with CONFIG_FUNCTION_ERROR_INJECTION")  # fmt: skip


def share(word: str) -> float:
    """A probability; ValueError."""
    value = float(word)
    if not 0 < value <= 1:
        raise ValueError(f"{word} is no probability: more than 0 and at most 1 is needed")
    return value


class Frame:
    """One function of the chain: ``name`` (empty: the one that is to fail), its signature and predicate as typed."""

    def __init__(self, name: str, signature: str, predicate: str) -> None:
        self.name = name
        self.signature = signature
        self.predicate = "" if predicate.strip() in ("", "true", "1") else _compared(predicate.strip())


def frames(text: str) -> list[Frame]:
    """The frames of a specification, as typed.  OptionError."""
    found = []
    for part in _parts(text):
        groups = _groups(part)
        name = part.partition("(")[0].strip()
        if not groups or len(groups) > 2 or (name and not re.fullmatch(r"[A-Za-z_]\w*", name)):
            raise OptionError(f"{part!r} is no function of a chain", where="inject",
                              fix="write FUNCTION(SIGNATURE)(PREDICATE), as in 'd_alloc_parallel()'")  # fmt: skip
        if not name:
            found.append(Frame("", "", groups[0]))
        else:
            found.append(Frame(name, groups[0], groups[1] if len(groups) > 1 else ""))
    return found


def _parts(text: str) -> list[str]:
    """Between the arrows that are outside of parentheses."""
    out, depth, start = [], 0, 0
    for at, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth < 0:
            break
        if not depth and text.startswith("=>", at):
            out.append(text[start:at].strip())
            start = at + 2
    if depth:
        raise OptionError("the parentheses do not match", where="inject", fix=f"in {text}")
    return [*out, text[start:].strip()]


def _groups(part: str) -> list[str]:
    """What is in the outer parentheses of a frame; empty where there is something else behind them."""
    out, depth, start = [], 0, 0
    for at, c in enumerate(part):
        if c == "(":
            start = at + 1 if not depth else start
            depth += 1
        elif c == ")":
            depth -= 1
            if not depth:
                out.append(part[start:at])
        elif not depth and out and not c.isspace():
            return []
    return out


def _compared(predicate: str) -> str:
    """``STRCMP(VALUE, TEXT)``, as bcc's inject spells it, as ``STRCMP("TEXT", VALUE)``, as its trace does."""
    return re.sub(r"STRCMP\(\s*([^,\"]+?)\s*,\s*[\"']?([^\"')]*?)[\"']?\s*\)", r'STRCMP("\2", \1)', predicate)


def programs(chain: list[Frame], bottom: str, code: int, own: str) -> tuple[dict[str, Any], int]:
    """The programs for ``chain`` (outermost first) and the function ``bottom``, by name; how many are in the chain.

    ``own`` is the predicate on the innermost function's own arguments.
    """
    declared: dict[str, Any] = {}
    space = {"enters": enters, "leaves": leaves, "passed": passed, "__name__": __name__}
    for number, one in enumerate(chain):
        for returns in (True, False):
            declared |= _program(one.name, one.signature, one.predicate, number, returns, space)
    if own:
        probe = Probe(statement(f"p::{bottom} ({own})", "inject"), len(chain), 0)
        body = ["if not wanted():", "    return", "if __holds:", "    passed[current.pid] = 1"]
        assert probe.statement.filter is not None
        prog = probe.add("asks", probe.hooks[0], body, {"__holds": probe.statement.filter}, space)
        declared[prog.name] = prog
    make: dict[str, Any] = {"verdict": verdict, "code": code, "__name__": __name__, "own_wanted": _wanted()}
    declared["fail"] = Prog(_failing(make), (Hook("fmod_ret", bottom),))
    return declared, len(chain)


def _program(
    name: str, signature: str, predicate: str, number: int, returns: bool, space: dict[str, Any]
) -> dict[str, Any]:
    typed = f"({signature})" if signature.strip() and not returns else ""
    condition = f" ({predicate})" if predicate and not returns else ""
    probe = Probe(statement(f"{'r' if returns else 'p'}::{name}{typed}{condition}", "inject"), number, 0)
    holes: dict[str, ast.expr] = {}
    if returns:
        body = [f"leaves({number})"]
    else:
        if probe.statement.filter is not None:
            holes["__holds"] = probe.statement.filter
        body = ["if wanted():", f"    enters({number}, {'__holds' if holes else 'True'})"]
    prog = probe.add(f"{'leave' if returns else 'enter'}_{number}", probe.hooks[0], body, holes, space)
    return {prog.name: prog}


def _wanted() -> Any:
    from osmia.lang.filters import wanted

    return wanted


def _failing(space: dict[str, Any]) -> Any:
    """The program that decides, with its code as a constant."""
    from osmia.compiler import built
    from osmia.probespec import parse
    from osmia.probespec.tree import Text

    frame = "def fail():\n    if not own_wanted():\n        return 0\n    return verdict(code)\n"
    return built.function("fail", frame, {}, Text("inject", frame), space, built.Scope(parse("p::fail")))
