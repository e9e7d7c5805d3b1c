#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write backend/kernel_types.txt, the types that a wheel's objects are compiled against, from a kernel's BTF.

    gen_types.py [--btf FILE]    write it, from the running kernel or a file with BTF
    gen_types.py --check         exit 1 if the tools need more than it has, or less

The compiler's front end runs over every tool, and what it asks of the types is
kept: structures with the members that are named, and no others.  The check
does the same with the file itself, so it needs no kernel: a file that
has all and nothing else comes out as it was.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "backend"))

from kernel_types import FILE, KernelTypes, lines

from osmia.cli import shipped
from osmia.cli.main import tool_unit
from osmia.compiler import ktypes
from osmia.compiler.stages import build
from osmia.kernel import btf_source, tracefs
from osmia.obj import consts
from osmia.obj.btf import Btf, Member, Type
from osmia.obj.btf_write import BtfBuilder

ROOT = Path(__file__).resolve().parents[1]
COMPOSITE = (consts.BTF_KIND_STRUCT, consts.BTF_KIND_UNION)
ENUMS = (consts.BTF_KIND_ENUM, consts.BTF_KIND_ENUM64)
#: Functions that newer kernels have no more: what they return ("" for nothing), and their parameters with types.
#: tcp_drop: 8fbf195798b5 (5.18) made a use of another one of it; tcp_sendpage: dc97391e6610 (6.5); swap_readpage:
#: c9bdf768dd93 (6.9) renamed it.
GONE_FUNCTIONS = {
    "tcp_drop": ("", (("sk", "struct sock *"), ("skb", "struct sk_buff *"))),
    "tcp_sendpage": ("int", (("sk", "struct sock *"), ("page", "struct page *"), ("offset", "int"),
                             ("size", "long unsigned int"), ("flags", "int"))),
    "swap_readpage": ("int", (("page", "struct page *"),)),
}  # fmt: skip
#: Tracepoints that the kernel at hand may lack, and their parameters: those of kernels that are configured so
#: (CONFIG_PREEMPTIRQ_TRACEPOINTS), and those that 11e9734bcb6a ("mm/slab_common: unify NUMA and UMA version of
#: tracepoints", 6.1) took away.
RARE = {
    **dict.fromkeys(("irq_disable", "irq_enable", "preempt_disable", "preempt_enable"),
                    (("ip", "long unsigned int"), ("parent_ip", "long unsigned int"))),
    **dict.fromkeys(("kmalloc_node", "kmem_cache_alloc_node"),
                    (("call_site", "long unsigned int"), ("ptr", "void *"), ("bytes_req", "long unsigned int"),
                     ("bytes_alloc", "long unsigned int"), ("gfp_flags", "unsigned int"), ("node", "int"))),
}  # fmt: skip


class Watched(Btf):
    """A BTF that notes what it is asked for."""

    def __init__(self, data: Any, name: str) -> None:
        super().__init__(data, name=name)
        self.noting = True
        self.wanted: set[int] = set()
        self.members: dict[int, set[str]] = {}
        self.events: dict[str, str] = {}

    def get(self, id: int) -> Type:
        if self.noting and id:
            self.wanted.add(id)
        before, self.noting = self.noting, False  # decoding one asks for others
        try:
            return super().get(id)
        finally:
            self.noting = before

    def _find_member(self, struct_id: int, name: str, depth: int) -> tuple[list[Member], int] | None:
        before, self.noting = self.noting, False
        try:
            found = super()._find_member(struct_id, name, depth)
        finally:
            self.noting = before
        here = struct_id
        for member in found[0] if found is not None and self.noting else ():
            self.wanted.add(here)
            # A member without a name is known by its place.
            self.members.setdefault(here, set()).add(member.name or f"@{member.bit_offset}")
            here = self.resolve(member.type_id)
        return found


def note_records(btf: Watched) -> None:
    """Have the look-up of tracepoint records note its answer, and not all the structures that it has looked at."""
    real = ktypes.Kernel.record

    def record(self: ktypes.Kernel, category: str, event: str) -> ktypes.KT | None:
        btf.noting = False
        try:
            found = real(self, category, event)
        finally:
            btf.noting = True
        if found is not None:
            if btf.get(found.id).name != found.name:
                raise SystemExit(f"{category}:{event}: its record is not among the types")
            btf.members.setdefault(found.id, set()).add("*")
            if found.name != f"trace_event_raw_{event}":
                btf.events[f"{category}:{event}"] = found.name
        return found

    ktypes.Kernel.record = record  # type: ignore[method-assign]


def ask(btf: Watched, formats: Any) -> None:
    """The front end over every tool."""
    note_records(btf)
    for name in shipped.names():
        made = build(tool_unit(name), btf, formats)
        left = [record[2] for record in made.meta if record[0] == "left"]
        if left:
            raise SystemExit(f"{name}: {'; '.join(left)}: add it to RARE, or take newer types")


def kept(btf: Watched) -> list[Type]:
    """The types to keep, in order, reduced to what was asked for, and numbered anew."""
    wanted = set(btf.wanted)
    btf.noting = False
    stubs: set[int] = set()
    out: dict[int, Type] = {}
    todo = sorted(wanted)
    while todo:
        id = todo.pop()
        if id in out or not id:
            continue
        t = out[id] = reduced(btf, id, id in wanted)
        stubs |= set() if id in wanted else {id}
        todo += [one for one in references(t) if one not in out]
    numbers = {0: 0} | {id: number for number, id in enumerate(sorted(out), 1)}
    for t in out.values():
        renumber(t, numbers)
    return [out[id] for id in sorted(out)]


def reduced(btf: Watched, id: int, asked: bool) -> Type:
    """A copy of a type: what was not looked into is named and no more."""
    real = btf.get(id)
    kind = consts.BTF_KIND_FWD if real.kind in COMPOSITE and not asked and real.name else real.kind
    t = Type(id, kind, real.name, 0, real.kind == consts.BTF_KIND_UNION if kind != real.kind else real.kind_flag)
    t.size, t.type_id, t.encoding, t.bits = real.size, real.type_id, real.encoding, real.bits
    t.elem_id, t.nelems = real.elem_id, real.nelems
    if kind in COMPOSITE:
        names = btf.members.get(id, set())
        t.members = [Member(m.name, m.type_id, m.bit_offset, m.bitfield_size) for m in real.members
                     if "*" in names or (m.name or f"@{m.bit_offset}") in names]  # fmt: skip
    elif kind in ENUMS and asked:
        t.enumerators = real.enumerators
    elif kind == consts.BTF_KIND_FUNC_PROTO and asked:
        t.params = list(real.params)
    elif kind == consts.BTF_KIND_FUNC_PROTO:
        t.type_id = 0
    return t


def references(t: Type) -> list[int]:
    """Numbers of the types that this one names."""
    members, params = [m.type_id for m in t.members], [id for _, id in t.params]
    return [t.type_id, t.elem_id, *members, *params]


def renumber(t: Type, numbers: dict[int, int]) -> None:
    """Put the new numbers in."""
    t.id, t.type_id, t.elem_id = numbers[t.id], numbers[t.type_id], numbers[t.elem_id]
    for m in t.members:
        m.type_id = numbers[m.type_id]
    t.params = [(name, numbers[id]) for name, id in t.params]


def text(btf: Watched, head: str) -> str:
    """The file."""
    body = [line for t in kept(btf) for line in lines(t)]
    body += [f"event {event} {struct}" for event, struct in sorted(btf.events.items())]
    return head + "\n".join(body) + "\n"


def with_gone(btf: Btf) -> bytes:
    """The types, and behind them tracepoints and functions that this kernel lacks."""
    raw = bytes(btf._raw)
    added = BtfBuilder()
    added._strings, added._next = bytearray(btf._raw[btf._str_raw : btf._str_raw + btf._str_len]), btf.end_id
    for name, (result, parameters) in GONE_FUNCTIONS.items():
        returned = typed(btf, added, result) if result else 0
        given = [(what, typed(btf, added, kind)) for what, kind in parameters]
        added.add_func(name, added.add_func_proto(returned, given), 0)
    for name, parameters in RARE.items():
        given = [("__data", added.add_ptr(0)), *[(what, typed(btf, added, kind)) for what, kind in parameters]]
        added.add_typedef(f"btf_trace_{name}", added.add_ptr(added.add_func_proto(0, given)))
    types = raw[btf.type_start : btf.type_end] + bytes(added._types)
    header = bytearray(raw[:24])
    for place, value in ((4, 24), (8, 0), (12, len(types)), (16, len(types)), (20, len(added._strings))):
        header[place : place + 4] = value.to_bytes(4, "little")
    return bytes(header) + types + bytes(added._strings)


def typed(btf: Btf, added: BtfBuilder, text: str) -> int:
    """The number of a type of C's: an integer, or a pointer to a structure of the kernel's."""
    if text == "void *":
        return added.add_ptr(0)
    if text.endswith(" *"):
        return added.add_ptr(btf.find(text[:-2].removeprefix("struct "), consts.BTF_KIND_STRUCT))
    return btf.find(text, consts.BTF_KIND_INT)


def from_kernel(path: str) -> str:
    """The file's text, from the running kernel's types or those at ``path``; records from its tracefs."""
    if path:
        btf_source.use(os.path.abspath(path))
    plain = btf_source.kernel_btf()
    if plain is None:
        raise SystemExit("this kernel has no BTF: give a file with --btf FILE")
    btf = Watched(with_gone(plain), "kernel")

    def formats(category: str, event: str) -> str | None:
        return tracefs.format(category, event) if tracefs.exists(category, event) else None

    ask(btf, formats)
    origin = f"the types at {os.path.basename(path)}" if path else f"Linux {os.uname().release} {os.uname().machine}"
    made_by = f"GENERATED by scripts/gen_types.py from {origin}: run it again instead of editing."
    return text(btf, f"# SPDX-License-Identifier: Apache-2.0\n# {made_by}\n")


def from_itself() -> tuple[str, str]:
    """What the file says, and what comes out when its own types are asked for."""
    have = Path(FILE).read_text(encoding="utf-8")
    types = KernelTypes(have)
    btf = Watched(types.btf._raw, "kernel_types.txt")
    ask(btf, types.tracepoint_format)
    return have, text(btf, types.head)


def main(words: list[str]) -> int:
    if words == ["--check"]:
        have, found = from_itself()
        if have != found:
            sys.stderr.write(f"not current: {os.path.relpath(FILE, ROOT)}; run scripts/gen_types.py\n")
        return int(have != found)
    if words and (words[0] != "--btf" or len(words) != 2):
        sys.stderr.write((__doc__ or "") + "\n")
        return 2
    made = from_kernel(words[1] if words else "")
    Path(FILE).write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
