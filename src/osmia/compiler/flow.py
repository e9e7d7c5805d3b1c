# SPDX-License-Identifier: Apache-2.0
"""Branches and loops."""

from __future__ import annotations

from osmia.compiler import memory as mem
from osmia.compiler import syntax as ast
from osmia.compiler import tir
from osmia.compiler.assign import _assign_to, assign, assign_name
from osmia.compiler.core import Fn, Var
from osmia.compiler.dispatch import block, expr, statement
from osmia.compiler.truth import condition, narrowing
from osmia.compiler.values import (
    SINT,
    TBOOL,
    UINT,
    UNKNOWN,
    TConst,
    TTuple,
    Val,
    const,
    join,
    settled,
)
from osmia.lang.maps import Map

MAX_ROUNDS = 1 << 23  # BPF_MAX_LOOPS of bpf_loop (kernel/bpf/bpf_iter.c)


def _branch(fn: Fn, body: list[ast.stmt], names: set[str]) -> tuple[list[tir.Stmt], bool, dict[str, Var], set[str]]:
    """Compile one side of an ``if``: its statements, whether it ends control flow, and what is known after it."""
    env, known = dict(fn.env), set(fn.known)
    fn.known |= names
    stmts: list[tir.Stmt] = []
    with fn.into(stmts):
        ended = block(fn, body)
    after_env, after_known = fn.env, fn.known
    fn.env, fn.known = env, known
    return stmts, ended, after_env, after_known


@statement(ast.If)
def _if(fn: Fn, node: ast.If) -> bool:
    test = condition(fn, node.test)
    yes, no = narrowing(fn, node.test)
    if isinstance(test, tir.Const):  # decided when compiling
        chosen, names = (node.body, yes) if test.value else (node.orelse, no)
        fn.known |= names
        return block(fn, chosen)
    test = fn.keep(test) if not isinstance(test, (tir.Cmp, tir.Get, tir.And, tir.Or, tir.Not)) else test
    then, then_ends, then_env, then_known = _branch(fn, node.body, yes)
    orelse, else_ends, else_env, else_known = _branch(fn, node.orelse, no)
    fn.at(node)
    fn.if_(test, then, orelse)
    if then_ends and else_ends:
        return True
    if then_ends:
        fn.env, fn.known = else_env, else_known | no
    elif else_ends:
        fn.env, fn.known = then_env, then_known | yes
    else:
        fn.env = _meet(fn, then, orelse, then_env, else_env)
        fn.known = (then_known | (yes if not node.body else set())) & else_known
    return False


def _meet(fn: Fn, then: list[tir.Stmt], orelse: list[tir.Stmt], a: dict[str, Var], b: dict[str, Var]) -> dict[str, Var]:
    """Variables after both sides: those that both have, in locals that both sides have filled."""
    out: dict[str, Var] = {}
    for name, var in a.items():
        other = b.get(name)
        if other is None:
            continue
        if other is var:
            out[name] = var
            continue
        wider = join(var.ft, other.ft)
        if wider is None:
            continue
        wider = settled(wider)
        if fn.types.get(name) != wider:
            joined = join(fn.types.get(name, wider), wider)
            if joined is not None and joined != fn.types.get(name):
                fn.types[name] = settled(joined)
                fn.changed = True
        target = fn.vars.get((name, wider)) or fn.vars.setdefault((name, wider), fn.bind(name, wider))
        for side, source in ((then, var), (orelse, other)):
            if source is not target:
                with fn.into(side):
                    assign(fn, fn.source.node, target, fn.read(source))
        out[name] = target
    return out


def _loop(fn: Fn, body: list[ast.stmt], before: set[str]) -> list[tir.Stmt]:
    """Compile a loop's body: variables that it assigns have their final type from the start."""
    changed = {n.id for s in body for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for name in changed & set(fn.env):
        want = fn.types.get(name)
        have = fn.env[name]
        if want is not None and want != have.ft:
            joined = join(want, have.ft)
            if joined is not None:
                var = fn.vars.get((name, joined)) or fn.vars.setdefault((name, joined), fn.bind(name, joined))
                assign(fn, fn.source.node, var, fn.read(have))
                fn.env[name] = var
    fn.known -= changed
    env, known = dict(fn.env), set(fn.known)
    fn.known |= before
    stmts: list[tir.Stmt] = []
    fn.loop_depth += 1
    with fn.into(stmts):
        block(fn, body)
    fn.loop_depth -= 1
    for name in changed & set(env):
        if fn.env[name] is not env[name]:
            fn.changed = True  # the next pass knows the type from the start
    fn.env, fn.known = env, known
    return stmts


@statement(ast.While)
def _while(fn: Fn, node: ast.While) -> bool:
    _no_else(fn, node)
    body: list[tir.Stmt] = []
    yes, _ = narrowing(fn, node.test)
    changed = {n.id for s in node.body for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    _widen(fn, changed)
    test_stmts: list[tir.Stmt] = []
    with fn.into(test_stmts):
        test = condition(fn, node.test)
    body = _loop(fn, node.body, yes)
    bound = _bound_of(fn, node)
    if test_stmts:
        stop: list[tir.Stmt] = [tir.Break(fn.loc)]
        body = [*test_stmts, tir.If(fn.loc, fn.not_(test), stop), *body]
        test = fn.flag(True)
    fn.emit(tir.While(fn.loc, test, body, bound))
    return False


def _widen(fn: Fn, names: set[str]) -> None:
    """Before a loop: variables that it assigns move into locals of their final type."""
    for name in names & set(fn.env):
        want, have = fn.types.get(name), fn.env[name]
        if want is not None and want != have.ft and join(want, have.ft) is not None:
            var = fn.vars.get((name, want)) or fn.vars.setdefault((name, want), fn.bind(name, want))
            assign(fn, fn.source.node, var, fn.read(have))
            fn.env[name] = var
        elif fn.first and isinstance(have.ft, TConst) and isinstance(have.ft.value, int):
            # It will change in the loop, so it must not be computed with as the constant that it starts as.  The
            # narrowest type that is no constant: what the loop assigns decides, and the next pass knows.
            start = have.ft.value
            var = fn.bind(name, TBOOL if isinstance(start, bool) else UINT if start >= 0 else SINT)
            assign(fn, fn.source.node, var, fn.read(have))
            fn.env[name] = var
            fn.changed = True
    fn.known -= names


def _bound_of(fn: Fn, node: ast.While) -> int | None:
    """The most rounds of ``while i < CONSTANT`` where ``i`` starts at 0 or above and only ever counts up.

    None leaves it to the verifier, which follows a loop round by round.
    """
    test = node.test
    if not (isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.left, ast.Name)):
        return None
    if not isinstance(test.ops[0], (ast.Lt, ast.LtE)):
        return None
    with fn.into([]):
        limit = expr(fn, test.comparators[0]).const
    if limit is UNKNOWN or not isinstance(limit, int) or not 0 <= limit < MAX_ROUNDS:
        return None
    name = test.left.id
    counted = any(_counts_up(stmt, name) for stmt in node.body)
    ups = {id(s.target) for s in ast.walk(node) if isinstance(s, ast.AugAssign) and _counts_up(s, name)}
    stores = [n for n in ast.walk(node) if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store)]
    only_up = all(id(n) in ups for n in stores)  # set back to 0 in the loop, it would run longer
    return limit + 1 if counted and only_up and _never_negative(fn.source.node, name) else None


def _counts_up(stmt: ast.stmt, name: str) -> bool:
    """Whether ``stmt`` is ``name += CONSTANT`` with a positive constant."""
    return (
        isinstance(stmt, ast.AugAssign) and isinstance(stmt.op, ast.Add) and isinstance(stmt.target, ast.Name)
        and stmt.target.id == name and isinstance(stmt.value, ast.Constant)
        and isinstance(stmt.value.value, int) and stmt.value.value >= 1
    )


def _never_negative(function: ast.FunctionDef, name: str) -> bool:
    """Whether every assignment to ``name`` in the function is a constant from 0, or counts up."""
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
            owner = next(
                (s for s in ast.walk(function) if isinstance(s, ast.Assign) and node in s.targets), None
            )
            if owner is None:
                if not any(isinstance(s, ast.AugAssign) and s.target is node and _counts_up(s, name)
                           for s in ast.walk(function)):
                    return False
            elif not (isinstance(owner.value, ast.Constant) and isinstance(owner.value.value, int)):
                return False
    return name not in {a.arg for a in function.args.args}


@statement(ast.For)
def _for(fn: Fn, node: ast.For) -> bool:
    _no_else(fn, node)
    if isinstance(node.iter, (ast.Tuple, ast.List)) or not isinstance(node.iter, ast.Call):
        value = expr(fn, node.iter) if not isinstance(node.iter, ast.List) else None
        if value is not None and isinstance(value.ft, TTuple):
            return _for_tuple(fn, node, mem.split(value))
        fn.fail(node.iter, "kernel code loops over range(...) and tuples only", "for i in range(n): ...")
    func = node.iter.func
    if isinstance(func, ast.Attribute) and isinstance(expr(fn, func.value).const, Map):
        fn.fail(node.iter, "kernel code cannot walk a map", "look up keys, or walk it on the user side")
    if isinstance(func, ast.Attribute) or expr(fn, func).const is not range:
        fn.fail(node.iter, "kernel code loops over range(...) and tuples only", "for i in range(n): ...")
    if not isinstance(node.target, ast.Name):
        fn.fail(node.target, "range() gives one number")
    start, stop, step, bound = _range(fn, node, node.iter)
    changed = {n.id for s in node.body for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    _widen(fn, changed | {node.target.id})
    counter = fn.local(tir.S64, "i")
    name = node.target.id
    head: list[tir.Stmt] = []
    with fn.into(head):
        assign_name(fn, node.target, name, Val(SINT, [fn.get(counter)]))
    inside = dict(fn.env)
    body = head + _loop(fn, node.body, set())
    var = inside[name]
    fn.env = {k: v for k, v in fn.env.items() if k != name}
    if bound and _constant_positive(start, stop):
        fn.env[name] = var
    fn.emit(tir.For(fn.loc, counter, start, stop, step, body, bound))
    return False


def _constant_positive(start: tir.Expr, stop: tir.Expr) -> bool:
    """Whether the loop certainly runs, so that its variable has a value afterwards."""
    return isinstance(start, tir.Const) and isinstance(stop, tir.Const) and stop.value != start.value


def _range(fn: Fn, node: ast.For, call: ast.Call) -> tuple[tir.Expr, tir.Expr, int, int]:
    if call.keywords or not 1 <= len(call.args) <= 3:
        fn.fail(call, "range() takes 1 to 3 numbers")
    values = [expr(fn, a) for a in call.args]
    step = fn.constant_int(values[2], call.args[2], "the step of range()") if len(values) == 3 else 1
    if step == 0:
        fn.fail(call.args[2], "the step of range() is zero")
    first, last = (const(0), values[0]) if len(values) == 1 else (values[0], values[1])
    start = fn.keep(fn.as_int(first, call.args[0])[0])
    stop = fn.keep(fn.as_int(last, call.args[0 if len(values) == 1 else 1])[0])
    if first.const is not UNKNOWN and last.const is not UNKNOWN:
        rounds = len(range(int(first.const), int(last.const), step))
    else:
        rounds = _largest(fn, call, first, step)
    if rounds > MAX_ROUNDS:
        fn.fail(call, f"{rounds} rounds are more than the kernel allows ({MAX_ROUNDS})")
    return start, stop, step, rounds


def _largest(fn: Fn, call: ast.Call, first: Val, step: int) -> int:
    """The most rounds of ``range(n)``: from ``min(n, CONSTANT)``, a mask, or a remainder."""
    node = call.args[0 if len(call.args) == 1 else 1]
    limit = upper_bound(fn, node)
    low = first.const
    if limit is None or low is UNKNOWN or step < 1:
        fn.fail(
            node, "the number of rounds must have a limit that is known when compiling",
            f"range(min({ast.unparse(node)}, 100))",
        )
    return max(0, -(-(limit - int(low)) // step))


def upper_bound(fn: Fn, node: ast.expr) -> int | None:
    """The largest value that the expression can have, where its form shows it."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "min":
        bounds = [b for a in node.args if (b := upper_bound(fn, a)) is not None]
        return min(bounds) if bounds else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.Mod)):
        sides = [node.right, node.left] if isinstance(node.op, ast.BitAnd) else [node.right]
        bounds = [b for side in sides if (b := upper_bound(fn, side)) is not None and b >= 0]
        return min(bounds) if bounds else None
    with fn.into([]):
        value = expr(fn, node).const
    return int(value) if isinstance(value, int) else None


def _for_tuple(fn: Fn, node: ast.For, parts: list[Val]) -> bool:
    """``for x in (a, b, c)``: one copy of the body for each."""
    for inner in node.body:
        for deep in ast.walk(inner):
            if isinstance(deep, (ast.Break, ast.Continue)):
                fn.fail(deep, "break and continue do not work in a loop over a tuple", "loop over range(...)")
    for part in parts:
        _assign_to(fn, node.target, part)
        if block(fn, node.body):
            return True
    return False


def _no_else(fn: Fn, node: ast.For | ast.While) -> None:
    if node.orelse:
        fn.fail(node.orelse[0], "else after a loop is not possible in kernel code", "use a variable as a flag")
