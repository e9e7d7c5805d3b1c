# SPDX-License-Identifier: Apache-2.0
"""Objects that clang made, read and taken apart; and what is refused."""

from __future__ import annotations

import random
import struct

import pytest
from conftest_obj import build, build_text

from osmia.errors import NotSupported, UserError
from osmia.obj import consts, meta
from osmia.obj.btf import Btf
from osmia.obj.elf import parse_object
from osmia.obj.elffile import ElfFile
from osmia.obj.sections import describe_section
from osmia.obj.spec import FuncSpec, ObjectSpec


@pytest.fixture(scope="module")
def spec() -> ObjectSpec:
    return parse_object(build("object"), "object.o")


def relocs(function: FuncSpec) -> list[tuple[str, str, int]]:
    return [(r.kind, r.target, r.addend) for r in function.relocs]


def test_license_and_meta(spec: ObjectSpec) -> None:
    assert spec.name == "object.o"
    assert spec.license == "GPL"
    assert meta.load(spec.meta) == [("print", "1", "hello %s\n", "str"), ("map", "counts", "mod", "counts")]


def test_maps(spec: ObjectSpec) -> None:
    assert list(spec.maps) == ["counts", "events", "plain", "outer", ".rodata", ".data", ".bss"]
    btf = Btf(spec.btf)
    m = spec.maps["counts"]
    assert (m.type, m.key_size, m.value_size, m.max_entries, m.flags) == (consts.BPF_MAP_TYPE_HASH, 8, 24, 1024, 1)
    assert btf.name_of(m.key_tid) == "struct key" and btf.name_of(m.value_tid) == "struct value"
    m = spec.maps["plain"]
    assert (m.type, m.key_size, m.value_size, m.max_entries, m.pinning) == (consts.BPF_MAP_TYPE_ARRAY, 4, 24, 7, 1)
    assert (m.key_tid, m.value_tid, m.numa_node) == (0, 0, 0)
    m = spec.maps["events"]
    assert (m.type, m.key_size, m.value_size, m.max_entries) == (consts.BPF_MAP_TYPE_RINGBUF, 0, 0, 65536)


def test_map_of_maps(spec: ObjectSpec) -> None:
    m = spec.maps["outer"]
    assert (m.type, m.key_size, m.value_size, m.max_entries) == (consts.BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 5)
    inner = m.inner
    assert inner is not None
    assert (inner.type, inner.key_size, inner.value_size, inner.max_entries) == (consts.BPF_MAP_TYPE_ARRAY, 4, 8, 3)


def test_data_sections(spec: ObjectSpec) -> None:
    rodata, data, bss = (spec.maps[name] for name in (".rodata", ".data", ".bss"))
    assert rodata.contents == struct.pack("<I4B", 42, 1, 2, 3, 4)
    assert rodata.variables == {"wanted": (0, 4), "table": (4, 4)}
    assert data.contents == struct.pack("<QI", 7, 9)
    assert data.variables == {"total": (0, 8), "hidden": (8, 4)}
    assert bss.contents == bytes(bss.value_size) and set(bss.variables) == {"zeroed", "private_zero"}
    for m in (rodata, data, bss):
        assert (m.type, m.key_size, m.max_entries) == (consts.BPF_MAP_TYPE_ARRAY, 4, 1)
        assert m.contents is not None and m.value_size == len(m.contents)
        assert Btf(spec.btf).get(m.value_tid).name == m.name
    assert (rodata.flags, data.flags, bss.flags) == (consts.BPF_F_RDONLY_PROG, *[consts.BPF_F_MMAPABLE] * 2)
    assert spec.maps["counts"].contents is None


def test_setting_a_variable() -> None:
    rodata = parse_object(build("object"), "object.o").maps[".rodata"]
    rodata.set("wanted", b"\x07")
    assert rodata.contents == struct.pack("<I4B", 7, 1, 2, 3, 4)
    with pytest.raises(ValueError, match="do not fit"):
        rodata.set("wanted", bytes(5))


def test_programs(spec: ObjectSpec) -> None:
    assert set(spec.progs) == {"enter", "enter_again", "raw", "sleeping"}
    assert set(spec.funcs) == {"helper", "outer_helper", "each"}
    for name in ("enter", "enter_again"):
        p = spec.progs[name]
        assert (p.hook, p.type, p.attach_type) == ("tracepoint", consts.BPF_PROG_TYPE_TRACEPOINT, 0)
        assert (p.target, p.sleepable) == ("syscalls:sys_enter_openat", False)
        assert p.section == "tracepoint/syscalls/sys_enter_openat"
    p = spec.progs["raw"]
    assert (p.hook, p.type, p.target) == ("raw_tracepoint", consts.BPF_PROG_TYPE_RAW_TRACEPOINT, "sched_switch")
    p = spec.progs["sleeping"]
    assert (p.hook, p.type, p.attach_type) == ("fentry", consts.BPF_PROG_TYPE_TRACING, consts.BPF_TRACE_FENTRY)
    assert (p.target, p.sleepable) == ("do_unlinkat", True)
    for p in spec.progs.values():
        assert p.insns[-8:] == struct.pack("<BBhi", 0x95, 0, 0, 0), "ends in exit"


def test_relocations(spec: ObjectSpec) -> None:
    bss = spec.maps[".bss"].variables
    assert relocs(spec.progs["enter"]) == [
        ("map", "counts", 0), ("data", ".rodata", 0), ("call", "outer_helper", 0), ("map", "events", 0),
    ]
    assert relocs(spec.progs["enter_again"]) == [
        ("call", "helper", 0), ("data", ".data", 0), ("data", ".bss", bss["private_zero"][0]),
    ]
    assert relocs(spec.progs["raw"]) == [("func", "each", 0)]
    assert relocs(spec.progs["sleeping"]) == [("map", "plain", 0), ("map", "outer", 0)]
    assert relocs(spec.funcs["helper"]) == [("data", ".data", 8)]
    assert relocs(spec.funcs["each"]) == [("data", ".bss", bss["zeroed"][0]), ("data", ".rodata", 4)]
    # These two come without a relocation in the file: the assembler resolved them within .text.
    assert relocs(spec.funcs["outer_helper"]) == [("call", "helper", 0)] * 2


def test_relocations_are_at_the_right_instructions(spec: ObjectSpec) -> None:
    for function in (*spec.progs.values(), *spec.funcs.values()):
        for r in function.relocs:
            opcode, regs = function.insns[r.offset], function.insns[r.offset + 1]
            if r.kind == "call":
                assert (opcode, regs >> 4) == (0x85, consts.BPF_PSEUDO_CALL)
            else:
                assert opcode == 0x18
        assert [r.offset for r in function.relocs] == sorted(r.offset for r in function.relocs)


def test_btf_ext_is_split_by_function(spec: ObjectSpec) -> None:
    btf = Btf(spec.btf)
    for function in (*spec.progs.values(), *spec.funcs.values()):
        assert [offset for offset, _ in function.func_info] == [0]
        assert btf.get(function.func_info[0][1]).name == function.name
        offsets = [line[0] for line in function.line_info]
        assert offsets[0] == 0 and offsets == sorted(offsets) and offsets[-1] < len(function.insns)
        assert not any(offset % 8 for offset in offsets)
        assert all(btf.string(line[1]).endswith("object.c") for line in function.line_info)
    lines = {btf.string(line[2]).strip() for line in spec.funcs["helper"].line_info}
    assert "return x * 3 + hidden;" in lines
    again = {btf.string(line[2]).strip() for line in spec.progs["enter_again"].line_info}
    assert "total += helper(1);" in again and "return x * 3 + hidden;" not in again


def test_core_relocations_are_rebased() -> None:
    spec = parse_object(build("core"), "core.o")
    btf = Btf(spec.btf)
    assert [(offset, btf.string(access), kind) for offset, _, access, kind in spec.progs["get_chain"].core_relos] == [
        (0, "0:5", consts.BPF_CORE_FIELD_BYTE_OFFSET), (8, "0:1", consts.BPF_CORE_FIELD_BYTE_OFFSET),
    ]
    assert all(len(p.core_relos) in (1, 2) for p in spec.progs.values())


def test_datasecs_are_completed(spec: ObjectSpec) -> None:
    elf = ElfFile(build("object"), "object.o")
    section = elf.find(".BTF")
    assert section is not None
    raw = Btf(elf.contents(section))
    assert raw.get(raw.find(".maps", consts.BTF_KIND_DATASEC)).size == 0, "the compiler leaves it to the linker"
    btf = Btf(spec.btf)
    maps = btf.get(btf.find(".maps", consts.BTF_KIND_DATASEC))
    assert [btf.get(v[0]).name for v in maps.variables] == ["counts", "events", "plain", "outer"]
    assert maps.size == maps.variables[-1][1] + maps.variables[-1][2]
    for name in (".rodata", ".data", ".bss"):
        t = btf.get(btf.find(name, consts.BTF_KIND_DATASEC))
        assert t.size == spec.maps[name].value_size
        assert {btf.get(id).name: (offset, size) for id, offset, size in t.variables} == spec.maps[name].variables
        assert [v[1] for v in t.variables] == sorted(v[1] for v in t.variables)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("tp/block/block_rq_issue", ("tracepoint", 5, 0, "block:block_rq_issue", False)),
        ("raw_tracepoint/sys_enter", ("raw_tracepoint", 17, 0, "sys_enter", False)),
        ("raw_tp.w/nbd_send_request", ("raw_tracepoint", 24, 0, "nbd_send_request", False)),
        ("tp_btf/sched_switch", ("tp_btf", 26, 23, "sched_switch", False)),
        ("fexit/vfs_read", ("fexit", 26, 25, "vfs_read", False)),
        ("fmod_ret.s/bpf_modify_return_test", ("fmod_ret", 26, 26, "bpf_modify_return_test", True)),
        ("lsm.s/file_open", ("lsm", 29, 27, "file_open", True)),
        ("iter/task", ("iter", 26, 28, "task", False)),
        ("iter.s/task_vma", ("iter", 26, 28, "task_vma", True)),
        ("kprobe/do_sys_open+0x10", ("kprobe", 2, 0, "do_sys_open+0x10", False)),
        ("kretprobe.multi/vfs_*", ("kretprobe_multi", 2, 42, "vfs_*", False)),
        ("ksyscall/openat", ("ksyscall", 2, 0, "openat", False)),
        ("uprobe//usr/lib/libc.so.6:malloc", ("uprobe", 2, 0, "/usr/lib/libc.so.6:malloc", False)),
        ("uretprobe.multi.s//bin/x:f*", ("uretprobe_multi", 2, 48, "/bin/x:f*", True)),
        ("usdt/python3:python:gc__start", ("usdt", 2, 0, "python3:python:gc__start", False)),
        ("perf_event", ("perf_event", 7, 0, "", False)),
        ("syscall", ("syscall", 31, 0, "", True)),
        ("socket", ("socket", 1, 0, "", False)),
        ("socket/udp", ("socket", 1, 0, "udp", False)),
        ("xdp", ("xdp", 6, 37, "", False)),
        ("classifier", ("tc", 3, 0, "", False)),
        ("cgroup_skb/egress", ("cgroup_skb", 8, 1, "", False)),
        ("?kprobe/vfs_read", ("kprobe", 2, 0, "vfs_read", False)),
    ],
)
def test_section_names(section: str, expected: tuple[str, int, int, str, bool]) -> None:
    assert describe_section(section) == expected


def test_unknown_section() -> None:
    with pytest.raises(NotSupported, match=r"x\.o: section 'kprobes/vfs_read' is of no known program type; name it"):
        describe_section("kprobes/vfs_read", "x.o")


HEAD = '#include "bpf.h"\nchar _license[] SEC("license") = "GPL";\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extern int CONFIG_HZ SEC(".kconfig");\nSEC("socket") int f(void *c) { return CONFIG_HZ; }',
         r"'f' uses extern 'CONFIG_HZ'"),
        ('extern const int runqueues SEC(".ksyms");\nSEC("socket") int f(void *c) { return runqueues; }',
         r"'f' uses extern 'runqueues'"),
        ('extern int some_kfunc(void) SEC(".ksyms");\nSEC("socket") int f(void *c) { return some_kfunc(); }',
         r"'f' uses extern 'some_kfunc'"),
        ('struct { int type; } old SEC("maps") = {1};\nSEC("socket") int f(void *c) { return 0; }',
         r"old-style map definitions"),
        ('struct { __uint(type, 12); __uint(max_entries, 1); __uint(surprise, 2); } m SEC(".maps");',
         r"map 'm' has an unknown attribute 'surprise'"),
        ('SEC("nonsense/x") int f(void *c) { return 0; }', r"section 'nonsense/x' is of no known program type"),
        ('int g;\nint *p = &g;\nSEC("socket") int f(void *c) { return *p; }', r"section \.data holds addresses"),
        ('static NOINLINE SEC("socket") int g(void *c) { return 1; }\nSEC("socket") int f(void *c) { return g(c); }',
         r"function 'g' in section 'socket' is static"),
        ('struct in { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, u32); } i SEC(".maps");'
         'struct { __uint(type, 12); __uint(max_entries, 1); __array(values, struct in); } o SEC(".maps") = '
         "{.values = {&i}};", r"a map whose slots are initialised in the source \(i\)"),
    ],
)
def test_refused_with_a_sentence(text: str, message: str) -> None:
    with pytest.raises(NotSupported, match=message) as e:
        parse_object(build_text(HEAD + text), "bad.o")
    assert e.value.where == "bad.o" and "\n" not in str(e.value)


def test_maps_without_types() -> None:
    text = HEAD + 'struct { __uint(type, 2); } m SEC(".maps");\nSEC("socket") int f(void *c) { return 0; }'
    with pytest.raises(UserError, match=r"maps are defined but there is no \.BTF section; compile with -g"):
        parse_object(build_text(text, "-g0"), "bare.o")


def test_object_without_debug_information() -> None:
    spec = parse_object(build_text(HEAD + 'int n = 3;\nSEC("socket") int f(void *c) { return n++; }', "-g0"), "bare.o")
    assert spec.btf == b"" and relocs(spec.progs["f"]) == [("data", ".data", 0)]
    assert spec.maps[".data"].value_tid == 0 and spec.maps[".data"].contents == struct.pack("<i", 3)


def test_several_rodata_sections() -> None:
    text = HEAD + (
        'static const char text[] SEC(".rodata.text") = "hi";\nconst volatile int n = 5;\n'
        'SEC("socket") int f(void *c) { return text[n]; }'
    )
    spec = parse_object(build_text(text), "two.o")
    assert spec.maps[".rodata.text"].contents == b"hi\0" and spec.maps[".rodata"].contents == struct.pack("<i", 5)
    assert spec.maps[".rodata.text"].flags == consts.BPF_F_RDONLY_PROG
    assert {r.target for r in spec.progs["f"].relocs} == {".rodata", ".rodata.text"}


def test_addend_within_a_variable() -> None:
    text = HEAD + 'int a[4] = {1, 2, 3, 4};\nSEC("socket") int f(void *c) { return __sync_fetch_and_add(&a[3], 1); }'
    spec = parse_object(build_text(text), "addend.o")
    (r,) = spec.progs["f"].relocs
    (imm,) = struct.unpack_from("<i", spec.progs["f"].insns, r.offset + 4)
    # Compilers put the 12 in the address or in the access; the one that is in the address must be in the addend.
    assert (r.kind, r.target, r.addend) == ("data", ".data", imm)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an ELF object"),
        (b"#!/bin/sh\n", "not an ELF object"),
        (b"\x7fELF", "cut short"),
        (b"\x7fELF\x01\x01\x01" + bytes(80), "not a 64-bit little-endian"),
        (b"\x7fELF\x02\x02\x01" + bytes(80), "not a 64-bit little-endian"),
    ],
)
def test_not_an_object(data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_object(data, "x")


def test_wrong_machine() -> None:
    data = bytearray(build("object"))
    struct.pack_into("<H", data, 18, 62)
    with pytest.raises(UserError, match="machine 62, not for BPF"):
        parse_object(bytes(data), "x86.o")


def survive(data: bytes) -> bool:
    """Whether the object was read; anything but success and a one-line UserError fails the test."""
    try:
        spec = parse_object(data, "fuzz.o")
        if spec.btf:
            btf = Btf(spec.btf)
            for id in btf.ids():
                btf.name_of(id)
    except UserError as e:
        assert "\n" not in str(e)
        return False
    return True


def test_truncations() -> None:
    data = build("object")
    cuts = [*range(200), *range(200, len(data), 97)]
    assert not any(survive(data[:cut]) for cut in cuts), "section headers are last: no cut leaves them whole"


def test_bit_flips() -> None:
    rng = random.Random(20)
    data = build("object")
    # Flips in headers, symbols, BTF and relocations are what can hurt; debug sections only dilute.
    elf = ElfFile(data, "o")
    places = [i for s in elf.sections if not s.name.startswith((".debug", ".rel.debug")) and s.type != 8
              for i in range(s.offset, s.offset + s.size)]
    places += [*range(64), *range(len(data) - 64 * len(elf.sections), len(data))]
    survived = 0
    for _ in range(1500):
        bad = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            bad[rng.choice(places)] ^= 1 << rng.randrange(8)
        survived += survive(bytes(bad))
    assert 0 < survived < 1500


def test_random_words_in_btf() -> None:
    rng = random.Random(21)
    data = build("core")
    section = ElfFile(data, "o").find(".BTF")
    assert section is not None
    for _ in range(300):
        bad = bytearray(data)
        struct.pack_into("<I", bad, section.offset + 4 * rng.randrange(section.size // 4), rng.getrandbits(32))
        survive(bytes(bad))
