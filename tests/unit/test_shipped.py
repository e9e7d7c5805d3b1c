# SPDX-License-Identifier: Apache-2.0
"""The objects of a wheel: current, the same wherever they are made, small, and believed only while they are right."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import prebuilt
import pytest

from osmia.cli import shipped
from osmia.obj.elf import parse_object
from osmia.version import __version__

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.anywhere


@pytest.fixture(scope="module")
def package() -> Path:
    return prebuilt.installed() / "osmia"


def test_the_types_have_what_the_tools_name_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "gen_types.py", "--check"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_same_objects_wherever_they_are_made(package: Path, tmp_path: Path) -> None:
    place = tmp_path / "somewhere else"
    shutil.copytree(package.parent, place)
    subprocess.run([sys.executable, ROOT / "backend" / "make_objects.py", place, tmp_path / "out"],
                   check=True, capture_output=True)  # fmt: skip
    made = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert made == {path.name: path.read_bytes() for path in (package / "data" / "objects").iterdir()}
    whole = {name for name in made if shipped.PLAIN not in name}
    assert whole == {name + end for name in shipped.names() for end in (shipped.OBJECT, shipped.MADE)}
    plain = {name: zlib.decompress(data) if name.endswith(shipped.OBJECT) else data for name, data in made.items()}
    assert len(plain["opensnoop.plain.bpf.o.z"]) < len(plain["opensnoop.bpf.o.z"])
    for data in plain.values():
        assert str(place).encode() not in data and os.fsencode(ROOT) not in data


def test_nothing_of_a_tool_is_left_out(package: Path) -> None:
    """Hooks that only some kernels have are in the object, too."""
    spec = parse_object(zlib.decompress((package / "data" / "objects" / "memleak.bpf.o.z").read_bytes()), "memleak")
    assert {"kmalloc", "kmalloc_node", "kmem_cache_alloc_node"} <= set(spec.progs)


def test_what_is_installed_is_at_most_five_megabytes(package: Path) -> None:
    assert sum(path.stat().st_size for path in package.rglob("*") if path.is_file()) <= 5_000_000


@pytest.fixture
def copy(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one's own, in which ``shipped`` looks."""
    made = tmp_path / "osmia"
    shutil.copytree(package, made)
    monkeypatch.setattr(shipped, "_PACKAGE", str(made))
    monkeypatch.setattr(shipped, "FOLDER", str(made / "data" / "objects"))
    return made


def test_an_object_is_right_while_its_sources_are(copy: Path) -> None:
    __import__("osmia.tools.opensnoop")
    tool, object = str(copy / "tools" / "opensnoop.py"), copy / "data" / "objects" / "opensnoop.bpf.o.z"
    data, records, reason = shipped.find("opensnoop", tool)
    assert (data, reason) == (zlib.decompress(object.read_bytes()), "")
    assert ("file", tool) in records
    assert ("const", "osmia.tools.opensnoop", "O_ACCMODE", "3") in records
    with open(copy / "lang" / "filters.py", "a", encoding="utf-8") as file:
        file.write("\n")
    assert shipped.find("opensnoop", tool) == (b"", [], "osmia/lang/filters.py has changed")
    (copy / "lang" / "filters.py").unlink()
    assert shipped.find("opensnoop", tool) == (b"", [], "osmia/lang/filters.py has changed")


def test_a_run_without_filters_has_an_object_without_them(copy: Path) -> None:
    tool, folder = str(copy / "tools" / "opensnoop.py"), copy / "data" / "objects"
    plain = shipped.find("opensnoop", tool, plain=True)[0]
    whole = shipped.find("opensnoop", tool)[0]
    assert plain == zlib.decompress((folder / "opensnoop.plain.bpf.o.z").read_bytes()) != whole
    assert b"passes" not in plain and b"passes" in whole


def test_one_can_do_without(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSMIA_SHIPPED", "0")
    assert shipped.find("opensnoop", str(copy / "tools" / "opensnoop.py")) == (b"", [], "")


def test_a_constant_that_was_baked_in_has_changed(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from osmia.tools import opensnoop

    monkeypatch.setattr(opensnoop, "O_ACCMODE", 7)
    found = shipped.find("opensnoop", str(copy / "tools" / "opensnoop.py"))
    assert found == (b"", [], "osmia.tools.opensnoop.O_ACCMODE has changed")


def test_damage_another_version_and_nothing_at_all(copy: Path) -> None:
    tool, folder = str(copy / "tools" / "runqlat.py"), copy / "data" / "objects"
    object, made = folder / "runqlat.bpf.o.z", folder / "runqlat.made"
    whole, text = object.read_bytes(), made.read_text()
    object.write_bytes(whole[:-1])
    assert shipped.find("runqlat", tool) == (b"", [], "it is damaged")
    object.write_bytes(whole)
    for cut in ("", text[: len(text) // 2], text.partition("\n")[2]):
        made.write_text(cut)
        assert shipped.find("runqlat", tool) == (b"", [], "it is damaged")
    made.write_text(text.replace(f"osmia\t{__version__}", "osmia\t0.0.1", 1))
    assert shipped.find("runqlat", tool) == (b"", [], "it belongs to osmia 0.0.1")
    made.unlink()
    assert shipped.find("runqlat", tool) == (b"", [], "")
    assert shipped.find("runqlat", "/tmp/runqlat.py") == (b"", [], "")  # a file of the same name
