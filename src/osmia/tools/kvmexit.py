# SPDX-License-Identifier: Apache-2.0
"""Count why virtual machines of KVM leave their CPUs, by thread and reason."""

from __future__ import annotations

import re

from osmia import Col, PerCpuHash, count_table, option, tracepoint
from osmia.errors import NotSupported, OptionError
from osmia.kernel import tracefs
from osmia.lang.filters import wanted
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.types import Event, u32, u64
from osmia.tools._chosen import chosen, pid, threads
from osmia.tools._show import whole

tid = threads("-t", "--tid")
tids = threads("-T", "--tids")
vcpu = option("-v", "--vcpu", type=int, default=-1, metavar="VCPU", help="this virtual CPU only")
all_threads = option("-a", "--alltids", help="with -p: count by thread")
parallel = option("-m", "--max-parallelism", type=int, parse=whole, metavar="N",
                  help="accepted for bcc's sake: there is nothing to do in parallel")  # fmt: skip

VMX, SVM = 1, 2  # KVM_ISA_*, arch/x86/include/uapi/asm/kvm.h


class Key(Event):
    """Whose exit, and why."""

    pid: u32
    tid: u32
    isa: u32
    reason: u32


exits = PerCpuHash[Key, u64](16384)


@tracepoint("kvm:kvm_exit")
def leave(call):
    """In the thread of the virtual CPU."""
    if not chosen() or not wanted() or (vcpu >= 0 and call.vcpu_id != vcpu):
        return
    exits[Key(pid=current_process_id(), tid=current_thread_id(), isa=call.isa, reason=call.exit_reason)] += 1


def by_process():
    return not (pid.given or tid.given or tids.given)


def by_thread():
    return all_threads or tids.given or by_process()


def shown(key):
    """What the exit is counted under."""
    return Key(pid=key.pid if by_process() else 0, tid=key.tid if by_thread() else 0, isa=key.isa, reason=key.reason)


reasons: dict[tuple[int, int], str] = {}


def named(text):
    """The reasons' names from the tracepoint's ``print fmt``, which has those of Intel first, then those of AMD."""
    tables = re.findall(r"__print_symbolic\((.*?\})\)", text, re.S)
    for isa, table in zip((VMX, SVM), tables, strict=False):
        for first, second, word in re.findall(r'\{\s*(\w+)(?:\s*\+\s*(\w+))?\s*,\s*"([^"]*)"\s*\}', table):
            reasons[isa, int(first, 0) + (int(second, 0) if second else 0)] = word


def reason(entry):
    """In words; the upper half of Intel's numbers are flags (failed entries)."""
    number = entry.reason & 0xFFFF if entry.isa == VMX else entry.reason
    return reasons.get((entry.isa, number), f"{number:#x}")


def prepare():
    if sum(one.given for one in (tid, tids, all_threads)) + (vcpu >= 0) > 1:
        raise OptionError("-t, -T, -v and -a exclude each other", where="kvmexit", fix="give one of them")
    if not tracefs.exists("kvm", "kvm_exit"):
        raise NotSupported("this kernel has no KVM now: there is no tracepoint kvm:kvm_exit", where="kvmexit",
                           fix="load its module: modprobe kvm")  # fmt: skip
    named(tracefs.format("kvm", "kvm_exit").partition("print fmt:")[2])


tool = count_table(
    exits,
    [
        Col("pid", "PID", 8, align="<", when=by_process),
        Col("tid", "TID", 8, align="<", when=by_thread),
        Col("name", "KVM_EXIT_REASON", 35, row=reason),
        Col("count", "COUNT", 8, align="<"),
    ],
    banner="Display kvm exit reasons and statistics... Hit Ctrl-C to end.",
    name=shown,
    sort=lambda entry: entry.count,
    prepare=prepare,
    duration=0.0,
)
