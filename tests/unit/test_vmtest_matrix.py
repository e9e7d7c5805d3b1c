# SPDX-License-Identifier: Apache-2.0
"""The kernel matrix: sources of kernels, choice of packages, results and the page that is made of them."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import pytest

from osmia.lang import drift

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vmtest import config, fetch, matrix, merge
from vmtest.__main__ import _again, last_line
from vmtest.problem import Problem


def test_the_machines_own_mirror_is_used() -> None:
    new_style = "Types: deb\n# http://old.example/debian\nURIs: http://mirror.example/debian\nSuites: bookworm\n"
    assert fetch.mirrors(new_style)["debian"] == "http://mirror.example/debian"
    old_style = "deb [signed-by=/x] https://a.example/debian-security/ bookworm-security main\n"
    assert fetch.mirrors(old_style)["debian-security"] == "https://a.example/debian-security"
    assert fetch.mirrors("deb https://deb.nodesource.com/node_20.x nodistro main\n") == fetch.FALLBACK


def test_versions_are_ordered_by_their_numbers() -> None:
    versions = ["5.10.9-1", "5.10.262-1", "5.10.46-5", "5.10.46-4"]
    assert sorted(versions, key=fetch.order) == ["5.10.9-1", "5.10.46-4", "5.10.46-5", "5.10.262-1"]
    assert fetch.order("6.12.117-1") > fetch.order("6.12.117-1~deb12u1")


def test_both_layouts_of_packages_are_found(tmp_path: Path) -> None:
    old = tmp_path / "old"
    (old / "boot").mkdir(parents=True)
    (old / "boot/vmlinuz-5.10.0-1-amd64").touch()
    (old / "lib/modules/5.10.0-1-amd64").mkdir(parents=True)
    image, modules, release = fetch.layout(old)
    assert (image.name, modules.is_dir(), release) == ("vmlinuz-5.10.0-1-amd64", True, "5.10.0-1-amd64")
    new = tmp_path / "new"
    (new / "usr/lib/modules/7.2.1-amd64").mkdir(parents=True)
    (new / "usr/lib/modules/7.2.1-amd64/vmlinuz").touch()
    image, modules, release = fetch.layout(new)
    assert (image.name, modules.is_dir(), release) == ("vmlinuz", True, "7.2.1-amd64")
    with pytest.raises(Problem, match="no kernel image"):
        fetch.layout(tmp_path / "none")


def record(id: str, outcome: str = "passed", why: str = "", **properties: str) -> dict[str, Any]:
    return {"id": id, "outcome": outcome, "why": why, "seconds": 1.0, "properties": list(properties.items())}


def results() -> list[dict[str, Any]]:
    old = [
        {"event": "booted", "release": "5.10.0-1-amd64"},
        record("tests/vm/a.py::one", row="hook:kprobe", how="kprobe ioctl"),
        record("tests/vm/a.py::multi", "skipped", "kprobe_multi since 5.18, this is 5.10.0"),
        record("tests/tools/test_opensnoop.py::rows"),
        record("tests/tools/test_opensnoop.py::more", "failed", "E  assert 1 == 2\nlast"),
        record("tests/kernel/d.py::state", row="drift:task_state", how="before"),
    ]
    new = [
        {"event": "booted", "release": "6.12.1-amd64"},
        record("tests/vm/a.py::one", row="hook:kprobe", how="kprobe link"),
        record("tests/vm/a.py::multi", row="hook:kprobe_multi", how="one link"),
        record("tests/vm/s.py::pid", row="surroundings:in a PID namespace:-p", how="refused: use --cgroup"),
        record("tests/kernel/d.py::state", row="drift:task_state", how="before"),
    ]
    return [merge.reduced("5.10", "plain", "5.10.1-1", old), merge.reduced("6.12", "plain", "6.12.1-1", new)]


def test_the_page_says_what_the_tests_said() -> None:
    text = matrix.text(results())
    assert "| kprobe | yes: kprobe ioctl | yes: kprobe link |" in text
    assert "| kprobe_multi | no: kprobe_multi since 5.18, this is 5.10.0 | yes: one link |" in text
    assert "| opensnoop | **fails** (1 of 2) | · |" in text
    assert "| in a PID namespace: -p | · | no: use --cgroup |" in text
    assert "| 5.10 | 5.10.0-1-amd64 (5.10.1-1) | 3 | 1 | 1 |" in text
    assert "task_state: no kernel of the matrix is on the side “since”" in text


def test_what_failed_is_run_again_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "RESULTS", tmp_path)
    booted: dict[str, Any] = {"event": "booted", "release": "6.1.0"}
    first = [booted, record("t.py::a[x]", "failed", "no"), record("t.py::b"), record("t.py::a[y]", "failed", "no")]
    merge.keep("6.1", "plain", "6.1-1", first)
    assert merge.failed("6.1", "plain") == ["t.py::a[x]", "t.py::a[y]"] and merge.failed("6.1", "lockdown") == []
    chosen = _again("6.1", config.BOOTS[0])
    assert chosen is not None and chosen.paths == ("t.py::a",)
    merge.keep("6.1", "plain", "6.1-1", [booted, record("t.py::a[x]"), record("t.py::a[y]", "skipped")], again=True)
    assert merge.failed("6.1", "plain") == [] and _again("6.1", config.BOOTS[0]) is None
    assert {id: entry["outcome"] for id, entry in merge.kept()[0]["tests"].items()} == {
        "t.py::a[x]": "passed", "t.py::a[y]": "skipped", "t.py::b": "passed",
    }  # fmt: skip
    merge.keep("6.1", "plain", "6.1-1", [booted, record("t.py::b", "failed", "no")], again=True)
    assert merge.settled("6.1", "plain") == ["t.py::a[x]", "t.py::a[y]"] and merge.settled("5.10", "plain") == []
    merge.keep("6.1", "plain", "6.1-1", [booted, record("t.py::c")], again=True, paths=["t.py"])
    assert list(merge.kept()[0]["tests"]) == ["t.py::c"]


def test_a_test_may_be_in_several_rows() -> None:
    said = [["row", "drift:one"], ["how", "before"], ["row", "drift:two"], ["how", "since"], ["other", "x"]]
    assert merge.paired(said) == [["drift:one", "before"], ["drift:two", "since"]]


def test_columns_stand_in_the_order_of_versions() -> None:
    made = [{"kernel": name, "release": release, "package": "", "tests": {}}
            for name, release in (("7.2", "7.2.1"), ("native", "6.18.44-x"), ("5.10", "5.10.0-1"))]  # fmt: skip
    assert [column.title for column in matrix.columns(made)] == ["5.10", "6.18 native", "7.2"]


def test_the_line_of_a_failure_that_says_most() -> None:
    assert last_line("def f():\n>   assert 1 == 2\nE   assert 1 == 2\n\na.py:3: AssertionError") == "assert 1 == 2"
    assert last_line("") == ""


def test_some_kernel_is_on_either_side_of_each_change() -> None:
    """Every function of the drift file was called before its change and after; one that was not says why."""
    seen: dict[str, set[str]] = {}
    for result in merge.kept():
        for entry in result["tests"].values():
            for row, how in entry.get("rows", []) if entry["outcome"] == "passed" else []:
                if row.startswith("drift:"):
                    seen.setdefault(row.removeprefix("drift:"), set()).add(how)
    for name, value in vars(drift).items():
        if inspect.isfunction(value) and value.__module__ == drift.__name__ and not name.startswith("_"):
            for side in {"before", "since"} - seen.get(name, set()):
                assert f"no kernel of the matrix is {side}" in (value.__doc__ or ""), f"{name} was not seen {side}"


def test_the_kept_page_is_current() -> None:
    """What is checked in was made from the results that are."""
    kept = merge.kept()
    assert kept, "run python3 -m vmtest"
    assert config.MATRIX.read_text() == matrix.text(kept), "run python3 -m vmtest --matrix"


def test_every_tool_has_tests_of_its_own_or_shares_them() -> None:
    files = {path.stem.removeprefix("test_") for path in (config.REPO / "tests" / "tools").glob("test_*.py")}
    shared = {tool for family, tools in config.FAMILIES.items() if family in files for tool in tools}
    assert not config.FAMILIES.keys() - files
    assert files | shared >= matrix.TOOLS


def test_a_shared_test_counts_for_the_tools_that_it_names() -> None:
    assert matrix.tools_of("opensnoop", "test_x") == ("opensnoop",)
    assert matrix.tools_of("common_options", "test_x[opensnoop]") == ()
    assert matrix.tools_of("gone", "test_names") == ("filegone", "filelife")
    assert matrix.tools_of("gone", "test_filelife_of_a_build") == ("filelife",)
    assert matrix.tools_of("fs", "test_a_sync[xfs]") == ("xfsslower", "xfsdist")
    assert matrix.tools_of("fs", "test_commands[xfsdist -m 1]") == ("xfsdist",)
