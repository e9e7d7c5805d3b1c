# SPDX-License-Identifier: Apache-2.0
"""What the tests of osmia.obj share: C fixtures compiled once, and a kernel that never was."""

from __future__ import annotations

import functools
import pathlib
import shutil
import subprocess
import tempfile

from osmia.obj.btf import Btf
from osmia.obj.btf_write import SIGNED, BtfBuilder

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "clang"


@functools.cache
def clang() -> str:
    """The path of a clang; a test that wants one fails without it rather than being skipped."""
    for name in ("clang", *(f"clang-{version}" for version in range(14, 22))):
        path = shutil.which(name)
        if path:
            return path
    raise AssertionError("these tests compile C for BPF: install clang (any of clang, clang-14 ... clang-21)")


@functools.cache
def build(name: str) -> bytes:
    """The object of ``tests/fixtures/clang/<name>.c``."""
    return compile_file(FIXTURES / f"{name}.c")


@functools.cache
def build_text(text: str, *options: str) -> bytes:
    """The object of a C text, which may include ``bpf.h``."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "text.c"
        source.write_text(text)
        return compile_file(source, *options)


def compile_file(source: pathlib.Path, *options: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        target = pathlib.Path(folder) / "out.o"
        command = [clang(), "-target", "bpf", "-mcpu=v3", "-O2", "-g", "-I", str(FIXTURES), *options]
        subprocess.run([*command, "-c", str(source), "-o", str(target)], check=True, timeout=60)
        return target.read_bytes()


def other_kernel() -> bytes:
    """Types for ``core.c`` as another kernel might have them: moved, resized, retyped, gone.

    ============== =========================== ======
    member         type                        offset
    ============== =========================== ======
    wide           u64                         0
    moved          int                         8
    first          u32                         12
    bits : 9       u32                         16.3
    sbits : 5      int                         16.30 (crosses a word)
    (anonymous)    { hidden u64 | half u32 }   24
    shrunk         u16                         32
    shrunk_signed  short                       34
    many           struct inner[6]             40
    ptr            struct inner *              88
    in             struct inner                96
    name           char[32]                    104
    color          enum color                  136
    retyped        struct inner *              144
    legacy         u32                         152
    flex           u8[]                        156
    ============== =========================== ======
    """
    b = BtfBuilder()
    u8, u16, u32 = b.add_int("u8", 1), b.add_int("u16", 2), b.add_int("u32", 4)
    u64, s16, s32 = b.add_int("u64", 8), b.add_int("short", 2, SIGNED), b.add_int("int", 4, SIGNED)
    char = b.add_int("char", 1, SIGNED)
    inner = b.add_struct("inner", 8, [("y", u32, 0), ("x", u32, 32)])
    b.add_typedef("inner_t", inner)
    pointer = b.add_ptr(inner)
    color = b.add_enum("color", [("BLUE", 5), ("GREEN", -2)])
    hidden = b.add_struct("", 8, [("hidden", u64, 0), ("half", u32, 0)], union=True)
    anonymous = b.add_struct("", 8, [("", hidden, 0)])
    b.add_struct("sample", 160, [
        ("wide", u64, 0), ("moved", s32, 64), ("first", u32, 96), ("bits", u32, 131, 9), ("sbits", s32, 158, 5),
        ("", anonymous, 192), ("shrunk", u16, 256), ("shrunk_signed", s16, 272), ("many", b.add_array(inner, 6), 320),
        ("ptr", pointer, 704), ("in", inner, 768), ("name", b.add_array(char, 32), 832), ("color", color, 1088),
        ("retyped", pointer, 1152), ("legacy", u32, 1216), ("flex", b.add_array(u8, 0), 1248),
    ])
    return b.bytes()


def other_kernel_btf() -> Btf:
    return Btf(other_kernel(), name="other kernel")
