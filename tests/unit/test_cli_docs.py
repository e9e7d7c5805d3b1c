# SPDX-License-Identifier: Apache-2.0
"""The documentation is complete and everything derived from it current."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from osmia.cli import catalog

ROOT = Path(__file__).resolve().parents[2]


def gen_man() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_man", ROOT / "scripts" / "gen_man.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_tool_is_documented_and_every_document_has_its_tool() -> None:
    assert sorted(path.stem for path in (ROOT / "docs" / "tools").glob("*.md")) == catalog.names()


def test_commands_with_a_page() -> None:
    for path in (ROOT / "docs" / "commands").glob("*.md"):
        assert path.stem in catalog.COMMANDS
        headings = [heading for heading, _ in gen_man().sections(path.read_text(encoding="utf-8"))]
        assert headings[1] == "Description" and headings[-1] == "Examples"
        page = (ROOT / "docs" / "man" / f"osmia-{path.stem}.8").read_text(encoding="utf-8")
        assert ".SH OPTIONS" in page and ".SH EXIT STATUS" in page


@pytest.mark.parametrize("name", catalog.names())
def test_a_document_has_its_sections(name: str) -> None:
    text = (ROOT / "docs" / "tools" / f"{name}.md").read_text(encoding="utf-8")
    headings = [heading for heading, _ in gen_man().sections(text)]
    for wanted in ("Description", "Options", "Fields", "Overhead", "Caveats", "Examples"):
        assert wanted in headings


def test_what_is_derived_is_current() -> None:
    for path, text in gen_man().made().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run scripts/gen_man.py"


def test_markdown_to_troff() -> None:
    module = gen_man()
    text = "\n".join([
        "A *word*, `code -x`, **bold**, a [link](there).", "", ".dot first", "", "- one", "  more", "- two", "",
        "```console", "# osmia x", ".hidden", "a\\b", "```", "", "### Part", "",
        "| a | b |", "|---|---|", "| `-x` | y |",
    ])  # fmt: skip
    assert module.body(text.splitlines()) == [
        ".PP", "A \\fIword\\fR, \\fBcode \\-x\\fR, \\fBbold\\fR, a link.",
        ".PP", "\\&.dot first",
        ".IP \\(bu 2", "one", "more", ".IP \\(bu 2", "two",
        ".PP", ".RS 4", ".nf", "# osmia x", "\\&.hidden", "a\\eb", ".fi", ".RE",
        ".SS Part", ".TP", "\\fB\\-x\\fR", "y",
    ]  # fmt: skip


def test_examples_for_help() -> None:
    text = "\n".join([
        "# tool", "", "## Examples", "", "Only what `failed`. More words.", "", "```console", "# osmia tool -x", "out",
        "```", "", "As JSON:", "", "```console", "$ sudo osmia tool --json", "{}", "```", "", "Again.", "",
        "```console", "# osmia tool -x", "```",
    ])  # fmt: skip
    assert gen_man().help_text("tool", text) == (
        "  osmia tool -x\n      Only what failed\n  osmia tool --json\n      As JSON\n"
    )


@pytest.mark.parametrize("name", catalog.names())
def test_man_pages_have_no_troff_mistakes(name: str) -> None:
    groff = shutil.which("groff")
    page = ROOT / "docs" / "man" / f"osmia-{name}.8"
    text = page.read_text(encoding="utf-8")
    assert text.startswith('.\\" Generated')
    assert f".SH NAME\nosmia\\-{name} \\- " in text
    if groff is not None:  # a check more where it is installed; the text is tested above
        done = subprocess.run([groff, "-man", "-ww", "-z", "-K", "utf8", str(page)], capture_output=True, text=True,
                              check=False)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
