# SPDX-License-Identifier: Apache-2.0
"""Kernel half: what moved inside the kernel, one small function per change, with the commit that made it.

The only place where a kernel's age shows.  A function asks for a field or a
type, never for a version, because distributions port changes back.  What
either side of a change looks like is a flavour class (``NAME___WORD``), so
that an object compiled on any kernel runs on any other.
"""

from __future__ import annotations

from osmia.lang.builtins import cast, cgroup_under, current, enum_exists, exists
from osmia.lang.membership import task_in_cgroup
from osmia.lang.types import Kernel, KStruct, s32, s64, u8, u32, u64

GendiskPtr = Kernel["struct gendisk"]
KthreadPtr = Kernel["struct kthread"]
SockPtr = Kernel["struct sock"]


def loops_are_long():
    """Whether a loop may have any number of rounds: e6f2dd0f8067 ("bpf: Add bpf_loop helper", 5.17).

    Before, the verifier walks through every round and has a limit of a
    million instructions: ``if i >= 100 and not loops_are_long(): break``.
    """
    return enum_exists("bpf_func_id", "BPF_FUNC_loop")


def in_cgroup(id: int) -> bool:
    """Whether the current task is in the cgroup (v2) with this id, or in one below it.

    95b861a7935b ("bpf: Allow bpf_get_current_ancestor_cgroup_id for tracing",
    5.14) cannot be asked for; another helper came with the version after it
    (dd6e10fbd9fb, "bpf: Add bpf_task_pt_regs() helper").  Before, the cgroups
    are walked up; their ids are in kernfs nodes since 67c0496e87d1 (5.5).
    """
    if enum_exists("bpf_func_id", "BPF_FUNC_task_pt_regs") or not exists("struct task_struct"):
        return cgroup_under(id)  # type: ignore[no-any-return]
    return task_in_cgroup(current.task, id)  # type: ignore[no-any-return]


class task_struct___since_5_14(KStruct):
    """2f064a59a11f ("sched: Change task_struct::state", 5.14) renamed the field and made it 32 bits wide."""

    __state: u32


class task_struct___before_5_14(KStruct):
    """See above."""

    state: s64


def task_state(task):
    """The task's state: 0 while it is runnable."""
    if exists(cast(task, task_struct___since_5_14).__state):
        return cast(task, task_struct___since_5_14).__state
    return cast(task, task_struct___before_5_14).state


class task_struct___before_5_16(KStruct):
    """bcf9033e5449 ("sched: move CPU field back into thread_info if THREAD_INFO_IN_TASK=y", 5.16)."""

    cpu: u32


class thread_info___since_5_16(KStruct):
    """See above."""

    cpu: u32


def task_cpu(task):
    """The number of the CPU that a task has, or had when it last ran."""
    if exists(cast(task, task_struct___before_5_16).cpu):
        return cast(task, task_struct___before_5_16).cpu
    return cast(task.thread_info, thread_info___since_5_16).cpu


class cfs_rq___since_6_14(KStruct):
    """c2a295bffeaf ("sched/fair: Add new cfs_rq.h_nr_runnable", 6.14; in 6.12's stable series since 6.12.37)."""

    h_nr_queued: u32
    h_nr_runnable: u32


class cfs_rq___in_6_13(KStruct):
    """76f2f783294d ("sched/eevdf: More PELT vs DELAYED_DEQUEUE", 6.13; 6.12.7 to 6.12.36): what became the above."""

    h_nr_delayed: u32


def asleep_but_queued(rq):
    """How many threads the run queue counts in ``nr_running`` although they sleep.

    152e11f6df29 ("sched/fair: Implement delayed dequeue", 6.12) leaves a
    thread that goes to sleep in the queue until it would be its turn again.
    Before 6.12.7 nothing says how many these are: 0 then.
    """
    if exists(cast(rq.cfs, cfs_rq___since_6_14).h_nr_runnable):
        queue = cast(rq.cfs, cfs_rq___since_6_14)
        return queue.h_nr_queued - queue.h_nr_runnable
    if exists(cast(rq.cfs, cfs_rq___in_6_13).h_nr_delayed):
        return cast(rq.cfs, cfs_rq___in_6_13).h_nr_delayed
    return 0


def queue_comes_first(request):
    """Whether the block tracepoints have the queue before the request, so that ``request`` is none.

    a54895fa057c ("block: remove the request_queue to argument request based
    tracepoints", 5.11) took it away, and 5.10's stable series has that, too
    (since 5.10.137).  Nothing that could be asked of the types came with it;
    but a request and its hardware queue belong to the same queue.  Kernels
    since 0d02129e76ed ("block: merge struct block_device and struct
    hd_struct", 5.11) are known to be new, and pay nothing for the question.
    """
    if exists("struct hd_struct"):
        return request.mq_hctx.queue != request.q
    return False


class request_queue___since_5_15(KStruct):
    """d152c682f03c ("block: add an explicit ->disk backpointer to the request_queue", 5.15)."""

    disk: GendiskPtr


class task_struct___since_5_17(KStruct):
    """e32cf5dfbe22 ("kthread: Generalize pf_io_worker so it can point to struct kthread", 5.17)."""

    worker_private: KthreadPtr


def current_work():
    """What the current thread, which is one of a workqueue's, works at: ``flush-8:0``, as ps shows it.

    Its queue's name unless the work itself says more: 8bf895931ee3
    ("workqueue: Set worker->desc to workqueue name by default", 4.18).
    """
    if exists(cast(current.task, task_struct___since_5_17).worker_private):
        thread = cast(current.task, task_struct___since_5_17).worker_private
        return cast(thread.data, "struct worker").desc
    thread = cast(current.task.set_child_tid, "struct kthread")
    return cast(thread.data, "struct worker").desc


class request___before_5_17(KStruct):
    """f3fa33acca9f ("block: remove the ->rq_disk field in struct request", 5.17)."""

    rq_disk: GendiskPtr


def disk_of(request):
    """The ``struct gendisk`` that a block request goes to."""
    if exists(cast(request, request___before_5_17).rq_disk):
        return cast(request, request___before_5_17).rq_disk
    return cast(request.q, request_queue___since_5_15).disk


def request_disk(request):
    """The number of the disk that a block request goes to: the major one from bit 20 up, as the kernel's dev_t.

    The disk moved twice: d152c682f03c (5.15), f3fa33acca9f (5.17).
    """
    disk = disk_of(request)
    return disk.major << 20 | disk.first_minor


class page___before_6_16(KStruct):
    """acc53a0b4c15 ("mm: rename page->index to page->__folio_index", 6.16) left the index to the folio alone."""

    index: u64


class folio___since_5_16(KStruct):
    """7b230db3b8d3 ("mm: Introduce struct folio", 5.16): a folio is where its first page is."""

    index: u64


def page_index(page):
    """Where in its file a page, or a folio given as one, is, in pages."""
    if exists(cast(page, page___before_6_16).index):
        return cast(page, page___before_6_16).index
    return cast(page, folio___since_5_16).index


class trace_event_raw_mark_victim___since_6_9(KStruct):
    """72ba14deb40a ("mm: Update mark_victim tracepoints fields", 6.9; also in the stable series, 5.10 as well)."""

    total_vm: u64
    anon_rss: u64
    file_rss: u64
    shmem_rss: u64


def victim_is_told(pointer):
    """Whether the tracepoint ``mark_victim`` has the task, and its record the memory: 72ba14deb40a (6.9).

    Before, both have a number only.  The stable series have the change, too: no kernel of the matrix is before it.
    """
    return exists(cast(pointer, trace_event_raw_mark_victim___since_6_9).total_vm)


def cache_is_told():
    """Whether the third argument of the tracepoint ``kmem_cache_alloc`` is the cache, before it is a size.

    2c1d697fb8ba ("mm/slab_common: drop kmem_alloc & avoid dereferencing fields when not using", 6.1), where
    the event got a record of its own.
    """
    return exists("struct trace_event_raw_kmem_cache_alloc")


def compaction_of(first):
    """The ``struct compact_control`` that is the first argument of the tracepoint ``mm_compaction_begin``, or 0.

    Since abd4349ff9b8 ("mm: compaction: cleanup the compaction trace events", 5.18); before, it is the number of
    a page.  No type came with it, but an address of the kernel's has its highest bit set.
    """
    return u64(first) if u64(first) >> 63 else 0


class inet_sock___since_6_6(KStruct):
    """c274af224269 ("inet: introduce inet->inet_flags", 6.6): options as bits of one word."""

    inet_flags: u64


class inet_sock___before_6_6(KStruct):
    """See above: bit fields, of which these are in two bytes one after the other."""

    freebind: u8
    bind_address_no_port: u8


def bind_flags(sk):
    """Options that change what bind() does: 1 is IP_FREEBIND, 2 IP_TRANSPARENT, 4 IP_BIND_ADDRESS_NO_PORT."""
    if exists(cast(sk, inet_sock___since_6_6).inet_flags):  # the numbers of INET_FLAGS_*, include/net/inet_sock.h
        flags = cast(sk, inet_sock___since_6_6).inet_flags
        return (flags >> 11 & 1) | (flags >> 15 & 1) << 1 | (flags >> 18 & 1) << 2
    first, second = cast(sk, inet_sock___before_6_6).freebind, cast(sk, inet_sock___before_6_6).bind_address_no_port
    return (first >> 2 & 1) | (first >> 5 & 1) << 1 | (second & 1) << 2


class trace_event_raw_tcp_retransmit_skb___since_6_17(KStruct):
    """ad892e912b84 ("tcp: trace retransmit failures in tcp_retransmit_skb", 6.17): before, failures are no events."""

    err: s32


def tells_failures(sk):
    """Whether the tracepoint tells of segments that were not sent, too, with the error as its third argument."""
    return exists(cast(sk, trace_event_raw_tcp_retransmit_skb___since_6_17).err)


class trace_event_raw_kfree_skb___since_6_11(KStruct):
    """c53795d48ee8 ("net: add rx_sk to trace_kfree_skb", 6.11)."""

    rx_sk: SockPtr


def tells_receiver(skb):
    """Whether the tracepoint kfree_skb has the socket of a packet that came in as its fourth argument, or 0.

    Such a packet belongs to no socket itself (``skb->sk``) while the socket takes it.
    """
    return exists(cast(skb, trace_event_raw_kfree_skb___since_6_11).rx_sk)
