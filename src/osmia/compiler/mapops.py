# SPDX-License-Identifier: Apache-2.0
"""Maps and histograms as helper calls: lookups with the null check, atomic adds, counted failures."""

from __future__ import annotations

from osmia.compiler import memory as mem
from osmia.compiler import syntax as ast
from osmia.compiler import tir
from osmia.compiler.core import Fn
from osmia.compiler.layout import is_scalar, memory
from osmia.compiler.node import node
from osmia.compiler.values import TConst, TMap, TOpt, TRef, TTuple, Val, components, is_number, lone
from osmia.lang.hist import Hist, Linear, LogLinear
from osmia.lang.maps import Array, Map
from osmia.lang.maps_more import LpmTrie
from osmia.lang.types import Str, size_align
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BPF_ANY, BPF_NOEXIST = 0, 1
LOOKUP, UPDATE, DELETE = (
    consts.BPF_FUNC_map_lookup_elem, consts.BPF_FUNC_map_update_elem, consts.BPF_FUNC_map_delete_elem,
)


@node
class KeyedHist:
    """``h[key]`` of a keyed histogram."""

    hist: Hist
    key: Val


def as_map(owner: Val) -> Any:
    """The object that ``owner`` is; for a map out of a map of maps the map of its slots, with its address."""
    if not isinstance(owner.ft, TMap):
        return owner.const
    import copy

    item = copy.copy(owner.ft.outer.inner)
    item.name = owner.ft.outer.name
    item.address = owner.exprs[0]
    return item


def address_of(fn: Fn, item: Any) -> tir.Expr:
    """The map as an argument of a helper."""
    found: tir.Expr | None = getattr(item, "address", None)
    return fn.global_(fn.mod.map(item)) if found is None else found


def name_of(fn: Fn, item: Any) -> str:
    """What losses of the map are counted under."""
    return str(item.name) or fn.mod.map(item)


def whole_key(fn: Fn, node: ast.AST, item: Map, key: Val) -> Val:
    """A key of the author's as the map has it: a prefix begins with its length in bits."""
    if not isinstance(item, LpmTrie):
        return key
    if not isinstance(key.ft, TTuple):
        return Val(TTuple((TConst(item.bits), key.ft)), key.exprs)
    if len(key.ft.items) != 2:
        fn.fail(node, "a prefix is an address and a number of bits", "t[address, 24]")
    address, bits = mem.split(key)
    return Val(TTuple((bits.ft, address.ft)), [*bits.exprs, *address.exprs])


def key_address(fn: Fn, node: ast.AST, kind: Any, key: Val) -> tir.Expr:
    """Put a key on the stack; its address.  Valid until the next key of the same type is put there."""
    place = fn.slot(("key", kind), memory(kind))
    size, align = size_align(kind)
    if not is_scalar(kind):
        fn.emit(tir.Zero(fn.loc, place, size, align))
    mem.write(fn, node, place, kind, key, fresh=True)
    return place


def value_address(fn: Fn, node: ast.AST, kind: Any, value: Val) -> tir.Expr:
    """Put a value on the stack (where it is not in memory already); its address."""
    if isinstance(value.ft, TRef) and value.ft.kind is kind:
        return value.exprs[0]
    if not is_scalar(kind) and size_align(kind)[0] > mem.BIGGEST_ON_STACK:
        fn.fail(node, f"a value of {size_align(kind)[0]} bytes does not fit on the kernel's stack",
                "reach for it with m[key] and fill in its fields")
    place = fn.slot(("value", kind), memory(kind))
    size, align = size_align(kind)
    if not is_scalar(kind):
        fn.emit(tir.Zero(fn.loc, place, size, align))
    mem.write(fn, node, place, kind, value, fresh=True)
    return place


def lookup(fn: Fn, node: ast.AST, item: Map, key: Val) -> tir.Expr:
    """``bpf_map_lookup_elem``: the value's address or null."""
    at_key = key_address(fn, node, item.key, whole_key(fn, node, item, key))
    return fn.helper(LOOKUP, address_of(fn, item), at_key, result=tir.Ptr("mem"))


def contains(fn: Fn, node: ast.AST, item: Map, key: Val) -> tir.Expr:
    """``key in m``."""
    return fn.keep(fn.not_null(lookup(fn, node, item, key)))


def load(fn: Fn, node: ast.AST, item: Map, key: Val) -> Val:
    """``m[key]``: zero where the key is missing; a structure is created where it is missing."""
    if by_reference(item):
        return Val(TRef(item.value), [reference(fn, node, item, key)])
    found = lookup(fn, node, item, key)
    if issubclass_str(item.value):
        fn.fail(node, "m[key] of text may be missing", "use m.get(key) and test it")
    return _value_or_zero(fn, item, found)


def issubclass_str(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Str)


def by_reference(item: Map) -> bool:
    """Whether values of ``item`` are structures, which are handled by address."""
    return not is_scalar(item.value) and not isinstance(item.value, tuple) and not issubclass_str(item.value)


def _value_or_zero(fn: Fn, item: Map, found: tir.Expr) -> Val:
    stmts: list[tir.Stmt] = []
    with fn.into(stmts):
        value = mem.read(fn, found, item.value)
    locals_ = [fn.local(kind, "value") for kind in components(value.ft)]
    for local in locals_:
        fn.set(local, tir.Const(local.type, fn.loc, 0))  # type: ignore[arg-type]
    with fn.into(stmts):
        for local, part in zip(locals_, value.exprs, strict=True):
            fn.set(local, part)
    fn.if_(fn.not_null(found), stmts)
    return Val(value.ft, fn.gets(value.ft, locals_))


def reference(fn: Fn, node: ast.AST, item: Map, key: Val) -> tir.Expr:
    """The address of a structure in a map, created with zeros where missing; where that fails, of scratch memory."""
    result = fn.local(tir.Ptr("mem"), "ref")
    fn.set(result, lookup(fn, node, item, key))
    size = size_align(item.value)[0]
    missing: list[tir.Stmt] = []
    with fn.into(missing):
        at_key = fn.slot(("key", item.key), memory(item.key))
        if isinstance(item, LpmTrie):
            fn.fail(node, "t[address] of structures may be missing", "use s = t.get(address) and test it")
        if not isinstance(item, Array):
            fn.do(UPDATE, address_of(fn, item), at_key, fn.global_(fn.mod.zero(size)), fn.num(BPF_NOEXIST))
            fn.set(result, fn.helper(LOOKUP, address_of(fn, item), at_key, result=tir.Ptr("mem")))
        still: list[tir.Stmt] = []
        with fn.into(still):  # the map is full: what is written goes nowhere, and that is counted
            fn.lost("map" if not isinstance(item, Array) else "index", name_of(fn, item))
            if size > mem.BIGGEST_ON_STACK:
                fn.emit(tir.Return(fn.loc, fn.num(fn.nothing) if fn.entry else None))
            else:
                fn.set(result, fn.slot(("nowhere", item.value), memory(item.value)))
        fn.if_(fn.not_(fn.not_null(fn.get(result))), still)
    if size > mem.BIGGEST_ON_STACK and not fn.entry:
        fn.fail(node, "m[key] of a large structure works only directly in a probe's function",
                "use s = m.get(key) and test it")
    fn.if_(fn.not_(fn.not_null(fn.get(result))), missing)
    return fn.get(result)


def get(fn: Fn, node: ast.Call, item: Map, key: Val, default: Val | None) -> Val:
    """``m.get(key)`` and ``m.get(key, default)``."""
    found = lookup(fn, node, item, key)
    if by_reference(item):
        if default is not None and default.const is not None:
            fn.fail(node, "get() of a structure takes no default", "test the result: if s is not None")
        return Val(TOpt(TRef(item.value)), [found])
    if issubclass_str(item.value):
        from osmia.compiler.values import TStr

        return Val(TOpt(TStr(item.value.n)), [found])
    return optional(fn, item, found, node, default)


def optional(fn: Fn, item: Map, found: tir.Expr, node: ast.AST, default: Val | None) -> Val:
    """What a lookup found, as an optional, or with ``default`` in its place."""
    there = fn.keep(fn.not_null(found))
    value = _value_or_zero(fn, item, found)
    if default is None or default.const is None:
        flag = [] if lone(value.ft) else [there]  # a null address is as good as none
        return Val(TOpt(value.ft), [*flag, *value.exprs])  # type: ignore[arg-type]
    if not is_number(default.ft) or not is_number(value.ft):
        fn.fail(node, "the default must be a number here")
    other, _ = fn.as_int(default, node)
    kind = value.exprs[0].type
    picked = tir.Cond(kind, fn.loc, there, value.exprs[0], other)
    return Val(value.ft, [fn.keep(picked)])


def pop(fn: Fn, node: ast.Call, item: Map, key: Val, default: Val | None) -> Val:
    """``m.pop(key)``: read, then delete."""
    if by_reference(item) or issubclass_str(item.value):
        fn.fail(node, "pop() works on numbers and tuples", "use s = m.get(key), then del m[key]")
    if isinstance(item, Array):
        fn.fail(node, "elements of an array map cannot be removed", "set it to 0")
    if isinstance(item, LpmTrie):
        fn.fail(node, "pop() of a prefix would have to be exact", "use get(), or del t[address, bits]")
    found = lookup(fn, node, item, key)
    result = optional(fn, item, found, node, default)
    stmts: list[tir.Stmt] = []
    with fn.into(stmts):
        fn.do(DELETE, address_of(fn, item), fn.slot(("key", item.key), memory(item.key)))
    fn.if_(fn.not_null(found), stmts)
    return result


def store(fn: Fn, node: ast.AST, item: Map, key: Val, value: Val) -> None:
    """``m[key] = value``; a map that is full is counted."""
    if isinstance(item, LpmTrie) and not isinstance(key.ft, TTuple):
        fn.fail(node, "a prefix is set with its length", f"t[address, {item.bits}] = value")
    at_value = value_address(fn, node, item.value, value)
    at_key = key_address(fn, node, item.key, whole_key(fn, node, item, key))
    code = fn.helper(UPDATE, address_of(fn, item), at_key, at_value, fn.num(BPF_ANY))
    failed: list[tir.Stmt] = []
    with fn.into(failed):
        fn.lost("index" if isinstance(item, Array) else "map", name_of(fn, item))
    fn.if_(fn.cmp("ne", code, fn.num(0)), failed)


def delete(fn: Fn, node: ast.AST, item: Map, key: Val) -> None:
    """``del m[key]``; a missing key is no error."""
    if isinstance(item, Array):
        fn.fail(node, "elements of an array map cannot be deleted", "set it to 0")
    at_key = key_address(fn, node, item.key, whole_key(fn, node, item, key))
    fn.do(DELETE, address_of(fn, item), at_key)


def add(fn: Fn, node: ast.AST, item: Map, key: Val, amount: tir.Expr) -> None:
    """``m[key] += n``: atomic; the key is created where it is missing."""
    kind = item.value
    what = memory(kind)
    if not is_scalar(kind) or not isinstance(what, tir.Int) or what.bits < 32:
        fn.fail(node, "+= needs a map of 32 or 64-bit numbers", "Hash[u32, u64]()")
    if isinstance(item, LpmTrie) and isinstance(key.ft, TTuple):
        fn.fail(node, "+= works on the longest prefix of an address", "t[address] += n")
    amount = fn.keep(amount)
    found = fn.local(tir.Ptr("mem"), "found")
    fn.set(found, lookup(fn, node, item, key))
    missing: list[tir.Stmt] = []
    with fn.into(missing):
        if isinstance(item, Array):
            fn.lost("index", name_of(fn, item))
        elif not isinstance(item, LpmTrie):  # an address that no prefix covers belongs nowhere
            at_key = fn.slot(("key", item.key), memory(item.key))
            zero = fn.global_(fn.mod.zero(8))
            fn.do(UPDATE, address_of(fn, item), at_key, zero, fn.num(BPF_NOEXIST))
            fn.set(found, fn.helper(LOOKUP, address_of(fn, item), at_key, result=tir.Ptr("mem")))
            full: list[tir.Stmt] = []
            with fn.into(full):
                fn.lost("map", name_of(fn, item))
            fn.if_(fn.not_(fn.not_null(fn.get(found))), full)
    if missing:
        fn.if_(fn.not_(fn.not_null(fn.get(found))), missing)
    there: list[tir.Stmt] = []
    with fn.into(there):
        atomic_add(fn, fn.get(found), amount, what)
    fn.if_(fn.not_null(fn.get(found)), there)


def atomic_add(fn: Fn, place: tir.Expr, amount: tir.Expr, what: tir.Int) -> None:
    """Add to memory that others may add to at the same time."""
    fn.emit(tir.Eval(fn.loc, tir.Atomic(tir.VOID, fn.loc, "add", place, amount, what)))


# --------------------------------------------------------------------------
# Histograms


def hist_add(fn: Fn, node: ast.Call, hist: Hist, key: Val | None, value: Val, n: Val | None) -> None:
    """``h.add(v)`` or ``h[key].add(v)``: bucket, sum, smallest and largest; negative values are counted apart."""
    if hist.keyed and key is None:
        fn.fail(node, "this histogram has a key", "write h[key].add(value)")
    number, signed = fn.as_int(value, node.args[0])
    number = fn.keep(number)
    times = fn.keep(fn.as_int(n, node)[0]) if n is not None else fn.num(1)
    good: list[tir.Stmt] = []
    with fn.into(good):
        _hist_count(fn, node, hist, key, tir.Convert(tir.U64, fn.loc, number, tir.U64) if signed else number, times)
    if signed and not (isinstance(value.ft, TConst) and value.const >= 0):
        bad: list[tir.Stmt] = []
        with fn.into(bad):
            fn.lost("negative", hist.name or fn.mod.map(hist), times)
        fn.if_(fn.cmp("sge", number, fn.num(0)), good, bad)
    else:
        fn.block.extend(good)


def _hist_count(fn: Fn, node: ast.AST, hist: Hist, key: Val | None, value: tir.Expr, times: tir.Expr) -> None:
    value = fn.keep(value)
    slot = fn.keep(tir.Barrier(tir.U64, fn.loc, _slot(fn, hist, value)))
    name = fn.mod.map(hist)
    size = 8 * (hist.HEAD + hist.slots)
    found = fn.local(tir.Ptr("mem"), "hist")
    if key is None:
        place = fn.slot(("key", "u32"), tir.U32)
        fn.store(place, fn.num(0), tir.U32)
        fn.set(found, fn.helper(LOOKUP, fn.global_(name), place, result=tir.Ptr("mem")))
    else:
        place = key_address(fn, node, hist.key, key)
        fn.set(found, fn.helper(LOOKUP, fn.global_(name), place, result=tir.Ptr("mem")))
        missing: list[tir.Stmt] = []
        with fn.into(missing):
            fn.do(UPDATE, fn.global_(name), place, fn.global_(fn.mod.zero(size)), fn.num(BPF_NOEXIST))
            fn.set(found, fn.helper(LOOKUP, fn.global_(name), place, result=tir.Ptr("mem")))
            full: list[tir.Stmt] = []
            with fn.into(full):
                fn.lost("map", hist.name or name)
            fn.if_(fn.not_(fn.not_null(fn.get(found))), full)
        fn.if_(fn.not_(fn.not_null(fn.get(found))), missing)
    inside = tir.And(
        tir.BOOL, fn.loc, fn.not_null(fn.get(found)), fn.cmp("ult", slot, fn.num(hist.slots, False))
    )
    update: list[tir.Stmt] = []
    with fn.into(update):
        base = fn.get(found)
        atomic_add(fn, fn.offset(base, 8 * hist.HEAD, slot, 8), times, tir.U64)
        atomic_add(fn, base, fn.bin("mul", value, times, False), tir.U64)
        _raise_to(fn, fn.offset(base, 8), fn.bin("xor", value, fn.num(-1), False))
        _raise_to(fn, fn.offset(base, 16), value)
    fn.if_(inside, update)


def _raise_to(fn: Fn, place: tir.Expr, value: tir.Expr) -> None:
    """``*place = max(*place, value)``; plain, because each CPU has its own."""
    value = fn.keep(value)
    old = fn.load(place, tir.U64)
    fn.if_(fn.cmp("ugt", value, old), [tir.Store(fn.loc, place, value, tir.U64)])


def _slot(fn: Fn, hist: Hist, value: tir.Expr) -> tir.Expr:
    """The bucket of ``value``: the same arithmetic as ``hist.slot``."""
    if isinstance(hist, Linear):
        return _linear_slot(fn, hist, value)
    top = fn.keep(tir.Fls(tir.U64, fn.loc, value))
    if isinstance(hist, LogLinear):
        small = fn.cmp("ult", value, fn.num(1 << hist.bits, False))
        shift = fn.keep(fn.bin("and", fn.bin("sub", top, fn.num(hist.bits + 1), False), fn.num(63), False))
        high = fn.bin("shl", fn.bin("add", shift, fn.num(1), False), fn.num(hist.bits), False)
        low = fn.bin("and", fn.bin("lshr", value, shift, False), fn.num((1 << hist.bits) - 1), False)
        return fn.keep(tir.Cond(tir.U64, fn.loc, small, value, fn.bin("add", high, low, False)))
    zero = fn.cmp("eq", top, fn.num(0, False))
    return fn.keep(tir.Cond(tir.U64, fn.loc, zero, fn.num(1, False), top))


def _linear_slot(fn: Fn, hist: Linear, value: tir.Expr) -> tir.Expr:
    above = fn.bin("sub", value, fn.num(hist.low, False), False)
    step = fn.keep(fn.bin("udiv", above, fn.num(hist.step, False), False) if hist.step > 1 else above)
    last = fn.num(hist.slots - 2, False)
    capped = tir.Cond(tir.U64, fn.loc, fn.cmp("ult", step, last), step, last)
    slot = fn.bin("add", capped, fn.num(1), False)
    below = fn.cmp("ult", value, fn.num(hist.low, False))
    return fn.keep(tir.Cond(tir.U64, fn.loc, below, fn.num(0, False), slot))

