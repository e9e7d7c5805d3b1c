# SPDX-License-Identifier: Apache-2.0
"""Functions of the kernel that are never probed, although the kernel would let us.

The kernel has lists of its own (``NOKPROBE_SYMBOL``, ``notrace``, ``noinstr``),
and what is on them cannot be probed anyhow.  The functions here are on none
of them, or not in every kernel and for every kind of probe.  A pattern leaves
them out and says so; by name they are refused with the reason.
"""

from __future__ import annotations

#: Why, and the functions: names, or beginnings of names (``rcu_*``).
_ENTERS = "every program that runs at a probe goes through it first, so a probe there would call itself"
_IDLE = "it runs while RCU does not watch the CPU, and programs rely on RCU"
_LOCKS = "maps and the ring buffer take locks with it, so a program there can wait for itself"
_SELF = "the kernel rewrites or runs programs with it"
_NEVER: dict[str, tuple[str, ...]] = {
    # kernel/bpf/verifier.c, btf_id_deny: refused to fentry programs since 5.12, to kprobes never.
    _ENTERS: ("migrate_disable", "migrate_enable", "rcu_read_unlock_strict", "preempt_count_add", "preempt_count_sub",
              "__rcu_read_lock", "__rcu_read_unlock", "__bpf_prog_enter*", "__bpf_prog_exit*", "trace_call_bpf",
              "kprobe_multi_link_*", "fprobe_*", "rethook_*", "__migrate_disable", "__migrate_enable"),
    # tools/testing/selftests/bpf, the test that attaches to all functions: "suspicious RCU usage".
    _IDLE: ("arch_cpu_idle", "default_idle", "rcu_*", "ct_idle_*", "ct_nmi_*", "ct_irq_*", "acpi_idle_*",
            "intel_idle*", "mwait_idle*"),
    # Deadlocks in bpf_ringbuf_reserve and htab_lock_bucket, reported for probes on these.
    _LOCKS: ("_raw_spin_lock*", "_raw_spin_trylock*", "_raw_spin_unlock*", "queued_spin_lock_slowpath",
             "native_queued_spin_lock_slowpath", "__pv_queued_spin_lock_slowpath", "resilient_*spin_lock*"),
    _SELF: ("bpf_dispatcher_*", "bpf_trampoline_*", "arch_bpf_trampoline_*", "text_poke*", "smp_text_poke*",
            "bpf_prog_run*", "__bpf_prog_run*"),
}  # fmt: skip


def _by_name() -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    exact: dict[str, str] = {}
    shapes: list[tuple[str, str, str]] = []
    for why, names in _NEVER.items():
        for name in names:
            head, star, tail = name.partition("*")
            if star:
                shapes.append((head, tail.strip("*"), why))
            else:
                exact[name] = why
    return exact, shapes


_EXACT, _SHAPES = _by_name()


def why(name: str) -> str:
    """Why the function ``name`` must not be probed; empty where nothing speaks against it.

    Example::

        >>> why("default_idle")
        'it runs while RCU does not watch the CPU, and programs rely on RCU'
        >>> why("vfs_read")
        ''
    """
    plain = name.rpartition(":")[2].partition("+")[0]
    found = _EXACT.get(plain)
    if found is not None:
        return found
    for head, inside, reason in _SHAPES:
        if plain.startswith(head) and inside in plain[len(head) :]:
            return reason
    return ""


def listed() -> dict[str, tuple[str, ...]]:
    """The whole list: functions by the reason, for the documentation."""
    return dict(_NEVER)
