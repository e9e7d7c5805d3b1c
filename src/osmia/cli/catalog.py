# SPDX-License-Identifier: Apache-2.0
"""Which tools there are, without importing them."""

from __future__ import annotations

import os

from osmia.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

DIRECTORY = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tools")
#: The commands that are no tools, and what they do.
COMMANDS = {
    "list": "list the tools by subject, or with --for WORDS those that are about something",
    "doctor": "say what this kernel and this user can do, and how to mend what is missing",
    "compile": "compile a tool or a file to a BPF object",
    "run": "run a Python file as a tool",
    "record": "run a tool and keep what it sees in a file",
    "replay": "show what was recorded: as the tool would have, or in any other form",
    "bench": "measure what a tool costs the program that it traces",
    "flame": "draw folded stacks as a flame graph, compare two runs, convert them for other programs",
    "links": "make a directory with one command per tool",
    "help": "help on a tool or a command",
}
#: What the tools are about, in the order of ``osmia list``.
SUBJECTS = {
    "Processes and CPUs": ("execsnoop", "exitsnoop", "runqlat", "runqlen", "runqslower", "cpudist", "offcputime",
                           "offwaketime", "wakeuptime", "profile", "stackcount", "llcstat", "cpuwalk", "cpuunclaimed",
                           "cpufreq", "loads", "numasched", "hardirqs", "softirqs", "softirqslower", "wqlat",
                           "criticalstat", "kvmexit", "syscount", "threadsnoop", "naptime", "killsnoop", "sigsnoop",
                           "pidpersec"),
    "Files and file systems": ("opensnoop", "statsnoop", "filelife", "filegone", "fileslower", "filetop", "dirtop",
                               "vfsstat", "vfscount", "cachestat", "cachetop", "dcstat", "dcsnoop", "mountsnoop",
                               "syncsnoop", "sofdsnoop", "ext4slower", "ext4dist", "xfsslower", "xfsdist",
                               "btrfsslower", "btrfsdist", "nfsslower", "nfsdist", "f2fsslower", "f2fsdist",
                               "zfsslower", "zfsdist", "readahead", "writeback"),
    "Disks": ("biolatency", "biosnoop", "biotop", "biopattern", "biostacks", "biolatpcts", "bitesize", "iolatency",
              "mdflush", "virtiostat"),
    "Network": ("tcpconnect", "tcpaccept", "tcplife", "tcpretrans", "tcptop", "tcpstates", "tcprtt", "tcpdrop",
                "tcptracer", "tcpconnlat", "tcpsubnet", "tcpcong", "tcppktlat", "netqtop", "gethostlatency",
                "solisten", "bindsnoop", "undump", "sslsniff", "ssllatency"),
    "Memory": ("memleak", "oomkill", "drsnoop", "compactsnoop", "slabratetop", "shmsnoop", "swapin"),
    "Locks": ("klockstat", "futexctn", "deadlock"),
    "Security": ("setuids", "capable"),
    "Applications": ("bashreadline", "ttysnoop", "pythongc"),
    "Anything": ("trace", "argdist", "funccount", "funclatency", "funcslower", "funcinterval", "ksnoop",
                 "stackcount", "tplist", "bpflist", "inject"),
}  # fmt: skip
_OTHER = "Other"


def names() -> list[str]:
    """The names of all tools, sorted."""
    try:
        files = os.listdir(DIRECTORY)
    except OSError:
        return []
    return sorted(f[:-3] for f in files if f.endswith(".py") and not f.startswith("_"))


def exists(name: str) -> bool:
    """Whether there is a tool of that name."""
    plain = name.isidentifier() and not name.startswith("_")
    return plain and os.path.exists(os.path.join(DIRECTORY, name + ".py"))


def title(name: str) -> str:
    """The first line of a tool's docstring, without its full stop."""
    try:
        with open(os.path.join(DIRECTORY, name + ".py"), encoding="utf-8", errors="replace") as file:
            head = file.read(4096)
    except OSError:
        return ""
    for quote in ('"""', "'''"):
        start = head.find(quote)
        if start >= 0:
            line = head[start + 3 :].lstrip().partition("\n")[0].partition(quote)[0]
            return line.strip().removesuffix(".")
    return ""


def by_subject(tools: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Tools grouped for reading; empty groups are left out."""
    left = list(tools)
    groups = []
    for subject, members in SUBJECTS.items():
        found = [name for name in left if name in members]
        if found:
            groups.append((subject, found))
            left = [name for name in left if name not in found]
    if left:
        groups.append((_OTHER, left))
    return groups


def listing() -> str:
    """What ``osmia list`` prints."""
    out = []
    tools = names()
    width = max((len(name) for name in tools), default=0)
    for subject, members in by_subject(tools):
        out.append(f"{subject}\n" + "".join(f"  {name:<{width}}  {title(name)}\n" for name in members))
    return "\n".join(out)


def unknown(name: str) -> NotFound:
    """The error for a tool or command that there is not, with those of a similar name."""
    import difflib

    from osmia.views.escape import escape

    near = difflib.get_close_matches(name, [*names(), *COMMANDS], 3, 0.6)  # the best one first
    alike = [difflib.SequenceMatcher(None, one, name).ratio() for one in near]
    near = [one for one, ratio in zip(near, alike, strict=True) if ratio > 0.9 * alike[0]]
    fix = f"did you mean {' or '.join(near)}?" if near else "osmia list shows the tools"
    return NotFound(f"there is no tool or command '{escape(name)}'", fix=fix)
