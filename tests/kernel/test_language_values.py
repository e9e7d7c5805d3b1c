# SPDX-License-Identifier: Apache-2.0
"""Values in kernel code, run on this kernel: integers, enums, event fields, control flow, functions."""

from __future__ import annotations

import pytest
from kernel_code import compile_module, running, signed
from needs import needs
from sources import module

from osmia.errors import CompileError

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("no_fd_leak")]


def run(text: str, *inputs: int) -> int:
    """``ctx[31]`` after the program ``p`` of ``text`` has run."""
    with running(text) as live:
        return live.run("p", *inputs)


def body(*lines: str, before: str = "") -> str:
    """A module with a program ``p`` of these lines."""
    return before + "\n@syscall_prog\ndef p(ctx):\n" + "".join(f"    {line}\n" for line in lines)


# --------------------------------------------------------------------------
# Integers and events


WIDTHS = """
import enum

class Colour(enum.IntEnum):
    RED = 1
    BLUE = 70000
    MINUS = -5

class Inner(Event):
    a: u16
    b: s64

class Row(Event):
    u_8: u8
    s_8: s8
    u_16: u16
    s_16: s16
    u_32: u32
    s_32: s32
    u_64: u64
    s_64: s64
    yes: bool
    no: bool
    plain: int
    colour: Colour
    other: Colour
    name: Str[8]
    raw: Bytes[6]
    inner: Inner
    four: FixedArray[u16, 4]
    user: User["char"]

LIMIT = 12345
rows = Ring(Row, 65536)

@syscall_prog
def p(ctx):
    with rows.reserve() as e:
        e.u_8, e.s_8, e.u_16, e.s_16 = ctx[0], ctx[0], ctx[0], ctx[0]
        e.u_32, e.s_32, e.u_64, e.s_64 = ctx[0], ctx[0], ctx[0], ctx[0]
        e.yes = ctx[0] != 0
        e.no = ctx[0] == 0
        e.plain = LIMIT - ctx[0]
        e.colour = Colour.BLUE
        e.other = Colour.MINUS if ctx[0] < 0 else Colour.RED
        e.name = "abcdefg"
        e.raw = b"\\x00\\x01\\xff"
        e.inner.a = 7
        e.inner.b = -ctx[0]
        for i in range(4):
            e.four[i] = 100 * i
        e.four[1] += 5
        e.user = ctx[1]
"""


def test_events_hold_every_kind_of_field() -> None:
    with running(WIDTHS) as live:
        for value in (-2, 300, -(1 << 40)):
            live.run("p", value, 1 << 63)
        first, second, third = live.events("rows")
        colour = live.module.Colour
        low = [(e.u_8, e.s_8, e.u_16, e.s_16, e.u_32, e.s_32) for e in (first, second, third)]
        assert low == [(254, -2, 65534, -2, (1 << 32) - 2, -2), (44, 44, 300, 300, 300, 300), (0, 0, 0, 0, 0, 0)]
        assert [e.u_64 for e in (first, second, third)] == [(1 << 64) - 2, 300, (1 << 64) - (1 << 40)]
        assert [e.s_64 for e in (first, second, third)] == [-2, 300, -(1 << 40)]
        assert (first.yes, first.no, first.plain) == (True, False, 12347)
        assert (first.colour, first.other, second.other) == (colour.BLUE, colour.MINUS, colour.RED)
        assert (first.name, first.raw) == ("abcdefg...", b"\0\1\xff\0\0\0")  # a full Str counts as cut
        assert (first.inner.a, first.inner.b, third.inner.b) == (7, 2, 1 << 40)
        assert first.four == [0, 105, 200, 300]
        assert first.user == 1 << 63


def test_fields_that_are_not_set_are_zero() -> None:
    text = """
class Row(Event):
    a: u8
    b: u64
    name: Str[16]
    c: u16

rows = Ring(Row, 4096)

@syscall_prog
def p(ctx):
    with rows.reserve() as e:
        if ctx[0]:
            e.b = (1 << 64) - 1
            e.name = "something"
            e.a = 255
"""
    with running(text) as live:
        for i in range(600):  # many times around the ring: records lie on old bytes
            live.run("p", i % 2)
            (row,) = live.events("rows")
            want = (255, (1 << 64) - 1, "something", 0) if i % 2 else (0, 0, "", 0)
            assert (row.a, row.b, row.name, row.c) == want


def test_division_by_zero_is_zero() -> None:
    text = body("ctx[31] = (ctx[0] // ctx[1]) * 100 + ctx[0] % ctx[1] + u64(ctx[0]) // u64(ctx[1])")
    assert run(text, 7, 0) == 0
    assert run(text, 7, 2) == 304


def test_sums_wrap_at_64_bits() -> None:
    text = body("ctx[31] = ctx[0] + ctx[1]")
    assert run(text, (1 << 63) - 1, 1) == -(1 << 63)


def test_min_over_signs_and_minus_one() -> None:
    assert run(body("ctx[31] = ctx[0] // ctx[1]"), -(1 << 63), -1) == -(1 << 63)  # wraps, and does not trap
    assert run(body("ctx[31] = ctx[0] % ctx[1]"), -(1 << 63), -1) == 0


def test_constants_of_the_module() -> None:
    text = body("ctx[31] = SHIFT.LEFT + TABLE[1] + LIMIT + (1 if NAME == 'abc' else 0) + FLAG", before="""
import enum
class SHIFT(enum.IntEnum):
    LEFT = 1000
TABLE = (5, 20, 30)
LIMIT = 1 << 40
NAME = "abc"
FLAG = True
""")
    assert run(text) == 1000 + 20 + (1 << 40) + 1 + 1


def test_fls_and_bit_length() -> None:
    text = body("ctx[31] = fls(ctx[0]) * 100 + ctx[0].bit_length()")
    for value in (0, 1, 2, 3, 255, 256, (1 << 63) - 1, -1, -256, -(1 << 63)):
        assert run(text, value) == (value & (1 << 64) - 1).bit_length() * 100 + value.bit_length()


# --------------------------------------------------------------------------
# Short circuits and control flow


def test_the_right_side_does_not_run() -> None:
    text = body(
        "if ctx[0] and count():", "    pass",
        "if ctx[0] or count():", "    pass",
        "x = 1 if ctx[0] else count()",
        "y = ctx[0] > 3 and count() > 0",
        "if ctx[1] < ctx[0] < count():", "    pass",
        "ctx[31] = hits[0]",
        before="hits = Array[u64](1)\n\ndef count():\n    hits[0] += 1\n    return 5\n",
    )
    with running(text) as live:
        assert live.run("p", 0, 5) == 0 + 1 + 1 + 0 + 0
        assert live.run("p", 9, 5) - 2 == 1 + 0 + 0 + 1 + 1
        assert live.run("p", 2, 1) - 5 == 1 + 0 + 0 + 0 + 1


def test_a_map_on_the_right_side_is_not_touched() -> None:
    text = body(
        "if ctx[0] > 0 and seen.pop(1) is not None:", "    ctx[31] = 1",
        before="seen = Hash[u32, u64](4)\n",
    )
    with running(text) as live:
        live.module.seen[1] = 5
        assert live.run("p", 0) == 0 and 1 in live.module.seen
        assert live.run("p", 1) == 1 and 1 not in live.module.seen


@pytest.mark.parametrize("rounds", [100, 100_000])
def test_for_loops_short_and_by_bpf_loop(rounds: int) -> None:
    text = body(
        "total = 0",
        f"for i in range({rounds}):",
        "    if i == ctx[0]:", "        break",
        "    if i % 3 == 0:", "        continue",
        "    total += i",
        "ctx[31] = total",
    )
    with running(text) as live:
        for stop in (-1, 0, 50, rounds - 1):
            assert live.run("p", stop) == sum(i for i in range(rounds if stop < 0 else stop) if i % 3)


@pytest.mark.feature("A18 bounded loops, < and <=")
@pytest.mark.parametrize("rounds", [60, 100_000])
def test_while_loops(rounds: int) -> None:
    text = body(
        "i = 0", "total = 0",
        f"while i < {rounds}:",
        "    i += 1",
        "    if i > ctx[0]:", "        break",
        "    total += i",
        "ctx[31] = total",
    )
    with running(text) as live:
        for stop in (0, 10, rounds, rounds + 5):
            assert live.run("p", stop) == sum(range(1, min(stop, rounds) + 1))


def test_a_large_loop_with_a_tested_sum() -> None:
    text = body(
        "total = 0", "i = 7",
        "for i in range(50_000):",
        "    total += 3",
        "    if total > ctx[0]:", "        break",
        "    if total == 1000:", "        total += 5",
        "ctx[30] = i",
        "ctx[31] = total",
    )
    with running(text) as live:
        for limit in (100, 2000, 1 << 40):
            total, last = 0, 0
            for i in range(50_000):
                last = i
                total += 3
                if total > limit:
                    break
                if total == 1000:
                    total += 5
            assert live.words("p", limit)[30:] == [last, total]


def test_a_counter_is_no_constant_in_its_loop() -> None:
    text = body(
        "i, total, last = 0, 0, -1",
        "while i < 5:",
        "    total += 100 // (i - 1) if i > 1 else 1 << i",
        "    total += 1000 >> i",
        "    last = -(i ^ 9223372036854775809)",
        "    i += 1",
        "ctx[30], ctx[31] = total, last",
    )
    with running(text) as live:
        total = sum((100 // (i - 1) if i > 1 else 1 << i) + (1000 >> i) for i in range(5))
        assert live.words("p")[30:] == [total, -(4 ^ 9223372036854775809) % (1 << 64)]


def test_a_counter_that_is_set_back() -> None:
    needs("all_walked")  # older verifiers give such a loop up, and say so
    text = body(
        "i = 0", "turns = 0",
        "while i < 5:",
        "    i += 1",
        "    if i == 5 and turns < ctx[0] & 7:", "        i = 0", "        turns += 1",
        "    ctx[31] = ctx[31] + 1",
    )
    assert run(text, 3) == 20


def test_return_from_a_large_loop_and_from_a_nested_one() -> None:
    text = """
def first(n, limit):
    for i in range(50_000):
        if i * i >= n:
            return i
    return -1

def pair(n):
    for i in range(1_000):
        for j in range(1_000):
            if i * 1000 + j == n:
                return i, j
    return 0, 0

@syscall_prog
def p(ctx):
    ctx[30] = first(ctx[0], 3)
    a, b = pair(ctx[1])
    ctx[31] = a * 7 + b
"""
    with running(text) as live:
        for square, n in ((10_000, 123_456), (0, 0), (1 << 40, 999_999)):
            words = live.words("p", square, n)
            want = next((i for i in range(50_000) if i * i >= square), -1)
            assert words[30] == want & (1 << 64) - 1
            assert words[31] == n // 1000 * 7 + n % 1000


def test_loops_over_tuples_and_steps() -> None:
    text = body(
        "total = 0",
        "for x in (ctx[0], 10, ctx[1]):", "    total += x",
        "for i in range(10, -10, -3):", "    total += i * 1000",
        "for i in range(ctx[2] & 15):", "    total += 100_000",
        "ctx[31] = total",
    )
    assert run(text, 1, 2, 0x123) == 1 + 10 + 2 + sum(range(10, -10, -3)) * 1000 + 3 * 100_000


ORDER = """
h = Hash[u32, u64](8)
hits = Array[u64](1)

def helper(a, b):
    return a * 100 + b

def count():
    hits[0] += 1
    return 1

@syscall_prog
def p(ctx):
    x = ctx[0]
    ctx[10] = x + (x := 5)
    ctx[11] = x < (x := 9) < (x := 11)
    ctx[12] = min(x, (x := 2))
    a, b = x, (x := 77)
    ctx[13] = a + b * 1000
    ctx[14] = helper(x, (x := 3))
    if ctx[0] > 3 and (y := ctx[1] + 1) > 2:
        ctx[15] = y
    n = 0
    while (n := n + 1) < 7:
        ctx[16] = ctx[16] + n
    rounds = 0
    while True:
        rounds += 1
        if rounds > 5 and (rounds > 6 or not ctx[0] & 1):
            break
    ctx[17] = rounds
    if (ctx[0] or ctx[1]) and count() and False:
        ctx[18] = 5
    if (ctx[1] > 3 and count()) or True:
        ctx[19] = hits[0]
    h[1] = 5
    h[2] = h[1] + h[1]
    h[h[1]] = h[2]
    ctx[20] = h[5]
    del h[1], h[2]
    ctx[21] = (1 in h) + (5 in h)
    a = b = ctx[1]
    a += 1
    ctx[22] = a * b
    [c, d] = (a, b)
    ctx[23] = c - d
    flag = ctx[0] > 3 and not ctx[1] > 100
    ctx[24] = flag
    if ctx[0] > 100 and (late := ctx[1]) > 2:
        ctx[25] = late
"""


@pytest.mark.parametrize("inputs", [(7, 8), (0, 0), (200, 1), (-5, 300)])
def test_the_order_of_evaluation_is_pythons(inputs: tuple[int, int]) -> None:
    made = module(ORDER)
    context = [*inputs, *[0] * 30]
    made.p(context)
    with running(made) as live:
        assert [signed(word) for word in live.words("p", *inputs)] == [int(word) for word in context]


def test_match() -> None:
    text = body(
        "match ctx[0]:",
        "    case 1 | 2:", "        ctx[31] = 12",
        "    case -3:", "        ctx[31] = 3",
        "    case Kind.OTHER:", "        ctx[31] = 4",
        "    case _ if ctx[1] > 5:", "        ctx[31] = 5",
        "    case _:", "        ctx[31] = 6",
        before="import enum\nclass Kind(enum.IntEnum):\n    OTHER = 99\n",
    )
    with running(text) as live:
        got = [live.run("p", value, other) for value, other in ((1, 0), (2, 9), (-3, 9), (99, 9), (7, 9), (7, 1))]
        assert got == [12, 12, 3, 4, 5, 6]


# --------------------------------------------------------------------------
# Functions


def test_helpers_inlined_apart_and_from_another_module() -> None:
    module("""
SCALE = 3

def scaled(x):
    return inner(x) * SCALE

def inner(x):
    return x + 1

@subprogram
def apart(a, b):
    total = 0
    for i in range(10):
        if i > a:
            break
        total += b
    return total
""", "language_helpers")
    text = """
from language_helpers import apart, scaled
import language_helpers

SCALE = 1000

def twice(x, factor=2, *, plus=0):
    return x * factor + plus

@syscall_prog
def p(ctx):
    ctx[28] = scaled(ctx[0])
    ctx[29] = apart(ctx[0], ctx[1]) + apart(1, ctx[1])
    ctx[30] = twice(ctx[0]) + twice(ctx[0], 10) + twice(ctx[0], plus=SCALE)
    ctx[31] = language_helpers.inner(ctx[1])
"""
    with running(text) as live:
        assert live.words("p", 4, 7)[28:] == [15, 35 + 14, 8 + 40 + 8 + 1000, 8]
    with running(text) as live:
        names = set(live.live.progs["p"].spec.relocs and [r.target for r in live.live.progs["p"].spec.relocs])
        assert any("apart" in name for name in names), "a subprogram is called, not inlined"
        assert not any("scaled" in name for name in names), "a plain helper is inlined"


def test_subprograms_that_only_some_runs_have() -> None:
    """``when``: the function and what only it needs are loaded where the option is given."""
    text = """
extra = option("-x", "--extra", type=int)
seen = Hash[u64, u64](8)

@subprogram(when=extra)
def much(x):
    seen[x] += 1
    return x * extra + current.task.tgid * 0

@syscall_prog
def p(ctx):
    ctx[31] = ctx[0]
    if extra:
        ctx[31] = much(ctx[0])
"""
    with running(text) as live:
        assert live.words("p", 7)[31] == 7
        before = live.live.progs["p"].info().xlated_size
    with running(text, {"extra": 6}) as live:
        assert live.words("p", 7)[31] == 42
        assert dict(live.module.seen.items()) == {7: 1}
        assert live.live.progs["p"].info().xlated_size > before


def test_a_condition_is_for_plain_results() -> None:
    text = """
extra = option("-x", "--extra", type=int)

@subprogram(when=extra)
def both(x):
    return x, x + 1

@syscall_prog
def p(ctx):
    if extra:
        ctx[30], ctx[31] = both(ctx[0])
"""
    with pytest.raises(CompileError) as caught:
        compile_module(module(text))
    assert caught.value.what == "both() gives more than a number"
    assert caught.value.fix == "leave when= out, or return one number"


def test_helpers_give_optionals_tuples_and_truth() -> None:
    text = """
starts = Hash[u32, u64](8)

def since(key, now):
    start = starts.get(key)
    if start is None:
        return None
    return now - start

def split(x):
    return x // 10, x % 10, x > 50

def small(x):
    return 0 < x < 10

@syscall_prog
def p(ctx):
    took = since(ctx[0], 100)
    ctx[29] = -1 if took is None else took
    tens, ones, large = split(ctx[1])
    ctx[30] = tens + 100 * ones + (10_000 if large else 0)
    ctx[31] = small(tens)
"""
    with running(text) as live:
        live.module.starts[3] = 40
        assert live.words("p", 3, 47)[29:] == [60, 704, 1]
        assert live.words("p", 4, 99)[29:] == [(1 << 64) - 1, 9 + 900 + 10_000, 1]
