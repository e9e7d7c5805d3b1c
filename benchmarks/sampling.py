#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures what it costs to be profiled, by osmia profile, bpftrace and perf record, and prints a Markdown table.

    sudo benchmarks/sampling.py [--osmia PATH] [--peers DIR] [--keep FILE]

Every CPU computes (spin.c) while a profiler samples the whole machine, stacks
of the kernel and of programs, at 99 and at 999 Hz.  How much slower the CPUs
computed is told by rounds for each nanosecond of CPU time, before and under
the profiler; what the profiler itself took, by its CPU time from its start
to its end, with the stacks shown.  perf shows them with another command,
which is measured with it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
from measure import Tool, environment

HERE = os.path.dirname(os.path.abspath(__file__))
RATES = (99, 999)
BARE = "nobody"
#: Seconds that a profiler has to get ready.
READY = 2.0
BPFTRACE = "profile:hz:%d { @[kstack, ustack, comm] = count(); }"


def options() -> argparse.Namespace:
    """The command line."""
    parser = common.parser("Measure what it costs to be profiled.", rounds=1, each="how often; once takes a minute")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each is measured (default: 4)")
    parser.add_argument("--keep", metavar="FILE", help="add the numbers to those in this file, and show all of them")
    return common.parsed(parser)


def profilers(args: argparse.Namespace, rate: int, folder: str) -> list[tuple[Tool, list[str]]]:
    """Each with the command that shows what it has written, if that is another one."""
    cache = {"OSMIA_CACHE": f"{folder}/cache"}
    found = [(Tool("osmia profile", [args.osmia, "profile", "-f", "-F", str(rate)], None, cache), [""])]
    root = common.in_root(args.peers)
    if args.peers and os.path.exists(args.peers + common.BPFTRACE):
        found.append((Tool("bpftrace", [*root, common.BPFTRACE, "-e", BPFTRACE % rate]), [""]))
    if args.peers and os.path.exists(f"{args.peers}/usr/bin/perf"):
        data = f"{folder}/perf.data"  # on /dev/shm, which the root has, too
        record = ["/usr/bin/perf", "record", "-q", "-a", "-g", "-e", "cpu-clock", "-F", str(rate), "-o", data]
        found.append((Tool("perf record", [*root, *record]), [*root, "/usr/bin/perf", "script", "-i", data]))
    return found


def spun(spin: str, seconds: float) -> float:
    """Rounds for each second of CPU, all CPUs computing."""
    running = [subprocess.Popen([spin, str(cpu), str(seconds)], stdout=subprocess.PIPE, text=True)
               for cpu in sorted(os.sched_getaffinity(0))]  # fmt: skip
    rounds = cpu_ns = 0
    for one in running:
        made, took = map(int, one.communicate()[0].split())
        rounds, cpu_ns = rounds + made, cpu_ns + took
    return rounds * 1e9 / cpu_ns


def run(command: list[str], env: dict[str, str], out: str, during: Any = None) -> tuple[Any, float, float]:
    """Run a command to its end, or until ``during`` is over; what that gave, seconds of CPU, and seconds to the end."""
    with open(out, "wb") as file, open(f"{out}.err", "wb") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=errors, env=env)
    result = None
    before = time.monotonic()
    if during is not None:
        time.sleep(READY)
        result = during()
        before = time.monotonic()
        process.send_signal(signal.SIGINT)
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    return result, used.ru_utime + used.ru_stime, time.monotonic() - before


def samples(path: str, name: str) -> int:
    """How many samples of the workload a profiler has shown."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    if name == "osmia profile":
        return sum(int(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith("spin;"))
    if name == "bpftrace":
        return sum(map(int, re.findall(r", spin\]: (\d+)$", text, re.MULTILINE)))
    return len(re.findall(r"^spin\s", text, re.MULTILINE))


def measured(args: argparse.Namespace, folder: str) -> list[dict[str, Any]]:
    """One round."""
    out = []
    spin, shown = f"{folder}/spin", f"{folder}/shown"
    for rate in RATES:
        for tool, shows in profilers(args, rate, folder):
            bare = spun(spin, args.seconds / 2)
            speed, cpu, end = run(tool.argv, environment(tool), shown, lambda: spun(spin, args.seconds))
            later = 0.0
            if len(shows) > 1:
                _, later, took = run(shows, environment(tool), shown)
                end += took
            bare = (bare + spun(spin, args.seconds / 2)) / 2
            out.append({"rate": rate, "tool": tool.name, "bare": bare, "speed": speed, "cpu": cpu, "later": later,
                        "end": end, "samples": samples(shown, tool.name), "seconds": args.seconds})  # fmt: skip
            sys.stderr.write(f"{out[-1]}\n")
    return out


def table(found: list[dict[str, Any]]) -> str:
    """The medians."""
    cpus = len(os.sched_getaffinity(0))
    lines = ["| samples a second | | rounds | slower, % | from to | CPU of the profiler, ms | and to show it, ms "
             "| SIGINT to the last line, ms | samples of the workload | expected |",
             "|--:|---|--:|--:|---|--:|--:|--:|--:|--:|"]  # fmt: skip
    for rate in RATES:
        for tool in dict.fromkeys(one["tool"] for one in found):
            runs = [one for one in found if (one["rate"], one["tool"]) == (rate, tool)]
            slower = sorted(100 * (1 - one["speed"] / one["bare"]) for one in runs)

            def middle(name: str, by: float = 1e3, runs: list[dict[str, Any]] = runs) -> float:
                return by * statistics.median([one[name] for one in runs])

            lines.append(f"| {rate} | {tool} | {len(runs)} | {statistics.median(slower):.2f} "
                         f"| {slower[0]:.2f} to {slower[-1]:.2f} | {middle('cpu'):.0f} | {middle('later'):.0f} "
                         f"| {middle('end'):.0f} | {middle('samples', 1):.0f} "
                         f"| {rate * cpus * runs[0]['seconds']:.0f} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> int:
    """The whole run; the exit status."""
    args = options()
    found: list[dict[str, Any]] = []
    if args.keep and os.path.exists(args.keep):
        with open(args.keep, encoding="utf-8") as file:
            found = json.load(file)
    with tempfile.TemporaryDirectory(prefix="osmia-bench-", dir="/dev/shm") as folder:
        common.compiled("spin", f"{folder}/spin", "-static")
        warm = profilers(args, RATES[0], folder)[0][0]
        run(warm.argv, environment(warm), f"{folder}/shown", lambda: None)  # compiled by now
        for _ in range(args.rounds):
            found += measured(args, folder)
            if args.keep:
                with open(args.keep, "w", encoding="utf-8") as file:
                    json.dump(found, file, indent=1)
    common.deliver([table(found)], args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
