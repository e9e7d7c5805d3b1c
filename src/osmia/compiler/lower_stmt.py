# SPDX-License-Identifier: Apache-2.0
"""Statements to LLVM IR, loops included (which of them call ``bpf_loop`` says :mod:`osmia.compiler.loops`)."""

from __future__ import annotations

from osmia.compiler import tir
from osmia.compiler.body import Body
from osmia.compiler.lower_expr import (
    abi_type,
    as_bool,
    as_int,
    coerce,
    finished,
    set_local,
    store,
    without_constants,
)
from osmia.compiler.lower_loop import give_back, leave_callback, lower_for, lower_while
from osmia.errors import InternalError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Words up to which a copy or a clearing is written out; a loop above.
UNROLL = 32


def lower_stmts(b: Body, stmts: list[tir.Stmt]) -> None:
    """Write ``stmts`` one after the other."""
    for s in stmts:
        b.reopen()
        handler = _HANDLERS.get(type(s))
        if handler is None:
            raise InternalError(f"the back end knows no statement {type(s).__name__}")
        b.at(s.loc)
        handler(b, s)


def _set(b: Body, s: tir.Set) -> None:
    value = b.value(s.value)
    b.at(s.loc)
    set_local(b, s.local, coerce(b, value, s.value.type, s.local.type))


def _store(b: Body, s: tir.Store) -> None:
    base, offset = without_constants(s.addr)
    start = b.value(base)
    value = b.value(s.value)
    b.at(s.loc)
    store(b, finished(b, base, start, offset), coerce(b, value, s.value.type, s.mem), s.mem)


def _copy(b: Body, s: tir.Copy) -> None:
    dst, src = b.value(s.dst), b.value(s.src)
    b.at(s.loc)

    def word(bases: list[str], offset: int, size: int) -> None:
        to, of = bases
        value = b.let(f"load i{size * 8}, ptr {b.gep(of, offset)}, align {min(size, s.align)}")
        b.do(f"store i{size * 8} {value}, ptr {b.gep(to, offset)}, align {min(size, s.align)}")

    _by_words(b, [dst, src], s.size, s.align, word)


def _zero(b: Body, s: tir.Zero) -> None:
    dst = b.value(s.dst)
    b.at(s.loc)
    zero(b, dst, s.size, s.align)


def zero(b: Body, address: str, size: int, align: int) -> None:
    """Clear ``size`` bytes at ``address``."""

    def word(bases: list[str], offset: int, width: int) -> None:
        b.do(f"store i{width * 8} 0, ptr {b.gep(bases[0], offset)}, align {width}")

    _by_words(b, [address], size, align, word)


def _by_words(b: Body, bases: list[str], size: int, align: int, word: Callable[[list[str], int, int], None]) -> None:
    """Call ``word(bases, offset, width)`` for each word of ``size`` bytes, as wide as ``align`` allows.

    The ``bases`` that it gets are those given here, in a loop moved on to the round's first word.

    LLVM's own memcpy and memset are not used: with small alignments they
    overflow the stack with spills, and BPF has no library to call for the rest.
    """
    width = 8
    while align % width:
        width //= 2
    done = 0
    if size // width > UNROLL:
        # Four words a round, so that the verifier walks less.
        step = width * 4
        done = size // step * step
        counter = b.slot("i64")
        b.do(f"store i64 0, ptr {counter}, align 8")
        loop, end = b.new_label("words"), b.new_label("end")
        b.start(loop)
        at = b.let(f"load i64, ptr {counter}, align 8")
        here = [b.gep(base, at) for base in bases]
        for i in range(4):
            word(here, i * width, width)
        following = b.let(f"add i64 {at}, {step}")
        b.do(f"store i64 {following}, ptr {counter}, align 8")
        b.branch(b.let(f"icmp ult i64 {following}, {done}"), loop, end)
        b.start(end)
    while done < size:
        while width > size - done:
            width //= 2
        word(bases, done, width)
        done += width


def _eval(b: Body, s: tir.Eval) -> None:
    b.value(s.value)


def _if(b: Body, s: tir.If) -> None:
    test = as_bool(b, s.test)
    b.at(s.loc)
    then, other, end = b.new_label("then"), b.new_label("else"), b.new_label("end")
    b.branch(test, then, other if s.orelse else end)
    before = b.known
    b.start(then, before)
    b.run(s.then)
    known = b.unchanged(before, b.known) if b.open else before
    b.jump(end)
    if s.orelse:
        b.start(other, before)
        b.run(s.orelse)
        if b.open:
            known = b.unchanged(known, b.known)
    b.start(end, known)


def _break(b: Body, s: tir.Break) -> None:
    if not b.loops:
        raise InternalError("break outside a loop")
    b.jump(b.loops[-1][0])


def _continue(b: Body, s: tir.Continue) -> None:
    if not b.loops:
        raise InternalError("continue outside a loop")
    b.jump(b.loops[-1][1])


def _return(b: Body, s: tir.Return) -> None:
    ret = b.func.ret
    if s.value is None:
        value = ""
    elif isinstance(ret, tir.Void) and not b.func.section:
        b.value(s.value)
        value = ""
    else:
        value = as_int(b, s.value) if abi_type(ret) == "i64" else coerce(b, b.value(s.value), s.value.type, ret)
    b.at(s.loc)
    if b.in_callback:
        leave_callback(b, value)
    else:
        give_back(b, value)


_HANDLERS: dict[type, Callable[..., None]] = {
    tir.Set: _set,
    tir.Store: _store,
    tir.Copy: _copy,
    tir.Zero: _zero,
    tir.Eval: _eval,
    tir.If: _if,
    tir.For: lower_for,
    tir.While: lower_while,
    tir.Break: _break,
    tir.Continue: _continue,
    tir.Return: _return,
}
