# SPDX-License-Identifier: Apache-2.0
"""Kernel code that a test runs when it wants, on every kernel from 5.10: programs on a system call nobody else makes.

``@probe(3)`` before ``def name(n):`` makes it a program that runs when
:meth:`Driven.call` is given 3; ``n`` is the number given with it (s32).  It
answers through ``out``, an array of eight numbers.  Programs that only
BPF_PROG_TEST_RUN could start are sleepable, and those may use few kinds of
maps.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

from kernel_code import Running, module, running

from osmia.lang.builtins import machine

HEAD = 'me = option("--me", type=int, default=0)\nout = Array[u64](8)\n\n'
_PROBE = re.compile(r"^@probe\((\d+)\)\n((?:@.*\n)*)def (\w+)\(n\):\n", re.M)
_ENTER = "syscalls:sys_enter_getpriority"


def expand(text: str) -> str:
    """``text`` with its probes written out."""
    made = _PROBE.sub(
        rf'\2@tracepoint("{_ENTER}")\ndef \3(call):\n    if current.tgid != me or call.which != \1:\n        return\n'
        "    n = call.who\n",
        text,
    )
    return HEAD + made.replace("@tail()\n", f'@tail_program(tracepoint("{_ENTER}"))\n')


class Driven:
    """A module with its programs attached (``live`` set), or running as Python."""

    def __init__(self, made: ModuleType, live: Running | None) -> None:
        self.module = made
        self.live = live

    def call(self, which: int, who: int = 0) -> list[int]:
        """Run the program for ``which`` on ``who``; what ``out`` holds afterwards."""
        who = (who + (1 << 31)) % (1 << 32) - (1 << 31)
        if self.live is not None:
            try:  # noqa: SIM105
                os.getpriority(which, who)
            except OSError:
                pass
        else:
            for prog in vars(self.module).values():
                if type(prog).__name__ == "Prog" and not prog.tail:
                    prog(SimpleNamespace(which=which, who=who, ret=0))
        return [self.module.out[at] for at in range(8)]

    def lost(self) -> dict[Any, int]:
        """What was lost, by kind and what."""
        assert self.live is not None
        return self.live.lost()


@contextmanager
def driven(text: str, **named: Any) -> Iterator[Driven]:
    """Load ``text`` and attach all its programs."""
    made = module(expand(text))
    with running(made, {"me": os.getpid()}, **named) as live:
        for prog in vars(made).values():
            if type(prog).__name__ == "Prog" and not prog.tail:
                live.attach(prog.name)
        yield Driven(made, live)


@contextmanager
def as_python(text: str) -> Iterator[Driven]:
    """The same code on the simulated machine."""
    before = machine.tgid
    machine.tgid = 0  # what the option is when nobody sets it
    machine.lost.clear()
    try:
        yield Driven(module(expand(text)), None)
    finally:
        machine.tgid = before
