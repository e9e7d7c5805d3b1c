# SPDX-License-Identifier: Apache-2.0
"""Scenes of the tools about memory that runs short."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from memory import MIB, forgotten, hog, in_group, memory_group, reader

from scenes.stage import Scene, Stage


def eaters(_stage: Stage) -> None:
    """One process eats too much by itself; then a small one wants a little, and the largest must go."""
    with memory_group(24 * MIB) as group:
        hog(group, "leaky", 60).wait()
        large = in_group(group, "database", f"keep = bytearray(b'x') * {14 * MIB}\nimport time\ntime.sleep(600)")
        while int(Path(f"/proc/{large.pid}/statm").read_text().split()[1]) * 4096 < 14 * MIB:
            time.sleep(0.05)
        small = in_group(group, "cron", "open('/proc/self/oom_score_adj', 'w').write('0')\n"
                         f"keep = [bytearray({MIB}) for _ in range(12)]")  # fmt: skip
        large.wait()
        small.wait()
    time.sleep(0.2)


def readers(_stage: Stage) -> None:
    """A file that is larger than the cgroup may have of it."""
    with tempfile.TemporaryDirectory() as place, memory_group(24 * MIB) as group:
        reader(group, "backup", forgotten(Path(place) / "file", 32), 1).wait()
    time.sleep(0.2)


def compact(_stage: Stage) -> None:
    subprocess.run(["sh", "-c", "echo 1 > /proc/sys/vm/compact_memory"], check=True)
    time.sleep(0.2)


def opening(_stage: Stage) -> None:
    """A program opens files, for a second."""
    code = "import os, time\nend = time.time() + 1.1\nwhile time.time() < end:\n"
    code += "    for _ in range(50): os.close(os.open('/dev/null', 0)); [os.close(fd) for fd in os.pipe()]\n"
    code += "    time.sleep(0.01)\n"
    subprocess.run([sys.executable, "-c", f"import ctypes; ctypes.CDLL(None).prctl(15, b'opener')\n{code}"], check=True)


SCENES = {
    "oomkill": Scene("oomkill", eaters),
    "drsnoop": Scene("drsnoop -mT -n backup", readers, lines=12),
    "compactsnoop": Scene("compactsnoop -n sh", compact),
    "compactsnoop-more": Scene("compactsnoop -eK -n sh", compact, lines=11),
    "slabratetop": Scene("slabratetop -C -r 10 -n opener", opening, lines=14),
}
