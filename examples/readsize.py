# SPDX-License-Identifier: Apache-2.0
"""How much do reads return?  One histogram per process."""

from osmia import Comm, current, log2_hist, run, tracepoint

sizes = log2_hist("bytes", key=Comm)


@tracepoint("syscalls:sys_exit_read")
def leave(call):
    if call.ret > 0:
        sizes[current.comm].add(call.ret)


run()
