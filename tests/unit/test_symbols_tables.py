# SPDX-License-Identifier: Apache-2.0
"""Tables that are no ELF symbols: the kernel's own list, and what Go programs carry."""

from __future__ import annotations

import random
import struct
from array import array
from pathlib import Path

import pytest
from elf_maker import CODE_ADDRESS, Maker

from osmia.errors import UserError
from osmia.kernel import kallsyms, proc
from osmia.kernel.modules import Module
from osmia.symbols import gopclntab, ksyms_table
from osmia.symbols.elf_names import Names
from osmia.symbols.frame import KERNEL, UNKNOWN
from osmia.symbols.image import Image
from osmia.symbols.ksyms import Ksyms

BASE = 0xFFFFFFFF81000000
MODULE = 0xFFFFFFFFC0100000
TEXT = b"""\
0000000000000000 A fixed_percpu_data
0000000000001000 A cpu_debug_store
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000000 T startup_64
ffffffff81000040 t first_alias
ffffffff81000040 t second_alias
ffffffff81000080 T __pfx_vfs_read
ffffffff81000090 T vfs_read
ffffffff81000190 T __sched_text_start
ffffffff81000190 T schedule
ffffffff81000200 T __sched_text_end
ffffffff81000240 W weak_function
ffffffff81000300 T _etext
ffffffff81000400 D some_data
ffffffff81000500 T _sinittext
ffffffff81000500 t start_up_only
ffffffff81000600 T _einittext
ffffffffc0100200 t xmit	[dummy]
ffffffffc0100100 t setup	[dummy]
ffffffffc0100180 d table	[dummy]
ffffffffc0300000 t ftrace_trampoline	[__builtin__ftrace]
ffffffffc0400000 t bpf_prog_6deef7357e7b4530_count	[bpf]
ffffffffc0400100 t bpf_prog_1234567890abcdef	[bpf]
"""
LOADED = {"dummy": Module("dummy", MODULE, 0x1000, "abcd")}


def named(ksyms: Ksyms, address: int, *, back: bool = False) -> str:
    return str(ksyms.frame(address, back=back))


@pytest.fixture
def ksyms() -> Ksyms:
    return Ksyms(TEXT, LOADED)


def test_kernel_functions_reach_to_the_next_symbol(ksyms: Ksyms) -> None:
    assert named(ksyms, BASE) == "startup_64"  # marks of the linker script are no functions
    assert named(ksyms, BASE + 0x44) == "first_alias+0x4"  # as the kernel's own traces
    assert named(ksyms, BASE + 0x90) == "vfs_read" and named(ksyms, BASE + 0x18F) == "vfs_read+0xff"
    assert named(ksyms, BASE + 0x190) == "schedule"
    assert named(ksyms, BASE + 0x204) == f"{BASE + 0x204:#x}"  # behind the section's end
    assert named(ksyms, BASE + 0x2FF) == "weak_function+0xbf"
    for outside in (0x300, 0x404, 0x480):  # data, and what is behind the code
        frame = ksyms.frame(BASE + outside)
        assert not frame.name and frame.kind == KERNEL
    for address in (0, 0x1004, BASE - 1, (1 << 64) - 1):
        frame = ksyms.frame(address)
        assert (frame.name, frame.kind, frame.label) == ("", UNKNOWN, f"{address:#x}")


def test_memory_of_the_start_up_code_is_somebody_else_s_now(ksyms: Ksyms) -> None:
    assert not ksyms.frame(BASE + 0x504).name


def test_modules_and_code_made_at_run_time(ksyms: Ksyms) -> None:
    frame = ksyms.frame(MODULE + 0x110)
    assert (frame.label, frame.module, frame.offset) == ("setup [dummy]", "dummy", 0x10)
    assert (frame.build_id, frame.file_offset) == ("abcd", 0x110)
    assert not ksyms.frame(MODULE + 0x184).name  # data of the module
    assert named(ksyms, MODULE + 0xFFF) == "xmit+0xdff [dummy]"
    assert not ksyms.frame(MODULE + 0x1000).name  # behind the module
    assert named(ksyms, 0xFFFFFFFFC0300010) == "ftrace_trampoline+0x10 [ftrace]"
    assert named(ksyms, 0xFFFFFFFFC0400004) == "bpf_prog_6deef7357e7b4530_count+0x4 [bpf]"
    assert named(ksyms, 0xFFFFFFFFC0400104) == "bpf_prog_1234567890abcdef+0x4 [bpf]"
    assert not ksyms.frame(0xFFFFFFFFC0402000).name


def test_addresses_that_calls_return_to(ksyms: Ksyms) -> None:
    """``vfs_read`` ends in a call: what it returns to is where ``schedule`` begins."""
    assert named(ksyms, BASE + 0x190, back=True) == "vfs_read+0x100"
    assert [frame.name for frame in ksyms.stack([BASE + 0x190, BASE + 0x190, BASE + 0x41])] == [
        "schedule", "vfs_read", "first_alias",
    ]  # fmt: skip


def test_the_kernel_s_build_counts_from_its_first_function(ksyms: Ksyms) -> None:
    assert ksyms.frame(BASE + 0x94).file_offset == 0x94


class Memory:
    """An entry of the cache that is not in a file; ``sizes`` of what was read."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.size = len(raw)
        self.sizes: list[int] = []

    def read(self, at: int, size: int) -> bytes:
        self.sizes.append(size)
        return self.raw[at : at + size]


def test_the_table_comes_out_of_the_cache_as_it_went_in() -> None:
    made = ksyms_table.parse(TEXT, LOADED)
    raw = ksyms_table.pack(made, b"this boot")
    again = ksyms_table.unpack(Memory(raw), b"this boot")
    assert again is not None and again.base == made.base == BASE
    for address in range(BASE, BASE + 0x700, 8):
        assert again.at(address) == made.at(address)
    for other, key in ((raw, b"that boot"), (raw, b"this boots"), (raw[:-1], b"this boot"), (b"", b"this boot")):
        assert ksyms_table.unpack(Memory(other), key) is None
    assert ksyms_table.unpack(None, b"this boot") is None


def test_a_large_table_is_read_where_it_is_looked_at() -> None:
    """More symbols than a block has, and names longer than what is read of one at first."""
    names = [b"name_%d_" % n + b"x" * (n % 200) for n in range(3000)]
    offsets = [1]
    for one in names:
        offsets.append(offsets[-1] + len(one) + 1)
    text = b"\0" + b"\0".join(names) + b"\0"
    made = ksyms_table.Table(array("Q", range(BASE, BASE + 30000, 10)), array("I", offsets[:-1]), text, BASE)
    memory = Memory(ksyms_table.pack(made, b"key"))
    kept = ksyms_table.unpack(memory, b"key")
    assert kept is not None and kept.memory == 0
    assert kept.at(BASE + 14_995) == (names[1499], BASE + 14_990)
    assert 0 < kept.memory < made.memory / 10 and sum(memory.sizes) < made.memory / 5
    for n in range(2999):
        assert kept.at(BASE + 10 * n + 9) == made.at(BASE + 10 * n + 9) == (names[n], BASE + 10 * n)
    assert kept.at(BASE - 1) is None is kept.at(BASE + 29_990)
    assert kept.spans(BASE) and kept.spans(BASE + 29_990) and not kept.spans(BASE + 29_991) and not kept.spans(1)


@pytest.mark.parametrize("restrict", ["2", "1"])
def test_hidden_addresses_give_a_reason_and_no_names(restrict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "sysctl", lambda name: restrict)
    hidden = b"".join(b"0" * 16 + line[16:] + b"\n" for line in TEXT.splitlines())
    ksyms = Ksyms(hidden, {})
    assert "hides where its functions are" in ksyms.problem
    assert ("kptr_restrict=1" if restrict == "2" else "as root") in ksyms.problem
    frame = ksyms.frame(BASE + 0x94)
    assert (frame.name, frame.label) == ("", f"{BASE + 0x94:#x}")


def test_a_file_that_cannot_be_read_gives_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OSMIA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kallsyms, "PATH", str(tmp_path / "absent"))
    ksyms = Ksyms()
    assert "cannot read the kernel's symbols" in ksyms.problem
    assert not ksyms.frame(BASE).name


def test_other_texts_are_no_table() -> None:
    for text in (b"", b"\n", b"rubbish\n", b"ffffffff81000000 T\n"):
        assert Ksyms(text, {}).problem


# --- Go -----------------------------------------------------------------------------------------------------------

FUNCTIONS = [("runtime.text", 0x100, 0x40), ("main.main", 0x140, 0x80), ("main.(*T).Run", 0x1C0, 0x40)]
MAGIC = {"1.2": 0xFFFFFFFB, "1.16": 0xFFFFFFFA, "1.18": 0xFFFFFFF0, "1.20": 0xFFFFFFF1}


def table(version: str, text: int = CODE_ADDRESS) -> bytes:
    """A table as that Go version's linker writes it; the functions follow one another."""
    names, at = b"", []
    for name, _, _ in FUNCTIONS:
        at.append(len(names))
        names += name.encode() + b"\0"
    new = version in ("1.18", "1.20")
    entry = "<I" if new else "<Q"
    size = struct.calcsize(entry)
    end = FUNCTIONS[-1][1] + FUNCTIONS[-1][2]
    base = 0 if new else CODE_ADDRESS
    header = 8 + 8 * {"1.2": 1, "1.16": 7}.get(version, 8)
    table_size = 2 * size * len(FUNCTIONS) + size
    if version == "1.2":  # all offsets count from the begin of the table
        names_at, funcs_at, origin = header + table_size + 64, header, 0
    else:
        names_at, funcs_at, origin = header, header + len(names), header + len(names)
    rows, funcs = b"", b""
    first = funcs_at + table_size - origin
    for n, (_, start, _) in enumerate(FUNCTIONS):
        rows += struct.pack(entry, base + start) + struct.pack(entry, first + len(funcs))
        name = at[n] + (names_at if version == "1.2" else 0)
        funcs += struct.pack(entry, base + start) + struct.pack("<I", name) + bytes(16 - size - 4)
    rows += struct.pack(entry, base + end)
    head = struct.pack("<IHBB", MAGIC[version], 0, 1, 8)
    if version == "1.2":
        return head + struct.pack("<Q", len(FUNCTIONS)) + (rows + funcs).ljust(table_size + 64, b"\0") + names
    words = [len(FUNCTIONS), 0, *([text] if new else []), names_at, 0, 0, 0, funcs_at]
    return head + struct.pack(f"<{len(words)}Q", *words) + names + rows + funcs


def program(tmp_path: Path, raw: bytes, *, section: str = ".gopclntab") -> Image:
    maker = Maker()
    maker.section(section, raw)
    (tmp_path / "file").write_bytes(maker.bytes())
    return Image(str(tmp_path / "file"))


@pytest.mark.parametrize("version", list(MAGIC))
@pytest.mark.parametrize("section", [".gopclntab", ".data.rel.ro.gopclntab"])
def test_functions_of_stripped_go_programs(version: str, section: str, tmp_path: Path) -> None:
    known = Names(program(tmp_path, table(version), section=section))
    for name, start, size in FUNCTIONS:
        for offset in (0, size // 2, size - 1):
            assert known.at(CODE_ADDRESS + start + offset) == (name, CODE_ADDRESS + start)
    assert known.at(CODE_ADDRESS + 0xFF) is None is known.at(CODE_ADDRESS + 0x200)


def test_position_independent_go_programs_have_the_text_in_a_relocation(tmp_path: Path) -> None:
    maker = Maker()
    maker.section(".data.rel.ro.gopclntab", table("1.20", text=0))
    address = 0x700000
    maker.section(".rela.dyn", struct.pack("<QQQ", 1, 8, 0) + struct.pack("<QQQ", address + 24, 8, CODE_ADDRESS))
    raw = bytearray(maker.bytes())
    (sections,) = struct.unpack_from("<Q", raw, 40)
    struct.pack_into("<Q", raw, sections + 64 + 16, address)  # where the table is in memory
    (tmp_path / "file").write_bytes(raw)
    known = Names(Image(str(tmp_path / "file")))
    assert known.at(CODE_ADDRESS + 0x150) == ("main.main", CODE_ADDRESS + 0x140)


def test_go_tables_that_lie(tmp_path: Path) -> None:
    assert gopclntab.read(program(tmp_path, struct.pack("<IHBB", 0x12345678, 0, 1, 8) + bytes(64))) is None
    assert gopclntab.read(program(tmp_path, struct.pack("<IHBB", MAGIC["1.20"], 0, 1, 4) + bytes(64))) is None
    with pytest.raises(UserError, match="Go's table of functions"):
        gopclntab.read(program(tmp_path, table("1.20")[:40]))
    chance = random.Random(6)
    for version in MAGIC:
        raw = table(version)
        for _ in range(150):
            bad = bytearray(raw)
            for _ in range(chance.randrange(1, 5)):
                bad[chance.randrange(8, len(bad))] = chance.randrange(256)
            known = Names(program(tmp_path, bytes(bad)))
            for at in range(CODE_ADDRESS, CODE_ADDRESS + 0x240, 0x20):
                found = known.at(at)
                assert found is None or isinstance(found[0], str)
