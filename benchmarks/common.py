# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: command line, peers in their root, the kernel's statistics, the way out of a table."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

HERE = os.path.dirname(os.path.abspath(__file__))
STATS = "/proc/sys/kernel/bpf_stats_enabled"
BPFTRACE = "/usr/bin/bpftrace"  # in the peers' root


def parser(what: str, *, rounds: int, each: str = "rounds") -> argparse.ArgumentParser:
    """A command line with what all of them take; ``each`` is what there are so many rounds of."""
    made = argparse.ArgumentParser(description=what)
    installed = os.path.join(os.path.dirname(HERE), ".venv", "bin", "osmia")
    made.add_argument("--osmia", default=installed if os.path.exists(installed) else shutil.which("osmia"),
                      help="the installed command (default: the one of setup.sh, or the one in PATH)")  # fmt: skip
    made.add_argument("--peers", default=os.environ.get("OSMIA_PEERS", ""), metavar="DIR",
                      help="root made by peers.sh (default: $OSMIA_PEERS)")  # fmt: skip
    made.add_argument("--rounds", type=int, default=rounds, help=f"{each} (default {rounds})")
    made.add_argument("-o", "--output", metavar="FILE", help="write the table to this file, too")
    return made


def parsed(made: argparse.ArgumentParser) -> argparse.Namespace:
    """What was given; ends with one sentence where nothing can be measured."""
    args = made.parse_args()
    if os.geteuid():
        made.error(f"tracing needs root: sudo {sys.argv[0]}")
    if not args.osmia:
        made.error("no osmia installed: run ./setup.sh, or give --osmia PATH")
    if args.peers and not os.path.exists(f"{args.peers}/usr/sbin/opensnoop-libbpf"):
        made.error(f"no peers in {args.peers}: make them with benchmarks/peers.sh {args.peers}")
    return args


def in_root(peers: str) -> list[str]:
    """What stands before the command of a peer."""
    return [shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin") or "chroot", peers]


def script(name: str) -> list[str]:
    """The bpftrace command that runs ``benchmarks/NAME``, in the peers' root, which does not have our files."""
    with open(f"{HERE}/{name}", encoding="ascii") as text:
        return [BPFTRACE, "-e", text.read()]


def compiled(name: str, out: str, *flags: str) -> None:
    """``benchmarks/NAME.c`` as a program."""
    subprocess.run([os.environ.get("CC", "cc"), "-O2", *flags, "-o", out, f"{HERE}/{name}.c"], check=True)


@contextmanager
def kernel_statistics() -> Iterator[None]:
    """The kernel counts runs of programs and their time meanwhile."""
    with open(STATS) as stream:
        before = stream.read()
    try:
        with open(STATS, "w") as stream:
            stream.write("1")
        yield
    finally:
        with open(STATS, "w") as stream:
            stream.write(before)


def deliver(lines: list[str], output: str | None) -> None:
    """Print a table, and write it to the file ``output`` where one was asked for."""
    text = "\n".join(lines)
    print(text)
    if output:
        with open(output, "w") as file:
            file.write(text)
