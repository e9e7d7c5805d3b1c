# SPDX-License-Identifier: Apache-2.0
"""What the tests on the running kernel share: objects built by clang, and a watch on file descriptors."""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable, Iterator

import prebuilt
import pytest

from osmia.obj.elf import parse_object
from osmia.obj.spec import ObjectSpec


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = str(pathlib.Path(__file__).parent)
    if os.geteuid() != 0:
        for item in items:
            if str(item.path).startswith(here):
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither read nor fill the user's cache."""
    before = os.environ.get("OSMIA_CACHE")
    os.environ["OSMIA_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["OSMIA_CACHE"]
    else:
        os.environ["OSMIA_CACHE"] = before


@functools.cache
def _build(name: str) -> bytes:
    return prebuilt.bpf_object(name)


@pytest.fixture
def live_spec() -> Callable[[str], ObjectSpec]:
    """A fresh spec of ``tests/fixtures/live/<name>.c``."""
    return lambda name: parse_object(_build(name), name)


@pytest.fixture
def no_fd_leak() -> Iterator[None]:
    """The test closes what it opens."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    after = {fd: _link(fd) for fd in set(os.listdir("/proc/self/fd")) - before}
    # Mapped type information stays open for the life of the process.
    leaked = {fd: what for fd, what in after.items() if what and "/btf/" not in what and not what.endswith(".btf")}
    assert not leaked, f"file descriptors leaked: {leaked}"


def _link(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""
