# SPDX-License-Identifier: Apache-2.0
"""Summarize on which CPUs programs run, by samples."""

from __future__ import annotations

from osmia import cpu, current, histogram, linear_hist, option, perf_event
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.tools._show import hertz
from osmia.tools._times import timestamp  # noqa: F401 - an option

frequency = option("-f", "--frequency", type=int, default=99, parse=hertz, metavar="HZ",
                   help="sample so often (default: 99 times a second)")  # fmt: skip

cpus = linear_hist("cpu", low=0, high=1024, step=1)


@perf_event("cpu-clock", frequency=frequency)
def sample(_):
    if current.pid and wanted():  # 0: the CPU is idle
        cpus.add(cpu())


def prepare():
    tool.banner = f"Sampling CPU at {frequency}hz... Hit Ctrl-C to end."


tool = histogram(cpus, prepare=prepare)
