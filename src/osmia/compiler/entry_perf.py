# SPDX-License-Identifier: Apache-2.0
"""The arguments of sampling programs and of walks over a map."""

from __future__ import annotations

from osmia.compiler import entry_functions, kmem, mapops, tir
from osmia.compiler import syntax as ast
from osmia.compiler.core import Fn, Record
from osmia.compiler.kmem import kernel_type
from osmia.compiler.layout import is_scalar
from osmia.compiler.values import UINT, TOpt, TPtr, TRef, TStr, Val
from osmia.lang.maps import Map
from osmia.lang.types import Str

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Sample(Record):
    """``struct bpf_perf_event_data``, and ``ip``: the instruction that was interrupted."""

    def __init__(self, fn: Fn) -> None:
        self.kt = kernel_type(fn, fn.source.node, "struct bpf_perf_event_data")

    def field(self, fn: Fn, node: ast.Attribute) -> Val:
        place = fn.context()
        if place is None:
            fn.fail(node, "this subprogram has no register left for the sample", "give it fewer arguments")
        if node.attr == "ip":  # the registers come first, in the layout that user space knows
            machine = entry_functions.machine_of(fn)
            return Val(UINT, [fn.load(fn.offset(place, machine.offsets[machine.ip]), tir.U64)])
        return kmem.field_of_pointer(fn, node, Val(TPtr("ctx", self.kt), [place]))


def of_map(fn: Fn, node: ast.Attribute, item: Map, found: tir.Expr) -> Val:
    """``key`` or ``value`` of a walk over ``item``, whose address is ``found``: None after the last element.

    The verifier lets the program read there what a key or value is long.
    """
    kind = item.key if node.attr == "key" else item.value
    if item.percpu and node.attr == "value":
        fn.fail(node, "the values of a per-CPU map are read on the user side", "m.items() adds the CPUs up")
    if isinstance(kind, type) and issubclass(kind, Str):
        return Val(TOpt(TStr(kind.n)), [found])
    if not is_scalar(kind) and not isinstance(kind, tuple):
        return Val(TOpt(TRef(kind)), [found])
    import copy

    like: Any = copy.copy(item)
    like.value = kind
    return mapops.optional(fn, like, found, node, None)
