# SPDX-License-Identifier: Apache-2.0
"""Sample what runs on the CPUs, 99 times a second, and count by process (the idle task is PID 0)."""

from osmia import Comm, Hash, current, perf_event, run, u32, u64

samples = Hash[tuple[u32, Comm], u64]()


@perf_event("cpu-clock", frequency=99)
def sample(context):
    samples[current.tgid, current.comm] += 1


run()
