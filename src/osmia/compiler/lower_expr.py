# SPDX-License-Identifier: Apache-2.0
"""Expressions to LLVM IR.

Every function here writes instructions into a :class:`~osmia.compiler.body.Body`
and returns the operand that holds the value: an ``i64`` for integers, an
``i1`` for truth values, a ``ptr`` for addresses of any space.
"""

from __future__ import annotations

from osmia.compiler import tir
from osmia.compiler.body import Body, memory_type, value_type
from osmia.compiler.debuginfo import quoted
from osmia.errors import InternalError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MASK = (1 << 64) - 1
_DIRECT = ("ctx", "mem", "btf")
_PLAIN_OPS = ("add", "sub", "mul", "and", "or", "xor", "shl", "lshr", "ashr", "udiv")


def lower_expr(b: Body, e: tir.Expr) -> str:
    """The operand for ``e``."""
    handler = _HANDLERS.get(type(e))
    if handler is None:
        raise InternalError(f"the back end knows no {type(e).__name__}")
    b.at(e.loc)
    return handler(b, e)


def as_int(b: Body, e: tir.Expr) -> str:
    """``e`` as an i64, whatever scalar it is."""
    value = b.value(e)
    return to_int(b, value, e.type)


def to_int(b: Body, value: str, t: tir.Type | tir.Mem) -> str:
    """An i64 from an operand of type ``t``."""
    if isinstance(t, tir.Bool):
        return b.let(f"zext i1 {value} to i64")
    if isinstance(t, tir.Ptr):
        return b.let(f"ptrtoint ptr {value} to i64")
    return value


def as_bool(b: Body, e: tir.Expr) -> str:
    """``e`` as an i1."""
    value = b.value(e)
    b.at(e.loc)
    return to_bool(b, value, e.type)


def to_bool(b: Body, value: str, t: tir.Type) -> str:
    if isinstance(t, tir.Bool):
        return value
    if isinstance(t, tir.Ptr):
        return b.let(f"icmp ne ptr {value}, null")
    return b.let(f"icmp ne i64 {value}, 0")


def coerce(b: Body, value: str, have: tir.Type, want: tir.Type | tir.Mem) -> str:
    """An operand of the value type of ``want`` from one of type ``have``."""
    if value_type(have) == value_type(want):
        return value
    if isinstance(want, tir.Bool):
        return to_bool(b, value, have)
    if isinstance(want, tir.Ptr):
        return b.let(f"inttoptr i64 {to_int(b, value, have)} to ptr")
    return to_int(b, value, have)


def narrow(b: Body, value: str, t: tir.Mem) -> str:
    """A 64-bit (or i1, ptr) value as what is stored in memory of type ``t``."""
    if isinstance(t, tir.Int) and t.bits < 64:
        if value[-1].isdecimal() and value[0] != "%":  # a number: LLVM takes those modulo the width only if they fit
            return str((int(value) + (1 << t.bits - 1)) % (1 << t.bits) - (1 << t.bits - 1))
        return b.let(f"trunc i64 {value} to i{t.bits}")
    if isinstance(t, tir.Bool):
        return "1" if value == "true" else "0" if value == "false" else b.let(f"zext i1 {value} to i8")
    return value


def widen(b: Body, value: str, t: tir.Mem) -> str:
    """What was loaded from memory of type ``t`` as a value."""
    if isinstance(t, tir.Int) and t.bits < 64:
        return b.let(f"{'sext' if t.signed else 'zext'} i{t.bits} {value} to i64")
    if isinstance(t, tir.Bool):
        return b.let(f"icmp ne i8 {value}, 0")
    return value


def load(b: Body, address: str, t: tir.Mem, volatile: bool = False, align: int = 0) -> str:
    """The value of type ``t`` at ``address``."""
    word = "load volatile" if volatile else "load"
    return widen(b, b.let(f"{word} {memory_type(t)}, ptr {address}, align {align or t.align}"), t)


def store(b: Body, address: str, value: str, t: tir.Mem, align: int = 0) -> None:
    """Write ``value`` (of ``t``'s value type) as type ``t`` at ``address``."""
    b.do(f"store {memory_type(t)} {narrow(b, value, t)}, ptr {address}, align {align or t.align}")


def _const(b: Body, e: tir.Const) -> str:
    if isinstance(e.type, tir.Bool):
        return "true" if e.value else "false"
    value = e.value & _MASK
    value = value - (1 << 64) if value >> 63 else value
    if isinstance(e.type, tir.Ptr):
        return "null" if value == 0 else f"inttoptr (i64 {value} to ptr)"
    return str(value)


def _get(b: Body, e: tir.Get) -> str:
    t = e.local.type
    value = b.known.get(e.local)
    if value is None:
        value = load(b, b.slots[e.local], t)
        if e.local not in b.shared.in_memory:
            b.known[e.local] = value
            b.read.add(e.local)
    return coerce(b, value, _value_of(t), e.type)


def set_local(b: Body, local: tir.Local, value: str) -> None:
    """Put ``value`` (of the value type of the local's type) into ``local``."""
    t = local.type
    store(b, b.slots[local], value, t)
    b.wrote(local)
    if local not in b.shared.in_memory and not (isinstance(t, tir.Int) and t.bits < 64):  # narrow: what is read differs
        b.known[local] = value
    else:
        b.known.pop(local, None)


def _value_of(t: tir.Mem) -> tir.Type:
    if isinstance(t, tir.Int):
        return tir.S64 if t.signed else tir.U64
    if isinstance(t, (tir.Bool, tir.Ptr)):
        return t
    raise InternalError(f"{t} is no scalar")


def _addr_of(b: Body, e: tir.AddrOf) -> str:
    return b.slots[e.local]


def _global(b: Body, e: tir.Global) -> str:
    return "@" + quoted(e.name)


def _func_addr(b: Body, e: tir.FuncAddr) -> str:
    return "@" + quoted(e.func.name)


def _bin(b: Body, e: tir.Bin) -> str:
    x, y = as_int(b, e.a), as_int(b, e.b)
    b.at(e.loc)
    if e.op in _PLAIN_OPS:
        return b.let(f"{e.op} i64 {x}, {y}")
    if e.op == "umod":
        return b.let(f"urem i64 {x}, {y}")
    if e.op not in ("sdiv", "smod"):
        raise InternalError(f"unknown operation {e.op}")
    quotient = _floor_const(b, x, int(y)) if y.lstrip("-").isdigit() and int(y) > 0 else _floor_div(b, x, y)
    if e.op == "sdiv":
        return quotient
    return b.let(f"sub i64 {x}, {b.let(f'mul i64 {quotient}, {y}')}")


def _floor_const(b: Body, x: str, y: int) -> str:
    """``x // y`` for a positive constant: for negative x it is ``~(~x / y)``."""
    sign = b.let(f"ashr i64 {x}, 63")
    folded = b.let(f"xor i64 {x}, {sign}")
    return b.let(f"xor i64 {b.let(f'udiv i64 {folded}, {y}')}, {sign}")


def _floor_div(b: Body, x: str, y: str) -> str:
    """``x // y``, rounding down, by unsigned division and without branches.

    With m = |x| and n = |y| (which as unsigned numbers hold 2**63 too): the
    quotient is m / n for equal signs, and for different ones -ceil(m / n),
    which is ~((m - 1) / n) when m is not zero.
    """
    sx, sy = b.let(f"ashr i64 {x}, 63"), b.let(f"ashr i64 {y}, 63")
    m = b.let(f"sub i64 {b.let(f'xor i64 {x}, {sx}')}, {sx}")
    n = b.let(f"sub i64 {b.let(f'xor i64 {y}, {sy}')}, {sy}")
    nonzero = b.let(f"sext i1 {b.let(f'icmp ne i64 {x}, 0')} to i64")
    differ = b.let(f"and i64 {b.let(f'xor i64 {sx}, {sy}')}, {nonzero}")
    quotient = b.let(f"udiv i64 {b.let(f'add i64 {m}, {differ}')}, {n}")
    return b.let(f"xor i64 {quotient}, {differ}")


def _cmp(b: Body, e: tir.Cmp) -> str:
    if isinstance(e.a.type, tir.Ptr) and isinstance(e.b.type, tir.Ptr):
        x, y, t = b.value(e.a), b.value(e.b), "ptr"
    elif isinstance(e.a.type, tir.Bool) and isinstance(e.b.type, tir.Bool):
        x, y, t = b.value(e.a), b.value(e.b), "i1"
    else:
        x, y, t = as_int(b, e.a), as_int(b, e.b), "i64"
    b.at(e.loc)
    return b.let(f"icmp {e.op} {t} {x}, {y}")


def _not(b: Body, e: tir.Not) -> str:
    return b.let(f"xor i1 {as_bool(b, e.a)}, true")


def _and(b: Body, e: tir.And) -> str:
    return _short_circuit(b, e, "false")


def _or(b: Body, e: tir.Or) -> str:
    return _short_circuit(b, e, "true")


def _short_circuit(b: Body, e: tir.And | tir.Or, known: str) -> str:
    """The second side is run only when the first did not decide."""
    first = as_bool(b, e.a)
    b.at(e.loc)
    second, end = b.new_label("rhs"), b.new_label("end")
    origin = b.label
    if known == "false":
        b.branch(first, second, end)
    else:
        b.branch(first, end, second)
    before = b.known
    b.start(second, before)
    value = as_bool(b, e.b)
    last = b.label
    b.start(end, b.unchanged(before, b.known))
    b.at(e.loc)
    return b.let(f"phi i1 [ {known}, %{origin} ], [ {value}, %{last} ]")


_READY = (tir.Const, tir.Get)  # what has no effect, and costs nothing to have in vain


def _cond(b: Body, e: tir.Cond) -> str:
    test = as_bool(b, e.test)
    if isinstance(e.a, _READY) and isinstance(e.b, _READY):
        x, y = coerce(b, b.value(e.a), e.a.type, e.type), coerce(b, b.value(e.b), e.b.type, e.type)
        b.at(e.loc)
        kind = value_type(e.type)
        return b.let(f"select i1 {test}, {kind} {x}, {kind} {y}")
    b.at(e.loc)
    yes, no, end = b.new_label("yes"), b.new_label("no"), b.new_label("end")
    b.branch(test, yes, no)
    before = b.known
    b.start(yes, before)
    x = coerce(b, b.value(e.a), e.a.type, e.type) if not isinstance(e.type, tir.Void) else b.value(e.a)
    from_yes, known = b.label, b.unchanged(before, b.known)
    b.jump(end)
    b.start(no, before)
    y = coerce(b, b.value(e.b), e.b.type, e.type) if not isinstance(e.type, tir.Void) else b.value(e.b)
    from_no = b.label
    b.start(end, b.unchanged(known, b.known))
    b.at(e.loc)
    if isinstance(e.type, tir.Void):
        return ""
    return b.let(f"phi {value_type(e.type)} [ {x}, %{from_yes} ], [ {y}, %{from_no} ]")


def _seq(b: Body, e: tir.Seq) -> str:
    b.run(e.stmts)
    b.reopen()
    value = b.value(e.result)
    return value if isinstance(e.type, tir.Void) else coerce(b, value, e.result.type, e.type)


def _convert(b: Body, e: tir.Convert) -> str:
    value = b.value(e.a)
    b.at(e.loc)
    if isinstance(e.to, tir.Int):
        value = to_int(b, value, e.a.type)
        return value if e.to.bits == 64 else widen(b, narrow(b, value, e.to), e.to)
    if isinstance(e.to, (tir.Bool, tir.Ptr)):
        return coerce(b, value, e.a.type, e.to)
    raise InternalError(f"conversion to {e.to}")


def _load(b: Body, e: tir.Load) -> str:
    space = _space(e.addr)
    if space not in _DIRECT:
        raise InternalError(f"direct load through a {space} pointer")
    base, offset = without_constants(e.addr)
    start = b.value(base)
    b.at(e.loc)
    value = load(b, finished(b, base, start, offset), e.mem, e.volatile)
    if space == "ctx":
        # LLVM would merge the loads of two branches into one through a chosen
        # address, which the verifier refuses for the context.
        if isinstance(e.mem, tir.Bool):
            return coerce(b, b.opaque(to_int(b, value, e.mem), "i64"), tir.U64, e.type)
        value = b.opaque(value, value_type(e.mem))
    return coerce(b, value, _value_of(e.mem), e.type)


def without_constants(e: tir.Expr) -> tuple[tir.Expr, int]:
    """The address ``e`` in two: where it starts, and what is constant in it, for :func:`finished`."""
    offset = 0
    while isinstance(e, tir.Offset) and e.index is None:
        offset += e.offset
        e = e.addr
    return e, offset


def finished(b: Body, base: tir.Expr, start: str, offset: int) -> str:
    """The address ``offset`` bytes behind ``base``, whose value is ``start``; to be called right before its use.

    The verifier takes a context with a constant offset in the instruction
    itself and nothing else, and LLVM likes to add it up before, above a branch
    for both ways: this intrinsic is there to keep it from that.
    """
    if offset and _space(base) == "ctx":
        b.declare("ptr @llvm.preserve.static.offset(ptr) #1")
        start = b.let(f"call ptr @llvm.preserve.static.offset(ptr {start})")
    return b.gep(start, offset)


def _space(e: tir.Expr) -> str:
    if not isinstance(e.type, tir.Ptr):
        raise InternalError(f"{e.type} is no address")
    return e.type.space


def _offset(b: Body, e: tir.Offset) -> str:
    address = b.value(e.addr)
    if e.index is None:
        b.at(e.loc)
        return b.gep(address, e.offset)
    index = as_int(b, e.index)
    b.at(e.loc)
    scaled = index if e.scale == 1 else b.let(f"mul i64 {index}, {e.scale}")
    # The constant last: the verifier keeps the bounds of the variable part.
    return b.gep(b.gep(address, scaled), e.offset)


def _field_addr(b: Body, e: tir.FieldAddr) -> str:
    address = b.value(e.addr)
    b.at(e.loc)
    # A context's offset has to end up in the instruction that uses it, so that none may serve two.
    of_context = isinstance(e.addr.type, tir.Ptr) and e.addr.type.space == "ctx"
    offset = b.core(b.shared.core.field(e.access, "offset"), volatile=of_context)
    if isinstance(e.addr.type, tir.Int):  # a bare number (kernel and user addresses): plain arithmetic
        return b.opaque(b.let(f"add i64 {address}, {offset}"), "i64")
    return b.opaque(b.gep(address, offset), "ptr")


def _core_field(b: Body, e: tir.CoreField) -> str:
    return _fact(b, b.shared.core.field(e.access, e.kind), e.type)


def _core_type(b: Body, e: tir.CoreType) -> str:
    return _fact(b, b.shared.core.type(e.ktype, e.kind), e.type)


def _core_enum(b: Body, e: tir.CoreEnum) -> str:
    return _fact(b, b.shared.core.enum(e.enum, e.enumerator, e.kind), e.type)


def _fact(b: Body, name: str, t: tir.Type) -> str:
    return coerce(b, b.opaque(b.core(name), "i64"), tir.U64, t)


def _helper(b: Body, e: tir.Helper) -> str:
    if len(e.args) > 5:
        raise InternalError(f"helper {e.id} with {len(e.args)} arguments")
    args = ", ".join([_argument(b, a) for a in e.args])
    b.at(e.loc)
    return call_helper(b, e.id, args, e.type)


#: get_current_pid_tgid, get_current_uid_gid, get_current_task, get_current_cgroup_id.
_CONSTANT_HELPERS = frozenset((14, 15, 35, 80))


def call_helper(b: Body, helper: int, args: str, t: tir.Type) -> str:
    """Call a BPF helper by its number; ``args`` is the IR text of the arguments."""
    result = "ptr" if isinstance(t, tir.Ptr) else "i64"
    # Facts of the current task do not change while the program runs: asked for twice, they are read once.
    same = " #5" if helper in _CONSTANT_HELPERS and not args else ""
    value = b.let(f"call {result} inttoptr (i64 {helper} to ptr)({args}){same}")
    if isinstance(t, tir.Void):
        return ""
    return value if isinstance(t, tir.Ptr) else coerce(b, value, tir.U64, t)


def _argument(b: Body, e: tir.Expr) -> str:
    """An argument as IR text: addresses stay addresses, everything else is an i64."""
    if isinstance(e.type, tir.Ptr):
        return f"ptr {b.value(e)}"
    return f"i64 {as_int(b, e)}"


def _call(b: Body, e: tir.Call) -> str:
    if len(e.args) != len(e.func.params):
        raise InternalError(f"{e.func.name} called with {len(e.args)} arguments")
    args = []
    for arg, param in zip(e.args, e.func.params, strict=True):
        if isinstance(param.type, tir.Ptr):
            args.append(f"ptr {coerce(b, b.value(arg), arg.type, param.type)}")
        else:
            args.append(f"i64 {as_int(b, arg)}")
    b.at(e.loc)
    result = abi_type(e.func.ret)
    value = b.let(f"call {result} @{quoted(e.func.name)}({', '.join(args)})")
    if isinstance(e.type, tir.Void):
        return ""
    return value if result == "ptr" else coerce(b, value, tir.U64, e.type)


def abi_type(t: tir.Type) -> str:
    """How a function returns ``t``: one register, always set."""
    return "ptr" if isinstance(t, tir.Ptr) else "i64"


def _atomic(b: Body, e: tir.Atomic) -> str:
    address = b.value(e.addr)
    operand = narrow(b, as_int(b, e.value), e.mem)
    b.at(e.loc)
    # Monotonic becomes the plain form, which for `add` is all that kernels
    # before 5.12 have, and **never** hands back the old value, not even when
    # it is used (LLVM 22 then yields the operand); the others always fetch.
    order = "seq_cst" if e.fetch else "monotonic"
    # Volatile: what adds nothing would become an "or" otherwise, which kernels before 5.12 do not have.
    old = b.let(f"atomicrmw volatile {e.op} ptr {address}, i{e.mem.bits} {operand} {order}, align {e.mem.size}")
    if not e.fetch or isinstance(e.type, tir.Void):
        return ""
    return widen(b, old, e.mem)


def _fls(b: Body, e: tir.Fls) -> str:
    value = as_int(b, e.a)
    b.at(e.loc)
    b.declare("i64 @llvm.ctlz.i64(i64, i1)")
    zeros = b.let(f"call i64 @llvm.ctlz.i64(i64 {value}, i1 false)")
    return b.let(f"sub i64 64, {zeros}")


def _barrier(b: Body, e: tir.Barrier) -> str:
    value = b.value(e.a)
    b.at(e.loc)
    if isinstance(e.a.type, tir.Bool):
        value = b.opaque(to_int(b, value, tir.BOOL), "i64")
        return coerce(b, value, tir.U64, e.type)
    return coerce(b, b.opaque(value, value_type(e.a.type)), e.a.type, e.type)


_HANDLERS: dict[type, Callable[..., str]] = {
    tir.Const: _const,
    tir.Get: _get,
    tir.AddrOf: _addr_of,
    tir.Global: _global,
    tir.FuncAddr: _func_addr,
    tir.Bin: _bin,
    tir.Cmp: _cmp,
    tir.Not: _not,
    tir.And: _and,
    tir.Or: _or,
    tir.Cond: _cond,
    tir.Seq: _seq,
    tir.Convert: _convert,
    tir.Load: _load,
    tir.Offset: _offset,
    tir.FieldAddr: _field_addr,
    tir.CoreField: _core_field,
    tir.CoreType: _core_type,
    tir.CoreEnum: _core_enum,
    tir.Helper: _helper,
    tir.Call: _call,
    tir.Atomic: _atomic,
    tir.Fls: _fls,
    tir.Barrier: _barrier,
}
