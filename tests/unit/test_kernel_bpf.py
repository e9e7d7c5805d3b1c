# SPDX-License-Identifier: Apache-2.0
"""bpf(2) without a kernel: layouts, errno paths, fall-backs."""

from __future__ import annotations

import _ctypes
import errno
import struct
from collections.abc import Iterator

import pytest

from osmia.errors import NotPermitted, NotSupported, UserError
from osmia.kernel import bpf, caps, cpus, features, perf
from osmia.kernel.door import address
from osmia.load import map as maps
from osmia.obj import consts
from osmia.obj.spec import MapSpec


class Refuse:
    """Answers each call with the next errno of a list, then with a result."""

    def __init__(self, *numbers: int, result: int = 5) -> None:
        self.numbers = list(numbers)
        self.result = result
        self.calls: list[tuple[int, bytes]] = []

    def __call__(self, command: int, attr: bytearray) -> int:
        self.calls.append((command, bytes(attr)))
        return -self.numbers.pop(0) if self.numbers else self.result


def peek(at: int, size: int) -> bytes:
    return bytes((_ctypes_char() * size).from_address(at))


def poke(at: int, data: bytes) -> None:
    (_ctypes_char() * len(data)).from_address(at)[:] = data


def _ctypes_char() -> type:
    class Char(_ctypes._SimpleCData):  # type: ignore[type-arg]
        _type_ = "c"

    return Char


class Hash:
    """A hash map of u32 to u64 as the kernel keeps one, without what ``missing`` names."""

    def __init__(self, *missing: str, bucket: int = 1) -> None:
        self.elements: dict[bytes, bytes] = {}
        self.missing = {getattr(consts, name) for name in missing}
        self.bucket = bucket
        self.used: list[int] = []

    def __call__(self, command: int, attr: bytearray) -> int:
        self.used.append(command)
        if command in self.missing:
            return -errno.EINVAL
        if command in (consts.BPF_MAP_LOOKUP_BATCH, consts.BPF_MAP_LOOKUP_AND_DELETE_BATCH):
            return self._batch(command, attr)
        _, _, key_at, value_at, _ = struct.unpack("<IIQQQ", attr)
        key = peek(key_at, 4) if key_at else None
        if command == consts.BPF_MAP_GET_NEXT_KEY:
            keys = list(self.elements)
            after = keys.index(key) + 1 if key in keys else 0
            if after >= len(keys):
                return -errno.ENOENT
            poke(value_at, keys[after])
            return 0
        assert key is not None
        if command == consts.BPF_MAP_UPDATE_ELEM:
            self.elements[key] = peek(value_at, 8)
            return 0
        if key not in self.elements:
            return -errno.ENOENT
        if command != consts.BPF_MAP_DELETE_ELEM:
            poke(value_at, self.elements[key])
        if command != consts.BPF_MAP_LOOKUP_ELEM:
            del self.elements[key]
        return 0

    def _batch(self, command: int, attr: bytearray) -> int:
        position, after, keys_at, values_at, count, _, _, _ = struct.unpack("<QQQQIIQQ", attr)
        struct.pack_into("<I", attr, 32, 0)
        if count < self.bucket:
            return -errno.ENOSPC
        start = struct.unpack("<I", peek(position, 4))[0] if position else 0
        chosen = list(self.elements.items())[start : start + count]
        for i, (key, value) in enumerate(chosen):
            poke(keys_at + 4 * i, key)
            poke(values_at + 8 * i, value)
        if command == consts.BPF_MAP_LOOKUP_AND_DELETE_BATCH:
            for key, _ in chosen:
                del self.elements[key]
        else:
            start += len(chosen)
        struct.pack_into("<I", attr, 32, len(chosen))
        poke(after, struct.pack("<I", start))
        return -errno.ENOENT if start >= len(self.elements) else 0


@pytest.fixture(autouse=True)
def _features() -> Iterator[None]:
    features.turn_off()
    yield
    features.turn_off()


def test_errors_name_the_command() -> None:
    with bpf.override(Refuse(errno.EPERM)), pytest.raises(PermissionError) as caught:
        bpf.map_create(1, 4, 8, 1)
    assert caught.value.filename == "BPF_MAP_CREATE" and caught.value.errno == errno.EPERM


def test_kernel_internal_errno_has_a_text() -> None:
    with bpf.override(Refuse(524)), pytest.raises(OSError, match=r"not supported by this kernel.*BPF_PROG_TEST_RUN"):
        bpf.prog_test_run(3)


def test_signals_and_busy_verifiers_are_retried() -> None:
    fake = Refuse(errno.EINTR, errno.EAGAIN, errno.EAGAIN, result=9)
    with bpf.override(fake):
        assert bpf.prog_load(5, bytes(16), "GPL") == 9
    assert len(fake.calls) == 4


def test_retries_end() -> None:
    fake = Refuse(*[errno.EAGAIN] * 50)
    with bpf.override(fake), pytest.raises(BlockingIOError):
        bpf.prog_load(5, bytes(16), "GPL")
    assert len(fake.calls) == 5


def test_override_is_undone() -> None:
    before = bpf._door
    with pytest.raises(RuntimeError), bpf.override(Refuse()):
        raise RuntimeError
    assert bpf._door is before


def test_map_create_layout() -> None:
    fake = Refuse()
    with bpf.override(fake):
        bpf.map_create(1, 4, 8, 100, name="a-name/that is too long", flags=1, inner_fd=7, numa_node=2, btf_fd=3,
                       key_tid=11, value_tid=12, extra=1 << 40)  # fmt: skip
        bpf.map_create(1, 4, 8, 100, key_tid=11, value_tid=12)
    command, attr = fake.calls[0]
    assert command == consts.BPF_MAP_CREATE
    assert struct.unpack_from("<7I", attr) == (1, 4, 8, 100, 1, 7, 2)
    assert attr[28:44] == b"a_name_that_is_\0"
    assert struct.unpack_from("<IIIIIQ", attr, 44) == (0, 3, 11, 12, 0, 1 << 40)
    assert struct.unpack_from("<III", fake.calls[1][1], 48) == (0, 0, 0)  # type ids without BTF are EINVAL


def test_prog_load_layout() -> None:
    fake = Refuse()
    insns, log = b"\x95" + bytes(15), bytearray(64)
    with bpf.override(fake):
        bpf.prog_load(26, insns, "GPL", name="p", flags=16, attach_type=23, btf_fd=4, func_info=bytes(16),
                      line_info=bytes(48), core_relos=bytes(32), attach_btf_id=99, attach_fd=8, log=log)  # fmt: skip
    _, attr = fake.calls[0]
    assert struct.unpack_from("<II", attr) == (26, 2)
    assert peek(struct.unpack_from("<Q", attr, 8)[0], 16) == insns
    assert struct.unpack_from("<IIQII", attr, 24) == (1, 64, address(log), 0, 16)
    assert attr[48:64] == b"p".ljust(16, b"\0")
    assert struct.unpack_from("<III", attr, 68) == (23, 4, 8)  # expected_attach_type, prog_btf_fd, func_info_rec_size
    assert struct.unpack_from("<I", attr, 88)[0] == 2  # func_info_cnt
    assert struct.unpack_from("<I", attr, 92)[0] == 16
    assert struct.unpack_from("<III", attr, 104) == (3, 99, 8)  # line_info_cnt, attach_btf_id, attach_btf_obj_fd
    assert struct.unpack_from("<I", attr, 116)[0] == 2  # core_relo_cnt
    assert struct.unpack_from("<I", attr, 136)[0] == 16


def test_absent_keys_are_no_errors() -> None:
    with bpf.override(Refuse(*[errno.ENOENT] * 5)):
        assert bpf.map_lookup(3, b"key!", 8) is None
        assert bpf.map_delete(3, b"key!") is False
        assert bpf.map_next_key(3, None, 4) is None
        assert bpf.prog_get_next_id(7) == 0


def live_map(fake: Hash, count: int) -> tuple[maps.LiveMap, dict[bytes, bytes]]:
    live = maps.LiveMap(3, "m", consts.BPF_MAP_TYPE_HASH, 4, 8, 10_000)
    fake.elements = {struct.pack("<I", i): struct.pack("<Q", i * i) for i in range(count)}
    return live, dict(fake.elements)


@pytest.mark.parametrize("missing", [
    (), ("BPF_MAP_LOOKUP_BATCH", "BPF_MAP_LOOKUP_AND_DELETE_BATCH"),
    ("BPF_MAP_LOOKUP_BATCH", "BPF_MAP_LOOKUP_AND_DELETE_BATCH", "BPF_MAP_LOOKUP_AND_DELETE_ELEM"),
])  # fmt: skip
def test_whole_maps_on_every_kernel(missing: tuple[str, ...]) -> None:
    fake = Hash(*missing)
    features.know("take_hash", "BPF_MAP_LOOKUP_AND_DELETE_ELEM" not in missing)
    with bpf.override(fake):
        live, expected = live_map(fake, 500 if missing else 9000)
        assert dict(live.items()) == expected
        assert dict(live.items()) == expected
        assert (fake.used.count(consts.BPF_MAP_LOOKUP_BATCH) == 1) == bool(missing)  # asked once, then never again
        assert dict(live.items_and_delete()) == expected and fake.elements == {}


def test_batches_grow_for_full_buckets() -> None:
    fake = Hash(bucket=9000)
    with bpf.override(fake):
        live, expected = live_map(fake, 9500)
        assert dict(live.items()) == expected


def test_a_walk_that_starts_over_ends() -> None:
    class Restless(Hash):
        def __call__(self, command: int, attr: bytearray) -> int:
            if command == consts.BPF_MAP_GET_NEXT_KEY and struct.unpack("<IIQQQ", attr)[2]:
                poke(struct.unpack("<IIQQQ", attr)[3], next(iter(self.elements)))
                return 0
            return super().__call__(command, attr)

    fake = Restless()
    with bpf.override(fake):
        live, _ = live_map(fake, 5)
        live.max_entries = 20
        assert live.keys() == [bytes(4)]


def test_maps_do_without_btf_where_the_kernel_refuses_it() -> None:
    spec = MapSpec("m", consts.BPF_MAP_TYPE_HASH, 4, 8, 1)
    spec.key_tid, spec.value_tid = 5, 6
    fake = Refuse(errno.EINVAL, result=100)
    with bpf.override(fake):
        assert maps.create(spec, btf_fd=9).fd == 100
    assert [struct.unpack_from("<III", attr, 48) for _, attr in fake.calls] == [(9, 5, 6), (0, 0, 0)]


def test_ring_buffers_are_given_neither_key_nor_value() -> None:
    spec = MapSpec("r", consts.BPF_MAP_TYPE_RINGBUF, 4, 280, 5000)
    spec.value_tid = 6
    fake = Refuse()
    with bpf.override(fake):
        maps.create(spec, btf_fd=9)
    assert struct.unpack_from("<4I", fake.calls[0][1]) == (consts.BPF_MAP_TYPE_RINGBUF, 0, 0, 8192)
    assert struct.unpack_from("<III", fake.calls[0][1], 48) == (0, 0, 0)


def test_ring_buffers_on_old_kernels() -> None:
    features.turn_off("ringbuf")
    with bpf.override(Refuse(errno.EINVAL)), pytest.raises(NotSupported, match="map r: this kernel has no BPF ring"):
        maps.create(MapSpec("r", consts.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096))


def test_refused_privileges_name_the_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "_raise_memlock", lambda: False)
    monkeypatch.setattr(caps, "effective", lambda: frozenset({"CAP_PERFMON"}))
    with bpf.override(Refuse(errno.EPERM)), pytest.raises(NotPermitted, match=r"missing CAP_BPF \(or CAP_SYS_ADMIN\)"):
        maps.create(MapSpec("m", 1, 4, 8, 1))


def test_memlock_is_lifted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 5.11 maps and programs counted against RLIMIT_MEMLOCK, and the kernel said EPERM."""
    monkeypatch.setattr(bpf, "_raise_memlock", lambda: True)
    with bpf.override(Refuse(errno.EPERM, result=77)):
        assert maps.create(MapSpec("m", 1, 4, 8, 1)).fd == 77
    with bpf.override(Refuse(errno.EPERM, result=78)):
        assert bpf.prog_load(consts.BPF_PROG_TYPE_KPROBE, bytes(16), "GPL") == 78
    with bpf.override(Refuse(errno.EPERM, errno.EPERM)), pytest.raises(PermissionError):
        bpf.prog_load(consts.BPF_PROG_TYPE_KPROBE, bytes(16), "GPL")


def test_impossible_size_is_the_users() -> None:
    with bpf.override(Refuse(errno.E2BIG)), pytest.raises(UserError, match="too big for this machine"):
        maps.create(MapSpec("m", 1, 4, 8, 1 << 31))


def test_percpu_values_have_a_slot_per_possible_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cpus._known, "possible", [0, 1, 2, 5])
    assert maps.LiveMap(3, "m", consts.BPF_MAP_TYPE_PERCPU_HASH, 4, 12, 1).user_size == 4 * 16
    assert maps.LiveMap(3, "m", consts.BPF_MAP_TYPE_HASH, 4, 12, 1).user_size == 12


def test_perf_attr_layout() -> None:
    attr = perf.attr(1, 0, freq=99, disabled=True, config1=3, config2=4)
    assert len(attr) == 112
    assert struct.unpack_from("<IIQQQQQIIQQ", attr) == (1, 112, 0, 99, 0, 0, 1 | 1 << 10, 0, 0, 3, 4)
    assert struct.unpack_from("<IIQQQQQ", perf.attr(2, 300, period=1)) == (2, 112, 300, 1, 0, 0, 0)


def test_perf_event_open_retries_and_names_itself() -> None:
    answers = [-errno.EINTR, -errno.ENODEV]
    with perf.override(lambda *_: answers.pop(0)), pytest.raises(OSError, match="perf_event_open") as caught:
        perf.event_open(perf.attr(1, 0, period=1), cpu=3)
    assert caught.value.errno == errno.ENODEV


def test_probes_answer_yes_no_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(os, "close", lambda fd: None)
    for numbers, answer in (((), True), ((errno.EINVAL,), False), ((errno.EPERM,), None)):
        features.turn_off()
        with bpf.override(Refuse(*numbers)):
            assert features.has("ringbuf") is answer
        with bpf.override(Refuse(errno.EINVAL)):
            assert features.has("ringbuf") is (False if answer is None else answer)  # only sure answers are kept
    features.turn_off()
    for numbers, answer in (((errno.E2BIG,), False), ((errno.EINVAL,), True), ((errno.EPERM,), None)):
        features.turn_off()
        with bpf.override(Refuse(*numbers)):
            assert features.has("core_relo") is answer


def test_features_can_be_turned_off() -> None:
    features.turn_off("ringbuf", "batch")
    with bpf.override(Refuse()):
        assert features.has("ringbuf") is False and features.off("batch") and not features.off("btf")


def test_every_probe_is_documented() -> None:
    for name, (_, since, what) in features.PROBES.items():
        assert name.isidentifier() and what and all(part.isdigit() for part in since.split("."))
