#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures osmia beside its peers and prints a Markdown table.

    sudo benchmarks/run.py [--peers DIR] [-o FILE]

Needs the standard library and a C compiler.  The osmia that is measured is
an installed one (./setup.sh makes it), because how it is installed decides a
good part of its start.  Peers are run in a Debian root that
benchmarks/peers.sh makes; each takes its turn in the same round as osmia, so
that whatever else the machine does meets both.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
from measure import Failed, Load, Start, Storm, Tool, adopt, calm, start, storm

HERE = os.path.dirname(os.path.abspath(__file__))
FLAT_OUT = 0
#: First starts of a tool: with the object that osmia brought along, and as if it had brought none.
EMPTY, COMPILING = "empty cache", "compiling"
#: (kind, events a second): opens of a file that is not there, below a descriptor that is not open, of many; execs.
STORMS = (("open", 10_000), ("open", 100_000), ("open", 500_000), ("open", FLAT_OUT), ("fail", 1_000_000),
          ("fail", FLAT_OUT), ("mix", FLAT_OUT), ("exec", FLAT_OUT))  # fmt: skip
KINDS = {"open": "", "fail": ", bad descriptor", "mix": ", many paths and names", "exec": ", execs"}
#: perf shows addresses and not names, on standard error, so its rows are known by the load's name.
PERF, LOAD = "/usr/bin/perf", "osmia-storm"
BIO, RUNQ, OFFCPU = "Tracing block device I/O", "Tracing run queue latency", "Tracing off-CPU time"
#: tool -> (load kind, what osmia shows first, [(peer's name, its command, what it shows first)])
TOOLS = {
    "opensnoop": ("open", None, [("libbpf-tools", "/usr/sbin/opensnoop-libbpf", None),
                                 ("bpftrace", "/usr/sbin/opensnoop.bt", None), ("perf trace", PERF, f"{LOAD}/")]),
    "execsnoop": ("exec", None, [("libbpf-tools", "/usr/sbin/execsnoop-libbpf", None),
                                 ("bpftrace", "/usr/sbin/execsnoop.bt", None)]),
    "biolatency": ("open", BIO, [("libbpf-tools", "/usr/sbin/biolatency-libbpf", BIO),
                                 ("bpftrace", "/usr/sbin/biolatency.bt", BIO)]),
    "runqlat": ("open", RUNQ, [("libbpf-tools", "/usr/sbin/runqlat-libbpf", RUNQ),
                               ("bpftrace", "/usr/sbin/runqlat.bt", "Tracing CPU scheduler")]),
    "offcputime": ("open", OFFCPU, [("libbpf-tools", "/usr/sbin/offcputime-libbpf", OFFCPU),
                                    ("bpftrace", common.BPFTRACE, OFFCPU)]),
}  # fmt: skip


def options() -> argparse.Namespace:
    """The command line."""
    parser = common.parser("Measure osmia beside its peers.", rounds=15, each="starts of each tool")
    parser.add_argument("--storms", type=int, default=3, help="storms of each kind (default 3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a storm (default 5)")
    parser.add_argument("--tools", default=",".join(TOOLS), help="which tools' start to measure")
    parser.add_argument("--calm", type=float, default=0.0, metavar="SECONDS",
                        help="before each measurement, wait up to this long for the machine to be idle")  # fmt: skip
    parser.add_argument("--only", choices=("start", "storm", "kernel"), help="this part only")
    parser.add_argument("--bcc", action="store_true",
                        help="start bcc's tools, too (they want headers, kprobes and minutes: see in_guest.sh)")
    return common.parsed(parser)


class Bench:
    """The places and programs of one run."""

    def __init__(self, args: argparse.Namespace, folder: str) -> None:
        self.args = args
        self.folder = folder
        self.load = f"{folder}/{LOAD}"
        self.marker = f"{folder}/osmia-bench-marker"
        self.leaf = f"{folder}/osmia-bench-leaf"
        self.calm = self.busy = 0  # measurements at idle moments, and others
        self.missing = "/osmia-bench-missing"  # not in the folder: tmpfs forgets what it looked for in vain
        common.compiled("load", self.load)
        os.link(self.load, self.leaf)

    def pause(self) -> None:
        """Wait for an idle moment, if asked to."""
        if self.args.calm:
            if calm(self.args.calm):
                self.calm += 1
            else:
                self.busy += 1

    def too_small(self) -> Tool:
        """``osmia opensnoop`` with a ring that cannot hold a storm, tracing nothing else: its losses must be exact."""
        argv = [self.args.osmia, "opensnoop", "-n", os.path.basename(self.load), "--ring-size", "64K"]
        return Tool("osmia, ring of 64 KB", argv, None, {"OSMIA_CACHE": f"{self.folder}/cache-warm"})

    def osmia(self, tool: str, shows: str | None, *, start: str = "") -> Tool:
        """``osmia TOOL`` with a cache of its own; ``start`` is a kind of first start, EMPTY or COMPILING."""
        name = f"osmia, {start}" if start else "osmia"
        env = {"OSMIA_CACHE": f"{self.folder}/cache-{start.replace(' ', '-') or 'warm'}"}
        if start == COMPILING:
            env["OSMIA_SHIPPED"] = "0"
        return Tool(name, [self.args.osmia, tool], shows, env)

    def peers(self, tool: str) -> list[Tool]:
        """The peers of a tool, none where there is no root to run them in."""
        root = self.args.peers
        found = TOOLS[tool][2] if root else []
        if self.args.bcc:
            found = [*found, ("bcc", f"/usr/sbin/{tool}-bpfcc", found[0][2])]
        env = {"PYTHONUNBUFFERED": "1"}  # of bcc's: what they show first is to be seen at once
        words = {PERF: ["/bin/sh", "-c", f"exec {PERF} trace -e openat 2>&1"],
                 common.BPFTRACE: common.script("offcputime.bt")}  # fmt: skip
        return [Tool(name, [*common.in_root(root), *words.get(command, [command])], shows, env,
                     shows if command == PERF else None)
                for name, command, shows in found if os.path.exists(root + command)]  # fmt: skip


def progress(text: str) -> None:
    """Say on standard error what takes so long."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def _starts(bench: Bench, name: str) -> list[tuple[str, list[Start]]]:
    """``rounds`` starts of each, one after the other in turn."""
    kind, shows, _ = TOOLS[name]
    first = [bench.osmia(name, shows, start=kind) for kind in (EMPTY, COMPILING)]
    tools = [bench.osmia(name, shows), *first, *bench.peers(name)]
    path = bench.marker if kind == "open" else bench.leaf
    results: list[tuple[str, list[Start]]] = [(tool.name, []) for tool in tools]
    load = Load(bench.load, kind, path, 4000 if kind == "open" else 500, 1e6)
    try:
        start(tools[0], os.path.basename(path))  # fills the cache, and everybody's page cache
        for i in range(bench.args.rounds):
            progress(f"{name}: start {i + 1} of {bench.args.rounds}")
            for tool, (_, into) in zip(tools, results, strict=True):
                if tool in first:
                    shutil.rmtree(tool.env["OSMIA_CACHE"], ignore_errors=True)
                bench.pause()
                into.append(start(tool, os.path.basename(path)))
    finally:
        load.stop()
    return results


def starts(bench: Bench) -> list[str]:
    """The table of starts."""
    out = ["## Start, end, memory", "",
           "| tool | | first output, ms | fastest | times osmia | CPU, ms | end after SIGINT, ms | slowest "
           "| detached, ms | peak memory, MB | its share (PSS), MB |", "|---|---|" + "--:|" * 9]  # fmt: skip
    for name in bench.args.tools.split(","):
        results = _starts(bench, name)
        own = statistics.median([one.first for one in results[0][1]])
        for label, runs in results:
            first = statistics.median([one.first for one in runs])
            ends = [one.exit for one in runs]
            out.append(
                f"| {name} | {label} | {first:.1f} | {min(one.first for one in runs):.1f} | {first / own:.1f} "
                f"| {statistics.median([one.cpu for one in runs]):.0f} "
                f"| {statistics.median(ends):.1f} | {max(ends):.1f} "
                f"| {statistics.median([one.detached for one in runs]):.0f} "
                f"| {statistics.median([one.peak for one in runs]):.1f} "
                f"| {statistics.median([one.pss for one in runs]):.1f} |"
            )
    return [*out, ""]


def asked(kind: str, rate: int) -> str:
    """A storm in words."""
    return (f"{rate:,}/s" if rate else "flat out") + KINDS[kind]


def _stormed(bench: Bench, kind: str) -> list[Tool]:
    """The tools that a storm of a kind is for."""
    name = "execsnoop" if kind == "exec" else "opensnoop"
    tools = [bench.osmia(name, None), *bench.peers(name)]
    if kind == "mix":  # names of processes change: who knows its rows by them cannot be measured
        return [tool for tool in tools if not tool.row]
    return tools if kind == "exec" else [tools[0], bench.too_small(), *tools[1:]]


def storms(bench: Bench) -> list[str]:
    """The table of storms.  Each cell is the median run (by rows not shown)."""
    out = ["## A storm of opens, or execs, from one process", "",
           "| opens | | reached | made | rows | reported lost | unaccounted | rows + lost = made "
           "| reader CPU, ns a row |", "|---|---|--:|--:|--:|--:|--:|:-:|--:|"]  # fmt: skip
    for kind, rate in STORMS:
        tools = _stormed(bench, kind)
        path = bench.leaf if kind == "exec" else bench.missing
        runs: list[list[Storm]] = [[] for _ in tools]
        bare = []
        for i in range(bench.args.storms):
            progress(f"storm {asked(kind, rate)}: {i + 1} of {bench.args.storms}")
            made, wall, _ = Load(bench.load, kind, path, rate, min(bench.args.seconds, 1.0)).result()
            bare.append(made / wall * 1e9)
            for tool, into in zip(tools, runs, strict=True):
                bench.pause()
                into.append(storm(tool, bench.load, kind, path, rate, bench.args.seconds, bench.folder))
        out.append(f"| {asked(kind, rate)} | no tracing | {statistics.median(bare):,.0f}/s | | | | | | |")
        for tool, found in zip(tools, runs, strict=True):
            found.sort(key=lambda one: one.made - one.rows)
            one = found[len(found) // 2]
            exact = sum(each.rows + each.lost == each.made for each in found)
            out.append(
                f"| {asked(kind, rate)} | {tool.name} | {one.made / one.seconds:,.0f}/s | {one.made:,} | {one.rows:,} "
                f"| {one.lost:,} | {one.made - one.rows - one.lost:,} | {exact} of {len(found)} "
                f"| {one.cpu_ns / max(one.rows, 1):,.0f} |"
            )
    return [*out, ""]


def kernel(bench: Bench) -> list[str]:
    """The table of what the programs cost in the kernel, by its own statistics."""
    out = ["## In the kernel", "", "| | programs that ran | ns an open | ns a run of each |", "|---|--:|--:|---|"]
    with common.kernel_statistics():
        for tool in _stormed(bench, "mix"):
            runs = [storm(tool, bench.load, "open", bench.missing, 100_000, 1.0, bench.folder)
                    for _ in range(bench.args.storms)]  # fmt: skip
            runs.sort(key=lambda one: one.kernel_ns / one.made)
            one = runs[len(runs) // 2]
            busy = [(n, ns) for _, n, ns in one.programs if n > one.made // 100]
            each = ", ".join([f"{ns:.0f}" for _, ns in busy])
            out.append(f"| {tool.name} | {len(busy)} | {one.kernel_ns / one.made:.0f} | {each} |")
    return [*out, ""]


def machine(bench: Bench) -> list[str]:
    """What it was measured on, and what may be wrong with it."""
    version = subprocess.run([bench.args.osmia, "--version"], capture_output=True, text=True).stdout.strip()
    out = [f"{version} on Linux {platform.release()}, {platform.machine()}, {os.cpu_count()} CPUs, "
           f"Python {_python(bench.args.osmia)}; {bench.args.rounds} starts and {bench.args.storms} storms of "
           f"{bench.args.seconds:g} s each; load average at the beginning {os.getloadavg()[0]:.1f}."]  # fmt: skip
    if not bench.args.peers:
        out += ["", "No peers: give --peers DIR (benchmarks/peers.sh makes one) to measure them beside osmia."]
    return [*out, ""]


def _python(command: str) -> str:
    with open(command, "rb") as script:
        line = script.readline().decode().strip()
    asked = [*line.removeprefix("#!").split(), "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip() if line.startswith("#!/") else "?"


def main() -> int:
    """The whole run; the exit status."""
    args = options()
    adopt()
    parts = {"start": starts, "storm": storms, "kernel": kernel}
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="osmia-bench-", dir=base) as folder:
        bench = Bench(args, folder)
        out = machine(bench)
        try:
            for name, part in parts.items():
                if args.only in (None, name):
                    out += part(bench)
        except Failed as err:
            sys.stderr.write(f"run.py: {err}\n")
            return 1
    if args.calm:
        out.append(f"{bench.calm} measurements began at an idle moment, {bench.busy} on a busy machine.\n")
    common.deliver(out, args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
