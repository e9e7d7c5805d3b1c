# SPDX-License-Identifier: Apache-2.0
"""What trace and argdist are told: places, signatures, filters, formats, values; and what is wrong with it."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmia.errors import CompileError
from osmia.probespec import ctypes
from osmia.probespec.expressions import expression
from osmia.probespec.statements import distribution, statement
from osmia.probespec.tree import AddressOf, Cast, InSpace, SizeOf, Text


def shown(node: Any) -> str:
    """A tree in a notation of its own, with every operator's reach in parentheses."""
    if isinstance(node, Cast):
        return f"cast({node.kind}{' __user' * node.user}, {shown(node.operand)})"
    if isinstance(node, AddressOf):
        return f"address({shown(node.operand)})"
    if isinstance(node, InSpace):
        return f"{node.space}({shown(node.operand)})"
    if isinstance(node, SizeOf):
        return f"sizeof({node.kind})"
    if isinstance(node, ast.BinOp):
        return f"({shown(node.left)} {type(node.op).__name__} {shown(node.right)})"
    if isinstance(node, ast.BoolOp):
        return f"({f' {type(node.op).__name__} '.join(map(shown, node.values))})"
    if isinstance(node, ast.Compare):
        return f"({shown(node.left)} {type(node.ops[0]).__name__} {shown(node.comparators[0])})"
    if isinstance(node, ast.UnaryOp):
        return f"{type(node.op).__name__}({shown(node.operand)})"
    if isinstance(node, ast.IfExp):
        return f"if({shown(node.test)}, {shown(node.body)}, {shown(node.orelse)})"
    if isinstance(node, ast.Attribute):
        return f"{shown(node.value)}.{node.attr}"
    if isinstance(node, ast.Subscript):
        return f"{shown(node.value)}[{shown(node.slice)}]"
    if isinstance(node, ast.Call):
        return f"{shown(node.func)}({', '.join(map(shown, node.args))})"
    if isinstance(node, ast.Tuple):
        return f"[{', '.join(map(shown, node.elts))}]"
    return repr(node.value) if isinstance(node, ast.Constant) else str(node.id)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a + b * c - d", "((a Add (b Mult c)) Sub d)"),
        ("a << 1 + b", "(a LShift (1 Add b))"),
        ("a | b ^ c & d", "(a BitOr (b BitXor (c BitAnd d)))"),
        ("(a & b) == c", "((a BitAnd b) Eq c)"),
        ("a < b == (c > d)", None),
        ("a == 1 && b || c", "(((a Eq 1) And b) Or c)"),
        ("a == 1 and b or c", "(((a Eq 1) And b) Or c)"),
        ("!a == b", "(Not(a) Eq b)"),  # C's ! binds tighter than Python's not
        ("not a == b", "Not((a Eq b))"),
        ("a ? b : c ? d : e", "if(a, b, if(c, d, e))"),
        ("a if b else c", "if(b, a, c)"),
        ("a in (1, 2)", "(a In [1, 2])"),
        ("a not in (1, 2) and b", "((a NotIn [1, 2]) And b)"),
        ("a is None", "(a Eq 0)"),
        ("a is not None", "(a NotEq 0)"),
        ("-a->b.c[d]", "USub(a.b.c[d])"),
        ("*a->b", "a.b[0]"),
        ("&a->b", "address(a.b)"),
        ("(int)a < 0", "(cast(int, a) Lt 0)"),
        ("(unsigned long long)a", "cast(unsigned long long, a)"),
        ("(const char __user *)a", "cast(char * __user, a)"),
        ("((struct file *)arg1)->f_path", "cast(struct file *, arg1).f_path"),
        ("(gfp_t)a & 1", "(cast(gfp_t, a) BitAnd 1)"),
        ("(loff_t)-1", "cast(loff_t, USub(1))"),
        ("(kuid)a", "cast(kuid, a)"),
        ("(a) - b", "(a Sub b)"),
        ("(a)(b)", "a(b)"),
        ("arg2@user", "user(arg2)"),
        ("sizeof(struct sock) + sizeof(int)", "(sizeof(struct sock) Add sizeof(int))"),
        ("'a' + 0x10 + 010 + 5ul", "(((97 Add 16) Add 8) Add 5)"),
        ("\"a\\tb\\x41\"", "'a\\tbA'"),
        ("$entry(x) / 2", "($entry(x) Div 2)"),
        ("a // 2", "(a FloorDiv 2)"),
        ("true + NULL", "(1 Add 0)"),
    ],
)
def test_expressions(text: str, tree: str | None) -> None:
    if tree is None:
        with pytest.raises(CompileError, match="in a row"):
            expression(Text("probe", text), 0, len(text))
        return
    assert shown(expression(Text("probe", text), 0, len(text))) == tree


@pytest.mark.parametrize(
    ("text", "what", "marked"),
    [
        ("", "an expression is missing here", ""),
        ("a +", "a value is missing here", "+"),
        ("a b", "'b' is not expected here", "b"),
        ("a = b", "'=' is not expected here", "="),
        ("(a", "')' is missing here", "a"),
        ("a)", "')' is not expected here", ")"),
        ("a ; b", "';' has no meaning", ";"),
        ("a & b == c", "it is not clear what & belongs to", "&"),
        ("a == b | c", "it is not clear what | belongs to", "|"),
        ("a < b < c", "comparisons in a row", "<"),
        ("1.5", "the kernel has no fractions", "1.5"),
        ("0x", "'0x' is not a number", "0x"),
        ("99999999999999999999", "does not fit in 64 bits", "99999999999999999999"),
        ('"abc', "the text has no second", '"abc'),
        ("a ? b", "':' is missing here", "b"),
        ("a if b", "'else' is missing here", "b"),
        ("a@kern", "@ is followed by user or kernel", "kern"),
        ("a->", "the name of a field is missing", ">"),
        ("(struct *)a", "the name of a type is missing", ")"),
        ("a is b", "`is` compares with None only", "b"),
        ("a[1", "']' is missing here", "1"),
        ("(" * 100 + "a" + ")" * 100, "nested too deeply", "("),
        ("!" * 1000 + "a", "nested too deeply", "!"),
    ],
)
def test_what_no_expression_is(text: str, what: str, marked: str) -> None:
    with pytest.raises(CompileError) as caught:
        expression(Text("probe", text), 0, len(text))
    err = caught.value
    assert what in err.what and err.source == text and err.source[err.column : err.end_column] == marked


def test_places_of_nodes_are_those_in_the_text() -> None:
    text = "probe ü (arg1 +\n  arg22)"
    tree: Any = expression(Text("probe", text), text.index("(") + 1, len(text) - 1)
    line = text.split("\n")[1].encode()
    assert (tree.left.lineno, tree.left.col_offset) == (1, len("probe ü (".encode()))
    assert (tree.right.lineno, line[tree.right.col_offset : tree.right.end_col_offset]) == (2, b"arg22")


@pytest.mark.parametrize(
    ("text", "place", "signature", "condition", "python", "values"),
    [
        ("vfs_read", "vfs_read", None, "", None, []),
        ('vfs_read "%d", arg3', "vfs_read", None, "", "%d", ["arg3"]),
        ("r:c:malloc (retval)", "c:malloc", None, "retval", None, []),
        ('f(int fd, char __user *p) (fd==1) "%s %d", p, fd', "f", ["int fd", "char * p user"], "(fd Eq 1)", "%s %d",
         ["p", "fd"]),
        ('f(void) "x"', "f", [], "", "x", []),
        ('f(char buf[16], unsigned long) "%s", buf', "f", ["char * buf", "unsigned long "], "", "%s", ["buf"]),
        ('f (STRCMP(")(", arg1))', "f", None, "STRCMP(')(', arg1)", None, []),
        ('f "a,b %s", arg1', "f", None, "", "a,b %s", ["arg1"]),
        ('f "100%% %5.3d%%"  ,  arg1  ', "f", None, "", "100%% %5.3d%%", ["arg1"]),
        ('f "%u %lu %llu %hd %x %lx %zu %p %K %U %c", 1,2,3,4,5,6,7,8,9,10,11', "f", None, "",
         "%d %d %d %d %x %x %d %#x %s %s %s", [str(n) for n in range(1, 12)]),
    ],
)  # fmt: skip
def test_statements(text: str, place: str, signature: Any, condition: str, python: Any, values: list[str]) -> None:
    made = statement(text)
    assert made.place.place == place
    params = None if made.signature is None else [
        f"{one.kind} {one.name}" + " user" * one.user for one in made.signature
    ]  # fmt: skip
    assert params == signature
    assert (shown(made.filter) if made.filter is not None else "") == condition
    assert (made.format.python if made.format is not None else None) == python
    assert [shown(value) for value in made.values] == values


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "does not say what to trace"),
        ("f (a", "this parenthesis is not closed"),
        ("f a", "a format in quotation marks is expected here"),
        ('f "%d"', "shows 1 value, and there are none"),
        ('f "%d %d", a', "shows 2 values, and there is 1"),
        ('f "x", a', "shows 0 values, and there is 1"),
        ('f "%d" a', "a comma is missing before the value"),
        ('f "%d", ', "shows 1 value, and there are none"),
        ('f "%d", a,', "an expression is missing after the comma"),
        ('f "%y", a', "'%y' shows nothing"),
        ('f "50%", a', "'%' shows nothing"),
        ("f(int a, int a)", "two parameters are called a"),
        ("f(int a int b)", "a comma is missing between parameters"),
        ("f(a == 1)", "a comma is missing between parameters"),
        ("f(void v)", "a parameter cannot be void"),
        ("t:sched:sched_switch(int a)", "a tracepoint has no signature"),
        ("r:c:malloc+4", "a return has no offset"),
        ("f+x", "'x' is not an offset in bytes"),
    ],
)
def test_what_no_statement_is(text: str, what: str) -> None:
    with pytest.raises(CompileError) as caught:
        statement(text)
    assert what in caught.value.what and caught.value.source in text


def test_distributions() -> None:
    values = "char*,int:buf,fd:fd==1 && STRCMP(\":#\", buf)"
    made = distribution(f"p:c:write(int fd, char *buf):{values}#a label: with # marks")
    assert (made.place.place, made.kinds, made.texts) == ("c:write", ["char *", "int"], ["buf", "fd"])
    assert made.filter is not None and shown(made.filter) == "((fd Eq 1) And STRCMP(':#', buf))"
    assert made.label == made.title == "a label: with # marks"
    plain = distribution("r::vfs_read()")
    assert (plain.kinds, plain.texts, plain.default, plain.title) == (["int"], ["$retval"], True, "r::vfs_read()")
    assert distribution("p::vfs_read").texts == ["1"]
    assert distribution("u:python3:python:gc__start():int:arg1").place.place == "python3:python:gc__start"
    assert distribution("r:c:malloc(size_t n):u64:$latency/$entry(n);ns per byte").label == "ns per byte"
    assert distribution("t:a:b():u64:(args->x ? 1 : 2):args->y > 1").texts == ["(args->x ? 1 : 2)"]
    assert distribution("p::f():u32:$COMM").kinds == ["char *"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("p:c", "a kind, a file and a function are needed"),
        ("p:c:f():int:a:b:c", "there is one part too many"),
        ("p:c:f():int:a,b", "there is 1 type for 2 values"),
        ("p:c:f()::a", "the type of the value is missing here"),
        ("p:c:f():int b:a", "this does not belong to a type"),
        ("p:c:f():int:", "an expression is missing here"),
        ("x:c:f()", "does not say what to trace"),
    ],
)
def test_what_no_distribution_is(text: str, what: str) -> None:
    with pytest.raises(CompileError) as caught:
        distribution(text)
    assert what in caught.value.what


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("int", (4, True)), ("unsigned", (4, False)), ("unsigned long long", (8, False)), ("long", (8, True)),
        ("short int", (2, True)), ("char", (1, True)), ("unsigned char", (1, False)), ("size_t", (8, False)),
        ("u16", (2, False)), ("int64_t", (8, True)), ("gfp_t", (4, False)), ("bool", (1, False)), ("void", None),
        ("char *", None), ("struct x", None), ("no_such", None),
    ],
)  # fmt: skip
def test_integers_by_name(kind: str, expected: tuple[int, bool] | None) -> None:
    assert ctypes.integer(kind) == expected


PIECES = [
    "p:", "r:", "t:", "u:", "c", ":", "vfs_read", "(", ")", "int", "char", "*", "fd", " ", '"', "%d", "%s", "%", "\\",
    "arg1", "retval", "->", ".", "[", "]", "+", "-", "&", "&&", "||", "!", "==", "<", "?", "#", ";", ",", "$", "$PID",
    "$entry(", "0x", "12", 'STRCMP("a",', "and", "or", "not", "in", "is", "None", "if", "else", "@user", "struct", "\n",
    "é", "'", "sizeof(", "//", "(u64)",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.sampled_from([statement, distribution]))
def test_whatever_is_typed_is_taken_or_refused_in_a_sentence(text: str, parse: Any) -> None:
    try:
        parse(text)
    except CompileError as err:
        assert err.what and err.source in text and err.render()
