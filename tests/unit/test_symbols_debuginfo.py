# SPDX-License-Identifier: Apache-2.0
"""Parameters and types of functions by a program's DWARF."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import prebuilt
import pytest

from osmia.compiler.ktypes import Kernel
from osmia.obj.btf import Btf
from osmia.symbols import debuginfo

SOURCE = """
#include <stdint.h>
typedef struct node node_t;
struct node {
    node_t *next;
    union { long number; char bytes[8]; };
    struct { int a, b; } pair[2][3];
    unsigned flag : 1;
};
enum colour { RED, GREEN };
struct by_value { long a, b, c; };
__attribute__((noinline))
int walk(const node_t *first, enum colour colour, float f, char c, int (*call)(int), void *any)
{ return first->number + colour + c + (int)f + (call != 0) + (any != 0); }
__attribute__((noinline)) int after(int one, struct by_value two, int three)
{ return one + two.a + three; }
int main(void) { node_t n = {0}; struct by_value v = {0}; return walk(&n, RED, 1, 'x', 0, 0) + after(1, v, 2); }
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("dwarf")
    (folder / "program.c").write_text(SOURCE)
    subprocess.run(["gcc", "-g", "-O1", "-o", str(folder / "program"), str(folder / "program.c")], check=True)
    return str(folder / "program")


def test_parameters_have_names_and_types_and_a_float_takes_no_number(program: str) -> None:
    params = debuginfo.describe(program, "walk").params
    assert [(one.name, one.kind) for one in params] == [
        ("first", "struct node *"), ("colour", "int"), ("c", "char"), ("call", "void *"), ("any", "void *"),
    ]  # fmt: skip
    assert all(one.user for one in params)


def test_what_comes_after_a_structure_by_value_is_not_guessed(program: str) -> None:
    assert [one.name for one in debuginfo.describe(program, "after").params] == ["one"]


def test_types_are_laid_out_as_the_program_has_them(program: str) -> None:
    kernel = Kernel(Btf(debuginfo.describe(program, "walk").types))
    node = kernel.named("struct node")
    assert node.size == 72 and kernel.named("node_t") == node
    found = {name: node.member(name) for name in ("next", "number", "bytes", "pair", "flag")}
    places = {name: one[0].bit_offset for name, one in found.items() if one is not None}
    assert places == {"next": 0, "number": 64, "bytes": 64, "pair": 128, "flag": 512}
    pair = node.member("pair")
    assert pair is not None and pair[1].kind == "array" and pair[1].n == 6 and pair[1].target().size == 8
    following = node.member("next")
    assert following is not None and following[1].target() == node
    flag = node.member("flag")
    assert flag is not None and flag[0].bits == 1


def test_where_nothing_is_known(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "bare"
    subprocess.run(["objcopy", "--strip-debug", program, str(bare)], check=True)
    for file, function in ((str(bare), "walk"), (program, "no_such"), (str(tmp_path / "absent"), "walk")):
        found = debuginfo.describe(file, function)
        assert (found.params, found.types, found.advice) == ([], b"", "")
    monkeypatch.setitem(sys.modules, "elftools.elf.elffile", None)
    assert debuginfo.describe(program, "walk").advice.endswith("pip install osmia[dwarf]")


def test_debug_information_in_a_file_of_its_own(program: str, tmp_path: Path) -> None:
    apart, bare = tmp_path / "program.debug", tmp_path / "program"
    subprocess.run(["objcopy", "--only-keep-debug", program, str(apart)], check=True)
    subprocess.run(
        ["objcopy", "--strip-debug", f"--add-gnu-debuglink={apart}", program, str(bare)], check=True, cwd=tmp_path
    )
    assert [one.name for one in debuginfo.describe(str(bare), "walk").params][:2] == ["first", "colour"]


def test_the_fixture_of_the_tools() -> None:
    params = debuginfo.describe(prebuilt.user("specs"), "visit").params
    assert [one.name for one in params] == ["where", "at", "level"]
