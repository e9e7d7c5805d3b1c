# SPDX-License-Identifier: Apache-2.0
"""Short names of files: libraries, programs, links inside of another root, files mapped by a process."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
from pathlib import Path

import pytest

from osmia.errors import NotFound, UserError
from osmia.symbols import libs


@pytest.mark.parametrize(("file", "name", "fits"), [
    ("libc.so.6", "c", True), ("libc.so.6", "libc", True), ("libc.so.6", "libc.so", True),
    ("libc.so.6", "libc.so.6", True), ("libc-2.31.so", "c", True), ("libssl.so.3", "ssl", True),
    ("libcrypt.so.1", "c", False), ("libcurl.so.4", "c", False), ("libc.so.6", "libc.so.5", False),
    ("libc-client.so", "c", False), ("libpython3.11.so.1.0", "python3.11", True), ("libstdc++.so.6", "stdc++", True),
])  # fmt: skip
def test_names_of_libraries(file: str, name: str, fits: bool) -> None:
    assert libs._fits(file, name) is fits


def cache(entries: list[tuple[str, str, int]]) -> bytes:
    """An ld.so.cache in the new format."""
    texts, raw = b"", b""
    start = 48 + 24 * len(entries)
    for name, path, flags in entries:
        raw += struct.pack("<iIIIQ", flags, start + len(texts), start + len(texts) + len(name) + 1, 0, 0)
        texts += name.encode() + b"\0" + path.encode() + b"\0"
    return b"glibc-ld.so.cache1.1" + struct.pack("<II20x", len(entries), len(texts)) + raw + texts


def test_the_linkers_cache(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    flags = libs._FLAGS.get(os.uname().machine, 3)
    raw = cache([("libc.so.6", "/lib/libc.so.6", flags), ("libc.so.6", "/lib32/libc.so.6", 3 | 0x800),
                 ("libcrypt.so.1", "/lib/libcrypt.so.1", flags)])  # fmt: skip
    (tmp_path / "etc" / "ld.so.cache").write_bytes(raw)
    assert list(libs._cached(str(tmp_path), "c")) == [("libc.so.6", "/lib/libc.so.6")]
    # glibc also writes the new format behind the old one
    (tmp_path / "etc" / "ld.so.cache").write_bytes(b"ld.so-1.7.0\0" + bytes(20) + raw)
    assert list(libs._cached(str(tmp_path), "c")) == [("libc.so.6", "/lib/libc.so.6")]
    for cut in range(0, len(raw), 7):
        (tmp_path / "etc" / "ld.so.cache").write_bytes(raw[:cut] + bytes(8) if cut > 28 else raw[:cut])
        try:
            list(libs._cached(str(tmp_path), "c"))
        except struct.error:
            pytest.fail(f"a cache of {cut} bytes")


def test_links_are_followed_inside_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr" / "lib").mkdir(parents=True)
    (root / "usr" / "lib" / "libx.so.1.0").write_text("")
    (root / "lib").symlink_to("/usr/lib")
    (root / "usr" / "lib" / "libx.so.1").symlink_to("libx.so.1.0")
    (root / "usr" / "lib" / "up").symlink_to("../../../../lib/libx.so.1")
    assert libs.within(str(root), "/lib/libx.so.1") == "/usr/lib/libx.so.1.0"
    assert libs.within(str(root), "/lib/up") == "/usr/lib/libx.so.1.0"
    assert libs.within(str(root), "/absent/file") == "/absent/file"
    (root / "round").symlink_to("/round")
    with pytest.raises(UserError, match="too many links"):
        libs.within(str(root), "/round/x")


def test_programs_on_path_come_before_libraries_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "curl"
    program.write_text("")
    monkeypatch.setenv("PATH", f"relative:{tmp_path}")
    assert libs.find("curl").path == str(program)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(NotFound, match="no library or program no-such-thing"):
        libs.find("no-such-thing")
    with pytest.raises(UserError, match="is not said"):
        libs.find("")
    if os.path.isdir("/proc/self"):
        with pytest.raises(NotFound, match="there is no process 4194304"):
            libs.find("c", 4194304)


@pytest.mark.skipif(not os.path.isdir("/proc/self/map_files"), reason="needs /proc")
def test_a_process_is_asked_for_what_it_has(tmp_path: Path) -> None:
    me = os.getpid()
    assert os.path.samefile(libs.find("", me).path, sys.executable)
    mapped = libs.find("c", me)
    handle = ctypes.CDLL(None)
    assert handle and os.path.basename(mapped.name).startswith("libc")
    assert libs.root_of(me) == ""
    with open(tmp_path / "gone", "w+b") as file:
        file.truncate(mmap.PAGESIZE)
        code = mmap.mmap(file.fileno(), mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_EXEC)
        os.unlink(tmp_path / "gone")
        [one] = [m for m in libs.mappings(me) if m.path.startswith(str(tmp_path))]
        assert one.path.endswith(" (deleted)")
        assert libs.opened_through(me, one) == f"/proc/{me}/map_files/{one.start:x}-{one.end:x}"
        code.close()
