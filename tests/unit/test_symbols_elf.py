# SPDX-License-Identifier: Apache-2.0
"""Functions in ELF files: names, versions, patterns, stripped files, and files that lie."""

from __future__ import annotations

import contextlib
import lzma
import os
import random
import struct
import zlib
from pathlib import Path

import elf_maker
import pytest
from elf_maker import CODE_ADDRESS, CODE_OFFSET, IFUNC, LOCAL, OBJECT, WEAK, Maker

from osmia.errors import NotFound, NotSupported, OsmiaError, UserError
from osmia.symbols import debugfile, elf_syms, usdt
from osmia.symbols.elf_syms import Symbols
from osmia.symbols.image import Image


def opened(tmp_path: Path, maker: Maker, name: str = "file") -> tuple[Image, Symbols]:
    path = tmp_path / name
    path.write_bytes(maker.bytes())
    image = Image(str(path))
    return image, Symbols(image)


def sample() -> Maker:
    maker = Maker()
    maker.symbol("pread", 0x100)
    maker.symbol("read", 0x120)  # stored as the end of "pread"
    maker.symbol("__read", 0x120, bind=WEAK)
    maker.symbol("hidden", 0x140, bind=LOCAL)
    maker.symbol("variable", 0x200, kind=OBJECT)
    maker.symbol("strchoice", 0x300, kind=IFUNC)
    maker.symbol("strange", 0x340, size=0)
    maker.symbol("nowhere", 0x9000)  # beyond the code segment
    return maker


def test_a_name_is_found_wherever_the_linker_put_it(tmp_path: Path) -> None:
    image, symbols = opened(tmp_path, sample())
    assert elf_syms.find(image, symbols, "read") == [(CODE_OFFSET + 0x120, "read", "")]
    assert elf_syms.find(image, symbols, "pread") == [(CODE_OFFSET + 0x100, "pread", "")]
    assert elf_syms.find(image, symbols, "hidden") == [(CODE_OFFSET + 0x140, "hidden", "")]
    assert elf_syms.find(image, symbols, "strange") == [(CODE_OFFSET + 0x340, "strange", "")]


def test_what_is_no_function_is_not_found(tmp_path: Path) -> None:
    image, symbols = opened(tmp_path, sample())
    for name in ("variable", "nowhere", "ead", "readx", ""):
        with pytest.raises(NotFound):
            elf_syms.find(image, symbols, name)
    with pytest.raises(NotFound, match="did you mean hidden"):
        elf_syms.find(image, symbols, "hiden")


def test_patterns_give_each_place_once(tmp_path: Path) -> None:
    image, symbols = opened(tmp_path, sample())
    names = [name for _, name, _ in elf_syms.find(image, symbols, "*")]
    assert names == ["pread", "read", "hidden", "strange"]  # neither the alias nor the indirect one
    assert [name for _, name, _ in elf_syms.find(image, symbols, "?read")] == ["pread"]
    assert [name for _, name, _ in elf_syms.find(image, symbols, "[hs]*")] == ["hidden", "strange"]
    with pytest.raises(NotFound, match=r"no function matches x\*"):
        elf_syms.find(image, symbols, "x*")


def test_offsets_are_held_against_the_function(tmp_path: Path) -> None:
    image, symbols = opened(tmp_path, sample())
    [(offset, name, warning)] = elf_syms.find(image, symbols, "pread+4")
    assert (offset, name) == (CODE_OFFSET + 0x104, "pread+4") and "start of an instruction" in warning
    assert elf_syms.find(image, symbols, "pread+0") == [(CODE_OFFSET + 0x100, "pread", "")]
    assert elf_syms.find(image, symbols, f"{CODE_ADDRESS + 0x100:#x}") == [(CODE_OFFSET + 0x100, "pread", "")]
    [(offset, _, warning)] = elf_syms.find(image, symbols, str(CODE_ADDRESS + 0x108))
    assert offset == CODE_OFFSET + 0x108 and "pread+8" in warning
    [(_, _, warning)] = elf_syms.find(image, symbols, hex(CODE_ADDRESS + 0x800))
    assert "no known function" in warning
    for wrong in ("pread+16", "pread+x", "pread+-1", "strange+1", "0x10", hex(elf_maker.DATA_ADDRESS), "12z"):
        with pytest.raises(UserError):
            elf_syms.find(image, symbols, wrong)


def test_an_indirect_function_of_a_file_that_nobody_runs_is_refused(tmp_path: Path) -> None:
    image, symbols = opened(tmp_path, sample())
    with pytest.raises(UserError, match="chosen by CPU"):
        elf_syms.find(image, symbols, "strchoice")


def versioned() -> Maker:
    """Two versions of one function, the older one hidden."""
    maker = Maker()
    maker.symbol("copy", 0x100, table=".dynsym")
    maker.symbol("copy", 0x200, table=".dynsym")
    maker.symbol("GLIBC_2.2.5", 0, kind=OBJECT, table=".dynsym")  # only for their names
    maker.symbol("GLIBC_2.14", 0, kind=OBJECT, table=".dynsym")
    maker.section(".gnu.version", struct.pack("<5H", 0, 0x8002, 3, 0, 0), 0x6FFFFFFF)
    names = elf_maker._table(maker.symbols[".dynsym"])[1]
    raw = b""
    for number, version in ((2, b"GLIBC_2.2.5"), (3, b"GLIBC_2.14")):
        raw += struct.pack("<HHHHIII", 1, 0, number, 1, 0, 20, 28 if number == 2 else 0)
        raw += struct.pack("<II", names.index(version + b"\0"), 0)
    maker.section(".gnu.version_d", raw, 0x6FFFFFFD, info=2)
    return maker


def test_of_several_versions_the_default_unless_one_is_named(tmp_path: Path) -> None:
    image, symbols = opened(tmp_path, versioned())
    assert elf_syms.find(image, symbols, "copy")[0][0] == CODE_OFFSET + 0x200
    assert elf_syms.find(image, symbols, "copy@GLIBC_2.2.5")[0][0] == CODE_OFFSET + 0x100
    assert elf_syms.find(image, symbols, "copy@@GLIBC_2.14")[0][0] == CODE_OFFSET + 0x200
    with pytest.raises(NotFound):
        elf_syms.find(image, symbols, "copy@GLIBC_3")


def test_symbols_of_stripped_files(tmp_path: Path) -> None:
    """The packed table inside of the file (Fedora), or the file of a debug package by its checksum or build id."""
    full = Maker()
    full.symbol("secret", 0x180, bind=LOCAL)
    mini = Maker()
    mini.section(".gnu_debugdata", lzma.compress(full.bytes()))
    image, symbols = opened(tmp_path, mini, "mini")
    assert elf_syms.find(image, symbols, "secret") == [(CODE_OFFSET + 0x180, "secret", "")]

    raw = full.bytes()
    (tmp_path / "away.debug").write_bytes(raw)
    linked = Maker()
    linked.section(".gnu_debuglink", b"away.debug\0\0" + struct.pack("<I", zlib.crc32(raw)))
    image, symbols = opened(tmp_path, linked, "linked")
    assert elf_syms.find(image, symbols, "secr*") == [(CODE_OFFSET + 0x180, "secret", "")]

    (tmp_path / "away.debug").write_bytes(raw + b"\0")  # another build's
    image, symbols = opened(tmp_path, linked, "linked")
    with pytest.raises(NotFound, match="stripped: install its debug symbols"):
        elf_syms.find(image, symbols, "secret")


def test_a_debug_package_by_build_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debugfile, "ROOT", str(tmp_path / "debug"))
    id = bytes(range(20))
    full = Maker()
    full.symbol("secret", 0x180)
    full.note(".note.gnu.build-id", b"GNU", 3, id)
    place = tmp_path / "debug" / ".build-id" / "00"
    place.mkdir(parents=True)
    (place / f"{id.hex()[2:]}.debug").write_bytes(full.bytes())
    stripped = Maker()
    stripped.note(".note.gnu.build-id", b"GNU", 3, id)
    image, symbols = opened(tmp_path, stripped)
    assert image.build_id() == id.hex()
    assert elf_syms.find(image, symbols, "secret")[0][0] == CODE_OFFSET + 0x180


def test_damaged_packed_tables_are_as_good_as_none(tmp_path: Path) -> None:
    maker = Maker()
    maker.section(".gnu_debugdata", lzma.compress(b"no ELF file at all"))
    assert debugfile.minidebug(opened(tmp_path, maker)[0]) is None
    maker = Maker()
    maker.section(".gnu_debugdata", b"\xfd7zXZ\0 rubbish")
    assert debugfile.minidebug(opened(tmp_path, maker)[0]) is None


def test_go_programs_are_recognised(tmp_path: Path) -> None:
    assert not opened(tmp_path, sample())[0].is_go()
    maker = Maker()
    maker.section(".go.buildinfo", b"\xff Go buildinf:")
    assert opened(tmp_path, maker)[0].is_go()
    maker = Maker()
    maker.note(".note.any", b"Go", 4, b"build id")
    assert opened(tmp_path, maker)[0].is_go()


def test_what_is_no_program(tmp_path: Path) -> None:
    for name, raw, error in (
        ("empty", b"", UserError), ("text", b"#!/bin/sh\n" * 20, UserError), ("cut", b"\x7fELF\x02\x01", UserError),
        ("32", b"\x7fELF\x01\x01" + bytes(100), NotSupported), ("big", b"\x7fELF\x02\x02" + bytes(100), NotSupported),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(error):
            Image(str(tmp_path / name))
    with pytest.raises(NotFound):
        Image(str(tmp_path / "absent"))
    with pytest.raises(UserError, match="not a program"):
        Image(str(tmp_path))


def test_files_that_lie_give_errors_and_not_exceptions(tmp_path: Path) -> None:
    """Every single byte of headers, and random bytes anywhere, may be wrong."""
    maker = sample()
    maker.probe("a", "b", "4@%eax", 0x20, semaphore=8)
    maker.symbol("dynamic", 0x400, table=".dynsym")
    raw = maker.bytes()
    chance = random.Random(7)
    places = list(range(16, 64 + 112)) + list(range(len(raw) - 64 * 8, len(raw)))
    path = tmp_path / "file"
    for round in range(1200):
        bad = bytearray(raw)
        for at in [chance.choice(places)] + [chance.randrange(len(raw)) for _ in range(round % 3)]:
            bad[at] = chance.randrange(256)
        path.write_bytes(bad[: chance.randrange(len(bad))] if round % 10 == 0 else bad)
        try:
            with Image(str(path)) as image:
                symbols = Symbols(image)
                for name in ("read", "*", "0x401100"):
                    with contextlib.suppress(UserError):
                        elf_syms.find(image, symbols, name)
                usdt.sites(image)
                image.build_id()
        except OsmiaError:
            continue


def test_a_closed_image_lets_go_of_its_file(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    image, symbols = opened(tmp_path, sample())
    elf_syms.find(image, symbols, "*")
    image.close()
    image.close()
    del symbols  # the last to look at the mapping
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
