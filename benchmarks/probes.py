#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What probes of programs cost: to attach many, to take them away again, and each hit, beside bpftrace's.

    sudo benchmarks/probes.py [--peers DIR] [--rounds 5] [-o FILE]

*Attached* is from before the spawn until everything is attached; *end* from SIGINT until the process is gone, with the
summary that it prints.
A hit is what a call costs more than without a probe; the program only counts.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
from measure import PATIENCE, Failed, Tool, adopt, children, environment, left_behind

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = (1, 1000, 5000)
#: kind of hit -> (calls, osmia's decorator and argument, bpftrace's probe)
HITS = {
    "function": ("plain", 300_000, '@uprobe("{hits}:hit_plain")', "ctx", "uprobe:{hits}:hit_plain"),
    "function, return": ("plain", 300_000, '@uretprobe("{hits}:hit_plain")', "ret", "uretprobe:{hits}:hit_plain"),
    "function, single step": ("step", 100_000, '@uprobe("{hits}:hit_step")', "ctx", "uprobe:{hits}:hit_step"),
    "function, 5-byte nop": ("nop5", 300_000, '@uprobe("{hits}:hit_nop5")', "ctx", "uprobe:{hits}:hit_nop5"),
    "static probe": ("usdt", 300_000, '@usdt("{hits}:osmia:hit")', "number", "usdt:{hits}:osmia:hit"),
    "tracepoint": ("call", 1_000_000, '@tracepoint("syscalls:sys_enter_getppid")', "call",
                   "tracepoint:syscalls:sys_enter_getppid"),
}  # fmt: skip
COUNT = "n = PerCpuArray[u64](1)\n{where}\ndef count({argument}):\n    n[0] += 1\n"


def options() -> argparse.Namespace:
    """The command line."""
    parser = common.parser("Measure what probes of programs cost.", rounds=5)
    parser.add_argument("--only", choices=("attach", "hits"), help="this table only")
    return common.parsed(parser)


def many(size: int) -> str:
    """Source of a program with so many functions."""
    functions = [f'__attribute__((noinline)) void many_{n:04d}(void) {{ __asm__ volatile(""); }}' for n in range(size)]
    return "\n".join([*functions, "int main(void) { return 0; }"])


class Attached:
    """A tool, attached: osmia says so on a pipe, bpftrace by a line that a timer prints once all is attached."""

    def __init__(self, tool: Tool) -> None:
        self.before = children()
        read, write = os.pipe()
        env = {**environment(tool), "OSMIA_READY_FD": str(write)}
        self.began = time.monotonic()
        self.process = subprocess.Popen(tool.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, env=env, pass_fds=(write,))  # fmt: skip
        os.close(write)
        assert self.process.stdout is not None
        where = read if tool.name == "osmia" else self.process.stdout.fileno()
        said = os.read(where, 1) if tool.name == "osmia" else self._line(where)
        self.took = time.monotonic() - self.began
        os.close(read)
        if not said:
            self.process.kill()
            self.process.wait()
            raise Failed(f"{tool.name} did not attach")

    def _line(self, fd: int) -> bytes:
        seen = b""
        while b"attached" not in seen:
            more = os.read(fd, 4096)
            if not more:
                return b""
            seen += more
        return seen

    def end(self) -> tuple[float, float]:
        """SIGINT; seconds until the process is gone, and until all that it left behind is."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=PATIENCE * 10)
        gone = time.monotonic() - began
        return gone, gone + left_behind(self.before)


def tools(args: argparse.Namespace, osmia: list[str], bpftrace: str) -> list[Tool]:
    """osmia with ``osmia``, and bpftrace with the probe ``bpftrace``."""
    found = [Tool("osmia", [args.osmia, *osmia])]
    if args.peers:
        program = bpftrace + ' { @ = count(); } interval:ms:20 { printf("attached\\n"); }'
        # Names are matched against what is beyond the root of the peers, so it sees the programs by a bind mount.
        found.append(Tool("bpftrace", [*common.in_root(args.peers), common.BPFTRACE, "-e", program],
                          env={"BPFTRACE_MAX_PROBES": "10000", "BPFTRACE_MAX_BPF_PROGS": "10000"}))  # fmt: skip
    return found


def attaching(args: argparse.Namespace, folder: str) -> list[str]:
    """The table of attaching and detaching."""
    out = ["| functions | | attached, ms | end, ms | all detached, ms |", "|--:|---|--:|--:|--:|"]
    for size in SIZES:
        program = f"{folder}/many{size}"
        with open(f"{program}.c", "w") as source:
            source.write(many(size))
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", program, f"{program}.c"], check=True)
        found: dict[str, list[tuple[float, float, float]]] = {}
        for number in range(args.rounds):
            for tool in tools(args, ["funccount", "--yes", f"{program}:many_*"], f"uprobe:{program}:many_*"):
                sys.stderr.write(f"{size} functions: {tool.name}, round {number + 1}\n")
                try:
                    run = Attached(tool)
                    time.sleep(0.2)
                    found.setdefault(tool.name, []).append((run.took, *run.end()))
                except Failed as err:
                    sys.stderr.write(f"probes.py: {err}\n")
                time.sleep(0.2)
        for name, times in found.items():
            middle = [f"{1000 * statistics.median(column):.0f}" for column in zip(*times, strict=True)]
            out.append(f"| {size:,} | {name} | {' | '.join(middle)} |")
    return out


def hits(args: argparse.Namespace, folder: str) -> list[str]:
    """The table of what a hit costs."""
    program = f"{folder}/hits"
    common.compiled("hits", program)

    def run(kind: str, count: int) -> float:
        """ns a call."""
        return float(subprocess.run([program, kind, str(count)], capture_output=True, text=True, check=True).stdout)

    out = ["| probe of | | ns a hit | fastest |", "|---|---|--:|--:|"]
    for what, (kind, count, where, argument, probe) in HITS.items():
        text = COUNT.format(where=where.format(hits=program), argument=argument)
        found: dict[str, list[float]] = {}
        for number in range(args.rounds):
            for tool in tools(args, ["-e", text], probe.format(hits=program)):
                sys.stderr.write(f"hits of a {what}: {tool.name}, round {number + 1}\n")
                bare = run(kind, count)
                try:
                    attached = Attached(tool)
                except Failed as err:
                    sys.stderr.write(f"probes.py: {err}\n")
                    continue
                found.setdefault(tool.name, []).append(run(kind, count) - bare)
                attached.end()
        for name, times in found.items():
            out.append(f"| {what} | {name} | {statistics.median(times):,.0f} | {min(times):,.0f} |")
    return out


def main() -> int:
    """The whole run; the exit status."""
    args = options()
    adopt()
    with tempfile.TemporaryDirectory(prefix="osmia-bench-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        inside = f"{args.peers}{folder}" if args.peers else ""
        if inside:
            os.makedirs(inside)
            subprocess.run(["mount", "--bind", folder, inside], check=True)
        try:
            parts = {"attach": attaching, "hits": hits}
            chosen = [part for name, part in parts.items() if args.only in (None, name)]
            out = [line for part in chosen for line in (*part(args, folder), "")]
        finally:
            if inside:
                subprocess.run(["umount", inside], check=True)
                os.rmdir(inside)
    common.deliver(out, args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
