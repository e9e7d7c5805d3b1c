# SPDX-License-Identifier: Apache-2.0
"""Objects with every kind of map are what libbpf expects: ``bpftool prog loadall`` takes them."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest
from kernel_code import compile_module, module
from needs import needs

from osmia.obj import consts
from osmia.obj.elf import parse_object

pytestmark = pytest.mark.kernel

EVERYTHING = """
class P(Event):
    x: u64
    y: u32
ring = Ring(P, 4096)
rec = FlightRecorder(P, 4096)
nets = LpmTrie[u32, u64](16)
q = Queue[u64](4)
b = Bloom[u64](100)
outer = HashOfMaps[u32](Hash[u32, u64](64), 8)
arr = ArrayOfMaps(PerCpuHash[u32, u64](64), 2)
st = StackTraces(64)
kept = Stacks(64)
g = Global[u64](5)
gp = Global[P]()
t = PerThread[u64]()
c = Counters("cpu-clock")
osmia_test_pins = pinned(Hash[u32, u64](7))

@tail_program(tracepoint("syscalls:sys_enter_getpriority"))
def second(call):
    g.value += 1
progs = ProgArray([second])

@tracepoint("syscalls:sys_enter_getpriority")
def first(call):
    with ring.reserve() as e:
        e.x = c.read()
    with rec.reserve() as e:
        e.x = call.who
    q.push(1)
    b.add(2)
    nets[u32(call.who)] += 1
    i = outer.get(1)
    if i is not None:
        i[2] += 1
    j = arr.get(1)
    if j is not None:
        j[2] += 1
    st.kernel()
    gp.value.x = 3
    t.value += 1
    osmia_test_pins[1] += 1
    print(f"hello {call.who}")
    trace_printk(f"x {call.who}")
    tail_call(progs, 0)
"""
TYPES = {
    "ring": "RINGBUF", "rec": "PERF_EVENT_ARRAY", "nets": "LPM_TRIE", "q": "QUEUE", "b": "BLOOM_FILTER",
    "outer": "HASH_OF_MAPS", "arr": "ARRAY_OF_MAPS", "st": "STACK_TRACE", "t": "HASH", "c": "PERF_EVENT_ARRAY",
    "progs": "PROG_ARRAY", "osmia_test_pins": "HASH", ".data": "ARRAY",
}  # fmt: skip


def test_the_object_says_what_was_meant() -> None:
    spec = parse_object(compile_module(module(EVERYTHING)), "test")
    assert {name: spec.maps[name].type for name in TYPES} == {
        name: getattr(consts, f"BPF_MAP_TYPE_{kind}") for name, kind in TYPES.items()
    }
    outer, arr, pins, bloom = (spec.maps[name] for name in ("outer", "arr", "osmia_test_pins", "b"))
    assert outer.inner is not None and (outer.inner.type, outer.inner.max_entries) == (consts.BPF_MAP_TYPE_HASH, 64)
    assert arr.inner is not None and arr.inner.type == consts.BPF_MAP_TYPE_PERCPU_HASH
    assert (pins.pinning, bloom.extra, spec.maps["nets"].flags, bloom.key_size) == (1, 5, 1, 0)


@pytest.mark.feature("B19 own objects for others")
def test_libbpf_takes_every_kind(tmp_path: pathlib.Path) -> None:
    needs("bloom_filter")
    tool = shutil.which("bpftool", path=os.environ.get("PATH", "") + ":/usr/sbin")
    assert tool, "bpftool is not installed"
    path, folder = tmp_path / "all.o", f"/sys/fs/bpf/osmia-libbpf-{os.getpid()}"
    path.write_bytes(compile_module(module(EVERYTHING)))
    try:
        done = subprocess.run([tool, "prog", "loadall", str(path), folder], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert sorted(os.listdir(folder)) == ["first", "second"]
        shown = subprocess.run([tool, "map", "show", "pinned", "/sys/fs/bpf/osmia_test_pins"], capture_output=True,
                               text=True, check=True).stdout  # fmt: skip
        assert "key 4B  value 8B  max_entries 7" in shown
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        pathlib.Path("/sys/fs/bpf/osmia_test_pins").unlink(missing_ok=True)
