#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Put real output into the examples of docs/tools/*.md.

A fenced block that begins with ``console scene=SCENE`` names a scene in
``scripts/scenes``: a command line, and a workload that runs while the tool is
attached.  The block's content is replaced by the command and what it really
printed.  Needs root.  The text around the blocks is written by hand and tells
what is to be seen, so read it again after a new capture.

usage: capture_examples.py [FILE ...]
"""

from __future__ import annotations

import importlib
import re
import shlex
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests" / "tools"))

from harness import LISTS, Tool, osmia  # noqa: E402
from scenes.stage import Scene  # noqa: E402


def capture(scene: Scene) -> str:
    """The command line and its output, as in a terminal."""
    stage = scene.stage()
    try:
        command = scene.command.format(**stage.names)
        tool = Tool(*shlex.split(command))
        if command.split()[0] in (*LISTS, "ksnoop", "inject"):
            done = osmia(*shlex.split(command))
            return f"# osmia {command}\n{done.stdout}{done.stderr}"
        tool.start()
        scene.work(stage)
        if command.split()[-1] not in ("1", "2", "3") and " -c " not in command:
            time.sleep(0.1)
            tool.stop()
        tool.wait()
    finally:
        stage.close()
    shown = tool.stdout.rstrip("\n").split("\n")
    if len(shown) > scene.lines:
        shown = [*shown[: scene.lines], "[...]"]
    if tool.stderr:
        shown += tool.stderr.rstrip("\n").split("\n")
    return "\n".join([f"# osmia {command}", *shown]) + "\n"


_BLOCK = re.compile(r"(```console scene=([\w-]+)\n)(.*?)(```\n)", re.S)


def scenes() -> dict[str, Scene]:
    """All scenes by name."""
    folder = Path(__file__).parent / "scenes"
    found: dict[str, Scene] = {}
    for path in sorted(folder.glob("*.py")):
        found |= getattr(importlib.import_module(f"scenes.{path.stem}"), "SCENES", {})
    return found


def main(names: list[str]) -> int:
    known = scenes()
    for name in names or sorted(map(str, (REPO / "docs" / "tools").glob("*.md"))):
        path = Path(name)
        text = path.read_text()
        path.write_text(_BLOCK.sub(lambda m: m[1] + capture(known[m[2]]) + m[4], text))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
