# SPDX-License-Identifier: Apache-2.0
"""``docs/features.md``: what BPF and bcc offer, which tests prove that osmia has it, and on which kernels they pass.

A test names its row: ``@pytest.mark.feature("A12 histograms: linear")``, or
in a module's ``pytestmark`` for all tests in it; ``only="kprobe"`` means
those of its cases that have the word in their brackets.  The sources are
read and not imported, so that this needs nothing; the outcomes are those of
the kept results.
"""

from __future__ import annotations

import ast
from pathlib import Path

from vmtest import config, matrix, merge

PAGE = config.REPO / "docs" / "features.md"
TESTS = config.REPO / "tests"

#: Section -> rows: the number in the list of what users of BPF and bcc have, and what it is.
ROWS: dict[str, tuple[str, ...]] = {
    "What the kernel offers": (
        "A1 kernel functions: kprobe, kretprobe", "A1 kernel functions: fentry, fexit",
        "A1 kernel functions: kprobe_multi, kretprobe_multi", "A1 kernel functions: fmod_ret",
        "A2 user functions: uprobe, uretprobe", "A2 user functions: uprobe_multi",
        "A3 tracepoints", "A3 raw tracepoints", "A3 raw tracepoints with types (tp_btf)",
        "A4 timed sampling", "A5 hardware counters, or a clear refusal", "A6 filters in the kernel",
        "A7 debug output (bpf_trace_printk)", "A8 events: ring buffer", "A8 events: perf buffer",
        "A9 variables: global", "A9 variables: per thread",
        "A10 maps: hash", "A10 maps: LRU", "A10 maps: per CPU", "A10 maps: array", "A10 maps: longest prefix",
        "A10 maps: queue, stack", "A10 maps: maps of maps", "A10 maps: programs to jump to", "A10 maps: Bloom filter",
        "A10 maps: filled before the first event",
        "A11 frequency counts", "A12 histograms: power-of-two", "A12 histograms: linear", "A12 histograms: log-linear",
        "A13 timestamps and time deltas", "A14 kernel stacks by number", "A15 user stacks by number",
        "A16 overwriting ring buffers (flight recorder)",
        "A17 strings: read", "A17 strings: compare", "A17 strings: keys", "A18 bounded loops, < and <=",
        "A19 iterators", "A20 LSM probes", "A21 socket filters", "A21 XDP", "A21 tc",
    ),
    "What the front end offers": (
        "B1 USDT: arguments", "B1 USDT: semaphores", "B1 USDT: processes that start later",
        "B2 USDT registered at run time",
        "B3 debug output: raw", "B3 debug output: fields", "B4 events as typed objects",
        "B5 intervals that lose no count", "B6 histograms printed: power-of-two", "B6 histograms printed: linear",
        "B6 histograms printed: by key", "B7 kernel structures: attributes, relocated",
        "B7 kernel structures: tests of existence", "B10 arguments of tracepoints by name",
        "B11 stacks as objects",
        "B12 examples", "B13 tools", "B14 tutorial for users", "B14 tutorial for developers", "B15 reference guide",
        "B16 pinned maps", "B16 pinned programs", "B17 batches of map elements", "B18 formatted prints",
        "B19 own objects for others", "B19 objects of others",
    ),
    "When something goes wrong": (
        "F1 a map is full", "F2 a ring overflows", "F3 the traced process ends",
        "F4 a library is replaced while it is traced", "F5 a CPU goes offline and comes back", "F6 probes that missed",
        "F7 a traced module is unloaded", "F8 killed with -9", "F9 nothing stays in tracefs or among the programs",
    ),
    "Plans and numbers": (
        "P1 the next probe of a plan, said with -v", "P2 a refusal names the alternative",
        "P3 1,000 kernel functions in one call", "P4 5,000 user functions", "P5 no ceiling on the number of probes",
    ),
}  # fmt: skip
_HEAD = """# Features

Made by `scripts/gen_features.py` from the marks of the tests and from `vmtest/results/`; do not edit. A row stands here
because a test says that it proves it; a cell says what these tests did on that kernel
(see the [support matrix](support_matrix.md)):

* **yes**: all that could run passed, **some**: a few could not run there;
* **no**: none can run there, with the reason;
* **fails**: a test fails there;
* **·**: not run there;
* **any**: the tests need no kernel.
"""

Named = dict[str, list[tuple[str, str]]]


def marks(tree: ast.AST) -> list[tuple[str, str]]:
    """``(row, only)`` of each feature mark below ``tree``."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.feature":
            only = next((str(ast.literal_eval(one.value)) for one in node.keywords if one.arg == "only"), "")
            found += [(str(ast.literal_eval(one)), only) for one in node.args]
    return found


def named(folder: Path = TESTS) -> Named:
    """Row -> ``(test, only)`` of the tests that name it; tests as ``tests/kernel/test_x.py::test_y``."""
    rows: Named = {}
    for path in sorted(folder.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "mark.feature(" not in text:
            continue
        body = ast.parse(text).body
        whole = [one for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
                 for one in marks(node.value)]  # fmt: skip
        name = f"tests/{path.relative_to(folder).as_posix()}"
        for node in body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                own = [one for decorator in node.decorator_list for one in marks(decorator)]
                for row, only in [*whole, *own]:
                    rows.setdefault(row, []).append((f"{name}::{node.name}", only))
    return rows


def all_rows() -> list[str]:
    """Every row of the page."""
    return [row for rows in ROWS.values() for row in rows]


def problems(found: Named) -> list[str]:
    """Rows without a test, and marks without a row."""
    known = all_rows()
    return [f"no test names the row {row!r}" for row in known if row not in found] + [
        f"{tests[0][0]} names {row!r}, which is no row" for row, tests in found.items() if row not in known
    ]


def cell(tests: list[tuple[str, str]], results: dict[str, matrix.Result]) -> str:
    """What the tests of a row say on one kernel, whose results by test id are ``results``."""
    if all(test.startswith("tests/unit/") for test, _ in tests):
        return "any"
    entries = [entry for id, entry in results.items() if any(_is_of(id, test, only) for test, only in tests)]
    outcomes = {entry["outcome"] for entry in entries}
    if "failed" in outcomes:
        return f"**fails** ({sum(e['outcome'] == 'failed' for e in entries)} of {len(entries)})"
    if "passed" in outcomes:
        return "yes" if outcomes == {"passed"} else "some"
    reasons = list(dict.fromkeys(str(entry.get("why", "")) for entry in entries))
    return f"no: {'; '.join(reasons)}".replace("|", "\\|") if entries else "·"


def _is_of(id: str, test: str, only: str) -> bool:
    """Whether a test id is a test's, with ``only`` in the brackets."""
    case = id[len(test) :]
    return id.startswith(test) and case[:1] in ("", "[") and only in case


def page(results: list[matrix.Result], found: Named) -> str:
    """The whole page."""
    kernels = matrix.columns(results)
    by_kernel = {column.name: {id: entry for one in results if one["kernel"] == column.name
                               for id, entry in one["tests"].items()} for column in kernels}  # fmt: skip
    lines = [_HEAD]
    for title, rows in ROWS.items():
        lines += [f"## {title}", "", f"| row | {' | '.join(column.title for column in kernels)} | tests |",
                  "|---" * (len(kernels) + 2) + "|"]  # fmt: skip
        for row in rows:
            tests = found.get(row, [])
            cells = [cell(tests, by_kernel[column.name]) for column in kernels]
            lines.append(f"| {row} | {' | '.join(cells)} | {', '.join(map(_link, tests))} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _link(test: tuple[str, str]) -> str:
    path, _, name = test[0].partition("::")
    shown = name.removeprefix("test_").replace("_", " ") + (f" ({test[1]})" if test[1] else "")
    return f"[{shown}](../{path})"


def text() -> str:
    """The page as it should be now."""
    return page(merge.kept(), named())


def write() -> None:
    """Make the page anew."""
    PAGE.write_text(text(), encoding="utf-8")
