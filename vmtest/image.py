# SPDX-License-Identifier: Apache-2.0
"""What the guest holds in memory: Python, the packages the tests import, common programs, and this tree.

The guest reaches the host's files over 9p, uncached, at a millisecond and
more per request: importing pytest takes over a minute.  So what is used most
is packed into archives, which the guest unpacks into memory and mounts over
the same paths; everything else still comes from the host.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vmtest import config, fetch
from vmtest.problem import Problem

#: Programs that tests start over and over.
PROGRAMS = ("sh", "bash", "bpftool", "setpriv", "losetup", "mount", "umount", "unshare", "nsenter", "sleep", "cat",
            "ls", "true", "false", "taskset", "chrt", "dd", "env", "id", "cp", "rm", "mkdir", "chroot", "kill", "nice",
            "timeout", "modprobe", "insmod", "rmmod", "ip", "sync", "touch", "head", "seq", "uname")  # fmt: skip
_LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "site-packages", "test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "config-*",
    "turtledemo", "pyarrow*", "mypy", "mypyc", "*__mypyc*.so", "pip", "ruff", "setuptools", "grimp", "rich",
    "*.dist-info.orig",
)  # fmt: skip


def interpreter() -> str:
    """The Python that runs the tests: ``$OSMIA_VM_PYTHON``, the project's .venv, or this one."""
    chosen = os.environ.get("OSMIA_VM_PYTHON")
    places = [chosen] if chosen else [str(config.REPO / ".venv/bin/python"), sys.executable]
    for place in places:
        if os.path.exists(place) and subprocess.run(
            [place, "-c", "import pytest, hypothesis, llvmlite"], capture_output=True, check=False
        ).returncode == 0:  # fmt: skip
            return place
    raise Problem(f"no Python with pytest, hypothesis and llvmlite (tried {', '.join(places)})",
                  "run ./setup.sh test, or name one in OSMIA_VM_PYTHON")  # fmt: skip


def _facts(python: str) -> tuple[str, str, str, str]:
    """Executable behind all links, standard library, packages, version of ``python``."""
    code = ("import sys, os, sysconfig; print(os.path.realpath(sys.executable)); "
            "print(os.path.realpath(sysconfig.get_path('stdlib'))); print(sysconfig.get_path('purelib')); "
            "print(sys.version.split()[0])")  # fmt: skip
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")
    return found[0], found[1], found[2], found[3]


def _libraries(path: str) -> set[str]:
    out = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    return {os.path.realpath(p) for p in re.findall(r"(?:=> )?(/\S+) \(0x", out)}


def python_archive(folder: Path) -> tuple[Path, str]:
    """``(archive, interpreter)``; made anew when Python or its packages have changed."""
    python = interpreter()
    executable, stdlib, packages, version = _facts(python)
    names = sorted(f"{e.name} {e.stat().st_mtime_ns}" for e in os.scandir(packages))
    sources = "".join(Path(__file__).read_text())
    key = hashlib.sha256("\n".join([python, executable, version, sources, *names]).encode()).hexdigest()[:16]
    target = folder / f"python-{key}.tar"
    if target.exists():
        return target, python
    for old in folder.glob("python-*.tar"):
        old.unlink()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        stage = Path(name)
        _stage_tree(Path(stdlib), stage, "0", version)
        _stage_tree(Path(packages), stage, "1", version)
        for sub in ("lib-dynload",):
            if (Path(stdlib) / sub).is_dir() and not (stage / "0" / sub).exists():
                shutil.copytree(Path(stdlib) / sub, stage / "0" / sub)
        mounts = [f"0 {stdlib}", f"1 {packages}"]
        files = {executable, *_libraries(executable)}
        for command in PROGRAMS:
            path = fetch.find(command)
            if path:
                path = os.path.realpath(path)
                files |= {path} | _libraries(path)
        for number, path in enumerate(sorted(files), 2):
            shutil.copy2(path, stage / str(number))
            mounts.append(f"{number} {path}")
        (stage / "mounts").write_text("\n".join(mounts) + "\n")
        _tar(stage, target)
    return target, python


def _stage_tree(source: Path, stage: Path, name: str, version: str) -> None:
    shutil.copytree(source, stage / name, ignore=_LEFT_OUT, symlinks=True, ignore_dangling_symlinks=True)
    _compile(stage / name, source, version)


def _compile(tree: Path, real: Path, version: str) -> None:
    """Byte code that is used without a look at the source's date, if this Python can make it for that one."""
    if version != sys.version.split()[0]:
        return
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(tree, quiet=2, stripdir=str(tree), prependdir=str(real), invalidation_mode=mode, workers=1)


def tree_archive(target: Path) -> None:
    """This checkout as it is now: a run sees one state of it, whoever edits it meanwhile."""
    listed = subprocess.run(
        ["git", "-C", str(config.REPO), "ls-files", "-z", "-co", "--exclude-standard"], capture_output=True, check=False
    )
    if listed.returncode == 0:
        names = [os.fsdecode(n) for n in listed.stdout.split(b"\0") if n]
    else:  # not a git checkout: a source archive
        names = [str(p.relative_to(config.REPO)) for p in config.REPO.rglob("*")
                 if p.is_file() and not {".venv", ".git", "build", "__pycache__"} & set(p.parts)]  # fmt: skip
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        stage = Path(name)
        for item in names:
            source = config.REPO / item
            if source.is_file():
                (stage / item).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, stage / item)
        for part in ("src", "tests", "vmtest"):
            _compile(stage / part, config.REPO / part, _facts(interpreter())[3])
        _tar(stage, target)


def _tar(stage: Path, target: Path) -> None:
    stage.chmod(0o755)  # a temporary directory is its owner's only; in the guest everybody is to get in
    part = target.with_suffix(".part")
    subprocess.run(["tar", "-cf", str(part), "-C", str(stage), "."], check=True)
    part.rename(target)


def prebuild(target: Path, python: str) -> None:
    """Compile the tests' C programs here: a compiler over 9p on an emulated CPU takes minutes."""
    script = (
        "import sys; sys.path[:0] = ['tests/support']\n"
        "import prebuilt\n"
        "prebuilt.build_all(sys.argv[1])\n"
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        done = subprocess.run([python, "-c", script, name], cwd=config.REPO, capture_output=True, text=True,
                              check=False)  # fmt: skip
        if done.returncode == 0:
            _tar(Path(name), target)
    if done.returncode:
        raise Problem(f"cannot compile the tests' programs: {done.stderr.strip()[-400:]}",
                      "install gcc, libc6-dev and clang")  # fmt: skip
