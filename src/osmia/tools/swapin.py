# SPDX-License-Identifier: Apache-2.0
"""Count reads from swap space, by process, each second."""

from __future__ import annotations

import time

from osmia import Col, Global, Hash, cast, count_table, current, enum_value, exists, first_of, lost, option, read_kernel
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.function_probes import fentry, kprobe
from osmia.lang.pidns import current_process_id
from osmia.lang.probes import raw_tracepoint, tp_btf
from osmia.lang.types import Comm, Event, u32, u64

notime = option("-T", "--notime", help="do not show the time of day")

REQ_OP_MASK, REQ_OP_READ = 0xFF, 0  # include/linux/blk_types.h


class Who(Event):
    """A process, and the name of its thread that had to wait."""

    pid: u32
    comm: Comm


swapins = Hash[Who, u64]()
#: Whether the function is traced, which is called before the request is made.
by_function = Global[u64](0)


@first_of(
    fentry("swap_read_folio", optional=True), kprobe("swap_read_folio", optional=True),  # c9bdf768dd93
    fentry("swap_readpage", optional=True), kprobe("swap_readpage", optional=True),
)  # fmt: skip
def reading():
    """Each call reads a page, or several that belong together; also from compressed memory (zswap) or a network."""
    by_function.value = 1
    count()


@first_of(tp_btf("block_bio_queue"), raw_tracepoint("block_bio_queue"))
def queued(request):
    if by_function.value:
        return
    if exists("struct hd_struct"):
        lost("swap-ins, because this kernel's block tracepoints (before 5.11) have other arguments")
        return
    bio = cast(request, "struct bio")
    if bio.bi_opf & REQ_OP_MASK == REQ_OP_READ and bio.bi_vcnt and is_swap(bio.bi_io_vec.bv_page):
        count()


def is_swap(page):
    """Whether a page that is being read into is one of memory that has no file.

    The page of a direct read by a program is that, too, but it holds valid data already.
    """
    flags = read_kernel(page, u64)  # the first field of struct page, in all kernels
    without_file = flags >> enum_value("pageflags", "PG_swapbacked") & 1
    locked = flags >> enum_value("pageflags", "PG_locked") & 1
    valid = flags >> enum_value("pageflags", "PG_uptodate") & 1
    return without_file == 1 and locked == 1 and valid == 0


def count():
    if wanted():
        swapins[Who(pid=current_process_id(), comm=current.comm)] += 1


def table(entries, _):
    """As bcc prints it."""
    from osmia.views.escape import escape

    head = [] if notime else [time.strftime("%H:%M:%S")]
    rows = [f"{escape(str(one.key.comm)):<16} {one.key.pid:<7} {one.count}" for one in entries]
    return "\n".join([*head, f"{'COMM':<16} {'PID':<7} COUNT", *rows, "", ""])


tool = count_table(
    swapins,
    [
        Col("comm", "COMM", row=lambda one: one.key.comm),
        Col("pid", "PID", row=lambda one: one.key.pid),
        Col("count", "COUNT"),
    ],
    text=table,
    interval=1.0,
    banner="Counting swap ins. Ctrl-C to end.",
)
