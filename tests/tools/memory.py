# SPDX-License-Identifier: Apache-2.0
"""Memory cgroups in which processes of a test, and nobody else, run short of memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MIB = 1 << 20


def _hierarchy() -> tuple[Path, bool]:
    """Where cgroups with the memory controller can be made, and whether they are of version 2."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    for words in mounts:
        if words[2] == "cgroup" and "memory" in words[3].split(",") and words[1].startswith("/sys/fs/cgroup"):
            return Path(words[1]), False
    root = next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)
    if root is None:
        root = Path(tempfile.mkdtemp(prefix="osmia-cgroup-"))
        subprocess.run(["mount", "-t", "cgroup2", "none", str(root)], check=True)
    (root / "cgroup.subtree_control").write_text("+memory")
    return root, True


@contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """A cgroup whose processes have ``limit`` bytes of memory and no swap: the kernel kills there, if it must."""
    root, second = _hierarchy()
    group = root / f"osmia-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(limit))
        swap = group / ("memory.swap.max" if second else "memory.swappiness")
        if swap.exists():  # a kernel without swap has no limit for it
            swap.write_text("0")
        yield group
    finally:
        for _ in range(100):
            with suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.05)


#: A process in the cgroup: what it does comes behind.  It is the first to be killed wherever that is decided.
_ENTER = """
import os, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
open("/proc/self/oom_score_adj", "w").write("1000")
open("/proc/self/comm", "w").write(sys.argv[2])
"""


def in_group(group: Path, name: str, code: str, *words: str, keep: int = -1) -> subprocess.Popen[bytes]:
    """A process called ``name`` in the cgroup, which runs the Python ``code``; it keeps the descriptor ``keep``."""
    kept = (keep,) if keep >= 0 else ()
    return subprocess.Popen([sys.executable, "-c", _ENTER + code, str(group), name, *words], pass_fds=kept)


def hog(group: Path, name: str, megabytes: int) -> subprocess.Popen[bytes]:
    """A process that wants so much memory."""
    return in_group(group, name, f"keep = [bytearray({MIB}) for _ in range({megabytes})]")


def forgotten(file: Path, megabytes: int) -> Path:
    """Make ``file``, of which nothing is in memory any more: whoever reads it, it is theirs."""
    with open(file, "wb") as out:
        for _ in range(megabytes):
            out.write(os.urandom(MIB))
        out.flush()
        os.fsync(out.fileno())
        os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return file


def reader(group: Path, name: str, file: Path, times: int) -> subprocess.Popen[bytes]:
    """A process that reads a file again and again: the pages of what it has read make room for the next."""
    code = f"for _ in range({times}):\n    f = open(sys.argv[3], 'rb', 0)\n    while f.read({MIB}): pass\n"
    return in_group(group, name, code, str(file))
