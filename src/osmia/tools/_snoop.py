# SPDX-License-Identifier: Apache-2.0
"""The programs of ksnoop: for each function one at its entry and one at its return, with what is to be shown there.

``FUNC := NAME | NAME(ARG[, ARG…])``, ``ARG := VALUE [PREDICATE]``: values are what the
specification language knows of the function, ``return`` is its result; all
predicates must hold.  A value that is a pointer to a structure takes the
structure's first bytes with it.
"""

from __future__ import annotations

import re

from osmia.compiler import syntax as ast
from osmia.compiler.ktypes import Kernel
from osmia.errors import NotFound, OptionError
from osmia.kernel import btf_source, functions
from osmia.lang.builtins import cast
from osmia.lang.maps import Ring
from osmia.lang.types import Bytes, Event, u32, u64
from osmia.obj import consts
from osmia.probespec.statements import statement
from osmia.probespec.tree import Cast
from osmia.tools._probes import Probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.obj.btf import Btf

#: Bytes of a structure that are shown, and values of one function.
MOST_BYTES, MOST_VALUES = 1024, 8
_PREDICATE = re.compile(r"^(.*?[^-<>=!])\s*(==|!=|>=|<=|>|<)\s*(.+)$")
_STRUCTURES = (consts.BTF_KIND_STRUCT, consts.BTF_KIND_UNION)


class Value:
    """One value: ``text`` as typed, the type's number in ``btf``; ``size``: bytes of the structure behind it, or 0."""

    def __init__(self, text: str, btf: Btf, id: int) -> None:
        self.text = text
        self.btf = btf
        self.id = id
        self.target = 0
        self.size = 0
        real = btf.get(btf.resolve(id)) if btf.resolve(id) else None
        if real is not None and real.kind == consts.BTF_KIND_PTR:
            behind = btf.resolve(real.type_id)
            if behind and btf.get(behind).kind in _STRUCTURES:
                self.target, self.size = real.type_id, min(btf.size_of(behind), MOST_BYTES)


class Snooped:
    """One function: ``entry`` and ``leave`` are the values shown at either end; ``filters`` C expressions for each."""

    def __init__(self, text: str) -> None:
        self.name, inside = _taken_apart(text)
        self.btf, self.proto = _known(self.name)
        self.entry: list[Value] = []
        self.leave: list[Value] = []
        self.filters: dict[bool, list[str]] = {False: [], True: []}
        for word in inside if inside is not None else [*[name for name, _ in self.params if name], "return"]:
            found = _PREDICATE.match(word)
            value = found[1].strip() if found else word
            returns = value.partition("->")[0].strip() == "return"
            if returns and not self.result:
                if inside is not None:
                    raise OptionError(f"{self.name} returns nothing", where="ksnoop", fix="leave return out")
                continue
            if found:
                self.filters[returns].append(f"{_in_c(value)} {found[2]} {found[3]}")
            (self.leave if returns else self.entry).append(Value(value, self.btf, self._type(value)))
        if max(len(self.entry), len(self.leave)) > MOST_VALUES:
            self.entry = self.entry[:MOST_VALUES]

    @property
    def params(self) -> list[tuple[str, int]]:
        return list(self.btf.get(self.proto).params)

    @property
    def result(self) -> int:
        """Number of the result's type; 0: it returns nothing."""
        return self.btf.resolve(self.btf.get(self.proto).type_id) and self.btf.get(self.proto).type_id

    def _type(self, value: str) -> int:
        base, *path = [word.strip() for word in re.split(r"->|\.", value)]
        types = dict(self.params)
        if base != "return" and base not in types:
            names = ", ".join(types) or "none"
            raise NotFound(f"{self.name} has no argument {base}", where="ksnoop", fix=f"it has {names}")
        id = self.result if base == "return" else types[base]
        for name in path:
            real = self.btf.get(self.btf.resolve(id))
            holder = self.btf.resolve(real.type_id) if real.kind == consts.BTF_KIND_PTR else self.btf.resolve(id)
            found = self.btf.find_member(holder, name) if self.btf.get(holder).kind in _STRUCTURES else None
            if found is None:
                raise NotFound(f"{value}: there is no member {name}", where="ksnoop", fix="pahole shows them")
            id = found[0][-1].type_id
        return id


def _taken_apart(text: str) -> tuple[str, list[str] | None]:
    found = re.fullmatch(r"\s*([\w:.]+)\s*(?:\((.*)\))?\s*", text, re.S)
    if found is None:
        raise OptionError(f"{text!r} is no function", where="ksnoop", fix="write NAME or NAME(ARG, ...)")
    if found[2] is None:
        return found[1], None
    return found[1], [word.strip() for word in found[2].split(",") if word.strip()]


def _known(name: str) -> tuple[Btf, int]:
    """The types of the function ``name`` and the number of its prototype.  NotFound with near names."""
    functions.refuse(name, "ksnoop")
    btf = btf_source.kernel_btf()
    id = btf.find(name, (consts.BTF_KIND_FUNC,)) if btf is not None else 0
    if btf is not None and not id:
        module = functions.module_types("", name)
        btf, id = (module, module.find(name, (consts.BTF_KIND_FUNC,))) if module is not None else (btf, 0)
    if btf is None or not id:
        from osmia.compiler import signatures

        near = signatures.near(Kernel(btf_source.kernel_btf()), name)
        raise NotFound(f"the kernel's BTF has no function {name}", where="ksnoop",
                       fix=f"did you mean {' or '.join(near)}?" if near else "")  # fmt: skip
    return btf, btf.resolve(btf.get(id).type_id)


def function_id(name: str) -> tuple[Btf, int]:
    """The types of the function and its own number in them."""
    btf, _ = _known(name)
    return btf, btf.find(name, (consts.BTF_KIND_FUNC,))


def ring_of(made: list[Snooped], size: int) -> Ring:
    """Events with room for the function that has most to show."""
    notes: dict[str, Any] = {"time": u64, "cpu": u32, "pid": u32, "which": u32, "returns": u32}
    ends = [end for one in made for end in (one.entry, one.leave)]
    notes |= {f"v{n}": u64 for n in range(max(map(len, ends)))}
    for n in range(max(map(len, ends))):
        most = max([end[n].size for end in ends if n < len(end)])
        if most:
            notes[f"d{n}"] = Bytes[most]
    return Ring(type("Snoop", (Event,), {"__annotations__": notes}), size)


def _in_c(value: str) -> str:
    return re.sub(r"^return\b", "retval", value)


def program(one: Snooped, number: int, space: dict[str, Any], in_order: bool) -> dict[str, Any]:
    """The programs of the function number ``number``, by name; ``in_order``: only within the one before it.

    ``space`` has the maps ``events``, ``reached`` (thread to functions of the list that it is in) and ``chosen``.
    """
    declared: dict[str, Any] = {}
    for returns in (True, False):
        values = one.leave if returns else one.entry
        if not values and not in_order and (returns or not one.filters[False]):
            continue
        texts = [f"({_in_c(value.text)})" for value in values] or ["0"]
        head = f"{'r:' if returns else 'p:'}:{one.name}"
        condition = f" ({' && '.join(f'({text})' for text in one.filters[returns])})" if one.filters[returns] else ""
        made = Probe(statement(f'{head}{condition} "{" ".join(["%llx"] * len(texts))}", {", ".join(texts)}', "ksnoop"),
                     number, 0)  # fmt: skip
        (hook,) = made.hooks
        body, holes = _body(made, one, number, returns, in_order)
        prog = made.add(f"{'leave' if returns else 'enter'}_{number}", hook, body, holes, {**space, "cast": cast})
        declared[prog.name] = prog
    return declared


def _body(
    made: Probe, one: Snooped, number: int, returns: bool, in_order: bool
) -> tuple[list[str], dict[str, ast.expr]]:
    values = one.leave if returns else one.entry
    # A return is shown where its entry passed the predicates.
    depends = bool(one.filters[False] and one.leave)
    holes: dict[str, ast.expr] = {}
    body = ["if not wanted():", "    return"]
    if depends and returns:
        body += [f"if chosen.pop((current.pid, {number})) is None:", "    return"]
    if in_order:
        body += ["here = reached[current.pid]", f"if here != {number + returns}:", "    return",
                 f"reached[current.pid] = {number + (not returns)}"]  # fmt: skip
        if number == 0:
            return body, holes
    if made.statement.filter is not None:
        body += ["if not __filter:", "    return"]
        holes["__filter"] = made.statement.filter
    if depends and not returns:
        body.append(f"chosen[current.pid, {number}] = 1")
    if not values:
        return body, holes
    body += ["with events.reserve() as e:", "    e.time, e.cpu, e.pid = ktime(), cpu(), current_process_id()",
             f"    e.which, e.returns = {number}, {int(returns)}"]  # fmt: skip
    for n, (value, expression) in enumerate(zip(values, made.statement.values, strict=False)):
        holes[f"__v{n}"] = ast.copy_location(Cast(expression, "u64"), expression)
        body += [f"    at_{n} = __v{n}", f"    e.v{n} = at_{n}"]
        if value.size:  # the kind of structure does not matter: as many bytes are copied as the field has
            body.append(f'    e.d{n} = cast(at_{n}, "struct task_struct")')
    return body, holes
