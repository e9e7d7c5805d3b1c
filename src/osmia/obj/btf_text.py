# SPDX-License-Identifier: Apache-2.0
"""A BTF type as C text, for messages and listings."""

from __future__ import annotations

from osmia.obj.consts import (
    BTF_KIND_ARRAY,
    BTF_KIND_CONST,
    BTF_KIND_ENUM,
    BTF_KIND_ENUM64,
    BTF_KIND_FUNC,
    BTF_KIND_FUNC_PROTO,
    BTF_KIND_FWD,
    BTF_KIND_PTR,
    BTF_KIND_RESTRICT,
    BTF_KIND_STRUCT,
    BTF_KIND_TYPE_TAG,
    BTF_KIND_UNION,
    BTF_KIND_VAR,
    BTF_KIND_VOLATILE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.obj.btf import Btf

_QUALIFIERS = {BTF_KIND_CONST: "const", BTF_KIND_VOLATILE: "volatile", BTF_KIND_RESTRICT: "restrict"}
_TAGGED = {
    BTF_KIND_STRUCT: "struct", BTF_KIND_UNION: "union", BTF_KIND_ENUM: "enum", BTF_KIND_ENUM64: "enum",
}
_MAX_DEPTH = 32


def declare(btf: Btf, id: int, inner: str, depth: int = 0) -> str:
    """C declaration of ``inner`` (a name, or nothing) with type ``id``: ``char comm[16]``, ``int (*f)(void)``."""
    t = btf.get(id)
    kind = t.kind
    if depth > _MAX_DEPTH:
        return _join("...", inner)
    if kind == BTF_KIND_PTR:
        behind = btf.get(btf_skip_qualifiers(btf, t.type_id)).kind
        # A pointer binds less tightly than the brackets and parentheses that follow it.
        star = f"(*{inner})" if behind in (BTF_KIND_ARRAY, BTF_KIND_FUNC_PROTO) else f"*{inner}"
        return declare(btf, t.type_id, star, depth + 1)
    if kind == BTF_KIND_ARRAY:
        return declare(btf, t.elem_id, f"{inner}[{t.nelems or ''}]", depth + 1)
    if kind == BTF_KIND_FUNC_PROTO:
        params = [declare(btf, type_id, name, depth + 1) if type_id else "..." for name, type_id in t.params]
        return declare(btf, t.type_id, f"{inner}({', '.join(params) or 'void'})", depth + 1)
    if kind in _QUALIFIERS:
        word = _QUALIFIERS[kind]
        if btf.get(t.type_id).kind == BTF_KIND_PTR:
            return declare(btf, t.type_id, _join(word, inner), depth + 1)
        return f"{word} {declare(btf, t.type_id, inner, depth + 1)}"
    if kind == BTF_KIND_TYPE_TAG:
        return declare(btf, t.type_id, inner, depth + 1)
    if kind == BTF_KIND_VAR:
        return declare(btf, t.type_id, t.name, depth + 1)
    if kind == BTF_KIND_FUNC:
        return declare(btf, t.type_id, t.name, depth + 1)
    if kind == BTF_KIND_FWD:
        return _join(f"{'union' if t.kind_flag else 'struct'} {t.name}", inner)
    word = _TAGGED.get(kind, "")
    return _join(f"{word} {t.name or '{...}'}" if word else t.name, inner)


def btf_skip_qualifiers(btf: Btf, id: int) -> int:
    """The type behind const, volatile, restrict and type tags, but not behind typedefs."""
    for _ in range(_MAX_DEPTH):
        t = btf.get(id)
        if t.kind not in _QUALIFIERS and t.kind != BTF_KIND_TYPE_TAG:
            break
        id = t.type_id
    return id


def _join(word: str, inner: str) -> str:
    # `char[16]` but `char *` and `char name`.
    return f"{word} {inner}" if inner and inner[0] != "[" else word + inner


def listing(btf: Btf) -> str:
    """Every type of ``btf``, one a line: id, kind, name or declaration; members and parameters below."""
    from osmia.obj.btf import KIND_NAMES

    lines = []
    for id in btf.ids():
        t = btf.get(id)
        head = f"[{id}] {KIND_NAMES[t.kind]} {t.name or declare(btf, id, '')}".rstrip()
        lines.append(f"{head} size={t.size}" if t.kind in (BTF_KIND_STRUCT, BTF_KIND_UNION) else head)
        lines += [f"    {m.bit_offset // 8:5} {declare(btf, m.type_id, m.name)}" for m in t.members]
        lines += [f"    {name} = {value}" for name, value in t.enumerators]
    return "\n".join(lines)
