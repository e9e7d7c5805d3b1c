# SPDX-License-Identifier: Apache-2.0
"""Statements of kernel code; what is not here is refused."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from osmia.compiler import eventops, mapops, numbers, tir
from osmia.compiler import memory as mem
from osmia.compiler.core import Fn, Frame, Var, describe
from osmia.compiler.exprs import assign, condition, converted, expr, narrowing
from osmia.compiler.layout import memory
from osmia.compiler.values import (
    FT,
    NONE,
    SINT,
    UNKNOWN,
    TConst,
    TEmbed,
    TEvent,
    TOpt,
    TPtr,
    TRef,
    TTuple,
    Val,
    const,
    join,
    settled,
)
from osmia.lang.hist import Hist
from osmia.lang.maps import Map, Ring

MAX_ROUNDS = 1 << 23  # BPF_MAX_LOOPS of bpf_loop (kernel/bpf/bpf_iter.c)


def function_body(fn: Fn) -> None:
    """Compile the body of ``fn``'s function."""
    node = fn.source.node
    _check_signature(fn, node)
    fn.assigned = _assigned_names(node)
    for name, var in fn.params.items():
        fn.env[name] = var
        if name in fn.assigned and name not in fn.types:
            fn.types[name] = settled(var.ft)
        if name in fn.assigned:
            copy = fn.bind(name, fn.types[name])
            assign(fn, node, copy, fn.read(var))
            fn.env[name] = copy
    if not block(fn, node.body):
        _return_value(fn, node, const(None))


def _check_signature(fn: Fn, node: ast.FunctionDef) -> None:
    args = node.args
    if args.vararg or args.kwarg:
        fn.fail(args.vararg or args.kwarg, "a kernel function takes a fixed number of arguments", "name each of them")


def _assigned_names(node: ast.FunctionDef) -> set[str]:
    """Names that the function binds (they are local to it, as in Python)."""
    out: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            out.add(inner.id)
    return out


def block(fn: Fn, body: list[ast.stmt]) -> bool:
    """Compile statements; True where control never reaches their end."""
    for at, stmt in enumerate(body):
        fn.at(stmt)
        handler = _HANDLERS.get(type(stmt))
        if handler is None:
            what, fix = _REFUSED.get(type(stmt), (f"{type(stmt).__name__} is not possible in kernel code", ""))
            fn.fail(stmt, what, fix)
        if handler(fn, stmt):
            for rest in body[at + 1 :]:  # never runs; still has to be something that exists
                if type(rest) not in _HANDLERS:
                    fn.fail(rest, *_REFUSED.get(type(rest), ("this is not possible in kernel code", "")))
            return True
    return False


# --------------------------------------------------------------------------
# Assignment


def assign_name(fn: Fn, node: ast.AST, name: str, value: Val) -> None:
    """``name = value``; the variable's type is the join of all its assignments."""
    ft = settled(value.ft)
    have = fn.types.get(name)
    if have is None:
        fn.types[name] = ft
        fn.changed = fn.changed or not isinstance(ft, TConst)
        have = ft
    wider = join(have, ft)
    if wider is None:
        before = describe(Val(have, []))
        fn.fail(node, f"{name!r} was {before} and becomes {describe(value)}", "use two variables")
    wider = settled(wider)
    if wider != have:
        fn.types[name] = have = wider
        fn.changed = True
    var = fn.env.get(name)
    if var is None or var.ft != have:
        var = fn.vars.get((name, have))
        if var is None:
            var = fn.vars[name, have] = fn.bind(name, have)
    assign(fn, node, var, value)
    fn.env[name] = var
    fn.known.discard(name)
    if isinstance(have, TOpt) and not isinstance(value.ft, TOpt) and value.ft != NONE:
        fn.known.add(name)


def _assign(fn: Fn, node: ast.Assign) -> bool:
    value = expr(fn, node.value)
    fn.at(node)
    if len(node.targets) > 1:
        value = Val(value.ft, [fn.keep(e) for e in value.exprs])
    for target in node.targets:
        _assign_to(fn, target, value)
    return False


def _assign_to(fn: Fn, target: ast.expr, value: Val) -> None:
    if isinstance(target, ast.Name):
        assign_name(fn, target, target.id, value)
    elif isinstance(target, (ast.Tuple, ast.List)):
        _unpack(fn, target, value)
    elif isinstance(target, ast.Attribute):
        _assign_attribute(fn, target, value)
    elif isinstance(target, ast.Subscript):
        _assign_element(fn, target, value)
    else:
        fn.fail(target, "this cannot be assigned to in kernel code")


def _unpack(fn: Fn, target: ast.Tuple | ast.List, value: Val) -> None:
    if not isinstance(value.ft, TTuple):
        fn.expected(value, target, f"a tuple of {len(target.elts)} values")
    parts = mem.split(value)
    if len(parts) != len(target.elts):
        fn.fail(target, f"{len(target.elts)} names for a tuple of {len(parts)} values")
    parts = [Val(p.ft, [fn.keep(e) for e in p.exprs]) for p in parts]
    for one, part in zip(target.elts, parts, strict=True):
        if isinstance(one, ast.Starred):
            fn.fail(one, "unpacking with * is not possible in kernel code")
        _assign_to(fn, one, part)


def _assign_attribute(fn: Fn, target: ast.Attribute, value: Val) -> None:
    owner = expr(fn, target.value)
    fn.at(target)
    if isinstance(owner.ft, (TEvent, TRef)):
        eventops.assign_field(fn, target, owner, value)
        return
    if isinstance(owner.ft, (TPtr, TEmbed)):
        fn.fail(target, "kernel and user memory cannot be written by a tracing program")
    fn.expected(owner, target.value, "an event or a structure of yours")


def _assign_element(fn: Fn, target: ast.Subscript, value: Val) -> None:
    owner = expr(fn, target.value)
    index = expr(fn, target.slice)
    fn.at(target)
    item = owner.const
    if isinstance(item, Map):
        mapops.store(fn, target, item, index, value)
    elif isinstance(item, Hist):
        fn.fail(target, "a histogram is filled with add()", "write h[key].add(value)")
    elif isinstance(owner.ft, TRef):
        place, kind = mem.own_element(fn, target, owner, index)
        if kind is int:
            fn.store(place, fn.as_int(value, target)[0], tir.U8)
        else:
            mem.write(fn, target, place, kind, value)
    elif isinstance(owner.ft, TPtr) and owner.ft.space == "ctx" and owner.ft.kt is None:
        at = fn.constant_int(index, target.slice, "the index")
        fn.store(fn.offset(owner.exprs[0], 8 * at), fn.as_int(value, target)[0], tir.S64)
    elif isinstance(owner.ft, (TPtr, TEmbed)):
        fn.fail(target, "kernel and user memory cannot be written by a tracing program")
    else:
        fn.expected(owner, target.value, "a map or an array of yours")


def _ann_assign(fn: Fn, node: ast.AnnAssign) -> bool:
    if not isinstance(node.target, ast.Name) or node.value is None:
        fn.fail(node, "an annotation without a value has no meaning in kernel code", "assign a value")
    from osmia.compiler.calls import _construct

    kind = expr(fn, node.annotation).const
    call = ast.Call(func=node.annotation, args=[node.value], keywords=[])
    ast.copy_location(call, node.value)
    numeric = isinstance(kind, type) and issubclass(kind, int)
    value = _construct(fn, call, kind) if numeric else expr(fn, node.value)
    assign_name(fn, node.target, node.target.id, value)
    return False


def _aug_assign(fn: Fn, node: ast.AugAssign) -> bool:
    target = node.target
    if isinstance(target, ast.Name):
        left = expr(fn, ast.copy_location(ast.Name(id=target.id, ctx=ast.Load()), target))
        right = expr(fn, node.value)
        fn.at(node)
        assign_name(fn, target, target.id, numbers.binary(fn, node, node.op, left, right, target, node.value))
        return False
    if isinstance(target, ast.Subscript):
        owner = expr(fn, target.value)
        if isinstance(owner.const, Map):
            _map_update(fn, node, target, owner.const)
            return False
        if isinstance(owner.ft, TRef):
            index = expr(fn, target.slice)
            place, kind = mem.own_element(fn, target, owner, index)
            _memory_update(fn, node, place, kind)
            return False
    if isinstance(target, ast.Attribute):
        owner = expr(fn, target.value)
        if isinstance(owner.ft, (TRef, TEvent)):
            field = mem.own_field(fn, target, owner)
            _memory_update(fn, node, fn.offset(owner.exprs[0], field.offset), field.type)
            return False
    fn.fail(node, "this cannot be updated in kernel code")


def _map_update(fn: Fn, node: ast.AugAssign, target: ast.Subscript, item: Map) -> None:
    """``m[k] += n`` (atomic); other operators read, compute and store."""
    index = expr(fn, target.slice)
    index = Val(index.ft, [fn.keep(e) for e in index.exprs])
    amount = expr(fn, node.value)
    fn.at(node)
    if isinstance(node.op, (ast.Add, ast.Sub)):
        number, _ = fn.as_int(amount, node.value)
        if isinstance(node.op, ast.Sub):
            number = fn.bin("sub", fn.num(0), number)
        mapops.add(fn, node, item, index, number)
        return
    old = mapops.load(fn, target, item, index)
    new = numbers.binary(fn, node, node.op, old, amount, target, node.value)
    mapops.store(fn, target, item, index, new)


def _memory_update(fn: Fn, node: ast.AugAssign, place: tir.Expr, kind: Any) -> None:
    """``ref.field += n``: atomic on 32 and 64-bit numbers, since the memory may be shared."""
    place = fn.keep(place)
    amount = expr(fn, node.value)
    fn.at(node)
    what: Any = tir.U8 if kind is int else memory(kind)
    if isinstance(node.op, (ast.Add, ast.Sub)) and isinstance(what, tir.Int) and what.bits >= 32:
        number, _ = fn.as_int(amount, node.value)
        if isinstance(node.op, ast.Sub):
            number = fn.bin("sub", fn.num(0), number)
        mapops.atomic_add(fn, place, number, what)
        return
    old = mem.read(fn, place, kind)
    mem.write(fn, node, place, kind, numbers.binary(fn, node, node.op, old, amount, node.target, node.value))


def _delete(fn: Fn, node: ast.Delete) -> bool:
    for target in node.targets:
        item = expr(fn, target.value).const if isinstance(target, ast.Subscript) else None
        if not isinstance(item, Map):
            fn.fail(target, "del works on map entries only: del m[key]")
        assert isinstance(target, ast.Subscript)
        mapops.delete(fn, target, item, expr(fn, target.slice))
    return False


# --------------------------------------------------------------------------
# Control flow


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
    counted = any(_counts_up(stmt, test.left.id) for stmt in node.body)
    return limit + 1 if counted and _never_negative(fn.source.node, test.left.id) else None


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


def _for(fn: Fn, node: ast.For) -> bool:
    _no_else(fn, node)
    if isinstance(node.iter, (ast.Tuple, ast.List)) or not isinstance(node.iter, ast.Call):
        value = expr(fn, node.iter) if not isinstance(node.iter, ast.List) else None
        if value is not None and isinstance(value.ft, TTuple):
            return _for_tuple(fn, node, mem.split(value))
        fn.fail(node.iter, "kernel code loops over range(...) and tuples only", "for i in range(n): ...")
    target = expr(fn, node.iter.func)
    if target.const is not range:
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
        right = upper_bound(fn, node.right)
        return right if right is not None and right >= 0 else None
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


def _leave_frames(fn: Fn, depth: int) -> None:
    """Send the events whose blocks a return, break or continue leaves, innermost first."""
    for frame in reversed(fn.frames):
        if frame.loop_depth >= depth:
            frame.close()


def _break(fn: Fn, node: ast.Break) -> bool:
    _leave_frames(fn, fn.loop_depth)
    fn.emit(tir.Break(fn.loc))
    return True


def _continue(fn: Fn, node: ast.Continue) -> bool:
    _leave_frames(fn, fn.loop_depth)
    fn.emit(tir.Continue(fn.loc))
    return True


def _return(fn: Fn, node: ast.Return) -> bool:
    value = expr(fn, node.value) if node.value is not None else const(None)
    fn.at(node)
    value = Val(value.ft, [fn.keep(e) for e in value.exprs])
    _return_value(fn, node, value)
    return True


def _return_value(fn: Fn, node: ast.AST, value: Val) -> None:
    if fn.entry:
        _leave_frames(fn, 0)
        number = fn.num(0) if value.const is None else fn.as_int(value, node)[0]
        fn.emit(tir.Return(fn.loc, number))
        return
    ft = settled(mem.pointer(fn, value).ft)
    wider = ft if fn.ret is None else join(fn.ret, ft)
    if wider is None:
        fn.fail(node, f"one return gives {describe(Val(fn.ret or NONE, []))}, another {describe(value)}")
    fn.ret = wider
    final: FT = fn.ret_known if fn.ret_known is not None else wider
    reach = join(final, ft)
    if reach is None or reach != final:
        final = wider  # this pass is thrown away: the next one starts from the wider type
    parts = converted(fn, node, final, mem.pointer(fn, value)) if final != NONE else []
    if fn.out is not None:
        _store_result(fn, node, parts)
        _leave_frames(fn, 0)
        fn.emit(tir.Return(fn.loc))
        return
    _leave_frames(fn, 0)
    single = parts[0] if len(parts) == 1 and isinstance(parts[0], tir.Expr) else None
    fn.emit(tir.Return(fn.loc, single))


def _store_result(fn: Fn, node: ast.AST, parts: list[Any]) -> None:
    assert fn.out is not None and fn.out_struct is not None
    for member, part in zip(fn.out_struct.members, parts, strict=False):
        place = fn.offset(fn.get(fn.out), member.offset)
        if isinstance(part, Val):
            fn.fail(node, "a helper function cannot give back text", "pass it where it goes, or give back a pointer")
        fn.store(place, part, member.type)


# --------------------------------------------------------------------------
# with, match, and the rest


def _with(fn: Fn, node: ast.With) -> bool:
    if len(node.items) != 1:
        fn.fail(node, "one event at a time", "nest the with statements")
    item = node.items[0]
    call = item.context_expr
    ring = None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "reserve":
        ring = expr(fn, call.func.value).const
    if not isinstance(ring, Ring):
        fn.fail(call, "with works on ring.reserve() only in kernel code", "with ring.reserve() as e: ...")
    if not isinstance(item.optional_vars, ast.Name):
        fn.fail(call, "the event needs a name", "with ring.reserve() as e: ...")
    name = item.optional_vars.id

    def body(event: Val, close: Callable[[], None]) -> None:
        env, known = dict(fn.env), set(fn.known)
        fn.env[name] = Var(event.ft, [_hold(fn, e) for e in event.exprs])
        fn.frames.append(Frame(close, fn.loop_depth))
        ended = block(fn, node.body)
        fn.frames.pop()
        if not ended:
            close()
        fn.env, fn.known = env, known

    eventops.reserve_block(fn, node, ring, name, body)
    return False


def _hold(fn: Fn, e: tir.Expr) -> tir.Local:
    if isinstance(e, tir.Get):
        return e.local
    local = fn.local(tir.Ptr("mem"), "event")
    fn.set(local, e)
    return local


def _match(fn: Fn, node: ast.Match) -> bool:
    """``match`` on numbers: a chain of ifs."""
    subject = expr(fn, node.subject)
    subject = numbers.settle(fn, subject, node.subject)
    name = f"match@{node.lineno}"
    fn.env[name] = Var(subject.ft, [_hold_number(fn, e) for e in subject.exprs])
    chain: list[ast.stmt] = []
    for case in reversed(node.cases):
        test = _pattern(fn, node, case.pattern, name)
        if case.guard is not None:
            test = case.guard if test is None else ast.BoolOp(op=ast.And(), values=[test, case.guard])
        if test is None:
            chain = case.body
            continue
        ast.copy_location(test, case.pattern)
        chain = [ast.copy_location(ast.If(test=test, body=case.body, orelse=chain), case.pattern)]
    for stmt in chain:
        ast.fix_missing_locations(stmt)
    return block(fn, chain)


def _hold_number(fn: Fn, e: tir.Expr) -> tir.Local:
    local = fn.local(e.type, "subject")  # type: ignore[arg-type]
    fn.set(local, e)
    return local


def _pattern(fn: Fn, node: ast.Match, pattern: ast.pattern, name: str) -> ast.expr | None:
    """The test for a pattern; None for the one that always matches."""
    if isinstance(pattern, ast.MatchValue):
        subject = ast.copy_location(ast.Name(id=name, ctx=ast.Load()), pattern)
        test = ast.Compare(left=subject, ops=[ast.Eq()], comparators=[pattern.value])
        return ast.copy_location(test, pattern)
    if isinstance(pattern, ast.MatchOr):
        tests = [t for p in pattern.patterns if (t := _pattern(fn, node, p, name)) is not None]
        return ast.copy_location(ast.BoolOp(op=ast.Or(), values=tests), pattern)
    if isinstance(pattern, ast.MatchAs) and pattern.pattern is None and pattern.name is None:
        return None
    fn.fail(pattern, "match takes numbers, alternatives with | and _ in kernel code", "use if / elif")


def _expr_stmt(fn: Fn, node: ast.Expr) -> bool:
    if isinstance(node.value, ast.Constant):  # a docstring
        return False
    value = expr(fn, node.value)
    for part in value.exprs:
        if not isinstance(part, (tir.Get, tir.Const, tir.AddrOf, tir.Global)):
            fn.emit(tir.Eval(fn.loc, part))
    return False


def _pass(fn: Fn, node: ast.Pass) -> bool:
    return False


_HANDLERS: dict[type[ast.stmt], Callable[[Fn, Any], bool]] = {
    ast.Assign: _assign, ast.AnnAssign: _ann_assign, ast.AugAssign: _aug_assign, ast.Delete: _delete, ast.If: _if,
    ast.While: _while, ast.For: _for, ast.Break: _break, ast.Continue: _continue, ast.Return: _return,
    ast.With: _with, ast.Match: _match, ast.Expr: _expr_stmt, ast.Pass: _pass,
}
_REFUSED: dict[type[ast.stmt], tuple[str, str]] = {
    ast.Try: ("exceptions do not exist in kernel code", "test for None or zero instead"),
    ast.Raise: ("exceptions do not exist in kernel code", "count it: lost(\"why\"), or return"),
    ast.Assert: ("assert does not exist in kernel code", "write an if and return"),
    ast.Import: ("an import belongs at the top of the module", ""),
    ast.ImportFrom: ("an import belongs at the top of the module", ""),
    ast.Global: ("a module variable cannot be changed by kernel code", "use a map: Array[u64](1)"),
    ast.Nonlocal: ("an outer variable cannot be changed by kernel code", "use a map: Array[u64](1)"),
    ast.FunctionDef: ("a function inside a kernel function cannot be compiled", "move it to the module"),
    ast.AsyncFunctionDef: ("async does not exist in kernel code", ""),
    ast.ClassDef: ("a class inside a kernel function cannot be compiled", "move it to the module"),
    ast.AsyncFor: ("async does not exist in kernel code", ""),
    ast.AsyncWith: ("async does not exist in kernel code", ""),
}
