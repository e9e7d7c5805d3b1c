# SPDX-License-Identifier: Apache-2.0
"""Events: room in the ring (or in per-CPU scratch memory where the length varies), fields, sending; and ``print``.

An event of fixed size is reserved in the ring and submitted.  One that ends
in a tail is put together in scratch memory and sent with the length that it
has.  Where the ring is full the loss is counted and the block skipped.
"""

from __future__ import annotations

from osmia.compiler import kmem, texts, tir, transport
from osmia.compiler import memory as mem
from osmia.compiler import syntax as ast
from osmia.compiler.builder import PRINTS
from osmia.compiler.core import Fn
from osmia.compiler.values import TBool, TConst, TEvent, TInt, TPtr, TStr, TTail, TText, Val, const
from osmia.lang.maps import Ring
from osmia.lang.recorder import FlightRecorder
from osmia.lang.types import Field, has_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# The send state of an event: bytes of the tail used, strings in it, whether some were cut, whether to discard.
STATE = tir.Struct(
    "send_state",
    tuple(tir.Member(name, tir.U64, 8 * at) for at, name in enumerate(("used", "count", "cut", "discard"))), 32, 8,
)
USED, COUNT, CUT, DROP = 0, 8, 16, 24
CUT_BIT = 31


def reserve_block(fn: Fn, node: ast.With, ring: Ring, name: str, body: Any) -> None:
    """``with ring.reserve() as name: body()``."""
    layout = ring.event.layout()
    copied = layout.tail is not None or isinstance(ring, FlightRecorder)
    base = _scratch(fn, ring) if copied else transport.room(fn, fn.mod.map(ring), layout.size)
    block: list[tir.Stmt] = []
    with fn.into(block):
        if layout.tail is None:
            state = fn.slot(("state", fn.mod.map(ring)), STATE)
        else:
            state = fn.keep(fn.offset(base, _state_offset(ring)))

        def fill(close: Callable[[], None]) -> None:
            fn.emit(tir.Zero(fn.loc, state, STATE.size))
            _clear(fn, node, ring, base, name)
            body(Val(TEvent(ring), [base, state]), close)

        if copied and fn.root in fn.mod.preempted:
            _fill_claimed(fn, ring, base, state, fill)
        else:
            fill(lambda: send(fn, ring, base, state))
    skipped: list[tir.Stmt] = []
    if layout.tail is None:
        with fn.into(skipped):
            fn.lost("ring", ring.name)
    fn.if_(fn.not_null(base), block, skipped)


def _fill_claimed(fn: Fn, ring: Ring, base: tir.Expr, state: tir.Expr, fill: Callable[[Callable[[], None]], None]
                  ) -> None:  # fmt: skip
    """Fill and send the event where nobody else is using this per-CPU memory, and count it as lost where one is."""
    word = fn.keep(fn.offset(base, _claim_offset(ring)))

    def close() -> None:
        send(fn, ring, base, state)
        transport.give_back(fn, word)

    ours = transport.claim(fn, word)
    alone: list[tir.Stmt] = []
    with fn.into(alone):
        fill(close)
    taken: list[tir.Stmt] = []
    with fn.into(taken):
        fn.lost("taken", ring.name)
        transport.give_back(fn, word)
    fn.if_(ours, alone, taken)


def _claim_offset(ring: Ring) -> int:
    """Where in scratch memory it is counted who claims it: behind everything else."""
    layout = ring.event.layout()
    end: int = layout.size if layout.tail is None else _state_offset(ring) + STATE.size
    return (end + 7) // 8 * 8


def _state_offset(ring: Ring) -> int:
    """Where the send state lies in scratch memory: behind the event, with room for one string to overshoot.

    It lies in the map and not on the stack so that the verifier forgets what
    it knew of it: it follows each value of a stack slot down each path, and
    a loop of a hundred strings would take it a million steps.
    """
    layout = ring.event.layout()
    assert layout.tail is not None
    each = layout.tail.type.each if mem.is_strings(layout.tail.type) else 0
    return (layout.fixed + layout.tail.size + each + 7) // 8 * 8


def _scratch(fn: Fn, ring: Ring) -> tir.Expr:
    """The per-CPU memory in which an event of ``ring`` is put together; one per program, since one may interrupt."""
    need = _claim_offset(ring) + 8
    fn.per_root = True
    if need > transport.PERCPU_LIMIT:
        fn.fail(None, f"{ring.event.__name__} needs {need} bytes while it is put together, and per-CPU memory gives"
                f" {transport.PERCPU_LIMIT}", "make its last field smaller")
    return transport.scratch(fn, fn.mod.map(ring), need)


def _clear(fn: Fn, node: ast.With, ring: Ring, base: tir.Expr, name: str) -> None:
    """Zero what the block may leave out: padding, and fields that it does not assign first thing."""
    layout = ring.event.layout()
    assigned = _straight(node.body, name)
    at = 0
    for field in layout:
        if field is layout.tail:
            break
        _zero(fn, base, at, field.offset)
        at = field.offset + (field.size if field.name in assigned else 0)
    _zero(fn, base, at, layout.fixed if layout.tail is not None else layout.size)


def _zero(fn: Fn, base: tir.Expr, start: int, end: int) -> None:
    while start < end:  # in pieces that keep their natural alignment
        size = next(s for s in (8, 4, 2, 1) if start % s == 0 and start + s <= end)
        whole = (end - start) // 8 * 8 if size == 8 else size
        if whole > 8:
            fn.emit(tir.Zero(fn.loc, fn.offset(base, start), whole))
        else:
            fn.store(fn.offset(base, start), fn.num(0), {8: tir.U64, 4: tir.U32, 2: tir.U16, 1: tir.U8}[size])
        start += whole


def _straight(body: list[ast.stmt], name: str) -> set[str]:
    """Fields of ``name`` that the block assigns whatever happens: before anything that could branch or leave."""
    out: set[str] = set()
    for stmt in body:
        if not isinstance(stmt, ast.Assign):
            break
        for target in stmt.targets:
            for one in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id == name:
                    out.add(one.attr)
    return out


def send(fn: Fn, ring: Ring, base: tir.Expr, state: tir.Expr) -> None:
    """Submit the event (or drop it, where ``e.discard()`` was called)."""
    layout = ring.event.layout()
    drop = fn.cmp("ne", fn.load(fn.offset(state, DROP), tir.U64), fn.num(0, False))
    no: list[tir.Stmt] = []
    if layout.tail is None:
        if isinstance(ring, FlightRecorder):
            with fn.into(no):
                transport.output(fn, fn.mod.map(ring), ring.name, base, fn.num(layout.size), kind="recorder")
            fn.if_(fn.not_(drop), no)
        else:
            transport.send(fn, fn.mod.map(ring), ring.name, base, layout.size, drop)
        return
    with fn.into(no):
        _output(fn, ring, base, state)
    fn.if_(fn.not_(drop), no)


def _output(fn: Fn, ring: Ring, base: tir.Expr, state: tir.Expr) -> None:
    layout = ring.event.layout()
    tail = layout.tail
    assert tail is not None
    used = fn.load(fn.offset(state, USED), tir.U64, volatile=True)
    if mem.is_strings(tail.type):
        count = fn.load(fn.offset(state, COUNT), tir.U64, volatile=True)
        cut = fn.bin("shl", fn.load(fn.offset(state, CUT), tir.U64), fn.num(CUT_BIT), False)
        fn.store(fn.offset(base, tail.offset - 4), fn.bin("or", count, cut, False), tir.U32)
        limit = tail.size
    elif mem.is_data(tail.type):
        fn.store(fn.offset(base, tail.offset - 4), used, tir.U32)
        limit = tail.size
    else:
        none: list[tir.Stmt] = [tir.Store(fn.loc, fn.offset(base, tail.offset), fn.num(0), tir.U8)]
        fn.if_(fn.cmp("eq", used, fn.num(0, False)), none)
        limit = tail.size
    length = fn.local(tir.U64, "length")
    fn.set(length, tir.Barrier(tir.U64, fn.loc, used))
    fn.if_(fn.cmp("ugt", fn.get(length), fn.num(limit, False)), [tir.Set(fn.loc, length, fn.num(limit, False))])
    if not has_count(tail.type):
        fn.if_(fn.cmp("eq", fn.get(length), fn.num(0, False)), [tir.Set(fn.loc, length, fn.num(1, False))])
    total = fn.bin("add", fn.get(length), fn.num(layout.fixed), False)
    if isinstance(ring, FlightRecorder):
        transport.output(fn, fn.mod.map(ring), ring.name, base, total, kind="recorder")
    else:
        transport.send_copy(fn, fn.mod.map(ring), ring.name, base, total)


def assign_field(fn: Fn, node: ast.Attribute, event: Val, value: Val) -> None:
    """``e.field = value``."""
    field = mem.own_field(fn, node, event)
    if isinstance(event.ft, TEvent) and field is event.ft.ring.event.layout().tail:
        _assign_tail(fn, node, event, field, value)
        return
    place = fn.offset(event.exprs[0], field.offset)
    mem.write(fn, node, place, field.type, value, fresh=isinstance(event.ft, TEvent))


def _assign_tail(fn: Fn, node: ast.AST, event: Val, field: Field, value: Val) -> None:
    if mem.is_strings(field.type):
        fn.fail(node, f"{field.name} is a list of strings", f"write e.{field.name}.add(text)")
    if mem.is_data(field.type):
        fn.fail(node, f"{field.name} has bytes of variable length", f"write e.{field.name}.read(pointer, size)")
    text = texts.as_text(fn, value, node)
    place = fn.offset(event.exprs[0], field.offset)
    if isinstance(text.ft, TText) and text.ft.source != "comm":
        n = texts.read_text(fn, place, field.size, text)
        fn.store(fn.offset(event.exprs[1], USED), _at_least_zero(fn, n), tir.U64)
        return
    size = text.ft.n if isinstance(text.ft, TStr) else 16 if isinstance(text.ft, TText) else len(str(text.const)) + 1
    texts.write_str(fn, node, place, field.size, text, fresh=True)
    fn.store(fn.offset(event.exprs[1], USED), fn.num(min(size, field.size)), tir.U64)


def _at_least_zero(fn: Fn, n: tir.Expr) -> tir.Expr:
    n = fn.keep(n)
    return tir.Cond(tir.S64, fn.loc, fn.cmp("slt", n, fn.num(0)), fn.num(0), n)


def add_string(fn: Fn, node: ast.Call, tail: Val, args: list[Val]) -> None:
    """``e.args.add(text[, limit])``: append, cut what does not fit and mark it."""
    assert isinstance(tail.ft, TTail)
    field = tail.ft.event.ring.event.layout().tail
    if not mem.is_strings(field.type):
        fn.fail(node, f"{field.name} is one string", f"write e.{field.name} = text")
    each = fn.constant_int(args[1], node.args[1], "the limit") if len(args) > 1 else field.type.each
    if not 1 <= each <= field.type.each:
        fn.fail(node, f"the limit must be from 1 to {field.type.each}")
    text = texts.as_text(fn, args[0], node.args[0])
    base, state = tail.exprs
    used = fn.local(tir.U64, "used")
    fn.set(used, tir.Barrier(tir.U64, fn.loc, fn.load(fn.offset(state, USED), tir.U64, volatile=True)))
    fits: list[tir.Stmt] = []
    with fn.into(fits):
        place = fn.keep(fn.offset(base, field.offset, fn.get(used)))
        n = _copy_string(fn, node, place, each, text)
        _advance(fn, state, fn.get(used), n, each, field)
    cut: list[tir.Stmt] = [tir.Store(fn.loc, fn.offset(state, CUT), fn.num(1), tir.U64)]
    fn.if_(fn.cmp("ult", fn.get(used), fn.num(field.size, False)), fits, cut)


def _copy_string(fn: Fn, node: ast.Call, place: tir.Expr, each: int, text: Val) -> tir.Expr:
    """Copy one string of at most ``each`` bytes; its length with NUL."""
    if isinstance(text.ft, TText) and text.ft.source != "comm":
        return fn.keep(_at_least_zero(fn, texts.read_text(fn, place, each, text)))
    inside = texts.in_memory(fn, text, node)
    assert isinstance(inside.ft, TStr)
    read = kmem.READ_STR["kernel"]
    source = tir.Convert(tir.U64, fn.loc, inside.exprs[0], tir.U64)
    return fn.keep(_at_least_zero(fn, fn.helper(read, place, fn.num(min(each, inside.ft.n)), source)))


def _advance(fn: Fn, state: tir.Expr, used: tir.Expr, n: tir.Expr, each: int, field: Field) -> None:
    """Account for a string of ``n`` bytes at ``used``; an unreadable one counts as an empty string."""
    end = fn.local(tir.U64, "end")
    length = tir.Cond(tir.S64, fn.loc, fn.cmp("eq", n, fn.num(0)), fn.num(1), n)
    fn.set(end, fn.bin("add", used, length, False))
    past: list[tir.Stmt] = [
        tir.Set(fn.loc, end, fn.num(field.size, False)),
        tir.Store(fn.loc, fn.offset(state, CUT), fn.num(1), tir.U64),
    ]
    fn.if_(fn.cmp("ugt", fn.get(end), fn.num(field.size, False)), past)
    full: list[tir.Stmt] = [tir.Store(fn.loc, fn.offset(state, CUT), fn.num(1), tir.U64)]
    fn.if_(fn.cmp("eq", n, fn.num(each)), full)
    fn.store(fn.offset(state, USED), fn.get(end), tir.U64)
    count = fn.load(fn.offset(state, COUNT), tir.U64, volatile=True)
    fn.store(fn.offset(state, COUNT), fn.bin("add", count, fn.num(1), False), tir.U64)


def read_bytes(fn: Fn, node: ast.Call, tail: Val, args: list[Val]) -> Val:
    """``e.data.read(pointer, size)``: have the bytes there, as many as fit; how many these are, none on a fault."""
    assert isinstance(tail.ft, TTail)
    field = tail.ft.event.ring.event.layout().tail
    base, state = tail.exprs
    where = kmem.pointer(fn, args[0])
    space = where.ft.space if isinstance(where.ft, TPtr) else ""
    if space not in ("user", "kernel", kmem.EITHER):
        fn.expected(args[0], node.args[0], "an address of a program or of the kernel")
    size, signed = fn.as_int(args[1], node.args[1])
    length = fn.local(tir.U64, "length")
    fn.set(length, tir.Barrier(tir.U64, fn.loc, _at_least_zero(fn, size) if signed else size))
    # One value for the comparison and for the call: verifiers before 5.13 know no bounds of what was spilled between.
    fn.if_(fn.cmp("ugt", fn.get(length), fn.num(field.size, False)),
           [tir.Set(fn.loc, length, fn.num(field.size, False))])  # fmt: skip
    place = fn.offset(base, field.offset)
    code = kmem.by_helper(fn, kmem.READ, space, place, fn.get(length), where.exprs[0])
    failed = fn.cmp("ne", fn.keep(code), fn.num(0))
    fn.if_(failed, [tir.Set(fn.loc, length, fn.num(0, False))])
    fn.store(fn.offset(state, USED), fn.get(length), tir.U64)
    return Val(TInt(False), [fn.get(length)])


def mark_cut(fn: Fn, tail: Val) -> None:
    """``e.args.truncate()``: there were more strings."""
    fn.store(fn.offset(tail.exprs[1], CUT), fn.num(1), tir.U64)


def discard(fn: Fn, event: Val) -> None:
    """``e.discard()``: this event is not sent after all."""
    fn.store(fn.offset(event.exprs[1], DROP), fn.num(1), tir.U64)


# --------------------------------------------------------------------------
# print(f"…")


def print_call(fn: Fn, node: ast.Call) -> Val:
    """``print(f"…", …)``: the values go to the user side, which formats them."""
    from osmia.compiler.dispatch import expr

    if node.keywords:
        fn.fail(node.keywords[0].value, "print() takes no keyword arguments in kernel code",
                "each print is one line, with spaces between its arguments")
    form, parts = "", []
    for at, arg in enumerate(node.args):
        form += " " if at else ""
        for piece in arg.values if isinstance(arg, ast.JoinedStr) else [arg]:
            if isinstance(piece, ast.Constant) and isinstance(piece.value, str):
                form += piece.value.replace("{", "{{").replace("}", "}}")
                continue
            shown, spec = (piece, "") if not isinstance(piece, ast.FormattedValue) else _formatted(fn, arg, piece)
            value = expr(fn, shown)
            if isinstance(value.ft, TConst):
                form += _format(fn, arg, value.const, spec).replace("{", "{{").replace("}", "}}")
                continue
            printable = _printable(fn, shown, value)
            _format(fn, arg, "" if isinstance(printable.ft, TStr) else 0, spec)
            form += "{:" + spec + "}" if spec else "{}"
            parts.append((printable, shown))
    _send_print(fn, node, form, parts)
    return const(None)


def _format(fn: Fn, node: ast.expr, sample: Any, spec: str) -> str:
    """``sample`` as ``spec`` shows it: a format that does not fit is refused here and not when the text is made."""
    try:
        return format(sample, spec)
    except (TypeError, ValueError) as err:
        fn.fail(node, f"this format does not work: {err}")


def _formatted(fn: Fn, whole: ast.expr, piece: ast.FormattedValue) -> tuple[ast.expr, str]:
    if piece.conversion != -1:
        fn.fail(whole, "!r, !s and !a do not exist in kernel code", "leave it out: what is printed is escaped anyway")
    spec = ""
    if isinstance(piece.format_spec, ast.JoinedStr):
        for part in piece.format_spec.values:
            if not isinstance(part, ast.Constant):
                fn.fail(whole, "a format that is computed cannot be used in kernel code")
            spec += str(part.value)
    return piece.value, spec


def _printable(fn: Fn, node: ast.expr, value: Val) -> Val:
    """A number, or text in memory."""

    if isinstance(value.ft, (TInt, TBool)):
        return Val(value.ft, [fn.keep(value.exprs[0])])
    if texts.texty(value):
        return texts.in_memory(fn, value, node, key="print")
    if isinstance(value.ft, TPtr):
        return Val(TInt(False), [fn.as_int(value, node)[0]])
    return Val(TInt(True), [fn.as_int(value, node)[0]])


def _send_print(fn: Fn, node: ast.Call, form: str, parts: list[tuple[Val, ast.expr]]) -> None:
    codes, size = "", 8
    for value, _ in parts:
        if isinstance(value.ft, TStr):
            codes += f"s{value.ft.n}"
            size += (value.ft.n + 7) // 8 * 8
        else:
            codes += "b" if isinstance(value.ft, TBool) else "i" if value.ft == TInt(True) else "u"
            size += 8
    number = fn.mod.print_id((fn.file.name, node.lineno, node.col_offset), form, codes)
    base = transport.room(fn, PRINTS, size)
    block: list[tir.Stmt] = []
    with fn.into(block):
        fn.store(base, fn.num(number), tir.U64)
        at = 8
        for value, where in parts:
            place = fn.offset(base, at)
            if isinstance(value.ft, TStr):
                texts.write_str(fn, where, place, value.ft.n, value, fresh=True)
                at += (value.ft.n + 7) // 8 * 8
            else:
                fn.store(place, fn.as_int(value, where)[0], tir.U64)
                at += 8
        transport.send(fn, PRINTS, "print", base, size, None)
    lost: list[tir.Stmt] = []
    with fn.into(lost):
        fn.lost("ring", "print")
    fn.if_(fn.not_null(base), block, lost)

