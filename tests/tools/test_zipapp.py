# SPDX-License-Identifier: Apache-2.0
"""osmia.pyz: one file that runs every tool, unpacked once and only into a place that nobody else can write."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from harness import REPO, Files, Tool
from patience import patient
from prebuilt import installed

from osmia.kernel import cache

pytestmark = [pytest.mark.kernel, pytest.mark.anywhere]
MAKE = [sys.executable, str(REPO / "backend" / "make_zipapp.py")]
NO_COMPILER = "raise ImportError('not installed')\n"


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive."""
    out = tmp_path_factory.mktemp("zipapp") / "osmia.pyz"
    subprocess.run([*MAKE, installed(), "-o", out], check=True, stdout=subprocess.DEVNULL)
    return out


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Neither this checkout nor a compiler can be imported."""
    (tmp_path / "none" / "llvmlite").mkdir(parents=True)
    (tmp_path / "none" / "llvmlite" / "__init__.py").write_text(NO_COMPILER)
    return {**os.environ, "PYTHONPATH": str(tmp_path / "none"), "OSMIA_CACHE": str(tmp_path / "cache")}


def run(pyz: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, pyz, *words], env=environment, capture_output=True, text=True,
                          timeout=patient(60), check=False, cwd="/")  # fmt: skip


def packages(folder: Path) -> list[str]:
    """What was unpacked there."""
    return sorted(path.name for path in folder.glob("package-*"))


def test_it_is_small_and_the_same_package_gives_the_same_file(pyz: Path, tmp_path: Path) -> None:
    assert pyz.stat().st_size < 5_000_000
    subprocess.run([*MAKE, installed(), "-o", tmp_path / "again.pyz"], check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "again.pyz").read_bytes() == pyz.read_bytes()
    assert {name.split("/")[0] for name in zipfile.ZipFile(pyz).namelist()} == {"__main__.py", "osmia"}


def test_rows_as_from_a_wheel(pyz: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """It is a program by itself; the tool's object came along, and there is no compiler."""
    pairs = [f"{name}={environment[name]}" for name in ("PYTHONPATH", "OSMIA_CACHE")]
    tool = Tool(command=["env", *pairs, str(pyz), "opensnoop", "-v", "-n", "files", "--json"])
    with tool, Files() as files:
        for number in range(23):
            files.open(tmp_path / f"no such file {number}")
    assert tool.stderr.startswith("osmia: object that came with osmia\n")
    paths = [record["path"] for record in tool.records() if "no such file" in record.get("path", "")]
    assert paths == [str(tmp_path / f"no such file {number}") for number in range(23)]


def test_it_is_unpacked_once(pyz: Path, environment: dict[str, str], tmp_path: Path) -> None:
    assert run(pyz, environment, "list").stdout == run(pyz, environment, "list").stdout != ""
    (name,) = packages(tmp_path / "cache")
    inside = tmp_path / "cache" / name
    assert inside.stat().st_mode & 0o777 == 0o700
    before = (inside / "osmia" / "version.py").stat()
    assert "Examples" in run(pyz, environment, "opensnoop", "--help").stdout.title()
    assert (inside / "osmia" / "version.py").stat() == before


def test_eight_first_starts_at_once(pyz: Path, environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, str(pyz), "--version"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = [subprocess.Popen(command, env=environment, text=True, **pipes) for _ in range(8)]  # type: ignore[call-overload]
    said = {process.communicate(timeout=patient(60)) for process in started}
    assert len(said) == 1 and next(iter(said))[0].startswith("osmia ") and next(iter(said))[1] == ""
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("how", ["writable", "another's", "a link", "not possible"])
def test_a_place_that_others_can_write_is_not_used(
    how: str, pyz: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """What lies there is not run; the package is unpacked for the one run, and gone after it."""
    cache = tmp_path / "cache"
    if how == "not possible":
        cache.write_text("a file")
    else:
        run(pyz, environment, "--version")
        (name,) = packages(cache)
        (cache / name / "osmia" / "version.py").write_text("raise SystemExit('somebody else was here')\n")
        if how == "writable":
            cache.chmod(0o777)
        elif how == "another's":
            os.chown(cache, 12345, -1)
        else:
            (cache / name).rename(tmp_path / "elsewhere")
            (cache / name).symlink_to(tmp_path / "elsewhere")
    environment["TMPDIR"] = str(tmp_path / "temporary")
    (tmp_path / "temporary").mkdir()
    done = run(pyz, environment, "--version")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("osmia ")
    end = time.monotonic() + patient(10)
    while list((tmp_path / "temporary").iterdir()) and time.monotonic() < end:
        time.sleep(0.05)
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("as_root", [True, False])
@pytest.mark.parametrize(
    "given",
    [
        {"OSMIA_CACHE": "/somewhere"}, {"XDG_CACHE_HOME": "/PLACE/xdg", "HOME": "/PLACE"}, {"HOME": "/PLACE"},
        {"XDG_CACHE_HOME": "relative", "HOME": "/PLACE"}, {"XDG_CACHE_HOME": "/no/such", "HOME": "/PLACE"},
        {"XDG_CACHE_HOME": "/PLACE/another", "HOME": "/PLACE"}, {"HOME": "/PLACE/another"}, {"HOME": "relative"}, {},
    ],
    ids=str,
)  # fmt: skip
def test_it_looks_where_everything_else_is_cached(
    given: dict[str, str], as_root: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xdg").mkdir()
    (tmp_path / "another").mkdir()
    os.chown(tmp_path / "another", 12345, -1)
    for name in ("OSMIA_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value.replace("/PLACE", str(tmp_path)))
    monkeypatch.setattr(os, "geteuid", lambda: 0 if as_root else 4321)
    source = (REPO / "backend" / "zipapp_main.py").read_text()
    space: dict[str, Any] = {}
    exec(source[: source.index("\nif sys.version_info")], space)
    assert space["places"]() == cache._candidates()


def test_no_room_is_one_sentence(pyz: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Neither the cache nor the directory for temporary files takes anything."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], check=True)
    try:
        environment.update(OSMIA_CACHE=str(small / "cache"), TMPDIR=str(small))
        done = run(pyz, environment, "list")
        assert list(small.iterdir()) in ([], [small / "cache"])
    finally:
        subprocess.run(["umount", small], check=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("osmia: the package cannot be unpacked: ") and done.stderr.count("\n") == 1
    assert "No space left on device; make room there, or set OSMIA_CACHE to a directory of your own" in done.stderr


def test_a_directory_without_objects_is_refused(tmp_path: Path) -> None:
    done = subprocess.run([*MAKE, REPO / "src", "-o", tmp_path / "x.pyz"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "there are no compiled tools in" in done.stderr
    assert not (tmp_path / "x.pyz").exists()
