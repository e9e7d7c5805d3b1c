# SPDX-License-Identifier: Apache-2.0
"""The body of a function, and the statements that are neither assignments nor branches."""

from __future__ import annotations

from osmia.compiler import eventops, kmem, numbers, tir
from osmia.compiler import syntax as ast
from osmia.compiler.assign import assign, converted
from osmia.compiler.core import Fn, Frame, Var, describe
from osmia.compiler.dispatch import block, check, expr, statement
from osmia.compiler.values import (
    FT,
    NONE,
    Val,
    const,
    join,
    settled,
)
from osmia.lang.maps import Ring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def function_body(fn: Fn) -> None:
    """Compile the body of ``fn``'s function."""
    node = fn.source.node
    if node not in fn.mod.checked:  # once, though a function is compiled in several passes
        _check_signature(fn, node)
        check(fn, node)
        rebound = {n.target.id for n in ast.walk(node) if isinstance(n, ast.NamedExpr)}
        fn.mod.checked[node] = _assigned_names(node), rebound
    fn.first = not fn.types
    fn.assigned, fn.rebound = fn.mod.checked[node]
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


def _leave_frames(fn: Fn, depth: int) -> None:
    """Send the events whose blocks a return, break or continue leaves, innermost first."""
    for frame in reversed(fn.frames):
        if frame.loop_depth >= depth:
            frame.close()


@statement(ast.Break)
def _break(fn: Fn, node: ast.Break) -> bool:
    _leave_frames(fn, fn.loop_depth)
    fn.emit(tir.Break(fn.loc))
    return True


@statement(ast.Continue)
def _continue(fn: Fn, node: ast.Continue) -> bool:
    _leave_frames(fn, fn.loop_depth)
    fn.emit(tir.Continue(fn.loc))
    return True


@statement(ast.Return)
def _return(fn: Fn, node: ast.Return) -> bool:
    value = expr(fn, node.value) if node.value is not None else const(None)
    fn.at(node)
    value = Val(value.ft, [fn.keep(e) for e in value.exprs])
    _return_value(fn, node, value)
    return True


def _return_value(fn: Fn, node: ast.AST, value: Val) -> None:
    if fn.entry:
        _leave_frames(fn, 0)
        if fn.result_unused and value.const not in (None, 0):
            fn.fail(node, f"nobody looks at what an {fn.result_unused} program returns", "write: return")
        number = fn.num(fn.nothing) if value.const is None else fn.as_int(value, node)[0]
        fn.emit(tir.Return(fn.loc, number))
        return
    ft = settled(kmem.pointer(fn, value).ft)
    wider = ft if fn.ret is None else join(fn.ret, ft)
    if wider is None:
        fn.fail(node, f"one return gives {describe(Val(fn.ret or NONE, []))}, another {describe(value)}")
    fn.ret_varied = fn.ret_varied or (fn.ret is not None and wider != fn.ret)
    fn.ret = wider
    final: FT = fn.ret_known if fn.ret_known is not None else wider
    reach = join(final, ft)
    if reach is None or reach != final:
        final = wider  # this pass is thrown away: the next one starts from the wider type
    parts = converted(fn, node, final, kmem.pointer(fn, value)) if final != NONE else []
    if any(isinstance(part, (tir.AddrOf, Val)) for part in parts):  # of its stack, which ends with it
        fn.fail(node, "a helper function cannot give back a text or a structure that it has made",
                "make it where it goes: m[key] = Point(x=1)")
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


@statement(ast.With)
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


@statement(ast.Match)
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


@statement(ast.Expr)
def _expr_stmt(fn: Fn, node: ast.Expr) -> bool:
    if isinstance(node.value, ast.Constant):  # a docstring
        return False
    value = expr(fn, node.value)
    for part in value.exprs:
        if not isinstance(part, (tir.Get, tir.Const, tir.AddrOf, tir.Global)):
            fn.emit(tir.Eval(fn.loc, part))
    return False


@statement(ast.Pass)
def _pass(fn: Fn, node: ast.Pass) -> bool:
    return False
