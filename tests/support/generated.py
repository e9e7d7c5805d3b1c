# SPDX-License-Identifier: Apache-2.0
"""Kernel functions made up by hypothesis, as Python source text.

Expressions carry a kind (``s`` s64, ``u`` u64, ``b`` truth), so that every
variable keeps one kind for life.  Text that CPython and the kernel both take
is all that this makes: what overflows is sorted out when it runs (see
:mod:`tracked`), and divisions are guarded, since CPython raises where the
kernel gives 0.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from tracked import result_kind

INPUTS = 6
RESULT = 31
CONSTANTS = (0, 1, 2, 3, 5, 7, 8, 10, 63, 64, 100, 255, 256, 1000, 65535, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40,
             (1 << 63) - 1, -1, -2, -3, -7, -8, -100, -(1 << 31), -(1 << 63))
LARGE = ((1 << 63), (1 << 64) - 1, (1 << 63) + 12345)
CASTS = {"s": ("s8", "s16", "s32", "s64"), "u": ("u8", "u16", "u32", "u64")}


class Writer:
    """Writes one module: the draws, the text so far, and what is in scope."""

    def __init__(self, draw: Any, helpers: list[tuple[str, str]]) -> None:
        self.draw = draw
        self.helpers = helpers
        self.vars: dict[str, str] = {}
        self.fixed: set[str] = set()  # counters that the body must not touch
        self.lines: list[str] = []
        self.depth = 1
        self.loops = 0
        self.budget = 0
        self.names = 0
        self.weight = 1  # rounds of the loops around

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def below(self, n: int) -> int:
        return int(self.draw(st.integers(0, n - 1)))

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def of(self, kind: str) -> list[str]:
        return [name for name, k in self.vars.items() if k == kind]

    # -- expressions: (text, kind, constant or None) ----------------------

    def leaf(self, kind: str) -> tuple[str, str, int | None]:
        names = self.of(kind)
        if kind == "b" or (names and self.below(4)):
            return (self.pick(*names) if names else "ctx[0] > 3"), kind, None
        if kind == "u" and self.below(2):
            return f"u64(ctx[{self.below(INPUTS)}])", "u", None
        if kind == "u":
            value = self.pick(*LARGE)
            return str(value), "u", value
        value = self.pick(*CONSTANTS)
        return (f"({value})" if value < 0 else str(value)), "s", value

    def number(self, depth: int) -> tuple[str, str, int | None]:
        """A number of either kind."""
        if depth <= 0:
            return self.leaf(self.pick("s", "s", "u"))
        form = self.below(16)
        if form == 15:
            return self.walrus(depth)
        if form < 5:
            return self.arithmetic(depth, self.pick("+", "-", "*", "&", "|", "^"))
        if form < 7:
            return self.division(depth)
        if form == 7:
            return self.shift(depth)
        if form == 8:
            kind = self.pick("s", "u")
            return f"{self.pick(*CASTS[kind])}({self.variable(depth)})", kind, None
        if form == 9:
            inner = self.variable(depth)
            op = self.pick("-", "~")
            return f"({op}{inner})", "s", None
        if form == 10:
            return self.extreme(depth)
        if form == 11:
            return self.choice(depth)
        if form == 12 and self.helpers:
            return self.helper(depth)
        if form == 13:
            test = self.truth(depth - 1)
            return f"int({test})", "s", None
        inner = f"s64({self.variable(depth)})"
        return (f"abs({inner})" if self.below(2) else f"{inner}.bit_length()"), "s", None

    def walrus(self, depth: int) -> tuple[str, str, int | None]:
        """An assignment in the middle of an expression: what stands before it has the old value."""
        kind = self.pick("s", "u")
        names = [n for n in self.of(kind) if n not in self.fixed]
        if not names or self.loops:
            return self.leaf(kind)
        return f"({self.pick(*names)} := {kind}64({self.variable(depth)}))", kind, None

    def variable(self, depth: int) -> str:
        """A number that is no constant."""
        text, _, known = self.number(depth - 1)
        return text if known is None else f"(ctx[{self.below(INPUTS)}] ^ {text})"

    def arithmetic(self, depth: int, op: str) -> tuple[str, str, int | None]:
        a, a_kind, a_const = self.number(depth - 1)
        b, b_kind, b_const = self.number(depth - 1)
        if a_const is not None and b_const is not None:  # the compiler would fold it in unlimited integers
            a, a_kind, a_const = f"ctx[{self.below(INPUTS)}]", "s", None
        return f"({a} {op} {b})", result_kind(op, a_kind, b_kind, a_const, b_const), None

    def division(self, depth: int) -> tuple[str, str, int | None]:
        op = self.pick("//", "%")
        a = self.variable(depth)
        cast = self.pick("s64", "u64", "s32", "u16")
        kind = cast[0]
        if self.below(2):
            by = self.pick(1, 2, 3, 7, 10, 16, 1000, 4096, (1 << 31) + 7, -1, -2, -3, -10)
            return f"({cast}({a}) {op} ({by}))", "u" if kind == "u" and by > 0 else "s", None
        b = self.variable(depth)
        name = self.fresh()
        self.vars[name] = kind
        self.line(f"{name} = {cast}({b})")
        fallback = self.below(9)
        if kind == "u":
            return f"({cast}({a}) {op} {name} if {name} else u64({fallback}))", "u", None
        return f"({cast}({a}) {op} {name} if {name} != 0 else {fallback})", "s", None

    def fresh(self) -> str:
        self.names += 1
        return f"t{self.names}"

    def shift(self, depth: int) -> tuple[str, str, int | None]:
        a = self.variable(depth)
        kind = self.pick("s", "u")
        op = self.pick("<<", ">>")
        count = str(self.pick(0, 1, 3, 31, 32, 63, 64, 70)) if self.below(2) else f"({self.variable(depth)} & 127)"
        return f"({kind}64({a}) {op} {count})", kind, None

    def extreme(self, depth: int) -> tuple[str, str, int | None]:
        kind = self.pick("s", "u")
        parts = [f"{kind}64({self.variable(depth)})" for _ in range(self.pick(2, 2, 3))]
        return f"{self.pick('min', 'max')}({', '.join(parts)})", kind, None

    def choice(self, depth: int) -> tuple[str, str, int | None]:
        kind = self.pick("s", "u")
        test = self.truth(depth - 1)
        a, b = self.plain(kind), self.plain(kind)
        return f"({a} if {test} else {b})", kind, None

    def plain(self, kind: str) -> str:
        """A value whose evaluation needs no statement before it (sides of a conditional)."""
        names = self.of(kind)
        return f"({self.pick(*names)} ^ 5)" if names and self.below(2) else f"{kind}64(ctx[{self.below(INPUTS)}] + 1)"

    def helper(self, depth: int) -> tuple[str, str, int | None]:
        name, kind = self.pick(*self.helpers)
        a, b = self.number(depth - 1)[0], self.number(depth - 1)[0]
        return f"{name}(s64({a} ^ {self.atom()}), u64({b} + {self.atom()}))", kind, None

    # -- conditions ------------------------------------------------------

    def truth(self, depth: int) -> str:
        form = self.below(10) if depth > 0 else self.below(4)
        if form < 4:
            op = self.pick("<", "<=", ">", ">=", "==", "!=")
            return f"({self.atom()} {op} {self.operand()})"
        if form == 4:
            return f"({self.atom()} < {self.operand()} <= {self.operand()})"
        if form == 5:
            return f"({self.truth(depth - 1)} and {self.truth(depth - 1)})"
        if form == 6:
            return f"({self.truth(depth - 1)} or {self.truth(depth - 1)})"
        if form == 7:
            return f"(not {self.truth(depth - 1)})"
        if form == 8:
            some = ", ".join(str(self.pick(*CONSTANTS)) for _ in range(3))
            return f"({self.atom()} {self.pick('in', 'not in')} ({some}))"
        names = self.of("b")
        return self.pick(*names) if names else f"bool({self.atom()})"

    def atom(self) -> str:
        names = [*self.of("s"), *self.of("u")]
        return self.pick(*names) if names else f"ctx[{self.below(INPUTS)}]"

    def operand(self) -> str:
        form = self.below(4)
        if form == 0:
            return str(self.pick(*CONSTANTS, *LARGE))
        if form == 1:
            return f"({self.atom()} {self.pick('&', '|', '^')} {self.pick(1, 7, 255, -8)})"
        return self.atom()

    # -- statements ------------------------------------------------------

    def assign(self) -> None:
        form = self.below(8)
        if form == 0:
            text = self.truth(2)
            name = self.pick("f0", "f1")
            self.line(f"{name} = {text}")
            self.vars[name] = "b"
            return
        kind = self.pick("s", "u")
        names = [n for n in self.of(kind) if n not in self.fixed]
        if form == 1 and len(names) >= 2:
            a, b = self.pick(*names), self.pick(*names)
            if a != b:
                self.line(f"{a}, {b} = {b}, {a}")
                return
        if form == 2 and names:
            name, op = self.pick(*names), self.pick("+", "*", "^", "|", "&")
            text, other, known = self.number(1)
            if result_kind(op, kind, other, None, known) == kind:
                if self.loops and op == "*":  # CPython's numbers would grow from round to round
                    self.line(f"{name} = {kind}64({name} * {text})")
                else:
                    self.line(f"{name} {op}= {text}")
                return
        text, got, known = self.number(self.pick(1, 2, 3))
        if known is not None:  # a variable, not one more name for a constant
            text, got = f"({text} ^ {self.atom()})", ""
        if got != kind or self.loops or self.below(2):
            text = f"{kind}64({text})"
        name = self.pick(*(f"{kind}{i}" for i in range(3)))
        self.line(f"{name} = {text}")
        self.vars[name] = kind

    def statement(self) -> None:
        self.budget -= 1
        form = self.below(12) if self.budget > 0 and self.depth < 4 else 0
        if form < 6:
            self.assign()
        elif form < 8:
            self.branch()
        elif form == 8:
            self.match()
        elif form == 9 and self.weight <= 3:
            self.for_loop()
        elif form == 10 and self.weight <= 3:
            self.while_loop()
        else:
            self.leave()

    def block(self, most: int = 3) -> None:
        """An indented block; names that only it assigns are forgotten after it, as the compiler demands."""
        before = dict(self.vars)
        self.depth += 1
        for _ in range(1 + self.below(most)):
            self.statement()
        self.depth -= 1
        self.vars = before

    def branch(self) -> None:
        self.line(f"if {self.truth(2)}:")
        self.block()
        if self.below(2):
            self.line(f"elif {self.truth(1)}:")
            self.block(2)
        if self.below(2):
            self.line("else:")
            self.block()

    def match(self) -> None:
        names = self.of("s")
        if not names:
            self.assign()
            return
        self.line(f"match {self.pick(*names)} & 7:")
        self.depth += 1
        for case in ("0 | 1", self.pick("3", "7", "2 | 4 | 6"), "_"):
            self.line(f"case {case}:")
            self.block(2)
        self.depth -= 1

    def for_loop(self) -> None:
        rounds = self.pick(1, 2, 3, 5, 8)
        form = self.below(4)
        if form == 0 and self.of("s"):
            span = f"min({self.pick(*self.of('s'))}, {rounds})"
        elif form == 1 and self.of("u"):
            span = f"{self.pick(*self.of('u'))} % {rounds + 1}"
        elif form == 2:
            span = f"{self.pick(-3, 0, 2, 9)}, {self.pick(-5, 1, 4, 10)}, {self.pick(-3, -1, 1, 2)}"
        else:
            span = str(rounds)
        self.line(f"for i{self.depth} in range({span}):")
        self.loop(f"i{self.depth}", rounds)

    def while_loop(self) -> None:
        rounds = self.pick(1, 3, 6)
        name = f"w{self.depth}"
        self.line(f"{name} = 0")
        self.line(f"while {name} < {rounds}{self.pick('', f' and {self.atom()} != 3')}:")
        self.line(f"    {name} += 1")
        self.vars[name] = "s"
        self.loop(name, rounds)

    def loop(self, counter: str, rounds: int) -> None:
        before, weight = dict(self.vars), self.weight
        self.vars[counter] = "s"
        self.fixed.add(counter)
        self.weight *= rounds
        self.loops += 1
        self.depth += 1
        for _ in range(1 + self.below(2)):
            self.statement()
        if self.below(2):
            self.line(f"if {self.truth(1)}:")
            self.line(f"    {self.pick('break', 'continue')}")
            self.assign()
        self.depth -= 1
        self.loops -= 1
        self.weight = weight
        self.vars = before

    def leave(self) -> None:
        """An early return."""
        before = dict(self.vars)
        self.line(f"if {self.truth(1)}:")
        self.depth += 1
        self.result()
        self.depth -= 1
        self.vars = before

    def result(self) -> None:
        raise NotImplementedError


class HelperWriter(Writer):
    """A helper function of two arguments: an s64 and a u64."""

    kind = "s"

    def write(self, name: str, *, apart: bool) -> None:
        self.kind = self.pick("s", "u")
        self.lines += ["", "", *(["@subprogram"] if apart else []), f"def {name}(x, y):"]
        self.vars = {"x": "s", "y": "u"}
        self.budget = 3
        if self.below(2):
            self.leave()
        self.assign()
        self.result()

    def leaf(self, kind: str) -> tuple[str, str, int | None]:
        names = self.of(kind)
        return (self.pick(*names) if names else "(x > 3)"), kind, None

    def variable(self, depth: int) -> str:
        text, _, known = self.number(depth - 1)
        return text if known is None else f"(x ^ {text})"

    def arithmetic(self, depth: int, op: str) -> tuple[str, str, int | None]:
        a, a_kind, _ = self.number(depth - 1)
        b, b_kind, _ = self.number(depth - 1)
        return f"({a} {op} {b})", result_kind(op, a_kind, b_kind), None

    def plain(self, kind: str) -> str:
        return f"({self.pick(*self.of(kind))} ^ 5)"

    def result(self) -> None:
        self.line(f"return {self.kind}64({self.number(2)[0]})")


class ProgWriter(Writer):
    """A ``@syscall_prog`` that puts its result into ``ctx[31]``."""

    def write(self, name: str) -> None:
        self.lines += ["", "", "@syscall_prog", f"def {name}(ctx):"]
        for at, kind in enumerate(("s", "s", "u", "u")):
            self.line(f"{kind}{at % 2} = {kind}64(ctx[{at}])")
            self.vars[f"{kind}{at % 2}"] = kind
        self.budget = 8
        for _ in range(2 + self.below(5)):
            self.statement()
        mixed = " ^ ".join(f"s64({name})" for name in [*self.of("s"), *self.of("u")])
        self.line(f"ctx[{RESULT - 1}] = {mixed}")
        self.result()

    def result(self) -> None:
        self.line(f"ctx[{RESULT}] = s64({self.number(2)[0]})")
        self.line("return")


@st.composite
def modules(draw: Any, functions: int) -> str:
    """The text of a module with ``functions`` programs ``p0`` … and the helpers that they call."""
    helpers: list[tuple[str, str]] = []
    lines: list[str] = []
    for at in range(2):
        writer = HelperWriter(draw, helpers[:])
        writer.write(f"h{at}", apart=bool(at))
        lines += writer.lines
        helpers.append((f"h{at}", writer.kind))
    for at in range(functions):
        prog = ProgWriter(draw, helpers)
        prog.write(f"p{at}")
        lines += prog.lines
    return "\n".join(lines).lstrip("\n") + "\n"
