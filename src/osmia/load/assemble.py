# SPDX-License-Identifier: Apache-2.0
"""One program out of an entry function and all that it calls.  Pure arithmetic.

The kernel wants a program and its subprograms as one run of instructions.
Each called function is appended once, and its calls, callbacks, relocations
and debug records move with it.
"""

from __future__ import annotations

import struct

from osmia.errors import InternalError, UserError
from osmia.obj import consts
from osmia.obj.spec import FuncSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from osmia.obj.spec import ObjectSpec, ProgSpec

INSN = 8
_RETURN_0 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)
_AS_THEY_ARE: dict[str, FuncSpec] = {}


class Assembled:
    """A program ready for the last step: everything relocated but maps and CO-RE.

    ``uses`` holds ``(byte offset, map name, addend or None)`` for each
    reference to a map (None) or into a data section; ``pointers`` are the
    offsets of instructions that take a function's address; the record lists
    are as in :class:`~osmia.obj.spec.FuncSpec`, offsets in bytes of the whole.
    """

    __slots__ = ("core_relos", "func_info", "insns", "line_info", "pointers", "uses")

    def __init__(self) -> None:
        self.insns = bytearray()
        self.pointers: list[int] = []
        self.uses: list[tuple[int, str, int | None]] = []
        self.core_relos: list[tuple[int, int, int, int]] = []
        self.func_info: list[tuple[int, int]] = []
        self.line_info: list[tuple[int, int, int, int]] = []

    def core_bytes(self) -> bytes:
        """CO-RE records as BPF_PROG_LOAD takes them (offsets in bytes)."""
        return b"".join(struct.pack("<IIII", *r) for r in self.core_relos)

    def func_bytes(self) -> bytes:
        """func_info records as BPF_PROG_LOAD takes them (offsets in instructions)."""
        return b"".join(struct.pack("<II", off // INSN, type_id) for off, type_id in self.func_info)

    def line_bytes(self) -> bytes:
        """line_info records as BPF_PROG_LOAD takes them (offsets in instructions)."""
        return b"".join(struct.pack("<IIII", off // INSN, f, line, col) for off, f, line, col in self.line_info)

    def drop_pointers(self) -> None:
        """Make plain zeros of the addresses of functions.

        Kernels before 5.13 refuse such an instruction even where it is never
        reached; there the code around it has to be dead.
        """
        for at in self.pointers:
            self.insns[at + 1] &= 0x0F
            struct.pack_into("<i", self.insns, at + 4, 0)
        self.pointers.clear()

    def with_maps(self, fds: dict[str, int]) -> bytearray:
        """A copy of the instructions with every map reference filled in."""
        out = bytearray(self.insns)
        for offset, name, addend in self.uses:
            out[offset + 1] = out[offset + 1] & 0x0F | (
                consts.BPF_PSEUDO_MAP_FD if addend is None else consts.BPF_PSEUDO_MAP_VALUE
            ) << 4
            struct.pack_into("<I", out, offset + 4, fds[name])
            struct.pack_into("<i", out, offset + 12, addend or 0)
        return out


def idle(spec: ObjectSpec, records: list[tuple[str, ...]]) -> dict[str, FuncSpec]:
    """What stands in for the subprograms that no run with these options calls: they do nothing and need nothing.

    Such a function is in a dead branch, but the kernel would relocate every
    access to a field in it all the same, at 15 µs each.
    """
    out = {}
    for record in records:
        if record[0] != "when" or record[1] not in spec.funcs:
            continue
        for data in spec.maps.values():
            if data.contents is not None and record[2] in data.variables:
                offset, size = data.variables[record[2]]
                if not any(data.contents[offset : offset + size]):
                    out[record[1]] = _nothing(spec.funcs[record[1]])
    return out


def _nothing(function: FuncSpec) -> FuncSpec:
    made = FuncSpec(function.name, _RETURN_0)
    made.func_info = function.func_info[:1]
    made.line_info = function.line_info[:1]
    return made


def assemble(spec: ObjectSpec, prog: ProgSpec, instead: Mapping[str, FuncSpec] = _AS_THEY_ARE) -> Assembled:
    """Put ``prog`` together with the functions it reaches, in the order of first reference.

    ``instead`` has functions that are to be taken for those of the object.
    """
    whole = Assembled()
    starts: dict[str, int] = {prog.name: 0}
    order: list[FuncSpec] = [prog]
    size = len(prog.insns)
    for function in order:  # grows while being walked
        for reloc in function.relocs:
            if reloc.kind in ("call", "func") and reloc.target not in starts:
                called = instead.get(reloc.target) or spec.funcs.get(reloc.target) or spec.progs.get(reloc.target)
                if called is None:
                    raise UserError(f"calls {reloc.target}(), which the object does not define", where=function.name)
                starts[reloc.target] = size
                order.append(called)
                size += len(called.insns)
    for function in order:
        _append(whole, function, starts)
    # The kernel wants a func_info record per subprogram or none at all.
    if len(whole.func_info) != len(order):
        whole.func_info, whole.line_info = [], []
    return whole


def _append(whole: Assembled, function: FuncSpec, starts: dict[str, int]) -> None:
    base = len(whole.insns)
    whole.insns += function.insns
    for reloc in function.relocs:
        at = base + reloc.offset
        if reloc.kind == "map":
            whole.uses.append((at, reloc.target, None))
        elif reloc.kind == "data":
            whole.uses.append((at, reloc.target, reloc.addend))
        elif reloc.kind in ("call", "func"):
            mark = consts.BPF_PSEUDO_CALL if reloc.kind == "call" else consts.BPF_PSEUDO_FUNC
            whole.insns[at + 1] = whole.insns[at + 1] & 0x0F | mark << 4
            struct.pack_into("<i", whole.insns, at + 4, (starts[reloc.target] - at) // INSN - 1)
            if reloc.kind == "func":
                whole.pointers.append(at)
                struct.pack_into("<i", whole.insns, at + 12, 0)
        else:
            raise InternalError(f"unknown relocation kind {reloc.kind!r}")
    whole.core_relos += [(base + r[0], *r[1:]) for r in function.core_relos]
    whole.func_info += [(base + off, type_id) for off, type_id in function.func_info]
    whole.line_info += [(base + r[0], *r[1:]) for r in function.line_info]
