# SPDX-License-Identifier: Apache-2.0
"""Arguments of probes in user programs.

Functions follow the calling convention: arguments are in registers, which
the context (``struct pt_regs``) holds, and from the seventh (x86-64) or
ninth (arm64) on in the caller's memory.

Static probes (USDT) say in the probed file where their arguments are, which
is known only when the program is attached.  So the program carries a small
interpreter: a map holds a record per place (see
:mod:`osmia.symbols.usdt_args`), the attach cookie says which one.  On
kernels without cookies the loader puts the number in place of the call
(:mod:`osmia.load.cookies`), so that old kernels run the same code.
"""

from __future__ import annotations

from osmia.compiler import entry_functions, kmem, tir
from osmia.compiler.annotations import annotated, as_type
from osmia.compiler.core import Fn
from osmia.compiler.values import SINT, UINT, Val
from osmia.lang.probes import Hook
from osmia.lang.user_probes import USDT_MAP, USDT_PLACES
from osmia.obj import consts, ptregs

#: What :mod:`osmia.symbols.usdt_args` packs: kinds, layout of one argument, arguments of one place.
REGISTER, MEMORY, INDEXED, INDEXED_SIGNED32, INDEXED_UNSIGNED32, UNREADABLE = range(1, 7)
_VALUE, _REGISTER, _INDEX, _KIND, _ABOVE, _SIGNED, _SCALE, _BYTES = 0, 8, 10, 12, 13, 14, 15, 16
_HEAD, _MOST = 8, 12


def bind(fn: Fn, names: list[str], hook: Hook) -> None:
    """Give the parameters of a user probe's function their values."""
    if hook.kind == "usdt":
        _usdt(fn, names)
        return
    machine = entry_functions.machine_of(fn)
    if hook.kind == "uretprobe":
        _returned(fn, names, machine)
        return
    at_entry = "+" not in hook.target
    for at, arg in enumerate(fn.source.node.args.args):
        if arg.arg == "ret":
            fn.fail(arg, "a uprobe runs before the function, so there is no return value yet",
                    "use uretprobe, or give the parameter another name")
        if not at_entry:
            fn.fail(arg, f"inside of a function ({hook.target}) the arguments may be anywhere",
                    "leave the parameters out, or probe the function's start")
        kind = annotated(fn, arg)
        raw = call_argument(fn, machine, at)
        fn.params[arg.arg] = fn.hold(arg.arg, as_type(fn, arg, raw, kind) if kind else Val(UINT, [raw]))


def _returned(fn: Fn, names: list[str], machine: ptregs.Machine) -> None:
    for arg in fn.source.node.args.args:
        if arg.arg != "ret":
            fn.fail(arg, f"at a return probe there is only ret: the argument {arg.arg!r} may be overwritten by then",
                    "keep it in a map under current.pid from a uprobe, and take it out here")
    if not names:
        return
    arg = fn.source.node.args.args[0]
    raw = fn.load(fn.offset(fn.program_context(), machine.offsets[machine.ret]), tir.U64)
    kind = annotated(fn, arg)
    fn.params["ret"] = fn.hold("ret", as_type(fn, arg, raw, kind) if kind else Val(UINT, [raw]))


def call_argument(fn: Fn, machine: ptregs.Machine, at: int) -> tir.Expr:
    offset, on_stack = machine.argument(at)
    if not on_stack:
        return fn.load(fn.offset(fn.program_context(), offset), tir.U64)
    stack = fn.load(fn.offset(fn.program_context(), machine.offsets[machine.sp]), tir.U64)
    scratch = fn.slot("read", tir.U64)
    fn.store(scratch, fn.num(0), tir.U64)
    fn.do(kmem.READ["user"], scratch, fn.num(8), fn.offset(stack, offset))
    return fn.load(scratch, tir.U64)


# --------------------------------------------------------------------------
# Static probes


def _usdt(fn: Fn, names: list[str]) -> None:
    args = fn.source.node.args.args
    if len(names) > _MOST:
        fn.fail(args[_MOST], f"a static probe has at most {_MOST} arguments")
    if not names:
        return
    places = _define_map(fn)
    place = fn.slot(("key", "u32"), tir.U32)
    fn.store(place, fn.helper(consts.BPF_FUNC_get_attach_cookie, fn.program_context(), result=tir.U64), tir.U32)
    record = fn.local(tir.Ptr("mem"), "usdt")
    look = fn.helper(consts.BPF_FUNC_map_lookup_elem, fn.global_(places), place, result=tir.Ptr("mem"))
    fn.set(record, look)
    fn.if_(fn.not_(fn.not_null(fn.get(record))), [tir.Return(fn.loc, fn.num(0))])
    reader = _reader(fn)
    for at, arg in enumerate(args):
        where = fn.offset(fn.get(record), _HEAD + _BYTES * at)
        raw = fn.keep(tir.Call(tir.U64, fn.loc, reader, [fn.program_context(), where]))
        kind = annotated(fn, arg)
        # The size and sign are the probe's own, so the number is right as it is.
        value = as_type(fn, arg, raw, kind) if kind else Val(SINT, [tir.Convert(tir.S64, fn.loc, raw, tir.S64)])
        fn.params[arg.arg] = fn.hold(arg.arg, value)


def _define_map(fn: Fn) -> str:
    """The map with a record for each place of this program; its name."""
    module, name = fn.mod.module, f"{USDT_MAP}_{fn.root}"
    if not any(one.name == name for one in module.maps):
        record = tir.Array(tir.U64, (_HEAD + _MOST * _BYTES) // 8)
        module.maps.append(tir.MapDef(name, consts.BPF_MAP_TYPE_ARRAY, tir.U32, record, USDT_PLACES))
    return name


def _reader(fn: Fn) -> tir.Func:
    """``osmia_usdt(ctx, argument)``: the value of one argument, made once per object."""
    known = fn.mod.functions.get("osmia_usdt")
    if known is not None:
        assert isinstance(known, tir.Func)
        return known
    made = tir.Func("osmia_usdt", "", [tir.Local("ctx", tir.Ptr("ctx")), tir.Local("argument", tir.Ptr("mem"))],
                    tir.U64, fn.source.file.name, fn.source.node.lineno, inline=False)
    inner = Fn(fn.mod, fn.source, made, fn.chain)
    inner.root = made.name
    _read_argument(inner, inner.get(made.params[0]), inner.get(made.params[1]))
    fn.mod.functions["osmia_usdt"] = made
    fn.mod.module.funcs.append(made)
    return made


def _read_argument(fn: Fn, context: tir.Expr, argument: tir.Expr) -> None:
    """The body of the reader: constant, register, or memory at register (+ index * scale) + displacement."""
    kind = fn.load(fn.offset(argument, _KIND), tir.U8)
    value, failed = fn.local(tir.U64, "value"), fn.local(tir.BOOL, "failed")
    fn.set(value, fn.load(fn.offset(argument, _VALUE), tir.U64))
    fn.set(failed, fn.cmp("uge", kind, fn.num(UNREADABLE, False)))
    dynamic: list[tir.Stmt] = []
    with fn.into(dynamic):
        base = _register(fn, context, argument, _REGISTER)
        scale = fn.keep(fn.bin("and", fn.load(fn.offset(argument, _SCALE), tir.U8), fn.num(63, False), False))
        direct: list[tir.Stmt] = []
        with fn.into(direct):
            fn.set(value, fn.bin("lshr", base, scale, False))
        memory: list[tir.Stmt] = []
        with fn.into(memory):
            _from_memory(fn, context, argument, kind, scale, base, value, failed)
        fn.if_(fn.cmp("eq", kind, fn.num(REGISTER, False)), direct, memory)
    fn.if_(tir.And(tir.BOOL, fn.loc, fn.cmp("ne", kind, fn.num(0, False)), fn.not_(fn.get(failed))), dynamic)
    unread: list[tir.Stmt] = []
    with fn.into(unread):
        fn.lost("text", "static probe's argument could not be read")
        fn.emit(tir.Return(fn.loc, fn.num(0, False)))
    fn.if_(fn.get(failed), unread)
    above = fn.keep(fn.bin("and", fn.load(fn.offset(argument, _ABOVE), tir.U8), fn.num(63, False), False))
    up = fn.keep(fn.bin("shl", fn.get(value), above, False))
    signed = [tir.Return(fn.loc, tir.Convert(tir.U64, fn.loc, fn.bin("ashr", tir.Convert(
        tir.S64, fn.loc, up, tir.S64), above), tir.U64))]
    fn.if_(fn.cmp("ne", fn.load(fn.offset(argument, _SIGNED), tir.U8), fn.num(0, False)), list(signed))
    fn.emit(tir.Return(fn.loc, fn.bin("lshr", up, above, False)))


def _register(fn: Fn, context: tir.Expr, argument: tir.Expr, field: int) -> tir.Expr:
    """A register by its offset in pt_regs.  Read as kernel memory: the context itself takes constant offsets only."""
    scratch = fn.slot("register", tir.U64)
    fn.store(scratch, fn.num(0), tir.U64)
    at = fn.load(fn.offset(argument, field), tir.U16)
    start = tir.Convert(tir.U64, fn.loc, context, tir.U64)
    fn.do(kmem.READ["kernel"], scratch, fn.num(8), fn.bin("add", start, at, False))
    return fn.load(scratch, tir.U64)


def _from_memory(
    fn: Fn, context: tir.Expr, argument: tir.Expr, kind: tir.Expr, scale: tir.Expr, base: tir.Expr,
    value: tir.Local, failed: tir.Local,
) -> None:
    address = fn.local(tir.U64, "address")
    fn.set(address, fn.bin("add", base, fn.get(value), False))
    indexed: list[tir.Stmt] = []
    with fn.into(indexed):
        index = fn.local(tir.U64, "index")
        fn.set(index, _register(fn, context, argument, _INDEX))
        for narrow, to in ((INDEXED_SIGNED32, tir.S32), (INDEXED_UNSIGNED32, tir.U32)):
            low = tir.Convert(tir.S64 if to.signed else tir.U64, fn.loc, fn.get(index), to)
            cut = tir.Set(fn.loc, index, tir.Convert(tir.U64, fn.loc, low, tir.U64))
            fn.if_(fn.cmp("eq", kind, fn.num(narrow, False)), [cut])
        step = fn.bin("shl", fn.get(index), scale, False)
        fn.set(address, fn.bin("add", fn.get(address), step, False))
    fn.if_(fn.cmp("uge", kind, fn.num(INDEXED, False)), indexed)
    scratch = fn.slot("read", tir.U64)
    fn.store(scratch, fn.num(0), tir.U64)
    # 8 bytes less what is above the value; exactly those, since the next page may be missing.
    above = fn.bin("lshr", fn.load(fn.offset(argument, _ABOVE), tir.U8), fn.num(3, False), False)
    left = fn.keep(fn.bin("and", above, fn.num(7, False), False))
    size = tir.Barrier(tir.U64, fn.loc, fn.bin("sub", fn.num(8, False), left, False))
    code = fn.helper(kmem.READ["user"], scratch, size, fn.get(address))
    fn.set(failed, fn.cmp("ne", code, fn.num(0)))
    fn.set(value, fn.load(scratch, tir.U64))
