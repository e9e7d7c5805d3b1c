# SPDX-License-Identifier: Apache-2.0
"""Security hooks: a program that may forbid what a task is about to do.  5.7.

The kernel attaches such a program in any case, and runs it only if ``bpf``
was among the security modules at boot; so that is looked up first.
"""

from __future__ import annotations

import errno

from osmia.errors import NotSupported
from osmia.kernel import bpf, functions
from osmia.link.base import Link, failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.load.program import LiveProg

LIST = "/sys/kernel/security/lsm"


def active() -> list[str] | None:
    """Names of the kernel's active security modules; None where securityfs cannot be read."""
    try:
        with open(LIST, encoding="ascii", errors="replace") as file:
            return file.read().strip().split(",")
    except OSError:
        return None


def attach(prog: LiveProg, target: str) -> Link:
    """Attach to what the program was loaded for.  NotSupported where the kernel would never run it."""
    where = f"{prog.name} ({target})"
    modules = active()
    if modules is not None and "bpf" not in modules:
        raise NotSupported(f"this kernel does not run BPF security programs: its modules are {', '.join(modules)}",
                           where=where, fix=f"boot with lsm={','.join([*modules, 'bpf'])}")  # fmt: skip
    try:
        return Link(target, "security hook", [bpf.raw_tracepoint_open(prog.fd)])
    except OSError as e:
        if e.errno in (errno.EPERM, errno.EACCES):
            raise functions.why_not_permitted("lsm", where) or failed(prog, target, e) from None
        raise failed(prog, target, e) from None
