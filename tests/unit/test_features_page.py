# SPDX-License-Identifier: Apache-2.0
"""Every row of docs/features.md has a test that names it, and the page says what these tests did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vmtest import features

ROOT = Path(__file__).resolve().parents[2]


def test_every_row_has_a_test_and_every_mark_a_row() -> None:
    assert features.problems(features.named()) == []


def test_the_list_of_what_there_is_to_offer_is_whole() -> None:
    """Numbers are those of the list; what is on other pages (symbols) has no row here."""
    numbers = {row.partition(" ")[0] for row in features.all_rows()}
    elsewhere = {"B8", "B9"}
    wanted = {f"A{n}" for n in range(1, 22)} | {f"B{n}" for n in range(1, 20)} - elsewhere
    assert {n for n in numbers if n[0] in "AB"} == wanted
    assert len(features.all_rows()) == len(set(features.all_rows()))


def test_the_page_is_current() -> None:
    assert features.PAGE.read_text(encoding="utf-8") == features.text(), "run scripts/gen_features.py"


SOURCE = """
import pytest
pytestmark = [pytest.mark.kernel, pytest.mark.feature("A19 iterators")]

@pytest.mark.feature("A3 tracepoints", only="on_enter")
@pytest.mark.parametrize("way", ["on_enter", "on_raw"])
def test_one(way): ...

@pytest.mark.feature("A21 XDP", "A21 tc")
def test_two(): ...

@pytest.mark.feature("A99 nothing")
def helper(): ...
"""


@pytest.fixture
def found(tmp_path: Path) -> features.Named:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / "test_it.py").write_text(SOURCE)
    return features.named(tmp_path)


def test_marks_are_read_from_the_source(found: features.Named) -> None:
    one, two = "tests/kernel/test_it.py::test_one", "tests/kernel/test_it.py::test_two"
    assert found == {
        "A19 iterators": [(one, ""), (two, "")], "A3 tracepoints": [(one, "on_enter")], "A21 XDP": [(two, "")],
        "A21 tc": [(two, "")],
    }  # fmt: skip


def test_what_is_missing_is_said(found: features.Named) -> None:
    found["A3 trapcepoints"] = [("tests/a.py::test_b", "")]
    said = features.problems(found)
    assert "no test names the row 'A1 kernel functions: kprobe, kretprobe'" in said
    assert said[-1] == "tests/a.py::test_b names 'A3 trapcepoints', which is no row"
    assert not any("iterators" in line for line in said)


ONE = "tests/kernel/test_it.py::test_one"


@pytest.mark.parametrize(("results", "tests", "wanted"), [
    ({f"{ONE}[on_enter]": "passed", f"{ONE}[on_raw]": "failed"}, [(ONE, "on_enter")], "yes"),
    ({f"{ONE}[on_enter]": "passed", f"{ONE}[on_raw]": "failed"}, [(ONE, "")], "**fails** (1 of 2)"),
    ({f"{ONE}[xdp]": "passed", f"{ONE}[native-xdp]": "failed"}, [(ONE, "[xdp")], "yes"),
    ({ONE: "passed", f"{ONE}_more": "failed"}, [(ONE, "")], "yes"),
    ({f"{ONE}[1]": "passed", f"{ONE}[2]": "skipped"}, [(ONE, "")], "some"),
    ({f"{ONE}[1]": "skipped"}, [(ONE, "")], "no: since 6.6"),
    ({}, [(ONE, "")], "·"),
    ({}, [("tests/unit/test_a.py::test_b", "")], "any"),
])  # fmt: skip
def test_a_cell(results: dict[str, str], tests: list[tuple[str, str]], wanted: str) -> None:
    made = {id: {"outcome": outcome, **({"why": "since 6.6"} if outcome == "skipped" else {})}
            for id, outcome in results.items()}  # fmt: skip
    assert features.cell(tests, made) == wanted


def test_the_script_notices_a_page_that_is_not_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "gen_features.py")]
    assert subprocess.run([*command, "--check"], check=False).returncode == 0
    assert subprocess.run([*command, "--wrong"], capture_output=True, check=False).returncode == 2
    monkeypatch.setattr(features, "PAGE", tmp_path / "features.md")
    features.write()
    assert features.PAGE.read_text(encoding="utf-8") == features.text()
