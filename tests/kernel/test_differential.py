# SPDX-License-Identifier: Apache-2.0
"""Generated functions must give the same numbers in the kernel (BPF_PROG_TEST_RUN) and in CPython.

A failure prints the module's text, the program and the input; run again with
the ``--hypothesis-seed`` that pytest prints to get the same modules.
"""

from __future__ import annotations

import os
import random
import sys
from contextlib import ExitStack

import pytest
from generated import INPUTS, RESULT, modules
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kernel_code import running, signed
from reduce import reduce
from sources import module
from tracked import Stray, run

from osmia.errors import VerifierError

pytestmark = pytest.mark.kernel

FUNCTIONS = 8
MODULES = int(os.environ.get("OSMIA_DIFFERENTIAL_MODULES", "250"))
RUNS = 10
SIZE = 32
EDGES = (0, 1, 2, 3, 4, 7, 8, 9, 100, 255, 256, 1000, 4096, 65535, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 62,
         (1 << 63) - 1)


class Tally:
    """How many comparisons were made, and how many inputs could not be used."""

    def __init__(self) -> None:
        self.functions = 0
        self.compared = 0
        self.stray = 0
        self.too_complex = 0  # modules with a program that the verifier gives up on


def _number(source: random.Random) -> int:
    form = source.randrange(10)
    if form < 4:
        return source.randrange(-20, 300)
    if form < 7:
        return source.choice(EDGES) * source.choice((1, 1, -1)) - source.choice((0, 0, 1))
    return source.getrandbits(source.choice((8, 16, 31, 40, 63))) * source.choice((1, -1))


def _cpython(text: str, prog: str, inputs: list[int], function: object) -> list[int] | None:
    """What CPython makes of the inputs; None where it leaves 64 bits and looks at it."""
    try:
        tracked = run(text, prog, inputs, SIZE)
    except Stray:
        return None
    context = [*inputs, *[0] * (SIZE - len(inputs))]
    function(context)  # type: ignore[operator]
    assert context == tracked, "the model of kinds and CPython disagree"
    return context


def compare(text: str, functions: int, source: random.Random, tally: Tally) -> None:
    """Run every program of the module ``text`` on random inputs, in the kernel and in CPython."""
    made = module(text)
    with ExitStack() as stack:
        try:
            live = stack.enter_context(running(made))
        except VerifierError as err:
            assert "too complex" in str(err), f"{err}\n{text}"
            tally.too_complex += 1
            return
        for at in range(functions):
            tally.functions += 1
            prog = f"p{at}"
            for _ in range(RUNS):
                inputs = [_number(source) for _ in range(INPUTS)]
                expected = _cpython(text, prog, inputs, vars(made)[prog])
                if expected is None:
                    tally.stray += 1
                    continue
                tally.compared += 1
                got = [signed(word) for word in live.words(prog, *inputs, size=SIZE)]
                if got != expected:
                    _report(text, prog, inputs)
    sys.modules.pop(made.__name__)


def _report(text: str, prog: str, inputs: list[int]) -> None:
    """Fail with the smallest text that still differs."""

    def differ(smaller: str) -> tuple[list[int], list[int]] | None:
        try:
            made = module(smaller)
            expected = _cpython(smaller, prog, inputs, vars(made)[prog])
            if expected is None:
                return None
            with running(made) as live:
                got = [signed(word) for word in live.words(prog, *inputs, size=SIZE)]
        except Exception:  # not a program any more
            return None
        return None if got == expected else (got[RESULT - 1 :], expected[RESULT - 1 :])

    smaller = reduce(text, lambda one: differ(one) is not None)
    got, expected = differ(smaller) or ([], [])
    pytest.fail(f"{prog}({inputs}): the kernel gives {got}, CPython {expected}\n{smaller}", pytrace=False)


def test_generated_functions_agree_with_cpython(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()

    @settings(
        max_examples=MODULES, deadline=None, database=None, phases=[Phase.generate],  # reduce() shrinks faster
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(modules(FUNCTIONS), st.integers(0, 1 << 32))
    def agree(text: str, seed: int) -> None:
        compare(text, FUNCTIONS, random.Random(seed), tally)

    agree()
    with capsys.disabled():
        print(f"\n  {tally.functions} functions, {tally.compared} comparisons, {tally.stray} inputs left out")
    assert tally.too_complex <= MODULES // 20
    assert tally.functions >= FUNCTIONS * (MODULES - tally.too_complex)
    assert tally.compared >= 10 * MODULES
    assert tally.compared > 2 * tally.stray, "too many of the inputs leave 64 bits: the generator needs more casts"
