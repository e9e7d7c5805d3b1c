# SPDX-License-Identifier: Apache-2.0
"""The running kernel's types, as osmia reads them and as bpftool does."""

from __future__ import annotations

import json
import pathlib
import shutil
import struct
import subprocess
import sys
from typing import Any

import pytest

from osmia.obj import consts as c
from osmia.obj.btf import KIND_NAMES, Btf
from osmia.obj.core_match import fields_compatible
from osmia.obj.elf import parse_object
from osmia.obj.relo_core import relocate
from osmia.obj.synth import PREFIX, btf_from_formats

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "unit"))
from conftest_obj import build

pytestmark = pytest.mark.kernel
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
VMLINUX = pathlib.Path("/sys/kernel/btf/vmlinux")
EVENTS = pathlib.Path("/sys/kernel/tracing/events")


@pytest.fixture(scope="module")
def btf() -> Btf:
    return Btf(VMLINUX.read_bytes(), name=str(VMLINUX))


@pytest.fixture(scope="module")
def dump() -> list[dict[str, Any]]:
    """bpftool's reading of the same bytes; type N at index N - 1."""
    path = shutil.which("bpftool") or "/usr/sbin/bpftool"
    command = [path, "-j", "btf", "dump", "file", str(VMLINUX)]
    out = subprocess.run(command, check=True, capture_output=True, timeout=120)
    types: list[dict[str, Any]] = json.loads(out.stdout)["types"]
    return types


def struct_of(dump: list[dict[str, Any]], name: str) -> dict[str, int]:
    """Bit offsets of the named members of a struct, and where its bit fields start, by bpftool."""
    for t in dump:
        if t["kind"] == "STRUCT" and t["name"] == name:
            return {m["name"]: m["bits_offset"] for m in t["members"]}
    raise AssertionError(f"no struct {name} in this kernel")


def test_constants_are_this_kernels() -> None:
    command = [sys.executable, str(ROOT / "scripts/gen_consts.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 300


def test_a_wrong_constant_is_noticed(tmp_path: pathlib.Path) -> None:
    text = (ROOT / "src/osmia/obj/consts.py").read_text().replace("BPF_MAP_TYPE_HASH = 1\n", "BPF_MAP_TYPE_HASH = 2\n")
    (tmp_path / "consts.py").write_text(text)
    command = [sys.executable, str(ROOT / "scripts/gen_consts.py"), "--check", "--output", str(tmp_path / "consts.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "BPF_MAP_TYPE_HASH: 2 here, 1 in" in done.stderr


def test_every_type_is_bpftools(btf: Btf, dump: list[dict[str, Any]]) -> None:
    assert len(btf) - 1 == len(dump) > 10000
    for t in dump:
        assert KIND_NAMES[btf.kind_of(t["id"])].upper() == t["kind"]
    for t in dump[::7]:
        mine = btf.get(t["id"])
        name = "" if t["name"] == "(anon)" else t["name"]
        assert mine.name == name
        if "size" in t:
            assert mine.size == t["size"]
        if t["kind"] in ("STRUCT", "UNION"):
            theirs = [
                ("" if m["name"] == "(anon)" else m["name"], m["type_id"], m["bits_offset"], m.get("bitfield_size", 0))
                for m in t["members"]
            ]
            assert [(m.name, m.type_id, m.bit_offset, m.bitfield_size) for m in mine.members] == theirs
        elif t["kind"] in ("ENUM", "ENUM64"):
            # bpftool prints an unsigned 2147483648 as a negative number in 64 bits.
            # Before there was ENUM64 (6.0), larger ones had lost their upper half.
            mask = (1 << min(8 * t["size"], 32 if t["kind"] == "ENUM" else 64)) - 1
            theirs = [(v["name"], v["val"] & mask) for v in t["values"]]
            assert [(name, value & mask) for name, value in mine.enumerators] == theirs
            assert mine.signed == (t["encoding"] == "SIGNED")
        elif t["kind"] == "ARRAY":
            assert (mine.elem_id, mine.index_id, mine.nelems) == (t["type_id"], t["index_type_id"], t["nr_elems"])
        elif t["kind"] == "FUNC_PROTO":
            assert mine.type_id == t["ret_type_id"]
            assert mine.params == [("" if p["name"] == "(anon)" else p["name"], p["type_id"]) for p in t["params"]]
        elif t["kind"] in ("PTR", "TYPEDEF", "CONST", "VOLATILE", "FUNC", "RESTRICT"):
            assert mine.type_id == t["type_id"]
        assert btf.name_of(t["id"])


def test_find_is_the_first_of_that_name(btf: Btf, dump: list[dict[str, Any]]) -> None:
    first: dict[tuple[str, str], int] = {}
    for t in dump:
        first.setdefault((t["name"], t["kind"]), t["id"])
    kinds = {name.upper(): number for number, name in enumerate(KIND_NAMES)}
    wanted = [key for key in list(first)[:: len(first) // 60] if key[0] != "(anon)"]
    assert len(wanted) > 20
    for name, kind in [*wanted, ("task_struct", "STRUCT"), ("btf_trace_sched_switch", "TYPEDEF")]:
        assert btf.find(name, kinds[kind]) == first[name, kind]
    records = {t["name"] for t in dump if t["kind"] == "STRUCT" and t["name"].startswith(PREFIX)}
    assert {name for name, _ in btf.find_prefix(PREFIX)} == records and len(records) > 100


def test_relocations_against_this_kernel(btf: Btf, dump: list[dict[str, Any]]) -> None:
    spec = parse_object(build("kernel"), "kernel.o")
    found = {}
    for p in spec.progs.values():
        insns = bytearray(p.insns)
        relocate(insns, p.core_relos, Btf(spec.btf), btf, p.name)
        values = [struct.unpack_from("<BBhi", insns, r[0]) for r in p.core_relos]
        found[p.name] = [off if code & 7 == 1 else imm for code, _, off, imm in values]
    task, switch = struct_of(dump, "task_struct"), struct_of(dump, PREFIX + "sched_switch")
    start = task["in_execve"] // 8 // 4 * 4
    assert found == {
        "tgid": [task["tgid"] // 8],
        "parent_tgid": [task["real_parent"] // 8, task["tgid"] // 8],
        "comm": [task["comm"] // 8 + 2],
        "start_time": [task["start_time"] // 8],
        "comm_size": [16],
        "execve_lshift": [64 - (task["in_execve"] + 1 - start * 8)],
        "next_pid": [switch["next_pid"] // 8],
        "next_comm": [switch["next_comm"] // 8],
    }


def test_formats_agree_with_the_kernels_own_structures(btf: Btf) -> None:
    """Every tracepoint that has a structure of its own: same members, same places, types that CO-RE accepts."""
    records = dict(btf.find_prefix(PREFIX))
    compared = 0
    odd = []
    for path in sorted(EVENTS.glob("*/*/format")):
        name = PREFIX + path.parent.name
        if name not in records:
            continue
        synth = Btf(btf_from_formats({name: path.read_text()}))
        real = {m.name: m for m in btf.get(records[name]).members}
        for member in synth.get(synth.find(name, c.BTF_KIND_STRUCT)).members:
            if member.name in ("ent", "__data"):
                continue
            twin = real.get(member.name)
            if twin is None or twin.bit_offset != member.bit_offset:
                odd.append((name, member.name, "place"))
            elif not fields_compatible(btf, twin.type_id, synth, member.type_id):
                odd.append((name, member.name, btf.name_of(twin.type_id)))
            compared += 1
    assert compared > 500
    assert len(odd) <= compared // 100, odd
