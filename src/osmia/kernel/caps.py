# SPDX-License-Identifier: Apache-2.0
"""Privileges: which we have, and which one a refusal was for want of.

The kernel says EPERM and no more.  :func:`refused` turns that into the name of
the missing capability, or of the lockdown mode that forbids it even to root.
"""

from __future__ import annotations

import errno

from osmia.errors import NotPermitted
from osmia.kernel.proc import sysctl

#: include/uapi/linux/capability.h
NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip

#: What each action needs, each item a set of alternatives (CAP_BPF and CAP_PERFMON were split off in 5.8).
NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "create a map": (("CAP_BPF", "CAP_SYS_ADMIN"),),
    "load BTF": (("CAP_BPF", "CAP_SYS_ADMIN"),),
    "load a tracing program": (("CAP_BPF", "CAP_SYS_ADMIN"), ("CAP_PERFMON", "CAP_SYS_ADMIN")),
    "attach a program": (("CAP_BPF", "CAP_SYS_ADMIN"), ("CAP_PERFMON", "CAP_SYS_ADMIN")),
    "open a perf event": (("CAP_PERFMON", "CAP_SYS_ADMIN"),),
    "use a kprobe": (("CAP_PERFMON", "CAP_SYS_ADMIN"),),
    "use a kretprobe": (("CAP_PERFMON", "CAP_SYS_ADMIN"),),
    "use kprobe_multi": (("CAP_BPF", "CAP_SYS_ADMIN"), ("CAP_PERFMON", "CAP_SYS_ADMIN")),
    "use kretprobe_multi": (("CAP_BPF", "CAP_SYS_ADMIN"), ("CAP_PERFMON", "CAP_SYS_ADMIN")),
    "put a filter on a network device": (("CAP_NET_ADMIN",),),
    "read tracefs": (("CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE"),),
    "mount tracefs": (("CAP_SYS_ADMIN",),),
    "count BPF run time": (("CAP_SYS_ADMIN",),),
    "read kernel addresses": (("CAP_SYSLOG",),),
    "walk BPF objects by id": (("CAP_BPF", "CAP_SYS_ADMIN"),),
}


def effective() -> frozenset[str] | None:
    """Names of our effective capabilities (``/proc/self/status``, CapEff); None if that cannot be read."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("CapEff:"):
                    mask = int(line[7:], 16)
                    return frozenset(name for bit, name in enumerate(NAMES) if mask >> bit & 1)
    except (OSError, ValueError):
        pass
    return None


def missing(action: str) -> list[str]:
    """What ``action`` (a key of :data:`NEEDS`) lacks: ``["CAP_BPF (or CAP_SYS_ADMIN)"]``; empty if nothing."""
    have = effective()
    if have is None:
        return []
    lacking = []
    for choices in NEEDS.get(action, ()):
        if not have.intersection(choices):
            first, *others = choices
            lacking.append(f"{first} (or {' or '.join(others)})" if others else first)
    return lacking


def lockdown() -> str | None:
    """``none``, ``integrity`` or ``confidentiality``; None where the kernel has no lockdown or hides it.

    Confidentiality forbids reading kernel memory from BPF (since 5.4).
    """
    try:
        with open("/sys/kernel/security/lockdown", encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    start = text.find("[")
    return text[start + 1 : text.find("]", start)] if start >= 0 else None


def refused(action: str, cause: OSError, *, where: str = "") -> NotPermitted:
    """The error for an EPERM or EACCES met when trying to ``action``: names what is missing.

    Only facts are named: a missing capability, then lockdown, then the
    sysctls that can forbid it; if none applies, that a container's or
    security module's rules may be the reason.
    """
    what = f"not permitted to {action} ({cause.filename}: {cause.strerror})"
    lacking = missing(action)
    if lacking:
        fix = f"missing {' and '.join(lacking)}: run as root or grant it (setcap, podman --cap-add)"
        return NotPermitted(what, where=where, fix=fix)
    mode = lockdown()
    if mode in ("integrity", "confidentiality"):
        fix = f"kernel lockdown is in {mode} mode (secure boot): see /sys/kernel/security/lockdown"
        return NotPermitted(what, where=where, fix=fix)
    paranoid = sysctl("kernel.perf_event_paranoid")
    if cause.errno == errno.EACCES and paranoid and paranoid.lstrip("-").isdigit() and int(paranoid) > 2:
        return NotPermitted(what, where=where, fix=f"kernel.perf_event_paranoid is {paranoid}: set it to 2 or less")
    fix = "all capabilities are there, so a container's seccomp filter or a security module forbids it"
    return NotPermitted(what, where=where, fix=fix)
