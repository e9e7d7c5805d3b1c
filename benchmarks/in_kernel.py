#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the programs of tools cost in the kernel, beside those of the peers, by the kernel's own statistics.

    sudo benchmarks/in_kernel.py [--peers DIR] [--rounds 5] [-o FILE]

For each tool a load makes its events at a fixed rate; all that trace the same
take turns, and each round gives one number: what all programs of the tool ran
(``run_time_ns``) divided by the events that were made.  The medians of the
rounds are shown, and of the ratios within a round.  Instructions are those of
the programs that ran, as the kernel has them (after its own rewriting).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
from measure import PATIENCE, Failed, Load, Tool, adopt, children, environment, left_behind, programs

HERE = os.path.dirname(os.path.abspath(__file__))
#: tool -> (kind of load, a second, the peers' commands by name); flags make them do the same work
TOOLS = {
    "opensnoop": ("open", 50_000, {"libbpf-tools": "opensnoop-libbpf", "bpftrace": "opensnoop.bt"}),
    "execsnoop": ("exec", 500, {"libbpf-tools": "execsnoop-libbpf", "bpftrace": "execsnoop.bt"}),
    "biolatency": ("read", 5_000, {"libbpf-tools": "biolatency-libbpf", "bpftrace": "biolatency.bt"}),
    "runqlat": ("switch", 20_000, {"libbpf-tools": "runqlat-libbpf", "bpftrace": "runqlat.bt"}),
    "offcputime": ("switch", 20_000, {"libbpf-tools": "offcputime-libbpf", "bpftrace": "offcputime.bt"}),
    "syscount": ("call", 200_000, {"libbpf-tools": "syscount-libbpf", "bpftrace": "syscount.bt"}),
    "tcplife": ("connect", 2_000, {"libbpf-tools": "tcplife-libbpf", "bpftrace": "tcplife.bt"}),
}
OSMIA, FLOOR = "osmia", "programs that do nothing"
#: tool -> where osmia's own programs are: what is measured there without doing anything is nobody's to save.
HOOKS = {
    "opensnoop": ('tracepoint("syscalls:sys_enter_openat")', 'tracepoint("syscalls:sys_exit_openat")'),
    "execsnoop": ('tracepoint("syscalls:sys_enter_execve")', 'tp_btf("sched_process_exec")',
                  'tracepoint("syscalls:sys_exit_execve")'),
    "biolatency": ('tp_btf("block_rq_issue")', 'tp_btf("block_rq_complete")'),
    "runqlat": ('tp_btf("sched_wakeup")', 'tp_btf("sched_switch")'),
    "offcputime": ('tp_btf("sched_switch")',),
    "syscount": ('tracepoint("raw_syscalls:sys_exit")',),
    "tcplife": ('tp_btf("inet_sock_set_state")',),
}  # fmt: skip


class Cost(NamedTuple):
    """Of one round: ns of all programs for an event; events; of each program name, runs an event, ns a run, size."""

    event: float
    made: int
    each: tuple[tuple[str, float, float, int], ...]


def options() -> argparse.Namespace:
    """The command line."""
    parser = common.parser("Measure what tools cost in the kernel.", rounds=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of load in a round (default 2)")
    parser.add_argument("--tools", default=",".join(TOOLS))
    return common.parsed(parser)


def nothing(name: str, folder: str) -> str:
    """A file with programs at the places of a tool's that do nothing."""
    text = "from osmia import run, tp_btf, tracepoint\n"
    for number, hook in enumerate(HOOKS[name]):
        text += f"\n@{hook}\ndef empty_{number}():\n    pass\n"
    path = f"{folder}/nothing_{name}.py"
    with open(path, "w", encoding="ascii") as file:
        file.write(text + "\nrun()\n")
    return path


def commands(name: str, args: argparse.Namespace, folder: str) -> list[Tool]:
    """osmia's tool, programs that do nothing, and those of the peers that are there."""
    found = [Tool(OSMIA, [args.osmia, name]), Tool(FLOOR, [args.osmia, "run", nothing(name, folder)])]
    for peer, command in TOOLS[name][2].items() if args.peers else ():
        if os.path.exists(f"{args.peers}/usr/sbin/{command}"):
            found.append(Tool(peer, [*common.in_root(args.peers), f"/usr/sbin/{command}"]))
        elif os.path.exists(f"{HERE}/{command}") and os.path.exists(args.peers + common.BPFTRACE):
            found.append(Tool(peer, [*common.in_root(args.peers), *common.script(command)]))
    return found


def attached(process: subprocess.Popen[bytes]) -> None:
    """Wait until the tool holds programs, and no more come."""
    limit, before, still = time.monotonic() + PATIENCE, 0, 0
    while still < 4:
        time.sleep(0.15)
        if process.poll() is not None:
            raise Failed("it did not start")
        now = len(programs(process.pid))
        still = still + 1 if now == before and now else 0
        before = now
        if time.monotonic() > limit:
            raise Failed("it has no programs")


def named(ids: list[int]) -> dict[int, tuple[str, int]]:
    """Names and instructions of programs; without bpftool only their numbers."""
    bpftool = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin")
    if bpftool is None:
        return {id: (str(id), 0) for id in ids}
    shown = json.loads(subprocess.run([bpftool, "prog", "show", "-j"], capture_output=True, check=True).stdout)
    return {one["id"]: (one.get("name", "?"), one["bytes_xlated"] // 8) for one in shown if one["id"] in ids}


def measured(tool: Tool, load: str, kind: str, path: str, rate: int, seconds: float) -> Cost:
    """One round."""
    before = children()
    process = subprocess.Popen(tool.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=environment(tool))  # fmt: skip
    try:
        attached(process)
        runs = programs(process.pid)
        made, _, _ = Load(load, kind, path, rate, seconds).result()
        after = programs(process.pid)
        names = named(list(after))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    left_behind(before)
    ran = [(id, n - runs.get(id, (0, 0))[0], ns - runs.get(id, (0, 0))[1]) for id, (n, ns) in after.items()]
    each = [(names[id][0], n / made, ns / n, names[id][1]) for id, n, ns in ran if n > made // 50]
    return Cost(sum(ns for _, _, ns in ran) / made, made, tuple(each))


def disk(folder: str) -> str:
    """A loop device of 16 MB in memory."""
    image = f"{folder}/disk"
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    made = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=True)
    return made.stdout.strip()


def rounds(name: str, args: argparse.Namespace, load: str, path: str) -> dict[str, list[Cost]]:
    """Of each command what the rounds gave; those that do not run here are left out, and that is said."""
    kind, rate, _ = TOOLS[name]
    found: dict[str, list[Cost]] = {}
    tools = commands(name, args, os.path.dirname(load))
    for number in range(args.rounds):
        for tool in tools[:]:
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {name}: {tool.name}, round {number + 1}\n")
            try:
                found.setdefault(tool.name, []).append(measured(tool, load, kind, path, rate, args.seconds))
            except Failed as err:
                sys.stderr.write(f"in_kernel.py: {tool.name}'s {name}: {err}\n")
                tools.remove(tool)
                found.pop(tool.name, None)
    return found


def rows(name: str, found: dict[str, list[Cost]]) -> list[str]:
    """Of the table."""
    out, own = [], found.get(OSMIA, [])
    for who, costs in found.items():
        middle = sorted(costs)[len(costs) // 2]
        ratio = statistics.median([mine.event / other.event for mine, other in zip(own, costs, strict=False)] or [0])
        parts = "; ".join([f"{one}: {runs:.1f} x {ns:.0f} ns ({size})" for one, runs, ns, size in middle.each])
        event = statistics.median([cost.event for cost in costs])
        out.append(f"| {name} | {who} | {event:,.0f} | {ratio:.2f} | {parts} |")
    return out


def main() -> int:
    """The whole run; the exit status."""
    args = options()
    adopt()
    out = ["| tool | | ns an event | osmia is times this | programs: runs an event x time (instructions) |",
           "|---|---|--:|--:|---|"]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="osmia-bench-", dir="/dev/shm") as folder:
        load = f"{folder}/osmia-load"
        common.compiled("load", load)
        os.link(load, f"{folder}/osmia-leaf")
        device = disk(folder)
        paths = {"exec": f"{folder}/osmia-leaf", "read": device}
        try:
            with common.kernel_statistics():
                for name in args.tools.split(","):
                    kind = TOOLS[name][0]
                    out += rows(name, rounds(name, args, load, paths.get(kind, "/osmia-bench-missing")))
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)
    common.deliver([*out, ""], args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
