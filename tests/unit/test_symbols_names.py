# SPDX-License-Identifier: Apache-2.0
"""Addresses to names: the right function, or none."""

from __future__ import annotations

import bisect
import random
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import elf_maker
import prebuilt
import pytest
from elf_maker import CODE_ADDRESS, DATA_ADDRESS, IFUNC, LOCAL, OBJECT, WEAK, Maker

from osmia.errors import UserError
from osmia.symbols import debugfile, demangle, spans
from osmia.symbols.elf_names import Names
from osmia.symbols.frame import JIT, KERNEL, UNKNOWN, USER, Frame
from osmia.symbols.image import Image
from osmia.symbols.store import Store
from osmia.symbols.symbolizer import Symbolizer


def names(tmp_path: Path, maker: Maker, name: str = "file") -> Names:
    path = tmp_path / name
    path.write_bytes(maker.bytes())
    return Names(Image(str(path)))


def at(known: Names, offset: int) -> tuple[str, int] | None:
    """The function at an offset in the code segment, and where that begins, as an offset too."""
    found = known.at(CODE_ADDRESS + offset)
    return (found[0], found[1] - CODE_ADDRESS) if found else None


# --- ranges -------------------------------------------------------------------------------------------------------


def test_a_function_ends_where_its_size_says(tmp_path: Path) -> None:
    maker = Maker()
    maker.symbol("first", 0x100, 0x20)
    maker.symbol("second", 0x140, 0x20)
    known = names(tmp_path, maker)
    assert at(known, 0xFF) is None
    assert at(known, 0x100) == ("first", 0x100) == at(known, 0x11F)
    assert at(known, 0x120) is None is at(known, 0x13F)  # not "first", though nothing else is near
    assert at(known, 0x140) == ("second", 0x140)
    assert at(known, 0x160) is None is at(known, 0xF000)


def test_of_nested_functions_the_inner_one(tmp_path: Path) -> None:
    maker = Maker()
    maker.symbol("outer", 0x100, 0x100)
    maker.symbol("inner", 0x120, 0x10)
    maker.symbol("crossing", 0x1F0, 0x20)
    known = names(tmp_path, maker)
    assert at(known, 0x11F) == ("outer", 0x100) == at(known, 0x130) == at(known, 0x1EF)
    assert at(known, 0x120) == ("inner", 0x120) == at(known, 0x12F)
    assert at(known, 0x1F0) == ("crossing", 0x1F0) == at(known, 0x20F)


def test_of_several_names_the_one_that_people_use(tmp_path: Path) -> None:
    maker = Maker()
    maker.symbol("__weak_name", 0x100, bind=WEAK)
    maker.symbol("__libc_malloc", 0x100)
    maker.symbol("malloc", 0x100)
    maker.symbol("a_local", 0x100, bind=LOCAL)
    maker.symbol("copy@@GLIBC_2.14", 0x140)
    maker.symbol("chosen", 0x180, kind=IFUNC)
    known = names(tmp_path, maker)
    assert at(known, 0x104) == ("malloc", 0x100)
    assert at(known, 0x144) == ("copy", 0x140)
    assert at(known, 0x184) == ("chosen", 0x180)


def test_what_is_no_function_gives_no_name(tmp_path: Path) -> None:
    maker = Maker()
    maker.symbol("variable", 0x100, 0x100, kind=OBJECT)
    maker.symbol("huge", 0x200, (1 << 64) - 1)  # a size that nothing can have
    known = names(tmp_path, maker)
    assert at(known, 0x110) is None is at(known, 0x210)
    assert known.at(DATA_ADDRESS) is None is known.at(0) is known.at((1 << 64) - 1)


def assembled(*, local: bool) -> Maker:
    """Symbols without sizes, in a section of 0x400 bytes at the begin of the code."""
    maker = Maker()
    maker.symbol("sized", 0x100, 0x20)
    maker.symbol("label_inside", 0x110, 0, kind=0)
    maker.symbol("plain", 0x180, 0)
    maker.symbol("data_behind", 0x1C0, 8, kind=OBJECT)
    maker.symbol("last", 0x300, 0, kind=0)
    if local:
        maker.symbol("a_static", 0x40, 0x10, bind=LOCAL)
    return maker


def with_text_section(maker: Maker) -> bytes:
    """Make the first section of the file, which all symbols name, code at CODE_ADDRESS."""
    maker.sections.insert(0, (".text", 1, b"\x90" * 0x400, CODE_ADDRESS, 0))
    raw = bytearray(maker.bytes())
    (sections,) = struct.unpack_from("<Q", raw, 40)
    struct.pack_into("<Q", raw, sections + 64 + 8, 2 | 4)  # allocated, executable
    struct.pack_into("<Q", raw, sections + 64 + 16, CODE_ADDRESS)
    return bytes(raw)


def test_assembly_without_sizes_reaches_to_the_next_symbol(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(with_text_section(assembled(local=True)))
    known = Names(Image(str(tmp_path / "file")))
    assert at(known, 0x112) == ("sized", 0x100)  # a label is no function
    assert at(known, 0x180) == ("plain", 0x180) == at(known, 0x1BF)
    assert at(known, 0x1C0) is None
    assert at(known, 0x3FF) == ("last", 0x300)  # the section's last byte
    assert at(known, 0x400) is None is at(known, 0x17F)


def test_without_local_symbols_nobody_knows_how_far_it_reaches(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(with_text_section(assembled(local=False)))
    known = Names(Image(str(tmp_path / "file")))
    assert at(known, 0x104) == ("sized", 0x100)
    assert at(known, 0x184) is None is at(known, 0x304)


def test_ranges_agree_with_a_plain_search() -> None:
    """Random nested, crossing and equal ranges: at each address the one that begins last, of these the shortest."""
    chance = random.Random(4)
    for _ in range(60):
        rows = []
        for number in range(chance.randrange(1, 25)):
            start = chance.randrange(1, 200)
            rows.append((start, -(start + chance.randrange(1, 60)), chance.randrange(3), number))
        made = spans.of_rows(rows)
        assert list(made.starts) == sorted(made.starts)
        for address in range(270):
            covering = [row for row in rows if row[0] <= address < -row[1]]
            n = made.at(address)
            if not covering:
                assert n < 0
                continue
            best = max(covering, key=lambda row: (row[0], row[1], -row[2], -row[3]))
            first = max(row[0] for row in covering)
            assert made.firsts[n] == first
            if sum(row[:3] == best[:3] for row in rows) == 1:
                assert made.names[n] == best[3], (rows, address)


# --- real files ---------------------------------------------------------------------------------------------------


def truth(path: str) -> list[tuple[int, int, set[str]]]:
    """What nm says: (start, end, names) of each sized function."""
    text = subprocess.run(["nm", "-S", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    found: dict[tuple[int, int], set[str]] = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[2] in "tTwWi":
            start, size = int(fields[0], 16), int(fields[1], 16)
            found.setdefault((start, start + size), set()).add(fields[3].partition("@")[0])
    return sorted((start, end, all) for (start, end), all in found.items() if end > start)


@pytest.mark.parametrize("variant", ["pie", "fixed", "static", "linked", "checked", "packed"])
def test_every_function_of_a_compiled_program(variant: str) -> None:
    """At both ends and in the middle; stripped programs through their debug file or packed table."""
    path = prebuilt.where(variant)
    rows = truth(path + ".full")
    starts = [start for start, _, _ in rows]
    checked = 0
    known = Names(Image(path))
    for start, end, all in rows:
        for address in (start, (start + end) // 2, end - 1):
            if rows[bisect.bisect_right(starts, address) - 1][0] != start:
                continue  # another one lies inside of it
            found = known.at(address)
            assert found is not None, (hex(address), all)
            assert found[0] in all and found[1] == start
            checked += 1
    assert checked >= 3 * 5
    assert {"outer_global", "inner_static", "never_returns", "main"} <= {known.at(row[0])[0] for row in rows}  # type: ignore[index]
    known.close()


def test_a_stripped_program_without_any_has_no_names() -> None:
    path = prebuilt.where("bare")
    with Symbolizer() as symbolizer:
        for start, _, all in truth(path + ".full"):
            if all & {"outer_global", "inner_static", "never_returns"}:
                frame = symbolizer.in_file(path, start + 3)
                assert not frame.name and frame.label == f"[where-bare+{start + 3:#x}]"
                assert frame.build_id and frame.file_offset == start + 3


def test_a_debug_file_of_another_build_is_refused(tmp_path: Path) -> None:
    for variant in ("linked", "checked"):
        program = shutil.copy(prebuilt.where(variant), tmp_path / f"where-{variant}")
        other = prebuilt.where("fixed" if variant == "linked" else "linked")
        debug = tmp_path / f"where-{variant}.debug"
        [(start, _, _)] = [row for row in truth(prebuilt.where(variant) + ".full") if "outer_global" in row[2]]
        shutil.copy(other + (".full" if variant == "linked" else ".debug"), debug)
        assert Names(Image(str(program))).at(start) is None
        shutil.copy(prebuilt.where(variant) + ".debug", debug)
        found = Names(Image(str(program))).at(start)
        assert found is not None and found[0] == "outer_global"


def test_debug_files_are_looked_for_in_the_process_s_own_root(tmp_path: Path) -> None:
    """Absolute links in there lead to its root, not to ours."""
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/lib/debug/.build-id").mkdir(parents=True)
    (root / "srv").mkdir()
    program = shutil.copy(prebuilt.where("bare"), root / "usr/bin/where")
    image = Image(str(program))
    id = image.build_id()
    shutil.copy(prebuilt.where("bare") + ".full", root / "srv/where.debug")
    (root / f"usr/lib/debug/.build-id/{id[:2]}").mkdir()
    (root / f"usr/lib/debug/.build-id/{id[:2]}/{id[2:]}.debug").symlink_to("/srv/where.debug")
    [(start, _, _)] = [row for row in truth(prebuilt.where("bare") + ".full") if "inner_static" in row[2]]
    found = Names(image, "/usr/bin/where", str(root)).at(start)
    assert found is not None and found[0] == "inner_static"
    assert Names(Image(str(program)), "/usr/bin/where").at(start) is None


def test_prelinked_files_and_their_debug_files_have_other_addresses(tmp_path: Path) -> None:
    full = Maker()
    full.symbol("moved", 0x180, bind=LOCAL)
    full.sections.insert(0, (".text", 1, b"\x90" * 16, 0, 0))
    raw = bytearray(full.bytes())
    (sections,) = struct.unpack_from("<Q", raw, 40)
    struct.pack_into("<Q", raw, sections + 64 + 16, CODE_ADDRESS - 0x7000)  # where .text was before
    (tmp_path / "away.debug").write_bytes(raw)
    prelinked = Maker()
    prelinked.sections.append((".text", 1, b"\x90" * 16, 0, 0))
    prelinked.section(".gnu_debuglink", b"away.debug\0\0" + struct.pack("<I", zlib.crc32(raw)))
    made = bytearray(prelinked.bytes())
    (sections,) = struct.unpack_from("<Q", made, 40)
    struct.pack_into("<Q", made, sections + 64 + 16, CODE_ADDRESS)
    (tmp_path / "file").write_bytes(made)
    known = Names(Image(str(tmp_path / "file")))
    assert at(known, 0x7180) == ("moved", 0x7180)
    assert at(known, 0x180) is None


def test_damaged_tables_cost_names_and_nothing_else(tmp_path: Path) -> None:
    maker = Maker()
    for number in range(20):
        maker.symbol(f"function_{number}", 0x40 * number + 0x40, 0x30)
        maker.symbol(f"dynamic_{number}", 0x40 * number + 0x40, 0x30, table=".dynsym")
    raw = maker.bytes()
    chance = random.Random(11)
    path = tmp_path / "file"
    for _ in range(400):
        bad = bytearray(raw)
        for _ in range(chance.randrange(1, 6)):
            bad[chance.randrange(elf_maker.DATA_OFFSET, len(bad))] = chance.randrange(256)
        path.write_bytes(bad)
        try:
            known = Names(Image(str(path)))
        except UserError:
            continue
        for offset in range(0, 0x600, 0x10):
            found = at(known, offset)
            assert found is None or isinstance(found[0], str)
        known.close()


# --- build ids, memory --------------------------------------------------------------------------------------------


def test_a_build_id_and_an_offset_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debugfile, "ROOT", str(tmp_path))
    path = prebuilt.where("fixed")
    image = Image(path)
    id = image.build_id()
    [(start, end, _)] = [row for row in truth(path) if "never_returns" in row[2]]
    offset = image.file_offset(start)
    assert offset is not None
    with Symbolizer() as symbolizer:
        frame = symbolizer.build_id(id, offset + 1)
        assert not frame.name and frame.label == f"[build id {id[:12]}+{offset + 1:#x}]"
        assert "no file with this build id" in symbolizer.notes()[0]
        frame = symbolizer.build_id(id, offset + 1, path)
        assert (frame.name, frame.offset, frame.build_id) == ("never_returns", 1, id)
        assert symbolizer.build_id(id, offset + end - start, back=True).name == "never_returns"  # a file seen before
        wrong = symbolizer.build_id("00" * 20, offset, path)
        assert not wrong.name and wrong.module == path
    place = tmp_path / ".build-id" / id[:2]
    place.mkdir(parents=True)
    (place / id[2:]).symlink_to(path)
    with Symbolizer() as symbolizer:
        assert symbolizer.build_id(id, offset).name == "never_returns"


def test_the_store_stays_below_its_limits(tmp_path: Path) -> None:
    paths = []
    for number in range(6):
        maker = Maker()
        for n in range(40):
            maker.symbol(f"function_{number}_{n}", 0x20 * n + 0x20, 0x20)
        maker.note(".note.gnu.build-id", b"GNU", 3, bytes([number] * 20))
        path = tmp_path / f"file{number}"
        path.write_bytes(maker.bytes())
        paths.append(str(path))
    store = Store(limit=1 << 20, most_files=3)
    for path in paths:
        store.of_path(path).at(CODE_ADDRESS + 0x25)
    assert len(store) == 3 and store.evicted == 3
    kept = store.of_path(paths[3])  # the oldest of the three is now the youngest
    assert store.of_path(paths[0]) is not kept and store.evicted == 4
    assert store.of_path(paths[3]) is kept and store.evicted == 4
    assert store.of_build_id("05" * 20) is not None and store.of_build_id("04" * 20) is None
    one = kept.memory
    store.close()
    store = Store(limit=int(2.5 * one))
    for path in paths:
        store.of_path(path).at(CODE_ADDRESS + 0x25)
        store.trim()
        assert store.memory <= 2.5 * one
    assert len(store) == 2
    store.close()
    assert len(store) == 0


def test_evicted_files_are_read_again() -> None:
    with Symbolizer(limit=1) as symbolizer:
        for variant in ("pie", "fixed", "pie", "static", "fixed"):
            path = prebuilt.where(variant)
            [(start, _, _)] = [row for row in truth(path) if "main" in row[2]]
            offset = Image(path).file_offset(start)
            assert offset is not None and symbolizer.in_file(path, offset + 4).name == "main"
        assert symbolizer.store.evicted == 4


# --- demangling ---------------------------------------------------------------------------------------------------


def test_cpp_and_rust_names_are_read(tmp_path: Path) -> None:
    maker = Maker()
    maker.symbol("_ZN4shop6BasketIlE3addElPKc", 0x100)
    maker.symbol("_RNvNtCs1234_7mycrate3foo3bar", 0x140)
    known = names(tmp_path, maker)
    if not demangle.available():  # the library is for Python 3.11 and later
        assert sys.version_info < (3, 11)
        assert at(known, 0x104) == ("_ZN4shop6BasketIlE3addElPKc", 0x100)
        return
    assert at(known, 0x104) == ("shop::Basket<long>::add(long, char const*)", 0x100)
    assert at(known, 0x144) == ("mycrate::foo::bar", 0x140)


RUST = [
    ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
    ("_ZN4core3fmt5write17h0123456789abcdefE.llvm.123", "core::fmt::write"),
    ("_ZN3std2io5stdio6_print17hd1b4977968563613E", "std::io::stdio::_print"),
    (
        "_ZN4core3ptr85drop_in_place$LT$std..rt..lang_start$LT$$LP$$RP$$GT$..$u7b$$u7b$closure$u7d$$u7d$$GT$"
        "17h0123456789abcdefE",
        "core::ptr::drop_in_place<std::rt::lang_start<()>::{{closure}}>",
    ),
    (
        "_ZN54_$LT$$RF$T$u20$as$u20$core..convert..From$LT$U$GT$$GT$4from17h0123456789abcdefE",
        "<&T as core::convert::From<U>>::from",
    ),
]


@pytest.mark.parametrize(("raw", "readable"), RUST)
def test_rust_s_old_scheme_needs_no_library(raw: str, readable: str) -> None:
    assert demangle.name(raw) == readable


def test_what_cannot_be_read_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for raw in ("main", "_start", "_Z", "_Zfoo", "_ZN", "_ZN99999999999a17h0123456789abcdefE", "_R", "_RNv", "",
                "_Z" + "N1a" * 40000, "_ZN3fo\udcffE", "_ZN1a17hzzzzzzzzzzzzzzzzE"):  # fmt: skip
        assert demangle.name(raw) == raw or demangle.available()
    assert demangle.name("main") == "main" and demangle.name("_Zfoo") == "_Zfoo" and demangle.name("") == ""
    monkeypatch.setattr(demangle, "_library", None)
    monkeypatch.setattr(demangle, "_looked", True)
    assert demangle.name("_ZN4shop6BasketIlE3addElPKc") == "_ZN4shop6BasketIlE3addElPKc"
    assert demangle.name(RUST[0][0]) == RUST[0][1]


def test_random_names_never_raise() -> None:
    chance = random.Random(3)
    letters = "_ZNRKC0123456789EILvab$.hs"
    for _ in range(20000):
        raw = chance.choice(("_Z", "_ZN", "_R", "_RNv", "__Z")) + "".join(
            chance.choice(letters) for _ in range(chance.randrange(30))
        )
        assert isinstance(demangle.name(raw), str)


# --- frames -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "label", "text"),
    [
        (Frame(0x10, KERNEL, "vfs_read", 0x1C), "vfs_read", "vfs_read+0x1c"),
        (Frame(0x10, KERNEL, "xmit", 4, "dummy"), "xmit [dummy]", "xmit+0x4 [dummy]"),
        (Frame(0x10, KERNEL), "0x10", "0x10"),
        (Frame(0x10, USER, "main", 0, "/bin/x", "ab", 7), "main", "main"),
        (Frame(0x10, USER, "", 0, "/usr/lib/libx.so.1", "ab", 0x28E3B), "[libx.so.1+0x28e3b]", "[libx.so.1+0x28e3b]"),
        (Frame(0x10, USER, "", 0, "[vdso]", "", 0x600), "[vdso+0x600]", "[vdso+0x600]"),
        (Frame(0x10, JIT, "LazyCompile:*f x.js:1", 2), "LazyCompile:*f x.js:1", "LazyCompile:*f x.js:1+0x2"),
        (Frame(0x10, UNKNOWN, "", 0, "[anon]"), "[anon]", "[anon]"),
        (Frame(0x10, UNKNOWN), "0x10", "0x10"),
    ],
)
def test_how_a_frame_is_written(frame: Frame, label: str, text: str) -> None:
    assert (frame.label, str(frame)) == (label, text)
    assert Frame(**frame.record()) == frame  # type: ignore[arg-type]
