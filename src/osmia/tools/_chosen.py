# SPDX-License-Identifier: Apache-2.0
"""Shared by the tools whose ``-p`` and thread option take several numbers, separated by commas.

The numbers are keys of a map, however many there are; a run that is given none asks one constant and no map.
Numbers are those of osmia's own PID namespace (:mod:`osmia.lang.pidns`).
"""

from __future__ import annotations

from osmia.kernel.named import process_number, thread_number
from osmia.lang.builtins import current, exists, subprogram
from osmia.lang.maps import Hash
from osmia.lang.options import Computed, Option
from osmia.lang.pidns import namespace, process_here, thread_here
from osmia.lang.types import u8, u32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Numbers(Option):
    """``-p 1,2``: its value is the list of numbers, which are also the keys of ``table``."""

    #: It takes effect in the kernel, so a replay cannot change it.
    in_kernel = True

    def __init__(self, *flags: str, table: Any, one: Callable[[str], int], metavar: str, help: str) -> None:
        super().__init__(*flags, type=str, metavar=metavar, help=help, parse=self._parse)
        self._table = table
        self._one = one

    def _parse(self, word: str) -> list[int]:
        return [self._one(part) for part in word.split(",")]

    def set(self, value: Any) -> None:
        """Give the option a list of numbers, or one; only before the tool runs."""
        numbers = value if isinstance(value, list) else [value]
        super().set(numbers)
        self._table.max_entries = len(numbers)
        self._table.clear()
        for number in numbers:
            self._table[number] = 1

    def __str__(self) -> str:
        return ", ".join(map(str, self.value))


class Given(Computed):
    """A constant that nobody types: whether one of ``options`` is given."""

    def __init__(self, *options: Option) -> None:
        self.options = list(options)
        super().__init__("given", lambda: any(one.given for one in self.options))


pids = Hash[u32, u8](1)
tids = Hash[u32, u8](1)
pid = Numbers("-p", "--pid", table=pids, one=process_number, metavar="PIDS",
              help="these processes only, separated by commas")  # fmt: skip
by_pid = Given(pid)
by_tid = Given()
choosing = Given(pid)


def threads(*flags: str) -> Numbers:
    """A tool's option for threads, under its own letter."""
    made = Numbers(*flags, table=tids, one=thread_number, metavar="TIDS",
                   help="these threads only, separated by commas")  # fmt: skip
    by_tid.options.append(made)
    choosing.options.append(made)
    return made


def chosen():
    """Whether the current thread is one of those that were given; all are, where none was."""
    return not choosing or among()


@subprogram(when=choosing)
def among() -> bool:
    """:func:`chosen` where some were given."""
    if by_pid and process() not in pids:
        return False
    return not by_tid or thread() in tids


def process():
    """The current process's number here; 0 where it has none, which nobody can give."""
    if namespace and exists("struct task_struct"):
        return process_here(current.task)
    return current.tgid


def thread():
    """As :func:`process`, for the thread."""
    if namespace and exists("struct task_struct"):
        return thread_here(current.task)
    return current.pid
