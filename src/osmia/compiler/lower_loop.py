# SPDX-License-Identifier: Apache-2.0
"""Loops to LLVM IR: plain ones, and those whose body becomes a callback of ``bpf_loop``."""

from __future__ import annotations

from osmia.compiler import loops, tir, walk
from osmia.compiler.body import Body, memory_type
from osmia.compiler.debuginfo import quoted
from osmia.compiler.lower_expr import abi_type, as_bool, as_int, call_helper, coerce, load, set_local, store

_INT64 = 1 << 63
_KTIME = 5  # bpf_ktime_get_ns: in every program type, and 64 bits that the verifier knows nothing of


def lower_for(b: Body, s: tir.For) -> None:
    start, stop = as_int(b, s.start), as_int(b, s.stop)
    b.at(s.loc)
    if id(s) in b.shared.planner.plan(b.func).big:
        _big_for(b, s, start, stop)
    else:
        _plain_for(b, s, start, stop)


def lower_while(b: Body, s: tir.While) -> None:
    if id(s) in b.shared.planner.plan(b.func).big:
        _big_loop(b, s, str(s.bound))
    else:
        _plain_while(b, s)


# --------------------------------------------------------------------------
# Plain loops


def _before(s: tir.For) -> str:
    """The comparison that holds while ``range`` goes on."""
    unsigned = s.start.type == tir.U64 and s.stop.type == tir.U64
    return ("u" if unsigned else "s") + ("lt" if s.step > 0 else "gt")


def _plain_for(b: Body, s: tir.For, start: str, stop: str) -> None:
    """Test at the end: the first test is made before the loop, and the step cannot wrap around."""
    exact = isinstance(s.start, tir.Const) and isinstance(s.stop, tir.Const)
    position = b.slot("i64")
    rounds = "" if exact else b.slot("i64")
    b.do(f"store i64 {start}, ptr {position}, align 8")
    if rounds:
        b.do(f"store i64 0, ptr {rounds}, align 8")
    body, step, end = b.new_label("for"), b.new_label("step"), b.new_label("end")
    b.branch(b.let(f"icmp {_before(s)} i64 {start}, {stop}"), body, end)
    b.start(body)
    here = b.let(f"load i64, ptr {position}, align 8")
    set_local(b, s.var, coerce(b, here, tir.S64, s.var.type))
    _run_body(b, s.body, end, step)
    b.start(step)
    b.at(s.loc)
    here = b.let(f"load i64, ptr {position}, align 8")
    following = b.let(f"add i64 {here}, {s.step}")
    b.do(f"store i64 {following}, ptr {position}, align 8")
    if exact and _cannot_wrap(s):
        b.branch(b.let(f"icmp {_before(s)} i64 {following}, {stop}"), body, end)
    else:
        left = b.let(f"sub i64 {stop}, {here}" if s.step > 0 else f"sub i64 {here}, {stop}")
        more = b.let(f"icmp ugt i64 {left}, {abs(s.step)}")
        if rounds:
            count = b.let(f"add i64 {b.let(f'load i64, ptr {rounds}, align 8')}, 1")
            b.do(f"store i64 {count}, ptr {rounds}, align 8")
            # The verifier has to see an end even when it knows nothing of `stop`; hidden from LLVM, which may know
            # (of `range(n % 6)`) that the test is redundant.
            hidden = b.opaque(count, "i64")
            more = b.let(f"and i1 {b.let(f'icmp ult i64 {hidden}, {s.bound}')}, {more}")
        b.branch(more, body, end)
    b.start(end)


def _cannot_wrap(s: tir.For) -> bool:
    stop = s.stop.value if isinstance(s.stop, tir.Const) else 0
    return -_INT64 < stop + s.step < _INT64 and abs(stop) < _INT64


def _run_body(b: Body, body: list[tir.Stmt], end: str, following: str) -> None:
    b.loops.append((end, following))
    b.run(body)
    b.loops.pop()


def _plain_while(b: Body, s: tir.While) -> None:
    rounds = ""
    if s.bound is not None:
        rounds = b.slot("i64")
        b.do(f"store i64 0, ptr {rounds}, align 8")
    head, body, end = b.new_label("while"), b.new_label("body"), b.new_label("end")
    b.start(head)
    if rounds:
        count = b.let(f"load i64, ptr {rounds}, align 8")
        b.do(f"store i64 {b.let(f'add i64 {count}, 1')}, ptr {rounds}, align 8")
        test = b.new_label("test")
        b.branch(b.let(f"icmp ult i64 {count}, {s.bound}"), test, end)
        b.start(test)
    value = as_bool(b, s.test)
    b.at(s.loc)
    b.branch(value, body, end)
    b.start(body)
    _run_body(b, s.body, end, head)
    b.at(s.loc)
    b.jump(head)
    b.start(end)


# --------------------------------------------------------------------------
# Loops by bpf_loop


def _big_for(b: Body, s: tir.For, start: str, stop: str) -> None:
    frame = b.shared.planner.plan(b.func).frame
    if id(s) in frame.starts:
        b.do(f"store i64 {start}, ptr {b.gep(b.frame, frame.starts[id(s)])}, align 8")
    _big_loop(b, s, _rounds(b, s, start, stop))


def _rounds(b: Body, s: tir.For, start: str, stop: str) -> str:
    """How many values ``range`` has, at most ``bound``."""
    low, high = (start, stop) if s.step > 0 else (stop, start)
    span = b.let(f"sub i64 {high}, {low}")
    if abs(s.step) != 1:
        # span is at least 1 where the result is used
        span = b.let(f"udiv i64 {b.let(f'sub i64 {span}, 1')}, {abs(s.step)}")
        span = b.let(f"add i64 {span}, 1")
    some = b.let(f"icmp {_before(s)} i64 {start}, {stop}")
    count = b.let(f"select i1 {some}, i64 {span}, i64 0")
    small = b.let(f"icmp ult i64 {count}, {s.bound}")
    return b.let(f"select i1 {small}, i64 {count}, i64 {s.bound}")


def _big_loop(b: Body, s: tir.For | tir.While, rounds: str) -> None:
    """Run the loop's callback ``rounds`` times: by ``bpf_loop`` where the kernel has it."""
    name = _callback(b, s)
    b.at(s.loc)
    _forget_values(b, s)
    has = b.core(b.shared.core.enum(loops.LOOP_ENUM, loops.LOOP_ENUMERATOR, "exists"))
    by_helper, by_hand, end = b.new_label("helper"), b.new_label("plain"), b.new_label("end")
    b.branch(b.let(f"icmp ne i64 {has}, 0"), by_helper, by_hand)
    b.start(by_helper)
    frame = b.shared.planner.plan(b.func).frame
    if id(s) in frame.bases:
        _call_in_chunks(b, name, rounds, b.gep(b.frame, frame.bases[id(s)]))
    else:
        _call_helper(b, name, rounds)
    b.jump(end)
    b.start(by_hand)
    if id(s) in frame.bases:
        b.do(f"store i64 0, ptr {b.gep(b.frame, frame.bases[id(s)])}, align 8")
    _call_by_hand(b, name, rounds, s.bound or 0)
    b.start(end)
    if any(isinstance(n, tir.Return) for n in walk.walk(s.body)):
        _pass_return_on(b, frame)


def _forget_values(b: Body, s: tir.For | tir.While) -> None:
    """Add a zero that the verifier takes for any number to what the body writes into the frame.

    A variable that starts as a constant and is tested in the body would have
    another known value in each round, and the rounds be walked one by one.
    Kernels before bb124da69c47 are worse: they walk a callback with values of
    one way to it, take the other ways for the same, and remove the code that
    they did not meet.  There, what the body only reads is hidden as well.
    """
    shared = b.shared.planner.plan(b.func).frame.locals
    inside: list[walk.Node] = [*s.body, *([s.test] if isinstance(s, tir.While) else [])]
    written = {n.local for n in walk.walk(inside) if isinstance(n, (tir.Set, tir.AddrOf))}
    named = [local for local in walk.locals_of(inside) if local in shared and _numbers(local.type)]
    if not named:
        return
    time = call_helper(b, _KTIME, "", tir.U64)
    top = b.opaque(b.let(f"lshr i64 {time}, 63"), "i64")  # 0 for the first 292 years after boot
    zero = b.let(f"mul i64 {top}, {time}")
    _hide(b, zero, [local for local in named if local in written])
    only_read = [local for local in named if local not in written]
    if only_read:
        old, end = b.new_label("old"), b.new_label("end")
        b.branch(as_bool(b, loops.ALL_WALKED), end, old)
        b.start(old)
        _hide(b, zero, only_read)
        b.start(end)


def _hide(b: Body, zero: str, names: list[tir.Local]) -> None:
    """Add ``zero`` to all numbers in ``names``."""
    for local in names:
        for offset, bits in _numbers(local.type):
            place, word = b.gep(b.slots[local], offset), f"i{bits}"
            more = zero if bits == 64 else b.let(f"trunc i64 {zero} to {word}")
            value = b.let(f"load {word}, ptr {place}, align {bits // 8}")
            b.do(f"store {word} {b.let(f'add {word} {value}, {more}')}, ptr {place}, align {bits // 8}")


def _numbers(t: tir.Mem, at: int = 0) -> list[tuple[int, int]]:
    """``(offset, bits)`` of the words in memory of type ``t`` that hold numbers: addresses must stay as they are.

    ``at`` is where it lies, from a multiple of 8; words are as wide as their places allow.
    """
    if isinstance(t, (tir.Int, tir.Bool)):
        return [(at, t.size * 8)]
    if isinstance(t, tir.Array):
        if not isinstance(t.elem, tir.Int):
            return [place for i in range(t.n) for place in _numbers(t.elem, at + i * t.elem.size)]
        whole = t.size // 8 if at % 8 == 0 else 0
        rest = range(at + whole * 8, at + t.size, t.elem.size)
        return [*[(at + i * 8, 64) for i in range(whole)], *[(place, t.elem.bits) for place in rest]]
    if isinstance(t, tir.Struct):
        return [place for m in t.members for place in _numbers(m.type, at + m.offset)]
    return []


def _call_helper(b: Body, name: str, rounds: str) -> str:
    args = f"i64 {rounds}, ptr {name}, ptr {b.frame}, i64 0"
    return call_helper(b, loops.LOOP_HELPER, args, tir.S64)


def _call_in_chunks(b: Body, name: str, rounds: str, base: str) -> None:
    """One call of ``bpf_loop`` runs 8 Mi rounds at most; it returns how many it ran."""
    b.do(f"store i64 0, ptr {base}, align 8")
    loop, following, end = b.new_label("chunk"), b.new_label("next"), b.new_label("end")
    b.start(loop)
    done = b.let(f"load i64, ptr {base}, align 8")
    left = b.let(f"sub i64 {rounds}, {done}")
    small = b.let(f"icmp ult i64 {left}, {loops.MAX_ROUNDS}")
    chunk = b.let(f"select i1 {small}, i64 {left}, i64 {loops.MAX_ROUNDS}")
    ran = _call_helper(b, name, chunk)
    # A callback that stops in the very last round of a chunk stores an impossible base.
    base_now = b.let(f"load i64, ptr {base}, align 8")
    stopped = b.let(f"icmp ne i64 {base_now}, {done}")
    short = b.let(f"icmp ne i64 {ran}, {loops.MAX_ROUNDS}")
    b.branch(b.let(f"or i1 {stopped}, {short}"), end, following)
    b.start(following)
    total = b.let(f"add i64 {done}, {loops.MAX_ROUNDS}")
    b.do(f"store i64 {total}, ptr {base}, align 8")
    b.branch(b.let(f"icmp ult i64 {total}, {rounds}"), loop, end)
    b.start(end)


def _call_by_hand(b: Body, name: str, rounds: str, bound: int) -> None:
    counter = b.slot("i64")
    b.do(f"store i64 0, ptr {counter}, align 8")
    head, test, call, end = b.new_label("hand"), b.new_label("test"), b.new_label("call"), b.new_label("end")
    b.start(head)
    count = b.let(f"load i64, ptr {counter}, align 8")
    b.branch(b.let(f"icmp ult i64 {count}, {bound}"), test, end)
    b.start(test)
    b.branch(b.let(f"icmp ult i64 {count}, {rounds}"), call, end)
    b.start(call)
    stop = b.let(f"call i64 {name}(i64 {count}, ptr {b.frame})")
    b.do(f"store i64 {b.let(f'add i64 {count}, 1')}, ptr {counter}, align 8")
    b.branch(b.let(f"icmp eq i64 {stop}, 0"), head, end)
    b.start(end)


def _pass_return_on(b: Body, frame: loops.Frame) -> None:
    """When the loop's body has returned, so does the code around it."""
    leave, stay = b.new_label("leave"), b.new_label("stay")
    flag = b.let(f"load i64, ptr {b.gep(b.frame, frame.returned)}, align 8")
    b.branch(b.let(f"icmp ne i64 {flag}, 0"), leave, stay)
    b.start(leave)
    if b.in_callback:
        b.ret("i64 1")
    else:
        give_back(b, load(b, b.gep(b.frame, frame.value), _returned_type(b.func)))
    b.start(stay)


def _callback(outer: Body, s: tir.For | tir.While) -> str:
    """Write the loop's body as a function ``(index, frame)``; its IR name."""
    shared, func = outer.shared, outer.func
    name = f"{func.name}_loop{shared.loop_count}"
    shared.loop_count += 1
    params: list[tuple[str, tir.Mem]] = [("index", tir.U64), ("frame", tir.Ptr("mem"))]
    scope = shared.info.subprogram(name, func.file, s.loc[0], tir.S64, params, local=True)
    b = Body(shared, func, scope, s.loc)
    b.frame = "%frame"
    b.in_callback = True
    plan = shared.planner.plan(func)
    frame = plan.frame
    for local, offset in frame.locals.items():
        b.slots[local] = b.at_entry(f"getelementptr i8, ptr %frame, i64 {offset}")
    for local in plan.own[id(s)]:
        b.slots[local] = b.slot(memory_type(local.type))
    stop, following = b.new_label("stop"), b.new_label("next")
    if isinstance(s, tir.For):
        _set_variable(b, s, frame)
    else:
        body = b.new_label("body")
        test = as_bool(b, s.test)
        b.at(s.loc)
        b.branch(test, body, stop)
        b.start(body)
    _run_body(b, s.body, stop, following)
    b.at(s.loc)
    b.start(following)
    b.ret("i64 0")
    b.start(stop)
    if id(s) in frame.bases:
        b.do(f"store i64 -1, ptr {b.gep('%frame', frame.bases[id(s)])}, align 8")
    b.ret("i64 1")
    head = f"define internal i64 @{quoted(name)}(i64 %index, ptr %frame) #4 !dbg {scope} {{"
    shared.callbacks.append("\n".join([head, *b.text()]))
    return f"@{quoted(name)}"


def _set_variable(b: Body, s: tir.For, frame: loops.Frame) -> None:
    """``var = start + index * step``: from the index, because the verifier takes that for any number at all.

    A counter kept in the frame would have another value in each round, and
    the verifier would walk the rounds one by one until it gives up.
    """
    index = "%index"
    if id(s) in frame.bases:
        base = b.let(f"load i64, ptr {b.gep('%frame', frame.bases[id(s)])}, align 8")
        index = b.let(f"add i64 {index}, {base}")
    if s.step != 1:
        index = b.let(f"mul i64 {index}, {s.step}")
    if isinstance(s.start, tir.Const):
        start = b.value(s.start)
    else:
        start = b.let(f"load i64, ptr {b.gep('%frame', frame.starts[id(s)])}, align 8")
    here = index if start == "0" else b.let(f"add i64 {index}, {start}")
    set_local(b, s.var, coerce(b, here, tir.S64, s.var.type))


# --------------------------------------------------------------------------
# Returning


def _returned_type(func: tir.Func) -> tir.Mem:
    return func.ret if isinstance(func.ret, tir.Ptr) else tir.U64


def give_back(b: Body, value: str) -> None:
    """Return ``value`` (the default if empty) from the function itself."""
    kind = abi_type(b.func.ret)
    b.ret(f"{kind} {value or ('null' if kind == 'ptr' else '0')}")


def leave_callback(b: Body, value: str) -> None:
    """Note in the frame that the function returns, and end the loop."""
    frame = b.shared.planner.plan(b.func).frame
    b.do(f"store i64 1, ptr {b.gep(b.frame, frame.returned)}, align 8")
    if value:
        store(b, b.gep(b.frame, frame.value), value, _returned_type(b.func))
    b.ret("i64 1")
