# SPDX-License-Identifier: Apache-2.0
"""Maps of every kind that osmia makes, against what a dictionary would hold."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator

import pytest

from osmia.errors import NotSupported, UserError
from osmia.kernel import bpf, cpus, features
from osmia.load.map import LiveMap, create
from osmia.obj import consts
from osmia.obj.spec import MapSpec, ObjectSpec

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("no_fd_leak")]
HASHES = (
    consts.BPF_MAP_TYPE_HASH, consts.BPF_MAP_TYPE_LRU_HASH, consts.BPF_MAP_TYPE_PERCPU_HASH,
    consts.BPF_MAP_TYPE_LRU_PERCPU_HASH,
)  # fmt: skip


@pytest.fixture(params=["batch", "one by one"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param != "batch":
        features.turn_off("batch", "take_hash")
    yield request.param
    features.turn_off()


def make(type: int, key: int = 4, value: int = 8, entries: int = 5000) -> LiveMap:
    return create(MapSpec("m", type, key, value, entries))


def fill(live: LiveMap, count: int) -> dict[bytes, bytes]:
    expected = {}
    for i in range(count):
        key = struct.pack("<I", i * 7)
        expected[key] = b"".join(struct.pack("<Q", i + slot) for slot in range(live.ncpus))
        live.update(key, expected[key])
    return expected


@pytest.mark.parametrize("type", HASHES)
def test_hashes_are_dictionaries(type: int, way: str) -> None:
    live = make(type)
    expected = fill(live, 1000)
    assert live.ncpus == (cpus.slots() if "PERCPU" in _name(type) else 1)
    assert dict(live.items()) == expected
    assert live.lookup(struct.pack("<I", 7)) == expected[struct.pack("<I", 7)]
    assert live.lookup(struct.pack("<I", 8)) is None
    assert live.pop(struct.pack("<I", 7)) == expected.pop(struct.pack("<I", 7))
    assert live.pop(struct.pack("<I", 7)) is None
    assert live.delete(struct.pack("<I", 14)) and not live.delete(struct.pack("<I", 14))
    del expected[struct.pack("<I", 14)]
    assert sorted(live.keys()) == sorted(expected)
    assert dict(live.items_and_delete()) == expected
    assert list(live.items()) == []
    live.close()


def _name(type: int) -> str:
    return next(n for n in dir(consts) if n.startswith("BPF_MAP_TYPE_") and getattr(consts, n) == type)


@pytest.mark.parametrize("type", [consts.BPF_MAP_TYPE_ARRAY, consts.BPF_MAP_TYPE_PERCPU_ARRAY])
def test_arrays(type: int, way: str) -> None:
    live = make(type, entries=10)
    live.update(struct.pack("<I", 3), struct.pack("<Q", 42) * live.ncpus)
    values = dict(live.items())
    assert len(values) == 10 and values[struct.pack("<I", 3)] == struct.pack("<Q", 42) * live.ncpus
    assert sum(any(v) for v in values.values()) == 1
    with pytest.raises(ValueError, match="cannot be deleted"):
        list(live.items_and_delete())
    live.close()


def test_small_percpu_values_take_eight_bytes_each() -> None:
    live = make(consts.BPF_MAP_TYPE_PERCPU_HASH, value=3)
    assert live.user_size == 8 * cpus.slots()
    live.update(bytes(4), (b"abc" + bytes(5)) * live.ncpus)
    assert live.lookup(bytes(4)) == (b"abc" + bytes(5)) * live.ncpus
    live.close()


@pytest.mark.feature("B17 batches of map elements")
def test_batches_span_several_calls() -> None:
    live = make(consts.BPF_MAP_TYPE_HASH, entries=20_000)
    keys = b"".join(struct.pack("<I", i) for i in range(15_000))
    assert bpf.map_update_batch(live.fd, keys, keys * 2, 15_000) == 15_000
    chunks = list(live.chunks())
    assert len(chunks) > 1 and sum(n for _, _, n in chunks) == 15_000
    assert {k for k, _ in live.items()} == {struct.pack("<I", i) for i in range(15_000)}
    assert bpf.map_delete_batch(live.fd, keys, 15_000) == 15_000
    live.close()


def test_queue_pops_in_order() -> None:
    live = make(consts.BPF_MAP_TYPE_QUEUE, key=0, entries=4)
    for i in range(3):
        live.update(b"", struct.pack("<Q", i))
    assert [live.pop(b"") for _ in range(4)] == [struct.pack("<Q", i) for i in range(3)] + [None]
    live.close()


def test_wrong_lengths_never_reach_the_kernel() -> None:
    live = make(consts.BPF_MAP_TYPE_HASH)
    for action in (
        lambda: live.lookup(bytes(3)), lambda: live.update(bytes(5), bytes(8)), lambda: live.update(bytes(4), bytes(7)),
        lambda: live.delete(b""), lambda: live.pop(bytes(8)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="bytes, not"):
            action()
    live.close()


def test_full_map_says_so() -> None:
    live = make(consts.BPF_MAP_TYPE_HASH, entries=2)
    with pytest.raises(UserError, match=r"map m is full \(2 entries\)"):
        fill(live, 3)
    live.close()


def test_data_sections_can_be_mapped(live_spec: Callable[[str], ObjectSpec]) -> None:
    spec = live_spec("live").maps[".bss"]
    live = create(spec)
    view = live.view()
    live.update(bytes(4), struct.pack("<Q", 77).ljust(live.value_size, b"\0"))
    assert struct.unpack_from("<Q", view)[0] == 77
    view.close()
    live.close()


def test_ring_sizes_are_put_right() -> None:
    for asked, given in ((1, 4096), (4096, 4096), (5000, 8192), (100_000, 131072)):
        live = create(MapSpec("r", consts.BPF_MAP_TYPE_RINGBUF, 0, 0, asked))
        assert live.max_entries == given
        live.close()


def test_perf_event_array_has_a_slot_per_cpu() -> None:
    live = create(MapSpec("p", consts.BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 0))
    assert live.max_entries == cpus.slots()
    live.close()


def test_impossible_maps_are_refused_in_words() -> None:
    with pytest.raises(NotSupported, match="map m: the kernel refuses"):
        create(MapSpec("m", 250, 4, 4, 1))
    with pytest.raises(UserError, match="too big for this machine"):
        create(MapSpec("m", consts.BPF_MAP_TYPE_ARRAY, 4, 1 << 31, 1))


def test_memory_is_known() -> None:
    live = make(consts.BPF_MAP_TYPE_ARRAY, entries=100_000)
    assert 800_000 <= live.memory() < 2_000_000
    live.close()


def test_closing_twice_is_harmless() -> None:
    live = make(consts.BPF_MAP_TYPE_HASH)
    fd = live.fd
    live.close()
    live.close()
    with pytest.raises(OSError) as caught:
        os.fstat(fd)
    assert caught.value.errno == errno.EBADF
