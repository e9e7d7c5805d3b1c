# SPDX-License-Identifier: Apache-2.0
"""Unwinding rules, held against what readelf makes of them; files that lie; stacks put together by hand."""

from __future__ import annotations

import bisect
import functools
import os
import random
import re
import struct
import subprocess
from pathlib import Path

import prebuilt
import pytest
from elf_maker import ARM64, Maker
from needs import only_on

from osmia.errors import NotFound, NotSupported, UserError
from osmia.symbols import dwarf, unwind
from osmia.symbols.eh_frame import AT, IS, IS_OFFSET, OFFSET, RBP, RBX, RETURN, RSP, EhFrame, Rule
from osmia.symbols.image import Image
from osmia.symbols.maps import Mapping, Maps
from osmia.symbols.store import Store

REGISTERS = ["rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", *[f"r{n}" for n in range(8, 16)]]
pytestmark = only_on("x86_64", "programs compiled here are looked at, and stacks are unwound on x86-64")


def libc() -> str:
    """The C library that this very process runs."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return next(line.split()[-1] for line in lines if re.search(r"/libc(\.so|-2)", line))


def written(how: tuple[int, int]) -> str:
    """A register's rule as readelf writes it."""
    kind, value = how
    return {OFFSET: f"c{value:+d}", IS_OFFSET: f"v{value:+d}", AT: "exp", IS: "vexp"}.get(kind, "u")


@functools.cache
def said(path: str) -> list[tuple[int, dict[str, str]]]:
    """readelf's table: (address, column → text) of every row of every function."""
    command = ["readelf", "--debug-dump=frames-interp", path]
    # It may have something to remark, and then says that it failed.
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    rows, columns, function = [], [], False
    for line in text.splitlines():
        fields = line.split()
        if " FDE " in line or " CIE " in line:
            function = " FDE " in line
        elif fields[:1] == ["LOC"]:
            columns = fields
        elif not fields:
            columns = []
        elif columns and function and len(fields) == len(columns):
            rows.append((int(fields[0], 16), dict(zip(columns, fields, strict=True))))
    return rows


@pytest.mark.parametrize("which", ["libc", "static", "chain"])
def test_every_row_is_what_readelf_says(which: str) -> None:
    path = {"libc": libc, "chain": prebuilt.chain}.get(which, lambda: prebuilt.where("static"))()
    image = Image(path)
    frames = EhFrame(image)
    table = frames.table()
    rows = said(path)
    assert len(rows) > (20 if which == "chain" else 3000)
    starts = list(table.starts)
    assert starts == sorted(set(starts))
    for address, columns in rows:
        rule = frames.at(address)
        assert rule is not None
        cfa = "exp" if rule.register < 0 else f"{REGISTERS[rule.register]}{rule.offset:+d}"
        assert cfa == columns["CFA"], hex(address)
        for name, how in (("ra", rule.back), ("rbp", rule.frame), ("rbx", rule.base)):
            assert columns.get(name, "u").replace("s", "u") == written(how), (hex(address), name)
        row = bisect.bisect_right(starts, address - frames.base) - 1
        assert frames.rules[table.rules[row]] is rule
    frames.close()
    image.close()


def test_what_no_function_covers_has_no_rule() -> None:
    image = Image(prebuilt.chain())
    frames = EhFrame(image)
    text = next(one for one in image.segments if one.executable)
    assert frames.at(0) is None is frames.at(text.address - 1) is frames.at(text.address + text.memory_size + 4096)
    table = frames.table()
    assert frames.rules[table.rules[-1]] is None
    assert 6 * len(table) == table.memory
    frames.close()


def test_files_without_a_search_table(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    subprocess.run(["objcopy", "--remove-section=.eh_frame_hdr", prebuilt.chain(), str(path)], check=True)
    short, whole = EhFrame(Image(str(path))), EhFrame(Image(prebuilt.chain()))
    assert len(short) == len(whole) > 5
    one, other = short.table(), whole.table()
    assert one.starts == other.starts and one.rules == other.rules


def test_limits() -> None:
    image = Image(libc())
    with pytest.raises(UserError, match="larger than 0 MiB"):
        EhFrame(image, limit=1000).table()
    frames = EhFrame(image, limit=20_000)
    index = frames.memory
    for address, _ in said(libc())[:8000:3]:
        assert frames.at(address) is not None
        assert frames.memory < index + 20_000 + 20_000 + 200 * len(frames.rules)


def test_files_that_have_none(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(Maker().bytes())
    with pytest.raises(NotFound, match="no rules for unwinding"):
        EhFrame(Image(str(tmp_path / "none")))
    (tmp_path / "arm").write_bytes(Maker(ARM64).bytes())
    with pytest.raises(NotSupported, match="cannot be unwound"):
        EhFrame(Image(str(tmp_path / "arm")))


def asked(frames: EhFrame, address: int) -> int:
    """Whether the rule at an address is damaged."""
    try:
        rule = frames.at(address)
    except UserError:
        return 1
    assert rule is None or isinstance(rule, Rule)
    return 0


def test_damaged_rules_are_errors_and_not_exceptions(tmp_path: Path) -> None:
    raw = Path(prebuilt.chain()).read_bytes()
    image = Image(prebuilt.chain())
    [body] = [one for one in image.sections if one.name == ".eh_frame"]
    [header] = [one for one in image.sections if one.name == ".eh_frame_hdr"]
    text = next(one for one in image.segments if one.executable)
    chance = random.Random(9)
    path = tmp_path / "file"
    failed = 0
    for _ in range(400):
        bad = bytearray(raw)
        for _ in range(chance.randrange(1, 4)):
            section = chance.choice((body, body, header))
            bad[section.offset + chance.randrange(section.size)] = chance.randrange(256)
        path.write_bytes(bad)
        try:
            frames = EhFrame(Image(str(path)))
            frames.table()
        except UserError:
            failed += 1
            continue
        for address in range(text.address, text.address + text.memory_size, 16):
            failed += asked(frames, address)
        frames.close()
    assert failed > 10


# --- numbers and expressions --------------------------------------------------------------------------------------


def test_numbers_of_variable_length() -> None:
    for value, raw in ((0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (624485, b"\xe5\x8e\x26"), (0, b"\x80\0")):
        assert dwarf.uleb(memoryview(raw), 0) == (value, len(raw))
    for value, raw in ((-1, b"\x7f"), (63, b"\x3f"), (-64, b"\x40"), (-128, b"\x80\x7f"), (-123456, b"\xc0\xbb\x78")):
        assert dwarf.sleb(memoryview(raw), 0) == (value, len(raw))
    with pytest.raises(dwarf.Bad):
        dwarf.uleb(memoryview(b"\xff" * 20), 0)
    with pytest.raises(IndexError):
        dwarf.uleb(memoryview(b"\x80"), 0)


def test_pointers() -> None:
    data = memoryview(struct.pack("<iQ", -16, 0x1234))
    assert dwarf.pointer(data, 0, 0x1B, 0x5000) == (0x5000 - 16, 4)  # relative to itself, four bytes, signed
    assert dwarf.pointer(data, 0, 0x3B, 0x5000, 0x9000) == (0x9000 - 16, 4)
    assert dwarf.pointer(data, 4, 0x00, 0x5000) == (0x1234, 12)
    for encoding in (0x50, 0x0D):
        with pytest.raises(dwarf.Bad):
            dwarf.pointer(data, 0, encoding, 0)


def test_the_rule_of_the_linker_s_stubs() -> None:
    """``rsp + 8``, and 8 more from the eleventh byte of a stub on, behind its push."""
    plt = bytes([0x77, 8, 0x80, 0, 0x3F, 0x1A, 0x3B, 0x2A, 0x33, 0x24, 0x22])

    def never(address: int) -> int:
        raise AssertionError(address)

    for at in range(16):
        registers = {RSP: 0x7000, RETURN: 0x401020 + at}
        assert dwarf.evaluate(plt, registers, never) == 0x7008 + (8 if at >= 11 else 0)


def test_expressions() -> None:
    memory = {0x7000 - 24: 0x1122334455667788}
    for code, value in (
        (b"\x76\x68\x06", 0x1122334455667788),  # what rbp - 24 points at
        (b"\x76\x68\x94\x02", 0x7788),
        (b"\x35\x12\x22", 10), (b"\x31\x32\x16\x1c", 1), (b"\x31\x32\x14\x22\x22", 4), (b"\x31\x32\x13", 1),
        (b"\x09\xff", (1 << 64) - 1), (b"\x10\x80\x01\x23\x02", 130), (b"\x11\x7f\x31\x2d", 1), (b"\x96\x30", 0),
    ):  # fmt: skip
        assert dwarf.evaluate(code, {RBP: 0x7000}, memory.__getitem__) == value, code
    assert dwarf.evaluate(b"\x23\x08", {}, memory.__getitem__, 0x10) == 0x18
    for code, error in ((b"\xf0", dwarf.Bad), (b"\x22", IndexError), (b"", IndexError), (b"\x70\0", KeyError),
                        (b"\x30\x94\x03", dwarf.Bad), (b"\x30" * 2000, dwarf.Bad)):  # fmt: skip
        with pytest.raises(error):
            dwarf.evaluate(code, {}, memory.__getitem__)


# --- stacks by hand -----------------------------------------------------------------------------------------------

STACK = 0x7FFF00000000
CODE = 0x7F0000000000


def test_code_made_at_run_time_is_passed_by_its_frame_pointer() -> None:
    maps = Maps(5_000_000, [Mapping(CODE, CODE + 0x1000)])
    words = [0] * 64
    words[10], words[11] = STACK + 8 * 20, CODE + 0x20  # saved rbp, return address
    words[20], words[21] = STACK + 8 * 30, CODE + 0x30
    words[30], words[31] = 0, 0x1234  # an address that is nowhere
    stack = struct.pack("<64Q", *words)
    registers = {RETURN: CODE + 0x10, RSP: STACK + 8 * 8, RBP: STACK + 8 * 10}
    found = unwind.unwind(registers, stack, STACK, maps, Store())
    assert found.addresses == [CODE + 0x10, CODE + 0x20, CODE + 0x30]
    assert found.exact == {0} and found.assumed == {1, 2}
    lost = "code made at run time, and rbp is no frame pointer there"
    assert not found.complete and found.unmapped and found.why == lost
    for wrong in (STACK, STACK + 8 * 10 + 1, STACK + 8 * 40):  # used up already, crooked, no frame there
        found = unwind.unwind({**registers, RBP: wrong}, stack, STACK, maps, Store())
        assert found.addresses == [CODE + 0x10] and found.why == lost
    found = unwind.unwind(registers, stack, STACK, maps, Store(), most=2)
    assert found.addresses == [CODE + 0x10, CODE + 0x20] and found.why == "it has more than 2 frames"
    found = unwind.unwind(registers, stack[:64], STACK, maps, Store())
    assert found.why == "it goes on beyond the copied part of the stack"


def test_stacks_that_go_in_circles_end() -> None:
    maps = Maps(5_000_000, [Mapping(CODE, CODE + 0x1000)])
    stack = struct.pack("<4Q", STACK, CODE + 0x20, 0, 0)
    found = unwind.unwind({RETURN: CODE + 0x10, RSP: STACK, RBP: STACK}, stack, STACK, maps, Store())
    assert not found.complete and len(found.addresses) <= unwind.MOST


def test_a_file_that_cannot_be_had_ends_the_stack() -> None:
    maps = Maps(5_000_000, [Mapping(CODE, CODE + 0x1000, 0, "/no/such/file", (1, 2), 3)])
    registers = {RETURN: CODE + 0x10, RSP: STACK, RBP: STACK, RBX: 0}
    found = unwind.unwind(registers, bytes(64), STACK, maps, Store())
    assert found.addresses == [CODE + 0x10] and found.why == "/no/such/file: the file is gone"


def test_a_file_without_rules_ends_the_stack(tmp_path: Path) -> None:
    path = tmp_path / "none"
    path.write_bytes(Maker().bytes())
    store = Store()
    info = path.stat()
    device = os.major(info.st_dev), os.minor(info.st_dev)
    mapping = Mapping(CODE, CODE + 0x1000, 0x1000, str(path), device, info.st_ino)
    registers = {RETURN: CODE + 0x10, RSP: STACK, RBP: STACK}
    found = unwind.unwind(registers, bytes(64), STACK, Maps(5_000_000, [mapping]), store)
    assert found.why == f"{path} has no rule for 0x1010, and rbp is no frame pointer there"
    assert found.addresses == [CODE + 0x10]
    store.close()
