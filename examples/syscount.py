# SPDX-License-Identifier: Apache-2.0
"""Count system calls by process; the counts are printed at the end."""

from osmia import Comm, Hash, current, run, tracepoint, u64

calls = Hash[Comm, u64]()


@tracepoint("raw_syscalls:sys_enter")
def enter(call):
    calls[current.comm] += 1


run()
