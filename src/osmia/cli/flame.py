# SPDX-License-Identifier: Apache-2.0
"""``osmia flame``: folded stacks, from osmia or any other profiler, as flame graphs and for other programs.

:func:`draw` does the same for what a tool has counted itself.
"""

from __future__ import annotations

import os
import sys

from osmia.cli.args import Parser
from osmia.errors import NotFound, OptionError
from osmia.lang.options import Option
from osmia.views.output import open_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from osmia.cli.common import Common
    from osmia.views.flame import FrameTree
    from osmia.views.flame_svg import Look
    from osmia.views.frames import Stack

    Stacks = Sequence[tuple[Stack, int]]


class Options:
    """What the command line of ``osmia flame`` can say."""

    def __init__(self) -> None:
        self.file = Option("file", type=str, metavar="FILE", help="folded stacks; without it, or -: standard input")
        self.svg = Option("--svg", type=str, metavar="FILE", help="write an interactive SVG")
        self.html = Option("--html", type=str, metavar="FILE", help="write a self-contained HTML page")
        self.compare = Option("--compare", type=str, metavar="FILE",
                              help="folded stacks of an earlier run: red has grown since, blue has shrunk")  # fmt: skip
        self.icicle = Option("--icicle", help="the root at the top")
        self.waiting = Option("--waiting", help="colours for time that was spent off the CPU")
        self.title = Option("--title", type=str, metavar="TEXT", help="title of the picture")
        self.unit = Option("--unit", type=str, metavar="UNIT", default="samples",
                           help="what the numbers count, such as us or bytes")  # fmt: skip
        self.pprof = Option("--pprof", type=str, metavar="FILE", help="write a profile for pprof")
        self.speedscope = Option("--speedscope", type=str, metavar="FILE", help="write a file for speedscope")
        self.parquet = Option("--parquet", type=str, metavar="FILE", help="write a Parquet file (needs pyarrow)")

    def all(self) -> list[Option]:
        """In the order of the help."""
        return list(vars(self).values())

    def outputs(self) -> list[str]:
        """The files that are asked for."""
        return [one.value for one in (self.svg, self.html, self.pprof, self.speedscope, self.parquet) if one.given]


options = Options()


def parser() -> Parser:
    """The command line."""
    return Parser("flame", options.all())


def run() -> None:
    """Read, draw and write what the parsed options say.  Raises UserErrors."""
    from osmia.views.flame_svg import Look

    outputs = options.outputs()
    if not outputs:
        raise OptionError("nothing to do", where="flame", fix="say what is to be written: --svg FILE, --html FILE")
    if outputs.count("-") > 1:
        raise OptionError("only one output can go to standard output", where="flame")
    source = options.file.value or "-"
    if options.compare.given and options.compare.value == source:
        raise OptionError("--compare needs another file than the one that is drawn", where="flame")
    stacks = read(source)
    before = read(options.compare.value) if options.compare.given else None
    name = "standard input" if source == "-" else os.path.basename(source)
    look = Look(options.title.value or name, unit=options.unit.value, palette="off" if options.waiting else "on",
                icicle=bool(options.icicle))  # fmt: skip
    if options.svg.given or options.html.given:
        _pictures(options.svg, options.html, stacks, look, before)
    _exports(stacks, look)


def read(path: str) -> Stacks:
    """The folded stacks of a file (``-``: standard input).  Raises UserErrors."""
    from osmia.views.folded import read as parse

    if path == "-":
        lines = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\n")
        return list(parse(lines, "standard input"))
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return list(parse(file, path))
    except OSError as err:
        raise NotFound(f"cannot read it: {err.strerror}", where=path) from None


def draw(common: Common, stacks: Stacks, look: Look) -> None:
    """Write the files of ``--svg`` and ``--html``, for tools that count stacks.  Raises UserErrors."""
    if common.pictures():
        _pictures(common.svg, common.html, stacks, look, None)


def _pictures(svg: Option, html: Option, stacks: Stacks, look: Look, before: Stacks | None) -> None:
    from osmia.views import flame, flame_svg

    tree: FrameTree = flame.merge(stacks) if before is None else flame.difference(before, stacks)
    makers: list[tuple[Option, Callable[[FrameTree, Look], str]]] = [(svg, flame_svg.svg), (html, flame_svg.page)]
    for option, make in makers:
        if option.given:
            save(option, make(tree, look))


def _exports(stacks: Stacks, look: Look) -> None:
    if options.pprof.given:
        from osmia.views.export_pprof import pprof

        count = "samples" if look.unit == "samples" else "value"
        save(options.pprof, pprof(stacks, kind=count, unit="count" if count == "samples" else look.unit))
    if options.speedscope.given:
        from osmia.views.export_speedscope import speedscope

        save(options.speedscope, speedscope(stacks, name=look.title, unit=look.unit))
    if options.parquet.given:
        from osmia.views.export_parquet import stacks_file

        save(options.parquet, stacks_file(stacks, unit=look.unit, name=look.title))


def save(option: Option, content: str | bytes) -> None:
    """Write the whole file that ``option`` names; ``-`` is standard output.  Raises UserErrors."""
    out = open_output(option.value, option.flags[-1])
    try:
        out.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
    finally:
        out.close()
