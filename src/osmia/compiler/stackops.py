# SPDX-License-Identifier: Apache-2.0
"""Stacks in kernel code: read, hashed, compared with what is kept, and kept where they are new.

See :mod:`osmia.lang.stacks` for how they lie in memory.  The verifier walks
the loops over a stack's words round by round.  It must not remember in which
round a loop was left, or it would walk everything behind the loop once for
each of them; so what bounds a loop is read from memory again for each loop,
and what a loop found is a number that nothing is known of.
"""

from __future__ import annotations

from osmia.compiler import mapops, tir, transport
from osmia.compiler.builder import SCRATCH
from osmia.compiler.core import Fn
from osmia.compiler.kmem import READ
from osmia.errors import UserError
from osmia.lang import stacks as layout
from osmia.lang.stacks import BYTES, CHUNK_WORDS, CUT, FREE, IDS, LAST_START, MOST_FRAMES, TAKEN, USUAL_FRAMES
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.compiler.builder import Builder
    from osmia.lang.stacks import Stacks

USER_STACK = 1 << 8  # BPF_F_USER_STACK
EEXIST = -17
#: Words in a step of the loops; a stack is padded with zeros to a multiple of them.
STEP = 8
#: How often a place is looked for: two stacks with one hash of 64 bits are rarer than broken memory, and a place
#: that another CPU took first is found at the second attempt.
TRIES = 3
#: Chunks that are asked for, one after the other, before a stack is given up (all CPUs may begin at the same time).
CLAIMS = 128

#: Frames that can be left out.
MOST_SKIPPED = 64

# Memory of one program on one CPU: how many claim it, the chunk that is filled (from 1; 0: none yet), the next
# word in it, the bytes of the stack, its header, then the stack and, for the last step, zeros.
BUSY, CHUNK, AT, LENGTH, HEADER, WORDS = 0, 8, 16, 24, 32, 40
SCRATCH_BYTES = WORDS + 8 * (MOST_FRAMES + MOST_SKIPPED + STEP)
_SEED, _FACTOR = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93  # odd numbers with bits in every place
_ROOM = tir.Array(tir.U64, CHUNK_WORDS)


def define(mod: Builder, name: str, module: str, variable: str, item: Stacks) -> None:
    """The maps of ``item``: chunks under its own name, numbers by hash, chunks that are taken; where to look next."""
    if item.pinned:
        raise UserError(f"{variable}: a map of stacks cannot be kept in bpffs", fix="leave pinned() out")
    chunks = item.chunks
    mod.module.maps += [
        tir.MapDef(name, consts.BPF_MAP_TYPE_ARRAY, tir.U32, _ROOM, chunks),
        tir.MapDef(name + IDS, consts.BPF_MAP_TYPE_HASH, tir.U64, tir.U64, item.max_entries),
        tir.MapDef(name + TAKEN, consts.BPF_MAP_TYPE_HASH, tir.U32, tir.U32, chunks),
    ]
    mod.module.data.append(tir.Data(name + FREE, ".data", tir.U64, bytes(8), True))
    if not any(one.name == BYTES for one in mod.module.data):
        usual = (8 * USUAL_FRAMES).to_bytes(8, "little")
        mod.module.data.append(tir.Data(BYTES, ".rodata", tir.U64, usual, True))
    mod.meta.append(("map", name, module, variable))
    mod.meta.append(("stacks", name))


def number(fn: Fn, item: Stacks, skip: int, user: bool, context: tir.Expr) -> tir.Expr:
    """The number of the stack that led here; 0 where there is none."""
    name = fn.mod.map(item)
    fn.per_root = True
    found = fn.local(tir.U64, "stack")
    fn.set(found, fn.num(0, False))
    place = fn.slot(("key", "u32"), tir.U32)
    fn.store(place, fn.num(fn.mod.scratch((fn.root, "stacks"), SCRATCH_BYTES)), tir.U32)
    memory = fn.helper(mapops.LOOKUP, fn.global_(SCRATCH), place, result=tir.Ptr("mem"))
    there: list[tir.Stmt] = []
    with fn.into(there):
        ours = transport.claim(fn, fn.offset(memory, BUSY))
        read: list[tir.Stmt] = []
        with fn.into(read):
            fn.set(found, _read(fn, item, name, skip, user, context, memory))
        busy: list[tir.Stmt] = []
        with fn.into(busy):  # the program was interrupted by itself, for another task on this CPU
            fn.lost("unread", name)
        fn.if_(ours, read, busy)
        transport.give_back(fn, fn.offset(memory, BUSY))
    fn.if_(fn.not_null(memory), there)
    return fn.get(found)


def _read(
    fn: Fn, item: Stacks, name: str, skip: int, user: bool, context: tir.Expr, memory: tir.Expr
) -> tir.Expr:
    """Let the kernel walk the stack, and keep it.

    The frames to skip are left out here: the helper says EFAULT both for a
    stack that has no more and for one that could not be walked, because all
    of the kernel's buffers are in use.
    """
    found = fn.local(tir.U64, "number")
    fn.set(found, fn.num(0, False))
    size = fn.load(fn.global_(BYTES), tir.U64, volatile=True)
    flags = fn.num(USER_STACK if user else 0)
    got = fn.helper(consts.BPF_FUNC_get_stack, context, fn.offset(memory, WORDS), size, flags)
    some: list[tir.Stmt] = []
    with fn.into(some):
        length = fn.keep(fn.bin("sub", got, fn.num(8 * skip), False))
        fn.store(fn.offset(memory, LENGTH), length, tir.U64)
        depth = fn.bin("lshr", length, fn.num(3), False)
        cut = tir.Cond(tir.U64, fn.loc, fn.cmp("uge", got, size), fn.num(CUT, False), fn.num(0, False))
        header = fn.bin("or", fn.bin("or", depth, cut, False), fn.num(layout.USER if user else 0, False), False)
        fn.store(fn.offset(memory, HEADER), header, tir.U64)
        words = fn.offset(memory, WORDS + 8 * skip)
        fn.set(found, fn.keep(tir.Call(tir.U64, fn.loc, _keeper(fn, item, name), [memory, words])))
    failed: list[tir.Stmt] = []
    with fn.into(failed):
        fn.lost("unread", name)
    none: list[tir.Stmt] = []
    with fn.into(none):
        fn.if_(fn.cmp("slt", got, fn.num(0)), failed)
    fn.if_(fn.cmp("sgt", got, fn.num(8 * skip)), some, none)
    return fn.get(found)


def _keeper(fn: Fn, item: Stacks, name: str) -> tir.Func:
    """The function that keeps the stack in scratch memory and gives its number: one for each map of stacks."""
    key = ("", "stacks", name)
    known = fn.mod.functions.get(key)
    if known is None:
        known = fn.mod.functions[key] = _keep(fn, name)
        fn.mod.module.funcs.append(known)
    made: tir.Func = known
    return made


def _keep(fn: Fn, name: str) -> tir.Func:
    """``u64 keep(memory, words)``."""
    memory_local, words_local = tir.Local("memory", tir.Ptr("mem")), tir.Local("words", tir.Ptr("mem"))
    line = fn.source.node.lineno
    func = tir.Func(f"{name}_keep", "", [memory_local, words_local], tir.U64, fn.file.name, line, inline=False)
    f = Fn(fn.mod, fn.source, func, fn.chain)
    f.loc = (line, 0)
    memory, words = f.get(memory_local), f.get(words_local)
    _have_chunk(f, name, memory)
    hash = f.local(tir.U64, "hash")
    f.set(hash, f.bin("xor", _word(f, memory, HEADER), f.num(_SEED, False), False))

    def mix(at: tir.Expr) -> None:
        for k in range(STEP):
            word = f.load(f.offset(words, 8 * k, at, 8 * STEP), tir.U64)
            mixed = f.keep(f.bin("mul", f.bin("xor", f.get(hash), word, False), f.num(_FACTOR, False), False))
            f.set(hash, f.bin("xor", mixed, f.bin("lshr", mixed, f.num(29), False), False))

    _each_step(f, memory, mix)
    attempt = f.local(tir.S64, "attempt")
    body: list[tir.Stmt] = []
    with f.into(body):
        _attempt(f, name, memory, words, hash)
    f.emit(tir.For(f.loc, attempt, f.num(0), f.num(TRIES), 1, body, TRIES))
    f.lost("stack", name)
    f.emit(tir.Return(f.loc, f.num(0, False)))
    return func


def _each_step(f: Fn, memory: tir.Expr, body: object) -> None:
    """``for at in range(steps of the stack): body(at)``."""
    steps = MOST_FRAMES // STEP
    size = f.load(f.global_(BYTES), tir.U64, volatile=True)
    length = _word(f, memory, LENGTH)
    at = f.local(tir.S64, "at")
    stmts: list[tir.Stmt] = []
    with f.into(stmts):
        step = f.keep(tir.Barrier(tir.U64, f.loc, f.get(at)))
        f.if_(f.cmp("uge", step, f.num(steps, False)), [tir.Break(f.loc)])
        done = f.keep(f.bin("mul", step, f.num(8 * STEP), False))
        f.if_(f.cmp("uge", done, size), [tir.Break(f.loc)])
        f.if_(f.cmp("uge", done, length), [tir.Break(f.loc)])
        body(step)  # type: ignore[operator]
    f.emit(tir.For(f.loc, at, f.num(0), f.num(steps), 1, stmts, steps, called=True))


def _attempt(f: Fn, name: str, memory: tir.Expr, words: tir.Expr, hash: tir.Local) -> None:
    """Look at the place for ``hash``: return the number of this stack, there already or kept there now."""
    key = f.slot(("key", "u64"), tir.U64)
    f.store(key, f.get(hash), tir.U64)
    found = f.helper(mapops.LOOKUP, f.global_(name + IDS), key, result=tir.Ptr("mem"))
    known: list[tir.Stmt] = []
    with f.into(known):
        number = f.load(found, tir.U64)
        same: list[tir.Stmt] = [tir.Return(f.loc, number)]
        f.if_(f.cmp("eq", _difference(f, name, memory, words, number), f.num(0, False)), same)
        f.set(hash, f.bin("add", f.get(hash), f.num(1, False), False))
    new: list[tir.Stmt] = []
    with f.into(new):
        _put(f, name, memory, words, key)
    f.if_(f.not_null(found), known, new)


def _difference(f: Fn, name: str, memory: tir.Expr, words: tir.Expr, number: tir.Expr) -> tir.Expr:
    """0 where the stack with this number is the one in scratch memory."""
    differs = f.local(tir.U64, "differs")
    f.set(differs, f.num(1, False))
    before = f.keep(f.bin("sub", number, f.num(1, False), False))
    chunk = _chunk(f, name, f.bin("udiv", before, f.num(CHUNK_WORDS, False), False))
    at = f.keep(tir.Barrier(tir.U64, f.loc, f.bin("umod", before, f.num(CHUNK_WORDS, False), False)))
    inside: list[tir.Stmt] = []
    with f.into(inside):
        kept = f.keep(f.offset(chunk, 0, at, 8))
        f.set(differs, f.bin("xor", f.load(kept, tir.U64), _word(f, memory, HEADER), False))

        def compare(step: tir.Expr) -> None:
            for k in range(STEP):
                one = f.load(f.offset(kept, 8 + 8 * k, step, 8 * STEP), tir.U64)
                other = f.load(f.offset(words, 8 * k, step, 8 * STEP), tir.U64)
                f.set(differs, f.bin("or", f.get(differs), f.bin("xor", one, other, False), False))

        _each_step(f, memory, compare)
    fits = f.cmp("ule", at, f.num(LAST_START, False))
    f.if_(tir.And(tir.BOOL, f.loc, f.not_null(chunk), fits), inside)
    return f.get(differs)


def _chunk(f: Fn, name: str, index: tir.Expr) -> tir.Expr:
    """The address of a chunk, or null."""
    place = f.slot(("key", "u32"), tir.U32)
    f.store(place, index, tir.U32)
    return f.helper(mapops.LOOKUP, f.global_(name), place, result=tir.Ptr("mem"))


def _have_chunk(f: Fn, name: str, memory: tir.Expr) -> None:
    """See to it that the longest stack fits behind what this CPU has kept; where nothing is free, CHUNK is 0."""
    none = f.cmp("eq", _word(f, memory, CHUNK), f.num(0, False))
    filled = f.cmp("ugt", _word(f, memory, AT), f.num(LAST_START, False))
    claim: list[tir.Stmt] = []
    with f.into(claim):
        f.store(f.offset(memory, CHUNK), f.num(0), tir.U64)
        f.store(f.offset(memory, AT), f.num(0), tir.U64)
        index, attempt = f.local(tir.U64, "index"), f.local(tir.S64, "attempt")
        f.set(index, f.load(f.global_(name + FREE), tir.U64, volatile=True))
        body: list[tir.Stmt] = []
        with f.into(body):
            place = f.slot(("key", "u32"), tir.U32)
            f.store(place, f.get(index), tir.U32)
            f.set(index, f.bin("add", f.get(index), f.num(1, False), False))
            code = f.helper(mapops.UPDATE, f.global_(name + TAKEN), place, place, f.num(mapops.BPF_NOEXIST))
            ours: list[tir.Stmt] = []
            with f.into(ours):
                f.store(f.offset(memory, CHUNK), f.get(index), tir.U64)
                f.emit(tir.Break(f.loc))
            f.if_(f.cmp("eq", code, f.num(0)), ours)
            f.if_(f.cmp("ne", code, f.num(EEXIST)), [tir.Break(f.loc)])
        f.emit(tir.For(f.loc, attempt, f.num(0), f.num(CLAIMS), 1, body, CLAIMS, called=True))
        f.store(f.global_(name + FREE), f.get(index), tir.U64)
    f.if_(tir.Or(tir.BOOL, f.loc, none, filled), claim)


def _put(f: Fn, name: str, memory: tir.Expr, words: tir.Expr, key: tir.Expr) -> None:
    """Keep the stack and return its number; where another CPU was faster, go on: the next attempt finds it.

    What user space may have seen already is not overwritten, even if nothing points to it.
    """
    number_of = f.keep(f.bin("sub", _word(f, memory, CHUNK), f.num(1, False), False))
    at = f.keep(tir.Barrier(tir.U64, f.loc, _word(f, memory, AT)))
    chunk = _chunk(f, name, number_of)
    put: list[tir.Stmt] = []
    with f.into(put):
        kept = f.keep(f.offset(chunk, 0, at, 8))
        length = f.keep(f.bin("and", f.bin("add", _word(f, memory, LENGTH), f.num(8 * STEP - 1), False),
                              f.num(~(8 * STEP - 1) & 0x3FFF), False))  # fmt: skip
        length = f.keep(tir.Barrier(tir.U64, f.loc, length))
        f.if_(f.cmp("ugt", length, f.num(8 * MOST_FRAMES, False)), [tir.Return(f.loc, f.num(0, False))])
        f.do(READ["kernel"], f.offset(kept, 8), length, words)
        f.store(kept, _word(f, memory, HEADER), tir.U64)
        made = f.bin("add", f.bin("mul", number_of, f.num(CHUNK_WORDS, False), False), at, False)
        made = f.keep(f.bin("add", made, f.num(1, False), False))
        end = f.bin("add", at, f.bin("lshr", length, f.num(3), False), False)
        end = f.keep(f.bin("add", end, f.num(1, False), False))
        value = f.slot(("value", "u64"), tir.U64)
        f.store(value, made, tir.U64)
        code = f.helper(mapops.UPDATE, f.global_(name + IDS), key, value, f.num(mapops.BPF_NOEXIST))
        full: list[tir.Stmt] = [tir.Store(f.loc, kept, f.num(0), tir.U64), *_give_up(f, "places", name)]
        failed = tir.And(tir.BOOL, f.loc, f.cmp("ne", code, f.num(0)), f.cmp("ne", code, f.num(EEXIST)))
        f.if_(failed, full)
        f.store(f.offset(memory, AT), end, tir.U64)
        f.if_(f.cmp("eq", code, f.num(0)), [tir.Return(f.loc, made)])
    free = f.cmp("ule", at, f.num(LAST_START, False))
    f.if_(tir.And(tir.BOOL, f.loc, f.not_null(chunk), free), put, _give_up(f, "memory", name))


def _give_up(f: Fn, kind: str, name: str) -> list[tir.Stmt]:
    """Count the stack as lost, and return 0."""
    out: list[tir.Stmt] = []
    with f.into(out):
        f.lost(kind, name)
        f.emit(tir.Return(f.loc, f.num(0, False)))
    return out


def _word(f: Fn, memory: tir.Expr, offset: int) -> tir.Expr:
    """A word of the scratch memory as it is now: the verifier knows nothing of it."""
    return f.load(f.offset(memory, offset), tir.U64, volatile=True)
