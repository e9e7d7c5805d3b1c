# SPDX-License-Identifier: Apache-2.0
"""Which loops become calls of bpf_loop, and what lands in the frame."""

from __future__ import annotations

from backend_tir import LOC, Prog, addr, c, cmp, for_, g, helper, if_, inc, ret, set_, var, while_

from osmia.compiler import tir
from osmia.compiler.emit import assembly
from osmia.compiler.loops import MAX_ROUNDS, Planner
from osmia.compiler.lower import lower
from osmia.compiler.walk import locals_of


def big(prog: Prog) -> list[bool]:
    """Whether each loop of the program is big, in the order of the text."""
    plan = Planner().plan(prog.func)
    found = []

    def look(stmts: list[tir.Stmt]) -> None:
        for s in stmts:
            if isinstance(s, (tir.For, tir.While)):
                found.append(id(s) in plan.big)
                look(s.body)
            elif isinstance(s, tir.If):
                look(s.then)
                look(s.orelse)

    look(prog.func.body)
    return found


def test_rounds_times_body_decides() -> None:
    i, x = var("i"), var("x")
    small = for_(i, c(0), c(100), [inc(x, c(1))], 100)
    large = for_(i, c(0), c(100_000), [inc(x, c(1))], 100_000)
    assert big(Prog().body(small, large)) == [False, True]
    assert big(Prog().body(while_(cmp("ne", g(x), c(0)), [inc(x, c(1))], 100_000))) == [True]
    assert big(Prog().body(while_(cmp("ne", g(x), c(0)), [inc(x, c(1))]))) == [False]


def test_of_nested_loops_the_inner_one_stays_plain_if_it_can() -> None:
    i, j, x = var("i"), var("j"), var("x")
    inner = for_(j, c(0), c(1000), [inc(x, c(1))], 1000)
    assert big(Prog().body(for_(i, c(0), c(1000), [inner], 1000))) == [True, False]
    huge = for_(j, c(0), c(100_000), [inc(x, c(1))], 100_000)
    # a call of bpf_loop is cheap, so that a few rounds of it are a plain loop
    assert big(Prog().body(for_(i, c(0), c(10), [huge], 10))) == [False, True]


def test_the_size_of_a_called_function_counts() -> None:
    prog = Prog()
    x, i = var("x"), var("i")
    sub = prog.sub("sub", [x], [inc(x, c(1)) for _ in range(100)])
    call = tir.Eval(LOC, tir.Call(tir.S64, LOC, sub, [c(1)]))
    prog.body(for_(i, c(0), c(500), [call], 500))
    assert big(prog) == [True]


def test_only_what_the_body_shares_is_in_the_frame() -> None:
    i, x, y, area, own = var("i"), var("x"), var("y"), var("area", tir.Array(tir.U8, 20)), var("own")
    prog = Prog()
    body = [set_(own, g(i)), inc(x, g(own)), tir.Eval(LOC, helper(16, addr(area), c(20)))]
    prog.body(set_(y, c(4)), for_(i, c(0), g(y), body, 100_000), ret(g(y)))
    plan = Planner().plan(prog.func)
    assert list(plan.frame.locals) == [x, area]
    assert all(offset % 8 == 0 for offset in plan.frame.locals.values())
    assert plan.frame.returned == -1
    assert plan.frame.size == 8 + 24
    assert list(plan.own.values()) == [[i, own]]


def test_what_a_round_may_read_of_the_one_before_is_in_the_frame() -> None:
    i, always, sometimes, after = var("i"), var("always"), var("sometimes"), var("after")
    prog = Prog()
    odd = cmp("eq", g(i), c(1))
    body = [
        if_(odd, [set_(sometimes, c(1)), set_(always, c(1))], [set_(always, c(2))]),
        if_(odd, [tir.Continue(LOC)], [set_(after, c(3))]),
        tir.Eval(LOC, helper(5, g(sometimes), g(always), g(after))),
    ]
    prog.body(for_(i, c(0), c(100_000), body, 100_000), ret(c(0)))
    plan = Planner().plan(prog.func)
    assert list(plan.frame.locals) == [sometimes]
    assert list(plan.own.values()) == [[i, always, after]]


def test_each_loop_inside_a_loop_has_its_own() -> None:
    i, j, inner, outer, both = var("i"), var("j"), var("inner"), var("outer"), var("both")
    prog = Prog()
    inside = for_(j, c(0), c(50_000), [set_(inner, g(j)), set_(both, g(inner))], 50_000)
    prog.body(for_(i, c(0), c(50_000), [set_(outer, g(i)), set_(both, g(outer)), inside], 50_000), ret(c(0)))
    plan = Planner().plan(prog.func)
    assert list(plan.frame.locals) == [both]
    assert sorted(plan.own.values(), key=len) == [[i, outer], [j, inner]]


def test_a_return_in_the_body_needs_room_for_its_value() -> None:
    i, x = var("i"), var("x")
    prog = Prog().body(for_(i, c(0), g(x), [if_(cmp("eq", g(i), c(3)), [ret(c(1))])], 100_000))
    frame = Planner().plan(prog.func).frame
    assert frame.returned >= 0
    assert frame.value == frame.returned + 8


def test_more_rounds_than_one_call_allows_need_a_base() -> None:
    i, x = var("i"), var("x")
    loop = for_(i, c(0), c(MAX_ROUNDS + 1), [inc(x, c(1))], MAX_ROUNDS + 1)
    assert id(loop) in Planner().plan(Prog().body(loop).func).frame.bases


def test_both_ways_are_in_the_object_and_the_enumerator_decides() -> None:
    i, x = var("i"), var("x")
    prog = Prog().body(for_(i, c(0), c(100_000), [inc(x, g(i))], 100_000), ret(g(x)))
    text = assembly(lower(prog.module))
    assert "call 181" in text
    assert "call prog_loop0" in text
    assert "prog_loop0 ll" in text


def test_a_plain_loop_does_without() -> None:
    i, x = var("i"), var("x")
    prog = Prog().body(for_(i, c(0), prog_bound := c(100), [inc(x, g(i))], prog_bound.value), ret(g(x)))
    text = assembly(lower(prog.module))
    assert "call 181" not in text


def test_locals_in_order_of_appearance() -> None:
    a, b, i = var("a"), var("b"), var("i")
    assert locals_of([set_(b, g(a)), for_(i, c(0), c(1), [inc(a, c(1))], 1)]) == [b, a, i]
