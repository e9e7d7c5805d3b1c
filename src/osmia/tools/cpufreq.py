# SPDX-License-Identifier: Apache-2.0
"""Sample at which frequency CPUs run, for each program and for all."""

from __future__ import annotations

from osmia import Array, cpu, current, first_of, histogram, linear_hist, option, perf_event, raw_tracepoint, tp_btf
from osmia.errors import NotSupported
from osmia.kernel import cpus
from osmia.kernel.named import cgroup_number
from osmia.lang import filters
from osmia.lang.filters import name, pid, uid, wanted  # noqa: F401 - options
from osmia.lang.types import Comm, u32, u64
from osmia.tools._show import hertz

frequency = option("-f", "--frequency", type=int, default=99, parse=hertz, metavar="HZ",
                   help="sample so often (default: 99 times a second)")  # fmt: skip
group = option("-c", "--cgroup", type=u64, parse=cgroup_number, metavar="PATH",
               help="only processes in this cgroup (v2) or below it")  # fmt: skip

EVERYTHING = ""  # in place of a program's name

speeds = Array[u32](1)  # MHz of each CPU; what is there at the beginning is set below
sampled = linear_hist("MHz", low=0, high=7000, step=200, key=Comm, max_entries=4096)


@first_of(tp_btf("cpu_frequency"), raw_tracepoint("cpu_frequency"))
def change(khz, number):
    """Whoever happens to run."""
    speeds[number] = khz // 1000


@perf_event("cpu-clock", frequency=frequency)
def sample(_):
    mhz = speeds[cpu()]
    if mhz == 0 or not wanted():
        return
    sampled[EVERYTHING].add(mhz)
    if current.pid:  # 0: the CPU is idle
        sampled[current.comm].add(mhz)


def label(key):
    return key if key != EVERYTHING else "syswide"


def prepare():
    known = cpus.frequencies()
    if not known:
        raise NotSupported("no CPU here has a frequency that the kernel could change (there is no cpufreq in "
                           "/sys/devices/system/cpu)", where="cpufreq", fix="virtual machines have none")  # fmt: skip
    speeds.max_entries = 1 + max(cpus.possible())
    speeds.update({number: khz // 1000 for number, khz in known.items()})
    filters.cgroup.value = group.value  # the filter that others have, by libbpf-tools' letter


tool = histogram(
    sampled,
    section="process",
    label=label,
    prepare=prepare,
    banner="Sampling CPU freq system-wide & by process. Ctrl-C to end.",
)
