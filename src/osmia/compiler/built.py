# SPDX-License-Identifier: Apache-2.0
"""Kernel functions that are made and not written: from a specification on a command line.

A frame in Python says what the function does, as the author of a tool would
write it; names in it that begin with ``HOLE`` stand for expressions of the
specification.  The tree that comes out is compiled as any other function.
"""

from __future__ import annotations

from types import FunctionType

from osmia.compiler import syntax as ast
from osmia.compiler.source import Built, File
from osmia.errors import InternalError
from osmia.probespec import FUNCTION, STATIC, TRACEPOINT, USER
from osmia.probespec.tree import InC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.compiler.ktypes import Kernel
    from osmia.probespec.signatures import Param
    from osmia.probespec.spec import Spec
    from osmia.probespec.tree import Text

HOLE = "__"


class Scope:
    """What names mean in the expressions of one specification.

    ``call``: the system call whose tracepoint stands for a function of the
    kernel; ``binary``: texts that are compared are lists of bytes;
    ``entries``: variables that hold what a parameter was on entry, by its
    name, and of ``$latency``; ``described``: what the program's debug
    information says of the function's parameters, ``types``: its types, as BTF;
    ``advice``: what would make more known.
    """

    def __init__(self, place: Spec, signature: list[Param] | None = None) -> None:
        self.place = place
        self.signature = signature
        self.call = ""
        self.binary = False
        self.entries: dict[str, str] = {}
        self.described: Callable[[], list[Param]] = list
        self.types: Callable[[], bytes] = bytes
        self.advice: Callable[[], str] = str
        self.kernel: Kernel | None = None  # those types, once they are asked for

    @property
    def space(self) -> str:
        """Whose memory an address leads to that nothing is known of."""
        if self.place.kind in (USER, STATIC):
            return "user"
        return "either" if self.place.kind in (FUNCTION, TRACEPOINT) else "kernel"


def in_c(value: ast.expr, *, text: bool = False) -> InC:
    """``value`` with C's meaning; ``text``: the string that it leads to."""
    return ast.copy_location(InC(value, text), value)


def function(
    name: str, frame: str, holes: dict[str, ast.expr], source: Text, namespace: dict[str, Any], scope: Scope
) -> Callable[..., Any]:
    """The function ``name`` of ``frame``, whose text is one ``def``.

    ``holes``: what the names stand for; ``namespace``: what the frame's other
    names mean; errors point into ``source``.
    """
    tree = ast.parse(frame, source.name)
    node = tree.body[0]
    if not isinstance(node, ast.FunctionDef) or node.name != name:
        raise InternalError(f"the frame of {name} is no function of that name")
    _Filler(holes).visit(node)
    made: dict[str, Any] = {}
    # Python's own function is never called: it has the name, the parameters and the globals.
    args = ", ".join([arg.arg for arg in node.args.args])
    exec(compile(f"def {name}({args}): pass", source.name, "exec"), namespace, made)
    stub = made[name]
    assert isinstance(stub, FunctionType)
    stub.built = Built(File(source.name, source.text), node, scope)  # type: ignore[attr-defined]
    return stub


class _Filler:
    """Puts expressions into holes, and everything else at the beginning of what was typed."""

    def __init__(self, holes: dict[str, ast.expr]) -> None:
        self._holes = holes

    def visit(self, node: ast.AST) -> None:
        if hasattr(node, "lineno"):
            vars(node).update(lineno=1, col_offset=0, end_lineno=1, end_col_offset=1)
        for field in node._fields:
            child = getattr(node, field, None)
            if isinstance(child, list):
                for at, one in enumerate(child):
                    child[at] = self._filled(one)
            elif isinstance(child, ast.AST):
                setattr(node, field, self._filled(child))

    def _filled(self, node: Any) -> Any:
        if isinstance(node, ast.Name) and node.id.startswith(HOLE):
            return self._holes[node.id]
        if isinstance(node, ast.AST):
            self.visit(node)
        return node
