# SPDX-License-Identifier: Apache-2.0
"""Say hello whenever a program starts."""

from osmia import current, run, tracepoint


@tracepoint("sched:sched_process_exec")
def hello(exec):
    print(f"hello, {current.comm} (PID {current.tgid})")


run()
