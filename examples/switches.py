# SPDX-License-Identifier: Apache-2.0
"""Count context switches with a counter per CPU, and say so at each thousand."""

from osmia import PerCpuArray, cpu, run, tracepoint, u64

switches = PerCpuArray[u64](1)


@tracepoint("sched:sched_switch")
def switch(record):
    switches[0] += 1
    if switches[0] % 1000 == 0:
        print(f"CPU {cpu()}: {switches[0]} switches, now to {record.next_comm}")


run()
