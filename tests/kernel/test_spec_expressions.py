# SPDX-License-Identifier: Apache-2.0
"""Expressions of specifications against a C compiler: generated ones, run by both on the same numbers."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from kernel_code import compile_module
from needs import needs

from osmia.compiler.built import Scope, function
from osmia.compiler.stages import typed
from osmia.errors import CompileError, UserError
from osmia.kernel import btf_source, functions
from osmia.lang.probes import Hook, Prog
from osmia.lang.unit import Unit
from osmia.load.object import load
from osmia.obj.elf import parse_object
from osmia.probespec import FUNCTION, STATIC, Spec
from osmia.probespec.expressions import expression
from osmia.probespec.tree import InC, Text

pytestmark = pytest.mark.kernel

TYPES = ["char", "signed char", "unsigned char", "short", "unsigned short", "int", "unsigned int", "long",
         "unsigned long", "long long", "u8", "s16", "u32", "s64"]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 7, 127, 128, 255, -128, 32767, 65535, -32769, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**32,
           2**63 - 1, -(2**63), 1234567890123]  # fmt: skip
LITERALS = ["1", "3", "10", "255", "0x80", "2147483647", "4294967295u", "0xffffffff", "1000000000000", "7ul", "'A'"]
#: Where both C and the text here agree, and C has no undefined answer: overflow wraps (gcc -fwrapv).
C_HEAD = "typedef unsigned char u8; typedef short s16; typedef unsigned int u32; typedef long s64;\n"


def generated(source: random.Random, depth: int) -> str:
    """An expression of arg1 and arg2 that is defined for all of their values."""
    if depth == 0:
        return source.choice(["arg1", "arg2", f"({source.choice(TYPES)})arg1", f"({source.choice(TYPES)})arg2",
                              source.choice(LITERALS)])  # fmt: skip
    a, b = generated(source, depth - 1), generated(source, depth - 1)
    return source.choice([
        f"({a} + {b})", f"({a} - {b})", f"({a} * {b})", f"({a} & {b})", f"({a} | {b})", f"({a} ^ {b})",
        f"({a} / (({b} & 7) + 1))", f"({a} % (({b} & 7) + 3))", f"({a} / (-(int)({b} & 7) - 2))",
        f"({a} % (-(long)({b} & 15) - 2))", f"({a} << ({b} & 7))", f"({a} >> ({b} & 7))", f"({a} < {b})",
        f"({a} <= {b})", f"({a} > {b})", f"({a} == {b})", f"({a} != {b})", f"({a} && {b})", f"({a} || {b})", f"(!{a})",
        f"(~{a})", f"(-{a})", f"({a} ? {b} : {a})", f"({source.choice(TYPES)})({a})", f"(({a} < {b}) + sizeof(int))",
    ])  # fmt: skip


def in_c(texts: list[str], pairs: list[tuple[int, int]], folder: Path) -> list[list[int]]:
    """What a C compiler makes of them: for each pair of numbers the values of all."""
    lines = "".join([f"    out[{n}] = (unsigned long)({text});\n" for n, text in enumerate(texts)])
    (folder / "all.c").write_text(
        f"#include <stdio.h>\n{C_HEAD}static void all(long arg1, long arg2, unsigned long *out)\n{{\n{lines}}}\n"
        "int main(void)\n{\n    long a, b;\n    unsigned long out[4096];\n"
        '    while (scanf("%ld %ld", &a, &b) == 2) {\n        all(a, b, out);\n'
        f"        for (int n = 0; n < {len(texts)}; n++)\n            printf(\"%lu \", out[n]);\n"
        '        printf("\\n");\n    }\n}\n'
    )
    subprocess.run(["gcc", "-w", "-O1", "-fwrapv", "-o", str(folder / "all"), str(folder / "all.c")], check=True)
    said = "".join([f"{a} {b}\n" for a, b in pairs])
    run = subprocess.run([str(folder / "all")], input=said, capture_output=True, text=True, check=True)
    return [[int(word) for word in line.split()] for line in run.stdout.splitlines()]


def program(texts: list[str]) -> ModuleType:
    """One program that computes them all: context words 0 and 1 are the arguments, the results follow."""
    made = ModuleType("generated")
    body = "def run(context):\n    arg1 = context[0]\n    arg2 = context[1]\n"
    holes: dict[str, Any] = {}
    for n, text in enumerate(texts):
        body += f"    context[{n + 2}] = __v{n}\n"
        # Each expression has a text of its own, so that an error points into it.
        holes[f"__v{n}"] = tree(text)
    place = Spec(STATIC, "file", "name", "u:file:name")
    run = function("run", body, holes, Text("generated", "generated"), vars(made), Scope(place))
    vars(made)["run"] = Prog(run, (Hook("syscall", ""),))
    return made


def tree(text: str) -> InC:
    made = InC(expression(Text("expression", text), 0, len(text)))
    made.lineno = made.end_lineno = 1
    made.col_offset = made.end_col_offset = 0
    return made


AT_ONCE = 10


def results(texts: list[str], pairs: list[tuple[int, int]]) -> list[list[int]]:
    """The same by the kernel; a few in a program: older verifiers walk all ways through all of them."""
    needs("syscall_prog")
    out: list[list[int]] = [[] for _ in pairs]
    for first in range(0, len(texts), AT_ONCE):
        some = texts[first : first + AT_ONCE]
        with load(parse_object(compile_module(program(some)), "generated")) as live:
            for (a, b), found in zip(pairs, out, strict=True):
                words = struct.pack("<qq", a, b) + bytes(8 * len(some))
                _, context = live.progs["run"].test_run(words)
                found += struct.unpack_from(f"<{len(some)}Q", context, 16)
    return out


@pytest.mark.parametrize("seed", range(4))
def test_expressions_mean_what_they_mean_in_c(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    texts = [generated(source, 1 + n % 3) for n in range(40)]
    pairs = [(source.choice(NUMBERS), source.choice(NUMBERS)) for _ in range(40)]
    pairs += [(source.getrandbits(64) - 2**63, source.getrandbits(64) - 2**63) for _ in range(10)]
    for pair, ours, theirs in zip(pairs, results(texts, pairs), in_c(texts, pairs, tmp_path), strict=True):
        for text, one, other in zip(texts, ours, theirs, strict=True):
            assert one == other, f"{text} of {pair}"


@pytest.mark.parametrize(
    ("python", "c"),
    [
        ("arg1 and arg2", "arg1 && arg2"),
        ("arg1 or not arg2", "arg1 || !arg2"),
        ("not arg1 == arg2", "arg1 != arg2"),
        ("1 if arg1 > arg2 else 2", "arg1 > arg2 ? 1 : 2"),
        ("arg1 in (1, 7, 255)", "arg1 == 1 || arg1 == 7 || arg1 == 255"),
        ("arg1 not in (1, 7)", "arg1 != 1 && arg1 != 7"),
        ("arg1 is not None", "arg1 != 0"),
        ("True", "1"),
        ("(arg1 & 255) == 7", "(arg1 & 255) == 7"),
    ],
)
def test_pythons_words(python: str, c: str) -> None:
    pairs = [(a, b) for a in NUMBERS for b in (0, 1, 255)]
    for first, second in results([python, c], pairs):
        assert first == second


def test_whole_division_rounds_down_as_python_does() -> None:
    pairs = [(a, b) for a in (-7, 7, 0, -1, 100) for b in (2, -2, 3, -3)]
    for (a, b), (down, cut) in zip(pairs, results(["arg1 // arg2", "arg1 / arg2"], pairs), strict=True):
        assert (down, cut) == ((a // b) & (2**64 - 1), int(a / b) & (2**64 - 1))


def test_division_by_zero_gives_zero() -> None:
    assert results(["arg1 / arg2", "arg1 % arg2", "(u32)arg1 / (u32)arg2"], [(5, 0)]) == [[0, 0, 0]]


def test_constants_by_name() -> None:
    texts = ["EPERM", "O_CREAT", "SIGKILL", "AF_INET", "(arg1 & S_IFMT) == S_IFDIR", "TCP_ESTABLISHED", "NULL"]
    expected = [1, os.O_CREAT, 9, 2, 1, 1, 0]
    assert results(texts, [(0o040755, 0)]) == [expected]


@pytest.mark.parametrize(
    ("text", "what", "marked"),
    [
        ("(u64)arg1 < 0", "this is unsigned", "(u64)arg1 < 0"),
        ("nothing", "nothing here is called 'nothing'", "nothing"),
        ("arg1->x", "a number has no fields", "arg1"),
        ("*arg1", "a number leads nowhere", "*arg1"),
        ("(struct no_such *)arg1", "the kernel's BTF has no struct no_such", "(struct no_such *)arg1"),
        ("$PIDD", "there is no $PIDD", "$PIDD"),
        ("printf(1)", "printf cannot be called", "printf(1)"),
        ("1 / 0", "this divides by zero", "1 / 0"),
        ("$COMM", "a number is expected here, and this is text", "$COMM"),
        ("$latency", "$latency is known when a function returns", "$latency"),
        ("retval", "there is no return value before the function returns", "retval"),
    ],
)
def test_what_is_refused_is_pointed_at(text: str, what: str, marked: str) -> None:
    made = ModuleType("generated")
    place = Spec(STATIC, "file", "name", "u:file:name")
    source = Text("expression", text)
    hole = {"__v": InC(expression(source, 0, len(text)))}
    hole["__v"].lineno, hole["__v"].col_offset = 1, 0
    body = "def run(context):\n    arg1 = context[0]\n    context[1] = __v\n"
    run = function("run", body, hole, source, vars(made), Scope(place))
    vars(made)["run"] = Prog(run, (Hook("syscall", ""),))
    with pytest.raises(CompileError) as caught:
        compile_module(made)
    err = caught.value
    assert what in err.what and err.source == text and err.source[err.column : err.end_column] == marked


LEAVES = [
    "arg1", "arg2", "file", "count", "buf", "$task", "$COMM", "$PID", "1", '"x"', "NULL", "$retval", "ctx", "args",
]  # fmt: skip


def anything(source: random.Random, depth: int) -> str:
    """An expression that may well mean nothing."""
    if depth == 0:
        return source.choice(LEAVES)
    a, b = anything(source, depth - 1), anything(source, depth - 1)
    return source.choice([
        f"({a}+{b})", f"({a}-{b})", f"({a}/{b})", f"({a}&&{b})", f"(!{a})", f"*{a}", f"& {a}", f"{a}->f_path",
        f"{a}->f_path.dentry->d_name.name", f"((struct file *){a})", f"(char *){a}", f"(int){a}", f"{a}@user",
        f"({a}=={b})", f"({a}<{b})", f"({a}?{b}:{a})", f'STRCMP("q",{a})', f'{a}.startswith("z")', f"{a}[{b}]",
        f"({a} in (1,{b}))", f"({a} in {b})", f"$entry({a})", "sizeof(struct file)", f"(struct file){a}",
        f"&({a})->f_path", f"{a}->f_flags", f"{a}->comm",
    ])  # fmt: skip


def asked(words: str, text: bool) -> dict[str, Any]:
    """A module with a probe that wants the value of ``words``, or the text that it leads to."""
    made: dict[str, Any] = {}
    hole = InC(expression(Text("probe", words), 0, len(words)), text)
    hole.lineno, hole.col_offset = 1, 0
    body = "def run():\n" + ("    print(__v)\n" if text else "    if __v:\n        return\n")
    scope = Scope(Spec(FUNCTION, "", "vfs_read", "vfs_read"))
    made["run"] = Prog(function("run", body, {"__v": hole}, Text("probe", words), made, scope),
                       (Hook("kprobe", "vfs_read"),))  # fmt: skip
    return made


@pytest.mark.parametrize("text", [False, True])
def test_whatever_is_typed_is_compiled_or_refused(text: bool) -> None:
    source = random.Random(23)
    btf, taken = btf_source.kernel_btf(), 0
    for _ in range(250):
        words = anything(source, source.randrange(4))
        try:
            typed(Unit("generated", asked(words, text)), btf=btf, module_types=functions.module_types)
            taken += 1
        except UserError as err:
            assert str(err)
    assert 50 < taken < 200
