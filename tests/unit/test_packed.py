# SPDX-License-Identifier: Apache-2.0
"""All modules in one file: found there, but only while the sources are what was packed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from osmia import packed

SRC = Path(packed.__file__).parent


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A directory with a copy of the package, its pack, and the launcher ``osmia``."""
    shutil.copytree(SRC, tmp_path / "osmia", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "osmia.packed", tmp_path / "osmia.sh"], cwd=tmp_path, check=True,
                   env={**os.environ, "PYTHONPATH": str(tmp_path)})  # fmt: skip
    return tmp_path


def launch(installed: Path, code: str) -> str:
    """What the launcher's Python prints when it runs ``code`` where the launcher starts osmia."""
    head, _, _ = (installed / "osmia.sh").read_text().partition("from osmia.cli.main")
    (installed / "try.py").write_text(head + code)
    done = subprocess.run([sys.executable, "-S", installed / "try.py"], capture_output=True, text=True, check=False,
                          env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


LOADERS = """
import sys
import osmia.cli.main, osmia.version
import osmia.tools.opensnoop
for name, module in sorted(sys.modules.items()):
    if name.partition(".")[0] == "osmia":
        print(name, type(module.__loader__).__name__, module.__file__, module.__package__)
print("version", osmia.version.__version__)
"""


def test_modules_come_from_the_pack(installed: Path) -> None:
    rows = {row.split()[0]: row.split()[1:] for row in launch(installed, LOADERS).splitlines()}
    assert rows.pop("version")
    assert len(rows) > 20
    assert {row[0] for row in rows.values()} == {"Finder"}
    assert rows["osmia"][1:] == [str(installed / "osmia" / "__init__.py"), "osmia"]
    assert rows["osmia.tools.opensnoop"][1:] == [str(installed / "osmia" / "tools" / "opensnoop.py"), "osmia.tools"]


def test_what_has_changed_is_imported_in_the_ordinary_way(installed: Path) -> None:
    with open(installed / "osmia" / "version.py", "a", encoding="utf-8") as source:
        source.write('\n__version__ = "mine"\n')
    (installed / "osmia" / "tools" / "opensnoop.py").unlink()
    code = LOADERS.replace("import osmia.tools.opensnoop", "")
    rows = {row.split()[0]: row.split()[1:] for row in launch(installed, code).splitlines()}
    assert rows["version"] == ["mine"]
    assert rows["osmia.version"][0] == "SourceFileLoader"
    assert rows["osmia.cli.main"][0] == "Finder"
    gone = "import osmia\ntry:\n    import osmia.tools.opensnoop\nexcept ImportError as err:\n    print(err)"
    assert launch(installed, gone) == "No module named 'osmia.tools.opensnoop'\n"


@pytest.mark.parametrize("size", [0, 100, 50_000, None])
def test_without_a_whole_pack_it_is_slower_and_no_worse(installed: Path, size: int | None) -> None:
    pack = Path(packed.stem(str(installed / "osmia")) % sys.implementation.cache_tag)
    if size is None:
        pack.unlink()
    else:
        os.truncate(pack, size)
    assert "osmia.cli.main SourceFileLoader" in launch(installed, LOADERS)


def test_the_launcher_runs_tools(installed: Path) -> None:
    shown = subprocess.run([installed / "osmia.sh", "opensnoop", "--help"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("usage: osmia opensnoop")
    (installed / "mine.py").write_text("import sys\nprint('site' in sys.modules, sys.prefix)\n")
    own = subprocess.run([installed / "osmia.sh", "run", "mine.py"], cwd=installed, capture_output=True, text=True,
                         check=False)  # fmt: skip
    assert own.stdout.split() == ["True", sys.prefix]  # a user's file sees what plain Python would show it


def test_no_launcher_where_a_script_cannot_name_the_interpreter() -> None:
    assert packed.launcher("/usr/lib/osmia", "/home/a b/bin/python") == ""
    assert packed.launcher("/usr/lib/osmia", "/" + "x" * 300) == ""
    assert packed.launcher("/usr/lib/osmia", "/usr/bin/python3").startswith("#!/usr/bin/python3 -S\n")
