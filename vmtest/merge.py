# SPDX-License-Identifier: Apache-2.0
"""Results as they are checked in: one file per kernel and boot, without what changes from run to run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vmtest import config


def reduced(kernel: str, boot: str, version: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    """What is kept: outcomes by test, why each was skipped or failed (one line), and what the matrix shows."""
    tests = {}
    for record in records:
        if "id" not in record:
            continue
        entry: dict[str, Any] = {"outcome": record["outcome"]}
        if record["outcome"] != "passed":
            entry["why"] = record["why"].strip().splitlines()[-1][:200] if record["why"].strip() else ""
        rows = paired(record.get("properties", []))
        if rows:
            entry["rows"] = rows
        tests[record["id"]] = entry
    release = next((r["release"] for r in records if r.get("event") == "booted"), version)
    tests = dict(sorted(tests.items()))
    return {"kernel": kernel, "boot": boot, "release": release, "package": version, "tests": tests}


def paired(properties: list[list[str]]) -> list[list[str]]:
    """``[row, how]`` for each row that a test put itself into: the word for how comes after the row."""
    found: list[list[str]] = []
    for name, value in properties:
        if name == "row":
            found.append([value, ""])
        elif name == "how" and found:
            found[-1][1] = value
    return found


def place(kernel: str, boot: str) -> Path:
    """``vmtest/results/KERNEL-BOOT.json``."""
    return config.RESULTS / f"{kernel}-{boot}.json"


def keep(kernel: str, boot: str, version: str, records: list[dict[str, Any]], *, again: bool = False,
         paths: Sequence[str] = ()) -> Path:  # fmt: skip
    """Write the results down; ``again``: put them in place of the same tests' in what is kept already.

    ``paths`` are the files that were run: what else is kept of them is of tests that do not exist any more.
    """
    config.RESULTS.mkdir(parents=True, exist_ok=True)
    path = place(kernel, boot)
    result = reduced(kernel, boot, version, records)
    if again:
        whole = tuple(f"{name}::" for name in paths if name.endswith(".py"))
        old = {id: entry for id, entry in json.loads(path.read_text())["tests"].items() if not id.startswith(whole)}
        result["tests"] = dict(sorted({**old, **result["tests"]}.items()))
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


def failed(kernel: str, boot: str) -> list[str]:
    """The tests that have failed in the kept results."""
    return [id for id, outcome in _outcomes(kernel, boot).items() if outcome == "failed"]


def settled(kernel: str, boot: str) -> list[str]:
    """The tests that need not run again: those that have passed or were skipped in the kept results."""
    return [id for id, outcome in _outcomes(kernel, boot).items() if outcome != "failed"]


def _outcomes(kernel: str, boot: str) -> dict[str, str]:
    """By test; none where nothing is kept."""
    path = place(kernel, boot)
    tests = json.loads(path.read_text())["tests"] if path.exists() else {}
    return {id: entry["outcome"] for id, entry in tests.items()}


def kept() -> list[dict[str, Any]]:
    """All kept results."""
    return [json.loads(path.read_text()) for path in sorted(config.RESULTS.glob("*.json"))]
