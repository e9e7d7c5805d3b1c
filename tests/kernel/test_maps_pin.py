# SPDX-License-Identifier: Apache-2.0
"""Maps and programs that outlive their process, and opening what is there by path or id."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

import pytest
from driven import driven

from osmia import Array, Hash, open_map, s32, u32, u64
from osmia.errors import NotFound, NotSupported, UserError
from osmia.link import attach
from osmia.load import pin

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("no_fd_leak")]

COUNTS = """
counts = pinned(Hash[u32, u64](64))

@probe(11)
def count(n):
    counts[u32(n)] += 1
"""


@pytest.fixture
def root() -> Iterator[str]:
    if not os.path.ismount(pin.ROOT):
        pytest.skip("no bpffs is mounted")
    path = f"{pin.ROOT}/osmia-test-{os.getpid()}"
    yield path
    if os.path.isdir(path):
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)


@pytest.mark.feature("B16 pinned maps")
def test_a_pinned_map_goes_on_counting(root: str) -> None:
    for turn in range(1, 4):
        with driven(COUNTS, pin_root=root) as run:
            run.call(11, 5)
            assert run.module.counts[5] == turn
    counts = open_map(Hash[u32, u64](), f"{root}/counts")
    assert dict(counts.items()) == {5: 3}
    counts[6] = 1
    other = open_map(Hash[u32, u64](), pin.MapInfo(counts.live.fd).id)
    assert dict(other.items()) == {5: 3, 6: 1}
    other.close()
    counts.close()
    assert pin.unpin(f"{root}/counts") and not pin.unpin(f"{root}/counts")


def test_another_shape_is_refused(root: str) -> None:
    with driven(COUNTS, pin_root=root):
        pass
    with pytest.raises(UserError, match="its key size is 4, not 8"), \
            driven(COUNTS.replace("u32", "u64"), pin_root=root):
        pass
    for wrong in (Hash[u32, u32](), Hash[(s32, s32), u64](), Array[u64](64)):
        with pytest.raises(UserError, match="the map there is of type 1 with keys of 4"):
            open_map(wrong, f"{root}/counts")
    with pytest.raises(NotFound, match="is pinned there"):
        open_map(Hash[u32, u64](), f"{root}/nothing")
    with pytest.raises(NotFound, match="no map with id 4294967294"):
        open_map(Hash[u32, u64](), (1 << 32) - 2)
    with pytest.raises(NotSupported, match="no map in bpffs"):
        open_map(Hash[u32, u64](), "/etc/passwd")
    with pytest.raises(UserError, match="no pinned object"):
        pin.unpin("/etc/hostname")
    assert os.path.exists("/etc/hostname")


@pytest.mark.feature("B16 pinned programs")
def test_a_pinned_program_is_attached_again(root: str, tmp_path: pathlib.Path) -> None:
    with driven(COUNTS.replace("pinned(", "("), pin_root=root) as run:
        assert run.live is not None
        prog = run.live.live.progs["count"]
        pin.pin(prog, f"{root}/count")
        number = prog.info().id
        pin.pin(run.live.live.maps["counts"], f"{root}/kept")
        spec = prog.spec
        with pytest.raises(UserError, match="something is pinned there already"):
            pin.pin(prog, f"{root}/count")
    again = pin.open_prog(f"{root}/count", spec)
    assert again.info().id == number and again.name == "count"
    kept = open_map(Hash[u32, u64](), f"{root}/kept")
    link = attach(again)
    with contextlib.suppress(OSError):
        os.getpriority(11, 3)
    link.close()
    assert kept.get(3) == 1
    by_id = pin.open_prog(number)
    assert by_id.info().name == "count" and by_id.spec.type == spec.type
    try:
        with pytest.raises(UserError, match="no map"):
            pin.open_map(f"{root}/count")
        with pytest.raises(NotSupported, match="the place must be in bpffs"):
            pin.pin(again, str(tmp_path / "x"))
    finally:
        for one in (again, by_id, kept):
            one.close()
