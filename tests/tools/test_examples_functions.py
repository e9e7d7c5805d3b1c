# SPDX-License-Identifier: Apache-2.0
"""The examples that need kernel functions, where there are kprobes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import REPO, Tool
from needs import needs

pytestmark = pytest.mark.kernel


def example(name: str) -> Tool:
    return Tool(command=[sys.executable, str(REPO / "examples" / f"{name}.py")])


def test_vfscount() -> None:
    needs("kprobe")
    with example("vfscount") as tool:
        subprocess.run(["dd", "if=/dev/zero", "of=/dev/null", "bs=1000", "count=211", "status=none"], check=True)
    counts = {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", tool.stdout, re.M)}
    assert min(counts.get("vfs_write", 0), counts.get("vfs_read", 0)) >= 211, tool.stdout + tool.stderr
    assert all(name.startswith("vfs_") for name in counts)


def test_openedas(tmp_path: Path) -> None:
    needs("kprobe")
    wanted = tmp_path / "only-for-this-test"
    wanted.write_text("x")
    with example("openedas") as tool:
        process = subprocess.Popen(["cat", str(wanted)], stdout=subprocess.DEVNULL)
        process.wait()
    assert tool.stdout.splitlines().count(f"cat (PID {process.pid}) opens only-for-this-test") == 1
