# SPDX-License-Identifier: Apache-2.0
"""What must never be probed, and what cannot be: the lists and what stands in them."""

from __future__ import annotations

import pytest

from osmia.kernel import never as kernel_never
from osmia.symbols import never as user_never
from osmia.symbols import steps


@pytest.mark.parametrize(
    "name",
    ["migrate_disable", "__rcu_read_lock", "rcu_irq_enter", "default_idle", "_raw_spin_lock_irqsave",
     "native_queued_spin_lock_slowpath", "kprobe_multi_link_prog_run", "rcu:rcu_core", "default_idle+4",
     "resilient_queued_spin_lock_slowpath"],
)  # fmt: skip
def test_functions_of_the_kernel_that_are_never_probed(name: str) -> None:
    assert kernel_never.why(name)


@pytest.mark.parametrize("name", ["vfs_read", "tcp_sendmsg", "mutex_lock", "schedule", "do_nanosleep", "_raw", "percpu",
                                  "spin_lock_init", "resilient", "call_rcu"])  # fmt: skip
def test_others_may_be(name: str) -> None:
    assert kernel_never.why(name) == ""


def test_each_reason_is_a_sentence_and_each_function_stands_once() -> None:
    for listed in (kernel_never.listed(), user_never.listed()):
        names = [name for members in listed.values() for name in members]
        assert len(names) == len(set(names)) > 20
        assert all(len(why.split()) > 6 for why in listed)


@pytest.mark.parametrize(("name", "never"), [("setjmp", True), ("__sigsetjmp@GLIBC_2.2.5", True), ("swapcontext", True),
                                             ("malloc", False), ("longjmp", True), ("dlsym", True)])  # fmt: skip
def test_returns_of_user_functions(name: str, never: bool) -> None:
    assert bool(user_never.why(name)) is never


@pytest.mark.parametrize(
    ("code", "possible"),
    [
        ("554889e5", True),  # push %rbp
        ("f30f1efa", True),  # endbr64
        ("4157", True),  # push %r15
        ("648b0425", True),  # mov %fs:...
        ("488d05", True),
        ("c3", True),
        ("62e27d28", False),  # vpbroadcastb, EVEX
        ("c5f96ec6", False),  # vmovd, VEX
        ("f00fb10f", False),  # lock cmpxchg
        ("2e0f1f84", False),  # nop with a cs prefix
        ("f3f00fb1", False),
        ("cc", False),
        ("f4", False),
        ("48ec", False),
        ("", True),
    ],
)
def test_what_the_kernel_can_step_over(code: str, possible: bool) -> None:
    assert steps.possible(bytes.fromhex(code), "x86_64") is possible
    assert steps.possible(bytes.fromhex(code), "aarch64")
