# SPDX-License-Identifier: Apache-2.0
"""The tests' C programs, compiled once per run or taken from where they were compiled before.

In a guest of the kernel matrix a compiler takes minutes, so the host
compiles and says in ``OSMIA_TEST_PREBUILT`` where.
"""

from __future__ import annotations

import atexit
import functools
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
WORKLOADS = TESTS / "workloads"
LIVE = TESTS / "fixtures" / "live"
USER = TESTS / "fixtures" / "user"
SYMBOLS = TESTS / "fixtures" / "symbols"
CLANGS = ("clang", *(f"clang-{version}" for version in range(14, 23)))
_own = ""


def _folder() -> Path:
    global _own
    if not _own:
        _own = tempfile.mkdtemp(prefix="osmia-workload-")
        atexit.register(shutil.rmtree, _own, True)
    return Path(_own)


def _made(name: str) -> Path | None:
    for folder in (os.environ.get("OSMIA_TEST_PREBUILT"), _own):
        if folder and (Path(folder) / name).exists():
            return Path(folder) / name
    return None


def workload(name: str, into: Path | None = None) -> str:
    """Path of the compiled ``tests/workloads/NAME.c``, linked statically."""
    have = None if into else _made(name)
    if have:
        return str(have)
    compiler = next((c for c in ("gcc", "cc", *CLANGS) if shutil.which(c)), None)
    assert compiler, "a C compiler is needed for the workloads: apt-get install gcc libc6-dev"
    out = (into or _folder()) / name
    source = str(WORKLOADS / f"{name}.c")
    subprocess.run([compiler, "-O2", "-Wall", "-Werror", "-static", "-pthread", "-o", str(out), source], check=True)
    return str(out)


def burn(variant: str, into: Path | None = None) -> str:
    """Path of ``tests/workloads/burn.c`` without frame pointers; "stripped": its debug file is PATH.debug."""
    made = f"burn-{variant}"
    have = None if into else _made(made)
    if have:
        return str(have)
    folder = into or _folder()
    out, work, debug = folder / made, folder / f"{made}.part", folder / f"{made}.debug"
    run = functools.partial(subprocess.run, check=True, cwd=folder)
    run(["gcc", "-O2", "-g", "-DPLAIN", "-o", str(work), str(WORKLOADS / "burn.c")])
    if variant == "stripped":
        run(["objcopy", "--only-keep-debug", str(work), str(debug)])
        run(["objcopy", "--strip-all", f"--add-gnu-debuglink={debug.name}", str(work)])
    work.rename(out)  # the name appears when it is whole
    return str(out)


def bpf_object(name: str, into: Path | None = None) -> bytes:
    """The object of ``tests/fixtures/live/NAME.c``."""
    have = None if into else _made(f"{name}.o")
    if have:
        return have.read_bytes()
    clang = next((path for path in map(shutil.which, CLANGS) if path), None)
    assert clang, "these tests compile C for BPF: install clang (any of clang, clang-14 ... clang-22)"
    out = (into or _folder()) / f"{name}.o"
    command = [clang, "-target", "bpf", "-mcpu=v3", "-O2", "-g", "-c", str(LIVE / f"{name}.c"), "-o", str(out)]
    subprocess.run(command, check=True, timeout=60, cwd=LIVE)
    return out.read_bytes()


def user(name: str, into: Path | None = None) -> str:
    """Path of the compiled ``tests/fixtures/user/NAME.c``; a library where the name begins with ``lib``."""
    made = f"{name}.so" if name.startswith("lib") else f"{name}.program"
    have = None if into else _made(made)
    if have:
        return str(have)
    compiler = next((c for c in ("gcc", "cc") if shutil.which(c)), None)
    assert compiler, "a C compiler is needed for the traced programs: apt-get install gcc libc6-dev"
    out = (into or _folder()) / made
    kind = ["-shared", "-fPIC"] if name.startswith("lib") else []
    libraries = ["-pthread", "-ldl"]
    command = [compiler, "-O2", "-g", "-Wall", *kind, "-o", str(out), str(USER / f"{name}.c"), *libraries]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, f"{done.stderr}\n(sys/sdt.h is in systemtap-sdt-dev)"
    return str(out)


#: How ``fixtures/symbols/where.c`` is linked, and what is then done to it.
WHERE = {
    "pie": ((), ""),
    "fixed": (("-no-pie",), ""),
    "static": (("-static",), ""),
    "bare": ((), "strip"),
    "linked": ((), "link"),  # the debug file is found by name and known by its build id
    "checked": (("-Wl,--build-id=none",), "link"),  # ... known by its checksum
    "packed": ((), "pack"),
}


def where(variant: str, into: Path | None = None) -> str:
    """Path of ``tests/fixtures/symbols/where.c``, made as :data:`WHERE` says; beside it NAME.full is not stripped."""
    made = f"where-{variant}"
    have = None if into else _made(made)
    if have:
        return str(have)
    compiler = next((c for c in ("gcc", "cc") if shutil.which(c)), None)
    assert compiler, "a C compiler is needed for the traced programs: apt-get install gcc libc6-dev"
    flags, then = WHERE[variant]
    folder = into or _folder()
    full, out, debug = folder / f"{made}.full", folder / made, folder / f"{made}.debug"
    run = functools.partial(subprocess.run, check=True, cwd=folder)
    run([compiler, "-O2", "-Wall", "-Werror", *flags, "-o", str(full), str(SYMBOLS / "where.c")])
    work = folder / f"{made}.part"  # the name appears when it is whole
    shutil.copy(full, work)
    if then:
        run(["strip", str(work)])
    if then in ("link", "pack"):
        run(["objcopy", "--only-keep-debug", str(full), str(debug)])
    if then == "link":
        run(["objcopy", f"--add-gnu-debuglink={debug.name}", str(work)])
    if then == "pack":
        packed = folder / f"{made}.xz"
        packed.write_bytes(lzma.compress(debug.read_bytes()))
        debug.unlink()
        run(["objcopy", "--add-section", f".gnu_debugdata={packed}", str(work)])
    work.rename(out)
    return str(out)


def chain(into: Path | None = None) -> str:
    """Path of the compiled ``tests/fixtures/symbols/chain.c``: no frame pointers, functions found when first called."""
    have = None if into else _made("chain")
    if have:
        return str(have)
    compiler = next((c for c in ("gcc", "cc") if shutil.which(c)), None)
    assert compiler, "a C compiler is needed for the traced programs: apt-get install gcc libc6-dev"
    out = (into or _folder()) / "chain"
    flags = ["-O2", "-Wall", "-Werror", "-fomit-frame-pointer", "-fno-builtin", "-Wl,-z,lazy"]
    subprocess.run([compiler, *flags, "-o", str(out), str(SYMBOLS / "chain.c")], check=True)
    return str(out)


def installed(into: Path | None = None) -> Path:
    """A folder with the package as a wheel has it: with the objects of its tools."""
    have = None if into else _made("installed")
    if have:
        return have
    folder = into or _folder()
    work, out = folder / "installed.part", folder / "installed"
    shutil.copytree(TESTS.parent / "src" / "osmia", work / "osmia", ignore=shutil.ignore_patterns("__pycache__"))
    maker = TESTS.parent / "backend" / "make_objects.py"
    subprocess.run([sys.executable, str(maker), str(work), str(work / "osmia" / "data" / "objects")],
                   check=True, capture_output=True, env={**os.environ, "PYTHONPATH": ""})  # fmt: skip
    work.rename(out)  # the name appears when it is whole
    return out


def build_all(folder: str) -> None:
    """Compile everything into ``folder``, for ``OSMIA_TEST_PREBUILT``."""
    into = Path(folder)
    for source in sorted(WORKLOADS.glob("*.c")):
        workload(source.stem, into)
    for variant in ("plain", "stripped"):
        burn(variant, into)
    for source in sorted(LIVE.glob("*.c")):
        bpf_object(source.stem, into)
    for source in sorted(USER.glob("*.c")):
        user(source.stem, into)
    for variant in WHERE:
        where(variant, into)
    chain(into)
    installed(into)


if __name__ == "__main__":
    build_all(sys.argv[1])
