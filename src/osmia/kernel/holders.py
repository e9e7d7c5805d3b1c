# SPDX-License-Identifier: Apache-2.0
"""Which processes hold BPF objects and probes, seen from their file descriptors.

A program or map lives as long as somebody holds it, mostly by a descriptor,
whose link in ``/proc/PID/fd`` says what it is.  Probes are perf events, of
which the kernel tells the program and the place (BPF_TASK_FD_QUERY, 4.18), or
links for many places at once, of which it tells the number (6.6).
"""

from __future__ import annotations

import os
import struct

from osmia.kernel import bpf
from osmia.kernel.door import address
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIXES, _EVENT = ("anon_inode:bpf-", "anon_inode:bpf_"), "anon_inode:[perf_event]"  # bpf-prog, bpf-map, bpf_link
#: BPF_FD_TYPE_* (include/uapi/linux/bpf.h): what a query of a perf event answers.
KINDS = ("raw_tracepoint", "tracepoint", "kprobe", "kretprobe", "uprobe", "uretprobe")
#: What a link that holds a perf event says of it.
_PERF = {
    consts.BPF_PERF_EVENT_KPROBE: "kprobe", consts.BPF_PERF_EVENT_KRETPROBE: "kretprobe",
    consts.BPF_PERF_EVENT_UPROBE: "uprobe", consts.BPF_PERF_EVENT_URETPROBE: "uretprobe",
    consts.BPF_PERF_EVENT_TRACEPOINT: "tracepoint",
}  # fmt: skip
#: Links for many places, by the name in fdinfo: kinds, and where the number of places and the flags are in the info.
_MANY = {"kprobe_multi": ("kprobe", "kretprobe", 24), "uprobe_multi": ("uprobe", "uretprobe", 52)}


class Held:
    """One descriptor: process ``pid``, its name, ``kind`` (``prog``, ``map``, ``link``, ``kprobe`` …).

    ``count`` is 1, but for links with many places; ``where`` is what a probe is on.
    """

    __slots__ = ("comm", "count", "kind", "pid", "where")

    def __init__(self, pid: int, comm: str, kind: str, where: str = "", count: int = 1) -> None:
        self.pid = pid
        self.comm = comm
        self.kind = kind
        self.where = where
        self.count = count


def held(*, probes: bool = False) -> Iterator[Held]:
    """What every process that we may look at holds; ``probes``: the places of probes, too."""
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        pid = int(entry)
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError:  # gone, or not ours
            continue
        comm = ""
        for number in numbers:
            try:
                target = os.readlink(f"/proc/{pid}/fd/{number}")
            except OSError:
                continue
            if not target.startswith((*_PREFIXES, _EVENT)):
                continue
            comm = comm or _comm(pid)
            if target.startswith(_PREFIXES):
                kind = target[len(_PREFIXES[0]) :]
                yield Held(pid, comm, kind)
                if probes and kind == "link":
                    yield from _link(pid, comm, number)
            elif probes:
                yield from _event(pid, comm, int(number))


def _comm(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return "[unknown]"


def _event(pid: int, comm: str, number: int) -> Iterator[Held]:
    try:
        _, kind, name, offset, place = bpf.task_fd_query(pid, number)
    except OSError:  # no program is behind it, or it is gone
        return
    where = name or (f"{place:#x}" if place else "")
    if offset:
        where += f":{offset:#x}" if kind >= KINDS.index("uprobe") else f"+{offset:#x}"
    yield Held(pid, comm, KINDS[kind] if kind < len(KINDS) else f"probe {kind}", where)


def _link(pid: int, comm: str, number: str) -> Iterator[Held]:
    """The places of a link: one for many, or one that holds a perf event."""
    said = {}
    try:
        with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                said[name] = value.strip()
        kind = said["link_type"].replace("ret", "")  # kretprobe_multi, too, since 6.16
        if kind != "perf" and kind not in _MANY:
            return
        fd = bpf.link_get_fd_by_id(int(said["link_id"]))
    except (OSError, ValueError, KeyError):
        return
    try:
        found = _single(fd) if kind == "perf" else _many(fd, *_MANY[kind])
    except OSError:
        return
    finally:
        os.close(fd)
    if found is not None:
        yield Held(pid, comm, *found)


def _many(fd: int, entry: str, leave: str, at: int) -> tuple[str, str, int] | None:
    info = bpf.obj_get_info(fd)
    if len(info) < at + 8:  # before the kernel told (kprobe_multi 6.6, uprobe_multi 6.8)
        return None
    count, flags = struct.unpack_from("<II", info, at)
    return leave if flags & 1 else entry, f"{count:,} place{'s' * (count != 1)} with one link", count


def _single(fd: int) -> tuple[str, str, int] | None:
    """``bpf_link_info.perf_event``: the kind at 16, then a name that goes where we say, its length and an offset."""
    name = bytearray(512)
    start = bytes(24) + struct.pack("<QI", address(name), len(name))
    info = bpf.obj_get_info(fd, start=start)
    if len(info) < 40:  # before 6.6
        return None
    kind = _PERF.get(struct.unpack_from("<I", info, 16)[0])
    if kind is None:
        return None
    text = bytes(name).split(b"\0")[0].decode("utf-8", "replace")
    offset = struct.unpack_from("<I", info, 36)[0]
    if offset and kind != "tracepoint":
        text += f":{offset:#x}" if kind[0] == "u" else f"+{offset:#x}"
    return kind, text, 1
