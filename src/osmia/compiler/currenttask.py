# SPDX-License-Identifier: Apache-2.0
"""Fields of the current task: ``current.task.thread_info.status``.

Since 5.11 (3ca1032ab7ab) a helper gives the task as an object that the verifier
tracks, and its fields, and those of what its pointers lead to, are plain loads; a program of
180 ns that read one field by a helper that copies takes 50 less.  Older kernels have
the number of its address only.  Both ways are in the program, and the verifier removes one.
Numbers only: a pointer read so would stay one that the verifier tracks, also as a variable
of a loop, where it refuses the arithmetic that keeps it from walking each round.
"""

from __future__ import annotations

from osmia.compiler import kmem, tir
from osmia.compiler import syntax as ast
from osmia.compiler.ktypes import KT
from osmia.compiler.values import TPtr, Val
from osmia.lang.builtins import Current
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.compiler.core import Fn

_ENUM, _ENUMERATOR = tir.KEnum("bpf_func_id", 4, False), "BPF_FUNC_get_current_task_btf"
#: Programs on the way of a packet, which are not given that helper on every kernel that has it.
_PACKETS = ("socket_filter", "xdp", "tc")


def field(fn: Fn, node: ast.Attribute) -> Val | None:
    """The value of ``node`` if it is a number that is reached from ``current.task``; else None."""
    names: list[str] = []
    at: ast.AST = node
    while isinstance(at, ast.Attribute):
        names.insert(0, at.attr)
        at = at.value
    if names[0] != "task" or not isinstance(at, ast.Name) or not _is_current(fn, at.id) or not _allowed(fn):
        return None
    task = kmem.kernel_type(fn, node, "struct task_struct")
    path = _path(task, names[1:])
    if path is None:
        return None
    fn.at(node)
    made: list[tuple[Val, list[tir.Stmt]]] = []
    for space, helper, kind in (("btf", consts.BPF_FUNC_get_current_task_btf, tir.Ptr("btf")),
                                ("kernel", consts.BPF_FUNC_get_current_task, tir.U64)):  # fmt: skip
        with fn.into([]):
            value = Val(TPtr(space, task), [fn.helper(helper, result=kind)])
            for one, type in path:
                value = kmem.step(fn, kmem.as_embed(fn, value, node), one, type)
            made.append((value, fn.block))
    return _either(fn, *made)


def _either(fn: Fn, direct: tuple[Val, list[tir.Stmt]], by_helper: tuple[Val, list[tir.Stmt]]) -> Val:
    """The value of the one way or of the other, as the second has it."""
    result = by_helper[0]
    kind = result.exprs[0].type
    assert not isinstance(kind, tir.Void)
    local = fn.local(kind, "task")
    for value, block in (direct, by_helper):
        with fn.into(block):
            fn.set(local, value.exprs[0])
    has = fn.cmp("ne", tir.CoreEnum(tir.U64, fn.loc, _ENUM, _ENUMERATOR, consts.BPF_FUNC_get_current_task_btf,
                                    "exists"), fn.num(0, False))  # fmt: skip
    fn.if_(has, direct[1], by_helper[1])
    return Val(result.ft, [fn.get(local)])


def _is_current(fn: Fn, name: str) -> bool:
    found, item = (False, None) if name in fn.env or name in fn.assigned else fn.source.lookup(name)
    return found and isinstance(item, Current)


def _allowed(fn: Fn) -> bool:
    """Whether all programs of this module may use the helper."""
    return not any(hook.kind in _PACKETS for prog in fn.mod.unit.progs for hook in prog.hooks)


def _path(task: KT, names: list[str]) -> list[tuple[tir.KField, KT]] | None:
    """The fields one after the other; None unless only structures lie between, and a number at the end."""
    path: list[tuple[tir.KField, KT]] = []
    kind = task
    for name in names:
        if path and kind.kind == "ptr":
            kind = kind.target()
        found = kind.member(name) if kind.kind in ("struct", "union") else None
        if found is None or found[0].bits:
            return None
        path.append(found)
        kind = found[1]
    return None if kind.kind in ("ptr", "struct", "union", "array", "float") else path
