# SPDX-License-Identifier: Apache-2.0
"""Trace command lines as people enter them, in every bash."""

from __future__ import annotations

from osmia import Col, Event, Hash, Ring, Str, User, current, event_table, ktime, option, u32, u64, uretprobe
from osmia.errors import UserError
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.options import Option
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.tools._show import clock

PROGRAM, LIBRARY, FUNCTION = "/bin/bash", "readline", "readline"

shared = option("-s", "--shared", type=str, metavar="FILE",
                help="the libreadline.so of a bash, or another bash (default: /bin/bash, or its library)")  # fmt: skip
only_bash = Option("only_bash")  # nobody gives it: whether others use that file, too

Line = User["char"]


def file():
    """The file that has the function."""
    if shared.value:
        return shared.value
    from osmia.symbols import libs
    from osmia.symbols.elf_syms import Symbols
    from osmia.symbols.image import Image

    try:
        with Image(libs.find(PROGRAM).path, PROGRAM) as image:
            return PROGRAM if Symbols(image).named(FUNCTION) else LIBRARY
    except UserError:
        return "bash"  # wherever it is


class Where(Option):
    """A function of that file."""

    def __init__(self, function):
        self.function = function
        super().__init__("where", type=str)

    @property
    def value(self):
        return f"{file()}:{self.function}"

    @value.setter
    def value(self, value):
        pass


class Entered(Event):
    """A line as it was entered."""

    ts: u64
    pid: u32
    tid: u32
    uid: u32
    command: Str[4096]


told = Hash[u32, Line](1024)  # by thread: the line that is on its way through the outer function
lines = Ring(Entered)


def send(line):
    with lines.reserve() as e:
        e.ts, e.uid = ktime(), current.uid
        e.pid, e.tid = current_process_id(), current_thread_id()
        e.command = line


def asked_for():
    return (not only_bash or current.comm == "bash") and wanted()


@uretprobe(Where("readline_internal_teardown"), optional=True)
def inner(ret: Line):
    """Entered when the line is there: it also returns in a bash that has waited since before the trace."""
    if ret and asked_for():
        told[current.pid] = ret
        send(ret)


@uretprobe(Where(FUNCTION))
def outer(ret: Line):
    """Where the other one has become a part of its caller."""
    if not ret or not asked_for():
        return
    before = told.pop(current.pid)
    if before is None or u64(before) != u64(ret):
        send(ret)


def prepare():
    only_bash.value = "readline" in file().rpartition("/")[2]


tool = event_table(
    lines,
    [
        Col("ts", "TIME", 9, show=clock, align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("command", "COMMAND"),
    ],
    prepare=prepare,
)
tool.descendants = True
