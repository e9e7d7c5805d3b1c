# SPDX-License-Identifier: Apache-2.0
"""Specs become live on this kernel, and the numbers come out right."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from kernel_code import compile_module, module, tracepoint_format
from needs import needs

from osmia.compiler.stages import compile_unit
from osmia.errors import NotFound, NotSupported, VerifierError
from osmia.kernel import btf_source, features
from osmia.lang.unit import Unit
from osmia.link import attach
from osmia.load.object import load
from osmia.obj.elf import parse_object
from osmia.obj.spec import ObjectSpec

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("no_fd_leak")]
Specs = Callable[[str], ObjectSpec]


@pytest.fixture(autouse=True)
def _features_back() -> Iterator[None]:
    yield
    features.turn_off()
    btf_source.use("")


def u64(data: bytes | None) -> int:
    assert data is not None
    value: int = struct.unpack_from("<Q", data)[0]
    return value


def variable(spec: ObjectSpec, live: object, name: str) -> int:
    offset, _ = spec.maps[".bss"].variables[name]
    return u64(live.maps[".bss"].lookup(bytes(4))[offset:])  # type: ignore[attr-defined]


@pytest.mark.feature("B19 objects of others")
def test_hundred_calls_count_a_hundred(live_spec: Specs) -> None:
    spec = live_spec("live")
    spec.maps[".rodata"].set("want_tgid", struct.pack("<I", os.getpid()))
    with load(spec, optional=["run"]) as live, attach(live.progs["on_enter"]), attach(live.progs["on_raw"]), \
            attach(live.progs["on_typed"]):  # fmt: skip
        for _ in range(100):
            os.getpgid(0)
        counts = {struct.unpack("<I", k)[0]: u64(v) for k, v in live.maps["counts"].items()}
        assert counts == {7: 100, 8: 100, 9: 100}
        assert variable(spec, live, "total") == 100
        percpu = live.maps["percpu"]
        slots = struct.unpack(f"<{percpu.ncpus}Q", percpu.lookup(bytes(4)) or b"")
        assert sum(slots) == 100
        assert live.memory() > 8192  # kernels before 6.4 count keys and values only


def test_option_of_another_process_counts_nothing(live_spec: Specs) -> None:
    spec = live_spec("live")
    spec.maps[".rodata"].set("want_tgid", struct.pack("<I", 1 << 30))
    with load(spec, only=["on_raw"]) as live, attach(live.progs["on_raw"]):
        assert set(live.maps) == {"counts", ".rodata"}
        for _ in range(10):
            os.getpgid(0)
        assert dict(live.maps["counts"].items()) == {}


def test_rodata_is_frozen(live_spec: Specs) -> None:
    with load(live_spec("live"), only=["on_raw"]) as live, pytest.raises(PermissionError):
        rodata = live.maps[".rodata"]
        rodata.update(bytes(4), bytes(rodata.value_size))


def test_callbacks_and_test_run(live_spec: Specs) -> None:
    needs("bpf_loop")
    spec = live_spec("live")
    with load(spec, only=["run"]) as live:
        assert live.progs["run"].test_run(struct.pack("<QQ", 1000, 23))[0] == 1023
        assert variable(spec, live, "looped") == 1000
        info = live.stats()["run"]
        assert info.name == "run" and info.map_count == 1
        assert info.verified_insns > 10  # the kernel tells since 5.16, so all that have bpf_loop do


def test_run_time_is_counted(live_spec: Specs) -> None:
    from osmia.kernel import bpf

    counting = bpf.enable_stats()
    try:
        with load(live_spec("live"), only=["on_raw"]) as live:
            for _ in range(5):
                live.progs["on_raw"].test_run(struct.pack("<QQ", 10, 0))
            with attach(live.progs["on_raw"]):
                for _ in range(50):
                    os.getpgid(0)
            info = live.stats()["on_raw"]
            assert info.run_cnt >= 50 and info.run_time_ns > 0
    finally:
        os.close(counting)


def test_sizes_can_be_overridden(live_spec: Specs) -> None:
    with load(live_spec("live"), optional=["run"], max_entries={"ring": 100_000, "counts": 3}) as live:
        assert live.maps["ring"].max_entries == 131072
        assert live.maps["counts"].max_entries == 3


def check_core(spec: ObjectSpec, notes: str, programs: tuple[str, ...] = ("record", "tasks")) -> None:
    spec.maps[".rodata"].set("want_tgid", struct.pack("<I", os.getpid()))
    with load(spec, only=programs) as live:
        assert notes in " ".join(live.notes)
        with attach(live.progs["record"]):
            os.getpgid(os.getpid())
            assert variable(spec, live, "last_id") & 0xFFFFFFFF == 121  # the record holds an int there
            assert variable(spec, live, "last_arg") == os.getpid()
        if "tasks" in programs:
            child = subprocess.Popen(["sleep", "60"])
            with attach(live.progs["tasks"]) as link:
                data = link.read()  # type: ignore[attr-defined]
            child.kill()
            child.wait()
            tgids = struct.unpack(f"<{len(data) // 4}I", data)
            assert {os.getpid(), child.pid} <= set(tgids)
            assert variable(spec, live, "absent") == 0


@pytest.mark.feature("B7 kernel structures: attributes, relocated")
def test_core_by_the_kernel(live_spec: Specs) -> None:
    needs("core_relo")
    spec = live_spec("core")
    check_core(spec, "")
    with load(spec, only=["record"]) as live:
        assert live.notes == []


@pytest.mark.feature("B7 kernel structures: attributes, relocated", "B19 objects of others")
def test_core_by_osmia(live_spec: Specs) -> None:
    features.turn_off("core_relo")
    check_core(live_spec("core"), "relocated by osmia with /sys/kernel/btf/vmlinux")


def test_core_with_a_named_file(live_spec: Specs, tmp_path: object) -> None:
    path = f"{tmp_path}/types.btf"
    with open("/sys/kernel/btf/vmlinux", "rb") as source, open(path, "wb") as target:
        target.write(source.read())
    btf_source.use(path)
    check_core(live_spec("core"), f"relocated by osmia with {path}")


def test_tracepoints_need_no_kernel_btf(live_spec: Specs) -> None:
    features.turn_off("btf")
    check_core(live_spec("core"), "tracefs format of syscalls:sys_enter_getpgid", ("record",))
    with pytest.raises(NotSupported, match=r"needs a kernel with BTF|no type information"):
        load(live_spec("core"), only=["tasks"])


GUARDED = """
n = Array[u64](2)

@tracepoint("syscalls:sys_enter_getpgid")
def enter(call):
    if exists("struct task_struct"):
        n[0] = current.task.tgid
    else:
        n[1] += 1
"""


def test_what_is_asked_for_first_need_not_be_there() -> None:
    """An object compiled with types runs where there are none, if it asks before it uses them."""
    guarded = parse_object(compile_module(module(GUARDED)), "guarded")
    careless = parse_object(compile_module(module(GUARDED.replace("exists(", "not exists("))), "careless")
    features.turn_off("btf")
    btf_source.use("")  # forgets the types
    with load(guarded) as live, attach(live.progs["enter"]):
        os.getpgid(0)
        first, second = (u64(live.maps["n"].lookup(struct.pack("<I", at))) for at in range(2))
        assert first == 0 and second >= 1
    with pytest.raises(NotSupported, match="no type information"):
        load(careless)


WOKEN = """
priority = Hash[s32, u64]()

@tracepoint("sched:sched_wakeup_new")
def woken(task):
    priority[task.pid] = task.prio
"""


@pytest.mark.parametrize("by", ["the kernel", "osmia"])
def test_a_record_may_be_called_otherwise_here(by: str) -> None:
    """Which events share a structure differs by kernel, so an object may name one that this kernel does not have."""
    unit = Unit("woken", vars(module(WOKEN)))
    spec = parse_object(compile_unit(unit, btf=None, tracepoint_format=tracepoint_format).object, "woken")
    assert b"trace_event_raw_sched_wakeup_new\0" in spec.btf, "the event's own name, and not its class's"
    if by == "osmia":
        features.turn_off("core_relo")
    with load(spec) as live, attach(live.progs["woken"]):
        assert live.notes == ["woken: fields relocated by osmia with /sys/kernel/btf/vmlinux and the"
                              " sched:sched_wakeup_new format"]  # fmt: skip
        child = subprocess.Popen(["true"])
        assert child.wait() == 0
        assert u64(live.maps["priority"].lookup(struct.pack("<i", child.pid))) == 120


def test_object_btf_is_not_needed(live_spec: Specs) -> None:
    features.turn_off("object_btf")
    with load(live_spec("live"), only=["on_raw", "on_enter"]) as live:
        assert set(live.progs) == {"on_raw", "on_enter"}


def test_sanitised_btf_is_still_btf(live_spec: Specs) -> None:
    from osmia.kernel import bpf
    from osmia.load.btf import sanitised

    for name in ("live", "core", "bad"):
        data = live_spec(name).btf
        changed = sanitised(data)
        assert len(changed) == len(data) and changed != data
        os.close(bpf.btf_load(changed))


def test_optional_programs_may_fail(live_spec: Specs) -> None:
    spec = live_spec("bad")
    with load(spec, only=["null_value", "beyond_record"], optional=["null_value"]) as live:
        assert set(live.progs) == {"beyond_record"}
        assert isinstance(live.skipped["null_value"], VerifierError)


def test_unknown_names(live_spec: Specs) -> None:
    spec = live_spec("live")
    with pytest.raises(NotFound, match="no program nothing"):
        load(spec, only=["nothing"])
    spec.progs["on_typed"].target = "sched_swich"
    with pytest.raises(NotFound, match="did you mean sched_switch"):
        load(spec, only=["on_typed"])


def test_map_in_map(live_spec: Specs) -> None:
    from osmia.load import map as maps
    from osmia.obj import consts
    from osmia.obj.spec import MapSpec

    inner = MapSpec("inner", consts.BPF_MAP_TYPE_ARRAY, 4, 8, 16)
    outer = MapSpec("outer", consts.BPF_MAP_TYPE_HASH_OF_MAPS, 4, 4, 8)
    outer.inner = inner
    live, element = maps.create(outer), maps.create(inner)
    live.update(struct.pack("<I", 3), struct.pack("<I", element.fd))
    keys = live.keys()
    assert keys == [struct.pack("<I", 3)]
    live.close()
    element.close()


def test_a_warm_start_reads_no_kernel_types(tmp_path: object) -> None:
    """The second process finds the type id in the cache and never opens the BTF."""
    script = (
        "import sys; from osmia.kernel import btf_source as b; from osmia.obj.consts import BTF_KIND_TYPEDEF;"
        "print(b.attach_target('btf_trace_sched_switch', BTF_KIND_TYPEDEF)[1], 'osmia.obj.btf' in sys.modules)"
    )
    environment = {**os.environ, "OSMIA_CACHE": f"{tmp_path}/cache"}
    cold, warm = (
        subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True,
                       timeout=60).stdout.split()
        for _ in range(2)
    )  # fmt: skip
    assert cold[1] == "True" and warm == [cold[0], "False"] and int(cold[0]) > 0
