# SPDX-License-Identifier: Apache-2.0
"""CO-RE relocation: pure arithmetic on two BTFs.

A relocation says "this number in an instruction is the offset (size, sign,
existence ...) of member x of type T in the types I was compiled against"; it
is replaced by the same fact about the kernel at hand.  Kernels do it
themselves when given the records (since 5.17); this is for those that do not,
and for kernels without BTF.  The rules are those of the kernel's
``tools/lib/bpf/relo_core.c``, with one simplification: "type matches" is
answered by name, kind and, for structures, nothing else.

What the target lacks does not fail here: the instruction is replaced by a
call of a helper that does not exist, which the verifier never reaches when
the program asked first whether the field exists.
"""

from __future__ import annotations

import struct

from osmia.errors import UserError
from osmia.obj import core_match
from osmia.obj.btf import Btf
from osmia.obj.consts import (
    BPF_CORE_ENUMVAL_EXISTS,
    BPF_CORE_ENUMVAL_VALUE,
    BPF_CORE_FIELD_BYTE_OFFSET,
    BPF_CORE_FIELD_BYTE_SIZE,
    BPF_CORE_FIELD_EXISTS,
    BPF_CORE_FIELD_LSHIFT_U64,
    BPF_CORE_FIELD_RSHIFT_U64,
    BPF_CORE_FIELD_SIGNED,
    BPF_CORE_TYPE_EXISTS,
    BPF_CORE_TYPE_ID_LOCAL,
    BPF_CORE_TYPE_ID_TARGET,
    BPF_CORE_TYPE_MATCHES,
    BPF_CORE_TYPE_SIZE,
    BTF_KIND_INT,
    BTF_KIND_PTR,
)
from osmia.obj.core_match import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

POISON = 0xBAD2310
KIND_NAMES = (
    "byte_off", "byte_sz", "field_exists", "signed", "lshift_u64", "rshift_u64", "local_type_id", "target_type_id",
    "type_exists", "type_size", "enumval_exists", "enumval_value", "type_matches",
)
#: Kinds that ask whether the target has something: what it lacks is answered with 0.
EXISTENCE = (BPF_CORE_FIELD_EXISTS, BPF_CORE_TYPE_EXISTS, BPF_CORE_TYPE_MATCHES, BPF_CORE_ENUMVAL_EXISTS)
_TYPE_ZERO = (BPF_CORE_TYPE_ID_TARGET, BPF_CORE_TYPE_SIZE)  # zero for a type that the target lacks
_LD, _LDX, _ST, _STX, _ALU, _ALU64 = 0, 1, 2, 3, 4, 7
_LD_IMM64 = 0x18
_SIZE_BITS = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}  # access size in bytes -> bits of the opcode
_SIZES = {0x10: 1, 0x08: 2, 0x00: 4, 0x18: 8}
_INSN = struct.Struct("<BBhI")


class Value:
    """What one relocation asks about one type system.

    ``number`` is the answer; ``size`` and ``type_id`` are those of the memory
    access that a byte offset stands for (0: unknown), and ``exact`` says that
    the compiler cannot have come to another number.
    """

    __slots__ = ("exact", "number", "size", "type_id")

    def __init__(self, number: int, *, size: int = 0, type_id: int = 0, exact: bool = True) -> None:
        self.number = number
        self.size = size
        self.type_id = type_id
        self.exact = exact


class Resolution:
    """The outcome for one relocation: ``local`` is what the instruction holds, ``target`` what it shall hold.

    ``target`` is ``None`` when the target has no such thing (poison);
    ``resizable`` whether a load or store may change its width.
    """

    __slots__ = ("local", "resizable", "target")

    def __init__(self, local: Value, target: Value | None, resizable: bool = True) -> None:
        self.local = local
        self.target = target
        self.resizable = resizable


def relocate(
    insns: bytearray, core_relos: Sequence[tuple[int, int, int, int]], local: Btf, target: Btf, where: str
) -> None:
    """Patch one function's instructions, in place.

    ``core_relos`` are :attr:`FuncSpec.core_relos`; ``where`` names the
    function in messages.  Raises :class:`UserError` for a record that does
    not fit its instruction, and for one that the target answers in two ways.
    """
    Relocator(local, target).relocate(insns, core_relos, where)


def describe(local: Btf, relo: tuple[int, int, int, int]) -> str:
    """``task_struct.__state (byte_off)``: what a relocation is about, for messages."""
    _, type_id, access_off, kind = relo
    label = KIND_NAMES[kind] if kind < len(KIND_NAMES) else f"kind {kind}"
    try:
        return f"{core_match.parse(local, type_id, local.string(access_off), kind).text(local)} ({label})"
    except UserError:
        return f"{local.name_of(type_id)} ({label})"


class Relocator:
    """Relocations of one object against one target; remembers what it found, since programs repeat themselves."""

    def __init__(self, local: Btf, target: Btf) -> None:
        self.local = local
        self.target = target
        self._candidates: dict[int, list[int]] = {}
        self._resolved: dict[tuple[int, int, int], Resolution] = {}

    def relocate(self, insns: bytearray, core_relos: Sequence[tuple[int, int, int, int]], where: str) -> None:
        """See :func:`relocate`."""
        for relo in core_relos:
            self._relocate(insns, relo, where)

    def _relocate(self, insns: bytearray, relo: tuple[int, int, int, int], where: str) -> None:
        try:
            _patch(insns, relo[0], self.resolve(relo))
        except _Misfit as e:
            raise UserError(
                f"CO-RE relocation {describe(self.local, relo)}: {e}", where=f"{where} (instruction {relo[0] // 8})"
            ) from None

    def resolve(self, relo: tuple[int, int, int, int]) -> Resolution:
        """The answer to one record.  Raises :class:`UserError` when it cannot be given."""
        found = self._resolved.get(relo[1:])
        if found is None:
            found = self._resolved[relo[1:]] = self._resolve(relo[1], self.local.string(relo[2]), relo[3])
        return found

    def _resolve(self, type_id: int, access: str, kind: int) -> Resolution:
        if kind >= len(KIND_NAMES):
            raise _Misfit(f"kind {kind} is not known to this version")
        spec = core_match.parse(self.local, type_id, access, kind)
        if kind == BPF_CORE_TYPE_ID_LOCAL:
            value = Value(type_id, exact=False)
            return Resolution(value, value)
        mine = _value(self.local, spec, kind)
        results: list[tuple[Resolution, int]] = []
        for candidate in self._find_candidates(type_id):
            match = core_match.match(self.local, spec, self.target, candidate, kind)
            if match is not None:
                theirs = _value(self.target, match, kind)
                results.append((Resolution(mine, theirs, self._resizable(mine, theirs)), match.bit_offset))
        if not results:
            return Resolution(mine, _absent(kind))
        first, first_offset = results[0]
        for other, offset in results[1:]:
            if offset != first_offset or _number(other.target) != _number(first.target):
                raise _Misfit(f"ambiguous, the kernel has {len(results)} types of that name that differ")
        return first

    def knows(self, type_id: int) -> bool:
        """Whether the target has a type of that name at all."""
        return bool(self._find_candidates(type_id))

    def _find_candidates(self, type_id: int) -> list[int]:
        found = self._candidates.get(type_id)
        if found is None:
            t = self.local.get(type_id)
            name = core_match.essential(t.name)
            if not name:
                raise _Misfit("a type without a name cannot be looked up")
            kinds = core_match.ENUMS if t.kind in core_match.ENUMS else (t.kind,)
            base = self.target.base
            # The kernel proper comes first, a module's own types only when it has none of that name.
            found = list(base.find_all(name, kinds, flavours=True)) if base is not None else []
            found = found or list(self.target.find_all(name, kinds, flavours=True))
            self._candidates[type_id] = found
        return found

    def _resizable(self, mine: Value, theirs: Value) -> bool:
        """Whether a load of the one may become a load of the other: pointers, and integers that zero-extend."""
        if mine.size == theirs.size or not mine.type_id or not theirs.type_id:
            return True
        a = self.local.get(self.local.resolve(mine.type_id))
        b = self.target.get(self.target.resolve(theirs.type_id))
        if a.kind == b.kind == BTF_KIND_PTR:
            return True
        return a.kind == b.kind == BTF_KIND_INT and not a.signed and not b.signed


_Misfit = core_match.Misfit


def _number(value: Value | None) -> int | None:
    return None if value is None else value.number


def _absent(kind: int) -> Value | None:
    if kind in EXISTENCE or kind in _TYPE_ZERO:
        return Value(0)
    return None


def _value(btf: Btf, spec: Spec, kind: int) -> Value:
    if kind in EXISTENCE:
        return Value(1)
    if kind == BPF_CORE_TYPE_ID_TARGET:
        return Value(spec.root, exact=False)
    if kind == BPF_CORE_TYPE_SIZE:
        return Value(btf.size_of(spec.root))
    if kind == BPF_CORE_ENUMVAL_VALUE:
        number = btf.get(btf.resolve(spec.root)).enumerators[spec.enumerator][1]
        # The same compilers write -3 as 4294967293 there, and as -3 in the instruction.
        return Value(number, exact=not 0x80000000 <= number <= 0xFFFFFFFF)
    return _field_value(btf, spec, kind)


def _field_value(btf: Btf, spec: Spec, kind: int) -> Value:
    last = spec.accesses[-1]
    if not last.name:  # an element of an array, or the whole type
        size = btf.size_of(last.type_id)
        if kind == BPF_CORE_FIELD_BYTE_OFFSET:
            return Value(spec.bit_offset // 8, size=size, type_id=last.type_id)
        if kind == BPF_CORE_FIELD_BYTE_SIZE:
            return Value(size)
        raise _Misfit("asked of an array element, which only has an offset and a size")
    member = btf.get(last.type_id).members[last.index]
    type_id = btf.resolve(member.type_id)
    bits = member.bitfield_size
    size = btf.size_of(type_id)
    if bits:
        start, size = _bitfield_unit(spec.bit_offset, bits, size)
    else:
        start, bits = spec.bit_offset // 8, size * 8
    exact = not member.bitfield_size  # compilers choose the unit that holds a bit field as they like
    if kind == BPF_CORE_FIELD_BYTE_OFFSET:
        if not exact:
            return Value(start, exact=False)
        return Value(start, size=size, type_id=type_id)
    if kind == BPF_CORE_FIELD_BYTE_SIZE:
        return Value(size, exact=exact)
    if kind == BPF_CORE_FIELD_SIGNED:
        t = btf.get(type_id)
        # Compilers before clang 15 know an enumeration's sign but do not say it in its BTF.
        return Value(int(t.signed), exact=t.kind not in core_match.ENUMS)
    if kind == BPF_CORE_FIELD_LSHIFT_U64:
        return Value(64 - (spec.bit_offset + bits - start * 8), exact=exact)
    if kind == BPF_CORE_FIELD_RSHIFT_U64:
        return Value(64 - bits)
    raise _Misfit(f"kind {kind} is not a question about a field")


def _bitfield_unit(bit_offset: int, bits: int, size: int) -> tuple[int, int]:
    """Byte offset and size of the smallest aligned word, from ``size`` bytes up, that holds the whole bit field."""
    if not size:
        raise _Misfit("a bit field of a type without a size")
    start = bit_offset // 8 // size * size
    while bit_offset + bits - start * 8 > size * 8:
        if size >= 8:
            raise _Misfit("a bit field that no 8-byte load holds")
        size *= 2
        start = bit_offset // 8 // size * size
    return start, size


def _patch(insns: bytearray, offset: int, resolution: Resolution) -> None:
    if offset % 8 or offset + 8 > len(insns):
        raise _Misfit("outside the function")
    code, regs, off, imm = _INSN.unpack_from(insns, offset)
    wide = code == _LD_IMM64
    if wide and offset + 16 > len(insns):
        raise _Misfit("outside the function")
    kind = code & 7
    memory = kind in (_LDX, _ST, _STX)
    if resolution.target is None or (memory and not resolution.resizable):
        for place in (offset, offset + 8) if wide else (offset,):
            _INSN.pack_into(insns, place, 0x85, 0, 0, POISON)
        return
    old, new = resolution.local, resolution.target.number
    if kind in (_ALU, _ALU64):
        if code & 8:
            raise _Misfit("the instruction has no immediate")
        _expect(old, imm, 0xFFFFFFFF)
        _INSN.pack_into(insns, offset, code, regs, off, new & 0xFFFFFFFF)
    elif memory:
        _expect(old, off, 0xFFFF)
        if not 0 <= new <= 0x7FFF:
            raise _Misfit(f"offset {new} does not fit in the instruction")
        _INSN.pack_into(insns, offset, _resize(code, old, resolution.target), regs, new, imm)
    elif wide:
        high = _INSN.unpack_from(insns, offset + 8)
        _expect(old, imm | high[3] << 32, (1 << 64) - 1)
        _INSN.pack_into(insns, offset, code, regs, off, new & 0xFFFFFFFF)
        _INSN.pack_into(insns, offset + 8, *high[:3], new >> 32 & 0xFFFFFFFF)
    else:
        raise _Misfit(f"the instruction (opcode {code:#04x}) cannot be relocated")


def _expect(value: Value, found: int, mask: int) -> None:
    if value.exact and (value.number ^ found) & mask:
        raise _Misfit(f"the instruction holds {found}, not {value.number}")


def _resize(code: int, old: Value, new: Value) -> int:
    """The opcode for the target's width, when the field's width changed."""
    if new.size == old.size or not new.size or not old.size:
        return code
    if _SIZES[code & 0x18] != old.size:
        raise _Misfit(f"the instruction accesses {_SIZES[code & 0x18]} bytes of a field of {old.size}")
    if new.size not in _SIZE_BITS:
        raise _Misfit(f"no instruction accesses {new.size} bytes")
    return code & ~0x18 | _SIZE_BITS[new.size]
