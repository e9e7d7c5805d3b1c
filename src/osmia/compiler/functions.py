# SPDX-License-Identifier: Apache-2.0
"""Helper functions in Python called from kernel code: one function of the module per combination of argument types.

Arguments that are known when compiling (maps, texts, constants) become part
of the combination; the others are parameters.  Small results come back in a
register, larger ones through memory of the caller's.
"""

from __future__ import annotations

from types import FunctionType

from osmia.compiler import syntax as ast
from osmia.compiler import texts, tir
from osmia.compiler.core import Fn, Var
from osmia.compiler.dispatch import expr
from osmia.compiler.lookups import reified
from osmia.compiler.values import FT, NONE, Val, components, settled
from osmia.lang.builtins import condition_of, is_subprogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_DEPTH = 16
_VARARGS, _VARKEYWORDS = 0x04, 0x08  # CO_VARARGS, CO_VARKEYWORDS of Python's code objects
MAX_PASSES = 8
MAX_SUBPROGRAM_ARGS = 5


class Specialised:
    """A compiled helper: ``func``, the type of its result, and the type of the memory for it, if any.

    ``context``: it wants the program's context as its last argument.
    """

    def __init__(self, func: tir.Func, result: FT, out: tir.Struct | None, context: bool = False) -> None:
        self.func = func
        self.result = result
        self.out = out
        self.context = context


def call_function(fn: Fn, node: ast.Call, function: FunctionType) -> Val:
    """Call ``function`` with the arguments of ``node``."""
    if len(fn.chain) >= MAX_DEPTH or any(function.__code__ is c for c in fn.stack):
        fn.fail(node, f"{function.__name__}() calls itself, and the kernel has no stack for that", "write a loop")
    values = _bind_arguments(fn, node, function)
    types = tuple(settled(v.ft) for v in values.values())
    done = specialise(fn, node, function, dict(zip(values, types, strict=True)))
    fn.at(node)
    args = []
    for value in values.values():
        args.extend(_argument(fn, value))
    if done.out is not None:
        place = fn.slot(("result", done.func.name), done.out)
        args.append(place)
    if done.context:
        args.append(fn.context() or tir.Const(tir.Ptr("ctx"), fn.loc, 0))
    made = tir.Call(done.func.ret, fn.loc, done.func, args)
    if done.out is not None:
        fn.emit(tir.Eval(fn.loc, made))
        parts = [fn.load(fn.offset(place, m.offset), m.type) for m in done.out.members]
        return Val(done.result, parts)
    if isinstance(done.func.ret, tir.Void):
        fn.emit(tir.Eval(fn.loc, made))
        return Val(done.result, [])
    return Val(done.result, [fn.keep(made)])


def _argument(fn: Fn, value: Val) -> list[tir.Expr]:
    from osmia.compiler.values import TText

    if isinstance(value.ft, TText):
        return texts.in_memory(fn, value, None).exprs
    return [fn.keep(e) for e in value.exprs]


def _bind_arguments(fn: Fn, node: ast.Call, function: FunctionType) -> dict[str, Val]:
    """Parameters by name, as Python would bind them."""
    for word in node.keywords:
        if word.arg is None:
            fn.fail(word.value, "unpacking with ** is not possible in kernel code")
    given = [expr(fn, a) for a in node.args]
    words = {w.arg or "": expr(fn, w.value) for w in node.keywords}
    code = function.__code__
    if code.co_flags & (_VARARGS | _VARKEYWORDS):
        fn.fail(node, f"{function.__name__}() takes a variable number of arguments", "name each of them")
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    positional = names[: code.co_argcount]
    if len(given) > len(positional):
        fn.fail(node, f"{function.__name__}(): too many positional arguments")
    bound = dict(zip(positional, given, strict=False))
    for name in names:
        if name not in bound and name not in words:
            bound[name] = _default(fn, node, function, name)
    for key, value in words.items():
        if key not in names or key in code.co_varnames[: code.co_posonlyargcount]:
            fn.fail(node, f"{function.__name__}(): got an unexpected keyword argument {key!r}")
        if key in bound:
            fn.fail(node, f"{function.__name__}(): multiple values for argument {key!r}")
        bound[key] = value
    return {name: bound[name] for name in names}


def _default(fn: Fn, node: ast.Call, function: FunctionType, name: str) -> Val:
    """The default of a parameter that the call leaves out."""
    code, defaults = function.__code__, function.__defaults__ or ()
    positional = code.co_varnames[: code.co_argcount]
    with_default = dict(zip(positional[len(positional) - len(defaults) :], defaults, strict=True))
    with_default.update(function.__kwdefaults__ or {})
    if name not in with_default:
        fn.fail(node, f"{function.__name__}(): missing a required argument: {name!r}")
    return reified(fn, node, with_default[name])


def specialise(fn: Fn, node: ast.AST, function: FunctionType, types: dict[str, FT]) -> Specialised:
    """The compiled form of ``function`` for these argument types."""
    key = (function, tuple(types.values()))
    for owner in ("", fn.root):  # most serve every entry program; what uses scratch memory only its own
        known = fn.mod.functions.get((owner, *key))
        if known is not None:
            assert isinstance(known, Specialised)
            fn.per_root = fn.per_root or bool(owner)
            return known
    inline = not is_subprogram(function)
    source = fn.mod.sources.of(function)
    chain = (*fn.chain, (fn.file.name, getattr(node, "lineno", 0), fn.source.node.name))
    name = fn.mod.unique(f"{function.__name__}__")
    result: FT | None = None
    var_types: dict[str, FT] = {}
    for _ in range(MAX_PASSES):
        made, inner = _one_pass(fn, source, name, chain, types, inline, result, var_types)
        right = inner.ret == result or (result is None and _fits_already(made, inner))
        result, var_types = inner.ret, inner.types
        if right and not inner.changed:
            break
    else:
        fn.fail(node, f"the types of {function.__name__}() do not settle", "give its variables one type each")
    final = result if result is not None else NONE
    done = Specialised(made, final, _out_struct(name, final), inner.context_param is not None)
    if not inline and len(made.params) > MAX_SUBPROGRAM_ARGS:
        fn.fail(node, f"{function.__name__}() needs {len(made.params)} registers for its arguments, and BPF has 5",
                "leave @subprogram out, or pass less")
    condition = condition_of(function)
    if condition is not None:
        if done.out is not None:
            fn.fail(node, f"{function.__name__}() gives more than a number", "leave when= out, or return one number")
        fn.mod.meta.append(("when", name, fn.mod.option(condition)))
    fn.per_root = fn.per_root or inner.per_root
    owner = fn.root if inner.per_root else ""
    fn.mod.functions[(owner, function, key[1])] = done
    fn.mod.module.funcs.append(made)
    return done


def _fits_already(made: tir.Func, inner: Fn) -> bool:
    """Whether a pass that did not know the result's type made what one that knows it would; ``made`` is told then."""
    parts = components(inner.ret if inner.ret is not None else NONE)
    if inner.ret_varied or _out_struct("", inner.ret or NONE) is not None:
        return False
    made.ret = parts[0] if parts else tir.VOID  # type: ignore[assignment]
    return True


def _out_struct(name: str, ft: FT) -> tir.Struct | None:
    parts = components(ft)
    if len(parts) < 2 and not any(isinstance(p, (tir.Array, tir.Struct)) for p in parts):
        return None
    members, at = [], 0
    for number, part in enumerate(parts):
        members.append(tir.Member(f"r{number}", part, at))
        at += (part.size + 7) // 8 * 8
    return tir.Struct(f"result_{name}", tuple(members), at, 8)


def _one_pass(
    fn: Fn, source: Any, name: str, chain: Any, types: dict[str, FT], inline: bool, result: FT | None,
    var_types: dict[str, FT],
) -> tuple[tir.Func, Fn]:
    from osmia.compiler.stmts import function_body
    from osmia.compiler.values import TStr

    func = tir.Func(name, "", [], tir.VOID, source.file.name, source.node.lineno, inline=inline)
    inner = Fn(fn.mod, source, func, chain)
    inner.root = fn.root
    inner.stack = (*fn.stack, source.function.__code__)
    inner.types = dict(var_types)
    inner.ret_known = result
    for word, ft in types.items():
        kinds = components(ft)
        if isinstance(ft, TStr):
            kinds = [tir.Ptr("mem")]
        params = [tir.Local(f"{word}.{at}" if len(kinds) > 1 else word, kind) for at, kind in enumerate(kinds)]
        func.params.extend(params)
        inner.params[word] = Var(ft, params)
    final = result if result is not None else NONE
    out = _out_struct(name, final)
    if out is not None:
        inner.out = tir.Local("result", tir.Ptr("mem"))
        func.params.append(inner.out)
        inner.out_struct = out
    else:
        parts = components(final)
        func.ret = parts[0] if parts else tir.VOID  # type: ignore[assignment]
    function_body(inner)
    return func, inner
