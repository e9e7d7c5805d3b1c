# SPDX-License-Identifier: Apache-2.0
"""``trace_printk(f"…")``: a line of the kernel's trace pipe, formatted by the kernel.

The kernel's format knows little: up to three values (5.16: twelve), no
widths, behind a text only a space or a sign, and before 5.13 at most one
text, no capital hexadecimal digits and not even ``%%``.  What no kernel can
do is refused here.  What some cannot is written down in the object, by
program, and refused where it is loaded (:mod:`osmia.load.printk`), because
the kernel itself would load it and then print nothing.
"""

from __future__ import annotations

from osmia.compiler import kmem, texts, tir
from osmia.compiler import syntax as ast
from osmia.compiler.core import Fn
from osmia.compiler.values import TBool, TConst, TInt, TPtr, TStr, Val, const
from osmia.obj import consts

MOST = 12  # MAX_BPRINTF_VARARGS, kernel/bpf/helpers.c
MOST_PLAIN = 3
_FORMS = {"": ("%lld", "%llu"), "d": ("%lld", "%llu"), "x": ("%llx", "%llx"), "#x": ("0x%llx", "0x%llx"),
          "X": ("%llX", "%llX")}


def call(fn: Fn, node: ast.Call) -> Val:
    """Compile one ``trace_printk()``."""
    from osmia.compiler.dispatch import expr
    from osmia.compiler.eventops import _formatted

    if node.keywords:
        fn.fail(node.keywords[0].value, "trace_printk() takes no keyword arguments")
    form = ""
    values: list[tir.Expr] = []
    for at, arg in enumerate(node.args):
        form += " " if at else ""
        for piece in arg.values if isinstance(arg, ast.JoinedStr) else [arg]:
            if isinstance(piece, ast.Constant) and isinstance(piece.value, str):
                form += piece.value.replace("%", "%%")
                continue
            shown, spec = (piece, "") if not isinstance(piece, ast.FormattedValue) else _formatted(fn, arg, piece)
            value = expr(fn, shown)
            if isinstance(value.ft, TConst):
                form += format(value.const, spec).replace("%", "%%")
                continue
            how, part = _one(fn, shown, value, spec)
            form += how
            values.append(part)
    if any(ord(char) > 126 or ord(char) < 32 for char in form):
        fn.fail(node, "the kernel prints plain ASCII only", "leave out other characters and line ends")
    for behind in form.replace("%%", "").split("%s")[1:]:
        if behind[:1].isalnum():
            fn.fail(node, f"behind a text the kernel prints only a space or a sign, not {behind[0]!r}",
                    "put something between them")  # fmt: skip
    _emit(fn, node, form, values)
    return const(None)


def needs(form: str, values: int) -> tuple[str, str]:
    """``(feature, what the line does)`` of a line that older kernels cannot print; empty texts for others."""
    if values > MOST_PLAIN:
        return "trace_vprintk", f"{values} values"
    texts_in_it = form.replace("%%", "").count("%s")
    if texts_in_it > 1:
        return "trace_printk_more", f"{texts_in_it} texts"
    if "%llX" in form.replace("%%", ""):
        return "trace_printk_more", "capital hexadecimal digits"
    return ("trace_printk_more", "a percent sign") if "%%" in form else ("", "")


def _one(fn: Fn, node: ast.expr, value: Val, spec: str) -> tuple[str, tir.Expr]:
    """The format of one value, and the value."""
    if texts.texty(value):
        if spec not in ("", "s"):
            fn.fail(node, f"trace_printk() does not know the format {spec!r}", "print() formats as Python does")
        inside = texts.in_memory(fn, value, node, key="printk")
        assert isinstance(inside.ft, TStr)
        return "%s", tir.Convert(tir.U64, fn.loc, inside.exprs[0], tir.U64)
    if spec not in _FORMS:
        fn.fail(node, f"trace_printk() does not know the format {spec!r}",
                f"it knows {', '.join(s for s in _FORMS if s)}; print() formats as Python does")
    if isinstance(value.ft, (TInt, TBool, TPtr)):
        number, signed = fn.as_int(value, node)
    else:
        number, signed = fn.as_int(kmem.pointer(fn, value), node)
    return _FORMS[spec][0 if signed else 1], fn.keep(number)


def _emit(fn: Fn, node: ast.Call, form: str, values: list[tir.Expr]) -> None:
    raw = form.encode() + b"\0"
    text, size = fn.global_(fn.mod.text(raw)), fn.num(len(raw))
    place = f"{fn.file.name.rsplit('/', 1)[-1]}:{node.lineno}"
    fn.per_root = True  # so that it is known which programs print this line
    fn.mod.uses_printk((fn.root, place, str(node.col_offset)), *needs(form, len(values)))
    if len(values) <= MOST_PLAIN:
        code = fn.helper(consts.BPF_FUNC_trace_printk, text, size, *values)
    elif len(values) <= MOST:
        array = fn.slot(("printk", len(values)), tir.Array(tir.U64, len(values)))
        for at, value in enumerate(values):
            fn.store(fn.offset(array, 8 * at), value, tir.U64)
        code = fn.helper(consts.BPF_FUNC_trace_vprintk, text, size, array, fn.num(8 * len(values)))
    else:
        fn.fail(node, f"{len(values)} values are more than the kernel prints ({MOST})", "use print()")
    failed: list[tir.Stmt] = []
    with fn.into(failed):
        fn.lost("text", f"trace_printk refused at {place}")
    fn.if_(fn.cmp("slt", code, fn.num(0)), failed)
