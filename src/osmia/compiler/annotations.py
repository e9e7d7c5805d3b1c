# SPDX-License-Identifier: Apache-2.0
"""Types that an author wrote on a probe's parameters: ``def f(size: u64, name: User["char"])``."""

from __future__ import annotations

from osmia.compiler import syntax as ast
from osmia.compiler import tir
from osmia.compiler.core import Fn
from osmia.compiler.kmem import kernel_type
from osmia.compiler.layout import int_type
from osmia.compiler.values import SINT, TBOOL, UINT, TPtr, Val
from osmia.lang.types import Address, Int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def annotated(fn: Fn, arg: ast.arg) -> Any:
    """The type that is written on parameter ``arg``; None where there is none."""
    function = fn.source.function
    kind = function.__annotations__.get(arg.arg)
    if isinstance(kind, str):  # from __future__ import annotations
        try:
            kind = eval(kind, dict(function.__globals__))
        except Exception as err:
            fn.fail(arg.annotation, f"this type cannot be evaluated: {err}")
    if kind is None or str(kind) == "typing.Any":  # typing is not imported for this
        return None
    if kind in (bool, int) or (isinstance(kind, type) and issubclass(kind, (Int, Address))):
        return kind
    fn.fail(arg.annotation, "a parameter is a number or an address", 'write u32, s64, bool, User["char"], ...')


def as_type(fn: Fn, node: ast.AST, raw: tir.Expr, kind: Any) -> Val:
    """The 64-bit number ``raw`` as the author's type: cut to its size, since registers may hold more than that."""
    if kind is int:
        return Val(SINT, [tir.Convert(tir.S64, fn.loc, raw, tir.S64)])
    if kind is bool:
        low = fn.keep(tir.Convert(tir.U64, fn.loc, raw, tir.U8))
        return Val(TBOOL, [tir.Convert(tir.BOOL, fn.loc, low, tir.BOOL)])
    if issubclass(kind, Address):
        target = kind.target.strip()
        what = kernel_type(fn, node, target) if target and target != "void" else None
        return Val(TPtr(kind.space, what), [raw])
    number = tir.Convert(tir.S64 if kind.signed else tir.U64, fn.loc, raw, int_type(kind.size, kind.signed))
    return Val(SINT if kind.signed else UINT, [fn.keep(number)])
