# SPDX-License-Identifier: Apache-2.0
"""Static probes: notes, and where arguments are, on x86-64 and arm64."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from elf_maker import ARM64, CODE_ADDRESS, CODE_OFFSET, DATA_ADDRESS, DATA_OFFSET, OBJECT, Maker
from hypothesis import given
from hypothesis import strategies as st

from osmia.errors import NotFound, UserError
from osmia.obj import ptregs
from osmia.symbols import usdt, usdt_args
from osmia.symbols.elf_syms import Symbols
from osmia.symbols.image import Image
from osmia.symbols.usdt_args import (
    CONSTANT,
    INDEXED,
    INDEXED_SIGNED32,
    INDEXED_UNSIGNED32,
    MEMORY,
    REGISTER,
    UNREADABLE,
    parse,
)

# struct pt_regs of the kernel's uapi, in its order.
X86 = {name: 8 * at for at, name in enumerate((
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "eflags", "rsp", "ss",
))}  # fmt: skip


def symbol(name: str) -> int | None:
    return {"counter": 0x5000}.get(name)


def one(text: str, machine: ptregs.Machine = ptregs.X86_64) -> tuple[Any, ...]:
    [made] = parse(text, machine, symbol, 0x4000)
    return made.size, made.signed, made.kind, made.value, made.register, made.index, made.scale


@pytest.mark.parametrize(("text", "wanted"), [
    ("-4@$5", (4, True, CONSTANT, 5, 0, 0, 0)),
    ("8@$-1", (8, False, CONSTANT, -1, 0, 0, 0)),
    ("-8@$0x10", (8, True, CONSTANT, 16, 0, 0, 0)),
    ("8@%rdi", (8, False, REGISTER, 0, X86["rdi"], 0, 0)),
    ("-4@%eax", (4, True, REGISTER, 0, X86["rax"], 0, 0)),
    ("2@%r9w", (2, False, REGISTER, 0, X86["r9"], 0, 0)),
    ("1@%sil", (1, False, REGISTER, 0, X86["rsi"], 0, 0)),
    ("-1@%bh", (1, True, REGISTER, 0, X86["rbx"], 0, 8)),
    ("8@(%rsp)", (8, False, MEMORY, 0, X86["rsp"], 0, 0)),
    ("-4@-20(%rbp)", (4, True, MEMORY, -20, X86["rbp"], 0, 0)),
    ("8@0x10(%r15)", (8, False, MEMORY, 16, X86["r15"], 0, 0)),
    ("8@8+16(%rax)", (8, False, MEMORY, 24, X86["rax"], 0, 0)),
    ("4@(%rax,%rcx)", (4, False, INDEXED, 0, X86["rax"], X86["rcx"], 0)),
    ("-8@-8(%rbx,%r12,8)", (8, True, INDEXED, -8, X86["rbx"], X86["r12"], 3)),
    ("4@counter(%rip)", (4, False, MEMORY, 0x1000, X86["rip"], 0, 0)),
    ("4@counter+8(%rip)", (4, False, MEMORY, 0x1008, X86["rip"], 0, 0)),
    ("4@counter-8(%rip)", (4, False, MEMORY, 0xFF8, X86["rip"], 0, 0)),
    ("4@24(%rip)", (4, False, MEMORY, 24, X86["rip"], 0, 0)),
    ("%rdi", (8, True, REGISTER, 0, X86["rdi"], 0, 0)),
])  # fmt: skip
def test_x86(text: str, wanted: tuple[Any, ...]) -> None:
    assert one(text) == wanted


@pytest.mark.parametrize(("text", "why"), [
    ("8f@%xmm0", "floating-point"), ("16@%xmm0", "16 bytes"), ("8@%xmm3", "xmm3"), ("8@%fs:16(%rax)", "segment"),
    ("8@stripped(%rip)", "stripped"), ("4@(%eax)", "eax"), ("4@(%rax,%rbx,3)", "scale 3"), ("4@$label", "label"),
    ("4@0x1234", "fixed address"), ("4@counter", "fixed address"), ("4@junk)(", "junk"),
])  # fmt: skip
def test_x86_that_cannot_be_read_says_why(text: str, why: str) -> None:
    [made] = parse(text, ptregs.X86_64, symbol, 0x4000)
    assert made.kind == UNREADABLE and why in made.why
    before, _, after = parse(f"4@%eax {text} 4@%ebx", ptregs.X86_64, symbol, 0x4000)
    assert before.kind == after.kind == REGISTER


@pytest.mark.parametrize(("text", "wanted"), [
    ("-4@x0", (4, True, REGISTER, 0, 0, 0, 0)),
    ("8@x19", (8, False, REGISTER, 0, 152, 0, 0)),
    ("4@w3", (4, False, REGISTER, 0, 24, 0, 0)),
    ("8@sp", (8, False, REGISTER, 0, 248, 0, 0)),
    ("8@x29", (8, False, REGISTER, 0, 232, 0, 0)),
    ("-4@5", (4, True, CONSTANT, 5, 0, 0, 0)),
    ("-8@-3", (8, True, CONSTANT, -3, 0, 0, 0)),
    ("8@xzr", (8, False, CONSTANT, 0, 0, 0, 0)),
    ("4@wzr", (4, False, CONSTANT, 0, 0, 0, 0)),
    ("8@[sp]", (8, False, MEMORY, 0, 248, 0, 0)),
    ("8@[sp, 16]", (8, False, MEMORY, 16, 248, 0, 0)),
    ("-4@[x29, -20]", (4, True, MEMORY, -20, 232, 0, 0)),
    ("4@[x1, #24]", (4, False, MEMORY, 24, 8, 0, 0)),
    ("8@[x0, x1]", (8, False, INDEXED, 0, 0, 8, 0)),
    ("8@[x0, x1, lsl 3]", (8, False, INDEXED, 0, 0, 8, 3)),
    ("4@[x0, w1, sxtw 2]", (4, False, INDEXED_SIGNED32, 0, 0, 8, 2)),
    ("4@[x0, w1, uxtw #2]", (4, False, INDEXED_UNSIGNED32, 0, 0, 8, 2)),
    ("4@[x0,w1,uxtw]", (4, False, INDEXED_UNSIGNED32, 0, 0, 8, 0)),
])  # fmt: skip
def test_arm64(text: str, wanted: tuple[Any, ...]) -> None:
    assert one(text, ptregs.ARM64) == wanted


@pytest.mark.parametrize("text", ["8f@d0", "8@q1", "8@[w0]", "8@[x0, w1, ror 2]", "8@[x0, x1, lsl 9]", "4@pc", "4@x31"])
def test_arm64_that_cannot_be_read(text: str) -> None:
    [made] = parse(text, ptregs.ARM64, symbol, 0)
    assert made.kind == UNREADABLE and made.why


def test_brackets_hold_an_argument_together() -> None:
    made = parse("8@[sp, 16] -4@x1 4@[x0, w1, sxtw 2]", ptregs.ARM64, symbol, 0)
    assert [arg.text for arg in made] == ["8@[sp, 16]", "-4@x1", "4@[x0, w1, sxtw 2]"]
    assert parse("", ptregs.X86_64, symbol, 0) == []


@given(st.text(alphabet="0123456789@-+%$(),abcdefrxsipl[]# wf:", max_size=40), st.sampled_from(["x86_64", "aarch64"]))
def test_any_text_is_parsed_or_explained(text: str, name: str) -> None:
    for made in parse(text, ptregs.MACHINES[name], symbol, 0):
        assert made.kind != UNREADABLE or made.why
        assert len(made.pack()) == usdt_args.LAYOUT.size


def test_records_are_as_the_compiled_program_reads_them() -> None:
    from osmia.compiler import entry_user

    raw = usdt_args.pack(parse("-4@8(%rax,%rcx,4) 8@$-1", ptregs.X86_64, symbol, 0))
    assert len(raw) == usdt_args.RECORD_BYTES == entry_user._HEAD + entry_user._MOST * entry_user._BYTES
    assert struct.unpack_from("<Q", raw) == (2,)
    at = entry_user._HEAD
    assert struct.unpack_from("<q", raw, at + entry_user._VALUE) == (8,)
    assert struct.unpack_from("<H", raw, at + entry_user._REGISTER) == (X86["rax"],)
    assert struct.unpack_from("<H", raw, at + entry_user._INDEX) == (X86["rcx"],)
    assert raw[at + entry_user._KIND] == INDEXED == entry_user.INDEXED
    assert (raw[at + entry_user._ABOVE], raw[at + entry_user._SIGNED], raw[at + entry_user._SCALE]) == (32, 1, 2)
    assert struct.unpack_from("<q", raw, at + entry_user._BYTES) == (-1,)
    assert (REGISTER, MEMORY, UNREADABLE) == (entry_user.REGISTER, entry_user.MEMORY, entry_user.UNREADABLE)


# --- notes --------------------------------------------------------------------------------------------------------


def image(tmp_path: Path, maker: Maker) -> Image:
    (tmp_path / "file").write_bytes(maker.bytes())
    return Image(str(tmp_path / "file"))


def test_notes_give_places_and_semaphores(tmp_path: Path) -> None:
    maker = Maker()
    maker.probe("app", "start", "4@%eax", 0x20)
    maker.probe("app", "start", "4@%ebx", 0x40)  # inlined a second time
    maker.probe("app", "stop", "", 0x60, semaphore=8)
    maker.note(".note.stapsdt", b"other", 3, b"x" * 40)
    found = usdt.sites(image(tmp_path, maker))
    assert [(s.full_name, s.offset, s.semaphore, s.spec) for s in found] == [
        ("app:start", CODE_OFFSET + 0x20, 0, "4@%eax"), ("app:start", CODE_OFFSET + 0x40, 0, "4@%ebx"),
        ("app:stop", CODE_OFFSET + 0x60, DATA_OFFSET + 8, ""),
    ]  # fmt: skip


def test_prelinked_files_are_adjusted_by_their_base(tmp_path: Path) -> None:
    """The note says 0x10000 less than where the file has been moved to since."""
    maker = Maker()
    maker.probe("app", "moved", "", 0x20 - 0x10000, semaphore=8 - 0x10000, base=0x700000)
    maker.section(".stapsdt.base", b"\0", address=0x710000)
    [site] = usdt.sites(image(tmp_path, maker))
    assert (site.offset, site.semaphore) == (CODE_OFFSET + 0x20, DATA_OFFSET + 8)
    assert site.address == CODE_ADDRESS + 0x20


def test_names_and_patterns(tmp_path: Path) -> None:
    maker = Maker()
    for provider, name in (("app", "gc__start"), ("app", "gc__done"), ("lib", "gc__start")):
        maker.probe(provider, name, "", 0x20)
    file = image(tmp_path, maker)
    assert [s.full_name for s in usdt.find(file, "app:gc__start")] == ["app:gc__start"]
    assert [s.full_name for s in usdt.find(file, "gc__start")] == ["app:gc__start", "lib:gc__start"]
    assert [s.full_name for s in usdt.find(file, "app:*")] == ["app:gc__start", "app:gc__done"]
    assert [s.full_name for s in usdt.find(file, "*:*done")] == ["app:gc__done"]
    with pytest.raises(NotFound, match="it has gc__start"):
        usdt.find(file, "app:gc_start")
    with pytest.raises(NotFound, match="no static probes"):
        usdt.find(image(tmp_path, Maker()), "x")


def test_arguments_by_the_files_machine(tmp_path: Path) -> None:
    maker = Maker(ARM64)
    maker.probe("app", "start", "-4@[x0, w1, sxtw 2]", 0x20)
    file = image(tmp_path, maker)
    [made] = usdt.arguments(file, Symbols(file), usdt.sites(file)[0])
    assert made.kind == INDEXED_SIGNED32
    maker = Maker()
    maker.symbol("counter", DATA_ADDRESS - CODE_ADDRESS + 4, kind=OBJECT)
    maker.probe("app", "start", "4@counter(%rip)", 0x20)
    file = image(tmp_path, maker)
    [made] = usdt.arguments(file, Symbols(file), usdt.sites(file)[0])
    assert (made.kind, made.value) == (MEMORY, DATA_ADDRESS + 4 - CODE_ADDRESS - 0x20)


def test_notes_that_point_nowhere(tmp_path: Path) -> None:
    maker = Maker()
    maker.probe("app", "start", "", 0x100000)
    with pytest.raises(UserError, match="outside of the file"):
        usdt.sites(image(tmp_path, maker))
    maker = Maker()
    maker.note(".note.stapsdt", b"stapsdt", 3, b"short")
    with pytest.raises(UserError, match="cut short"):
        usdt.sites(image(tmp_path, maker))
