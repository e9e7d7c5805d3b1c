# SPDX-License-Identifier: Apache-2.0
"""From a kind of syntax-tree node to the function that compiles it.

Each module of the front end registers what it handles; a kind that nobody
registered is refused, never skipped.
"""

from __future__ import annotations

from osmia.compiler import syntax as ast
from osmia.compiler.core import Fn
from osmia.compiler.values import Val

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, TypeVar

    ExprHandler = TypeVar("ExprHandler", bound=Callable[[Fn, Any], Val])
    StmtHandler = TypeVar("StmtHandler", bound=Callable[[Fn, Any], bool])


EXPRESSIONS: dict[type[ast.expr], Callable[[Fn, Any], Val]] = {}
STATEMENTS: dict[type[ast.stmt], Callable[[Fn, Any], bool]] = {}


def expression(kind: type[ast.expr]) -> Callable[[ExprHandler], ExprHandler]:
    """Register the function that gives the value of nodes of ``kind``."""

    def register(handler: ExprHandler) -> ExprHandler:
        EXPRESSIONS[kind] = handler
        return handler

    return register


def statement(kind: type[ast.stmt]) -> Callable[[StmtHandler], StmtHandler]:
    """Register the function that compiles statements of ``kind``; it returns True where control never goes on."""

    def register(handler: StmtHandler) -> StmtHandler:
        STATEMENTS[kind] = handler
        return handler

    return register


def expr(fn: Fn, node: ast.expr) -> Val:
    """The value of ``node``."""
    fn.at(node)
    handler = EXPRESSIONS.get(type(node))
    if handler is None:
        _refuse(fn, node)
    return handler(fn, node)


def block(fn: Fn, body: list[ast.stmt]) -> bool:
    """Compile statements; True where control never reaches their end."""
    for at, stmt in enumerate(body):
        fn.at(stmt)
        if _handler(fn, stmt)(fn, stmt):
            for rest in body[at + 1 :]:  # never runs; still has to be something that exists
                _handler(fn, rest)
            return True
    return False


def check(fn: Fn, function: ast.FunctionDef) -> None:
    """Refuse what kernel code cannot say, also where control never gets: nothing is skipped in silence."""
    nodes = [node for stmt in function.body for node in ast.walk(stmt) if isinstance(node, (ast.stmt, ast.expr))]
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        if isinstance(node, ast.stmt):
            _handler(fn, node)
        elif type(node) not in EXPRESSIONS and not isinstance(node, ast.FormattedValue) and not _names(node):
            _refuse(fn, node)


def _names(node: ast.expr) -> bool:
    """``[a, b] = …``: not a list, but a way to write several names."""
    return isinstance(node, ast.List) and isinstance(node.ctx, ast.Store)


def _refuse(fn: Fn, node: ast.expr | ast.stmt) -> NoReturn:
    what, fix = REFUSED.get(type(node), (f"{type(node).__name__} is not possible in kernel code", ""))
    fn.fail(node, what, fix)


def _handler(fn: Fn, stmt: ast.stmt) -> Callable[[Fn, Any], bool]:
    handler = STATEMENTS.get(type(stmt))
    if handler is None:
        _refuse(fn, stmt)
    return handler


REFUSED: dict[type[ast.AST], tuple[str, str]] = {
    ast.Lambda: ("a lambda cannot be compiled for the kernel", "write a def"),
    ast.List: ("a Python list does not exist in the kernel", "use a map: Array[u64](n), or a tuple"),
    ast.Dict: ("a Python dict does not exist in the kernel", "use a map: Hash[u32, u64]()"),
    ast.Set: ("a Python set does not exist in the kernel", "use a map, or `x in (1, 2, 3)`"),
    ast.ListComp: ("comprehensions do not exist in kernel code", "write a for loop"),
    ast.SetComp: ("comprehensions do not exist in kernel code", "write a for loop"),
    ast.DictComp: ("comprehensions do not exist in kernel code", "write a for loop"),
    ast.GeneratorExp: ("generators do not exist in kernel code", "write a for loop"),
    ast.Await: ("await is not possible in kernel code", ""),
    ast.Yield: ("yield is not possible in kernel code", "send an event: with ring.reserve() as e: ..."),
    ast.YieldFrom: ("yield is not possible in kernel code", "send an event: with ring.reserve() as e: ..."),
    ast.Slice: ("slices do not exist in kernel code", "compare with startswith(), or cut it on the user side"),
    ast.Starred: ("unpacking with * is not possible in kernel code", ""),
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
