# SPDX-License-Identifier: Apache-2.0
"""List the processes that use BPF programs, maps and probes."""

from __future__ import annotations

from osmia.kernel import holders, tracefs
from osmia.lang.options import option
from osmia.lang.templates import Listing

verbosity = option("-v", "--verbosity", help="count kernel and user probes as well; -vv: list them, too")

PROBES = ("kprobe", "kretprobe", "uprobe", "uretprobe")
counted: dict[tuple[int, str, str], int] = {}
open_probes: list[tuple[str, str]] = []


def kind_of(held):
    """As bcc counts: returns with entries; tracepoints are no probes of these kinds, and links not before -v."""
    return {"kretprobe": "kprobe", "uretprobe": "uprobe"}.get(held.kind, held.kind)


def records():
    counted.clear()
    open_probes.clear()
    for held in holders.held(probes=bool(verbosity)):
        kind = kind_of(held)
        if kind in ("raw_tracepoint", "tracepoint"):
            continue
        key = held.pid, held.comm, kind
        counted[key] = counted.get(key, 0) + held.count
        if held.kind in PROBES:
            letter = "r" if "ret" in held.kind else "p"
            open_probes.append((kind, f"{letter}:{held.where} {held.comm} ({held.pid})"))
    return [{"pid": pid, "comm": comm, "type": kind, "count": n} for (pid, comm, kind), n in sorted(counted.items())]


def registered(kind):
    """The probes that are in tracefs: those of other programs, by name."""
    try:
        with open(f"{tracefs.root()}/{kind}_events", encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in file]
    except OSError:
        return []


def width():
    return max([len(kind) for _, _, kind in counted] + [3]) + 1


def heading():
    out = ""
    if verbosity.times > 1:
        for kind in ("kprobe", "uprobe"):
            lines = registered(kind) + [text for its, text in open_probes if its == kind]
            out += f"open {kind}s:\n" + "".join(printable(line) + "\n" for line in lines) + "\n"
    return out + f"{'PID':<6} {'COMM':<16} {'TYPE':<{width()}} COUNT\n"


def printable(text):
    from osmia.views.escape import escape

    return escape(text)


def line(one):
    return f"{one['pid']:<6} {one['comm']:<16} {one['type']:<{width()}} {one['count']}"


tool = Listing(records, text=line, fields=("pid", "comm", "type", "count"), heading=heading)
