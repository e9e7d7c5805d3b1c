# SPDX-License-Identifier: Apache-2.0
"""The options that every tool has, from one place.

A tool's own options come first, then the filters that it imported from
:mod:`osmia.lang.filters`, then these; where two claim a letter the earlier
has it, so that bcc's flags keep their meaning in the tools that bcc has.
"""

from __future__ import annotations

import sys

from osmia.cli.args import Parser
from osmia.errors import OptionError
from osmia.kernel import named
from osmia.lang.options import Option
from osmia.lang.templates import CountTable, Histogram, StackTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.lang.unit import Unit


def seconds(word: str) -> float:
    """A time in seconds, more than 0; ValueError."""
    try:
        value = float(word)
    except ValueError:
        raise ValueError(f"{word!r} is not a number of seconds") from None
    if not 0 < value < 1e9:
        raise ValueError(f"{word} is not a time: more than 0 seconds is needed")
    return value


def times(word: str) -> int:
    """How often: a whole number from 1; ValueError."""
    if not word.isdecimal() or not int(word):
        raise ValueError(f"{word!r} is not a whole number from 1")
    return int(word)


def size(word: str) -> int:
    """Bytes: ``65536``, ``512K``, ``16M``, ``1G``; a power of two of at least 4096; ValueError."""
    text, shift = word.upper().removesuffix("B").removesuffix("I"), 0
    for unit, bits in (("K", 10), ("M", 20), ("G", 30)):
        if text.endswith(unit):
            text, shift = text[:-1], bits
    if not text.isdecimal():
        raise ValueError(f"{word!r} is not a size: write 512K, 16M")
    value = int(text) << shift
    if value < 4096 or value & (value - 1) or value > 1 << 31:
        raise ValueError(f"{word} is not a power of two from 4K to 2G")
    return value


def percent(word: str) -> float:
    """A share: ``5``, ``0.5``, ``5%``; more than 0, at most 100; ValueError."""
    try:
        value = float(word.removesuffix("%"))
    except ValueError:
        value = 0.0
    if not 0 < value <= 100:
        raise ValueError(f"{word!r} is not a share: more than 0 and at most 100 percent is needed")
    return value


class Common:
    """The common options of one run, as attributes."""

    def __init__(self) -> None:
        self.taken: set[str] = set()  # names of those that the tool declares itself
        self.duration = Option("-d", "--duration", type=float, parse=seconds, metavar="SECONDS",
                               help="end after this many seconds")  # fmt: skip
        self.cmd = Option("-c", "--cmd", type=str, metavar="CMD",
                          help="run this command and end with it; trace only it and what it starts, if the tool "
                               "can tell")  # fmt: skip
        self.container = Option("--container", type=int, parse=named.container_number, metavar="ID",
                                help="only processes in this container (the beginning of its id)")  # fmt: skip
        self.output = Option("-o", "--output", type=str, metavar="FILE", help="write to this file")
        self.timestamp = Option("-T", "-t", "--timestamp", help="show the time of day")
        self.json = Option("--json", help="one JSON object a line")
        self.csv = Option("--csv", help="comma-separated values, with a heading")
        self.heatmap = Option("--heatmap", help="show a heat map, values over time, instead of histograms")
        self.svg = Option("--svg", type=str, metavar="FILE", help="write a picture to this file, as SVG")
        self.html = Option("--html", type=str, metavar="FILE", help="write a picture to this file, as an HTML page")
        self.ring_size = Option("--ring-size", type=int, parse=size, metavar="SIZE",
                                help="size of the event buffer, such as 16M")  # fmt: skip
        self.btf = Option("--btf", type=str, metavar="FILE", help="take the kernel's types from this file")
        self.stats = Option("--stats", help="show at the end what the tracing cost")
        self.max_overhead = Option("--max-overhead", type=float, parse=percent, metavar="PCT",
                                   help="detach and end (status 3) when the tracing takes more than this share of the "
                                        "time of all CPUs, in percent, in any second")  # fmt: skip
        self.yes = Option("--yes", help="do not ask when there are very many places to probe, or it costs very much")
        self.verbose = Option("-v", "--verbose", help="show what is loaded and attached, and details of errors")
        self.verifier_log = Option("--verifier-log", help="show the verifier's whole log where it rejects a program")
        self.every = Option("-i", "--interval", type=float, parse=seconds, metavar="SECONDS",
                            help="seconds between summaries, like the argument")  # fmt: skip
        self.interval = Option("interval", type=float, parse=seconds, help="seconds between summaries")
        self.length = Option("duration", type=float, parse=seconds, help="seconds to trace, like --duration")
        self.count = Option("count", type=int, parse=times, help="number of summaries")

    def options(self, unit: Unit) -> list[Option]:
        """Those that mean something for ``unit``."""
        from osmia.lang.maps import Ring

        if unit.template is not None and unit.template.lists:
            return [self.output, self.json, self.csv]
        out = [self.duration, self.cmd]
        if shared_filter(unit, "cgroup") is not None:
            out.append(self.container)
        out += [self.output, self.timestamp, self.json, self.csv]
        if unit.template is not None:
            out += [getattr(self, name) for name in unit.template.pictures]
        declared = unit.template is not None and unit.template.rings
        if declared or any(isinstance(one, Ring) for one in unit.maps.values()):
            out.append(self.ring_size)
        out += [self.btf, self.stats, self.max_overhead]
        if unit.template is not None and unit.template.careful:
            out.append(self.yes)
        out += [self.verbose, self.verifier_log]
        stacked = isinstance(unit.template, StackTable)
        if stacked and not unit.template.intervals:  # type: ignore[union-attr]
            out.append(self.length)
        elif isinstance(unit.template, Histogram) and unit.template.stacks is not None:
            out += [self.every, self.length]
        elif isinstance(unit.template, CountTable) and unit.template.duration is not None:
            if unit.template.duration:
                self.length.default = unit.template.duration
                self.length.help += f" (default: {unit.template.duration:g})"
            out.append(self.length)
        elif stacked or isinstance(unit.template, (Histogram, CountTable)):
            out += [self.every, self.interval, self.count]
        return out

    def seconds_between(self) -> float:
        """Between summaries, as an option or as an argument; 0: one summary at the end.  OptionError for both."""
        if self.every.given and self.interval.given:
            raise OptionError("the interval is there twice", where="option -i", fix="leave one of them out")
        return float(self.every.value if self.every.given else self.interval.value or 0.0)

    def pictures(self) -> bool:
        """Whether a picture is asked for."""
        return bool(self.heatmap or self.svg or self.html)

    def check(self, program: str) -> None:
        """Raise OptionError for options that do not go together."""
        if self.length.given and self.duration.given:
            raise OptionError("the duration is there twice", where=program, fix="leave one of them out")
        forms = [flag for flag, option in (("--json", self.json), ("--csv", self.csv)) if option]
        if self.heatmap and forms:
            forms.insert(0, "--heatmap")
        if len(forms) > 1:
            raise OptionError(f"{forms[0]} and {forms[1]} exclude each other", where=program)


#: How the values of the shared filters are read: things of this machine, that :mod:`osmia.lang` knows nothing of.
_FILTERS = {
    "pid": named.process_number, "tid": named.thread_number, "uid": named.user_number, "cgroup": named.cgroup_number,
}  # fmt: skip


def own_options(unit: Unit) -> tuple[list[Option], list[Option]]:
    """The tool's own options, and the filters that it imported, each in order of definition.

    Among the own ones those come last that the tool has from a part which several tools share.
    """
    filters: Any = sys.modules.get("osmia.lang.filters")
    shared = {id(value) for value in vars(filters).values()} if filters is not None else set()
    own: list[Option] = []
    imported: list[Option] = []
    seen: set[int] = set()
    for name, value in list(unit.namespace.items()):
        # By identity: options compare as their values.
        if isinstance(value, Option) and id(value) not in seen:
            seen.add(id(value))
            value.name = value.name or name
            (imported if id(value) in shared else own).append(value)
    parts = [module for name, module in sys.modules.items() if name.startswith("osmia.tools._")]
    common = {id(value) for module in parts for value in vars(module).values()}
    return sorted(own, key=lambda option: id(option) in common), imported


def shared_filter(unit: Unit, name: str) -> Option | None:
    """The filter ``name`` (``"pid"``) of :mod:`osmia.lang.filters`, if ``unit`` uses it."""
    option = getattr(sys.modules.get("osmia.lang.filters"), name, None)
    used = any(value is option for value in unit.namespace.values())
    return option if used and isinstance(option, Option) else None


def parser_of(unit: Unit, common: Common) -> Parser:
    """The command line of ``unit``."""
    own, filters = own_options(unit)
    for name, parse in _FILTERS.items():
        option = shared_filter(unit, name)
        if option is not None and option.parse is None:
            option.parse = parse
    parser = Parser(unit.name, [*own, *filters, *common.options(unit)])
    # A tool may declare a common option anew, to give it another letter or text (bcc's -j for --json), or an argument.
    declared = {**parser.flags, **{one.flags[0]: one for one in parser.arguments}}
    for name, option in list(vars(common).items()):
        if isinstance(option, Option):
            owner = declared.get(option.flags[-1])
            if owner is not None and owner is not option:
                parser.also(owner, option)
                setattr(common, name, owner)
                common.taken.add(name)
    return parser
