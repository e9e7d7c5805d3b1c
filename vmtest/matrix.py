# SPDX-License-Identifier: Apache-2.0
"""``docs/support_matrix.md`` out of the kept results.

A test puts itself into a row with ``record_property("row", "hook:kprobe")``
and says what is shown with ``record_property("how", ...)``; the tests of a
tool's own file all count for that tool.  A cell is what all its tests say
together: one failure shows as a failure.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vmtest import config, merge

Result = dict[str, Any]

_TITLES = {
    "hook": ("Hooks", "hook"), "tool": ("Tools", "tool"), "feature": ("What the kernel can do", "feature"),
    "map": ("Maps", "map"), "fault": ("Faults", "fault"),
    "drift": ("Changes of the kernel that `lang/drift.py` knows", "entry"),
    "surroundings": ("Where something is missing", "surroundings"),
}  # fmt: skip
_HEAD = """# Support matrix

Made by `python3 -m vmtest` from `vmtest/results/`; do not edit.  What a cell says has been done by a test on that
kernel: Debian's kernels in emulated machines, and the kernel of the machine that ran the tests (native).

* **yes**: works, followed by the way that was taken;
* **no**: not possible there, followed by the reason;
* **fails**: a test fails there;
* **·**: not tested there.
"""


TOOLS = {path.stem for path in (config.REPO / "src/osmia/tools").glob("[a-z]*.py")}


class Column:
    """One kernel: its results by row."""

    def __init__(self, name: str, title: str, order: tuple[int, ...]) -> None:
        self.name = name
        self.title = title
        self.order = order
        self.cells: dict[tuple[str, str], list[Result]] = {}
        self.release = ""
        self.counts = {"passed": 0, "failed": 0, "skipped": 0, "xfailed": 0}

    def add(self, result: Result, known: dict[str, list[str]]) -> None:
        for test, entry in result["tests"].items():
            self.counts[entry["outcome"]] += 1
            for row, how in rows_of(test, entry, known):
                self.cells.setdefault(row, []).append({**entry, "how": how})


def rows_of(test: str, entry: Result, known: dict[str, list[str]]) -> list[tuple[tuple[str, str], str]]:
    """``((section, row), how)`` for all the rows that a test belongs to.

    A test that was skipped or failed may not have come to say so: then what
    it said elsewhere counts.
    """
    named = dict(entry.get("rows", []))
    if entry["outcome"] != "passed":
        named = {**dict.fromkeys(known.get(test, []), ""), **named}
    found = []
    for name, how in named.items():
        section, _, row = name.partition(":")
        found.append(((section, row.replace(":", ": ")), how))
    for pattern, name in config.ROWS:
        match = re.search(pattern, test)
        if match:
            section, _, row = name.partition(":")
            found.append(((section, row), match[1] if match.lastindex and entry["outcome"] == "passed" else ""))
    own = re.match(r"tests/tools/test_([a-z_]+)\.py::(.*)", test)
    if own:
        found += [(("tool", tool), "") for tool in tools_of(own[1], own[2])]
    return found


def tools_of(file: str, rest: str) -> tuple[str, ...]:
    """The tools that a test is about, by its file's name and what follows it."""
    family = config.FAMILIES.get(file)
    if family is None:
        return (file,) if file in TOOLS else ()
    words = set(re.findall(r"[a-z0-9]+", rest.replace("_", " ")))
    named = tuple(tool for tool in family if tool in words or re.sub("(slower|dist)$", "", tool) in words)
    return named or family


def columns(results: list[Result]) -> list[Column]:
    """The kernels in the order of their versions."""
    found: dict[str, Column] = {}
    known: dict[str, list[str]] = {}
    for result in results:
        for test, entry in result["tests"].items():
            known.setdefault(test, []).extend(row for row, _ in entry.get("rows", []))
    for result in results:
        name = result["kernel"]
        if name not in found:
            numbers = tuple(int(n) for n in re.findall(r"\d+", result["release"])[:3])
            title = f"{numbers[0]}.{numbers[1]}" + (" native" if name == "native" else "")
            found[name] = Column(name, title, numbers)
            found[name].release = f"{result['release']}" + ("" if name == "native" else f" ({result['package']})")
        found[name].add(result, known)
    return sorted(found.values(), key=lambda column: column.order)


def cell(entries: list[Result] | None) -> str:
    """What a row says for one kernel."""
    if not entries:
        return "·"
    failed = [e for e in entries if e["outcome"] == "failed"]
    passed = [e for e in entries if e["outcome"] == "passed"]
    if failed:
        return f"**fails** ({len(failed)} of {len(entries)})"
    if passed:
        ways = list(dict.fromkeys(e["how"] for e in passed if e.get("how")))
        refused = [w for w in ways if w.startswith("refused")]
        if refused and len(refused) == len(ways):
            return f"no: {'; '.join(w.removeprefix('refused: ') for w in refused)}"
        return "yes" + (f": {'; '.join(ways)}" if ways else "")
    reasons = list(dict.fromkeys(e.get("why", "") for e in entries))
    return f"no: {'; '.join(r for r in reasons if r)}"


def table(section: str, found: list[Column]) -> list[str]:
    """One section as Markdown."""
    title, first = _TITLES.get(section, (section.capitalize(), section))
    rows = list(dict.fromkeys(row for column in found for key, row in column.cells if key == section))
    lines = [f"## {title}", "", f"| {first} | {' | '.join(column.title for column in found)} |",
             "|---" * (len(found) + 1) + "|"]  # fmt: skip
    for row in sorted(rows):
        cells = [cell(column.cells.get((section, row))).replace("|", "\\|") for column in found]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return [*lines, ""]


def text(results: list[Result]) -> str:
    """The whole page."""
    found = columns(results)
    lines = [_HEAD, "## Kernels", "", "| | release | tests passed | failed | skipped |", "|---|---|---|---|---|"]
    for column in found:
        c = column.counts
        lines.append(f"| {column.title} | {column.release} | {c['passed']} | {c['failed']} | {c['skipped']} |")
    lines.append("")
    sections = {section for column in found for section, _ in column.cells}
    for section in [s for s in _TITLES if s in sections] + sorted(sections - set(_TITLES)):
        lines += table(section, found)
    lines += one_sided(found)
    return "\n".join(lines).rstrip() + "\n"


def one_sided(found: list[Column]) -> list[str]:
    """Entries of the drift file of which the matrix has seen one side only."""
    missing = []
    for row in sorted({row for column in found for section, row in column.cells if section == "drift"}):
        sides = {e.get("how") for column in found for e in column.cells.get(("drift", row), [])
                 if e["outcome"] == "passed"}  # fmt: skip
        missing += [f"* {row}: no kernel of the matrix is on the side “{side}”"
                    for side in ("before", "since") if side not in sides]  # fmt: skip
    return ["### Sides of a change that no kernel here is on", "", *missing, ""] if missing else []


def write(path: Path) -> None:
    """Make the page anew."""
    from vmtest import features  # which takes the columns from here

    results = merge.kept()
    if results:
        path.write_text(text(results), encoding="utf-8")
        features.write()


