# SPDX-License-Identifier: Apache-2.0
"""For tools on Python programs: which process, and where the interpreter's static probes are.

An interpreter has them if it was built ``--with-dtrace``, as Debian's and Fedora's are.
"""

from __future__ import annotations

from osmia.errors import OptionError
from osmia.kernel.named import process_number
from osmia.lang.filters import pid
from osmia.lang.options import Computed, option

process = option("pid", type=int, parse=process_number, help="the process to trace, like -p (default: all)")
interpreter = option("--python", type=str, metavar="FILE",
                     help="the interpreter, or its library, of all processes to trace (default: python3)")  # fmt: skip


def at(probe):
    """A static probe: of every file that the process has mapped, or of the interpreter."""

    def place():
        file = "*" if pid.given and not interpreter.given else interpreter.value or "python3"
        return f"{file}:python:{probe}"

    return Computed("at", place, type=str)


def choose(tool):
    """Take the process from wherever it is given."""
    if not process.given:
        return
    if pid.given:
        raise OptionError("the process is there twice", where=tool, fix="leave -p out")
    pid.set(process.value)


def traced():
    """What is traced, in words."""
    return f"process {pid.value}" if pid.given else "all processes"
