# SPDX-License-Identifier: Apache-2.0
"""fentry, fexit and fmod_ret: a kernel function's entry, return, or what it returns, through a BPF trampoline.

The function was fixed when the program was loaded (by type id), so the
target is only for messages.  5.5 on x86-64 (fmod_ret 5.7), 6.0 on arm64.
"""

from __future__ import annotations

import errno
import os

from osmia.errors import NotSupported, UserError
from osmia.kernel import bpf, functions
from osmia.link.base import Link, failed
from osmia.link.kprobe import FunctionLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.load.program import LiveProg


def attach(prog: LiveProg, target: str) -> Link:
    """Attach to what the program was loaded for."""
    hook = prog.spec.hook
    try:
        fd = bpf.raw_tracepoint_open(prog.fd)
    except OSError as e:
        raise explained(prog, target, hook, e) from None
    return FunctionLink(target, f"{hook}, trampoline", [fd])


def explained(prog: LiveProg, target: str, hook: str, cause: OSError) -> UserError:
    """The error for a refusal, with the kprobe that does the same."""
    where = f"{prog.name} ({target})"
    other = {"fentry": f'use kprobe("{target}")', "fexit": f'use kretprobe("{target}")'}.get(hook, "")
    if cause.errno in (errno.EPERM, errno.EACCES):
        return functions.why_not_permitted(hook, where) or failed(prog, target, cause)
    if cause.errno in (errno.ENOTSUP, bpf.ENOTSUPP, errno.EOPNOTSUPP):
        what = f"{os.uname().machine} kernels of this build cannot attach {hook} programs"
        return NotSupported(what, where=where, fix=other)
    if cause.errno == errno.E2BIG:
        return NotSupported("as many programs are on this function already as the kernel allows (38)", where=where,
                            fix=other)  # fmt: skip
    if cause.errno == errno.EBUSY:
        return NotSupported("something else (live patching, another tracer) has taken this function over",
                            where=where, fix=other)  # fmt: skip
    found = functions.why_not(target, hook, where)
    found.fix = found.fix or other
    return found
