# SPDX-License-Identifier: Apache-2.0
"""What this kernel can do, asked of the kernel itself.

A probe is a name, a function and the first kernel version, which is
documentation only: distributions port features back, so nothing here ever
compares versions.  Answers are yes (True), no (False) and could-not-tell
(None); only the sure ones are kept.

``OSMIA_FEATURES_OFF`` (names, comma separated) turns features off, so that
fall-backs can be tested on a kernel that does not need them.
"""

from __future__ import annotations

import errno
import os
import struct

from osmia.kernel import bpf
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Probe = Callable[[], bool | None]

_answers: dict[str, bool] = {}
_off: frozenset[str] = frozenset(filter(None, os.environ.get("OSMIA_FEATURES_OFF", "").split(",")))
_RETURN_0 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)


def off(name: str) -> bool:
    """Whether the user turned this feature off."""
    return name in _off


def turn_off(*names: str) -> None:
    """What ``OSMIA_FEATURES_OFF`` does, within a process (tests); no names: everything is on again."""
    global _off
    _off = frozenset(names)
    _answers.clear()


def know(name: str, answer: bool) -> None:
    """Record what a real attempt has shown, which saves the probe."""
    _answers[name] = answer


def has(name: str) -> bool | None:
    """Whether the kernel has feature ``name`` (a key of :data:`PROBES`): yes, no, or None for could-not-tell."""
    if name in _off:
        return False
    known = _answers.get(name)
    if known is None:
        known = PROBES[name][0]()
        if known is not None:
            _answers[name] = known
    return known


def attach_cookies() -> bool:
    """Whether the kernel tells a program the number of its attachment, which is given with a link."""
    return not off("bpf_link") and has("attach_cookie") is not False


def _attempt(action: Callable[[], int], *no: int) -> bool | None:
    """True if ``action`` yields an fd; False if it fails with one of the errnos ``no``; else None."""
    try:
        os.close(action())
    except OSError as e:
        return False if e.errno in no else None
    return True


def _map(type: int, key: int = 4, value: int = 8, entries: int = 1) -> Probe:
    return lambda: _attempt(lambda: bpf.map_create(type, key, value, entries), errno.EINVAL)


def _page() -> int:
    return os.sysconf("SC_PAGE_SIZE")


def _ringbuf() -> bool | None:
    return _attempt(lambda: bpf.map_create(consts.BPF_MAP_TYPE_RINGBUF, 0, 0, _page()), errno.EINVAL)


def _user_ringbuf() -> bool | None:
    return _attempt(lambda: bpf.map_create(consts.BPF_MAP_TYPE_USER_RINGBUF, 0, 0, _page()), errno.EINVAL)


def _btf() -> bool | None:
    return os.path.exists("/sys/kernel/btf/vmlinux")


def _core_relo() -> bool | None:
    # A kernel that does not know the attr's core_relo fields refuses them first of all, with E2BIG.
    try:
        os.close(bpf.prog_load(consts.BPF_PROG_TYPE_RAW_TRACEPOINT, _RETURN_0, "GPL", core_relos=bytes(16)))
    except OSError as e:
        if e.errno == errno.E2BIG:
            return False
        return None if e.errno in (errno.EPERM, errno.ENOSYS) else True
    return True


def _link(
    prog_type: int, attach_type: int, target: int, answers: dict[int, bool], *,
    loaded_as: int = 0, btf_id: int = 0, flags: int = 0, tail: bytes = b"", linked: bool | None = None,
) -> bool | None:  # fmt: skip
    """What a link that cannot be made says: ``answers`` by errno; ``linked`` if it can be made after all."""
    try:
        prog = bpf.prog_load(prog_type, _RETURN_0, "GPL", attach_type=loaded_as, attach_btf_id=btf_id)
    except OSError:
        return None
    try:
        os.close(bpf.link_create(prog, target, attach_type, flags=flags, tail=tail))
    except OSError as e:
        return answers.get(e.errno or 0)
    finally:
        os.close(prog)
    return linked


def _perf_link() -> bool | None:
    # A known attach type gets as far as looking at the (bad) perf fd.
    answers = {errno.EBADF: True, errno.EINVAL: False}
    return _link(consts.BPF_PROG_TYPE_TRACEPOINT, consts.BPF_PERF_EVENT, -1 & 0xFFFFFFFF, answers)


def _tcx() -> bool | None:
    # A kernel that knows the attach type looks for the (impossible) device.
    kind, answers = consts.BPF_TCX_INGRESS, {errno.ENODEV: True, errno.EINVAL: False}
    return _link(consts.BPF_PROG_TYPE_SCHED_CLS, kind, 0x7FFFFFFF, answers, loaded_as=kind)


def _batch_of(type: int) -> Probe:
    def probe() -> bool | None:
        from osmia.kernel import cpus

        try:
            fd = bpf.map_create(type, 4, 8, 1)
        except OSError:
            return None
        try:
            bpf.map_lookup_batch(fd, None, 1, 4, 8 * cpus.slots())
        except OSError as e:
            return False if e.errno in (errno.EINVAL, errno.ENOTSUP, bpf.ENOTSUPP) else None
        finally:
            os.close(fd)
        return True

    return probe


def _take_hash() -> bool | None:
    try:
        fd = bpf.map_create(consts.BPF_MAP_TYPE_HASH, 4, 8, 1)
    except OSError:
        return None
    try:
        bpf.map_lookup_and_delete(fd, bytes(4), 8)
    except OSError as e:
        return False if e.errno in (errno.EINVAL, errno.ENOTSUP, bpf.ENOTSUPP) else None
    finally:
        os.close(fd)
    return True


def _stats() -> bool | None:
    return _attempt(bpf.enable_stats, errno.EINVAL)


def _pmu(name: str) -> Probe:
    return lambda: os.path.exists(f"/sys/bus/event_source/devices/{name}/type")


def _multi(attach_type: int) -> Probe:
    # An old kernel may load the program all the same (it does not look at the attach type) and then refuses the
    # unknown link with EINVAL; one that knows it goes as far as reading what to attach to from an impossible address.
    bad = 8
    if attach_type == consts.BPF_TRACE_KPROBE_MULTI:
        tail = struct.pack("<IIQQQ", 0, 1, 0, bad, 0)  # flags, cnt, syms, addrs, cookies
    else:
        tail = struct.pack("<QQQQIIII", bad, bad, 0, 0, 1, 0, 0, 0)  # path, offsets, ref_ctrs, cookies, cnt, flags, pid

    def probe() -> bool | None:
        try:
            prog = bpf.prog_load(consts.BPF_PROG_TYPE_KPROBE, _RETURN_0, "GPL", attach_type=attach_type)
        except OSError as e:
            return False if e.errno in (errno.EINVAL, errno.E2BIG) else None
        try:
            os.close(bpf.link_create(prog, 0, attach_type, tail=tail))
        except OSError as e:
            # A kernel that was built without the machinery says EOPNOTSUPP.
            return {errno.EFAULT: True, errno.EINVAL: False, errno.EOPNOTSUPP: False}.get(e.errno or 0)
        finally:
            os.close(prog)
        return True

    return probe


def _uprobe_multi_pid() -> bool | None:
    # A directory is no file to probe; kernels that filter by process refuse the impossible pid before they see that.
    if not has("uprobe_multi"):
        return has("uprobe_multi")
    from osmia.kernel.door import address

    kind, path, offset = consts.BPF_TRACE_UPROBE_MULTI, b"/\0", bytes(8)
    tail = struct.pack("<QQQQIIiI", address(path), address(offset), 0, 0, 1, 0, -1, 0)
    answers = {errno.EINVAL: True, errno.EBADF: False, errno.ESRCH: False}
    return _link(consts.BPF_PROG_TYPE_KPROBE, kind, 0, answers, loaded_as=kind, tail=tail)


def _fentry() -> bool | None:
    # A function that exists for such tests alone (net/bpf/test_run.c): attaching there disturbs nobody.
    from osmia.kernel import btf_source

    if not btf_source.has_kernel_btf():
        return False
    id = btf_source.type_id("bpf_fentry_test1", 12)  # BTF_KIND_FUNC
    try:
        prog = bpf.prog_load(
            consts.BPF_PROG_TYPE_TRACING, _RETURN_0, "GPL", attach_type=consts.BPF_TRACE_FENTRY, attach_btf_id=id
        )
    except OSError as e:
        return False if id and e.errno == errno.EINVAL else None
    try:
        return _attempt(lambda: bpf.raw_tracepoint_open(prog), errno.EINVAL, errno.ENOTSUP, bpf.ENOTSUPP, errno.EBUSY)
    finally:
        os.close(prog)


def _iterator(kind: str) -> Probe:
    """Whether programs can walk the kernel's objects of a kind: its function is known to the types, and loads."""

    def probe() -> bool | None:
        from osmia.kernel import btf_source

        if not btf_source.has_kernel_btf():
            return False
        id = btf_source.type_id(f"bpf_iter_{kind}", 12)  # BTF_KIND_FUNC
        if not id:
            return False
        action = lambda: bpf.prog_load(  # noqa: E731
            consts.BPF_PROG_TYPE_TRACING, _RETURN_0, "GPL", attach_type=consts.BPF_TRACE_ITER, attach_btf_id=id
        )
        return _attempt(action, errno.EINVAL)

    return probe


def _iterator_pid() -> bool | None:
    # A kernel that can narrow tasks to one process refuses a process and a thread at once.
    if not has("iterator_task"):
        return has("iterator_task")
    from osmia.kernel import btf_source
    from osmia.kernel.door import address

    info = struct.pack("<III4x", 1, 1, 0)  # union bpf_iter_link_info.task: tid, pid, pid_fd
    # E2BIG: the words are behind the end of the structure that the kernel knows, which had a map's fd only.
    return _link(
        consts.BPF_PROG_TYPE_TRACING, consts.BPF_TRACE_ITER, 0, {errno.EINVAL: True, errno.E2BIG: False},
        loaded_as=consts.BPF_TRACE_ITER, btf_id=btf_source.type_id("bpf_iter_task", 12),
        tail=struct.pack("<QI", address(info), len(info)), linked=False,
    )  # fmt: skip


def _xdp_link() -> bool | None:
    # The loopback device (number 1 everywhere) has no hardware to run programs: a kernel that knows links says so.
    hardware = 1 << 3  # XDP_FLAGS_HW_MODE, include/uapi/linux/if_link.h
    answers = {errno.EOPNOTSUPP: True, errno.EINVAL: False}
    return _link(consts.BPF_PROG_TYPE_XDP, consts.BPF_XDP, 1, answers, flags=hardware)


def _all_walked() -> bool | None:
    """The verifier of bb124da69c47 and after counts in this field how often it has walked a callback."""
    from osmia.kernel import btf_source

    btf = btf_source.kernel_btf()
    if btf is None:
        return None
    state = btf.find("bpf_func_state", consts.BTF_KIND_STRUCT)
    return btf.find_member(state, "callback_depth") is not None if state else None


def _module_btf() -> bool | None:
    # With types the kernel lists its modules' beside its own; one that has no module loaded cannot tell.
    from osmia.kernel import btf_source

    if not btf_source.has_kernel_btf():
        return False
    listed = os.listdir("/sys/kernel/btf")
    if len(listed) > 1:
        return True
    try:
        with open("/proc/modules", "rb") as stream:
            return False if stream.read(1) else None
    except FileNotFoundError:
        return None


def helper(number: int, prog_type: int = consts.BPF_PROG_TYPE_KPROBE) -> bool | None:
    """Whether programs of ``prog_type`` may call helper ``number`` (``BPF_FUNC_*``)."""
    log = bytearray(4096)
    insns = struct.pack("<BBhi", 0x85, 0, 0, number) + _RETURN_0
    try:
        os.close(bpf.prog_load(prog_type, insns, "GPL", log=log))
    except OSError as e:
        if e.errno in (errno.EPERM, errno.ENOSYS):
            return None
        text = bytes(log).split(b"\0", 1)[0]
        if not text:
            return None
        # "invalid func unknown#250", "unknown func bpf_loop#181", "program of this type cannot use helper ..."
        return not any(sign in text for sign in (b"invalid func", b"unknown func", b"cannot use helper"))
    return True


def _helper(number: int, prog_type: int = consts.BPF_PROG_TYPE_KPROBE) -> Probe:
    return lambda: helper(number, prog_type)


def _isa(insn: bytes) -> Probe:
    # A socket filter is the least demanding program; the instruction under test works on r0 and r1 = 1.
    def probe() -> bool | None:
        insns = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 7, 0xB7, 1, 0, 1) + insn + _RETURN_0
        action = lambda: bpf.prog_load(consts.BPF_PROG_TYPE_SOCKET_FILTER, insns, "GPL")  # noqa: E731
        return _attempt(action, errno.EINVAL)

    return probe


def _syscall_prog() -> bool | None:
    action = lambda: bpf.prog_load(  # noqa: E731
        consts.BPF_PROG_TYPE_SYSCALL, _RETURN_0, "GPL", flags=consts.BPF_F_SLEEPABLE
    )
    return _attempt(action, errno.EINVAL)


def _atomic_fetch() -> bool | None:
    # *(u64 *)(r10 - 8) = 0; r1 = atomic_fetch_add(r10 - 8, r1)
    return _isa(struct.pack("<BBhiBBhi", 0x7A, 10, -8, 0, 0xDB, 0x1A, -8, 1))()


_ITERATORS = (
    ("task", "5.8", "tasks"), ("bpf_map", "5.8", "maps"), ("bpf_prog", "5.9", "programs"),
    ("tcp", "5.9", "TCP sockets"), ("bpf_map_elem", "5.9", "the elements of a map"),
    ("task_vma", "5.12", "mappings of processes"),
    ("bpf_link", "5.19", "links"), ("ksym", "6.0", "the kernel's symbols"),
)  # fmt: skip

#: name -> (probe, first kernel version, what it is for)
PROBES: dict[str, tuple[Probe, str, str]] = {
    "btf": (_btf, "5.4", "types of the running kernel (/sys/kernel/btf/vmlinux)"),
    "core_relo": (_core_relo, "5.17", "relocation of field accesses by the kernel itself"),
    "ringbuf": (_ringbuf, "5.8", "ring buffer shared by all CPUs"),
    "user_ringbuf": (_user_ringbuf, "6.1", "ring buffer from user space to the kernel"),
    "bpf_link": (_perf_link, "5.15", "links for tracepoints and perf events"),
    "tcx": (_tcx, "6.6", "links for tc programs"),
    "batch": (_batch_of(consts.BPF_MAP_TYPE_HASH), "5.6", "reading many map elements at once"),
    "batch_percpu_array": (_batch_of(consts.BPF_MAP_TYPE_PERCPU_ARRAY), "5.13", "the same for per-CPU arrays"),
    "take_hash": (_take_hash, "5.14", "looking up and deleting in one step in hash maps"),
    "stats": (_stats, "5.8", "run time and run count per program"),
    "kprobe": (_pmu("kprobe"), "4.17", "dynamic tracing of kernel functions"),
    "uprobe": (_pmu("uprobe"), "4.17", "dynamic tracing of user functions"),
    "fentry": (_fentry, "5.5", "entries and returns of kernel functions through BPF trampolines"),
    "kprobe_multi": (_multi(consts.BPF_TRACE_KPROBE_MULTI), "5.18", "many kernel functions with one link"),
    "uprobe_multi": (_multi(consts.BPF_TRACE_UPROBE_MULTI), "6.6", "many user functions with one link"),
    "uprobe_multi_pid": (_uprobe_multi_pid, "6.10", "the same for all threads of one process only"),
    **{f"iterator_{kind}": (_iterator(kind), since, f"walks over {what}") for kind, since, what in _ITERATORS},
    "iterator_pid": (_iterator_pid, "6.1", "walks over one process's tasks only"),
    "xdp_link": (_xdp_link, "5.9", "XDP programs that go when their owner goes"),
    "xdp_load_bytes": (_helper(consts.BPF_FUNC_xdp_load_bytes, consts.BPF_PROG_TYPE_XDP), "5.18",
                       "bytes of a packet anywhere, in XDP programs"),
    "all_walked": (_all_walked, "6.8", "loops whose end the verifier finds out by following values"),
    "module_btf": (_module_btf, "5.11", "types of kernel modules"),
    "bpf_loop": (_helper(consts.BPF_FUNC_loop), "5.17", "loops of any length"),
    "probe_read_kernel": (_helper(consts.BPF_FUNC_probe_read_kernel), "5.5", "reads of kernel memory by name"),
    "syscall_prog": (_syscall_prog, "5.14", "programs that run on demand (tests)"),
    "cgroup_under": (_helper(consts.BPF_FUNC_get_current_ancestor_cgroup_id), "5.14",
                     "whether a task is in a cgroup or below it, in one call"),
    "get_stack": (_helper(consts.BPF_FUNC_get_stack), "4.18", "stacks written to memory instead of a stack map"),
    "attach_cookie": (_helper(consts.BPF_FUNC_get_attach_cookie), "5.15", "a number per attachment"),
    "get_func_ip": (_helper(consts.BPF_FUNC_get_func_ip), "5.15", "address of the traced function"),
    "trace_printk_more": (
        # A witness: both came with one series of changes, and what a format may hold shows only when it is printed.
        _helper(consts.BPF_FUNC_snprintf), "5.13", "several texts, %X and %% in a line of the trace pipe",
    ),
    "trace_vprintk": (_helper(consts.BPF_FUNC_trace_vprintk), "5.16", "more than three values in such a line"),
    "bloom_filter": (_map(consts.BPF_MAP_TYPE_BLOOM_FILTER, 0), "5.16", "set membership in little memory"),
    "atomic_fetch": (_atomic_fetch, "5.12", "atomic operations that return the old value"),
    "cpu_v4": (_isa(struct.pack("<BBhi", 0x3F, 0x10, 1, 0)), "6.6", "signed division and other version 4 instructions"),
}


def all_answers() -> dict[str, bool | None]:
    """Every probe's answer (some milliseconds)."""
    return {name: has(name) for name in PROBES}
