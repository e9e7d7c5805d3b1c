# SPDX-License-Identifier: Apache-2.0
"""The cache believes only its own files, and its absence is never an error."""

from __future__ import annotations

import errno
import os
import pathlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osmia.kernel import cache


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    path = tmp_path / "cache"
    monkeypatch.setenv("OSMIA_CACHE", str(path))
    return path


def pieces(name: str) -> bytes | None:
    """What :func:`cache.opened` gives, read in pieces."""
    entry = cache.opened(name)
    return None if entry is None else b"".join([entry.read(at, 1000) for at in range(0, entry.size, 1000)])


def test_what_is_written_is_read(folder: pathlib.Path) -> None:
    assert cache.read("a.obj") is None
    for data in (b"", b"x", bytes(range(256)) * 5000):
        assert cache.write("a.obj", data) is None
        assert cache.read("a.obj") == data == pieces("a.obj")
    assert os.listdir(folder) == ["a.obj"]
    assert folder.stat().st_mode & 0o777 == 0o700 and (folder / "a.obj").stat().st_mode & 0o777 == 0o600
    assert cache.location() == (str(folder), "")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=200), at=st.integers(0, 10_000), bit=st.integers(0, 7), cut=st.integers(1, 10_000))
def test_damage_is_found(folder: pathlib.Path, data: bytes, at: int, bit: int, cut: int) -> None:
    assert cache.write("x", data) is None
    file = folder / "x"
    whole = bytearray(file.read_bytes())
    flipped = bytearray(whole)
    flipped[at % len(whole)] ^= 1 << bit
    file.write_bytes(flipped)
    assert cache.read("x") is None is pieces("x")
    file.write_bytes(whole[: -(cut % len(whole)) or None][: len(whole) - 1])
    assert cache.read("x") is None is pieces("x")
    file.write_bytes(whole + b"\0")
    assert cache.read("x") is None is pieces("x")
    file.write_bytes(whole)
    assert cache.read("x") == data == pieces("x")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_files_writable_by_others_are_not_believed(folder: pathlib.Path, mode: int) -> None:
    cache.write("x", b"data")
    (folder / "x").chmod(mode)
    assert cache.read("x") is None is pieces("x")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_folders_writable_by_others_are_not_used(folder: pathlib.Path, mode: int) -> None:
    cache.write("x", b"data")
    folder.chmod(mode)
    assert cache.read("x") is None
    assert "writable by others" in (cache.write("x", b"other") or "")
    assert cache.location()[0] is None


def test_other_users_files_are_not_believed(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write("x", b"data")
    held = cache.opened("x")
    assert cache.write("x", b"more") is None and held is not None and held.read(1, 9) == b"ata"  # the old file
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    assert cache.read("x") is None is pieces("x")
    assert "belongs to user" in (cache.write("x", b"other") or "")


def test_links_are_not_followed(folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write("x", b"data")
    (folder / "link").symlink_to("x")
    assert cache.read("link") is None
    other = tmp_path / "other"
    other.symlink_to(folder)
    monkeypatch.setenv("OSMIA_CACHE", str(other))
    assert cache.read("x") is None
    assert cache.write("x", b"changed")
    assert cache.write("link", b"replaced")


def test_a_link_is_replaced_not_written_through(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    cache.write("y", b"")
    (folder / "x").symlink_to(victim)
    assert cache.write("x", b"data") is None
    assert victim.read_bytes() == b"precious" and cache.read("x") == b"data"


def test_pipes_do_not_hang(folder: pathlib.Path) -> None:
    cache.write("x", b"")
    os.mkfifo(folder / "pipe", 0o600)
    assert cache.read("pipe") is None


def test_full_disk_leaves_nothing_behind(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write("x", b"old")

    def full(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert "No space left" in (cache.write("x", b"new") or "")
    monkeypatch.undo()
    assert os.listdir(folder) == ["x"]


def test_unwritable_places_give_a_reason(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OSMIA_CACHE", str(tmp_path / "file" / "below"))
    assert "Not a directory" in (cache.write("x", b"") or "")
    assert cache.read("x") is None


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OSMIA_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cache.read("x") is None
    assert "HOME" in (cache.write("x", b"") or "")


def test_where_it_is(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSMIA_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cache._candidates() == ["/home/someone/.cache/osmia"]
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache._candidates() == ["/xdg/osmia"]
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache._candidates() == ["/home/someone/.cache/osmia"]


def test_root_leaves_a_users_home_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """sudo may keep HOME."""
    monkeypatch.delenv("OSMIA_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(cache, "_owner", lambda path: 1000)
    assert cache._candidates() == ["/var/cache/osmia"]
    monkeypatch.setattr(cache, "_owner", lambda path: 0)
    assert cache._candidates() == ["/home/someone/.cache/osmia", "/var/cache/osmia"]


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a\0b", "ü", "a b"])
def test_names_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(ValueError, match="not a cache entry"):
        cache.read(name)
    with pytest.raises(ValueError, match="not a cache entry"):
        cache.write(name, b"")
