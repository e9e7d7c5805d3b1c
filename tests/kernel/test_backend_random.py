# SPDX-License-Identifier: Apache-2.0
"""Random expressions and statements: the kernel and a model in Python must agree on every one."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from backend_live import running
from backend_tir import LOC, MASK, Prog, bin, c, cmp, for_, g, if_, ret, s64, set_, var

from osmia.compiler import tir

pytestmark = pytest.mark.kernel

Env = dict[str, int]
Model = Callable[[Env], int]
ARITHMETIC = {
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y, "and": lambda x, y: x & y,
    "or": lambda x, y: x | y, "xor": lambda x, y: x ^ y,
}  # fmt: skip
TESTS = {
    "eq": lambda x, y: x == y, "ne": lambda x, y: x != y, "slt": lambda x, y: s64(x) < s64(y),
    "sge": lambda x, y: s64(x) >= s64(y), "ult": lambda x, y: x < y, "ugt": lambda x, y: x > y,
}  # fmt: skip
NARROW = [tir.S8, tir.U8, tir.S16, tir.U16, tir.S32, tir.U32]
CONSTANTS = [0, 1, -1, 2, 7, 10, 255, 256, 1 << 31, -(1 << 31), 1 << 32, (1 << 63) - 1, -(1 << 63)]


class Maker:
    """Makes a typed program and, beside it, the Python function that does the same."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.prog = Prog()
        self.locals = [var(name) for name in ("a", "b", "x", "y")]

    def number(self, depth: int) -> tuple[tir.Expr, Model]:
        pick = self.random.randrange(8 if depth else 2)
        if pick == 0:
            value = self.random.choice(CONSTANTS)
            return c(value), lambda env: value & MASK
        if pick == 1:
            local = self.random.choice(self.locals)
            return g(local), lambda env: env[local.name]
        if pick in (2, 3):
            return self.arithmetic(depth)
        if pick == 4:
            return self.division(depth)
        if pick == 5:
            return self.shift(depth)
        if pick == 6:
            return self.narrowed(depth)
        test, test_model = self.truth(depth - 1)
        (a, a_model), (b, b_model) = self.number(depth - 1), self.number(depth - 1)
        return tir.Cond(tir.S64, LOC, test, a, b), lambda env: a_model(env) if test_model(env) else b_model(env)

    def arithmetic(self, depth: int) -> tuple[tir.Expr, Model]:
        op = self.random.choice(list(ARITHMETIC))
        (a, a_model), (b, b_model) = self.number(depth - 1), self.number(depth - 1)
        return bin(op, a, b), lambda env: ARITHMETIC[op](a_model(env), b_model(env)) & MASK

    def division(self, depth: int) -> tuple[tir.Expr, Model]:
        """With a divisor that is odd and so not zero."""
        op = self.random.choice(["sdiv", "smod", "udiv", "umod"])
        (a, a_model), (b, b_model) = self.number(depth - 1), self.number(depth - 1)

        def model(env: Env) -> int:
            x, y = a_model(env), b_model(env) | 1
            if op in ("sdiv", "smod"):
                x, y = s64(x), s64(y)
            return (x // y if op in ("sdiv", "udiv") else x % y) & MASK

        return bin(op, a, bin("or", b, c(1))), model

    def shift(self, depth: int) -> tuple[tir.Expr, Model]:
        op = self.random.choice(["shl", "lshr", "ashr"])
        (a, a_model), (b, b_model) = self.number(depth - 1), self.number(depth - 1)

        def model(env: Env) -> int:
            x, n = a_model(env), b_model(env) & 63
            return {"shl": x << n, "lshr": x >> n, "ashr": s64(x) >> n}[op] & MASK

        return bin(op, a, bin("and", b, c(63))), model

    def narrowed(self, depth: int) -> tuple[tir.Expr, Model]:
        to = self.random.choice(NARROW)
        a, a_model = self.number(depth - 1)

        def model(env: Env) -> int:
            x = a_model(env) & ((1 << to.bits) - 1)
            return (x - (1 << to.bits) if to.signed and x >> (to.bits - 1) else x) & MASK

        return tir.Convert(tir.S64, LOC, a, to), model

    def truth(self, depth: int) -> tuple[tir.Expr, Callable[[Env], bool]]:
        pick = self.random.randrange(4 if depth > 0 else 1)
        if pick <= 1:
            op = self.random.choice(list(TESTS))
            (a, a_model), (b, b_model) = self.number(max(depth - 1, 0)), self.number(max(depth - 1, 0))
            return cmp(op, a, b), lambda env: TESTS[op](a_model(env), b_model(env))
        (p, p_model), (q, q_model) = self.truth(depth - 1), self.truth(depth - 1)
        if pick == 2:
            return tir.And(tir.BOOL, LOC, p, q), lambda env: p_model(env) and q_model(env)
        negated = tir.Not(tir.BOOL, LOC, q)
        return tir.Or(tir.BOOL, LOC, p, negated), lambda env: p_model(env) or not q_model(env)

    def statements(self, depth: int) -> tuple[list[tir.Stmt], Callable[[Env], None]]:
        made = [self.statement(depth) for _ in range(self.random.randint(1, 3))]

        def model(env: Env) -> None:
            for _, run in made:
                run(env)

        return [s for s, _ in made], model

    def statement(self, depth: int) -> tuple[tir.Stmt, Callable[[Env], None]]:
        pick = self.random.randrange(3 if depth else 1)
        if pick == 0:
            local = self.random.choice(self.locals)
            value, value_model = self.number(2)
            return set_(local, value), lambda env: env.__setitem__(local.name, value_model(env))
        if pick == 1:
            test, test_model = self.truth(2)
            (yes, yes_model), (no, no_model) = self.statements(depth - 1), self.statements(depth - 1)
            return if_(test, yes, no), lambda env: yes_model(env) if test_model(env) else no_model(env)
        counter, rounds = var("i"), self.random.randint(1, 5)
        body, body_model = self.statements(depth - 1)
        mixed = set_(self.locals[2], bin("xor", g(self.locals[2]), g(counter)))

        def model(env: Env) -> None:
            for i in range(rounds):
                env["x"] = env["x"] ^ i
                body_model(env)

        return for_(counter, c(0), c(rounds), [mixed, *body], rounds), model


@pytest.mark.parametrize("seed", range(24))
def test_random_programs_agree(seed: int) -> None:
    maker = Maker(seed)
    a, b, x, y = maker.locals
    body, model = maker.statements(2)
    final, final_model = maker.number(4)
    prog = maker.prog.body(
        set_(a, maker.prog.word(0)),
        set_(b, maker.prog.word(1)),
        set_(x, c(3)),
        set_(y, c(-4)),
        *body,
        maker.prog.out(2, final),
        *[maker.prog.out(3 + i, g(v)) for i, v in enumerate(maker.locals)],
        ret(c(0)),
    )
    inputs = [(maker.random.getrandbits(64), maker.random.getrandbits(maker.random.randint(1, 64))) for _ in range(30)]
    inputs += [(p & MASK, q & MASK) for p in CONSTANTS[:6] for q in CONSTANTS[:6]]
    # every loop plain, and every loop by bpf_loop
    for limit in (30_000, 0):
        with running(prog, 8, limit) as run:
            for p, q in inputs:
                env = {"a": p, "b": q, "x": 3, "y": -4 & MASK}
                model(env)
                want = [final_model(env), *(env[v.name] for v in maker.locals)]
                assert run(p, q)[2:7] == want, (p, q, limit)
