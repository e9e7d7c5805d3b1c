# SPDX-License-Identifier: Apache-2.0
"""The options of a replay: those of the tool that only change what is shown, the common forms, and a range of time.

Values that the recording was made with are the defaults.  What the kernel
half was made with cannot be changed afterwards, and an attempt is refused.
"""

from __future__ import annotations

from osmia.cli.common import Common
from osmia.errors import OptionError
from osmia.lang.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.cli.args import Parser
    from osmia.lang.unit import Unit

#: After everything, in ns.
NEVER = 1 << 63


def moment(word: str) -> tuple[bool, float]:
    """``2.5``: seconds from the start; ``14:13:20``: time of day; ``(of day, seconds)``.  ValueError."""
    parts = word.split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    day = len(parts) in (2, 3)
    limits = (24, 60, 60.999)
    good = all(0 <= number < (limit if day else 1e9) for number, limit in zip(numbers, limits, strict=False))
    if not good or len(numbers) != len(parts) or not (day or len(parts) == 1):
        raise ValueError(f"{word!r} is no time: seconds from the start (2.5), or a time of day (14:13:20)")
    if not day:
        return False, numbers[0]
    return True, sum(number * unit for number, unit in zip(numbers, (3600, 60, 1), strict=False))


class ReplayCommon(Common):
    """The common options of a replay."""

    def __init__(self) -> None:
        super().__init__()
        #: Whether the replay itself was asked for an interval.
        self.own_interval = False
        self.begin = Option("--from", type=float, parse=moment, metavar="TIME",
                            help="from this time on: seconds from the start, or a time of day")  # fmt: skip
        self.end = Option("--to", type=float, parse=moment, metavar="TIME", help="up to this time")
        self.pprof = Option("--pprof", type=str, metavar="FILE", help="write stacks as a profile for pprof")
        self.speedscope = Option("--speedscope", type=str, metavar="FILE", help="write stacks for speedscope")
        self.parquet = Option("--parquet", type=str, metavar="FILE", help="write a Parquet file (needs pyarrow)")

    def shown(self) -> list[Option]:
        """All of them, in the order of the help."""
        return [
            self.begin, self.end, self.output, self.timestamp, self.json, self.csv, self.heatmap, self.svg, self.html,
            self.pprof, self.speedscope, self.parquet, self.every, self.interval, self.count,
        ]  # fmt: skip

    def options(self, unit: Unit) -> list[Option]:
        return self.shown()

    def forms(self) -> list[Option]:
        """Of which a replay shows those that it is asked for, whatever the run was asked for."""
        return [self.json, self.csv, self.heatmap, self.svg, self.html, self.pprof, self.speedscope, self.parquet]


def restore(parser: Parser, common: ReplayCommon, words: list[str], header: dict[str, Any]) -> None:
    """Parse ``words``; what they leave open is as it was recorded.  Raises OptionError and HelpAsked."""
    fixed = [parser.flags[flag] for flag in header.get("kernel_options", []) if flag in parser.flags]
    before = [option.parse for option in fixed]
    for option in fixed:
        option.parse = _refused(option)
    try:
        parser.parse(words)
    finally:
        for option, parse in zip(fixed, before, strict=True):
            option.parse = parse
    for option in fixed:
        if option.given:  # a switch: it has nothing to parse
            _refused(option)("")
    forms = any(option.given for option in common.forms())
    times = common.every.given or common.interval.given
    common.own_interval = times
    known = {**{option.flags[-1]: option for option in parser.arguments}, **parser.flags}
    recorded = header.get("options", {})
    for flag, value in recorded.items() if isinstance(recorded, dict) else ():
        found = known.get(flag)
        if found is None or found.given:
            continue
        said = [*(common.forms() if forms else ()), *((common.every, common.interval, common.count) if times else ())]
        if not any(found is one for one in said) and _fits(found, value):
            found.set(value)
    common.check("replay")


def _refused(option: Option) -> Any:
    def parse(word: str) -> Any:
        raise OptionError(f"{option.flags[-1]} takes effect in the kernel, so it stays as it was recorded",
                          where="replay", fix="record anew")  # fmt: skip

    return parse


def _fits(option: Option, value: Any) -> bool:
    """Whether a value from a file can be the option's."""
    kind = option.type
    if kind is bool:
        return isinstance(value, bool)
    if kind is list:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e9
    if option.flags[-1] == "count":
        return isinstance(value, int) and value > 0
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def window(common: ReplayCommon, started: int, offset: int, gmtoff: int) -> tuple[int, int]:
    """``--from`` and ``--to`` as monotonic ns; 0 and :data:`NEVER` where they are not given.  Raises OptionError."""

    def at(option: Option, otherwise: int) -> int:
        if not option.given:
            return otherwise
        of_day, seconds = option.value
        if not of_day:
            return started + int(seconds * 1e9)
        begun = (started + offset) // 1_000_000_000 + gmtoff
        wanted = begun // 86400 * 86400 + seconds
        if wanted + 43200 < begun:  # after midnight
            wanted += 86400
        return int((wanted - gmtoff) * 1e9) - offset

    low, high = at(common.begin, 0), at(common.end, NEVER)
    if high <= low:
        raise OptionError("--to is not after --from", where="replay")
    return max(0, low), high
