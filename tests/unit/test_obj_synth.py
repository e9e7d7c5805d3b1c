# SPDX-License-Identifier: Apache-2.0
"""Tracepoint formats as BTF, and programs relocated with them."""

from __future__ import annotations

import struct

import pytest
from conftest_obj import build_text

from osmia.errors import UserError
from osmia.obj import consts as c
from osmia.obj.btf import Btf
from osmia.obj.elf import parse_object
from osmia.obj.relo_core import POISON, relocate
from osmia.obj.synth import btf_from_formats, parse_format, struct_name

COMMON = """\
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

"""
SWITCH = f"""\
name: sched_switch
ID: 372
format:
{COMMON}\
	field:char prev_comm[16];	offset:8;	size:16;	signed:0;
	field:pid_t prev_pid;	offset:24;	size:4;	signed:1;
	field:long prev_state;	offset:32;	size:8;	signed:1;
	field:pid_t next_pid;	offset:56;	size:4;	signed:1;
	field:int next_prio;	offset:60;	size:4;	signed:1;

print fmt: "field:int fake;	offset:0;	size:4;	signed:1;", REC->prev_comm
"""
ODD = f"""\
name: odd_event
ID: 9
format:
{COMMON}\
	field:__data_loc char[] name;	offset:8;	size:4;	signed:0;
	field:__rel_loc u8[] tail;	offset:12;	size:4;	signed:0;
	field:const char * filename;	offset:16;	size:8;	signed:0;
	field:const void *const call_site;	offset:24;	size:8;	signed:0;
	field:enum zone_type zone;	offset:32;	size:4;	signed:0;
	field:bool success;	offset:36;	size:1;	signed:0;
	field:__u8 saddr[4];	offset:37;	size:4;	signed:0;
	field:char comm[TASK_COMM_LEN];	offset:41;	size:16;	signed:0;
	field:unsigned long args[6];	offset:64;	size:48;	signed:0;
	field:struct in6_addr address;	offset:112;	size:16;	signed:0;
	field:fl_owner_t owner;	offset:128;	size:8;	signed:0;
	field:big_t big;	offset:136;	size:24;	signed:0;
	field:void * ptrs[3];	offset:160;	size:24;	signed:0;
	field:__data_loc cpumask_t cpus;	offset:184;	size:4;	signed:0;
	field:__u32 buf[];	offset:188;	size:0;	signed:0;

print fmt: ""
"""
ENTER = f"""\
name: sys_enter_openat
ID: 782
format:
{COMMON}\
	field:int __syscall_nr;	offset:8;	size:4;	signed:1;
	field:int dfd;	offset:16;	size:8;	signed:0;
	field:const char * filename;	offset:24;	size:8;	signed:0;

print fmt: ""
"""


def members(btf: Btf, name: str) -> dict[str, tuple[str, int]]:
    """Name to (C type, byte offset) of a synthesised structure's members."""
    t = btf.get(btf.find(name, c.BTF_KIND_STRUCT))
    assert all(m.bit_offset % 8 == 0 and not m.bitfield_size for m in t.members)
    return {m.name: (btf.name_of(m.type_id), m.bit_offset // 8) for m in t.members}


def test_parse_format() -> None:
    name, id, fields = parse_format(SWITCH)
    assert (name, id) == ("sched_switch", 372)
    assert [f.name for f in fields[:4]] == ["common_type", "common_flags", "common_preempt_count", "common_pid"]
    assert [(f.name, f.type, f.offset, f.size, f.signed) for f in fields[4:]] == [
        ("prev_comm", "char[16]", 8, 16, False), ("prev_pid", "pid_t", 24, 4, True),
        ("prev_state", "long", 32, 8, True), ("next_pid", "pid_t", 56, 4, True), ("next_prio", "int", 60, 4, True),
    ]


def test_parse_odd_fields() -> None:
    fields = {f.name: f.type for f in parse_format(ODD)[2]}
    assert fields["name"] == "__data_loc char[]" and fields["tail"] == "__rel_loc u8[]"
    assert fields["filename"] == "const char *" and fields["call_site"] == "const void *const"
    assert fields["comm"] == "char[TASK_COMM_LEN]" and fields["cpus"] == "__data_loc cpumask_t"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "without name or ID"),
        ("name: x\nID: many\n", "'ID: many'"),
        ("name: x\nID: 1\n\tfield:int a;\tsize:4;\tsigned:1;\n", "not understood: 'field:int a;"),
        ("name: x\nID: 1\n\tfield:int a;\toffset:q;\tsize:4;\n", "not understood"),
    ],
)
def test_bad_formats(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_format(text)


def test_plain_event() -> None:
    btf = Btf(btf_from_formats({"trace_event_raw_sched_switch": SWITCH}))
    assert members(btf, "trace_event_raw_sched_switch") == {
        "ent": ("struct trace_entry", 0), "prev_comm": ("char[16]", 8), "prev_pid": ("pid_t", 24),
        "prev_state": ("long", 32), "next_pid": ("pid_t", 56), "next_prio": ("int", 60), "__data": ("char[]", 64),
    }
    assert members(btf, "trace_entry")["pid"] == ("int", 4)
    t = btf.get(btf.find("trace_event_raw_sched_switch", c.BTF_KIND_STRUCT))
    pid, comm = t.members[2], t.members[1]
    assert t.size == 64 and btf.get(pid.type_id).signed and btf.size_of(comm.type_id) == 16


def test_odd_fields() -> None:
    btf = Btf(btf_from_formats({"trace_event_raw_odd": ODD}))
    m = members(btf, "trace_event_raw_odd")
    assert m["__data_loc_name"] == ("u32", 8) and m["__rel_loc_tail"] == ("u32", 12) and "name" not in m
    assert m["__data_loc_cpus"] == ("u32", 184)
    assert m["filename"] == ("void *", 16) and m["call_site"] == ("void *", 24) and m["owner"] == ("void *", 128)
    assert m["zone"] == ("enum {...}", 32) and m["success"] == ("bool", 36)
    assert m["saddr"] == ("__u8[4]", 37) and m["comm"] == ("char[16]", 41) and m["args"] == ("unsigned long[6]", 64)
    assert m["address"] == ("struct in6_addr", 112) and m["big"] == ("struct big_t", 136)
    assert m["buf"] == ("__u32[]", 188)
    assert m["ptrs"] == ("void *[3]", 160) and m["__data"] == ("char[]", 192)


def test_system_calls_are_generic() -> None:
    assert struct_name("sys_enter_openat") == struct_name("sys_enter") == "trace_event_raw_sys_enter"
    assert struct_name("sys_exit_read") == "trace_event_raw_sys_exit"
    assert struct_name("sched_switch") == "trace_event_raw_sched_switch"
    btf = Btf(btf_from_formats({"trace_event_raw_sys_enter": ENTER, "trace_event_raw_sys_exit": ENTER}))
    assert members(btf, "trace_event_raw_sys_enter") == {
        "ent": ("struct trace_entry", 0), "id": ("long", 8), "args": ("unsigned long[6]", 16),
    }
    assert members(btf, "trace_event_raw_sys_exit") == {
        "ent": ("struct trace_entry", 0), "id": ("long", 8), "ret": ("long", 16),
    }


def test_array_that_does_not_divide() -> None:
    text = ODD.replace("saddr[4];	offset:37;	size:4", "saddr[4];	offset:37;	size:3")
    with pytest.raises(UserError, match="odd_event: field 'saddr': 3 bytes are not 4 elements"):
        btf_from_formats({"trace_event_raw_odd": text})


PROGRAM = """
#include "bpf.h"
struct trace_event_raw_sched_switch { int next_pid; long prev_state; char prev_comm[16]; int gone; } CORE;
struct trace_event_raw_sys_enter { unsigned long args[6]; } CORE;
SEC("tp/sched/sched_switch") u64 next(struct trace_event_raw_sched_switch *t) { return t->next_pid; }
SEC("tp/sched/sched_switch") u64 state(struct trace_event_raw_sched_switch *t) { return t->prev_state; }
SEC("tp/sched/sched_switch") u64 comm(struct trace_event_raw_sched_switch *t) { return t->prev_comm[3]; }
SEC("tp/sched/sched_switch") u64 gone(struct trace_event_raw_sched_switch *t) { return t->gone; }
SEC("tp/syscalls/sys_enter_openat") u64 path(struct trace_event_raw_sys_enter *t) { return t->args[1]; }
"""


def test_relocating_with_it() -> None:
    spec = parse_object(build_text(PROGRAM), "tp.o")
    formats = {"trace_event_raw_sched_switch": SWITCH, "trace_event_raw_sys_enter": ENTER}
    target = Btf(btf_from_formats(formats))
    found = {}
    for p in spec.progs.values():
        insns = bytearray(p.insns)
        relocate(insns, p.core_relos, Btf(spec.btf), target, p.name)
        code, _, off, imm = struct.unpack_from("<BBhi", insns, p.core_relos[0][0])
        found[p.name] = imm if code == 0x85 else off
    assert found == {"next": 56, "state": 32, "comm": 11, "gone": POISON, "path": 24}
