# SPDX-License-Identifier: Apache-2.0
"""Words of the command line that mean users, processes, cgroups and containers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from osmia.kernel import named, proc

ID = "0123456789abcdef" * 4
OTHER = "0123456789ab0000" * 4


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        (f"docker-{ID}.scope", ID), (f"libpod-{ID}.scope", ID), (f"crio-{ID}.scope", ID),
        (f"cri-containerd-{ID}.scope", ID), (f"kubepods-burstable-pod12.slice:cri-containerd:{ID}", ID), (ID, ID),
        ("lxc.payload.web", "web"), ("machine-deb\\x2d12.scope", "deb-12"),
        (f"libpod-conmon-{ID}.scope", ""), (f"crio-conmon-{ID}.scope", ""), ("user.slice", ""), ("init.scope", ""),
        ("system-getty.slice", ""), (f"docker-{ID[:31]}.scope", ""), ("a" * 31 + "z", ""), ("g" * 64, ""),
    ],
)  # fmt: skip
def test_names_of_cgroups(cgroup: str, container: str) -> None:
    assert named._container(cgroup) == container


@pytest.fixture
def hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three containers, one of them with cgroups of its own."""
    for folder in (f"system.slice/docker-{ID}.scope/inner/docker-{OTHER}.scope", f"docker/{OTHER}", "lxc.payload.web"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in (tmp_path, *tmp_path.rglob("*")):
        (folder / "cgroup.procs").touch()
    monkeypatch.setattr(named, "cgroup_roots", lambda: [str(tmp_path)])
    return tmp_path


def test_containers(hierarchy: Path) -> None:
    """By the whole id, by its beginning, by a name; what is inside of a container is no other one."""
    one = hierarchy / f"system.slice/docker-{ID}.scope"
    assert named.container_number(ID) == one.stat().st_ino
    assert named.container_number("0123456789abc") == one.stat().st_ino
    assert named.container_number(OTHER.upper()) == (hierarchy / "docker" / OTHER).stat().st_ino
    assert named.container_number("web") == (hierarchy / "lxc.payload.web").stat().st_ino


def test_no_container(hierarchy: Path) -> None:
    with pytest.raises(ValueError, match=f"'0123' could be {OTHER} or {ID}"):
        named.container_number("0123")
    for word in ("we", "docker", "", "ffff"):
        with pytest.raises(ValueError, match=f"there is no container '{word}' with a cgroup"):
            named.container_number(word)


def test_cgroups(hierarchy: Path) -> None:
    """Absolute, or from the mount point on."""
    want = (hierarchy / "docker").stat().st_ino
    for word in (f"{hierarchy}/docker", f"{hierarchy}/docker/", "docker", "/docker"):
        assert named.cgroup_number(word) == want
    assert named.cgroup_number("/") == hierarchy.stat().st_ino
    assert named.cgroup_number(str(hierarchy)) == hierarchy.stat().st_ino
    for word in ("dock", "/proc", "docker/none"):
        with pytest.raises(ValueError, match="is no cgroup"):
            named.cgroup_number(word)


def test_users() -> None:
    assert (named.user_number("0"), named.user_number("root"), named.user_number("4711")) == (0, 0, 4711)
    for word in ("no-such-user", "", "-1", "²"):
        with pytest.raises(ValueError, match="there is no user"):
            named.user_number(word)


def test_processes() -> None:
    assert named.process_number(str(os.getpid())) == named.thread_number(str(os.getpid())) == os.getpid()
    for word in ("0", "-1", "x", "", "1.5", "²"):
        with pytest.raises(ValueError, match="is no process id"):
            named.process_number(word)
    for word in ("4194305", "99999999999999999999999"):
        with pytest.raises(ValueError, match=f"there is no thread {word}"):
            named.thread_number(word)


def test_our_own_namespace() -> None:
    """What can be told without privileges."""
    found = proc.pid_namespace()
    assert found is not None
    assert proc.foreign_pid_namespace() in (0, found[1])
    assert bool(proc.foreign_pid_namespace()) is (proc.in_initial_pid_namespace() is False)
    if proc.in_initial_pid_namespace():
        assert proc.kernel_pid() == os.getpid()
