# SPDX-License-Identifier: Apache-2.0
"""Kernel code given as text: import it, compile it, run it on this kernel, and look at maps, rings and losses.

The same module object holds the maps that the test reads (live while the
object is loaded, simulated otherwise), so one text serves both worlds.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from needs import needs
from sources import module

from osmia.compiler.stages import compile_unit
from osmia.events.decode import Decoder
from osmia.events.loss import MAP as LOSS_MAP
from osmia.events.loss import Losses
from osmia.events.prints import RING as PRINT_RING
from osmia.events.prints import Printer
from osmia.events.transport import open_readers
from osmia.kernel import btf_source, functions
from osmia.lang.codec import encode
from osmia.lang.unit import Unit
from osmia.link import attach
from osmia.link.base import Link
from osmia.load.bind import bind
from osmia.load.object import LiveObject, load
from osmia.obj import consts, meta
from osmia.obj.elf import parse_object

U64 = (1 << 64) - 1


def tracepoint_format(category: str, event: str) -> str | None:
    """The format text of a tracepoint of this kernel."""
    try:
        with open(f"/sys/kernel/tracing/events/{category}/{event}/format", encoding="ascii") as stream:
            return stream.read()
    except OSError:
        return None


def compile_module(made: ModuleType) -> bytes:
    """The object of a module, with this kernel's types."""
    unit = Unit("test", vars(made))
    return compile_unit(
        unit, btf=btf_source.kernel_btf(), tracepoint_format=tracepoint_format, module_types=functions.module_types
    ).object


class Running:
    """A module in the kernel: ``module`` (its maps are bound to the live ones), programs, rings, losses, prints."""

    def __init__(self, made: ModuleType, live: LiveObject, records: list[tuple[str, ...]]) -> None:
        self.module = made
        self.live = live
        self.records = records
        self.links: list[Link] = []
        self._losses = Losses(records, live.maps.get(LOSS_MAP))
        self.bound: list[Any] = bind(
            live, records, lambda module, name: (vars(sys.modules[module]) if module else vars(made))[name]
        )
        self._rings: dict[str, Any] = {}
        try:
            self._rings = open_readers(live, records, self.bound)
        except BaseException:
            self.close()
            raise

    def words(self, prog: str, *inputs: int, size: int = 32) -> list[int]:
        """Run a ``@syscall_prog``; its context afterwards as unsigned 64-bit words."""
        padded = [value & U64 for value in inputs] + [0] * (size - len(inputs))
        raw = self.live.progs[prog].test_run(struct.pack(f"<{size}Q", *padded))[1]
        return list(struct.unpack(f"<{size}Q", raw))

    def run(self, prog: str, *inputs: int) -> int:
        """Run a ``@syscall_prog``; the last of 32 words of its context (``ctx[31]``) as a signed number."""
        return signed(self.words(prog, *inputs)[31])

    def attach(self, prog: str, **options: Any) -> Link:
        """Attach a program until the end of the block."""
        link = attach(self.live.progs[prog], **options)
        self.links.append(link)
        return link

    def ring(self, name: str) -> Any:
        return self._rings[name]

    def span(self, name: str, timeout: float = 0.0) -> bytes:
        """All that a ring holds now; with ``timeout`` waits (seconds) for the first record."""
        ring, out = self.ring(name), b""
        end = time.monotonic() + timeout
        while not ring.pending() and time.monotonic() < end:
            time.sleep(0.01)
        while part := ring.take():
            out += part
        return out

    def events(self, name: str, timeout: float = 0.0) -> list[Any]:
        """The events in a ring, as objects of its event class."""
        kind = getattr(self.module, name).event
        rows = Decoder(kind).rows(self.span(name, timeout))
        fields = [field.name for field in kind.layout()]
        return [kind(**dict(zip(fields, row, strict=True))) for row in rows]

    def printed(self, timeout: float = 0.0) -> list[str]:
        """The lines printed so far."""
        return Printer(self.records).lines(self.span(PRINT_RING, timeout))

    def lost(self) -> dict[tuple[str, str], int]:
        """``(kind, what)`` -> how many were lost."""
        return {(slot.kind, slot.what): n for slot, n in self._losses.read()}

    def close(self) -> None:
        for link in self.links:
            link.close()
        for ring in self._rings.values():
            ring.close()
        for one in self.bound:
            one.live = None
        self.live.close()


@contextmanager
def running(source: str | ModuleType, options: dict[str, Any] | None = None, **named: Any) -> Iterator[Running]:
    """Compile and load ``source`` (text or module); ``options`` sets option variables by their name in the module."""
    made = module(source) if isinstance(source, str) else source
    spec = parse_object(compile_module(made), "test")
    if any(prog.type == consts.BPF_PROG_TYPE_SYSCALL for prog in spec.progs.values()):
        needs("syscall_prog")
    records = meta.load(spec.meta)
    for record in records:
        if record[0] == "option" and options and record[3] in options:
            option = getattr(made, record[3])
            for data in spec.maps.values():
                if data.contents is not None and record[1] in data.variables:
                    data.set(record[1], encode(option.stored, options[record[3]]))
    one = Running(made, load(spec, **named), records)
    try:
        yield one
    finally:
        one.close()


def signed(word: int) -> int:
    """A 64-bit word as a signed number."""
    return word - (1 << 64) if word >> 63 else word


def wait_for(condition: Callable[[], Any], timeout: float = 5.0) -> Any:
    """The first true value of ``condition()``; fails after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.01)
