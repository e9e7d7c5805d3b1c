# SPDX-License-Identifier: Apache-2.0
"""The maps beyond dictionaries in kernel code: queues, sets, maps of maps, jumps, stacks, counters, variables."""

from __future__ import annotations

from osmia.compiler import mapops, tir
from osmia.compiler import memory as mem
from osmia.compiler import syntax as ast
from osmia.compiler.core import Fn, describe
from osmia.compiler.layout import is_scalar, memory
from osmia.compiler.values import SINT, TBOOL, UINT, TMap, TOpt, TStr, Val, components, const, lone
from osmia.lang.maps_more import Bloom, Queue
from osmia.lang.maps_special import (
    ArrayOfMaps,
    Counters,
    Global,
    HashOfMaps,
    PerThread,
    ProgArray,
    StackTraces,
)
from osmia.lang.stacks import Stacks
from osmia.lang.types import Str, size_align, u32
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

#: What :func:`method` knows the methods of.
KINDS = (Queue, Bloom, ArrayOfMaps, Stacks, StackTraces, Counters, PerThread, ProgArray, Global)
PUSH, POP, PEEK = consts.BPF_FUNC_map_push_elem, consts.BPF_FUNC_map_pop_elem, consts.BPF_FUNC_map_peek_elem
BPF_EXIST = 2
CURRENT_CPU = 0xFFFFFFFF  # BPF_F_CURRENT_CPU
USER_STACK = 1 << 8  # BPF_F_USER_STACK
NO_STACK = -14  # EFAULT: there is no stack of that kind here
COUNTER_VALUE = tir.Struct(
    "perf_event_value",
    tuple(tir.Member(name, tir.U64, 8 * at) for at, name in enumerate(("counter", "enabled", "running"))), 24, 8,
)


def method(fn: Fn, node: ast.Call, item: Any, name: str) -> Val:
    """A method of one of the :data:`KINDS`."""
    if isinstance(item, Queue):
        return _queue(fn, node, item, name)
    if isinstance(item, Bloom):
        if name != "add":
            _no_method(fn, node, item, name, "it has add(value), and `value in it`")
        _bloom_add(fn, node, item, _args(fn, node, 1, 1, name)[0])
        return const(None)
    if isinstance(item, ArrayOfMaps):
        if name != "get":
            _no_method(fn, node, item, name, "it has get(key); the user side fills it")
        return inner_map(fn, node, item, _args(fn, node, 1, 1, name)[0])
    if isinstance(item, (Stacks, StackTraces)):
        if name not in ("kernel", "user"):
            _no_method(fn, node, item, name, "it has kernel() and user()")
        return _stack(fn, node, item, name)
    if isinstance(item, Counters):
        if name != "read":
            _no_method(fn, node, item, name, "it has read()")
        _args(fn, node, 0, 0, name)
        return _counter(fn, item)
    if isinstance(item, PerThread):
        if name not in ("take", "peek"):
            _no_method(fn, node, item, name, "it has value, take() and peek()")
        _args(fn, node, 0, 0, name)
        function = mapops.pop if name == "take" else mapops.get
        return function(fn, node, item.by_thread, _thread(fn, item), None)
    if isinstance(item, ProgArray):
        _no_method(fn, node, item, name, "write tail_call(array, index)")
    _no_method(fn, node, item, name, "it has value")


def _no_method(fn: Fn, node: ast.Call, item: Any, name: str, fix: str) -> NoReturn:
    fn.fail(node, f"{describe(const(item))} has no {name}() in kernel code", fix)


def _args(fn: Fn, node: ast.Call, low: int, high: int, name: str) -> list[Val]:
    from osmia.compiler.calls import args_of

    return args_of(fn, node, low, high, name)


# --------------------------------------------------------------------------
# Queues, sets


def _queue(fn: Fn, node: ast.Call, item: Queue, name: str) -> Val:
    if name == "push":
        value = _args(fn, node, 1, 1, name)[0]
        place = mapops.value_address(fn, node, item.value, value)
        flags = fn.num(BPF_EXIST if item.overwrite else 0)
        code = fn.helper(PUSH, mapops.address_of(fn, item), place, flags)
        failed: list[tir.Stmt] = []
        with fn.into(failed):
            fn.lost("map", mapops.name_of(fn, item))
        fn.if_(fn.cmp("ne", code, fn.num(0)), failed)
        return Val(TBOOL, [fn.keep(fn.cmp("eq", code, fn.num(0)))])
    if name not in ("pop", "peek"):
        _no_method(fn, node, item, name, "it has push(value), pop() and peek()")
    _args(fn, node, 0, 0, name)
    return _out_of_queue(fn, node, item, POP if name == "pop" else PEEK)


def _out_of_queue(fn: Fn, node: ast.Call, item: Queue, helper: int) -> Val:
    """``pop()`` and ``peek()``: the helper copies the value to the stack; None where there is none."""
    kind = item.value
    if size_align(kind)[0] > mem.BIGGEST_ON_STACK:
        fn.fail(node, f"a value of {size_align(kind)[0]} bytes does not fit on the kernel's stack",
                "take it out on the user side")
    size, align = size_align(kind)
    place = fn.slot(("out", kind, node.lineno, node.col_offset), memory(kind))
    fn.emit(tir.Zero(fn.loc, place, size, align))
    code = fn.helper(helper, mapops.address_of(fn, item), place)
    there = fn.keep(fn.cmp("eq", code, fn.num(0)))
    if isinstance(kind, type) and issubclass(kind, Str):
        value = Val(TStr(kind.n), [place])
    else:
        value = mem.read(fn, place, kind)
    if lone(value.ft):  # an address: null stands for None
        what = components(value.ft)[0]
        null = tir.Const(what, fn.loc, 0)  # type: ignore[arg-type]
        picked = tir.Cond(what, fn.loc, there, value.exprs[0], null)  # type: ignore[arg-type]
        return Val(TOpt(value.ft), [fn.keep(picked)])  # type: ignore[arg-type]
    return Val(TOpt(value.ft), [there, *value.exprs])  # type: ignore[arg-type]


def _bloom_add(fn: Fn, node: ast.Call, item: Bloom, value: Val) -> None:
    place = mapops.value_address(fn, node, item.value, value)
    fn.do(PUSH, mapops.address_of(fn, item), place, fn.num(0))


def contains(fn: Fn, node: ast.AST, item: Any, value: Val) -> tir.Expr:
    """``value in bloom``, ``key in outer``."""
    if isinstance(item, ArrayOfMaps):
        return fn.keep(fn.not_null(inner_map(fn, node, item, value).exprs[0]))
    place = mapops.value_address(fn, node, item.value, value)
    code = fn.helper(PEEK, mapops.address_of(fn, item), place)
    return fn.keep(fn.cmp("eq", code, fn.num(0)))


# --------------------------------------------------------------------------
# Maps of maps, jumps


def inner_map(fn: Fn, node: ast.AST, item: ArrayOfMaps, key: Val) -> Val:
    """``outer.get(key)`` and ``outer[key]``: the map in a slot, or None."""
    kind = item.key if isinstance(item, HashOfMaps) else u32
    place = mapops.key_address(fn, node, kind, key)
    found = fn.helper(mapops.LOOKUP, mapops.address_of(fn, item), place, result=tir.Ptr("mem"))
    return Val(TOpt(TMap(item)), [found])


def tail_call(fn: Fn, node: ast.Call) -> Val:
    """``tail_call(array, index)``: what follows runs only where the jump was not possible."""
    array, index = _args(fn, node, 2, 2, "tail_call")
    if not isinstance(array.const, ProgArray):
        fn.fail(node.args[0], "tail_call() takes a ProgArray", "handlers = ProgArray([f, g])")
    if not fn.entry:
        fn.fail(node, "a jump works only directly in a probe's function", "call tail_call() there")
    if fn.frames:
        fn.fail(node, "a jump would leave the event of this block unsent", "jump after the with statement")
    number, _ = fn.as_int(index, node.args[1])
    context = fn.context()
    assert context is not None
    fn.do(consts.BPF_FUNC_tail_call, context, mapops.address_of(fn, array.const), number)
    fn.lost("text", f"tail call into {mapops.name_of(fn, array.const)}: no such program")
    return const(None)


# --------------------------------------------------------------------------
# Stacks, counters


def _stack(fn: Fn, node: ast.Call, item: Stacks | StackTraces, name: str) -> Val:
    from osmia.compiler.dispatch import expr

    for word in node.keywords:
        if word.arg != "skip" or node.args:
            fn.fail(word.value, f"{name}() takes one argument in kernel code: skip")
    given = [*node.args, *[word.value for word in node.keywords]]
    if len(given) > 1:
        fn.fail(node, f"{name}() takes 0 to 1 arguments, not {len(given)}")
    skip = fn.constant_int(expr(fn, given[0]), given[0], "the number of frames to skip") if given else 0
    most = 64 if isinstance(item, Stacks) else 255
    if not 0 <= skip <= most:
        fn.fail(given[0], f"frames to skip are from 0 to {most}")
    context = fn.context()
    if context is None:
        fn.fail(node, "a subprogram with five arguments cannot walk the stack", "leave @subprogram out")
    if isinstance(item, Stacks):
        from osmia.compiler import stackops

        return Val(UINT, [stackops.number(fn, item, skip, name == "user", context)])
    flags = fn.num(skip | (USER_STACK if name == "user" else 0))
    number = fn.helper(consts.BPF_FUNC_get_stackid, context, mapops.address_of(fn, item), flags)
    failed: list[tir.Stmt] = []
    with fn.into(failed):
        fn.lost("stack", mapops.name_of(fn, item))
    lost = tir.And(tir.BOOL, fn.loc, fn.cmp("slt", number, fn.num(0)), fn.cmp("ne", number, fn.num(NO_STACK)))
    fn.if_(lost, failed)
    return Val(SINT, [number])


def _counter(fn: Fn, item: Counters) -> Val:
    place = fn.slot("counter", COUNTER_VALUE)
    fn.emit(tir.Zero(fn.loc, place, COUNTER_VALUE.size))
    read = consts.BPF_FUNC_perf_event_read_value
    array = mapops.address_of(fn, item)
    code = fn.helper(read, array, fn.num(CURRENT_CPU, False), place, fn.num(COUNTER_VALUE.size))
    failed: list[tir.Stmt] = []
    with fn.into(failed):
        fn.lost("counter", mapops.name_of(fn, item))
    fn.if_(fn.cmp("ne", code, fn.num(0)), failed)
    return Val(UINT, [fn.load(place, tir.U64)])


# --------------------------------------------------------------------------
# Variables


def _thread(fn: Fn, item: PerThread) -> Val:
    """The key of the current thread."""
    item.by_thread.name = item.name
    fn.mod.map(item)
    both = fn.helper(consts.BPF_FUNC_get_current_pid_tgid, result=tir.U64)
    return Val(SINT, [fn.keep(fn.bin("and", both, fn.num(0xFFFFFFFF)))])


def attribute(fn: Fn, node: ast.Attribute, item: Global | PerThread) -> Val:
    """``variable.value``."""
    if node.attr != "value":
        fn.fail(node, f"{describe(const(item))} has no attribute {node.attr!r} in kernel code", "it has value")
    if isinstance(item, PerThread):
        return mapops.load(fn, node, item.by_thread, _thread(fn, item))
    place = fn.global_(fn.mod.map(item))
    if is_scalar(item.kind):
        return _scalar(fn, place, item.kind)
    return mem.read(fn, place, item.kind)


def _scalar(fn: Fn, place: tir.Expr, kind: Any) -> Val:
    """A variable as it is now: others may change it between two reads."""
    what = memory(kind)
    shape = mem.read(fn, place, kind)
    return Val(shape.ft, [fn.load(place, what, volatile=True)])


def _variable(owner: Val, target: ast.Attribute) -> Any:
    found = isinstance(owner.const, (Global, PerThread)) and target.attr == "value"
    return owner.const if found else None


def assign_attribute(fn: Fn, target: ast.Attribute, owner: Val, value: Val) -> bool:
    """``variable.value = v``; False where the owner is no variable."""
    item = _variable(owner, target)
    if isinstance(item, PerThread):
        mapops.store(fn, target, item.by_thread, _thread(fn, item), value)
    elif isinstance(item, Global):
        mem.write(fn, target, fn.global_(fn.mod.map(item)), item.kind, value)
    return item is not None


def update_attribute(fn: Fn, node: ast.AugAssign, target: ast.Attribute, owner: Val) -> bool:
    """``variable.value += n``; False where the owner is no variable."""
    from osmia.compiler.assign import _map_update, _memory_update

    item = _variable(owner, target)
    if isinstance(item, PerThread):
        _map_update(fn, node, target, item.by_thread, _thread(fn, item))
    elif isinstance(item, Global):
        _memory_update(fn, node, fn.global_(fn.mod.map(item)), item.kind)
    return item is not None
