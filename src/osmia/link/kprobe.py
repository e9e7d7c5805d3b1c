# SPDX-License-Identifier: Apache-2.0
"""kprobes and kretprobes: the entry, the return or an instruction of a kernel function.

A probe is a perf event of the ``kprobe`` PMU (4.17), local to its file
descriptor: nothing of it shows in tracefs or stays behind.
"""

from __future__ import annotations

import errno
import os
import struct

from osmia.errors import NotFound, NotSupported, UserError
from osmia.kernel import bpf, cpus, functions, perf
from osmia.kernel.door import address
from osmia.link.base import Link, failed, refused
from osmia.link.tracepoint import bind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.load.program import LiveProg

_PMU = "/sys/bus/event_source/devices/kprobe"
#: struct bpf_link_info that has counters of missed hits is at least this long (6.7).
_WITH_MISSED = 56
_KPROBE_MISSED, _MULTI_MISSED = 48, 32


class FunctionLink(Link):
    """A link on a kernel function.  ``counted`` are the fds whose info has a counter of missed hits."""

    __slots__ = ("counted", "loaded", "missed_at")

    def __init__(
        self, name: str, how: str, fds: list[int], *, counted: list[int] | None = None,
        missed_at: int = _KPROBE_MISSED, slow_close: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(name, how, fds, slow_close=slow_close)
        self.counted = counted or []
        self.missed_at = missed_at
        self.loaded = _modules()

    def missed(self) -> int | None:
        """Hits that the kernel could not deliver (recursion, too many calls at once); None: it does not tell (6.7)."""
        total = 0
        for fd in self.counted:
            try:
                info = bpf.obj_get_info(fd, 96)
            except OSError:
                return None
            if len(info) < _WITH_MISSED:
                return None
            total += struct.unpack_from("<Q", info, self.missed_at)[0]
        return total if self.counted else None

    def gone(self) -> str:
        """The module that was unloaded under the probe, with the function; empty while all is well."""
        missing = self.loaded - _modules()
        if not missing:
            return ""
        from osmia.kernel import kallsyms

        kallsyms.refresh()
        return "" if kallsyms.find(self.name.partition("+")[0])[0] else " or ".join(sorted(missing))

    def close(self) -> None:
        self.counted = []
        super().close()


def _modules() -> frozenset[str]:
    try:
        return frozenset(os.listdir("/sys/module"))
    except OSError:
        return frozenset()


def attach(prog: LiveProg, target: str, *, function: str = "", cookie: int = 0) -> Link:
    """Attach to ``function``, ``module:function`` or ``function+8``; ``function=`` overrides the target.

    NotFound (with near names) for what does not exist, NotSupported with the
    reason and what to use instead for what cannot be probed.
    """
    return probe(prog, function or target, "kprobe", cookie)


def probe(prog: LiveProg, target: str, kind: str, cookie: int = 0) -> Link:
    """A kprobe or kretprobe by name; on every function of that name where there are several."""
    where = f"{prog.name} ({target})"
    if not target:
        raise UserError("no function is named", where=prog.name, fix=f'{kind}("vfs_read")')
    pmu, returns = numbers(where, kind)
    place = functions.place(target)
    spots = [(b"", one) for one in place.addresses] or [(place.name.encode() + b"\0", 0)]
    note = f", {place.note}" if place.note else ""
    try:
        fds, counted, how = open_all(prog, pmu, returns, spots, place.offset, cookie)
    except OSError as e:
        stand_in = functions.stand_in(target) if e.errno == errno.ENOENT and not place.offset else ""
        if not stand_in:
            raise explained(prog, target, kind, e) from None
        note = f", as {stand_in}: BTF shows that its arguments are in place"
        try:
            fds, counted, how = open_all(prog, pmu, returns, [(stand_in.encode() + b"\0", 0)], 0, cookie)
        except OSError as again:
            raise explained(prog, stand_in, kind, again) from None
    return FunctionLink(target, how + note, fds, counted=counted, slow_close=True)


def numbers(where: str, kind: str) -> tuple[int, int]:
    """``(PMU type, config)`` of the perf events of ``kind``."""
    try:
        with open(f"{_PMU}/type", encoding="ascii") as file:
            pmu = int(file.read())
        bit = 0
        if kind.startswith("kret"):
            with open(f"{_PMU}/format/retprobe", encoding="ascii") as file:
                bit = int(file.read().strip().removeprefix("config:"))
            return pmu, 1 << bit
    except (OSError, ValueError):
        raise NotSupported("this kernel has no kprobes (CONFIG_KPROBES)", where=where,
                           fix="use fentry, or a tracepoint") from None  # fmt: skip
    return pmu, 0


def open_all(
    prog: LiveProg, pmu: int, config: int, spots: list[tuple[bytes, int]], offset: int = 0, cookie: int = 0
) -> tuple[list[int], list[int], str]:
    """Probe every spot (``name\\0`` or an address): ``(fds to close, fds that count misses, how)``; all or OSError."""
    links: list[int] = []
    events: list[int] = []
    how = ""
    try:
        for name, place in spots:
            event, link, how = open_one(prog, pmu, config, name, place, offset, cookie)
            events.append(event)
            if link >= 0:
                links.append(link)
    except OSError:
        for fd in links + events:
            os.close(fd)
        raise
    return links + events, links, how


def open_one(
    prog: LiveProg, pmu: int, config: int, name: bytes, place: int, offset: int, cookie: int
) -> tuple[int, int, str]:
    """One probe: ``(event fd, link fd or -1, how)``."""
    # include/uapi/linux/perf_event.h: kprobe_func and probe_offset, or 0 and kprobe_addr
    settings = perf.attr(pmu, config, config1=address(name), config2=offset if name else place + offset)
    event = perf.event_open(settings, cpu=cpus.online()[0])
    try:
        link, how = bind(prog.fd, event, cookie)
    except OSError:
        os.close(event)
        raise
    return event, link, how.replace("perf ", f"{'kretprobe' if config else 'kprobe'} ")


def explained(prog: LiveProg, target: str, kind: str, cause: OSError) -> UserError:
    """The error for a refusal: the kernel's errno says little, so its lists are asked for the reason."""
    where = f"{prog.name} ({target})"
    if cause.errno in (errno.EPERM, errno.EACCES):
        return refused(f"use a {kind}", cause, where=where)
    if cause.errno == errno.EMFILE:
        return failed(prog, target, cause)
    if cause.errno == errno.EILSEQ or (cause.errno == errno.EINVAL and "+" in target):
        return UserError("the kernel refuses a probe at this offset: it is not where an instruction begins, "
                         "or that instruction cannot be moved", where=where,
                         fix="see the disassembly, or probe the function's start")  # fmt: skip
    if cause.errno in (errno.ENOENT, errno.EINVAL, errno.EADDRNOTAVAIL, errno.EOPNOTSUPP, bpf.ENOTSUPP):
        found = functions.why_not(target, kind, where)
        return found if found.fix or isinstance(found, NotFound) else _with_alternative(found, target, kind)
    return failed(prog, target, cause)


def _with_alternative(error: UserError, target: str, kind: str) -> UserError:
    plain = target.partition("+")[0]
    if functions.has_types(plain):
        error.fix = f'{"fexit" if kind.startswith("kret") else "fentry"}("{plain}") may work'
    return error
