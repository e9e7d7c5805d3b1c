# SPDX-License-Identifier: Apache-2.0
"""Calls in kernel code: built-ins, type conversions, methods of maps and events, and helper functions in Python."""

from __future__ import annotations

from types import FunctionType

from osmia.compiler import eventops, kmem, mapops, mapops_more, numbers, printk, texts, tir
from osmia.compiler import memory as mem
from osmia.compiler import syntax as ast
from osmia.compiler.core import Fn, Record, describe
from osmia.compiler.dispatch import expr
from osmia.compiler.kmem import kernel_type
from osmia.compiler.layout import is_scalar, memory
from osmia.compiler.truth import truth_of
from osmia.compiler.values import (
    SINT,
    TBOOL,
    UINT,
    UNKNOWN,
    TBool,
    TEmbed,
    TEvent,
    TInt,
    TPtr,
    TRef,
    TTail,
    TText,
    Val,
    const,
)
from osmia.lang.builtins import BUILTINS, Builtin
from osmia.lang.hist import Hist
from osmia.lang.maps import Map, Ring
from osmia.lang.probes import Prog
from osmia.lang.types import Address, Event, Int, KStruct, is_enum
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def call(fn: Fn, node: ast.Call) -> Val:
    """The value of a call."""
    if isinstance(node.func, ast.Attribute):
        made = _method(fn, node, node.func)
        if made is not None:
            return made
    target = expr(fn, node.func)
    item = target.const
    fn.at(node)
    if item is print:
        return eventops.print_call(fn, node)
    if isinstance(item, Builtin):
        return _BUILTINS[item.name](fn, node)
    if item in _PYTHON:
        return _PYTHON[item](fn, node)
    if isinstance(item, type):
        return _construct(fn, node, item)
    if isinstance(item, Prog):
        fn.fail(node, f"{item.name}() is the function of a probe, so it cannot be called",
                "move what both need into a function of its own")
    if isinstance(item, FunctionType):
        from osmia.compiler.functions import call_function

        return call_function(fn, node, item)
    if item is range:
        fn.fail(node, "range() works in `for i in range(...)` only")
    if item is not UNKNOWN and callable(item):
        name = getattr(item, "__name__", type(item).__name__)
        fn.fail(node, f"{name}() cannot be called in kernel code", _instead(name))
    fn.fail(node, f"{describe(target)} cannot be called")


def _instead(name: str) -> str:
    return {
        "sorted": "sort on the user side", "sum": "add up in a loop", "isinstance": "types are known when compiling",
        "open": "kernel code reads no files", "input": "kernel code reads no files", "str": 'use print(f"...")',
        "time": "use ktime()", "sleep": "kernel code cannot wait", "hex": 'use print(f"{x:x}")',
    }.get(name, "only built-ins of osmia, types and plain Python functions can")


def args_of(fn: Fn, node: ast.Call, low: int, high: int, name: str = "") -> list[Val]:
    """The positional arguments, their number checked; ``name``, if it is not the one in the text, is for messages."""
    if node.keywords and name not in ("cast",):
        fn.fail(node.keywords[0].value, f"{name or ast.unparse(node.func)}() takes no keyword arguments in kernel code")
    if not low <= len(node.args) <= high:
        name = name or ast.unparse(node.func)
        want = str(low) if low == high else f"{low} to {high}"
        fn.fail(node, f"{name}() takes {want} argument{'s' if want != '1' else ''}, not {len(node.args)}")
    return [expr(fn, arg) for arg in node.args]


# --------------------------------------------------------------------------
# Methods


def _method(fn: Fn, node: ast.Call, func: ast.Attribute) -> Val | None:
    """A method of a map, a histogram, an event or text; None where the attribute is something else."""
    owner = expr(fn, func.value)
    name = func.attr
    item = mapops.as_map(owner)
    if isinstance(item, Record):
        return item.method(fn, node, name)
    if isinstance(item, Map):
        return _map_method(fn, node, item, name)
    if isinstance(item, mapops_more.KINDS):
        return mapops_more.method(fn, node, item, name)
    if isinstance(item, (Hist, mapops.KeyedHist)):
        if name != "add":
            fn.fail(node, f"a histogram has no {name}() in kernel code", "it has add(value)")
        args = args_of(fn, node, 1, 2, "add")
        hist, key = (item.hist, item.key) if isinstance(item, mapops.KeyedHist) else (item, None)
        mapops.hist_add(fn, node, hist, key, args[0], args[1] if len(args) > 1 else None)
        return const(None)
    if isinstance(item, Ring):
        fn.fail(node, f"{name}() of a ring belongs into a with statement", "write: with ring.reserve() as e:")
    if isinstance(owner.ft, TTail) and mem.is_data(owner.ft.kind):
        if name != "read":
            fn.fail(node, f"bytes of variable length have no {name}()", "they have read(pointer, size)")
        return eventops.read_bytes(fn, node, owner, args_of(fn, node, 2, 2, name))
    if isinstance(owner.ft, TTail):
        if name == "truncate":
            args_of(fn, node, 0, 0, name)
            eventops.mark_cut(fn, owner)
            return const(None)
        if name != "add":
            fn.fail(node, f"strings of variable length have no {name}()", "they have add(text) and truncate()")
        eventops.add_string(fn, node, owner, args_of(fn, node, 1, 2, "add"))
        return const(None)
    if isinstance(owner.ft, TEvent) and name == "discard":
        args_of(fn, node, 0, 0, "discard")
        eventops.discard(fn, owner)
        return const(None)
    if name == "startswith":
        args = args_of(fn, node, 1, 1, name)
        return numbers.truth(texts.starts_with(fn, func.value, owner, args[0]))
    if name == "bit_length" and isinstance(owner.ft, (TInt, TBool)):  # of the magnitude, as in Python
        args_of(fn, node, 0, 0, name)
        return Val(SINT, [tir.Fls(tir.S64, fn.loc, numbers.absolute(fn, func.value, owner).exprs[0])])
    if name == "bit_length" and isinstance(item, int):
        args_of(fn, node, 0, 0, name)
        return const(int(item).bit_length())
    return None


def _map_method(fn: Fn, node: ast.Call, item: Map, name: str) -> Val:
    if name in ("get", "pop"):
        args = args_of(fn, node, 1, 2, name)
        function = mapops.get if name == "get" else mapops.pop
        return function(fn, node, item, args[0], args[1] if len(args) > 1 else None)
    fix = "iterate on the user side" if name in ("items", "keys", "values") else "it has get() and pop()"
    fn.fail(node, f"a map has no {name}() in kernel code", fix)


# --------------------------------------------------------------------------
# Types


def _construct(fn: Fn, node: ast.Call, kind: type) -> Val:
    if kind is int or (issubclass(kind, Int) and not is_enum(kind)):
        value = args_of(fn, node, 1, 1, kind.__name__)[0]
        if isinstance(value.const, int):
            return const(int(value.const) if kind is int else kind(value.const))
        number, signed = fn.as_int(kmem.pointer(fn, value), node.args[0])
        if kind is int:
            return Val(SINT if signed else UINT, [number])
        to = memory(kind)
        assert isinstance(to, tir.Int)
        wide = tir.S64 if to.signed else tir.U64
        return Val(SINT if to.signed else UINT, [tir.Convert(wide, fn.loc, number, to)])
    if kind is bool:
        value = args_of(fn, node, 1, 1, "bool")[0]
        return numbers.truth(truth_of(fn, value, node.args[0]))
    if is_enum(kind):
        value = args_of(fn, node, 1, 1, kind.__name__)[0]
        return const(int(kind(value.const))) if isinstance(value.const, int) else value
    if issubclass(kind, Event):
        return _new_event(fn, node, kind)
    if issubclass(kind, KStruct):
        fn.fail(node, f"{kind.__name__} describes kernel memory", f"write cast(pointer, {kind.__name__})")
    fn.fail(node, f"{kind.__name__}() cannot be made in kernel code", _instead(kind.__name__))


def _new_event(fn: Fn, node: ast.Call, kind: type[Event]) -> Val:
    """``Point(x=1)``: a structure on the stack."""
    layout = kind.layout()
    if layout.tail is not None or layout.size > mem.BIGGEST_ON_STACK:
        fn.fail(node, f"{kind.__name__} does not fit on the kernel's stack", "fill it in: with ring.reserve() as e:")
    if node.args:
        fn.fail(node, f"{kind.__name__}() takes its fields by name", f"{kind.__name__}({layout.fields[0].name}=...)")
    place = fn.slot(("struct", kind, node.lineno, node.col_offset), memory(kind))
    fn.emit(tir.Zero(fn.loc, place, layout.size, layout.align))
    fields = {f.name: f for f in layout}
    for word in node.keywords:
        if word.arg is None or word.arg not in fields:
            fn.fail(word.value, f"{kind.__name__} has no field {word.arg!r}", f"its fields: {', '.join(fields)}")
        field = fields[word.arg]
        value = expr(fn, word.value)
        mem.write(fn, word.value, fn.offset(place, field.offset), field.type, value, fresh=True)
    return Val(TRef(kind), [place])


# --------------------------------------------------------------------------
# Python's own functions


def _len(fn: Fn, node: ast.Call) -> Val:
    value = args_of(fn, node, 1, 1, "len")[0]
    from osmia.compiler.values import TTuple

    if isinstance(value.ft, TTuple):
        return const(len(value.ft.items))
    if isinstance(value.const, str):
        return const(len(value.const))
    if isinstance(value.ft, TEmbed) and value.ft.kt.kind == "array" and value.ft.kt.target().size != 1:
        return const(value.ft.kt.n)
    kind = value.ft.kind if isinstance(value.ft, TRef) else None
    if kind is not None and hasattr(kind, "n"):
        return const(kind.n)
    fn.fail(node, f"len() of {describe(value)} is not known in kernel code")


def _minmax(largest: bool) -> Callable[[Fn, ast.Call], Val]:
    def make(fn: Fn, node: ast.Call) -> Val:
        name = "max" if largest else "min"
        values = args_of(fn, node, 2, 8, name)
        return numbers.extreme(fn, node, values, largest)

    return make


def _abs(fn: Fn, node: ast.Call) -> Val:
    return numbers.absolute(fn, node.args[0], args_of(fn, node, 1, 1, "abs")[0])


def _ord(fn: Fn, node: ast.Call) -> Val:
    value = args_of(fn, node, 1, 1, "ord")[0]
    if isinstance(value.const, str) and len(value.const) == 1:
        return const(ord(value.const))
    fn.fail(node, "ord() takes a constant character in kernel code")


_PYTHON: dict[Any, Callable[[Fn, ast.Call], Val]] = {
    len: _len, min: _minmax(False), max: _minmax(True), abs: _abs, ord: _ord,
}

# --------------------------------------------------------------------------
# Built-ins of osmia


def _plain(id: int, signed: bool = False) -> Callable[[Fn, ast.Call], Val]:
    def make(fn: Fn, node: ast.Call) -> Val:
        args_of(fn, node, 0, 0)
        result = fn.helper(id, result=tir.S64 if signed else tir.U64)
        if id in (consts.BPF_FUNC_get_prandom_u32, consts.BPF_FUNC_get_smp_processor_id):
            result = fn.bin("and", result, fn.num(0xFFFFFFFF))
            return Val(SINT, [result])
        return Val(UINT, [result])

    return make


def _of_functions(name: str) -> Callable[[Fn, ast.Call], Val]:
    """What :mod:`~osmia.compiler.entry_functions` compiles, which few programs need."""

    def make(fn: Fn, node: ast.Call) -> Val:
        from osmia.compiler import entry_functions

        made: Val = getattr(entry_functions, name)(fn, node)
        return made

    return make


def _text(space: str, default: int) -> Callable[[Fn, ast.Call], Val]:
    def make(fn: Fn, node: ast.Call) -> Val:
        args = args_of(fn, node, 1, 2, f"{space}_str")
        size = fn.constant_int(args[1], node.args[1], "the size") if len(args) > 1 else default
        if not 1 <= size <= 32768:
            fn.fail(node, "the size is a number of bytes from 1 to 32768")
        return Val(TText(space, size), [_address(fn, node, args[0], space)])

    return make


def _address(fn: Fn, node: ast.Call, value: Val, space: str) -> tir.Expr:
    """The first argument as an address in ``space``; an address of the other space is refused."""
    where = kmem.pointer(fn, value)
    if isinstance(where.ft, TPtr):
        real = "user" if where.ft.space == "user" else "kernel"
        if real != space:
            fn.fail(node.args[0], f"this is a {real} address, and a {space} address is needed",
                    f"use the function for {real} memory")
    return fn.keep(fn.as_int(where, node.args[0])[0])


def _read(space: str) -> Callable[[Fn, ast.Call], Val]:
    def make(fn: Fn, node: ast.Call) -> Val:
        args = args_of(fn, node, 2, 3, f"read_{space}")
        kind = args[1].const
        if not (isinstance(kind, type) and is_scalar(kind)):
            fn.fail(node.args[1], "the second argument is an integer type: u8 to s64, or User[...]/Kernel[...]")
        place = _address(fn, node, args[0], space)
        what = memory(kind)
        if len(args) > 2:
            index, _ = fn.as_int(args[2], node.args[2])
            place = fn.offset(place, 0, index, what.size)
        raw = kmem.read_raw(fn, space, place, what if isinstance(what, tir.Int) else tir.U8)
        if kind is bool:
            return Val(TBOOL, [tir.Convert(tir.BOOL, fn.loc, raw, tir.BOOL)])
        if issubclass(kind, Address):
            return Val(TPtr(kind.space, kernel_type(fn, node, kind.target)), [raw])
        return Val(SINT if isinstance(what, tir.Int) and what.signed else UINT, [raw])

    return make


def _cast(fn: Fn, node: ast.Call) -> Val:
    user = False
    for word in node.keywords:
        if word.arg != "user" or not isinstance(word.value, ast.Constant):
            fn.fail(word.value, "cast() takes user=True or user=False besides its two arguments")
        user = bool(word.value.value)
    args = args_of(fn, node, 2, 2, "cast")
    kt = _kernel_kind(fn, node.args[1], args[1])
    value = kmem.pointer(fn, args[0])
    if isinstance(value.ft, TPtr):
        if user and value.ft.space != "user":
            fn.fail(node, "this is a kernel address", "leave user=True out")
        space = value.ft.space if value.ft.space != "ctx" else "kernel"
        if space == "btf" and value.ft.kt != kt:
            space = "kernel"  # the verifier tracks the old type
        number = value.exprs[0]
        if space == "kernel" and isinstance(number.type, tir.Ptr):
            number = fn.keep(tir.Convert(tir.U64, fn.loc, number, tir.U64))
        return Val(TPtr(space, kt), [number])
    number = fn.keep(fn.as_int(value, node.args[0])[0])
    return Val(TPtr("user" if user else "kernel", kt), [tir.Convert(tir.U64, fn.loc, number, tir.U64)])


def _kernel_kind(fn: Fn, node: ast.AST, value: Val) -> Any:
    """The kernel type that an argument names: text in C spelling, or a flavour class."""
    kind = value.const
    if isinstance(kind, type) and issubclass(kind, KStruct):
        return fn.mod.kernel.flavour(kind)
    if isinstance(kind, str):
        return kernel_type(fn, node, kind)
    fn.fail(node, 'name the kernel type: "struct task_struct", or a KStruct class')


def _container_of(fn: Fn, node: ast.Call) -> Val:
    args = args_of(fn, node, 3, 3, "container_of")
    kt = _kernel_kind(fn, node.args[1], args[1])
    name = args[2].const
    if not isinstance(name, str):
        fn.fail(node.args[2], "the third argument is the member's name, as text")
    field, _ = kmem.lookup(fn, node.args[2], kt, name)
    value = kmem.pointer(fn, args[0])
    space = "user" if isinstance(value.ft, TPtr) and value.ft.space == "user" else "kernel"
    number, _ = fn.as_int(value, node.args[0])
    path = tir.Access(kt.tir(), (field,))
    start = fn.bin("sub", number, tir.CoreField(tir.U64, fn.loc, path, "offset"), False)
    return Val(TPtr(space, kt), [fn.keep(start)])


def _exists(fn: Fn, node: ast.Call) -> Val:
    if len(node.args) != 1 or node.keywords:
        fn.fail(node, "exists() takes one field or type")
    arg = node.args[0]
    if isinstance(arg, ast.Constant) and isinstance(arg.value, str):
        word, _, name = arg.value.partition(" ")
        if word not in ("struct", "union") or not name:
            fn.fail(arg, 'exists() of a type takes "struct NAME" or "union NAME"')
        if fn.mod.kernel.btf is None:  # nothing could be done with it: what it guards is not even compiled
            return const(False)
        try:  # the kernel's own size, where it is known: another access may name the same structure
            ktype = fn.mod.kernel.named(arg.value).tir()
        except KeyError:
            ktype = tir.KStruct(name, word, 0)
        assert isinstance(ktype, tir.KStruct)
        return _core_truth(fn, tir.CoreType(tir.U64, fn.loc, ktype, "exists"))
    if not isinstance(arg, ast.Attribute):
        fn.fail(arg, "exists() takes a field (task.__state) or a type (\"struct folio\")")
    owner = kmem.as_embed(fn, expr(fn, arg.value), arg)
    ft = owner.ft
    assert isinstance(ft, TEmbed)
    found = ft.kt.member(arg.attr) if ft.kt.kind in ("struct", "union") else None
    # A field that this kernel's types lack is asked for all the same: the target kernel may have it.
    field = found[0] if found else tir.KField(arg.attr, 0, 0, tir.KInt("int", 4, True))
    root, steps = (ft.root, ft.steps) if found else (ft.kt, ())
    path = tir.Access(root.tir(), (*steps, field))  # type: ignore[arg-type]
    return _core_truth(fn, tir.CoreField(tir.U64, fn.loc, path, "exists"))


def _core_truth(fn: Fn, fact: tir.Expr) -> Val:
    return numbers.truth(fn.cmp("ne", fact, fn.num(0, False)))


def _sizeof(fn: Fn, node: ast.Call) -> Val:
    if len(node.args) != 1 or node.keywords:
        fn.fail(node, "sizeof() takes one field or type")
    arg = node.args[0]
    if isinstance(arg, ast.Attribute):
        owner = expr(fn, arg.value)
        if isinstance(owner.ft, (TPtr, TEmbed)):
            embed = kmem.as_embed(fn, owner, arg)
            assert isinstance(embed.ft, TEmbed)
            field, _ = kmem.lookup(fn, arg, embed.ft.kt, arg.attr)
            path = tir.Access(embed.ft.root.tir(), (*embed.ft.steps, field))  # type: ignore[arg-type]
            return Val(UINT, [tir.CoreField(tir.U64, fn.loc, path, "size")])
    value = expr(fn, arg)
    if isinstance(value.const, str):
        kt = kernel_type(fn, arg, value.const)
        return Val(UINT, [tir.CoreType(tir.U64, fn.loc, kt.tir(), "size")])
    from osmia.lang.types import size_align

    try:
        return const(size_align(value.const)[0])
    except TypeError:
        fn.fail(arg, f"the size of {describe(value)} is not known")


def _enum(kind: str) -> Callable[[Fn, ast.Call], Val]:
    def make(fn: Fn, node: ast.Call) -> Val:
        args = args_of(fn, node, 2, 2, f"enum_{kind}")
        enum, name = args[0].const, args[1].const
        if not isinstance(enum, str) or not isinstance(name, str):
            fn.fail(node, "the names of the enum and of its value are constant texts")
        btf = fn.mod.kernel.btf
        if btf is None and kind == "exists":  # asked of the kernel that runs it; without types the answer is no
            return _core_truth(fn, tir.CoreEnum(tir.U64, fn.loc, tir.KEnum(enum, 4, False), name, 0, kind))
        kt = kernel_type(fn, node.args[0], f"enum {enum}")
        values = dict(btf.get(kt.id).enumerators) if btf is not None else {}
        if name not in values and kind == "value":
            fn.fail(node.args[1], f"enum {enum} has no value {name!r} here",
                    "compile where the kernel has it, or write its number")
        enum_type = kt.tir()
        assert isinstance(enum_type, tir.KEnum)
        fact = tir.CoreEnum(tir.U64, fn.loc, enum_type, name, values.get(name, 0), kind)
        return Val(UINT, [fact]) if kind == "value" else _core_truth(fn, fact)

    return make


def _cgroup_under(fn: Fn, node: ast.Call) -> Val:
    """The current cgroup or one of its ancestors has the id: levels are tried from the root down."""
    wanted, _ = fn.as_int(args_of(fn, node, 1, 1, "cgroup_under")[0], node.args[0])
    wanted = fn.keep(wanted)
    hit, level = fn.local(tir.BOOL, "under"), fn.local(tir.S64, "level")
    fn.set(hit, fn.flag(False))
    body: list[tir.Stmt] = []
    with fn.into(body):
        id = fn.helper(consts.BPF_FUNC_get_current_ancestor_cgroup_id, fn.get(level), result=tir.U64)
        found: list[tir.Stmt] = [tir.Set(fn.loc, hit, fn.flag(True)), tir.Break(fn.loc)]
        fn.if_(fn.cmp("eq", id, wanted), found)
        fn.if_(fn.cmp("eq", id, fn.num(0, False)), [tir.Break(fn.loc)])
    fn.emit(tir.For(fn.loc, level, fn.num(0), fn.num(32), 1, body, 32))
    return numbers.truth(fn.get(hit))


def _fls(fn: Fn, node: ast.Call) -> Val:
    number, _ = fn.as_int(args_of(fn, node, 1, 1, "fls")[0], node.args[0])
    return Val(SINT, [tir.Fls(tir.S64, fn.loc, number)])


def _lost(fn: Fn, node: ast.Call) -> Val:
    args = args_of(fn, node, 1, 2, "lost")
    if not isinstance(args[0].const, str):
        fn.fail(node.args[0], "lost() takes a constant text that says what was lost")
    n = fn.as_int(args[1], node.args[1])[0] if len(args) > 1 else None
    fn.lost("text", args[0].const, n)
    return const(None)


_BUILTINS: dict[str, Callable[[Fn, ast.Call], Val]] = {
    "ktime": _plain(consts.BPF_FUNC_ktime_get_ns),
    "boot_ktime": _plain(consts.BPF_FUNC_ktime_get_boot_ns),
    "cpu": _plain(consts.BPF_FUNC_get_smp_processor_id),
    "random": _plain(consts.BPF_FUNC_get_prandom_u32),
    "user_str": _text("user", 256), "kernel_str": _text("kernel", 64),
    "read_user": _read("user"), "read_kernel": _read("kernel"), "cast": _cast, "container_of": _container_of,
    "exists": _exists, "sizeof": _sizeof, "enum_value": _enum("value"), "enum_exists": _enum("exists"),
    "cgroup_under": _cgroup_under, "fls": _fls, "lost": _lost,
    "func_ip": _of_functions("func_ip"), "attach_cookie": _of_functions("attach_cookie"),
    "trace_printk": printk.call, "tail_call": mapops_more.tail_call,
}
assert set(_BUILTINS) == set(BUILTINS), set(_BUILTINS) ^ set(BUILTINS)
