# SPDX-License-Identifier: Apache-2.0
"""The tutorials: every file and every command in them is run, in order, and shows what the page says first."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import REPO, environment
from patience import patient

pytestmark = [pytest.mark.kernel, pytest.mark.vm]

BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.M | re.S)


def blocks(page: str) -> list[tuple[str, str]]:
    """``(kind, text)`` of the blocks of a page."""
    return BLOCK.findall((REPO / "docs" / page).read_text(encoding="utf-8"))


def commands(text: str) -> list[tuple[str, str]]:
    """``(command, first line of what it prints)``; the line is empty where the page shows none."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif not found[-1][1]:
            found[-1] = (found[-1][0], line)
    return found


def folder_with_commands(folder: Path) -> dict[str, str]:
    """The environment in which ``osmia``, ``sudo`` and ``python3`` are this checkout's, nothing, and this Python."""
    place = folder / "bin"
    place.mkdir()
    for name, text in (
        ("osmia", f'exec {sys.executable} -m osmia.cli.main "$@"'), ("sudo", 'exec "$@"'),
        ("python3", f'exec {sys.executable} "$@"'),
    ):  # fmt: skip
        (place / name).write_text(f"#!/bin/sh\n{text}\n")
        (place / name).chmod(0o755)
    path = f"{place}:{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"
    return {**environment(), "PATH": path, "LC_ALL": "C.UTF-8"}


def follow(page: str, folder: Path) -> int:
    """Do what a page says; how many commands that were."""
    env, done = folder_with_commands(folder), 0
    for kind, text in blocks(page):
        if kind == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            assert name, f"{page}: a file without a name: {text[:40]}"
            (folder / name[1]).write_text(text, encoding="utf-8")
            continue
        for command, first in commands(text):
            shell = ["bash", "-c", f"set -o pipefail; {command}"]
            ran = subprocess.run(shell, cwd=folder, env=env, capture_output=True, text=True, timeout=patient(120.0),
                                 check=False)  # fmt: skip
            assert ran.returncode in (0, -13, 141), f"{page}: {command}\n{ran.stdout}{ran.stderr}"  # 141: head has gone
            assert "Traceback" not in ran.stderr and ran.stdout + ran.stderr, f"{page}: {command}: {ran.stderr}"
            if first:
                assert first in [line.rstrip() for line in ran.stdout.splitlines()], f"{page}: {command}\n{ran.stdout}"
            done += 1
    return done


@pytest.mark.feature("B14 tutorial for users")
def test_the_tutorial_for_users(tmp_path: Path) -> None:
    assert follow("tutorial.md", tmp_path) == 9


@pytest.mark.feature("B14 tutorial for developers", "B12 examples")
def test_the_tutorial_for_developers(tmp_path: Path) -> None:
    assert follow("tutorial-developers.md", tmp_path) == 10
