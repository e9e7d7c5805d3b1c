# SPDX-License-Identifier: Apache-2.0
"""The events of capable, and its user half: with which options a capability was asked for, as its callers say.

The tracepoint does not tell the options.  They are constants of a few
functions of kernel/capability.c and security/commoncap.c, each of which is
there for one set of options.
"""

from __future__ import annotations

from osmia.lang.types import Comm, Event, s32, u32, u64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UNKNOWN = -1


class Check(Event):
    """One check; ``audit`` and ``insetid`` are 1, 0, or UNKNOWN; ``ret`` is 0, or -1: the process has it not."""

    ts: u64
    pid: u32
    tid: u32
    uid: u32
    cap: s32
    audit: s32
    insetid: s32
    ret: s32
    _who: u64
    kernel: u32
    user: u32
    comm: Comm


class Seen(Event):
    """What --unique has shown: of which process or cgroup, and from where."""

    who: u64
    cap: s32
    kernel: u32
    user: u32


#: The only caller of cap_capable() without audit whose name does not say so (security/commoncap.c), and its own caller:
#: compilers make a jump of the call between them.
SILENT = ("cap_vm_enough_memory", "security_vm_enough_memory_mm")
#: Sets INSETID, since c1a85a00ea66 ("LSM: generalize flag passing to security_capable", 5.1).
FOR_SETID = "ns_capable_setid"
#: Frames that are looked at from cap_capable() on: itself, security_capable(), what was called, and who called it.
DEPTH = 4


def options(names: list[str]) -> tuple[int, int]:
    """Whether there is an audit (1 or 0), and whether it is for setting ids, by the functions of a kernel stack."""
    start = next((at for at, name in enumerate(names) if name.startswith("cap_capable")), 0)
    near = names[start : start + DEPTH]
    silent = any(name in SILENT or name.endswith("_noaudit") for name in near)
    return int(not silent), int(FOR_SETID in near)


class Callers:
    """The same by the number of a stack of ``stacks``; each is looked at once."""

    def __init__(self, stacks: Any) -> None:
        self._stacks = stacks
        self._names: Any = None
        self._known: dict[int, tuple[int, int] | None] = {}

    def options(self, number: int) -> tuple[int, int] | None:
        """None where the stack, or the kernel's names, are not known."""
        if number not in self._known:
            self._known[number] = self._look(number)
        return self._known[number]

    def _look(self, number: int) -> tuple[int, int] | None:
        if self._names is None:
            from osmia.symbols.ksyms import Ksyms

            self._names = Ksyms()
        trace = self._stacks.get(number) if number else None
        names = [frame.name for frame in self._names.stack(trace)] if trace else []
        return options(names) if any(name.startswith("cap_capable") for name in names) else None
