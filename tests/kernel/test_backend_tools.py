# SPDX-License-Identifier: Apache-2.0
"""The objects load with libbpf as well: ``bpftool prog loadall``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from needs import needs
from test_backend_lower import rich

from osmia.compiler.emit import compile_ir
from osmia.compiler.lower import lower

pytestmark = pytest.mark.kernel


def bpftool(*args: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("bpftool", path=os.environ.get("PATH", "") + ":/usr/sbin")
    assert tool, "bpftool is not installed"
    return subprocess.run([tool, *args], capture_output=True, text=True, check=False)


def test_libbpf_loads_it_and_shows_the_python_lines(tmp_path: Path) -> None:
    needs("syscall_prog")
    bpffs = Path("/sys/fs/bpf")
    if not os.path.ismount(bpffs):
        subprocess.run(["mount", "-t", "bpf", "bpf", str(bpffs)], check=True)
    pins = bpffs / f"osmia_backend_{os.getpid()}"
    source = "".join(f"line {n} of it\n" for n in range(1, 20))
    path = tmp_path / "rich.o"
    prog = rich()
    # a big loop brings in the callback, the enumerator's relocation and the direct call
    from backend_tir import c, for_, g, inc, var

    i, x = var("i"), var("x")
    prog.func.body.insert(0, for_(i, c(0), c(100_000), [inc(x, g(i))], 100_000))
    path.write_bytes(compile_ir(lower(prog.module, {prog.func.file: source})))
    try:
        done = bpftool("prog", "loadall", str(path), str(pins))
        assert done.returncode == 0, done.stderr
        text = bpftool("prog", "dump", "xlated", "pinned", str(pins / "prog")).stdout
        assert "; line 5 of it" in text
        assert "double(long long n)" in text
        assert "prog_loop0(unsigned long long index, void * frame)" in text
    finally:
        shutil.rmtree(pins, ignore_errors=True)
