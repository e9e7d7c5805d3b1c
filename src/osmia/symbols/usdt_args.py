# SPDX-License-Identifier: Apache-2.0
"""Where a static probe's arguments are: ``-4@%eax 8@-16(%rbp) 1@$7`` as instructions that a BPF program follows.

The text is what the assembler would take as an operand, after ``SIZE@``
with a minus for signed values (``<sys/sdt.h>``).  Which place it names is
only known once the probed file is, so the program reads it from a map: one
:class:`Argument` per argument, packed by :meth:`Argument.pack`.
"""

from __future__ import annotations

import struct

from osmia.obj import ptregs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from osmia.obj.ptregs import Machine

#: What the compiled program does, by kind: see :mod:`osmia.compiler.entry_user`.
CONSTANT, REGISTER, MEMORY, INDEXED, INDEXED_SIGNED32, INDEXED_UNSIGNED32, UNREADABLE = range(7)
#: struct of one argument: value or displacement, register, index register (offsets in pt_regs), kind,
#: bits above the value in 64, whether it is signed, scale (or bits to drop from a register)
LAYOUT = struct.Struct("<qHHBBBB")
#: A probe has at most this many (``STAP_PROBE12``).
MOST = 12
RECORD_BYTES = 8 + MOST * LAYOUT.size
_OPERAND_SIZES = (1, 2, 4, 8)


class Bad(ValueError):
    """An argument that cannot be read; the text says why."""


class Argument:
    """One argument: ``size`` in bytes, ``signed``, and the place (``kind`` and what goes with it).

    ``why`` says, for UNREADABLE ones, what is in the way; ``text`` is the
    specification.
    """

    __slots__ = ("index", "kind", "register", "scale", "signed", "size", "text", "value", "why")

    def __init__(self, text: str, size: int, signed: bool) -> None:
        self.text = text
        self.size = size
        self.signed = signed
        self.kind = CONSTANT
        self.value = 0
        self.register = 0
        self.index = 0
        self.scale = 0
        self.why = ""

    def __repr__(self) -> str:
        return f"<Argument {self.text}>"

    def pack(self) -> bytes:
        """The argument as the map holds it."""
        value = (self.value + (1 << 63)) % (1 << 64) - (1 << 63)
        return LAYOUT.pack(value, self.register, self.index, self.kind, 64 - 8 * self.size, self.signed, self.scale)


def pack(arguments: list[Argument]) -> bytes:
    """A map value: the number of arguments and then each of them."""
    raw = struct.pack("<Q", len(arguments)) + b"".join([one.pack() for one in arguments[:MOST]])
    return raw.ljust(RECORD_BYTES, b"\0")


def parse(text: str, machine: Machine, symbol: Callable[[str], int | None], place: int) -> list[Argument]:
    """The arguments of one probe.

    ``symbol`` gives the address of a variable by its name and ``place`` is
    the probe's own address, both before relocation: x86-64 code names
    variables by their distance from itself.  An argument that cannot be read
    is UNREADABLE; the others are not harmed.
    """
    read = _x86 if machine is ptregs.X86_64 else _arm64
    out = []
    for word in _split(text):
        size, signed, operand, problem = _size_of(word)
        one = Argument(word, size, signed)
        try:
            if problem:
                raise Bad(problem)
            read(one, operand, machine, symbol, place)
        except Bad as err:
            one.kind, one.why = UNREADABLE, str(err)
        out.append(one)
    return out


def _split(text: str) -> list[str]:
    """Words, but not at the spaces inside of brackets (arm64: ``8@[sp, 16]``)."""
    out, word, depth = [], "", 0
    for c in text:
        if c.isspace() and not depth:
            if word:
                out.append(word)
            word = ""
            continue
        depth += (c in "[(") - (c in "])")
        word += c
    return [*out, word] if word else out


def _size_of(word: str) -> tuple[int, bool, str, str]:
    """``(bytes, signed, operand, what is wrong)``."""
    head, at, operand = word.partition("@")
    if not at or not head.lstrip("-").rstrip("f").isdigit():  # before the sizes were invented; "@" may be a symbol's
        return 8, True, word, ""
    size = int(head.lstrip("-").rstrip("f"))
    if head.endswith("f"):
        return 8, False, operand, "it is a floating-point value, which BPF programs do not see"
    if size not in _OPERAND_SIZES:
        return 8, False, operand, f"it has {size} bytes, and a BPF program takes 1, 2, 4 or 8"
    return size, head.startswith("-"), operand, ""


def _integer(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise Bad(f"{text!r} is no number") from None


# --- x86-64 -------------------------------------------------------------------------------------------------------


def _x86(
    one: Argument, operand: str, machine: Machine, symbol: Callable[[str], int | None], place: int
) -> None:  # fmt: skip
    if operand.startswith("$"):
        one.value = _integer(operand[1:])
        return
    if operand.startswith("%") and "(" not in operand and ":" not in operand:
        name = operand[1:]
        known = ptregs.X86_NAMES.get(name)
        if known is None:
            raise Bad(f"register {name} is not saved for BPF programs")
        one.kind, one.register, one.scale = REGISTER, machine.offsets[known[0]], known[2]
        return
    if ":" in operand:
        raise Bad(f"{operand} is thread-local or in another segment")
    head, bracket, rest = operand.partition("(")
    if not bracket:  # an absolute address
        one.kind, one.value = MEMORY, _displacement(head, symbol)
        one.register = _no_base(machine)
        return
    parts = [part.strip().lstrip("%") for part in rest.rstrip(")").split(",")]
    base = _x86_base(parts[0]) if parts[0] else ""
    one.kind = MEMORY
    if base == "rip":
        if not _starts_number(head):
            head, sign, more = _sign_split(head)
            address = symbol(head)
            if address is None:
                raise Bad(f"it is the variable {head}, whose name was stripped from the file")
            one.value = address - place + (_integer(more) * sign if more else 0)
        else:
            one.value = _integer(head)
        one.register = machine.offsets["rip"]
        return
    one.value = _displacement(head, symbol)
    one.register = machine.offsets[base] if base else _no_base(machine)
    if len(parts) > 1 and parts[1]:
        one.kind, one.index = INDEXED, machine.offsets[_x86_base(parts[1])]
        scale = _integer(parts[2]) if len(parts) > 2 and parts[2] else 1
        if scale not in (1, 2, 4, 8):
            raise Bad(f"scale {scale}")
        one.scale = scale.bit_length() - 1


def _x86_base(name: str) -> str:
    known = ptregs.X86_NAMES.get(name)
    if known is None or known[1] != 8:
        raise Bad(f"addresses are not made of register {name}")
    return known[0]


def _starts_number(text: str) -> bool:
    return not text or text[0] in "-+" or text[0].isdigit()


def _sign_split(text: str) -> tuple[str, int, str]:
    for at, c in enumerate(text):
        if c in "+-" and at:
            return text[:at], 1 if c == "+" else -1, text[at + 1 :]
    return text, 1, ""


def _displacement(text: str, symbol: Callable[[str], int | None]) -> int:
    if not text:
        return 0
    if _starts_number(text):
        total = 0
        for part in text.replace("-", "+-").split("+"):  # GCC writes sums such as 8+16
            total += _integer(part) if part else 0
        return total
    name, sign, more = _sign_split(text)
    address = symbol(name)
    if address is None:
        raise Bad(f"it is the variable {name}, whose name was stripped from the file")
    return address + (sign * _integer(more) if more else 0)


def _no_base(machine: Machine) -> int:
    raise Bad("it is at a fixed address, and programs are loaded anywhere")


# --- arm64 --------------------------------------------------------------------------------------------------------


def _arm64(
    one: Argument, operand: str, machine: Machine, symbol: Callable[[str], int | None], place: int
) -> None:  # fmt: skip
    del symbol, place  # no operand of arm64 names a variable
    if operand.startswith("["):
        _arm64_memory(one, operand.strip("[]"), machine)
        return
    text = operand.lstrip("#")
    if text[:1] == "-" or text[:1].isdigit():
        one.value = _integer(text)
        return
    if text in ("xzr", "wzr"):
        return
    one.kind, one.register = REGISTER, _arm64_register(text, machine)


def _arm64_memory(one: Argument, inside: str, machine: Machine) -> None:
    parts = [part.strip() for part in inside.split(",")]
    one.kind, one.register = MEMORY, _arm64_register(parts[0], machine)
    if parts[0].startswith("w"):
        raise Bad(f"addresses are not made of register {parts[0]}")
    if len(parts) == 1:
        return
    second = parts[1].lstrip("#")
    if second[:1] == "-" or second[:1].isdigit():
        one.value = _integer(second)
        return
    one.index = _arm64_register(second, machine)
    words = parts[2].replace("#", " ").split() if len(parts) > 2 else []
    extend = words[0] if words else ("lsl" if second.startswith("x") else "uxtw")
    kinds = {"lsl": INDEXED, "sxtx": INDEXED, "uxtx": INDEXED, "sxtw": INDEXED_SIGNED32, "uxtw": INDEXED_UNSIGNED32}
    if extend not in kinds:
        raise Bad(f"{extend} of an index is not known")
    one.kind = kinds[extend]
    one.scale = _integer(words[1]) if len(words) > 1 else 0
    if not 0 <= one.scale <= 4:
        raise Bad(f"shift {one.scale} of an index")


def _arm64_register(name: str, machine: Machine) -> int:
    full = f"x{name[1:]}" if name.startswith("w") else name
    full = {"fp": "x29", "lr": "x30"}.get(full, full)
    if full not in machine.offsets or full in ("pc", "pstate"):
        raise Bad(f"register {name} is not saved for BPF programs")
    return machine.offsets[full]
