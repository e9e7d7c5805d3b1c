#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What summing up in the kernel costs at a million events a second, and how that grows with the number of keys.

    sudo benchmarks/aggregate.py [--peers DIR] [--rounds 5] [-o FILE]

One process calls getppid() flat out; a program at the entry of each system call adds to a histogram, to one of so many
keys that random numbers choose, or to the count of its stack.  *ns an event* is the kernel's own account of the
program (``run_time_ns``), *events* what the process reached, and what it reaches untraced is in the first row.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from typing import NamedTuple

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
from in_kernel import measured
from measure import Failed, Load, Tool, adopt

HERE = os.path.dirname(os.path.abspath(__file__))
HEAD = '@raw_tracepoint("sys_enter")\ndef enter(regs, id):\n    if current.comm != "osmia-load":\n        return\n'
FILTER = '/comm == "osmia-load"/'


class Work(NamedTuple):
    """The same work for osmia and for bpftrace: maps and body, action."""

    maps: str
    body: str
    bpftrace: str


KEYS = (1, 100, 10_000, 100_000)
WORKS = {
    "log2 histogram": Work('h = log2_hist("ns")', "h.add(random() & 0xFFFFF)", "@ = hist(rand & 0xFFFFF);"),
    "linear histogram": Work('h = linear_hist("n", low=0, high=1000, step=10)', "h.add(random() & 0x3FF)",
                             "@ = lhist(rand & 0x3FF, 0, 1000, 10);"),
    "log-linear histogram": Work('h = loglin_hist("ns")', "h.add(random() & 0xFFFFF)", "@ = hist(rand & 0xFFFFF, 3);"),
    **{f"count by {keys:,} keys": Work(f"n = PerCpuHash[u64, u64]({2 * keys})", f"n[random() % {keys}] += 1",
                                       f"@[rand % {keys}] = count();") for keys in KEYS},
    "user stack": Work("s = Stacks()\nn = PerCpuHash[u64, u64](1024)", "n[s.user()] += 1", "@[ustack] = count();"),
    "kernel stack": Work("s = Stacks()\nn = PerCpuHash[u64, u64](1024)", "n[s.kernel()] += 1", "@[kstack] = count();"),
}  # fmt: skip


def options() -> argparse.Namespace:
    """The command line."""
    parser = common.parser("Measure summing up in the kernel.", rounds=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of load in a round (default 1)")
    return common.parsed(parser)


def tools(args: argparse.Namespace, work: Work) -> list[Tool]:
    """osmia and bpftrace with that work."""
    found = [Tool("osmia", [args.osmia, "-e", f"{work.maps}\n{HEAD}    {work.body}\n"])]
    if args.peers:
        program = f"rawtracepoint:sys_enter {FILTER} {{ {work.bpftrace} }}"
        found.append(Tool("bpftrace", [*common.in_root(args.peers), common.BPFTRACE, "-e", program],
                          env={"BPFTRACE_MAX_MAP_KEYS": "262144"}))  # fmt: skip
    return found


def rows(name: str, args: argparse.Namespace, load: str) -> list[str]:
    """Of the table."""
    found: dict[str, list[tuple[float, float]]] = {}
    for number in range(args.rounds):
        for tool in tools(args, WORKS[name]):
            sys.stderr.write(f"{name}: {tool.name}, round {number + 1}\n")
            try:
                cost = measured(tool, load, "call", "-", 0, args.seconds)
            except Failed as err:
                sys.stderr.write(f"aggregate.py: {tool.name}: {err}\n")
                continue
            found.setdefault(tool.name, []).append((cost.event, cost.made / args.seconds))
    out = []
    for who, costs in found.items():
        ns = statistics.median([cost[0] for cost in costs])
        reached = statistics.median([cost[1] for cost in costs])
        ratio = statistics.median([a[0] / b[0] for a, b in zip(found["osmia"], costs, strict=False)])
        out.append(f"| {name} | {who} | {ns:,.0f} | {ratio:.2f} | {reached:,.0f}/s |")
    return out


def main() -> int:
    """The whole run; the exit status."""
    args = options()
    adopt()
    out = ["| | | ns an event | osmia is times this | events |", "|---|---|--:|--:|--:|"]
    with tempfile.TemporaryDirectory(prefix="osmia-bench-", dir="/dev/shm") as folder:
        load = f"{folder}/osmia-load"
        common.compiled("load", load)
        bare = [Load(load, "call", "-", 0, args.seconds).result()[0] / args.seconds for _ in range(args.rounds)]
        out.append(f"| nothing | no tracing | | | {statistics.median(bare):,.0f}/s |")
        with common.kernel_statistics():
            for name in WORKS:
                out += rows(name, args, load)
    common.deliver([*out, ""], args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
