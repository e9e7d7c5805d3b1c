# SPDX-License-Identifier: Apache-2.0
"""What the compiler says about kernel code that it refuses: text, place, caret and hint, word for word.

After a change of a message: ``python tests/unit/test_compiler_errors.py``
writes the golden file anew; read the difference.
"""

from __future__ import annotations

import ast
import pathlib
import re

import pytest
from golden import PLACE, cases, error_of, front_end, rendered
from sources import module

import osmia.compiler
from osmia.errors import CompileError, NotFound, UserError

GOLDEN = cases("golden.txt")
OWN_FILES = [path.name for path in pathlib.Path(osmia.compiler.__path__[0]).glob("*.py") if path.stem != "__init__"]
PROBE = '@tracepoint("block:block_rq_issue")\ndef p(rq):\n'


def test_there_are_enough_of_them() -> None:
    assert len(GOLDEN) >= 90


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    source, expected = GOLDEN[name]
    err = error_of(source)
    shown = rendered(err)
    assert shown == expected
    line = source.splitlines()[err.line - 1]
    assert err.source == line and 0 <= err.column < err.end_column, "the error points at text"
    assert isinstance(err, UserError) and err.exit_status == 1
    assert not re.search(r"Traceback|/compiler/", shown)
    assert not any(name in err.render() for name in OWN_FILES)


def test_the_line_is_shown_with_a_caret_under_the_place() -> None:
    shown = rendered(error_of(PROBE + "    x = 1\n    y = rq.bytes / x\n")).splitlines()
    assert shown[0] == "FILE:4:9: error: / makes a float, and the kernel has none"
    assert shown[1].index("rq.bytes / x") == shown[2].index("^~~~~~~~~~~~")
    assert shown[3] == "hint: use // for whole-number division"


def test_str_is_one_line() -> None:
    err = error_of(PROBE + "    y = rq.bytes / 2\n")
    assert str(err) == f"{err.file}:3:9: / makes a float, and the kernel has none; use // for whole-number division"


@pytest.mark.parametrize(("text", "what", "fix"), [
    ('@tracepoint("block:block_rq_isue")\ndef p(rq):\n    pass\n', "this kernel has no tracepoint block:block_rq_isue",
     "see /sys/kernel/tracing/events/block"),
    ('@tracepoint("syscalls:sys_enter_opnat")\ndef p(c):\n    pass\n', "there is no system call 'opnat'",
     "did you mean openat"),
    ('@tracepoint("syscalls:entry_openat")\ndef p(c):\n    pass\n', "there is no tracepoint syscalls:entry_openat",
     "sys_enter_NAME"),
    ('@tp_btf("sched_swich")\ndef p(a):\n    pass\n', "this kernel has no raw tracepoint sched_swich",
     "did you mean sched_switch"),
])  # fmt: skip
def test_what_does_not_exist(text: str, what: str, fix: str) -> None:
    with pytest.raises(NotFound) as caught:
        front_end(text)
    assert caught.value.what == what
    assert fix in caught.value.fix
    assert re.fullmatch(r".*kernel_code_\d+\.py:\d+", caught.value.where)


def test_a_module_without_a_probe() -> None:
    with pytest.raises(UserError, match=r"nothing to compile: the module has no probe"):
        front_end("x = 1\n")


def test_source_that_is_not_there() -> None:
    made = module(PROBE + "    pass\n")
    pathlib.Path(made.__file__ or "").unlink()
    import linecache

    linecache.clearcache()
    from osmia.compiler.stages import build
    from osmia.lang.unit import Unit

    with pytest.raises(CompileError, match="the source text of this function cannot be found") as caught:
        build(Unit("gone", vars(made)), None, None)
    assert caught.value.fix == "put the function into a file"


def test_source_that_has_changed() -> None:
    made = module(PROBE + "    pass\n")
    pathlib.Path(made.__file__ or "").write_text("# something else\n")
    from osmia.compiler.stages import build
    from osmia.lang.unit import Unit

    with pytest.raises(CompileError, match=r"the text of p\(\) is not where it was when it was imported"):
        build(Unit("changed", vars(made)), None, None)


# --------------------------------------------------------------------------
# Nothing is skipped: every kind of syntax-tree node is handled or refused.

# One line of kernel code for each kind of node; those in HANDLED compile.
STATEMENTS = {
    "Assign": "x = 1", "AnnAssign": "x: u32 = 1", "AugAssign": "x = 1\n    x += 1", "Delete": "del m[1]",
    "If": "if rq.bytes:\n        pass", "While": "while rq.bytes > 3:\n        break",
    "For": "for i in range(3):\n        pass", "Break": "for i in range(3):\n        break",
    "Continue": "for i in range(3):\n        continue", "Return": "return", "Pass": "pass", "Expr": "ktime()",
    "With": "with r.reserve() as e:\n        e.x = 1", "Match": "match rq.bytes:\n        case _:\n            pass",
    "Try": "try:\n        pass\n    finally:\n        pass",
    "TryStar": "try:\n        pass\n    except* ValueError:\n        pass", "Raise": "raise ValueError",
    "Assert": "assert rq", "Import": "import os", "ImportFrom": "from os import path", "Global": "global g",
    "Nonlocal": "def f():\n        nonlocal rq", "FunctionDef": "def f():\n        pass",
    "AsyncFunctionDef": "async def f():\n        pass", "ClassDef": "class C:\n        pass",
    "AsyncFor": "async def f():\n        async for x in rq:\n            pass",
    "AsyncWith": "async def f():\n        async with rq:\n            pass", "TypeAlias": "type T = int",
}
EXPRESSIONS = {
    "Constant": "x = 1", "Name": "x = rq", "BoolOp": "x = rq.bytes > 3 and rq.bytes < 9", "UnaryOp": "x = -rq.bytes",
    "BinOp": "x = rq.bytes + 1", "Compare": "x = rq.bytes == 1", "IfExp": "x = 1 if rq.bytes else 2",
    "Tuple": "x = (1, rq.bytes)", "NamedExpr": "(x := rq.bytes)", "Attribute": "x = rq.bytes", "Subscript": "x = m[1]",
    "Call": "x = ktime()", "JoinedStr": 'print(f"{rq.bytes}")', "FormattedValue": 'print(f"{rq.bytes:x}")',
    "Lambda": "x = lambda: 1", "List": "x = [1]", "Dict": "x = {}", "Set": "x = {1}", "ListComp": "x = [i for i in r]",
    "SetComp": "x = {i for i in r}", "DictComp": "x = {i: i for i in r}", "GeneratorExp": "x = (i for i in r)",
    "Await": "x = await rq", "Yield": "x = yield", "YieldFrom": "x = yield from rq", "Starred": "x, *y = (1, 2, 3)",
    "Slice": "x = rq.comm[1:2]", "TemplateStr": 'x = t"{rq}"', "Interpolation": 'x = t"{rq}"',
}
HANDLED = {
    *("Assign", "AnnAssign", "AugAssign", "Delete", "If", "While", "For", "Break", "Continue", "Return", "Pass"),
    *("Expr", "With", "Match", "Constant", "Name", "BoolOp", "UnaryOp", "BinOp", "Compare", "IfExp", "Tuple"),
    *("NamedExpr", "Attribute", "Subscript", "Call", "JoinedStr", "FormattedValue"),
}
_SETUP = "class E(Event):\n    x: u32\n\nr = Ring(E)\nm = Hash[u32, u64]()\ng = 1\n\n"


def _kinds(base: type) -> list[str]:
    """The names of the concrete kinds of nodes below ``base`` that this Python's parser makes."""
    old = {"Num", "Str", "Bytes", "NameConstant", "Ellipsis", "Index", "ExtSlice"}  # aliases until 3.13
    parsed = [kind for kind in base.__subclasses__() if kind.__module__ == "ast"]  # specifications add some
    return sorted(kind.__name__ for kind in parsed if kind.__name__ not in old)


@pytest.mark.parametrize("kind", _kinds(ast.stmt) + _kinds(ast.expr))
def test_every_kind_of_node_is_handled_or_refused(kind: str) -> None:
    line = {**STATEMENTS, **EXPRESSIONS}.get(kind)
    assert line is not None, f"this Python has a node {kind}: decide what the compiler does with it"
    probe = PROBE.replace("def", "async def") if kind == "Await" else PROBE
    text = f"{_SETUP}{probe}    {line}\n"
    tree = ast.parse(text)
    assert kind in {type(node).__name__ for node in ast.walk(tree)}, "the example has no such node"
    if kind in HANDLED:
        front_end(text)
        return
    err = error_of(text)
    assert err.what and err.line > 7
    if kind != "Await":  # an async function is refused whole
        dead = f"{_SETUP}{PROBE}    if False:\n        " + line.replace("\n    ", "\n        ") + "\n"
        assert error_of(dead).what == err.what, "refused in a branch that is never taken, too"


OPERATORS = {
    "Add": "1", "Sub": "1", "Mult": "1", "FloorDiv": "1", "Mod": "1", "LShift": "1", "RShift": "1", "BitOr": "1",
    "BitXor": "1", "BitAnd": "1", "Div": "", "MatMult": "", "Pow": "", "USub": "1", "UAdd": "1", "Invert": "1",
    "Not": "1", "Eq": "1", "NotEq": "1", "Lt": "1", "LtE": "1", "Gt": "1", "GtE": "1", "Is": "", "IsNot": "",
    "In": "1", "NotIn": "1", "And": "1", "Or": "1",
}


@pytest.mark.parametrize(
    "kind", _kinds(ast.operator) + _kinds(ast.unaryop) + _kinds(ast.cmpop) + _kinds(ast.boolop)
)
def test_every_operator_is_handled_or_refused(kind: str) -> None:
    op = getattr(ast, kind)()
    a = ast.parse("rq.bytes", mode="eval").body
    b = ast.parse("(rq.sector, 3)" if kind in ("In", "NotIn") else "rq.sector", mode="eval").body
    if isinstance(op, ast.operator):
        node: ast.expr = ast.BinOp(a, op, b)
    elif isinstance(op, ast.unaryop):
        node = ast.UnaryOp(op, a)
    elif isinstance(op, ast.cmpop):
        node = ast.Compare(a, [op], [b])
    else:
        node = ast.BoolOp(op, [ast.Compare(a, [ast.Gt()], [b]), ast.Compare(a, [ast.Lt()], [b])])
    text = f"{PROBE}    x = {ast.unparse(ast.fix_missing_locations(node))}\n"
    if OPERATORS[kind]:
        front_end(text)
    else:
        assert error_of(text).line == 3


if __name__ == "__main__":
    out = [f"### {name}\n{source}---\n{rendered(error_of(source))}\n" for name, (source, _) in GOLDEN.items()]
    (PLACE / "golden.txt").write_text("".join(out), encoding="utf-8")
