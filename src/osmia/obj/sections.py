# SPDX-License-Identifier: Apache-2.0
"""What an ELF section's name says about the program in it.

The names are libbpf's convention (its documentation calls the table "program
types"), which clang-built objects follow and every loader understands.
"""

from __future__ import annotations

from osmia.errors import NotSupported
from osmia.obj import consts as c

# name -> (hook, program type, expected attach type, sleepable).  A name with a slash is matched whole;
# one without is the part before the first slash, the rest being the target.
_Row = tuple[str, int, int, bool]
_TABLE: dict[str, _Row] = {
    "tracepoint": ("tracepoint", c.BPF_PROG_TYPE_TRACEPOINT, 0, False),
    "tp": ("tracepoint", c.BPF_PROG_TYPE_TRACEPOINT, 0, False),
    "raw_tracepoint": ("raw_tracepoint", c.BPF_PROG_TYPE_RAW_TRACEPOINT, 0, False),
    "raw_tp": ("raw_tracepoint", c.BPF_PROG_TYPE_RAW_TRACEPOINT, 0, False),
    "raw_tracepoint.w": ("raw_tracepoint", c.BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE, 0, False),
    "raw_tp.w": ("raw_tracepoint", c.BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE, 0, False),
    "tp_btf": ("tp_btf", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_RAW_TP, False),
    "fentry": ("fentry", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_FENTRY, False),
    "fentry.s": ("fentry", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_FENTRY, True),
    "fexit": ("fexit", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_FEXIT, False),
    "fexit.s": ("fexit", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_FEXIT, True),
    "fmod_ret": ("fmod_ret", c.BPF_PROG_TYPE_TRACING, c.BPF_MODIFY_RETURN, False),
    "fmod_ret.s": ("fmod_ret", c.BPF_PROG_TYPE_TRACING, c.BPF_MODIFY_RETURN, True),
    "freplace": ("freplace", c.BPF_PROG_TYPE_EXT, 0, False),
    "lsm": ("lsm", c.BPF_PROG_TYPE_LSM, c.BPF_LSM_MAC, False),
    "lsm.s": ("lsm", c.BPF_PROG_TYPE_LSM, c.BPF_LSM_MAC, True),
    "lsm_cgroup": ("lsm_cgroup", c.BPF_PROG_TYPE_LSM, c.BPF_LSM_CGROUP, False),
    "iter": ("iter", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_ITER, False),
    "iter.s": ("iter", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_ITER, True),
    "kprobe": ("kprobe", c.BPF_PROG_TYPE_KPROBE, 0, False),
    "kretprobe": ("kretprobe", c.BPF_PROG_TYPE_KPROBE, 0, False),
    "kprobe.multi": ("kprobe_multi", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_KPROBE_MULTI, False),
    "kretprobe.multi": ("kretprobe_multi", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_KPROBE_MULTI, False),
    "kprobe.session": ("kprobe_session", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_KPROBE_SESSION, False),
    "ksyscall": ("ksyscall", c.BPF_PROG_TYPE_KPROBE, 0, False),
    "kretsyscall": ("kretsyscall", c.BPF_PROG_TYPE_KPROBE, 0, False),
    "uprobe": ("uprobe", c.BPF_PROG_TYPE_KPROBE, 0, False),
    "uprobe.s": ("uprobe", c.BPF_PROG_TYPE_KPROBE, 0, True),
    "uretprobe": ("uretprobe", c.BPF_PROG_TYPE_KPROBE, 0, False),
    "uretprobe.s": ("uretprobe", c.BPF_PROG_TYPE_KPROBE, 0, True),
    "uprobe.multi": ("uprobe_multi", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_UPROBE_MULTI, False),
    "uprobe.multi.s": ("uprobe_multi", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_UPROBE_MULTI, True),
    "uretprobe.multi": ("uretprobe_multi", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_UPROBE_MULTI, False),
    "uretprobe.multi.s": ("uretprobe_multi", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_UPROBE_MULTI, True),
    "uprobe.session": ("uprobe_session", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_UPROBE_SESSION, False),
    "uprobe.session.s": ("uprobe_session", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_UPROBE_SESSION, True),
    "usdt": ("usdt", c.BPF_PROG_TYPE_KPROBE, 0, False),
    "usdt.s": ("usdt", c.BPF_PROG_TYPE_KPROBE, 0, True),
    "perf_event": ("perf_event", c.BPF_PROG_TYPE_PERF_EVENT, 0, False),
    "syscall": ("syscall", c.BPF_PROG_TYPE_SYSCALL, 0, True),
    "socket": ("socket", c.BPF_PROG_TYPE_SOCKET_FILTER, 0, False),
    "xdp": ("xdp", c.BPF_PROG_TYPE_XDP, c.BPF_XDP, False),
    "xdp.frags": ("xdp", c.BPF_PROG_TYPE_XDP, c.BPF_XDP, False),
    "tc": ("tc", c.BPF_PROG_TYPE_SCHED_CLS, 0, False),
    "classifier": ("tc", c.BPF_PROG_TYPE_SCHED_CLS, 0, False),
    "action": ("tc_action", c.BPF_PROG_TYPE_SCHED_ACT, 0, False),
    "tcx/ingress": ("tcx", c.BPF_PROG_TYPE_SCHED_CLS, c.BPF_TCX_INGRESS, False),
    "tcx/egress": ("tcx", c.BPF_PROG_TYPE_SCHED_CLS, c.BPF_TCX_EGRESS, False),
    "cgroup_skb/ingress": ("cgroup_skb", c.BPF_PROG_TYPE_CGROUP_SKB, c.BPF_CGROUP_INET_INGRESS, False),
    "cgroup_skb/egress": ("cgroup_skb", c.BPF_PROG_TYPE_CGROUP_SKB, c.BPF_CGROUP_INET_EGRESS, False),
    "cgroup/skb": ("cgroup_skb", c.BPF_PROG_TYPE_CGROUP_SKB, 0, False),
    "cgroup/sock_create": ("cgroup_sock", c.BPF_PROG_TYPE_CGROUP_SOCK, c.BPF_CGROUP_INET_SOCK_CREATE, False),
    "cgroup/sock_release": ("cgroup_sock", c.BPF_PROG_TYPE_CGROUP_SOCK, c.BPF_CGROUP_INET_SOCK_RELEASE, False),
    "cgroup/connect4": ("cgroup_sock_addr", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_INET4_CONNECT, False),
    "cgroup/connect6": ("cgroup_sock_addr", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_INET6_CONNECT, False),
    "cgroup/dev": ("cgroup_device", c.BPF_PROG_TYPE_CGROUP_DEVICE, c.BPF_CGROUP_DEVICE, False),
    "sockops": ("sock_ops", c.BPF_PROG_TYPE_SOCK_OPS, c.BPF_CGROUP_SOCK_OPS, False),
    "sk_lookup": ("sk_lookup", c.BPF_PROG_TYPE_SK_LOOKUP, c.BPF_SK_LOOKUP, False),
    "sk_msg": ("sk_msg", c.BPF_PROG_TYPE_SK_MSG, c.BPF_SK_MSG_VERDICT, False),
    "flow_dissector": ("flow_dissector", c.BPF_PROG_TYPE_FLOW_DISSECTOR, c.BPF_FLOW_DISSECTOR, False),
    "netfilter": ("netfilter", c.BPF_PROG_TYPE_NETFILTER, c.BPF_NETFILTER, False),
}


def describe_section(section: str, where: str = "") -> tuple[str, int, int, str, bool]:
    """``(hook, program type, expected attach type, target, sleepable)`` of a program section.

    ``tracepoint/block/block_rq_issue`` gives the target
    ``block:block_rq_issue``; other targets are as written.  A leading ``?``
    (libbpf: do not load unless asked) is ignored.  Raises
    :class:`NotSupported` for a name that is not in the table.
    """
    name = section.removeprefix("?")
    head, _, target = name.partition("/")
    row = _TABLE.get(name)
    if row is not None:
        target = ""
    else:
        row = _TABLE.get(head)
    if row is None:
        raise NotSupported(
            f"section {section!r} is of no known program type", where=where,
            fix="name it as libbpf does, for example tracepoint/CATEGORY/NAME or kprobe/FUNCTION",
        )
    hook, prog_type, attach_type, sleepable = row
    if hook == "tracepoint":
        target = target.replace("/", ":", 1)
    return hook, prog_type, attach_type, target, sleepable
