# SPDX-License-Identifier: Apache-2.0
"""CPUs: which exist, which are up.

Per-CPU map values have one slot per *possible* CPU; perf events can be opened
on *online* CPUs only.  Numbers may have gaps, so neither is a plain count.
"""

from __future__ import annotations

import os

_ROOT = "/sys/devices/system/cpu/"
_NODES = "/sys/devices/system/node/"
_FREQUENCY = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"
_known: dict[str, list[int]] = {}


def parse(text: str) -> list[int]:
    """CPU numbers of a kernel list such as ``0-3,8``; ValueError for anything else."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        if part:
            low, _, high = part.partition("-")
            cpus.extend(range(int(low), int(high or low) + 1))
    return cpus


def _read(name: str) -> list[int]:
    try:
        with open(_ROOT + name, "rb", buffering=0) as file:
            return parse(file.read(4096).decode("ascii"))
    except (OSError, ValueError):
        return list(range(os.cpu_count() or 1))


def possible() -> list[int]:
    """Every CPU that may ever come up; fixed at boot."""
    found = _known.get("possible")
    if found is None:
        found = _known["possible"] = _read("possible")
    return found


def slots() -> int:
    """How many slots a per-CPU map value has: the kernel counts possible CPUs."""
    return len(possible())


def online() -> list[int]:
    """The CPUs that are up now; read anew each time, because of hotplug."""
    return _read("online")


def nodes() -> dict[int, int]:
    """The NUMA node of each CPU that is up; all are on node 0 where the kernel knows of none (CONFIG_NUMA)."""
    found: dict[int, int] = {}
    try:
        names = os.listdir(_NODES)
    except OSError:
        names = []
    for name in names:
        if name.startswith("node") and name[4:].isdecimal():
            try:
                with open(f"{_NODES}{name}/cpulist", encoding="ascii") as file:
                    found |= {cpu: int(name[4:]) for cpu in parse(file.read())}
            except (OSError, ValueError):
                continue
    return found or dict.fromkeys(online(), 0)


def frequencies() -> dict[int, int]:
    """The frequency in kHz that each CPU has now, of those whose frequency the kernel can change (cpufreq)."""
    found: dict[int, int] = {}
    for cpu in online():
        number = _number(_FREQUENCY.format(cpu))
        if number:
            found[cpu] = number
    return found


def _number(path: str) -> int:
    """The number in a file; 0 where there is none."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
