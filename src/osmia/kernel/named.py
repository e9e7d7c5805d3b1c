# SPDX-License-Identifier: Apache-2.0
"""What people name on a command line: users, processes, threads, cgroups, containers.

Each function takes a word and gives the number that the kernel half compares
with, or raises ValueError with the reason.
"""

from __future__ import annotations

import os

_CGROUPS = "/sys/fs/cgroup"


def user_number(word: str) -> int:
    """A user by number or name; ValueError where there is no such user."""
    if word.isascii() and word.isdigit():
        return int(word)
    import pwd

    try:
        return pwd.getpwnam(word).pw_uid
    except KeyError:
        raise ValueError(f"there is no user {word!r}") from None


def process_number(word: str) -> int:
    """A process by its number in our PID namespace; ValueError where there is none, or it is that of a thread."""
    number = _alive(word, "process")
    leader = _leader(number)
    if leader != number:
        raise ValueError(f"{word} is a thread of process {leader}")
    return number


def thread_number(word: str) -> int:
    """A thread by its number in our PID namespace; ValueError where there is none."""
    return _alive(word, "thread")


def _alive(word: str, what: str) -> int:
    """The number, if somebody has it; asked by a signal, since /proc may be that of another namespace."""
    if not (word.isascii() and word.isdigit()) or not int(word):
        raise ValueError(f"{word!r} is no {what} id")
    try:
        os.kill(int(word), 0)
    except (ProcessLookupError, OverflowError):
        raise ValueError(f"there is no {what} {word}") from None
    except PermissionError:
        pass
    return int(word)


def _leader(number: int) -> int:
    """The process of thread ``number``; ``number`` itself if /proc does not show our namespace."""
    try:
        if os.readlink("/proc/self") == str(os.getpid()):
            with open(f"/proc/{number}/status", "rb") as file:
                for line in file:
                    if line.startswith(b"Tgid:"):
                        return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return number


def cgroup_number(word: str) -> int:
    """The id of a cgroup (v2) by its path, absolute or below the mount point: its directory's inode number.

    kernfs has used inode numbers as ids since 5.5; ValueError where there is
    no such cgroup.
    """
    roots = cgroup_roots()
    inside = any(f"{word}/".startswith(root + "/") for root in roots)
    for place in [word] if inside else [f"{root}/{word.lstrip('/')}" for root in roots]:
        if os.path.isfile(os.path.join(place, "cgroup.procs")):
            return os.stat(place).st_ino
    raise ValueError(f"{word!r} is no cgroup (v2)")


def cgroup_roots() -> list[str]:
    """Where cgroups (v2) are mounted, the usual place first."""
    found = []
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                words = line.split(" ")
                if len(words) > 2 and words[2] == "cgroup2":
                    found.append(words[1].encode("utf-8", "surrogateescape").decode("unicode_escape"))
    except OSError:
        pass
    found.sort(key=lambda place: not place.startswith(_CGROUPS))
    return found or [_CGROUPS]


def container_number(word: str) -> int:
    """The id of the cgroup (v2) of the container whose id begins with ``word``, or whose name it is (LXC, nspawn).

    Container engines name a container's cgroup after it: ``docker-ID.scope``,
    ``libpod-ID.scope``, ``crio-ID.scope``, ``cri-containerd-ID.scope``, plain
    ``ID``, ``lxc.payload.NAME``, ``machine-NAME.scope``.  ValueError where none
    or several fit.
    """
    found: dict[str, str] = {}
    for root in cgroup_roots()[:1]:
        for folder, below, _ in os.walk(root):
            for name in below[:]:
                container = _container(name)
                if container == word or (len(container) >= _SHORTEST and container.startswith(word.lower())):
                    found.setdefault(container, f"{folder}/{name}")
                    below.remove(name)  # what is below it belongs to it
    if not word or not found:
        raise ValueError(f"there is no container {word!r} with a cgroup (v2) of its own")
    if len(found) > 1:
        raise ValueError(f"{word!r} could be {' or '.join(sorted(found))}")
    return os.stat(*found.values()).st_ino


#: Container ids have 64 hexadecimal digits; half of that tells them from other words.
_SHORTEST = 32


def _container(cgroup: str) -> str:
    """The container's id or name by the name of a cgroup; empty where it is none."""
    name = cgroup.removesuffix(".scope").removesuffix(".service")
    for engine in ("lxc.payload.", "machine-"):
        if name.startswith(engine):
            return name[len(engine) :].replace("\\x2d", "-")
    last = name.replace(":", "-").rpartition("-")
    if len(last[2]) < _SHORTEST or "conmon" in last[0] or last[2].strip("0123456789abcdef"):
        return ""
    return last[2]
