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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.obj.spec import FuncSpec, ObjectSpec, ProgSpec

INSN = 8


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


def assemble(spec: ObjectSpec, prog: ProgSpec) -> Assembled:
    """Put ``prog`` together with the functions it reaches, in the order of first reference."""
    whole = Assembled()
    starts: dict[str, int] = {prog.name: 0}
    order: list[FuncSpec] = [prog]
    size = len(prog.insns)
    for function in order:  # grows while being walked
        for reloc in function.relocs:
            if reloc.kind in ("call", "func") and reloc.target not in starts:
                called = spec.funcs.get(reloc.target) or spec.progs.get(reloc.target)
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
