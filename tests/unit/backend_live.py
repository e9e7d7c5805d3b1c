# SPDX-License-Identifier: Apache-2.0
"""Compile a hand-made typed program, load it and run it: for the back end's kernel tests."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from backend_tir import Prog, words
from needs import needs

from osmia.compiler import tir
from osmia.compiler.emit import compile_ir
from osmia.compiler.loops import LIMIT
from osmia.compiler.lower import lower
from osmia.load.object import LiveObject, load
from osmia.obj import consts
from osmia.obj.elf import parse_object

SOURCE = "def prog(ctx):\n    first\n    second\n    third\n"


@contextmanager
def live(module: tir.Module, loop_limit: int = LIMIT) -> Iterator[LiveObject]:
    sources = {f.file: SOURCE for f in module.funcs}
    spec = parse_object(compile_ir(lower(module, sources, loop_limit=loop_limit)), module.name)
    if any(prog.type == consts.BPF_PROG_TYPE_SYSCALL for prog in spec.progs.values()):
        needs("syscall_prog")
    loaded = load(spec)
    try:
        yield loaded
    finally:
        loaded.close()


class Runner:
    """Runs a :class:`Prog` on words."""

    def __init__(self, loaded: LiveObject, name: str, size: int) -> None:
        self.live = loaded
        self.prog = loaded.progs[name]
        self.size = size

    def __call__(self, *inputs: int) -> list[int]:
        """The words of the context after a run on ``inputs`` (zero padded), unsigned."""
        padded = [*inputs, *[0] * (self.size - len(inputs))]
        return list(struct.unpack(f"<{self.size}Q", self.prog.test_run(words(*padded))[1]))


@contextmanager
def running(prog: Prog, size: int = 32, loop_limit: int = LIMIT) -> Iterator[Runner]:
    with live(prog.module, loop_limit) as loaded:
        yield Runner(loaded, prog.func.name, size)
