# SPDX-License-Identifier: Apache-2.0
"""Memory in C's expressions: fields, elements, what a pointer leads to, addresses, and the text that is there."""

from __future__ import annotations

from osmia.compiler import kmem, texts, tir
from osmia.compiler import syntax as ast
from osmia.compiler.core import Fn
from osmia.compiler.cvalues import C, CInt, CPlace, CPtr, CText, as_int, as_number, decayed, of_kt
from osmia.compiler.ktypes import KT
from osmia.compiler.values import TConst, TEmbed, TPtr, TText, Val

#: How the kernel's tracepoint records, and bcc's headers, call a field whose place in the record is written in it.
_DATA_LOC = "data_loc_"


def _embed(fn: Fn, node: ast.AST, value: C) -> Val:
    """A structure, or what a pointer to one leads to, as the start of a path."""
    if isinstance(value, CPlace):
        return value.val
    if isinstance(value, CPtr):
        if value.kt is None:
            fn.fail(node, "it is not known what this pointer leads to", "say it: ((struct NAME *)pointer)->field")
        base = value.expr
        if value.space == "ctx":
            base = fn.program_context()
        return Val(TEmbed(value.space, value.kt, (), value.kt), [base])
    fix = "say what is there: ((struct NAME *)arg1)->field"
    fn.fail(node, f"{'text' if isinstance(value, CText) else 'a number'} has no fields", fix)


def field(fn: Fn, node: ast.Attribute, value: C) -> C:
    """``value->name`` or ``value.name``."""
    embed = _embed(fn, node.value, value)
    assert isinstance(embed.ft, TEmbed)
    kt, name = embed.ft.kt, node.attr
    loose = name.removeprefix(_DATA_LOC)
    if kt.kind in ("struct", "union") and kt.member(name) is None and kt.member(f"__{_DATA_LOC}{loose}") is not None:
        attribute = ast.copy_location(ast.Attribute(value=node.value, attr=loose, ctx=ast.Load()), node)
        made = kmem.field_of_pointer(fn, attribute, embed)
        assert isinstance(made.ft, TPtr)
        return CPtr(made.exprs[0], "kernel", made.ft.kt)
    found, kind = _member(fn, node, embed, name)
    return of_kt(fn, kmem.step(fn, found[0], found[1], kind), kind)


def _member(fn: Fn, node: ast.AST, embed: Val, name: str) -> tuple[tuple[Val, tir.KField], KT]:
    """The field ``name``: ``((what it is directly in, the field), its type)``, also by a name that is a macro in C."""
    assert isinstance(embed.ft, TEmbed)
    *way, last = _real(embed.ft.kt, name)
    kt = embed.ft.kt
    for one in way:
        found, kt = kmem.lookup(fn, node, kt, one)
        embed = kmem.step(fn, embed, found, kt)
    found, kind = kmem.lookup(fn, node, kt, last)
    return (embed, found), kind


def _real(kt: KT, name: str) -> list[str]:
    """The fields that the kernel's headers mean by ``name``: ``sk_dport`` is a macro, ``__sk_common.skc_dport``."""
    if kt.kind not in ("struct", "union") or kt.member(name) is not None:
        return [name]
    common = kt.member("__sk_common")
    if name.startswith("sk_") and common is not None and common[1].member(f"skc_{name[3:]}") is not None:
        return ["__sk_common", f"skc_{name[3:]}"]
    store = kt.member("d_shortname")
    if name == "d_iname" and store is not None:  # since 58cf9c383c5c, 6.14
        return ["d_shortname", "string"]
    return [name]


def element(fn: Fn, node: ast.Subscript, value: C, index: C) -> C:
    """``value[index]``, and ``*value``."""
    number = as_int(fn, node.slice, index)
    if isinstance(value, CInt):
        fn.fail(node, "a number leads nowhere", "say what is there: *(u64 *)arg1")
    if isinstance(value, CText):
        fn.fail(node, "text has no elements here")
    fixed = isinstance(value, CPlace) and value.kt.kernel.fixed  # whose paths have fields only
    if isinstance(value, CPlace) and value.kt.kind == "array" and number.known is not None and not fixed:
        kind = value.kt.target()
        if not 0 <= number.known < value.kt.n and value.kt.n:
            fn.fail(node, f"index {number.known} is outside {value.kt}")
        return of_kt(fn, kmem.step(fn, value.val, number.known, kind), kind)
    pointer = decayed(fn, value) if isinstance(value, CPlace) else value
    if pointer.kt is None:
        fn.fail(node, "it is not known what this pointer leads to", "say it: *(u64 *)pointer")
    return at(fn, moved(fn, pointer, number), pointer.kt)


def moved(fn: Fn, pointer: CPtr, number: CInt) -> CPtr:
    """``pointer + number``, in elements."""
    if number.known == 0:
        return pointer
    size = pointer.kt.size or 1 if pointer.kt is not None else 1
    step = fn.bin("mul", number.expr, fn.num(size, number.signed), number.signed)
    # The context itself is read at fixed places only; anywhere else it is memory like any other.
    space = "kernel" if pointer.space == "ctx" else pointer.space
    return CPtr(fn.keep(fn.bin("add", pointer.expr, step, False)), space, pointer.kt)


def at(fn: Fn, pointer: CPtr, kt: KT) -> C:
    """What lies where ``pointer`` leads."""
    if kt.kind in ("struct", "union", "array"):
        base = fn.program_context() if pointer.space == "ctx" else pointer.expr
        return CPlace(Val(TEmbed(pointer.space, kt, (), kt), [base]))
    return of_kt(fn, kmem.read_kt(fn, pointer.space, lambda: pointer.expr, kt), kt)


def address(fn: Fn, node: ast.expr, value: C, name: str = "") -> C:
    """``&value``, or with ``name`` ``&value->name``: where it is, without reading it."""
    if name:
        embed = _embed(fn, node, value)
        assert isinstance(embed.ft, TEmbed)
        (embed, found), kind = _member(fn, node, embed, name)
        assert isinstance(embed.ft, TEmbed)
        if found.bits:
            fn.fail(node, "a bit-field has no address")
        deeper = Val(TEmbed(embed.ft.space, embed.ft.root, (*embed.ft.steps, found), kind), embed.exprs)
        return _where(fn, deeper, kind)
    if isinstance(value, CPlace):
        return _where(fn, value.val, value.kt)
    fn.fail(node, "this has no address", "fields and elements have one: &p->field")


def _where(fn: Fn, embed: Val, kt: KT) -> CPtr:
    assert isinstance(embed.ft, TEmbed)
    place = fn.keep(as_number(fn, kmem.address(fn, embed)))
    return CPtr(place, "kernel" if embed.ft.space == "ctx" else embed.ft.space, kt)


# --------------------------------------------------------------------------
# Text


def text(fn: Fn, node: ast.AST, value: C, space: str) -> Val:
    """The string that ``value`` is, or that it leads to; ``space``: whose memory, where that is not known."""
    if isinstance(value, CText):
        return value.val
    if isinstance(value, CPlace):
        if value.kt.kind == "array" and value.kt.target().size == 1:
            return texts.as_text(fn, value.val, node)
        fn.fail(node, f"{value.kt} is no text", "name one of its fields")
    if isinstance(value, CPtr):
        return Val(TText(_of_text(value), 0), [fn.keep(value.expr)])
    if value.known is not None:
        fn.fail(node, "a number is no text", "%d shows numbers")
    return Val(TText(value.space or space, 0), [fn.keep(value.expr)])


def _of_text(pointer: CPtr) -> str:
    return "kernel" if pointer.space == "ctx" else pointer.space


def begins_with(fn: Fn, node: ast.AST, value: C, raw: bytes, space: str) -> tir.Expr:
    """Whether ``raw`` is where ``value`` leads: as bcc's STRCMP has it, what follows does not matter."""
    if not raw:
        return fn.flag(True)
    found = text(fn, node, value, space)
    if isinstance(found.ft, TConst):
        return fn.flag(str(found.const).encode().startswith(raw))
    if isinstance(found.ft, TText) and found.ft.source != "comm":
        place = fn.slot(("compared", len(raw)), tir.Array(tir.CHAR, len(raw)))
        fn.emit(tir.Zero(fn.loc, place, len(raw)))
        # All of it may be read or nothing; text may end before its page does, so it is read up to its end.
        helpers = kmem.READ if 0 in raw else kmem.READ_STR
        size = len(raw) if 0 in raw else len(raw) + 1
        if size > len(raw):
            place = fn.slot(("compared", size), tir.Array(tir.CHAR, size))
            fn.emit(tir.Zero(fn.loc, place, size))
        kmem.by_helper(fn, helpers, found.ft.source, place, fn.num(size), found.exprs[0])
    else:
        place = texts.in_memory(fn, found, node, key="compared").exprs[0]
    return texts.bytes_equal(fn, place, raw)
