# SPDX-License-Identifier: Apache-2.0
"""Whole user stacks of programs without frame pointers, from registers and a copy of the stack (x86-64).

The kernel follows frame pointers; what Debian compiles has none, libc's
functions included, so that such stacks end early or skip callers.  Here the
rules of ``.eh_frame`` are followed instead, on the bytes that
``PERF_SAMPLE_STACK_USER`` copied, in the way of perf's ``--call-graph dwarf``.

A stack says how it ended.  Code of JIT compilers has no rules, nor have the
parts of V8 that are in Node's program; these keep frame pointers.  So where
there is no rule ``rbp`` is followed, if what it points at looks like a
frame, and :attr:`Unwound.assumed` says which frames were found so.
"""

from __future__ import annotations

import struct

from osmia.errors import NotFound, UserError
from osmia.symbols import eh_frame
from osmia.symbols.dwarf import Bad, evaluate
from osmia.symbols.eh_frame import RBP, RBX, RETURN, RSP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from osmia.symbols import maps
    from osmia.symbols.eh_frame import EhFrame, Rule
    from osmia.symbols.store import Store

#: As many frames as the kernel gives (``kernel.perf_event_max_stack``), by default.
MOST = 127
#: DWARF's number for each register of a perf sample (``enum perf_event_x86_regs``); -1 for those that it has none for.
PERF_REGISTERS = (0, 3, 2, 1, 4, 5, 6, 7, 16, -1, -1, -1, -1, -1, -1, -1, 8, 9, 10, 11, 12, 13, 14, 15)
#: How a frame was found.
_CALLED, _INTERRUPTED, _ASSUMED = range(3)
_TOP = (1 << 64) - 1


class Unwound:
    """Addresses of one stack, innermost first.

    ``exact`` are the numbers of the frames that did not call the one before
    them: the first, and what a signal interrupted.  ``complete``: the last
    frame is where its thread began; else ``why`` says what stopped it, and
    ``unmapped`` whether that was an address where nothing is mapped as far
    as is known.  ``assumed`` are frames that were found by ``rbp`` for want
    of a rule: if the function before such a one has no frame pointer after
    all, the function that called it is missing between the two.
    """

    __slots__ = ("addresses", "assumed", "complete", "exact", "unmapped", "why")

    def __init__(self) -> None:
        self.addresses: list[int] = []
        self.exact: set[int] = {0}
        self.assumed: set[int] = set()
        self.complete = False
        self.unmapped = False
        self.why = ""

    def __repr__(self) -> str:
        return f"<Unwound {len(self.addresses)} frames{'' if self.complete else ': ' + self.why}>"


class _Stop(Exception):
    """Why a stack ends before its begin."""

    def __init__(self, why: str, *, unmapped: bool = False) -> None:
        super().__init__(why)
        self.unmapped = unmapped


def of_sample(mask: int, values: tuple[int, ...]) -> dict[int, int]:
    """Registers by DWARF number, from ``sample_regs_user`` and the values that a sample of it has."""
    numbers = [n for n in range(64) if mask >> n & 1]
    return {
        PERF_REGISTERS[n]: value
        for n, value in zip(numbers, values, strict=True)
        if n < len(PERF_REGISTERS) and PERF_REGISTERS[n] >= 0
    }


def unwind(
    registers: Mapping[int, int], stack: bytes, start: int, maps: maps.Maps, store: Store, most: int = MOST
) -> Unwound:  # fmt: skip
    """The addresses of a stack.

    ``registers`` by DWARF number: 16 (the instruction pointer), 7 (``rsp``)
    and 6 (``rbp``) must be there; the others help in the innermost function.
    ``stack`` is what was at address ``start`` and up.
    """
    out = Unwound()
    here = dict(registers)
    out.addresses.append(here[RETURN])
    length = len(stack)

    def read(address: int) -> int:
        at = address - start
        if at < 0 or at + 8 > length:
            raise _Stop("it goes on beyond the copied part of the stack")
        value: int = struct.unpack_from("<Q", stack, at)[0]
        return value

    exact = True
    try:
        while True:
            following = _caller(here, read, maps, store, exact)
            if following is None:
                out.complete = True
                break
            here, how = following
            exact = how == _INTERRUPTED
            if len(out.addresses) >= most:
                raise _Stop(f"it has more than {most} frames")
            if how != _CALLED:
                (out.exact if exact else out.assumed).add(len(out.addresses))
            out.addresses.append(here[RETURN])
    except _Stop as e:
        out.why, out.unmapped = str(e), e.unmapped
    return out


def _caller(
    here: dict[int, int], read: Callable[[int], int], maps: maps.Maps, store: Store, exact: bool
) -> tuple[dict[int, int], int] | None:  # fmt: skip
    """The caller's registers and how it was found; None where there is no caller."""
    at = here[RETURN] - (0 if exact else 1)
    mapping = maps.find(at)
    if mapping is None:
        raise _Stop(f"nothing is mapped at {at:#x}", unmapped=True)
    names = store.of_mapping(maps, mapping) if mapping.may_be_image else None
    if names is None and not mapping.has_file and mapping.path != "[vdso]":
        return _by_frame_pointer(here, read, maps, "code made at run time"), _ASSUMED
    if names is None:
        raise _Stop(f"{mapping.path}: {store.problems.get(mapping.path, 'the file is gone')}")
    try:
        rules = names.rules()
        rule = rules.at(at - mapping.start + mapping.offset + names.image.distance(mapping.offset))
    except NotFound:
        rule = None
    except UserError as e:
        raise _Stop(f"{mapping.path}: {e.what}") from None
    if rule is None:
        where = f"{mapping.path} has no rule for {at - mapping.start + mapping.offset:#x}"
        return _by_frame_pointer(here, read, maps, where), _ASSUMED
    try:
        return _by_rule(here, read, rules, rule)
    except (Bad, KeyError, IndexError, struct.error):
        raise _Stop(f"{mapping.path} has a rule that cannot be followed") from None


def _by_rule(
    here: dict[int, int], read: Callable[[int], int], rules: EhFrame, rule: Rule
) -> tuple[dict[int, int], int] | None:  # fmt: skip
    if rule.register < 0:
        cfa = evaluate(rules.expressions[rule.offset], here, read)
    else:
        cfa = here[rule.register] + rule.offset & _TOP
    if cfa <= here[RSP] and not rule.signal:  # signals may have a stack of their own
        raise _Stop("it does not grow")
    back = _value(RETURN, rule.back, here, cfa, read, rules)
    if not back:  # undefined, or zero: where threads begin
        return None
    caller = {RETURN: back, RSP: cfa}
    for register, how in ((RBP, rule.frame), (RBX, rule.base)):
        try:
            value = _value(register, how, here, cfa, read, rules)
        except (_Stop, KeyError):
            # GCC describes the last instructions of functions that align their stack loosely: rbp is back already,
            # and the rule would find it through itself.  Whoever needs it finds that it is not known.
            value = None
        if value is not None:
            caller[register] = value
    return caller, _INTERRUPTED if rule.signal else _CALLED


def _value(
    register: int, how: tuple[int, int], here: dict[int, int], cfa: int, read: Callable[[int], int], rules: EhFrame
) -> int | None:  # fmt: skip
    """A register's value in the caller; None if that is not kept."""
    kind, value = how
    if kind == eh_frame.SAME:
        return here.get(register)
    if kind == eh_frame.UNDEFINED:
        return None
    if kind == eh_frame.OFFSET:
        place = cfa + value & _TOP
        if place < here[RSP] and register != RETURN:  # it was taken from there already, at the function's end
            return here.get(register)
        return read(place)
    if kind == eh_frame.IS_OFFSET:
        return cfa + value & _TOP
    if kind == eh_frame.REGISTER:
        return here[value]
    found = evaluate(rules.expressions[value], here, read, cfa)
    return read(found) if kind == eh_frame.AT else found


def _by_frame_pointer(
    here: dict[int, int], read: Callable[[int], int], maps: maps.Maps, where: str
) -> dict[int, int]:  # fmt: skip
    """``rbp`` points at where the caller's is kept, and the return address follows."""
    frame = here.get(RBP, 0)
    if frame < here[RSP] or frame % 8:
        raise _Stop(f"{where}, and rbp is no frame pointer there")
    back = read(frame + 8)
    if maps.find(back - 1) is None:
        raise _Stop(f"{where}, and rbp is no frame pointer there", unmapped=True)
    return {RETURN: back, RSP: frame + 16, RBP: read(frame)}
