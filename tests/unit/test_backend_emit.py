# SPDX-License-Identifier: Apache-2.0
"""Compilation in a child process: what LLVM's failures become."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from backend_tir import LOC, Prog, addr, c, helper, ret, var

from osmia.compiler import emit, llvm, tir
from osmia.compiler.emit import BackendError, assembly, compile_ir
from osmia.compiler.lower import lower
from osmia.errors import UserError

HEAD = 'target datalayout = "e-m:e-p:64:64-i64:64-i128:128-n32:64-S128"\ntarget triple = "bpfel"\n'


def failing(ir: str) -> BackendError:
    with pytest.raises(BackendError) as caught:
        compile_ir(ir)
    return caught.value


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_too_much_stack() -> None:
    buffer = var("buffer", tir.Array(tir.U8, 600))
    prog = Prog().body(tir.Eval(LOC, helper(16, addr(buffer), c(600))), ret(c(0)))
    error = failing(lower(prog.module, {"/nowhere/prog.py": "text"}))
    assert str(error) == (
        "/nowhere/prog.py:1:1: prog uses more than 512 bytes of stack; "
        "keep large structures and strings in a map or in the event, not in local variables"
    )


def test_text_that_is_no_ir() -> None:
    error = failing("hello")
    assert "expected top-level entity" in str(error)
    assert "report this" in error.fix


def test_ir_that_is_not_valid() -> None:
    body = "entry:\n br label %x\nx:\n %c = add i64 %b, 1\n ret i64 %c\ny:\n %b = add i64 %a, 1\n br label %x\n"
    assert "does not dominate all uses" in str(failing(f"{HEAD}define i64 @f(i64 %a) {{\n{body}}}\n"))


@pytest.mark.parametrize(
    "code,says",
    [
        ("define i64 @f(i64 %a, i64 %b) {\n %c = sdiv i64 %a, %b\n ret i64 %c\n}", "f divides signed values"),
        (
            "define double @f(double %a) {\n %x = fadd double %a, 1.0\n ret double %x\n}",
            "f needs an operation that BPF",
        ),
        (
            "define void @f(ptr %a) {\n %x = atomicrmw add ptr %a, i8 1 monotonic\n ret void\n}",
            "f changes a value of 8 or 16 bits atomically",
        ),
        (
            "define void @f(ptr %a) {\n %x = atomicrmw umax ptr %a, i64 1 monotonic\n ret void\n}",
            "the compiler died of SIGABRT",
        ),
        ('define i64 @x() section "x" {\n ret i64 0\n}', "has the name of its section"),
    ],
)
def test_what_llvm_refuses_becomes_one_sentence(code: str, says: str) -> None:
    error = failing(f"{HEAD}{code}\n")
    assert says in str(error)
    assert error.fix
    assert "\n" not in str(error)


def test_a_child_that_hangs_is_given_up() -> None:
    before, start = open_files(), time.monotonic()
    with pytest.raises(BackendError, match=r"did not finish in 0\.2 seconds"):
        emit.Compiler(True, lambda ir, as_object: time.sleep(30) or b"").finish("", 0.2)
    assert time.monotonic() - start < 5
    assert open_files() == before


def test_a_child_that_is_killed() -> None:
    def die(ir: str, as_object: bool) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    with pytest.raises(BackendError, match="the compiler was killed; see whether memory ran out"):
        emit.Compiler(True, die).finish("", 10)


def test_a_child_without_memory() -> None:
    with pytest.raises(BackendError, match="ran out of memory"):
        emit.Compiler(True, lambda ir, as_object: bytes(1 << 50)).finish("", 10)


def test_without_llvmlite() -> None:
    def missing(ir: str, as_object: bool) -> bytes:
        raise ImportError("No module named 'llvmlite'")

    with pytest.raises(UserError) as caught:
        emit.Compiler(True, missing).finish("", 10)
    assert "pip install 'osmia[compiler]'" in str(caught.value)
    assert "llvmlite, which is not installed" in str(caught.value)


def test_a_large_result_passes_the_pipe() -> None:
    big = os.urandom(1 << 20)
    assert emit.Compiler(True, lambda ir, as_object: big).finish("", 10) == big


def test_nothing_is_left_open_and_nothing_printed(capfd: pytest.CaptureFixture[str]) -> None:
    before = open_files()
    ir = lower(Prog().body(ret(c(0))).module)
    compile_ir(ir)
    failing("hello")
    assert open_files() == before
    assert capfd.readouterr() == ("", "")


def test_many_compilations_of_the_same_program() -> None:
    """LLVM's CO-RE pass would abort at the second one in a process."""
    task = tir.KStruct("task_struct", "struct", 96)
    field = tir.KField("pid", 80, 0, tir.KInt("int", 4, True))
    prog = Prog().body(ret(tir.CoreField(tir.U64, LOC, tir.Access(task, (field,)), "offset")))
    ir = lower(prog.module)
    assert len({compile_ir(ir) for _ in range(3)}) == 1
    first = llvm._by_package(ir, True)
    assert llvm._by_package(ir, True) == first


def test_the_direct_way_and_the_package_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    ir = lower(Prog().body(ret(c(7))).module)
    monkeypatch.setenv("OSMIA_LLVM", "package")
    assert llvm._library() is None
    slow = compile_ir(ir)
    monkeypatch.delenv("OSMIA_LLVM")

    def directly(text: str, as_object: bool) -> bytes:
        import sys

        sys.modules.pop("llvmlite", None)
        path = llvm._library()
        assert path is not None
        return llvm._directly(path, text.encode(), as_object)

    import llvmlite

    if llvmlite.__version__.startswith(llvm.CHECKED):
        assert emit.Compiler(True, directly).finish(ir, 30) == slow


def test_an_unknown_version_goes_through_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    base = tmp_path / "llvmlite" / "binding"
    base.mkdir(parents=True)
    (base / "libllvmlite.so").write_bytes(b"")
    (base.parent / "_version.py").write_text("version_version = '99.0.0'\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "llvmlite", raising=False)
    assert llvm._library() is None
    (base.parent / "_version.py").write_text("version_version = '0.50.0'\n")
    assert llvm._library() == str(base / "libllvmlite.so")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "nowhere")])
    assert llvm._library() is None


def test_assembly_is_text() -> None:
    text = assembly(lower(Prog().body(ret(c(7))).module))
    assert "r0 = 7" in text
    assert "exit" in text
