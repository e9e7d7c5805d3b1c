# SPDX-License-Identifier: Apache-2.0
"""``osmia doctor``: what this kernel and this user can do, in plain words, each with the cure.

Nothing is deduced from version numbers: everything is tried or read.
"""

from __future__ import annotations

import os
import sys

from osmia.errors import NotPermitted, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

OK, WARN, BAD, UNKNOWN = "ok", "note", "missing", "unknown"
_MARKS = {OK: "[ ok ]", WARN: "[note]", BAD: "[miss]", UNKNOWN: "[ ?? ]"}


class Finding:
    """One thing looked at: its ``name``, ``state``, what was found and what to do (may be empty)."""

    __slots__ = ("fix", "name", "state", "text")

    def __init__(self, name: str, state: str, text: str, fix: str = "") -> None:
        self.name = name
        self.state = state
        self.text = text
        self.fix = fix


def kernel() -> Finding:
    info = os.uname()
    return Finding("kernel", OK, f"Linux {info.release} on {info.machine}")


def rights() -> Finding:
    from osmia.kernel import caps

    lacking = caps.missing("load a tracing program")
    if lacking:
        return Finding("privileges", BAD, f"missing {' and '.join(lacking)}", "run as root: sudo osmia ...")
    have = caps.effective()
    if have is None:
        return Finding("privileges", UNKNOWN, "/proc/self/status cannot be read")
    return Finding("privileges", OK, "root" if not os.geteuid() else "all that tracing needs")


def btf() -> Finding:
    from osmia.kernel import btf_source

    try:
        path = btf_source.find()
    except UserError as err:
        return Finding("kernel types (BTF)", BAD, err.what,
                       "tools that use only tracepoint fields work; for the others: " + err.fix)  # fmt: skip
    return Finding("kernel types (BTF)", OK, path)


def tracefs_mounted() -> Finding:
    from osmia.kernel import tracefs

    try:
        place = tracefs.root()
        count = sum(len(tracefs.tracepoints(category)) for category in tracefs.categories())
    except UserError as err:
        return Finding("tracefs", BAD, err.what, err.fix)
    return Finding("tracefs", OK, f"{place}, {count:,} tracepoints")


def lockdown() -> Finding:
    from osmia.kernel import caps

    mode = caps.lockdown()
    if mode is None:
        return Finding("lockdown", OK, "this kernel has none, or hides it")
    if mode == "confidentiality":
        return Finding("lockdown", BAD, "confidentiality: BPF must not read kernel memory",
                       "boot without lockdown=confidentiality, or without secure boot")  # fmt: skip
    return Finding("lockdown", OK, mode)


def sysctls() -> list[Finding]:
    from osmia.kernel.proc import sysctl

    out = []
    paranoid = sysctl("kernel.perf_event_paranoid")
    root = not os.geteuid()
    if paranoid is not None:
        high = paranoid.lstrip("-").isdigit() and int(paranoid) > 2 and not root
        out.append(Finding("perf_event_paranoid", WARN if high else OK, paranoid,
                           "sysctl kernel.perf_event_paranoid=2" if high else ""))  # fmt: skip
    jit = sysctl("net.core.bpf_jit_enable")
    if jit is None:
        out.append(Finding("BPF JIT", OK, "always on, or not shown to this user"))
    elif jit == "0":
        out.append(Finding("BPF JIT", WARN, "off: programs are interpreted, several times slower",
                           "sysctl net.core.bpf_jit_enable=1"))  # fmt: skip
    else:
        out.append(Finding("BPF JIT", OK, "on"))
    kptr = sysctl("kernel.kptr_restrict")
    if kptr is not None:
        hidden = kptr == "2" or (kptr == "1" and not root)
        text, fix = kptr, ""
        if hidden:
            text, fix = f"{kptr}: kernel symbols are hidden", "sysctl kernel.kptr_restrict=1, and run as root"
        out.append(Finding("kptr_restrict", WARN if hidden else OK, text, fix))
    stats = sysctl("kernel.bpf_stats_enabled")
    if stats == "1":
        out.append(Finding("BPF statistics", WARN, "on for every program: costs some 20 ns a run",
                           "sysctl kernel.bpf_stats_enabled=0 (--stats turns them on while needed)"))  # fmt: skip
    return out


def memlock() -> Finding:
    import resource

    from osmia.kernel import caps

    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    have = caps.effective() or frozenset()
    if soft == resource.RLIM_INFINITY or {"CAP_SYS_RESOURCE", "CAP_IPC_LOCK"} & have:
        return Finding("memlock limit", OK, "no obstacle")
    return Finding("memlock limit", WARN, f"{soft >> 10} KB: counts for BPF memory on kernels before 5.11",
                   "ulimit -l unlimited")  # fmt: skip


def features() -> list[Finding]:
    from osmia.kernel import features as probes

    if _no_rights():
        return [Finding("features", UNKNOWN, "cannot be tried without privileges", "run osmia doctor as root")]
    out = []
    for name, (_, since, text) in probes.PROBES.items():
        answer = probes.has(name)
        state = {True: OK, False: WARN, None: UNKNOWN}[answer]
        fix = "" if answer else f"Linux {since} brought it; osmia does without where it can"
        if name == "ringbuf" and answer is False:
            state, fix = BAD, f"events need it: Linux {since}"
        out.append(Finding(name, state, text, fix if answer is False else ""))
    return out


def _no_rights() -> bool:
    from osmia.kernel import caps

    return bool(caps.missing("load a tracing program"))


#: A program that does nothing (r0 = 0; exit).
_NOTHING = bytes([0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])
_HOOKS = {
    "tracepoint": ("tracepoint/sched/sched_switch", 5, "sched:sched_switch", 0),
    "raw_tracepoint": ("raw_tracepoint/sched_switch", 17, "sched_switch", 0),
    "tp_btf": ("tp_btf/sched_switch", 26, "sched_switch", 23),
    "perf_event": ("perf_event", 7, "", 0),
    "iter": ("iter/task", 26, "task", 28),
    "socket": ("socket", 1, "", 0),
    # Functions that exist for such tests alone, and a security hook that is hardly ever reached.
    "kprobe": ("kprobe/bpf_fentry_test1", 2, "bpf_fentry_test1", 0),
    "kretprobe": ("kretprobe/bpf_fentry_test1", 2, "bpf_fentry_test1", 0),
    "kprobe_multi": ("kprobe.multi/bpf_fentry_test*", 2, "bpf_fentry_test*", 42),
    "fentry": ("fentry/bpf_fentry_test1", 26, "bpf_fentry_test1", 24),
    "fexit": ("fexit/bpf_fentry_test1", 26, "bpf_fentry_test1", 25),
    "fmod_ret": ("fmod_ret/security_quota_on", 26, "security_quota_on", 26),
    "lsm": ("lsm/quota_on", 29, "quota_on", 27),
    "uprobe": ("uprobe/c:getpid", 2, "c:getpid", 0),
}


_LOCKABLE = ("k", "f", "lsm")  # kprobes, fentry and its kin


def hooks() -> list[Finding]:
    """Each hook is tried: a program that does nothing is loaded, attached and let go."""
    if _no_rights():
        return [Finding("hooks", UNKNOWN, "cannot be tried without privileges", "run osmia doctor as root")]
    return [_hook(name) for name in _HOOKS]


def _hook(name: str) -> Finding:
    from osmia.link import attach
    from osmia.load.object import load
    from osmia.obj.spec import ObjectSpec, ProgSpec

    section, number, target, attach_type = _HOOKS[name]
    spec = ObjectSpec("doctor")
    spec.license = "GPL"
    prog = spec.progs["doctor"] = ProgSpec("doctor", _NOTHING, section)
    prog.hook, prog.type, prog.target, prog.attach_type = name, number, target, attach_type
    try:
        with load(spec) as live:
            options: dict[str, Any] = {"period": 10**9} if name == "perf_event" else {}
            attach(live.progs["doctor"], **options).close()
    except NotPermitted as err:
        # All capabilities are there (see hooks()): what a kernel forbids to everybody has alternatives.
        return Finding(f"hook {name}", WARN if section.startswith(_LOCKABLE) else BAD, err.what, err.fix)
    except UserError as err:
        return Finding(f"hook {name}", WARN, err.what, err.fix)
    return Finding(f"hook {name}", OK, "attached and detached")


def compiler() -> Finding:
    from importlib import metadata

    try:
        version = metadata.version("llvmlite")
    except metadata.PackageNotFoundError:
        return Finding("compiler (llvmlite)", WARN, "not installed: only tools that are compiled already can run",
                       "pip install 'osmia[compiler]'")  # fmt: skip
    return Finding("compiler (llvmlite)", OK, version)


def cache_directory() -> Finding:
    from osmia.kernel import cache

    place, reason = cache.location()
    if place is None:
        if _creatable(reason):
            return Finding("cache", OK, "is made at the first run")
        return Finding("cache", WARN, f"not used: {reason}",
                       "tools compile at every start; set OSMIA_CACHE to a directory of yours")  # fmt: skip
    if not os.access(place, os.W_OK):
        return Finding("cache", WARN, f"{place} cannot be written to", "set OSMIA_CACHE to a directory of yours")
    free = os.statvfs(place)
    if free.f_bavail * free.f_frsize < 1 << 20:
        return Finding("cache", WARN, f"{place}: less than 1 MB is free", "free some space, or set OSMIA_CACHE")
    return Finding("cache", OK, place)


def _creatable(reason: str) -> bool:
    """Whether the only thing wrong with the cache is that it is not there yet."""
    if "No such file" not in reason:
        return False
    path = reason.partition(": ")[0]
    while path and not os.path.exists(path):
        path = os.path.dirname(path)
    return bool(path) and os.access(path, os.W_OK)


def findings() -> list[Finding]:
    """Everything, in the order in which it is shown."""
    checks: list[Callable[[], Finding | list[Finding]]] = [
        kernel, rights, btf, tracefs_mounted, lockdown, sysctls, memlock, compiler, cache_directory, hooks, features,
    ]  # fmt: skip
    out: list[Finding] = []
    for check in checks:
        made = check()
        out.extend(made if isinstance(made, list) else [made])
    return out


def show(as_json: bool) -> int:
    """Print all findings; status 1 if something that most tools need is missing."""
    found = findings()
    if as_json:
        from osmia.views.machine import json_line

        for one in found:
            record = {"name": one.name, "state": one.state, "text": one.text, "fix": one.fix}
            sys.stdout.write(json_line(record) + "\n")
    else:
        width = max(len(one.name) for one in found)
        for one in found:
            sys.stdout.write(f"{_MARKS[one.state]} {one.name:<{width}}  {one.text}\n")
            if one.fix:
                sys.stdout.write(f"{'':<{width + 9}}-> {one.fix}\n")
        bad = [one.name for one in found if one.state == BAD]
        sys.stdout.write(f"\n{'Missing: ' + ', '.join(bad) if bad else 'Everything that most tools need is there.'}\n")
    return int(any(one.state == BAD for one in found))
